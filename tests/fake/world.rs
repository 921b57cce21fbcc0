//! What the fake knows: rows, clock, keys, faults to come, and a log of what was asked.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::api::Key;
use super::events::Event;
use super::faults::{Fault, Faults};
use super::limits::Limits;
use super::rest::Objects;
use super::sql::table::{Stored, Table, VIEWS, tables};
use super::sql::value::{Value, uuid_text};
use super::sql::zone::{DAY_MICROS, Zone};
use super::{Refusal, micros};

/// The sort key of events without `team_id`, on most servers.
pub(crate) const CLASSIC_STORAGE: &[&str] =
    &["toDate(timestamp)", "event", "cityHash64(distinct_id)", "cityHash64(uuid)"];
/// The same, on servers that store properties as native JSON.
pub(crate) const NEW_STORAGE: &[&str] = &["toDate(timestamp)", "event", "cityHash64(distinct_id)", "timestamp", "uuid"];

/// How a project and its server are made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) zone: Zone,
    /// What the clock shows at the start (microseconds). It stands still until it is moved.
    pub(crate) now: i64,
    /// Tables and columns that this deployment does not have, as `table` and `table.column`.
    pub(crate) absent: Vec<&'static str>,
    /// An old server: a query with one of these keys (`modifiers`, `name`, `client_query_id`) is refused.
    pub(crate) refuses: &'static [&'static str],
    /// A query that reads more bytes than this runs out of time.
    pub(crate) most_bytes_read: u64,
    /// An answer has no more rows than this, whatever is asked for.
    pub(crate) most_rows: usize,
    /// The order in which events are stored, as far as a query can name it.
    pub(crate) sort_key: &'static [&'static str],
    /// Bytes left in the read budget; `None` where there is none, as on self-hosted servers.
    pub(crate) budget_bytes: Option<i64>,
    /// Bytes of the read budget that come back in a second.
    pub(crate) budget_refill: i64,
    /// Queries per minute and per hour before a 429; `None` for no limit.
    pub(crate) query_rates: Option<(usize, usize)>,
    pub(crate) gzip: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            zone: Zone::Utc,
            now: micros("2026-08-15T12:00:00Z"),
            absent: vec!["raw_persons.last_seen_at"],
            refuses: &[],
            most_bytes_read: u64::MAX,
            most_rows: 50_000,
            sort_key: CLASSIC_STORAGE,
            budget_bytes: Some(4_800_000_000_000),
            budget_refill: 20_000_000_000 / 3600,
            query_rates: None,
            gzip: true,
        }
    }
}

/// One request as it was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query string.
    pub(crate) path: String,
    /// The query's text, when it was a query.
    pub(crate) sql: Option<String>,
    pub(crate) status: u16,
    /// The `detail` of a refusal.
    pub(crate) detail: Option<String>,
    pub(crate) fault: Option<&'static str>,
    pub(crate) table: Option<&'static str>,
    pub(crate) rows: usize,
    pub(crate) bytes_read: u64,
    /// Bytes of the body before compression.
    pub(crate) body_bytes: usize,
    pub(crate) cached: bool,
    /// What the query does that a careful reader never does.
    pub(crate) faux_pas: Vec<String>,
}

type Hook = Box<dyn FnOnce(&mut World) + Send>;

/// Work to do before the n-th of some requests, and how many of them came.
#[derive(Default)]
struct Hooks {
    waiting: Vec<(usize, Hook)>,
    count: usize,
}

impl Hooks {
    fn add(&mut self, nth: usize, work: impl FnOnce(&mut World) + Send + 'static) {
        self.waiting.push((self.count + nth, Box::new(work)));
    }

    /// The work that is due now that another request came.
    fn next(&mut self) -> Vec<(usize, Hook)> {
        self.count += 1;
        let (due, later) = std::mem::take(&mut self.waiting).into_iter().partition(|(at, _)| *at <= self.count);
        self.waiting = later;
        due
    }
}

pub(crate) struct World {
    pub(crate) options: Options,
    /// Microseconds.
    pub(crate) now: i64,
    pub(crate) keys: Vec<Key>,
    pub(crate) objects: Objects,
    pub(crate) faults: Faults,
    pub(crate) limits: Limits,
    pub(crate) log: Vec<Request>,
    pub(crate) cache: HashMap<String, super::query::Stored>,
    /// Queries that failed for good lately, and how often.
    pub(crate) failures: HashMap<String, (Refusal, usize)>,
    tables: Vec<Table>,
    query_hooks: Hooks,
    page_hooks: Hooks,
}

impl World {
    pub(crate) fn new(options: Options) -> World {
        let mut tables = tables();
        for absent in &options.absent {
            let (table, column) = absent.split_once('.').unwrap_or((absent, ""));
            let at = tables.iter().position(|known| known.name == table).unwrap();
            if column.is_empty() {
                tables.remove(at);
            } else {
                tables[at].columns.retain(|(name, _)| name != column);
            }
        }
        World {
            now: options.now,
            keys: Key::usual(),
            objects: Objects::new(),
            faults: Faults::default(),
            limits: Limits::new(options.query_rates, options.budget_bytes, options.budget_refill),
            log: Vec::new(),
            cache: HashMap::new(),
            failures: HashMap::new(),
            tables,
            query_hooks: Hooks::default(),
            page_hooks: Hooks::default(),
            options,
        }
    }

    /// Moves the clock.
    pub(crate) fn advance(&mut self, by_micros: i64) {
        self.now += by_micros;
    }

