//! Every stream of the tap as a row of one table: where it is read from, what identifies a record, how it is read, which
//! scope it takes, and whether it is read when nobody chose.
//!
//! On by default are the four streams that the component which we re-create had. The others cost requests or ClickHouse
//! bytes in every run that nobody may want to pay for, and are one word in a catalog away.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::posthog::http::client::RateClass;
use crate::posthog::query::keyset::KeyKind;
use crate::singer::catalog::{Method, SelectedStream, StreamEntry};

/// Where a stream is read from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The events engine.
    Events,
    /// A table that HogQL can read.
    Table(&'static Table),
    /// A REST list.
    List(&'static List),
}

/// A HogQL table that is read whole or from a time on.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in HogQL.
    pub name: &'static str,
    /// Fields whose column has another name.
    pub renamed: &'static [(&'static str, &'static str)],
    /// False where every PostHog has every field: nothing to probe.
    pub varies: bool,
    /// The fields in whose order it is read.
    pub key: &'static [(&'static str, KeyKind)],
    /// Where its stored versions are, if they can be read in that order.
    pub raw: Option<Raw>,
    /// A table that holds other records of the stream in the same columns; not every PostHog has it.
    pub also: Option<&'static str>,
}

/// The stored versions behind a table.
#[derive(Clone, Copy, Debug)]
pub struct Raw {
    /// The table that holds them.
    pub table: &'static str,
    /// The column that is greatest in the version that counts; it may be a field of the stream, and has to be asked for.
    pub version: &'static str,
    /// The order that puts that version first.
    pub order: &'static str,
    /// The column that says that the key is gone.
    pub deleted: Option<&'static str>,
    /// A field that the order needs; without it the raw table is of no use.
    pub needs: Option<&'static str>,
}

/// A REST list.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The part of the path behind `api/projects/<id>/`; empty for the project itself.
    pub path: &'static str,
    /// What it is asked with, besides paging.
    pub query: &'static [(&'static str, &'static str)],
    /// Which of PostHog's limits counts it.
    pub class: RateClass,
    /// What one reading of it consists of.
    pub shape: Shape,
    /// Members of an item that are not passed on.
    pub left_out: &'static [&'static str],
}

/// What one reading of a list consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One list.
    Pages,
    /// One object, of which only the fields of the schema are passed on: it also holds secrets.
    AllowedFieldsOfObject,
    /// A list for each type of property; the type is not in the item, so it is added (posthog-api.md 7.4).
    PerPropertyType,
    /// A list from a day on, for objects that change for a while after they began.
    Since,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Its name.
    pub name: &'static str,
    /// Where it is read from.
    pub source: Source,
    /// The scope that the key needs.
    pub scope: &'static str,
    /// Another one that it needs besides.
    pub more_scope: Option<&'static str>,
    /// What identifies a record.
    pub keys: &'static [&'static str],
    /// How it is read unless the user says otherwise.
    pub method: Method,
    /// Fields that a bookmark can hold, the usual one first; empty for streams that are always read whole.
    pub replication_keys: &'static [&'static str],
    /// True where the user may choose between both methods.
    pub method_is_choice: bool,
    /// Read when nobody chose.
    pub selected_by_default: bool,
    /// Fields that are not selected unless the user says so.
    pub fields_off: &'static [&'static str],
    /// The JSON Schema of its records, as far as it does not depend on the project.
    pub schema: &'static str,
}

macro_rules! schema {
    ($name:literal) => {
        include_str!(concat!("../../schemas/", $name, ".json"))
    };
}

const fn full(name: &'static str, source: Source, scope: &'static str, schema: &'static str) -> Stream {
    Stream {
        name,
        source,
        scope,
        more_scope: None,
        keys: &["id"],
        method: Method::FullTable,
        replication_keys: &[],
        method_is_choice: false,
        selected_by_default: false,
        fields_off: &[],
        schema,
    }
}

impl Stream {
    /// The scopes that the key needs.
    pub fn scopes(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.scope), self.more_scope].into_iter().flatten()
    }

    const fn keys(self, keys: &'static [&'static str]) -> Stream {
        Stream { keys, ..self }
    }

    /// Read from the bookmark on, always.
    const fn incremental(self, replication_keys: &'static [&'static str]) -> Stream {
        Stream { method: Method::Incremental, replication_keys, ..self }
    }

    /// Read from the bookmark on unless the user chooses the other method.
    const fn usually_incremental(self, replication_keys: &'static [&'static str]) -> Stream {
        Stream { method_is_choice: true, ..self.incremental(replication_keys) }
    }

    /// Read whole unless the user chooses the other method.
    const fn usually_full(self, replication_keys: &'static [&'static str]) -> Stream {
        Stream { method_is_choice: true, replication_keys, ..self }
    }

    const fn on(self) -> Stream {
        Stream { selected_by_default: true, ..self }
    }

    const fn and_scope(self, scope: &'static str) -> Stream {
        Stream { more_scope: Some(scope), ..self }
    }

    const fn without(self, fields_off: &'static [&'static str]) -> Stream {
        Stream { fields_off, ..self }
    }
}

const fn list(path: &'static str) -> List {
    List { path, query: &[], class: RateClass::Lists, shape: Shape::Pages, left_out: &[] }
}

const QUERY: &str = "query:read";

