//! Discovery: which streams this key can read, and what their records look like in this project.
//!
//! Nothing is assumed of the server. What the key may read comes from the key itself where PostHog tells, else from one
//! small request a stream; columns are probed; properties become columns as the project defines them. Streams that cannot
//! be read are left out, with one warning for all of them. No more than 20 requests are sent for a project with 2,000
//! property definitions, because runners discover before every run.

use std::cell::{Cell, OnceCell};

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::client::{Client, Get, RateClass};
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::hogql::{self, Column};
use crate::posthog::time::{Day, Micros, to_rfc3339};
use crate::singer::catalog::{Catalog, SelectedStream, StreamEntry};

use super::arrival::{self, CREATED_AT, TIMESTAMP};
use super::config::{Config, PersonIds};
use super::probe;
use super::properties::{self, Properties};
use super::streams::{List, STREAMS, Shape, Source, Stream, Table, fields, find};

/// Discovers everything that the key can read.
///
/// # Errors
/// [`Kind::Config`] for a key or project that cannot be used at all or can read no stream, and what the client returns.
pub fn discover(client: &Client, config: &Config, now: Micros) -> Result<Catalog> {
    let entries = Discovery::new(client, config, now)?.entries(|_| true, Missing::LeaveOut)?;
    Ok(Catalog::discovered(&entries, Some(&to_rfc3339(now))))
}

/// The streams of a run. With a catalog they are its selected ones, and what changed since it was made is said; without
/// one, those that are on by default, or the one that the configuration names.
///
/// # Errors
/// [`Kind::Config`] for a stream that does not exist, cannot be read, or is chosen in a way it cannot be read.
pub fn streams_of_run(
    client: &Client,
    config: &Config,
    catalog: Option<&Catalog>,
    now: Micros,
) -> Result<Vec<SelectedStream>> {
    let mut selected = match catalog {
        Some(catalog) => given(client, config, catalog, now)?,
        None => by_default(client, config, now)?,
    };
    for stream in &mut selected {
        find(&stream.id)?.settle(stream)?;
    }
    Ok(selected)
}

fn by_default(client: &Client, config: &Config, now: Micros) -> Result<Vec<SelectedStream>> {
    let discovery = Discovery::new(client, config, now)?;
    let Some(name) = &config.only_stream else {
        let entries = discovery.entries(|stream| stream.selected_by_default, Missing::LeaveOut)?;
        return Catalog::discovered(&entries, None).selected();
    };
    find(name).map_err(|e| e.context("setting data_type"))?;
    let entries = discovery.entries(|stream| stream.name == name, Missing::Refuse)?;
    let catalog = Catalog::discovered(&entries, None);
    catalog.only(name).map_or_else(|| Ok(Vec::new()), |catalog| catalog.selected())
}

fn given(client: &Client, config: &Config, catalog: &Catalog, now: Micros) -> Result<Vec<SelectedStream>> {
    let selected = catalog.selected()?;
    for stream in &selected {
        find(&stream.id).map_err(|e| e.context("catalog"))?;
    }
    // Ready-made catalogs have no fingerprint: they do not claim to describe this project.
    if catalog.fingerprint().is_some() {
        let is_selected = |stream: &Stream| selected.iter().any(|chosen| chosen.id == stream.name);
        let entries = Discovery::new(client, config, now)?.entries(is_selected, Missing::Refuse)?;
        let changes = catalog.changes(&Catalog::discovered(&entries, None));
        if !changes.is_empty() {
            let changes = changes.join("; ");
            log::warn(format!(
                "the project has changed since the catalog was made: {changes}. The catalog is followed; properties without \
                 a column go into the unmapped object. Discover again to take the changes over"
            ));
        }
    }
    Ok(selected)
}

/// The catalog of all streams of [`STREAMS`] whose schema does not depend on a project: properties are objects.
/// `wanted` chooses among them. `catalog/*.json` are made by this.
///
/// # Errors
/// [`Kind::Internal`] when a compiled schema is broken; a test holds that none is.
pub fn ready_made(wanted: impl Fn(&Stream) -> bool) -> Result<Catalog> {
    let chosen = STREAMS.iter().filter(|stream| wanted(stream));
    let entries: Vec<StreamEntry> = chosen
        .map(|stream| stream.entry().map(|entry| StreamEntry { selected_by_default: true, ..entry }))
        .collect::<Result<_>>()?;
    Ok(Catalog::discovered(&entries, None))
}

