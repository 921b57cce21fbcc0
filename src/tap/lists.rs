//! REST lists as streams. A list is always read to its end: most of them do not come in the order of their change, so a
//! reading that stopped at the first old item would miss the old item that changed today. What an incremental stream saves
//! is the records, not the few requests.
//!
//! Lists change while they are read. An item that moved onto a later page is written once (by its key); one that moved onto
//! an earlier page, behind the reader's back, is missed, so where the server says how many items there are, they are
//! counted, and a list of which fewer came is read again. A bookmark never passes the time at which the reading began, by the
//! server's clock, so that what changed meanwhile comes in the next run.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::rest;
use crate::singer::catalog::SelectedStream;
use crate::singer::output::Output;
use crate::singer::state::State;
use crate::time::{DAY_US, Day, Micros, SECOND_US, parse_rfc3339};

use super::config::CountProof;
use super::context::Context;
use super::progress::Progress;
use super::record::item::{Item, UNMAPPED, as_text, fits, is_text, write_record};
use super::record::table::Envelope;
use super::replication::{Extent, set_bookmark};
use super::stream::{List, Shape, find};
use super::tables::Sink;

/// The usual page of PostHog's lists.
const ITEMS_A_PAGE: u32 = 100;
/// Recordings go on for a day at most; one more because the day that is asked from is the project's, not UTC's.
const UNSETTLED_US: Micros = 2 * DAY_US;
/// A bookmark stays this far behind the beginning: a change may be seen a while after the time that it carries, and the
/// clocks of a cluster differ. What changed within it is read twice.
const MARGIN_US: Micros = 5 * 60 * SECOND_US;
/// Records written between two looks at whether the run should end.
const LOOK_ROWS: u64 = 16;
/// How often a list is read that seems to lack items, before that is held to be so.
const MAX_READINGS: u32 = 4;

type Pairs = Vec<(String, String)>;

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
    let row = find(&stream.id)?;
    let known = row.entry()?.schema;
    let known = known.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let given = stream.schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let mut reading = Reading {
        context,
        list,
        stream,
        keys: row.keys,
        unseen: given.filter(|name| !known.contains_key(*name) && *name != UNMAPPED).cloned().collect(),
        known,
        envelope: Envelope::new(&stream.name, extent.version, context.now),
        since: extent.since,
        newest: None,
        began: None,
        seen: HashMap::new(),
        pass: 0,
        progress: Progress::new(&stream.name, None, context.client.waits()),
        rows: 0,
    };
    reading.read(sink.output)?;
    reading.tell_unseen();
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
    /// What identifies an item, whatever the catalog takes as key.
    keys: &'static [&'static str],
    /// Every field that the stream is known to have, selected or not.
    known: Map<String, Value>,
    /// Fields that the catalog has besides, and that no item had so far.
    unseen: HashSet<String>,
    envelope: Envelope,
    since: Option<Micros>,
    /// The newest change seen.
    newest: Option<Micros>,
    /// When the reading began, by the server's clock.
    began: Option<Micros>,
    /// Hashes of the keys that came, and the pass in which they came last.
    seen: HashMap<u64, u32>,
    /// The current way through a list from its start to its end.
    pass: u32,
    progress: Progress,
    rows: u64,
}

