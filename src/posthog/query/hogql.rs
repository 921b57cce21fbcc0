//! The text of every HogQL query over `events`: pure functions from values to text.
//!
//! Rules that hold for each of them, because of what PostHog and ClickHouse do:
//! two-sided bounds on `timestamp` (the unit of pruning is a UTC day), an explicit LIMIT (without one the server takes
//! 100), never OFFSET (refused for personal API keys), explicit columns, the sort key of the table as order, and every
//! value printed by one escape function. Times are three-argument `toDateTime64` literals, which no time zone touches.

use std::fmt::Write as _;

use crate::time::{Day, FAR_FUTURE, Micros};

use super::interval::{Buckets, DAY, ID_HASH, Interval, Storage};
use super::keyset;
use super::keyset::{KeyKind, KeyPart, Place, Walk};
use super::page::Row;
use super::text::{Column, column_list, datetime, string};
use super::version;

/// The largest LIMIT that PostHog honours; above it the answer is silently cut.
pub const MAX_LIMIT: u32 = 50_000;
/// The name of the column of a page with `cityHash64(distinct_id)`.
pub const HASH_NAME: &str = "key_hash";

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
    /// Where an earlier version of this program went on inside one (day, event, hash): behind a row in the order of pages,
    /// as literals.
    pub behind: Option<Vec<String>>,
}

impl Range {
    /// True where rows are chosen, ordered and told apart by their arrival too.
    pub fn by_arrival(&self) -> bool {
        self.created_until.is_some()
    }
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

/// A closer count of the rows of `interval`, in key order: by (day, event) and buckets of a number of the key, each with the
/// least and the greatest number in it.
pub fn rows_per_bucket(range: &Range, interval: &Interval, buckets: &Buckets) -> String {
    let number = buckets.number(interval.from.day);
    let bucket =
        if buckets.is_by_name() { String::new() } else { format!(", bitShiftRight({number}, {})", buckets.shift) };
    format!(
        "SELECT {DAY} AS day, event, min({number}) AS least, max({number}) AS most, count() AS rows FROM events WHERE {} \
         GROUP BY day, event{bucket} ORDER BY day, event, least LIMIT {MAX_LIMIT}",
        conditions(range, Some(interval))
    )
}

/// The first row of an interval by the order of a storage: cheap where events are stored so.
pub fn first_row(range: &Range, interval: &Interval, storage: Storage) -> String {
    format!(
        "SELECT uuid FROM events WHERE {} ORDER BY {DAY}, event, {ID_HASH}, {} LIMIT 1",
        conditions(range, Some(interval)),
        storage.order()
    )
}

/// The order of the rows of a page, which tells all stored versions apart. Without the arrival versions of one event tie;
/// they count as one, so the edge of a page may lie between them.
fn page_order(by_arrival: bool) -> Vec<KeyPart> {
    let part = |field, expression: &str, kind| KeyPart { field, expression: expression.to_owned(), kind };
    let mut order = vec![
        part("timestamp", DAY, KeyKind::Day),
        part("event", "event", KeyKind::Text),
        part(HASH_NAME, ID_HASH, KeyKind::Whole),
        part("timestamp", "timestamp", KeyKind::Time),
        part("uuid", "uuid", KeyKind::Uuid),
    ];
    if by_arrival {
        order.push(part("created_at", "created_at", KeyKind::Time));
    }
    order
}

/// One page of the rows of an interval, from a place on. With it goes where the next page starts: behind a row.
pub fn page(range: &Range, interval: &Interval, columns: &[Column], place: &Place, limit: u32) -> String {
    let (key, condition) = (page_order(range.by_arrival()), conditions(range, Some(interval)));
    Walk { table: "events", columns, key: &key, condition: &condition }.page(place, limit)
}

/// The place behind a row of a page; none where a part of its key is missing.
pub fn behind(range: &Range, columns: &[Column], row: &Row<'_>) -> Option<Place> {
    let key = page_order(range.by_arrival());
    Walk { table: "events", columns, key: &key, condition: "" }.key_of(row).map(Place::Behind)
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

/// The conditions of a query: the range, and the interval of the sort key when one is given.
fn conditions(range: &Range, interval: Option<&Interval>) -> String {
    let (first, end) = interval.map_or((Day::FIRST.start(), FAR_FUTURE), Interval::times);
    let (since, until) = (range.since.max(first), range.until.min(end));
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
        out += &interval.conditions();
    }
    if let Some(behind) = &range.behind {
        let _ = write!(out, " AND {}", keyset::bound(&page_order(range.by_arrival()), behind, ">"));
    }
    out
}

#[cfg(test)]
mod tests;
