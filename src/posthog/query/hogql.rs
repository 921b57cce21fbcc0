//! The text of every HogQL query over `events`: pure functions from values to text.
//!
//! Rules that hold for each of them, because of what PostHog and ClickHouse do:
//! two-sided bounds on `timestamp` (the unit of pruning is a UTC day), an explicit LIMIT (without one the server takes
//! 100), never OFFSET (refused for personal API keys), explicit columns, the sort key of the table as order, and every
//! value printed by one escape function. Times are three-argument `toDateTime64` literals, which no time zone touches.

use std::fmt::Write as _;

use crate::time::{Day, FAR_FUTURE, Micros};

use super::version;

/// The largest LIMIT that PostHog honours; above it the answer is silently cut.
pub const MAX_LIMIT: u32 = 50_000;

const DAY: &str = "toDate(timestamp)";
const HASH: &str = "cityHash64(distinct_id)";
const BUCKET_BITS_OF_HASH: u32 = 64;

/// Which rows a run asks for: bounds on `timestamp` and `created_at`, both half-open, and a list of event names (empty:
/// all).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First `timestamp`.
    pub since: Micros,
    /// First `timestamp` that is not asked for.
    pub until: Micros,
    /// First `created_at`; `None` reads rows however old their arrival is.
    pub created_from: Option<Micros>,
    /// First `created_at` that is not asked for: the horizon. `None` where runs go by `timestamp`: then no query names
    /// `created_at`, and versions that differ in nothing else are one.
    pub created_until: Option<Micros>,
    /// Event names, empty for all.
    pub event_types: Vec<String>,
}

impl Range {
    /// True where rows are chosen, ordered and told apart by their arrival too.
    pub fn by_arrival(&self) -> bool {
        self.created_until.is_some()
    }
}

/// A place between rows in the sort key of the table: before the first row of (day, event, hash of `distinct_id`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// UTC day of `timestamp`.
    pub day: Day,
    /// Event name; compared bytewise, as ClickHouse does.
    pub event: String,
    /// `cityHash64(distinct_id)`.
    pub hash: u64,
}

impl Key {
    /// Before the first row of a day.
    pub fn day_start(day: Day) -> Key {
        Key { day, event: String::new(), hash: 0 }
    }

    fn is_day_start(&self) -> bool {
        self.event.is_empty() && self.hash == 0
    }
}

/// The place of one row in the order of a page query, as the server returned its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// Day, event and hash.
    pub key: Key,
    /// `timestamp` of the row.
    pub timestamp: Micros,
    /// `uuid` of the row, as text. ClickHouse orders uuids by their second half first, so it is never compared here.
    pub uuid: String,
    /// `created_at` of the row. Not compared where runs go by `timestamp`.
    pub created_at: Micros,
}

/// A position in the sort key: where reading goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// At the start of a slice.
    At(Key),
    /// Behind a row, inside an over-full slice.
    After(RowKey),
}

impl Cursor {
    /// The (day, event, hash) that the position lies in.
    pub fn key(&self) -> &Key {
        match self {
            Cursor::At(key) => key,
            Cursor::After(row) => &row.key,
        }
    }
}

/// A half-open interval of the sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Where it starts.
    pub from: Cursor,
    /// The first key that no longer belongs to it; `None` runs to the end of everything.
    pub to: Option<Key>,
}

/// One column of a page query: what is asked and what it is called in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The HogQL expression.
    pub expression: String,
    /// Its name in the answer's `columns`.
    pub name: String,
}

/// The server's clock, in whole Unix seconds.
pub fn server_time() -> &'static str {
    "SELECT toUnixTimestamp(now()) AS now LIMIT 1"
}

/// The first level of the plan: rows per UTC day.
pub fn rows_per_day(range: &Range) -> String {
    format!(
        "SELECT {DAY} AS day, count() AS rows FROM events WHERE {} GROUP BY day ORDER BY day LIMIT {MAX_LIMIT}",
        conditions(range, None)
    )
}

/// The names of the events in a range, and their rows.
pub fn rows_per_name(range: &Range) -> String {
    format!(
        "SELECT event, count() AS rows FROM events WHERE {} GROUP BY event ORDER BY event LIMIT {MAX_LIMIT}",
        conditions(range, None)
    )
}

