//! Every stream of the tap, as a row of one table: where it is read from, its keys, its replication, the scope that it needs,
//! and whether it is on by default.
//!
//! On by default are the four streams that the component which we re-create had. The others cost requests or ClickHouse
//! bytes in every run, so a catalog has to select them.

use crate::error::{Error, Kind, Result};
use crate::posthog::http::client::RateClass;
use crate::posthog::query::keyset::KeyKind;
use crate::tap::record::flatten::Family;

pub use row::{List, PropertyObject, Raw, Shape, Source, Stream, Table, fields, has_field};
use row::{full, list};

macro_rules! schema {
    ($name:literal) => {
        include_str!(concat!("../../schemas/", $name, ".json"))
    };
}

const QUERY: &str = "query:read";
const EVENT_PROPERTIES: PropertyObject = PropertyObject { field: "properties", family: Family::Event };
const PERSONS_PROPERTIES: PropertyObject = PropertyObject { field: "properties", family: Family::Person };

/// Every stream, by name. A new one is a row here and a file in `schemas/`.
pub const STREAMS: &[Stream] = &[
    full("actions", Source::List(&list("actions/")), "action:read", schema!("actions")),
    full("annotations", Source::List(&list("annotations/")), "annotation:read", schema!("annotations"))
        .usually_incremental(&["updated_at"]),
    full("cohort_people", Source::Table(&COHORT_PEOPLE), QUERY, schema!("cohort_people"))
        .keys(&["cohort_id", "person_id"]),
    full("cohorts", Source::List(&list("cohorts/")), "cohort:read", schema!("cohorts")).on(),
    full("dashboards", Source::List(&list("dashboards/")), "dashboard:read", schema!("dashboards")),
    full(
        "event_definitions",
        Source::List(&list("event_definitions/")),
        "event_definition:read",
        schema!("event_definitions"),
    )
    .usually_full(&["last_updated_at", "updated_at"]),
    full("events", Source::Events, QUERY, schema!("events"))
        .keys(&["uuid", "event", "distinct_id"])
        .incremental(&["created_at", "timestamp"])
        .without(&["elements_chain"])
        .properties(&[EVENT_PROPERTIES, PropertyObject { field: "person_properties", family: Family::Person }])
        .varies()
        .on(),
    full("experiments", Source::List(&list("experiments/")), "experiment:read", schema!("experiments"))
        .usually_incremental(&["updated_at"])
        .varies(),
    full("feature_flags", Source::List(&list("feature_flags/")), "feature_flag:read", schema!("feature_flags"))
        .usually_incremental(&["updated_at"])
        .on(),
    full("group_types", Source::List(&list("groups_types/")), "group:read", schema!("group_types"))
        .keys(&["group_type_index"]),
    full("groups", Source::Table(&GROUPS), QUERY, schema!("groups"))
        .keys(&["group_type_index", "group_key"])
        .usually_full(&["updated_at"])
        .varies(),
    full("insights", Source::List(&INSIGHTS), "insight:read", schema!("insights")).usually_incremental(&["updated_at"]),
    full("person_distinct_ids", Source::Table(&PERSON_DISTINCT_IDS), QUERY, schema!("person_distinct_ids"))
        .keys(&["distinct_id"]),
    full("persons", Source::Table(&PERSONS), QUERY, schema!("persons"))
        .usually_full(&["last_seen_at"])
        .properties(&[PERSONS_PROPERTIES])
        .varies()
        .on(),
    full("projects", Source::List(&PROJECT), "project:read", schema!("projects")).usually_full(&["updated_at"]),
    full(
        "property_definitions",
        Source::List(&PROPERTY_DEFINITIONS),
        "property_definition:read",
        schema!("property_definitions"),
    )
    .and_scope("group:read")
    .usually_full(&["updated_at"])
    .defines_properties(),
    full(
        "session_recordings",
        Source::List(&SESSION_RECORDINGS),
        "session_recording:read",
        schema!("session_recordings"),
    )
    .incremental(&["start_time"])
    .varies(),
    full("sessions", Source::Sessions(&SESSIONS), QUERY, schema!("sessions"))
        .keys(&["session_id"])
        .incremental(&["$start_timestamp"])
        .varies(),
    full("surveys", Source::List(&list("surveys/")), "survey:read", schema!("surveys")).varies(),
];

