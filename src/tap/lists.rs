//! REST lists as streams. A list is always read to its end: most of them do not come in the order of their change, so a
//! reading that stopped at the first old item would miss the old item that changed today. What an incremental stream saves
//! is the records, not the few requests.
//!
//! Lists change while they are read. An item that moved is seen once (by its key), and a bookmark never passes the time at
//! which the reading began, so that what changed behind its back comes in the next run.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;

use indexmap::IndexMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::rest;
use crate::posthog::time::{DAY_US, Day, Micros, parse_rfc3339};
use crate::singer::catalog::SelectedStream;
use crate::singer::message::Output;
use crate::singer::state::State;

use super::context::Context;
use super::extent::{Extent, set_bookmark};
use super::record::{Envelope, write_label};
use super::streams::{List, Shape, find};
use super::tables::Sink;

/// The usual page of PostHog's lists.
const ITEMS_A_PAGE: u32 = 100;
/// Recordings go on for a day at most; one more because the day that is asked from is the project's, not UTC's.
const UNSETTLED_US: Micros = 2 * DAY_US;
/// A clock may be off by this much; changes within it are read twice.
const CLOCKS_US: Micros = 5 * 60 * 1_000_000;

/// The field of what has no field of its own, as events have one for properties.
const UNMAPPED: &str = "unmapped_fields";

type Pairs = Vec<(String, String)>;
/// An item: its members as they were written.
type Item<'a> = IndexMap<String, &'a RawValue>;

/// Reads a list and writes it to `output`; gives the number of records.
///
/// # Errors
/// Whatever ended the reading early; then nothing is made current and the bookmark stays.
pub fn sync_stream<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    list: &'static List,
    extent: Extent,
    sink: &mut Sink<'_, W>,
) -> Result<u64> {
    let known = find(&stream.id)?.entry()?.schema;
    let mut reading = Reading {
        context,
        list,
        stream,
        known: known.get("properties").and_then(Value::as_object).cloned().unwrap_or_default(),
        envelope: Envelope::new(&stream.name, extent.version, context.now),
        since: extent.since,
        newest: None,
        seen: HashSet::new(),
        rows: 0,
    };
    reading.read(sink.output)?;
    match extent.version {
        Some(version) => sink.output.activate_version(&stream.name, version)?,
        None => reading.keep_bookmark(sink.state),
    }
    Ok(reading.rows)
}

struct Reading<'a> {
    context: &'a Context<'a>,
    list: &'static List,
    stream: &'a SelectedStream,
    /// Every field that the stream is known to have, selected or not.
    known: Map<String, Value>,
    envelope: Envelope,
    since: Option<Micros>,
    /// The newest change seen.
    newest: Option<Micros>,
    /// Hashes of the keys that were written.
    seen: HashSet<u64>,
    rows: u64,
}