/// The second level of the plan: rows per (event, bucket) of the days in `interval`, in key order. A bucket is the top
/// `bits` bits of the hash. A full answer is continued from the last (day, event, bucket).
pub fn rows_per_bucket(range: &Range, interval: &Interval, bits: u32) -> String {
    let bucket = match bits {
        0 => "0".to_owned(),
        bits => format!("bitShiftRight({HASH}, {})", BUCKET_BITS_OF_HASH - bits),
    };
    format!(
        "SELECT {DAY} AS day, event, {bucket} AS bucket, count() AS rows FROM events WHERE {} \
         GROUP BY day, event, bucket ORDER BY day, event, bucket LIMIT {MAX_LIMIT}",
        conditions(range, Some(interval))
    )
}

/// One page of rows in key order.
pub fn page(range: &Range, interval: &Interval, columns: &[Column], limit: u32) -> String {
    format!(
        "SELECT {} FROM events WHERE {} ORDER BY {DAY}, event, {HASH}, {} LIMIT {limit}",
        column_list(columns),
        conditions(range, Some(interval)),
        version::order(range.by_arrival())
    )
}

/// The fresh count of a count proof: rows, and distinct stored versions of events.
pub fn recount(range: &Range, interval: &Interval) -> String {
    format!(
        "SELECT count() AS rows, {} AS versions FROM events WHERE {} LIMIT 1",
        version::count(range.by_arrival()),
        conditions(range, Some(interval))
    )
}

/// Per hour of arrival for the ledger: rows, or, `exactly`, stored versions, which costs the server more. A row counts when
/// it is at most `late_days` older than the hour of its arrival (0: any).
pub fn arrivals_per_hour(range: &Range, late_days: u32, exactly: bool) -> String {
    let late = match late_days {
        0 => String::new(),
        days => format!(" AND timestamp >= toStartOfHour(created_at) - toIntervalDay({days})"),
    };
    let count = if exactly { version::count(range.by_arrival()) } else { "count()".to_owned() };
    format!(
        "SELECT toUnixTimestamp(toStartOfHour(created_at)) AS hour, {count} AS rows FROM events WHERE {}{late} \
         GROUP BY hour ORDER BY hour LIMIT {MAX_LIMIT}",
        conditions(range, None)
    )
}

/// How many rows of the range have a usable arrival time (`created_at` in or after 2000), of how many.
pub fn usable_arrivals(range: &Range) -> String {
    let year_2000 = datetime(946_684_800_000_000);
    format!(
        "SELECT count() AS rows, countIf(created_at >= {year_2000}) AS usable FROM events WHERE {} LIMIT 1",
        conditions(range, None)
    )
}

/// Asks for names and types of columns without reading rows.
pub fn probe(columns: &[Column], day: Day) -> String {
    format!(
        "SELECT {} FROM events WHERE timestamp >= {} AND timestamp < {} LIMIT 0",
        column_list(columns),
        datetime(day.start()),
        datetime(day.end())
    )
}

/// Columns as they stand between SELECT and FROM.
pub fn column_list(columns: &[Column]) -> String {
    let mut out = String::new();
    for column in columns {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&column.expression);
        if column.expression != column.name && column.expression != identifier(&column.name) {
            let _ = write!(out, " AS {}", identifier(&column.name));
        }
    }
    out
}

/// The conditions of a query: the range, and the interval of the sort key when one is given.
fn conditions(range: &Range, interval: Option<&Interval>) -> String {
    let first = interval.map_or(Day::FIRST, |i| i.from.key().day);
    let last = interval.and_then(|i| i.to.as_ref()).map_or(FinalDay::Open, final_day);
    let since = range.since.max(first.start());
    let until = match last {
        FinalDay::Open => range.until.min(FAR_FUTURE),
        FinalDay::Whole(end) => range.until.min(end),
        FinalDay::Part(day) => range.until.min(day.end()),
    };
    let mut out = format!("timestamp >= {} AND timestamp < {}", datetime(since), datetime(until));
    if let Some(from) = range.created_from {
        let _ = write!(out, " AND created_at >= {}", datetime(from));
    }
    if let Some(until) = range.created_until {
        let _ = write!(out, " AND created_at < {}", datetime(until));
    }
    if !range.event_types.is_empty() {
        let names: Vec<String> = range.event_types.iter().map(|name| string(name)).collect();
        let _ = write!(out, " AND event IN ({})", names.join(", "));
    }
    if let Some(interval) = interval {
        write_interval(&mut out, interval, &last, range.by_arrival());
    }
    out
}

