//! A row of the table of streams: where the stream is read from, its keys, its replication, the scopes that it needs, and
//! whether it differs between versions of PostHog.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::posthog::http::client::RateClass;
use crate::posthog::query::keyset::KeyKind;
use crate::singer::catalog::{Method, SelectedStream, StreamEntry};
use crate::tap::record::flatten::Family;

/// Where a stream is read from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The events engine.
    Events,
    /// A table that HogQL can read.
    Table(&'static Table),
    /// The table of sessions. ClickHouse makes it of events, so it is read in stretches of days.
    Sessions(&'static Table),
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
    /// Its query pairs besides those of paging.
    pub query: &'static [(&'static str, &'static str)],
    /// Which of PostHog's limits counts it.
    pub class: RateClass,
    /// How it is read once.
    pub shape: Shape,
    /// Members of an item that are not passed on.
    pub left_out: &'static [&'static str],
}

/// How a list is read once.
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

/// An object of properties.
#[derive(Clone, Copy, Debug)]
pub struct PropertyObject {
    /// The field that holds it.
    pub field: &'static str,
    /// Whose properties they are.
    pub family: Family,
}

impl PropertyObject {
    /// Whether a setting (`persons_column_prefix`) says how its columns begin: where it is not called as events call it.
    pub fn prefix_is_a_setting(&self) -> bool {
        self.field != self.family.column().1
    }
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
    /// Not every PostHog has all of it: the columns of a table are probed, and so is that the list exists.
    pub varies: bool,
    /// The fields that identify a record.
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
    /// Its objects of properties that become columns.
    pub properties: &'static [PropertyObject],
    /// Its items are the definitions that the columns of properties are made from.
    pub defines_properties: bool,
    /// The JSON Schema of its records, as far as it does not depend on the project.
    pub schema: &'static str,
}

pub(super) const fn full(name: &'static str, source: Source, scope: &'static str, schema: &'static str) -> Stream {
    Stream {
        name,
        source,
        scope,
        more_scope: None,
        varies: false,
        keys: &["id"],
        method: Method::FullTable,
        replication_keys: &[],
        method_is_choice: false,
        selected_by_default: false,
        fields_off: &[],
        properties: &[],
        defines_properties: false,
        schema,
    }
}

impl Stream {
    /// The scopes that the key needs.
    pub fn scopes(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.scope), self.more_scope].into_iter().flatten()
    }

    /// Whether it has an object of properties of this name.
    pub fn has_properties(&self, object: &str) -> bool {
        self.properties.iter().any(|known| known.field == object)
    }

    /// Whether it is the stream of events, which every PostHog has.
    pub fn is_of_events(&self) -> bool {
        matches!(self.source, Source::Events)
    }

    /// The table that it is read from, if it is one.
    pub fn table(&self) -> Option<&'static Table> {
        match self.source {
            Source::Table(table) | Source::Sessions(table) => Some(table),
            Source::Events | Source::List(_) => None,
        }
    }

    /// Whether it is a REST list, which is read without a query.
    pub fn is_list(&self) -> bool {
        matches!(self.source, Source::List(_))
    }

    pub(super) const fn keys(self, keys: &'static [&'static str]) -> Stream {
        Stream { keys, ..self }
    }

    /// Read from the bookmark on, always.
    pub(super) const fn incremental(self, replication_keys: &'static [&'static str]) -> Stream {
        Stream { method: Method::Incremental, replication_keys, ..self }
    }

    /// Read from the bookmark on unless the user chooses the other method.
    pub(super) const fn usually_incremental(self, replication_keys: &'static [&'static str]) -> Stream {
        Stream { method_is_choice: true, ..self.incremental(replication_keys) }
    }

    /// Read whole unless the user chooses the other method.
    pub(super) const fn usually_full(self, replication_keys: &'static [&'static str]) -> Stream {
        Stream { method_is_choice: true, replication_keys, ..self }
    }

    pub(super) const fn on(self) -> Stream {
        Stream { selected_by_default: true, ..self }
    }

    pub(super) const fn and_scope(self, scope: &'static str) -> Stream {
        Stream { more_scope: Some(scope), ..self }
    }

    pub(super) const fn varies(self) -> Stream {
        Stream { varies: true, ..self }
    }

    pub(super) const fn properties(self, properties: &'static [PropertyObject]) -> Stream {
        Stream { properties, ..self }
    }

    pub(super) const fn defines_properties(self) -> Stream {
        Stream { defines_properties: true, ..self }
    }

    pub(super) const fn without(self, fields_off: &'static [&'static str]) -> Stream {
        Stream { fields_off, ..self }
    }
}

pub(super) const fn list(path: &'static str) -> List {
    List { path, query: &[], class: RateClass::Lists, shape: Shape::Pages, left_out: &[] }
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

    /// Fills in the method and the replication key where the catalog leaves them open. A method that the stream does not have
    /// is not used, and a warning says so.
    ///
    /// # Errors
    /// [`Kind::Config`] for a replication key that the stream does not have.
    pub fn resolve(&self, chosen: &mut SelectedStream) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Kind::Config, format!("catalog, stream {}: {what}", self.name)));
        let mut method = chosen.replication_method.unwrap_or(self.method);
        if method != self.method && !self.method_is_choice {
            self.method.warn_that_always(self.name, method.name());
            method = self.method;
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
    pub fn column<'a>(&self, field: &'a str) -> &'a str {
        self.renamed.iter().find(|(name, _)| *name == field).map_or(field, |(_, column)| column)
    }
}

impl List {
    /// Its path below the base address.
    pub fn full_path(&self, project_id: u64) -> String {
        format!("api/projects/{project_id}/{}", self.path)
    }
}

/// Whether a schema has a field of this name.
pub fn has_field(schema: &Value, name: &str) -> bool {
    schema["properties"].get(name).is_some()
}

/// The fields of a schema.
pub fn fields(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}