/// What to do about a stream that the key cannot read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    LeaveOut,
    Refuse,
}

struct Discovery<'a> {
    client: &'a Client,
    config: &'a Config,
    now: Micros,
    /// What the key may do, where PostHog tells.
    scopes: Option<Vec<String>>,
    /// A query was answered: tables with nothing to probe need no proof of their own.
    can_query: Cell<bool>,
    /// The key may read property definitions, as was seen.
    definitions_were_read: Cell<bool>,
    /// Of events, and of persons.
    definitions: [OnceCell<Properties>; 2],
}

impl<'a> Discovery<'a> {
    fn new(client: &'a Client, config: &'a Config, now: Micros) -> Result<Discovery<'a>> {
        let scopes = scopes_of_key(client)?;
        let [can_query, definitions_were_read] = [Cell::new(false), Cell::new(false)];
        let definitions = [OnceCell::new(), OnceCell::new()];
        Ok(Discovery { client, config, now, scopes, can_query, definitions_were_read, definitions })
    }

    fn entries(&self, wanted: impl Fn(&Stream) -> bool, missing: Missing) -> Result<Vec<StreamEntry>> {
        let mut entries = Vec::new();
        let mut left_out = Vec::new();
        // Events first: its probe says whether the key may query at all.
        let mut streams: Vec<&Stream> = STREAMS.iter().filter(|stream| wanted(stream)).collect();
        streams.sort_by_key(|stream| !matches!(stream.source, Source::Events));
        for stream in streams {
            match self.entry(stream) {
                Ok(entry) => entries.push(entry),
                Err(fault) => left_out.push(self.left_out(stream, fault, missing)?),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if !left_out.is_empty() {
            log::warn(format!("left out: {}", left_out.join("; ")));
        }
        if entries.is_empty() && !left_out.is_empty() {
            let text = "the key can read none of the streams; add the scope query:read to it (PostHog, Settings, Personal API keys)";
            return Err(Error::new(Kind::Config, text));
        }
        Ok(entries)
    }

    /// Why a stream is left out; an error where that is no reason to go on.
    fn left_out(&self, stream: &Stream, fault: Fault, missing: Missing) -> Result<String> {
        let failure = match fault {
            Fault::Fatal(failure) => failure,
            other => return Err(other.into()),
        };
        let is_list = matches!(stream.source, Source::List(_));
        let why = match &failure.cause {
            Cause::Scope(scope) => format!("needs the scope {scope}"),
            Cause::Access if is_list => "the key's user may not read it".to_owned(),
            // A table that this PostHog has not, or a path.
            Cause::Missing if is_list => "this PostHog does not have it".to_owned(),
            Cause::Request if !matches!(stream.source, Source::Events) => "this PostHog does not have it".to_owned(),
            _ => return Err(failure.error),
        };
        match missing {
            Missing::LeaveOut => Ok(format!("{} ({why})", stream.name)),
            Missing::Refuse => Err(failure.error.context(format!("stream {} cannot be read", stream.name))),
        }
    }

    fn entry(&self, stream: &Stream) -> Result<StreamEntry, Fault> {
        if !self.may(stream.scope).unwrap_or(true) {
            let text =
                format!("the key lacks the scope {}; add it in PostHog, Settings, Personal API keys", stream.scope);
            let error = Error::new(Kind::Config, text);
            return Err(Fault::Fatal(Failure { cause: Cause::Scope(stream.scope.to_owned()), error }));
        }
        let mut entry = stream.entry().map_err(Fault::internal)?;
        match stream.source {
            Source::Events => self.events(stream, &mut entry)?,
            Source::Table(table) => self.table(stream, table, &mut entry)?,
            // Its items were read already.
            Source::List(_) if stream.name == "property_definitions" && self.definitions_were_read.get() => {}
            Source::List(list) if self.scopes.is_none() => try_list(self.client, list)?,
            Source::List(_) => {}
        }
        Ok(entry)
    }

    /// Whether the key has a scope, where that is known.
    fn may(&self, scope: &str) -> Option<bool> {
        self.scopes.as_ref().map(|scopes| covers(scopes, scope))
    }

    fn events(&self, stream: &Stream, entry: &mut StreamEntry) -> Result<(), Fault> {
        let joined = self.config.events.person_ids == PersonIds::Joined;
        let expression = |field: &str| match field {
            "person_id" if !joined => "event_person_id".to_owned(),
            "person_properties" => "poe.properties".to_owned(),
            plain => hogql::identifier(plain),
        };
        let column = |name: &String| Column { expression: expression(name), name: name.clone() };
        let columns = fields(&mut entry.schema).map(|fields| fields.keys().map(column).collect()).unwrap_or_default();
        let required = [stream.keys, &[TIMESTAMP]].concat();
        let today = Day::of(self.now);
        let present = probe::present(self.client, columns, &required, |columns| hogql::probe(columns, today))?;
        self.can_query.set(true);
        if present.iter().all(|column| column.name != CREATED_AT) {
            arrival::warn();
            entry.valid_replication_keys.retain(|key| key != CREATED_AT);
            entry.replication_key = Some(TIMESTAMP.to_owned());
        }
        keep_fields(stream, entry, |field| present.iter().any(|column| column.name == field));
        if self.config.properties.flatten {
            for (family, object) in ["properties", "person_properties"].into_iter().enumerate() {
                let defined = self.properties(family)?;
                flatten(entry, object, &defined);
            }
        }
        Ok(())
    }

    fn table(&self, stream: &Stream, table: &Table, entry: &mut StreamEntry) -> Result<(), Fault> {
        if self.can_query.get() && !table.varies {
            return Ok(());
        }
        // Bounds where the table is made of events, so that nothing is read for it.
        let bounds = match stream.replication_keys.first().filter(|_| table.name == "sessions") {
            Some(key) => format!(" WHERE {} >= {}", hogql::identifier(key), hogql::datetime(self.now)),
            None => String::new(),
        };
        let ask = |name: &str| probe::all(self.client, &format!("SELECT * FROM {name}{bounds} LIMIT 0"));
        // The raw table has the same columns, and nothing is aggregated to answer.
        let present = match table.raw.map(|raw| ask(raw.table)) {
            None => ask(table.name)?,
            Some(Err(Fault::Fatal(failure))) if failure.cause == Cause::Request => ask(table.name)?,
            Some(answer) => answer?,
        };
        keep_fields(stream, entry, |field| present.iter().any(|column| column == table.column(field)));
        entry.valid_replication_keys.retain(|key| has_field(&entry.schema, key));
        entry.method_is_choice &= !entry.valid_replication_keys.is_empty();
        if stream.name == "persons" && self.config.properties.flatten {
            let defined = self.properties(1)?;
            flatten(entry, "properties", &defined);
        }
        Ok(())
    }

    /// The properties of events (0) or of persons (1).
    fn properties(&self, family: usize) -> Result<Properties, Fault> {
        let (Some(cell), Some(kind)) = (self.definitions.get(family), ["event", "person"].get(family)) else {
            return Ok(Properties::new());
        };
        if let Some(known) = cell.get() {
            return Ok(known.clone());
        }
        let max = self.config.properties.max_columns;
        let defined = match self.may("property_definition:read") {
            _ if max == 0 => Ok(Properties::new()),
            Some(false) => return self.sample(family),
            _ => properties::defined(self.client, kind, max),
        };
        match defined {
            Ok(defined) => {
                self.definitions_were_read.set(max > 0);
                Ok(cell.get_or_init(|| defined).clone())
            }
            Err(Fault::Fatal(failure)) if is_no_definitions(&failure.cause) => self.sample(family),
            Err(fault) => Err(fault),
        }
    }

    fn sample(&self, family: usize) -> Result<Properties, Fault> {
        log::info(
            "the key lacks the scope property_definition:read; columns of properties are taken from a sample of events and may \
             differ between runs",
        );
        let sampled = properties::sampled(self.client, self.config.properties.max_columns, self.now)?;
        for (cell, properties) in self.definitions.iter().zip(sampled) {
            let _ = cell.set(properties);
        }
        Ok(self.definitions.get(family).and_then(OnceCell::get).cloned().unwrap_or_default())
    }
}

/// Whether these scopes allow what `scope` allows: writing includes reading, `*` is everything.
pub(super) fn covers(scopes: &[String], scope: &str) -> bool {
    let write = scope.replace(":read", ":write");
    scopes.iter().any(|has| has == "*" || has == scope || *has == write)
}

/// Asks for one item: the list exists, and the key may read it.
pub(super) fn try_list(client: &Client, list: &List) -> Result<(), Fault> {
    let path = list.full_path(client.options().project_id);
    let one = [("limit".to_owned(), "1".to_owned())];
    let query: &[(String, String)] = if list.shape == Shape::AllowedFieldsOfObject { &[] } else { &one };
    client.get(&Get { path: &path, query, class: list.class }, |_| Ok(()))
}

/// Definitions cannot be had: no scope, no such path, or the list takes the server too long (it has a time limit of its own).
fn is_no_definitions(cause: &Cause) -> bool {
    matches!(cause, Cause::Scope(_) | Cause::Access | Cause::Missing | Cause::Server)
}

/// Removes the fields from the schema that the server has no column for; keys and the replication key stay, whatever it
/// says.
fn keep_fields(stream: &Stream, entry: &mut StreamEntry, is_present: impl Fn(&str) -> bool) {
    let Some(fields) = fields(&mut entry.schema) else { return };
    let is_key = |name: &str| stream.keys.contains(&name) || entry.replication_key.as_deref() == Some(name);
    let is_kept = |name: &str| is_present(name) || is_key(name);
    let gone: Vec<&str> = fields.keys().map(String::as_str).filter(|name| !is_kept(name)).collect();
    if !gone.is_empty() {
        log::info(format!("this PostHog has no {} in {}", gone.join(", "), stream.name));
    }
    fields.retain(|name, _| is_kept(name));
}

fn has_field(schema: &Value, name: &str) -> bool {
    schema["properties"].get(name).is_some()
}

/// Puts a column for each property, and the object of what has none, in the place of the object `object`.
fn flatten(entry: &mut StreamEntry, object: &str, defined: &Properties) {
    let Some(fields) = fields(&mut entry.schema) else { return };
    let mut flat = Map::new();
    for (name, schema) in std::mem::take(fields) {
        if name != object {
            flat.insert(name, schema);
            continue;
        }
        flat.extend(defined.iter().map(|(property, kind)| (format!("{object}_{property}"), kind.schema())));
        flat.insert(format!("unmapped_{object}"), json!({"type": ["null", "object"]}));
    }
    *fields = flat;
}

/// What the key may do, from the key's own description. None where this PostHog does not tell.
pub(super) fn scopes_of_key(client: &Client) -> Result<Option<Vec<String>>> {
    let get = Get { path: "api/personal_api_keys/@current/", query: &[], class: RateClass::Lists };
    let read = |answer: crate::posthog::client::Answer| {
        serde_json::from_slice::<Value>(&answer.body).map_err(|_| Fault::untrusted("the key's description is not JSON"))
    };
    let key = match client.get(&get, read) {
        Ok(key) => key,
        Err(Fault::Fatal(Failure { cause, error })) => match cause {
            Cause::Scope(_) | Cause::Access | Cause::Missing | Cause::Request | Cause::Untrusted => return Ok(None),
            _ => return Err(error),
        },
        Err(fault) => return Err(fault.into()),
    };
    let project = client.options().project_id;
    let teams: Vec<u64> = key["scoped_teams"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    if !teams.is_empty() && !teams.contains(&project) {
        let text = format!(
            "the key is restricted to the projects {teams:?}; add project {project} to it, or check project_id"
        );
        return Err(Error::new(Kind::Config, text));
    }
    let scopes = key["scopes"].as_array();
    Ok(scopes.map(|scopes| scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests;
