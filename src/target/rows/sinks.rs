//! The sinks of one stream, and which of them a record goes into: that of its place and partition.
//!
//! A partition is known by what stands in the record, so its folder is named once and not for each record.

use std::collections::HashMap;

use ahash::RandomState;

use super::partition;
use super::sink::{RowError, Sink};
use crate::json::scan::Scanner;
use crate::target::columns::schema::Misfits;
use crate::target::files::layout::Place;
use crate::target::settings::PartitionColumn;

/// Where rows go, and the partition there.
pub(super) type Route = (Place, String);

/// A sink among others.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) route: Route,
    pub(super) sink: Sink,
    /// Its bytes, as far as [`Streams::used`](super::streams::Streams) knows.
    pub(super) counted: usize,
    /// When records last began to go there.
    pub(super) used_at: u64,
}

/// Longer keys are not kept.
const MAX_KEY: usize = 512;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    slots: Vec<Slot>,
    by_route: HashMap<Route, usize, RandomState>,
    /// The same by what stands in records: several keys may mean one route.
    by_key: HashMap<Vec<u8>, usize, RandomState>,
    /// The key of the record in work, and that of the last one.
    key: Vec<u8>,
    last: Vec<u8>,
    /// The sink of the last record, if there is one.
    current: usize,
}

impl Sinks {
    /// Chooses the sink of a record that goes to `place`. If there is none yet, its route is returned: one has to be added.
    pub(super) fn choose(
        &mut self,
        place: Place,
        columns: &[PartitionColumn],
        misfits: Misfits,
        record: Scanner<'_>,
        clock: u64,
    ) -> Result<Option<Route>, RowError> {
        self.key.clear();
        partition::key(place, columns, record, &mut self.key)?;
        if self.key == self.last {
            return Ok(None);
        }
        let mut found = self.by_key.get(&self.key).copied();
        if found.is_none() {
            let route = (place, partition::folder(columns, misfits, record)?);
            found = self.by_route.get(&route).copied();
            if found.is_none() {
                return Ok(Some(route));
            }
        }
        self.go_to(found.unwrap_or_default(), clock);
        Ok(None)
    }

    /// Adds the sink that [`Sinks::choose`] asked for.
    pub(super) fn add(&mut self, slot: Slot) {
        let (index, clock) = (self.slots.len(), slot.used_at);
        self.by_route.insert(slot.route.clone(), index);
        self.slots.push(slot);
        self.go_to(index, clock);
    }

    fn go_to(&mut self, index: usize, clock: u64) {
        self.current = index;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.used_at = clock;
        }
        if self.key.len() <= MAX_KEY && !self.by_key.contains_key(&self.key) {
            if self.by_key.len() > 2 * self.slots.len() + 64 {
                self.by_key.clear();
            }
            self.by_key.insert(self.key.clone(), index);
        }
        std::mem::swap(&mut self.key, &mut self.last);
    }

    /// The columns that partitions are made of are others now.
    pub(super) fn forget_keys(&mut self) {
        self.by_key.clear();
        self.last.clear();
    }

    /// The sink of the last record.
    pub(super) fn current(&mut self) -> Option<&mut Slot> {
        self.slots.get_mut(self.current)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Slot> {
        self.slots.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Slot> {
        self.slots.iter_mut()
    }

    /// Takes out the sinks that are not to be kept.
    pub(super) fn forget(&mut self, keep: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let (kept, forgotten): (Vec<Slot>, Vec<Slot>) = self.slots.drain(..).partition(keep);
        if !forgotten.is_empty() {
            self.forget_keys();
            self.by_route = kept.iter().enumerate().map(|(index, slot)| (slot.route.clone(), index)).collect();
            self.current = usize::MAX;
        }
        self.slots = kept;
        forgotten
    }
}

impl Slot {
    pub(super) fn recount(&mut self, used: &mut usize) {
        let bytes = self.sink.footprint();
        *used = used.saturating_sub(self.counted) + bytes;
        self.counted = bytes;
    }
}