impl Reading<'_> {
    fn read<W: Write>(&mut self, output: &mut Output<W>) -> Result<()> {
        let path = self.list.full_path(self.context.client.options().project_id);
        match self.list.shape {
            Shape::Pages => self.pages(&[], &[], output),
            Shape::AllowedFieldsOfObject => {
                let object = rest::object(self.context.client, &path, self.list.class)?;
                self.item(&object, &[], output)
            }
            Shape::Since => {
                let from = self.since.map_or(self.context.config.events.since, |since| since - UNSETTLED_US);
                let query = [("date_from".to_owned(), Day::of(from).to_string())];
                self.since = None;
                self.pages(&query, &[], output)
            }
            Shape::PerPropertyType => {
                for kind in ["event", "person", "session"] {
                    let query = [("type".to_owned(), kind.to_owned())];
                    self.pages(&query, &[("type", json!(kind).to_string())], output)?;
                }
                for index in self.group_types()? {
                    let query =
                        [("type".to_owned(), "group".to_owned()), ("group_type_index".to_owned(), index.to_string())];
                    let added = [("type", json!("group").to_string()), ("group_type_index", index.to_string())];
                    self.pages(&query, &added, output)?;
                }
                Ok(())
            }
        }
    }

    /// The numbers of the group types; none where the key may not read them.
    fn group_types(&self) -> Result<Vec<u64>> {
        let path = format!("api/projects/{}/groups_types/", self.context.client.options().project_id);
        let mut list = rest::List::new(self.context.client, path, &[], self.list.class, ITEMS_A_PAGE);
        let mut indexes = Vec::new();
        loop {
            match list.next_page() {
                Ok(None) => return Ok(indexes),
                Ok(Some(items)) => {
                    let parsed = items.iter().filter_map(|item| serde_json::from_str::<Value>(item.get()).ok());
                    indexes.extend(parsed.filter_map(|item| item["group_type_index"].as_u64()));
                }
                Err(Fault::Fatal(failure))
                    if matches!(failure.cause, Cause::Scope(_) | Cause::Access | Cause::Missing) =>
                {
                    log::warn("property_definitions: those of groups are left out, they need the scope group:read");
                    return Ok(Vec::new());
                }
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Reads one list to its end. `added` are members that its items do not have themselves.
    fn pages<W: Write>(
        &mut self,
        query: &[(String, String)],
        added: &[(&str, String)],
        output: &mut Output<W>,
    ) -> Result<()> {
        let path = self.list.full_path(self.context.client.options().project_id);
        let fixed = self.list.query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let query: Pairs = query.iter().cloned().chain(fixed).collect();
        let mut list = rest::List::new(self.context.client, path, &query, self.list.class, ITEMS_A_PAGE);
        while let Some(items) = list.next_page().map_err(Error::from)? {
            self.context.stop.check()?;
            for item in items {
                self.item(&item, added, output)?;
            }
        }
        Ok(())
    }

    fn item<W: Write>(&mut self, item: &RawValue, added: &[(&str, String)], output: &mut Output<W>) -> Result<()> {
        let broken = || Error::new(Kind::Service, format!("an item of {} is not an object", self.stream.id));
        let mut members: Item<'_> = serde_json::from_str(item.get()).map_err(|_| broken())?;
        for (name, value) in added {
            members.insert((*name).to_owned(), serde_json::from_str(value).map_err(|_| broken())?);
        }
        if !self.is_new(&members)? {
            return Ok(());
        }
        let mut unmapped = Item::new();
        members.retain(|name, value| match self.place(name, value) {
            Place::Field => true,
            Place::Unmapped => unmapped.insert(name.clone(), value).is_some(),
            Place::Nowhere => false,
        });
        let envelope = &self.envelope;
        output.line(|out| {
            envelope.write(out, |out| write_record(&members, &unmapped, out));
            Ok(())
        })?;
        self.rows += 1;
        Ok(())
    }

    /// True for an item that changed since the bookmark and was not written before. Notes its key and change.
    fn is_new(&mut self, members: &Item<'_>) -> Result<bool> {
        let mut key = Vec::new();
        for name in &self.stream.key_properties {
            match members.get(name.as_str()) {
                Some(value) if value.get() != "null" => key.push(value.get()),
                _ => {
                    let text = format!("an item of {} has no {name}", self.stream.id);
                    return Err(Error::new(Kind::Service, text));
                }
            }
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        if !self.seen.insert(hash) {
            return Ok(false);
        }
        let changed = self.stream.replication_key.as_deref().and_then(|field| members.get(field));
        let changed = changed
            .and_then(|value| serde_json::from_str::<String>(value.get()).ok())
            .and_then(|text| parse_rfc3339(&text));
        self.newest = self.newest.max(changed);
        // An item that does not tell its change may have changed.
        Ok(match (changed, self.since) {
            // The bookmark lies far enough behind the clock that nothing of its own instant can still appear.
            (Some(changed), Some(since)) => changed > since,
            _ => true,
        })
    }

    /// Where a member of an item goes. A field that PostHog added since, and a value that its field cannot hold, are kept
    /// aside; a field that was deselected is not.
    fn place(&self, name: &str, value: &RawValue) -> Place {
        let selected = &self.stream.schema["properties"];
        let aside = match selected.get(UNMAPPED) {
            Some(_) if !self.list.left_out.contains(&name) => Place::Unmapped,
            _ => Place::Nowhere,
        };
        match selected.get(name) {
            Some(schema) if name != UNMAPPED && fits(schema, value.get()) => Place::Field,
            None if self.known.contains_key(name) => Place::Nowhere,
            _ => aside,
        }
    }

    fn keep_bookmark(&self, state: &mut State) {
        let newest = self.newest.max(self.since).map(|newest| newest.min(self.context.now - CLOCKS_US));
        if let Some(newest) = newest {
            set_bookmark(state, self.stream, newest);
        }
    }
}

/// Where a member of an item goes.
enum Place {
    /// Into its own field.
    Field,
    /// Into the object of what has no field.
    Unmapped,
    Nowhere,
}

fn write_record(members: &Item<'_>, unmapped: &Item<'_>, out: &mut Vec<u8>) {
    write_members(members, out);
    if unmapped.is_empty() {
        return;
    }
    // Behind the last member: the object has its keys, so it is not empty.
    out.pop();
    out.push(b',');
    write_label(UNMAPPED, out);
    write_members(unmapped, out);
    out.push(b'}');
}

fn write_members(members: &Item<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_label(name, out);
        // As it was written, but on one line: raw values keep the white space between their parts.
        if value.get().contains(['\n', '\r']) {
            let value: Value = serde_json::from_str(value.get()).unwrap_or_default();
            out.extend_from_slice(value.to_string().as_bytes());
        } else {
            out.extend_from_slice(value.get().as_bytes());
        }
    }
    out.push(b'}');
}

/// Whether a value is of a type that its schema allows, and a time where it has to be one.
fn fits(schema: &Value, value: &str) -> bool {
    let kind = match value.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ if value.contains(['.', 'e', 'E']) => "number",
        _ => "integer",
    };
    let allowed = |kind: &str| match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => true,
    };
    let is_time = || serde_json::from_str::<String>(value).is_ok_and(|text| parse_rfc3339(&text).is_some());
    let right_kind = allowed(kind) || kind == "integer" && allowed("number");
    right_kind && (kind != "string" || schema["format"] != "date-time" || is_time())
}

#[cfg(test)]
mod tests;