/// Every stream, by name.
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
        .on(),
    full("experiments", Source::List(&list("experiments/")), "experiment:read", schema!("experiments"))
        .usually_incremental(&["updated_at"]),
    full("feature_flags", Source::List(&list("feature_flags/")), "feature_flag:read", schema!("feature_flags"))
        .usually_incremental(&["updated_at"])
        .on(),
    full("group_types", Source::List(&list("groups_types/")), "group:read", schema!("group_types"))
        .keys(&["group_type_index"]),
    full("groups", Source::Table(&GROUPS), QUERY, schema!("groups"))
        .keys(&["group_type_index", "group_key"])
        .usually_full(&["updated_at"]),
    full("insights", Source::List(&INSIGHTS), "insight:read", schema!("insights")).usually_incremental(&["updated_at"]),
    full("person_distinct_ids", Source::Table(&PERSON_DISTINCT_IDS), QUERY, schema!("person_distinct_ids"))
        .keys(&["distinct_id"]),
    full("persons", Source::Table(&PERSONS), QUERY, schema!("persons")).usually_full(&["last_seen_at"]).on(),
    full("projects", Source::List(&PROJECT), "project:read", schema!("projects")).usually_full(&["updated_at"]),
    full(
        "property_definitions",
        Source::List(&PROPERTY_DEFINITIONS),
        "property_definition:read",
        schema!("property_definitions"),
    )
    .and_scope("group:read")
    .usually_full(&["updated_at"]),
    full(
        "session_recordings",
        Source::List(&SESSION_RECORDINGS),
        "session_recording:read",
        schema!("session_recordings"),
    )
    .incremental(&["start_time"]),
    full("sessions", Source::Table(&SESSIONS), QUERY, schema!("sessions"))
        .keys(&["session_id"])
        .incremental(&["$start_timestamp"]),
    full("surveys", Source::List(&list("surveys/")), "survey:read", schema!("surveys")),
];

/// Persons. The newest version counts; of two that are equally new, the one that says the person is gone.
pub const PERSONS: Table = Table {
    name: "persons",
    renamed: &[],
    varies: true,
    key: &[("id", KeyKind::Uuid)],
    raw: Some(Raw { table: "raw_persons", ..NEWEST_VERSION }),
    also: None,
};
/// Which person each distinct id belongs to.
pub const PERSON_DISTINCT_IDS: Table = Table {
    name: "person_distinct_ids",
    renamed: &[],
    varies: false,
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
    varies: false,
    key: &[("cohort_id", KeyKind::Whole), ("person_id", KeyKind::Uuid)],
    raw: None,
    also: Some("static_cohort_people"),
};
/// Groups of all types.
pub const GROUPS: Table = Table {
    name: "groups",
    renamed: &[("group_type_index", "index"), ("group_key", "key"), ("group_properties", "properties")],
    varies: true,
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
pub const SESSIONS: Table = Table {
    name: "sessions",
    renamed: &[],
    varies: true,
    key: &[("session_id", KeyKind::Text)],
    raw: None,
    also: None,
};

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
/// The person of a recording is a copy of what the stream persons has.
const SESSION_RECORDINGS: List =
    List { class: RateClass::ClickHouse, shape: Shape::Since, left_out: &["person"], ..list("session_recordings/") };

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

impl Stream {
    /// Its entry in a catalog with the compiled schema.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the compiled schema is not one; a test holds that it is.
    pub fn entry(&self) -> Result<StreamEntry> {
        let schema: Value = serde_json::from_str(self.schema)
            .map_err(|e| Error::new(Kind::Internal, format!("the schema of {} is not JSON: {e}", self.name)))?;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Ok(StreamEntry {
            name: self.name.to_owned(),
            schema,
            key_properties: owned(self.keys),
            method: self.method,
            replication_key: match self.method {
                Method::Incremental => self.replication_keys.first().map(|key| (*key).to_owned()),
                Method::FullTable => None,
            },
            valid_replication_keys: owned(self.replication_keys),
            method_is_choice: self.method_is_choice,
            selected_by_default: self.selected_by_default,
            fields_off: owned(self.fields_off),
        })
    }
}

impl Stream {
    /// Fills in what the catalog left open (method, replication key), and refuses a choice that this stream cannot follow.
    ///
    /// # Errors
    /// [`Kind::Config`] for another replication key or method than it has.
    pub fn settle(&self, chosen: &mut SelectedStream) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Kind::Config, format!("catalog, stream {}: {what}", self.name)));
        let method = chosen.replication_method.unwrap_or(self.method);
        if method != self.method && !self.method_is_choice {
            return refuse(format!("it is always read with replication-method {}", self.method.name()));
        }
        chosen.replication_method = Some(method);
        if method == Method::FullTable {
            chosen.replication_key = None;
            return Ok(());
        }
        let usual = || self.replication_keys.first().map(|key| (*key).to_owned());
        let key = chosen.replication_key.clone().or_else(usual).unwrap_or_default();
        if !self.replication_keys.contains(&key.as_str()) {
            let keys = self.replication_keys.join(", ");
            return refuse(format!("{key} cannot be its replication-key; give one of {keys}"));
        }
        if chosen.schema["properties"].get(&key).is_none() {
            return refuse(format!("its replication-key {key} has to be selected"));
        }
        chosen.replication_key = Some(key);
        Ok(())
    }
}

impl Table {
    /// The column of a field.
    #[must_use]
    pub fn column<'a>(&self, field: &'a str) -> &'a str {
        self.renamed.iter().find(|(name, _)| *name == field).map_or(field, |(_, column)| column)
    }
}

impl List {
    /// Its path below the base address.
    #[must_use]
    pub fn full_path(&self, project_id: u64) -> String {
        format!("api/projects/{project_id}/{}", self.path)
    }
}

/// The fields of a schema.
pub fn fields(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}

#[cfg(test)]
mod tests;