    /// Stores events, visible at once.
    pub(crate) fn insert(&mut self, events: impl IntoIterator<Item = Event>) {
        self.insert_visible_from(events, i64::MIN);
    }

    /// Stores events that queries see only once the clock shows `visible_from`, whatever their `created_at` is.
    pub(crate) fn insert_visible_from(&mut self, events: impl IntoIterator<Item = Event>, visible_from: i64) {
        let table = self.table_mut("events");
        let columns: Vec<String> = table.columns.iter().map(|(name, _)| name.clone()).collect();
        for event in events {
            let cells = columns.iter().map(|name| event.cell(name)).collect();
            table.rows.push(Stored { cells, visible_from });
        }
    }

    /// Stores one row, a JSON object, in a table other than `events`.
    pub(crate) fn insert_row(&mut self, table: &str, row: &serde_json::Value) {
        self.table_mut(table).insert(row, i64::MIN);
    }

    /// Takes away the last `count` rows of a table.
    pub(crate) fn drop_rows(&mut self, table: &str, count: usize) {
        let rows = &mut self.table_mut(table).rows;
        rows.truncate(rows.len() - count);
    }

    /// Takes away the events of which `condemned` is true; returns how many.
    pub(crate) fn delete(&mut self, condemned: impl Fn(&Held) -> bool) -> usize {
        let table = self.table_mut("events");
        let columns = Held::columns(table);
        let before = table.rows.len();
        table.rows.retain(|row| !condemned(&Held::of(&row.cells, columns)));
        before - table.rows.len()
    }

    /// What ClickHouse's merges do some day: of the rows with one identity, the last stored stays.
    pub(crate) fn merge(&mut self) {
        let table = self.table_mut("events");
        let columns = Held::columns(table);
        let mut last = HashMap::new();
        for (position, row) in table.rows.iter().enumerate() {
            last.insert(Held::of(&row.cells, columns).identity, position);
        }
        let kept: BTreeSet<usize> = last.into_values().collect();
        let mut position = 0;
        table.rows.retain(|_| {
            position += 1;
            kept.contains(&(position - 1))
        });
    }

    /// Every stored event, visible or not.
    pub(crate) fn held(&self) -> Vec<Held> {
        let table = self.tables.iter().find(|table| table.name == "events").unwrap();
        let columns = Held::columns(table);
        table.rows.iter().map(|row| Held::of(&row.cells, columns)).collect()
    }

    /// Does `work` just before the `nth` query of a table from now on (1 is the next one).
    pub(crate) fn before_query(&mut self, nth: usize, work: impl FnOnce(&mut World) + Send + 'static) {
        self.query_hooks.add(nth, work);
    }

    /// The same before the `nth` page of a list of objects.
    pub(crate) fn before_page(&mut self, nth: usize, work: impl FnOnce(&mut World) + Send + 'static) {
        self.page_hooks.add(nth, work);
    }

    pub(crate) fn count_query(&mut self) {
        self.query_hooks.next().into_iter().for_each(|(_, work)| work(self));
    }

    pub(crate) fn count_page(&mut self) {
        self.page_hooks.next().into_iter().for_each(|(_, work)| work(self));
    }

    /// Makes an answer go wrong.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// What was asked that a careful reader never asks: `["query: what is wrong", ...]`.
    pub(crate) fn faux_pas(&self) -> Vec<String> {
        let said = |request: &Request| {
            let sql = request.sql.clone().unwrap_or_default();
            let cached = if request.cached { vec!["answered from the cache".to_owned()] } else { Vec::new() };
            request.faux_pas.iter().cloned().chain(cached).map(|what| format!("{sql}: {what}")).collect::<Vec<_>>()
        };
        self.log.iter().flat_map(said).collect()
    }

    /// The table or view of this name.
    pub(crate) fn read_table(&self, name: &str) -> Option<Cow<'_, Table>> {
        let stored = |name: &str| self.tables.iter().find(|table| table.name == name);
        match VIEWS.iter().find(|view| view.name == name) {
            Some(view) => Some(Cow::Owned(stored(view.of)?.latest(view, self.now))),
            None => stored(name).map(Cow::Borrowed),
        }
    }

    fn table_mut(&mut self, name: &str) -> &mut Table {
        self.tables.iter_mut().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name}"))
    }
}

/// What ClickHouse collapses events on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    /// UTC day of `timestamp`, since 1970.
    pub(crate) day: i64,
    pub(crate) event: String,
    pub(crate) distinct_id: String,
    pub(crate) uuid: String,
}

/// A stored event, as far as tests ask about it. Times are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) identity: Identity,
    pub(crate) timestamp: i64,
    pub(crate) created_at: i64,
}

impl Held {
    fn columns(table: &Table) -> [usize; 5] {
        ["event", "distinct_id", "uuid", "timestamp", "created_at"].map(|name| table.column(name).unwrap_or(usize::MAX))
    }

    fn of(cells: &[Value], columns: [usize; 5]) -> Held {
        let text = |at: usize| match &cells[columns[at]] {
            Value::Text(text) => text.to_string(),
            Value::Uuid(id) => uuid_text(*id),
            _ => String::new(),
        };
        let time = |at: usize| if let Some(Value::Time(time)) = cells.get(columns[at]) { *time } else { 0 };
        let identity =
            Identity { day: time(3).div_euclid(DAY_MICROS), event: text(0), distinct_id: text(1), uuid: text(2) };
        Held { identity, timestamp: time(3), created_at: time(4) }
    }
}
