//! One discovery: the requests that it sends, in the order of what they are worth, and what it makes of the answers.

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::client::Client;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::hogql::{self, Column};
use crate::posthog::time::{Day, Micros};
use crate::singer::catalog::{SelectedStream, StreamEntry};
use crate::tap::arrival::{self, CREATED_AT, TIMESTAMP};
use crate::tap::config::{Config, PersonIds};
use crate::tap::flatten::Family;
use crate::tap::probe;
use crate::tap::project::Projection;
use crate::tap::properties::{self, Properties};
use crate::tap::record::TableRecord;
use crate::tap::streams::{List, STREAMS, Source, Stream, Table, fields};

use super::lacking::Lacking;
use super::unreadable::{Unreadable, left_out_for};
use super::{ATTEMPTS, LISTS_THAT_VARY, covers, scopes_of_key, try_list_times};

/// Requests that a discovery sends.
const MAX_REQUESTS: u32 = 20;
/// Requests that are kept for properties: a page of definitions of events and one of persons, or a refusal and two samples.
const FOR_PROPERTIES: u32 = 3;
/// The list that the columns of properties are taken from.
const DEFINITIONS: &str = "property_definitions";

/// What was found out, and what is known of the key.
pub(super) struct Discovery<'a> {
    client: &'a Client,
    config: &'a Config,
    now: Micros,
    /// What the key may do, where PostHog tells.
    scopes: Option<Vec<String>>,
    /// Scopes for want of which a request was refused: what else needs them is not asked for.
    refused: Vec<String>,
    /// The streams of a given catalog: their columns are probed too.
    chosen: &'a [SelectedStream],
    /// Properties become fields of the entries.
    pub(super) describes_properties: bool,
    /// What the fields of `persons` begin with then.
    pub(super) persons_prefix: &'a str,
    /// Their fields are not all that there could be: they say nothing about changes.
    pub(super) properties_are_partial: bool,
    /// The columns that were asked for and are not there.
    pub(super) lacking: Lacking,
    /// A query was answered: tables with nothing to probe need no proof of their own.
    can_query: bool,
    raw_tables_are_absent: bool,
    /// The key may read property definitions, as was seen.
    definitions_were_read: bool,
    requests_before: u64,
    requests_reserved: u32,
    /// Properties were made fields, or are not wanted.
    is_flat: bool,
    /// Lists that no request was left for.
    untried: Vec<&'static str>,
}