/// How the last day of an interval is bounded.
enum FinalDay {
    /// No upper key.
    Open,
    /// The interval ends with a whole day; the bound on `timestamp` says it all.
    Whole(Micros),
    /// The interval ends inside this day.
    Part(Day),
}

fn final_day(to: &Key) -> FinalDay {
    if to.is_day_start() { FinalDay::Whole(to.day.start()) } else { FinalDay::Part(to.day) }
}

fn write_interval(out: &mut String, interval: &Interval, last: &FinalDay, by_arrival: bool) {
    let from = interval.from.key();
    let upper = match (last, &interval.to) {
        (FinalDay::Part(_), Some(to)) => Some(to),
        _ => None,
    };
    let one_day = match last {
        FinalDay::Open => false,
        FinalDay::Whole(end) => from.day.end() >= *end,
        FinalDay::Part(day) => *day == from.day,
    };
    let one_name = upper.is_some_and(|to| one_day && to.event == from.event);
    let lower = lower_bound(&interval.from, one_name, by_arrival);
    if let Some(lower) = lower {
        let _ = match one_day {
            true => write!(out, " AND {lower}"),
            false => write!(out, " AND ({DAY} > {} OR ({lower}))", date(from.day)),
        };
    }
    if let Some(to) = upper {
        let bound = upper_bound(to, one_name);
        let _ = match one_day {
            true => write!(out, " AND {bound}"),
            false => write!(out, " AND ({DAY} < {} OR ({bound}))", date(to.day)),
        };
    }
}

/// The lower bound inside its day, or `None` where it is the start of the day. OR form: a tuple comparison does not prune.
fn lower_bound(from: &Cursor, one_name: bool, by_arrival: bool) -> Option<String> {
    let key = from.key();
    let name = string(&key.event);
    let inside = match from {
        Cursor::At(key) if key.is_day_start() && !one_name => return None,
        Cursor::At(key) if key.hash == 0 => String::new(),
        Cursor::At(key) => format!("{HASH} >= {}", key.hash),
        Cursor::After(row) => after_row(row, by_arrival),
    };
    Some(match (one_name, inside.is_empty()) {
        (true, true) => format!("event = {name}"),
        (true, false) => format!("event = {name} AND {inside}"),
        (false, true) => format!("event >= {name}"),
        (false, false) => format!("event >= {name} AND (event > {name} OR ({inside}))"),
    })
}

fn after_row(row: &RowKey, by_arrival: bool) -> String {
    let (hash, time, uuid) = (row.key.hash, datetime(row.timestamp), string(&row.uuid));
    let later = if by_arrival {
        format!(" OR (uuid = toUUID({uuid}) AND created_at > {})", datetime(row.created_at))
    } else {
        String::new()
    };
    format!(
        "{HASH} >= {hash} AND ({HASH} > {hash} OR (timestamp >= {time} AND (timestamp > {time} OR \
         (uuid > toUUID({uuid}){later}))))"
    )
}

fn upper_bound(to: &Key, one_name: bool) -> String {
    let name = string(&to.event);
    match (one_name, to.hash) {
        (true, hash) => format!("{HASH} < {hash}"),
        (false, 0) => format!("event < {name}"),
        (false, hash) => format!("event <= {name} AND (event < {name} OR {HASH} < {hash})"),
    }
}

/// A time literal that means the same in every project.
pub fn datetime(time: Micros) -> String {
    let time = chrono::DateTime::from_timestamp_micros(time).unwrap_or_default();
    format!("toDateTime64('{}', 6, 'UTC')", time.format("%Y-%m-%d %H:%M:%S%.6f"))
}

fn date(day: Day) -> String {
    format!("toDate('{day}')")
}

/// A string literal. PostHog's own rule: backslash before backslash and quote, named escapes for control characters; but
/// its grammar drops `\0`, so NUL stands as it is.
pub fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    push_escaped(&mut out, value, '\'');
    out.push('\'');
    out
}

/// A name in backticks.
pub fn identifier(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    let mut out = String::from("`");
    push_escaped(&mut out, name, '`');
    out.push('`');
    out
}

fn push_escaped(out: &mut String, value: &str, quote: char) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{b}' => out.push_str("\\v"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
