//! The tables of the fake: their columns, and rows that become visible at a moment of the fake's own clock.

use super::value::{Type, Value, uuid_from_text};
use super::zone::{Zone, parse_day, parse_micros};

/// One stored row.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) cells: Vec<Value>,
    /// Queries see the row once the clock shows this (microseconds).
    pub(crate) visible_from: i64,
}

/// A table: the names and types of its columns, and its rows in the order in which they were stored.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<(String, Type)>,
    pub(crate) rows: Vec<Stored>,
}

/// A table that is computed from another one: the newest version of each key, the deleted left out.
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) of: &'static str,
    pub(crate) keys: &'static [&'static str],
    pub(crate) version: &'static str,
    pub(crate) deleted: Option<&'static str>,
}

pub(crate) const VIEWS: &[View] = &[
    View { name: "persons", of: "raw_persons", keys: &["id"], version: "version", deleted: Some("is_deleted") },
    View {
        name: "person_distinct_ids",
        of: "raw_person_distinct_ids",
        keys: &["distinct_id"],
        version: "version",
        deleted: Some("is_deleted"),
    },
    View { name: "groups", of: "raw_groups", keys: &["index", "key"], version: "updated_at", deleted: None },
];

const TIME: Type = Type::DateTime64(6, Zone::Utc);
const MILLIS: Type = Type::DateTime64(3, Zone::Utc);

/// Every table, empty.
pub(crate) fn tables() -> Vec<Table> {
    let s = || Type::String;
    let nullable = |kind: Type| Type::Nullable(Box::new(kind));
    let mut events = vec![
        ("uuid", Type::Uuid),
        ("event", s()),
        ("properties", s()),
        ("timestamp", TIME),
        ("distinct_id", s()),
        ("elements_chain", s()),
        ("created_at", TIME),
        ("$session_id", s()),
        ("$window_id", s()),
        ("person_mode", Type::PersonMode),
        ("person_id", Type::Uuid),
    ];
    events.extend(["$group_0", "$group_1", "$group_2", "$group_3", "$group_4"].map(|name| (name, s())));
    events.extend([("event_person_id", Type::Uuid), ("poe.properties", s())]);
    let distinct_ids =
        [("distinct_id", s()), ("person_id", Type::Uuid), ("is_deleted", Type::Int8), ("version", Type::Int64)];
    let persons = [
        ("id", Type::Uuid),
        ("created_at", MILLIS),
        ("properties", s()),
        ("is_identified", Type::Int8),
        ("last_seen_at", nullable(MILLIS)),
        ("is_deleted", Type::Int8),
        ("version", Type::UInt64),
    ];
    let groups = [
        ("index", Type::UInt8),
        ("key", s()),
        ("created_at", MILLIS),
        ("updated_at", Type::DateTime(None)),
        ("properties", s()),
    ];
    let sessions = [
        ("session_id", s()),
        ("distinct_id", s()),
        ("$start_timestamp", TIME),
        ("$end_timestamp", TIME),
        ("$entry_current_url", nullable(s())),
        ("$end_current_url", nullable(s())),
        ("$num_uniq_urls", Type::UInt64),
        ("$pageview_count", Type::UInt64),
        ("$autocapture_count", Type::UInt64),
        ("$session_duration", Type::Int64),
        ("$is_bounce", Type::Bool),
    ];
    let members = [("person_id", Type::Uuid), ("cohort_id", Type::Int64)];
    vec![
        table("events", &events),
        table("raw_persons", &persons),
        table("raw_person_distinct_ids", &distinct_ids),
        table("raw_groups", &groups),
        table("cohort_people", &members),
        table("static_cohort_people", &members),
        table("sessions", &sessions),
    ]
}

fn table(name: &'static str, columns: &[(&str, Type)]) -> Table {
    let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
    Table { name, columns, rows: Vec::new() }
}

impl Table {
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(known, _)| known == name)
    }

    /// Stores a row given as a JSON object; columns that it does not name get their type's default.
    pub(crate) fn insert(&mut self, row: &serde_json::Value, visible_from: i64) {
        let object = row.as_object().unwrap();
        if let Some(unknown) = object.keys().find(|name| self.column(name).is_none()) {
            panic!("table {} has no column {unknown}", self.name);
        }
        let cells = self
            .columns
            .iter()
            .map(|(name, kind)| object.get(name).map_or_else(|| kind.default_value(), |value| cell(kind, value)))
            .collect();
        self.rows.push(Stored { cells, visible_from });
    }

    /// The newest visible version of each key, the deleted left out.
    pub(crate) fn latest(&self, view: &View, now: i64) -> Table {
        let keys: Vec<usize> = view.keys.iter().map(|name| self.column(name).unwrap()).collect();
        let version = self.column(view.version).unwrap();
        let deleted = view.deleted.map(|name| self.column(name).unwrap());
        let mut newest: indexmap::IndexMap<Vec<u8>, &Stored> = indexmap::IndexMap::new();
        for row in self.rows.iter().filter(|row| row.visible_from <= now) {
            let mut key = Vec::new();
            keys.iter().for_each(|&at| row.cells[at].write_key(&mut key));
            let older = newest.get(&key).is_some_and(|known| {
                row.cells[version].compare(&known.cells[version]) == Some(std::cmp::Ordering::Less)
            });
            if !older {
                newest.insert(key, row);
            }
        }
        let alive = |row: &&Stored| deleted.is_none_or(|at| !row.cells[at].is_true());
        let rows: Vec<Stored> = newest.into_values().filter(alive).cloned().collect();
        let hidden = [deleted, view.deleted.map(|_| version)];
        let shown: Vec<usize> = (0..self.columns.len()).filter(|&at| !hidden.contains(&Some(at))).collect();
        Table {
            name: view.name,
            columns: shown.iter().map(|&at| self.columns[at].clone()).collect(),
            rows: rows
                .into_iter()
                .map(|row| Stored { cells: shown.iter().map(|&at| row.cells[at].clone()).collect(), ..row })
                .collect(),
        }
    }
}

/// A JSON value as a cell of this type.
fn cell(kind: &Type, value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match (kind.inner(), value) {
        (_, Json::Null) => Value::Null,
        (Type::Uuid, Json::String(text)) => Value::Uuid(uuid_from_text(text).unwrap()),
        (Type::Date, Json::String(text)) => Value::Date(parse_day(text).unwrap()),
        (Type::DateTime(_) | Type::DateTime64(..), Json::String(text)) => {
            Value::Time(parse_micros(text).unwrap_or_else(|| panic!("not a time: {text}")))
        }
        (_, Json::String(text)) => Value::text(text),
        (_, Json::Bool(yes)) => Value::Bool(*yes),
        (Type::Float64, Json::Number(number)) => Value::Float(number.as_f64().unwrap()),
        (_, Json::Number(number)) => {
            Value::Int(number.as_i64().map_or_else(|| i128::from(number.as_u64().unwrap()), i128::from))
        }
        (_, other) => Value::text(&other.to_string()),
    }
}