impl<'a> Discovery<'a> {
    pub(super) fn new(client: &'a Client, config: &'a Config, now: Micros) -> Result<Discovery<'a>> {
        let requests_before = client.usage().requests;
        let scopes = match scopes_of_key(client) {
            // Nice to know: what the key may do is tried then.
            Err(Fault::Fatal(Failure { cause: Cause::Server | Cause::Timeout, .. })) => None,
            other => other?,
        };
        Ok(Discovery {
            client,
            config,
            now,
            scopes,
            refused: Vec::new(),
            chosen: &[],
            describes_properties: true,
            persons_prefix: &config.properties.persons_prefix,
            properties_are_partial: false,
            lacking: Lacking::default(),
            can_query: false,
            raw_tables_are_absent: false,
            definitions_were_read: false,
            requests_before,
            requests_reserved: FOR_PROPERTIES,
            is_flat: false,
            untried: Vec::new(),
        })
    }

    /// The same for the streams of a given catalog.
    pub(super) fn chosen(self, chosen: &'a [SelectedStream]) -> Discovery<'a> {
        Discovery { chosen, ..self }
    }

    /// The entries of the streams that are `wanted` and can be read, by name.
    pub(super) fn entries(
        &mut self,
        wanted: impl Fn(&Stream) -> bool,
        unreadable: Unreadable,
    ) -> Result<Vec<StreamEntry>> {
        if !self.describes_properties || !self.config.properties.flatten {
            self.requests_reserved = 0;
        }
        let mut streams: Vec<&'static Stream> = STREAMS.iter().filter(|stream| wanted(stream)).collect();
        streams.sort_by_key(|stream| rank(stream));
        let (mut entries, mut left_out) = (Vec::new(), Vec::new());
        for stream in streams {
            if stream.name == DEFINITIONS {
                self.flatten_properties(&mut entries)?;
            }
            match self.entry(stream) {
                Ok(entry) => entries.push(entry),
                Err(fault) => {
                    self.note_refusal(&fault);
                    match left_out_for(stream, fault, unreadable)? {
                        Some(reason) => left_out.push(format!("{} ({reason})", stream.name)),
                        None => entries.push(stream.entry()?),
                    }
                }
            }
        }
        self.flatten_properties(&mut entries)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        // A run tries them itself.
        if !self.untried.is_empty() && unreadable == Unreadable::LeaveOut {
            log::warn(format!(
                "not tried, to end within {MAX_REQUESTS} requests: {}; a run shows whether they can be read",
                self.untried.join(", ")
            ));
        }
        if left_out.is_empty() {
            return Ok(entries);
        }
        let left_out = left_out.join("; ");
        if entries.is_empty() {
            let text = format!(
                "none of the streams can be read: {left_out}. Scopes are added to a key in PostHog, Settings, Personal API keys; \
                 most streams take query:read"
            );
            return Err(Error::new(Kind::Config, text));
        }
        log::warn(format!("left out: {left_out}"));
        Ok(entries)
    }

    /// Requests that may still be sent.
    fn requests_left(&self) -> u32 {
        let sent = self.client.usage().requests.saturating_sub(self.requests_before);
        MAX_REQUESTS.saturating_sub(u32::try_from(sent).unwrap_or(u32::MAX))
    }

    fn entry(&mut self, stream: &'static Stream) -> Result<StreamEntry, Fault> {
        if let Some(scope) = stream.scopes().find(|scope| !self.may(scope).unwrap_or(true)) {
            let text = format!("the key lacks the scope {scope}; add it in PostHog, Settings, Personal API keys");
            let error = Error::new(Kind::Config, text);
            return Err(Fault::Fatal(Failure { cause: Cause::Scope(scope.to_owned()), error }));
        }
        let mut entry = stream.entry().map_err(Fault::internal)?;
        match stream.source {
            Source::Events => self.events(stream, &mut entry)?,
            Source::Table(table) => self.table(stream, table, &mut entry)?,
            // Its items were read already.
            Source::List(_) if stream.name == DEFINITIONS && self.definitions_were_read => {}
            Source::List(list) => self.list(stream, list)?,
        }
        Ok(entry)
    }

    fn note_refusal(&mut self, fault: &Fault) {
        if let Fault::Fatal(Failure { cause: Cause::Scope(scope), .. }) = fault {
            self.refused.push(scope.clone());
        }
    }

    /// Whether the key has a scope, where that is known.
    fn may(&self, scope: &str) -> Option<bool> {
        if self.refused.iter().any(|refused| refused == scope) {
            return Some(false);
        }
        self.scopes.as_ref().map(|scopes| covers(scopes, scope))
    }

    /// The fields of a stream: those that it can have, and those that the given catalog wants of it.
    fn all_fields(&self, stream: &Stream, entry: &mut StreamEntry) -> Map<String, Value> {
        let mut all = fields(&mut entry.schema).cloned().unwrap_or_default();
        for chosen in self.chosen.iter().filter(|chosen| chosen.id == stream.name) {
            all.extend(chosen.schema["properties"].as_object().cloned().unwrap_or_default());
        }
        all
    }

    fn events(&mut self, stream: &'static Stream, entry: &mut StreamEntry) -> Result<(), Fault> {
        let all = self.all_fields(stream, entry);
        let joined = self.config.events.person_ids == PersonIds::Joined;
        let asked = Projection::new(&all, false, joined).columns().to_vec();
        // What the engine itself needs, and what no PostHog is without.
        let keys = Projection::new(&Map::new(), false, joined);
        let mut required: Vec<&str> = keys.columns().iter().map(|column| column.name.as_str()).collect();
        required.push("properties");
        let today = Day::of(self.now);
        let patience = &self.client.options().patience;
        let select = |columns: &[Column]| hogql::probe(columns, today);
        let present = probe::present(self.client, patience, asked.clone(), &required, select)?;
        self.can_query = true;
        let mut gone: Vec<String> =
            asked.iter().filter(|column| !present.contains(column)).map(|column| column.name.clone()).collect();
        if gone.iter().any(|name| name == CREATED_AT) {
            entry.valid_replication_keys.retain(|key| key != CREATED_AT);
            entry.replication_key = Some(TIMESTAMP.to_owned());
            if self.chosen.is_empty() {
                arrival::warn();
            } else {
                // What a given catalog makes of it is settled with the bookmark.
                gone.retain(|name| name != CREATED_AT);
            }
        }
        self.lacking.add(stream.name, gone);
        self.keep_fields(stream, entry);
        Ok(())
    }

    fn table(&mut self, stream: &'static Stream, table: &Table, entry: &mut StreamEntry) -> Result<(), Fault> {
        let all = self.all_fields(stream, entry);
        let known =
            fields(&mut entry.schema).map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let record = TableRecord::new(&all, |field| hogql::identifier(table.column(field)));
        let is_known = |column: &Column| known.contains(&column.name);
        if self.can_query && !table.varies && record.columns().iter().all(is_known) {
            return Ok(());
        }
        let present = self.columns_of(stream, table)?;
        let is_present = |column: &&Column| present.iter().any(|name| name == table.column(&column.name));
        let mut lacking: Vec<Column> = record.columns().iter().filter(|column| !is_present(column)).cloned().collect();
        // `*` does not show every column: what only the catalog knows of, and keys, are asked for by name.
        let is_key = |name: &str| {
            stream.keys.contains(&name) || stream.replication_keys.contains(&name) && !self.chosen.is_empty()
        };
        let (doubtful, sure) = lacking.drain(..).partition(|column| !is_known(column) || is_key(&column.name));
        lacking = sure;
        lacking.extend(self.confirm(table, &present, doubtful)?);
        self.lacking.add(stream.name, lacking.into_iter().map(|column| column.name));
        self.keep_fields(stream, entry);
        entry.valid_replication_keys.retain(|key| has_field(&entry.schema, key));
        entry.method_is_choice &= !entry.valid_replication_keys.is_empty();
        Ok(())
    }

    /// The columns that `*` shows of a table.
    fn columns_of(&mut self, stream: &Stream, table: &Table) -> Result<Vec<String>, Fault> {
        // Bounds where the table is made of events, so that nothing is read for it.
        let bounds = match stream.replication_keys.first().filter(|_| table.name == "sessions") {
            Some(key) => format!(" WHERE {} >= {}", hogql::identifier(key), hogql::datetime(self.now)),
            None => String::new(),
        };
        let patience = self.client.options().patience.at_most(ATTEMPTS);
        let ask = |name: &str| probe::all(self.client, &patience, &format!("SELECT * FROM {name}{bounds} LIMIT 0"));
        // The raw table has the same columns, and nothing is aggregated to answer.
        match table.raw.filter(|_| !self.raw_tables_are_absent).map(|raw| ask(raw.table)) {
            Some(Err(Fault::Fatal(failure))) if failure.cause == Cause::Request => {
                self.raw_tables_are_absent = true;
                ask(table.name)
            }
            Some(answer) => answer,
            None => ask(table.name),
        }
    }

    /// Those of the `doubtful` columns that the table has not, asked for by name.
    fn confirm(&self, table: &Table, present: &[String], doubtful: Vec<Column>) -> Result<Vec<Column>, Fault> {
        let Some(first) = present.first().filter(|_| !doubtful.is_empty()) else { return Ok(doubtful) };
        let patience = self.client.options().patience.at_most(ATTEMPTS);
        let mut asked = vec![Column { expression: hogql::identifier(first), name: first.clone() }];
        asked.extend(doubtful.iter().cloned());
        let select = |columns: &[Column]| format!("SELECT {} FROM {} LIMIT 0", hogql::column_list(columns), table.name);
        let found = probe::present(self.client, &patience, asked, &[first], select)?;
        Ok(doubtful.into_iter().filter(|column| !found.contains(column)).collect())
    }

    /// Asks for one item of a list, where only that shows that it can be read.
    fn list(&mut self, stream: &'static Stream, list: &List) -> Result<(), Fault> {
        if self.scopes.is_some() && !LISTS_THAT_VARY.contains(&stream.name) {
            return Ok(());
        }
        match self.requests_left().saturating_sub(self.requests_reserved) {
            0 => {
                self.untried.push(stream.name);
                Ok(())
            }
            left => try_list_times(self.client, list, left.min(ATTEMPTS)),
        }
    }

    /// Removes the fields from the schema that the server has no column for; keys and the replication key stay, whatever it
    /// says.
    fn keep_fields(&self, stream: &Stream, entry: &mut StreamEntry) {
        let Some(fields) = fields(&mut entry.schema) else { return };
        let is_key = |name: &str| stream.keys.contains(&name) || entry.replication_key.as_deref() == Some(name);
        let is_kept = |name: &str| !self.lacking.has(stream.name, name) || is_key(name);
        let gone: Vec<&str> = fields.keys().map(String::as_str).filter(|name| !is_kept(name)).collect();
        if !gone.is_empty() && self.chosen.is_empty() {
            log::info(format!("this PostHog has no {} in {}", gone.join(", "), stream.name));
        }
        fields.retain(|name, _| is_kept(name));
    }

    /// Gives the entries a field for each property. Done once, behind all other requests: how many are left decides how many
    /// definitions are read.
    fn flatten_properties(&mut self, entries: &mut [StreamEntry]) -> Result<()> {
        self.requests_reserved = 0;
        let is_done = std::mem::replace(&mut self.is_flat, true);
        if is_done || !self.describes_properties || !self.config.properties.flatten {
            return Ok(());
        }
        let is_there = |stream: &str, object: &str| {
            entries.iter().any(|entry| entry.name == stream && has_field(&entry.schema, object))
        };
        let objects: Vec<_> = OBJECTS.iter().filter(|(stream, object, _)| is_there(stream, object)).collect();
        let families = [Family::Event, Family::Person];
        let families =
            families.into_iter().filter(|wanted| objects.iter().any(|(.., family)| family == wanted)).collect();
        let properties = self.properties(families)?;
        for (stream, object, family) in objects {
            let Some(defined) = properties.get(family.index()) else { continue };
            let prefix = if *stream == "persons" { self.persons_prefix } else { object };
            let of_stream = entries.iter_mut().filter(|entry| entry.name == *stream);
            of_stream.for_each(|entry| flatten(entry, object, prefix, defined));
        }
        Ok(())
    }

    /// The properties of these families, by the number of the family.
    fn properties(&mut self, families: Vec<Family>) -> Result<[Properties; 2], Fault> {
        let max = self.config.properties.max_columns;
        if max == 0 || families.is_empty() {
            return Ok(Default::default());
        }
        // However many were sent before: without columns, every schema would change because a server was slow.
        let (client, allowed) = (self.client, self.requests_left().max(FOR_PROPERTIES));
        let before = client.usage().requests;
        let left = || allowed.saturating_sub(u32::try_from(client.usage().requests - before).unwrap_or(u32::MAX));
        if self.may("property_definition:read") == Some(false) {
            return self.sample("the key lacks the scope property_definition:read", &left);
        }
        let kinds: Vec<&str> = families.iter().map(|family| KINDS[family.index()]).collect();
        let defined = match properties::defined(self.client, &kinds, max, &left) {
            Err(fault) if is_no_definitions(&fault) => {
                self.note_refusal(&fault);
                return self.sample(&format!("property definitions cannot be read: {}", Error::from(fault)), &left);
            }
            defined => defined?,
        };
        self.definitions_were_read = true;
        self.properties_are_partial = defined.is_cut;
        let mut properties = <[Properties; 2]>::default();
        for (family, defined) in families.into_iter().zip(defined.properties) {
            properties[family.index()] = defined;
        }
        Ok(properties)
    }

    fn sample(&mut self, why: &str, left: &dyn Fn() -> u32) -> Result<[Properties; 2], Fault> {
        log::info(format!(
            "{why}; columns of properties are taken from a sample of events and may differ between runs"
        ));
        self.properties_are_partial = true;
        properties::sampled(self.client, self.config.properties.max_columns, self.now, left)
    }
}