impl Reading<'_> {
    fn read<W: Write>(&mut self, output: &mut Output<W>) -> Result<()> {
        let path = self.list.full_path(self.context.client.options().project_id);
        match self.list.shape {
            Shape::Pages => self.pages(&[], &[], output),
            Shape::AllowedFieldsOfObject => {
                let object = rest::object(self.context.client, &path, self.list.class)?;
                self.item(object.get(), &[], output)?;
                self.progress.add(1, self.rows);
                Ok(())
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

    /// The numbers of the group types; none where this PostHog has no groups.
    fn group_types(&self) -> Result<Vec<u64>> {
        let path = format!("api/projects/{}/groups_types/", self.context.client.options().project_id);
        let mut list = rest::List::new(self.context.client, path, &[], self.list.class, ITEMS_A_PAGE);
        let mut indexes = Vec::new();
        loop {
            match list.next_page() {
                Ok(None) => return Ok(indexes),
                Ok(Some(page)) => {
                    let parsed = page.items().filter_map(|item| serde_json::from_str::<Value>(item).ok());
                    indexes.extend(parsed.filter_map(|item| item["group_type_index"].as_u64()));
                }
                Err(Fault::Fatal(failure)) if failure.cause == Cause::Missing => return Ok(Vec::new()),
                // Without them the definitions of groups would vanish from the version that is made current.
                Err(fault) => return Err(Error::from(fault).context("property_definitions of groups")),
            }
        }
    }

    /// Reads one list until as many items came as the server counts. `added` are members that its items do not have
    /// themselves.
    fn pages<W: Write>(
        &mut self,
        query: &[(String, String)],
        added: &[(&str, String)],
        output: &mut Output<W>,
    ) -> Result<()> {
        let fixed = self.list.query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let query: Pairs = query.iter().cloned().chain(fixed).collect();
        let proof = self.context.config.events.count_proof;
        let mut text = String::new();
        for _ in 0..MAX_READINGS {
            let (items, counted) = self.pass(&query, added, output)?;
            if items >= counted || proof == CountProof::Off {
                return Ok(());
            }
            text = format!("{}: of {counted} items that PostHog counts {items} came", self.stream.name);
            log::debug(format!("{text}; the list is read again"));
        }
        if proof == CountProof::Strict {
            let advice = "run again; count_proof: warn goes on without the others";
            return Err(Error::new(
                Kind::Incomplete,
                format!("{text}, in the last of {MAX_READINGS} readings; {advice}"),
            ));
        }
        log::warn(text);
        Ok(())
    }

    /// Reads one list to its end once: how many items came, and how many there are as the server says.
    fn pass<W: Write>(
        &mut self,
        query: &[(String, String)],
        added: &[(&str, String)],
        output: &mut Output<W>,
    ) -> Result<(u64, u64)> {
        let path = self.list.full_path(self.context.client.options().project_id);
        let mut list = rest::List::new(self.context.client, path, query, self.list.class, ITEMS_A_PAGE);
        self.pass += 1;
        let done_before = self.progress.done();
        while let Some(page) = list.next_page().map_err(Error::from)? {
            self.context.stop.check()?;
            // That of the first way through: the others begin later.
            self.began = self.began.or(list.server_date().map(|seconds| seconds * SECOND_US));
            if list.counted() > 0 {
                self.progress.plan(done_before + list.counted());
            }
            let (read, rows_before) = (page.len() as u64, self.rows);
            let outcome = page.items().try_for_each(|item| self.item(item, added, output));
            self.progress.add(read, self.rows - rows_before);
            outcome?;
        }
        let came = self.seen.values().filter(|pass| **pass == self.pass).count();
        Ok((came as u64, list.counted()))
    }

    fn item<W: Write>(&mut self, item: &str, added: &[(&str, String)], output: &mut Output<W>) -> Result<()> {
        let broken = || Error::new(Kind::Service, format!("an item of {} is not an object", self.stream.id));
        let mut members: Item<'_> = serde_json::from_str(item).map_err(|_| broken())?;
        for (name, value) in added {
            members.insert((*name).to_owned(), serde_json::from_str(value).map_err(|_| broken())?);
        }
        if !self.is_new(&members)? {
            return Ok(());
        }
        let fields = &self.stream.schema["properties"];
        let text = |(name, value): (&String, &&RawValue)| Some((name.clone(), as_text(value)?));
        let of_text = members.iter().filter(|(name, _)| is_text(&fields[name.as_str()]));
        let texts: Vec<(String, Box<RawValue>)> = of_text.filter_map(text).collect();
        members.extend(texts.iter().map(|(name, text)| (name.clone(), &**text)));
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
        // A slow reader may take minutes for a page; a signal does not wait for them.
        if self.rows.is_multiple_of(LOOK_ROWS) { self.context.stop.check() } else { Ok(()) }
    }

    /// True for an item that changed since the bookmark and was not written before. Notes its key and change.
    fn is_new(&mut self, members: &Item<'_>) -> Result<bool> {
        if !self.is_secretive() {
            self.unseen.retain(|name| !members.contains_key(name));
        }
        let mut key = Vec::new();
        for name in self.keys.iter().copied().chain(self.stream.key_properties.iter().map(String::as_str)) {
            match members.get(name) {
                Some(value) if value.get() != "null" => key.push(value.get()),
                _ => {
                    let text = format!("an item of {} has no {name}", self.stream.id);
                    return Err(Error::new(Kind::Service, text));
                }
            }
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        if self.seen.insert(hash, self.pass).is_some() {
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
    /// aside; a field that was deselected is not. Of an object that also holds secrets, only what is known is passed on,
    /// whatever a catalog says.
    fn place(&self, name: &str, value: &RawValue) -> Place {
        let selected = &self.stream.schema["properties"];
        let aside = match selected.get(UNMAPPED) {
            Some(_) if !self.list.left_out.contains(&name) && !self.is_secretive() => Place::Unmapped,
            _ => Place::Nowhere,
        };
        match selected.get(name) {
            Some(_) if self.is_secretive() && !self.known.contains_key(name) => Place::Nowhere,
            Some(schema) if name != UNMAPPED && fits(schema, value.get()) => Place::Field,
            None if self.known.contains_key(name) => Place::Nowhere,
            _ => aside,
        }
    }

    fn is_secretive(&self) -> bool {
        self.list.shape == Shape::AllowedFieldsOfObject
    }

    /// A catalog may name a field that there is not.
    fn tell_unseen(&self) {
        if self.unseen.is_empty() || self.seen.is_empty() {
            return;
        }
        let mut names: Vec<&str> = self.unseen.iter().map(String::as_str).collect();
        names.sort_unstable();
        let names = names.join(", ");
        log::warn(format!("catalog, stream {}: no record has the fields {names}; check their names", self.stream.id));
    }

    fn keep_bookmark(&self, state: &mut State) {
        // This machine's clock where the server does not tell its own.
        let began = self.began.unwrap_or(self.context.now);
        let newest = self.newest.max(self.since).map(|newest| newest.min(began - MARGIN_US));
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

#[cfg(test)]
mod tests;
