//! Items of a list: which of them are written, and where their members go.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::singer::catalog::SelectedStream;
use crate::singer::state::State;
use crate::tap::record::exceptions::Exceptions;
use crate::tap::record::item::{Item, ItemProjection, UNMAPPED};
use crate::tap::replication::set_bookmark;
use crate::tap::sink::Sink;
use crate::tap::stream::{List, Shape, find};
use crate::time::{Micros, SECOND_US, parse_rfc3339};

/// A bookmark stays this far behind the beginning of a reading: a change may be seen a while after the time that it carries,
/// and the clocks of a cluster differ. What changed within it is read twice.
const MARGIN_US: Micros = 5 * 60 * SECOND_US;

/// What is known of the items of one reading.
pub(super) struct Items<'a> {
    stream: &'a SelectedStream,
    has_schema: bool,
    projection: ItemProjection<'a>,
    /// What identifies an item, whatever the catalog takes as key.
    keys: &'static [&'static str],
    /// Fields that the catalog has besides, and that no item had so far.
    unseen: HashSet<String>,
    /// Items that did not change after this time are not written.
    since: Option<Micros>,
    /// The newest change seen.
    newest: Option<Micros>,
    /// Hashes of the keys that came.
    seen: HashSet<u64>,
    /// Those of the current way through a list from its start to its end; none where these are all that came.
    seen_in_pass: Option<HashSet<u64>>,
}

impl<'a> Items<'a> {
    /// No item of `stream` was read yet.
    pub(super) fn new(stream: &'a SelectedStream, list: &'static List, since: Option<Micros>) -> Result<Items<'a>> {
        let row = find(&stream.id)?;
        let known = row.entry()?.schema;
        let known = known.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let given = stream.schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        Ok(Items {
            stream,
            has_schema: false,
            keys: row.keys,
            unseen: given.filter(|name| !known.contains_key(*name) && *name != UNMAPPED).cloned().collect(),
            projection: ItemProjection {
                fields: &stream.schema["properties"],
                known,
                left_out: list.left_out,
                is_secretive: list.shape == Shape::AllowedFieldsOfObject,
                unfit: IndexMap::new(),
            },
            since,
            newest: None,
            seen: HashSet::new(),
            seen_in_pass: None,
        })
    }

    /// The name of the stream.
    pub(super) fn stream(&self) -> &str {
        &self.stream.name
    }

    /// Whether the SCHEMA is written: the list is there.
    pub(super) fn has_schema(&self) -> bool {
        self.has_schema
    }

    /// Writes the SCHEMA, once.
    pub(super) fn write_schema<W: Write>(&mut self, sink: &mut Sink<'_, W>) -> Result<()> {
        if std::mem::replace(&mut self.has_schema, true) { Ok(()) } else { sink.write_schema(self.stream) }
    }

    /// What the records that were written do not hold as it came.
    pub(super) fn exceptions(&self) -> Exceptions {
        self.projection.exceptions()
    }

    /// From now on every item is written, however old its change is. Gives the bound that there was.
    pub(super) fn forget_since(&mut self) -> Option<Micros> {
        self.since.take()
    }

    /// Begins another way through a list.
    pub(super) fn begin_pass(&mut self) {
        self.seen_in_pass = (!self.seen.is_empty()).then(HashSet::new);
    }

    /// How many items came in this way through the list.
    pub(super) fn came_in_pass(&self) -> u64 {
        self.seen_in_pass.as_ref().unwrap_or(&self.seen).len() as u64
    }

    /// Keeps the newest change that was read, now or before, as bookmark; nothing where no item tells. `began` is when the
    /// reading began.
    pub(super) fn keep_bookmark(&self, began: Micros, state: &mut State) {
        if let Some(newest) = self.newest.max(self.since) {
            set_bookmark(state, self.stream, newest.min(began - MARGIN_US));
        }
    }

    /// Writes an item with `added` members, if it is new. True if this way through the list has not brought it before.
    pub(super) fn write<W: Write>(
        &mut self,
        item: &[u8],
        added: &[(&str, String)],
        sink: &mut Sink<'_, W>,
    ) -> Result<bool> {
        let broken = || Error::new(Kind::Service, format!("an item of {} is not an object", self.stream.id));
        let mut members: Item<'_> = serde_json::from_slice(item).map_err(|_| broken())?;
        for (name, value) in added {
            members.insert((*name).to_owned(), serde_json::from_str(value).map_err(|_| broken())?);
        }
        let hash = self.hash_of_key(&members)?;
        let is_new = self.seen.insert(hash);
        if is_new && self.has_changed(&members) {
            self.write_schema(sink)?;
            let projection = &mut self.projection;
            sink.long_record(|out| projection.write(&members, out))?;
        }
        Ok(self.seen_in_pass.as_mut().map_or(is_new, |seen| seen.insert(hash)))
    }

    /// A hash of the key of an item. Notes its fields.
    fn hash_of_key(&mut self, members: &Item<'_>) -> Result<u64> {
        if !self.projection.is_secretive {
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
        Ok(BuildHasherDefault::<DefaultHasher>::default().hash_one(key))
    }

    /// True for an item that changed since the bookmark. Notes its change.
    fn has_changed(&mut self, members: &Item<'_>) -> bool {
        let changed = self.stream.replication_key.as_deref().and_then(|field| members.get(field));
        let changed = changed
            .and_then(|value| serde_json::from_str::<String>(value.get()).ok())
            .and_then(|text| parse_rfc3339(&text));
        self.newest = self.newest.max(changed);
        // An item that does not tell its change may have changed.
        match (changed, self.since) {
            // The bookmark lies far enough behind the clock that nothing of its own instant can still appear.
            (Some(changed), Some(since)) => changed > since,
            _ => true,
        }
    }

    /// A catalog may name a field that there is not.
    pub(super) fn tell_unseen(&self) {
        if self.unseen.is_empty() || self.seen.is_empty() {
            return;
        }
        let mut names: Vec<&str> = self.unseen.iter().map(String::as_str).collect();
        names.sort_unstable();
        let names = names.join(", ");
        log::warn(format!("catalog, stream {}: no record has the fields {names}; check their names", self.stream.id));
    }
}