/// The objects of properties, and whose they are.
const OBJECTS: [(&str, &str, Family); 3] = [
    ("events", "properties", Family::Event),
    ("events", "person_properties", Family::Person),
    ("persons", "properties", Family::Person),
];
/// What definitions call the families, by their number.
const KINDS: [&str; 2] = ["event", "person"];

/// The order in which streams are looked at. Events first: their probe says whether the key may query at all. Then what
/// differs between versions, then what a run reads anyway; the definitions that columns are made of at the end.
fn rank(stream: &Stream) -> u8 {
    match stream.source {
        Source::Events => 0,
        Source::Table(_) => 1,
        Source::List(_) if stream.name == DEFINITIONS => 5,
        Source::List(_) if LISTS_THAT_VARY.contains(&stream.name) => 2,
        Source::List(_) if stream.selected_by_default => 3,
        Source::List(_) => 4,
    }
}

/// Definitions cannot be had: no scope, no such path, or the list takes the server too long (it has a time limit of its own).
fn is_no_definitions(fault: &Fault) -> bool {
    let Fault::Fatal(Failure { cause, .. }) = fault else { return false };
    matches!(
        cause,
        Cause::Scope(_) | Cause::Access | Cause::Missing | Cause::Server | Cause::Timeout | Cause::Untrusted
    )
}

fn has_field(schema: &Value, name: &str) -> bool {
    schema["properties"].get(name).is_some()
}

/// Puts a column for each property, and the object of what has none, in the place of the object `object`; `prefix` stands
/// for it in their names.
pub(super) fn flatten(entry: &mut StreamEntry, object: &str, prefix: &str, defined: &Properties) {
    let Some(fields) = fields(&mut entry.schema) else { return };
    let mut flat = Map::new();
    for (name, schema) in std::mem::take(fields) {
        if name != object {
            flat.insert(name, schema);
            continue;
        }
        flat.extend(defined.iter().map(|(property, kind)| (format!("{prefix}_{property}"), kind.schema())));
        flat.insert(format!("unmapped_{prefix}"), json!({"type": ["null", "object"]}));
    }
    *fields = flat;
}
