//! The members of a bookmark: which one is not as this program writes it. A number that is out of range would end in a
//! fault of arithmetic much later, or in a reading without end.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::time::{FAR_FUTURE, FAR_PAST, Micros, parse_rfc3339};

/// More than this is no count, and no number of a cell: JSON numbers are exact up to here.
const MOST: u64 = 1 << 53;
/// More days than the setting `late_arrival_days` takes.
const MOST_LATE_DAYS: u64 = 36_500;
/// A cell that is longer than all time.
const MOST_SECONDS: u64 = 1 << 33;
/// The years 0 to 9999 with some days around them: what a setting may name.
const MOMENTS: RangeInclusive<Micros> = -62_200_000_000_000_000..=253_420_000_000_000_000;
/// The times that a horizon may have.
const HORIZONS: RangeInclusive<Micros> = FAR_PAST..=FAR_FUTURE;

/// The path of the first member with a value that this program does not write. Members that are missing are not noticed.
pub(super) fn first_wrong(bookmark: &Map<String, Value>) -> Option<String> {
    in_object("", bookmark)
}

fn in_object(parent: &str, object: &Map<String, Value>) -> Option<String> {
    object.iter().find_map(|(name, value)| {
        let path = format!("{parent}{name}");
        match (name.as_str(), value) {
            ("run" | "overlap" | "ledger" | "filters", Value::Object(inner)) => in_object(&format!("{path}."), inner),
            ("run" | "overlap", Value::Null) => None,
            ("passes", Value::Array(passes)) => passes.iter().zip(0..).find_map(|(pass, at)| {
                let path = format!("{path}[{at}]");
                pass.as_object().map_or_else(|| Some(path.clone()), |inner| in_object(&format!("{path}."), inner))
            }),
            (_, value) if parent == "filters." => (!(value.is_null() || value.is_string())).then_some(path),
            (name, value) => (!fits(name, value)).then_some(path),
        }
    })
}

fn fits(name: &str, value: &Value) -> bool {
    match name {
        "run" | "overlap" | "ledger" | "filters" | "passes" => false,
        "source" | "columns" | "seen" | "seen_arrivals" => value.is_string(),
        "replication_key" => value.as_str().is_some_and(|key| ["created_at", "timestamp"].contains(&key)),
        "replication_key_value" => value.is_null() || time(value).is_some(),
        "horizon" => value.as_i64().is_some_and(|horizon| HORIZONS.contains(&horizon)),
        "from" | "cut" => is_moment(value),
        "since" | "until" | "arrived_from" | "arrived_until" | "seen_from" => value.is_null() || is_moment(value),
        "runs" => is_at_most(value, MOST),
        "late_days" => is_at_most(value, MOST_LATE_DAYS),
        "seconds" => is_at_most(value, MOST_SECONDS) && value.as_u64() != Some(0),
        "seen_uuids" => value.as_array().is_some_and(|uuids| uuids.iter().all(Value::is_string)),
        "hours" => in_order(value, |hour| matches!(hour, [_, count] if is_at_most(count, MOST))),
        "cells" => in_order(value, |cell| matches!(cell, [_, watched, Value::String(_)] if is_at_most(watched, MOST))),
        "cursor" => value.is_null() || value.get("row").is_none_or(is_row),
        "behind" => value.is_null() || value.get("row").is_some_and(|row| !row.is_null() && is_row(row)),
        _ => true,
    }
}

/// The time of a text, if a horizon may have it.
pub(super) fn time(value: &Value) -> Option<Micros> {
    value.as_str().and_then(parse_rfc3339).filter(|time| HORIZONS.contains(time))
}

fn is_moment(value: &Value) -> bool {
    value.as_i64().is_some_and(|time| MOMENTS.contains(&time))
}

fn is_at_most(value: &Value, most: u64) -> bool {
    value.as_u64().is_some_and(|number| number <= most)
}

fn is_row(row: &Value) -> bool {
    row.is_null()
        || matches!(row.as_array().map(Vec::as_slice), Some([at, _, arrived]) if is_moment(at) && is_moment(arrived))
}

/// A list of lists that begin with a number, each greater than the one before.
fn in_order(value: &Value, is_item: impl Fn(&[Value]) -> bool) -> bool {
    let Some(items) = value.as_array() else { return false };
    let mut last = i64::MIN;
    items.iter().all(|item| {
        let Some(item) = item.as_array().filter(|item| is_item(item)) else { return false };
        let number = item.first().and_then(Value::as_i64).filter(|number| number.unsigned_abs() <= MOST);
        let is_next = number.is_some_and(|number| number > last);
        last = number.unwrap_or(last);
        is_next
    })
}