/// Persons. The newest version counts; of two that are equally new, the one that says the person is gone.
pub const PERSONS: Table = Table {
    name: "persons",
    renamed: &[],
    key: &[("id", KeyKind::Uuid)],
    raw: Some(Raw { table: "raw_persons", ..NEWEST_VERSION }),
    also: None,
};
/// Which person each distinct id belongs to.
pub const PERSON_DISTINCT_IDS: Table = Table {
    name: "person_distinct_ids",
    renamed: &[],
    key: &[("distinct_id", KeyKind::Text)],
    raw: Some(Raw { table: "raw_person_distinct_ids", ..NEWEST_VERSION }),
    also: None,
};
const NEWEST_VERSION: Raw = Raw {
    table: "",
    version: "version",
    order: "version DESC, is_deleted DESC",
    deleted: Some("is_deleted"),
    needs: None,
};
/// Members of cohorts, dynamic and then static. Which version of a dynamic one is current, only the lazy table knows.
pub const COHORT_PEOPLE: Table = Table {
    name: "cohort_people",
    renamed: &[],
    key: &[("cohort_id", KeyKind::Whole), ("person_id", KeyKind::Uuid)],
    raw: None,
    also: Some("static_cohort_people"),
};
/// Groups of all types.
pub const GROUPS: Table = Table {
    name: "groups",
    renamed: &[("group_type_index", "index"), ("group_key", "key"), ("group_properties", "properties")],
    key: &[("group_type_index", KeyKind::Whole), ("group_key", KeyKind::Text)],
    raw: Some(Raw {
        table: "raw_groups",
        version: "updated_at",
        order: "updated_at DESC",
        deleted: None,
        needs: Some("updated_at"),
    }),
    also: None,
};
/// Sessions; every generation of the table has other columns. They are made of events, so there is nothing raw to read.
pub const SESSIONS: Table =
    Table { name: "sessions", renamed: &[], key: &[("session_id", KeyKind::Text)], raw: None, also: None };

/// Results of insights can be megabytes, and belong to the people who look at them.
const INSIGHTS: List = List {
    query: &[("basic", "true")],
    left_out: &[
        "result",
        "hasMore",
        "columns",
        "cache_target_age",
        "next_allowed_client_refresh",
        "timezone",
        "is_cached",
        "query_status",
        "hogql",
        "types",
        "resolved_date_range",
    ],
    ..list("insights/")
};

const PROJECT: List = List { shape: Shape::AllowedFieldsOfObject, ..list("") };
const PROPERTY_DEFINITIONS: List = List { shape: Shape::PerPropertyType, ..list("property_definitions/") };
/// The person of a recording is a copy of the one in the stream persons.
const SESSION_RECORDINGS: List =
    List { class: RateClass::ClickHouse, shape: Shape::Since, left_out: &["person"], ..list("session_recordings/") };

/// The list whose items are the definitions of properties, and its row.
pub fn definitions() -> Option<(&'static Stream, &'static List)> {
    STREAMS.iter().filter(|row| row.defines_properties).find_map(|row| match row.source {
        Source::List(list) => Some((row, list)),
        _ => None,
    })
}

/// The stream of this name.
///
/// # Errors
/// [`Kind::Config`] with the names that there are.
pub fn find(name: &str) -> Result<&'static Stream> {
    STREAMS.iter().find(|stream| stream.name == name).ok_or_else(|| {
        let names: Vec<&str> = STREAMS.iter().map(|stream| stream.name).collect();
        Error::new(Kind::Config, format!("there is no stream {name}; there are {}", names.join(", ")))
    })
}

mod row;

#[cfg(test)]
mod tests;
