//! The writing half of a run of `events`: pages become records, safe places become states, and what the next run must know
//! of both is kept.
//!
//! A STATE vouches for every row before it: it goes out at the end of a slice whose count is proved.

use std::collections::HashSet;
use std::io::Write;

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::fingerprint;
use crate::log;
use crate::posthog::query::interval::Key;
use crate::posthog::query::page::Row;
use crate::posthog::query::text::Column;
use crate::singer::catalog::SelectedStream;
use crate::time::{Micros, to_rfc3339};

use super::arrivals;
use super::arrivals::Hours;
use super::bookmark::{Bookmark, ReadRange};
use super::overlap::{DedupWindow, Delivered, Overlap};
use super::page::ReadPage;
use super::replication_key::CREATED_AT;
use crate::tap::config::PersonIds;
use crate::tap::context::Context;
use crate::tap::record::cell::time;
use crate::tap::record::projection::{Projection, column};
use crate::tap::sink::Sink;

/// Writes the rows of a run.
pub(super) struct EventWriter<'a, 's, W: Write> {
    context: &'a Context<'a>,
    /// The stream's name in the state.
    id: &'a str,
    sink: &'a mut Sink<'s, W>,
    bookmark: &'a mut Bookmark,
    projection: Projection,
    /// What the last run delivered of the overlap (hashes, sorted), and the end of that overlap.
    known: Vec<u64>,
    known_uuids: HashSet<String>,
    known_until: Micros,
    /// What this run delivers of the coming overlap.
    window: DedupWindow,
    /// Versions since the last safe place that the overlap will name, and those before it that are counted by arrival.
    unsafe_rows: Vec<Delivered>,
    unsafe_hours: Hours,
    /// Versions of the current slice that were noted before its end, kept for the case that it is read twice. A slice is one
    /// page, as a rule, and the last page waits for the proof.
    noted: HashSet<u64>,
    is_state_size_told: bool,
}

/// A hash of the fields that a run reads.
pub(super) fn columns_hash(stream: &SelectedStream) -> String {
    let names: Vec<&String> =
        stream.schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
    fingerprint::of(&json!(names))
}

impl<'a, 's, W: Write> EventWriter<'a, 's, W> {
    pub(super) fn new(
        context: &'a Context<'a>,
        stream: &'a SelectedStream,
        bookmark: &'a mut Bookmark,
        sink: &'a mut Sink<'s, W>,
    ) -> Result<Self> {
        let config = &context.config.events;
        let run = bookmark.run.as_ref();
        let none = Overlap::new(Micros::MAX);
        let (overlap, horizon) = run.map_or((&none, Micros::MAX), |run| (&run.overlap, run.horizon));
        let window = DedupWindow::new(overlap, horizon, context.config.max_state_bytes)?;
        if run.is_some_and(|run| run.columns != columns_hash(stream)) {
            log::warn("the selected fields changed while a run is half done; its remaining rows have the new fields");
        }
        let last = bookmark.overlap.as_ref().filter(|_| config.deduplicate);
        let known = last.map(Overlap::hashes).transpose()?.unwrap_or_default();
        let uuids = bookmark.seen_uuids.iter().filter(|_| config.deduplicate);
        let known_uuids = uuids.cloned().collect();
        let none = Map::new();
        let fields = stream.schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let by_arrival = bookmark.replication_key == CREATED_AT;
        let projection = Projection::of_events(fields, by_arrival, config.person_ids == PersonIds::Joined);
        Ok(EventWriter {
            context,
            id: &stream.id,
            sink,
            known,
            known_uuids,
            known_until: bookmark.last_run().unwrap_or(Micros::MIN),
            projection: projection
                .without(&stream.fields_off)
                .keeping_lone_surrogates(context.config.keeps_lone_surrogates),
            bookmark,
            window,
            unsafe_rows: Vec::new(),
            unsafe_hours: Vec::new(),
            noted: HashSet::new(),
            is_state_size_told: false,
        })
    }

    /// The range that is read now; none at the end of the run.
    pub(super) fn range(&self) -> Option<ReadRange> {
        self.bookmark.run.as_ref()?.ranges.first().cloned()
    }

    pub(super) fn horizon(&self) -> Micros {
        self.bookmark.run.as_ref().map_or(0, |run| run.horizon)
    }

    /// The columns that are asked for.
    pub(super) fn columns(&self) -> &[Column] {
        self.projection.columns()
    }

    pub(super) fn begin_range(&mut self, planned: u64) {
        self.sink.begin_progress(Some(planned));
    }

    /// Writes the rows of a page.
    pub(super) fn write_page(&mut self, read: ReadPage<'_>) -> Result<()> {
        self.sink.set_extracted(chrono::Utc::now().timestamp_micros());
        let deduplicate = self.context.config.events.deduplicate;
        let mut last = None;
        let before = self.sink.rows();
        for (row, &(version, arrived)) in read.page.rows().zip(&read.notes) {
            // The same stored version twice, not merged yet: neighbours, because arrival is the last part of the order.
            let repeated = last.replace(version) == Some(version);
            if read.is_again && self.noted.contains(&version) || deduplicate && repeated {
                continue;
            }
            // Also what an earlier run delivered: the overlaps of runs that follow each other closely overlap too. But once:
            // versions are counted by arrival, and a merge of two rows of one would hide another that shows late.
            if !repeated {
                self.note(&row, arrived, version);
            }
            if !read.is_again && !read.is_last {
                self.noted.insert(version);
            }
            if deduplicate && self.is_known(&row, version, arrived) {
                continue;
            }
            let projection = &mut self.projection;
            self.sink.long_record(|out| projection.write(&row, out))?;
        }
        let received = if read.is_again { 0 } else { read.page.len() as u64 };
        self.sink.count(received, self.sink.rows() - before);
        read.release();
        Ok(())
    }

    /// Remembers a version that is delivered, if it is recent enough to be asked for again.
    fn note(&mut self, row: &Row<'_>, arrived: Micros, version: u64) {
        let Some(run) = &self.bookmark.run else { return };
        if arrived < run.arrivals.from.min(run.overlap.from) {
            return;
        }
        let watched = self.bookmark.replication_key == CREATED_AT
            && time(row.cell(column::TIMESTAMP)).is_some_and(|timestamp| run.arrivals.watches(arrived, timestamp));
        if arrived >= run.overlap.from {
            self.unsafe_rows.push(Delivered { arrived, hash: version, watched });
        } else if watched {
            arrivals::note(&mut self.unsafe_hours, arrived);
        }
    }

    /// True if the last run delivered this version.
    fn is_known(&self, row: &Row<'_>, version: u64, arrived: Micros) -> bool {
        let named = |uuid| self.known_uuids.contains(uuid);
        arrived < self.known_until
            && (self.known.binary_search(&version).is_ok() || row.text(column::UUID).is_some_and(named))
    }

    /// A slice is written, and nothing of it is missing.
    pub(super) fn end_slice(&mut self, to: Option<Key>, is_proved: bool) -> Result<()> {
        self.sink.count_slice(is_proved);
        self.noted = HashSet::new();
        // Behind the last slice the end of the range follows.
        let Some(to) = to else { return Ok(()) };
        self.mark_safe(Some(to));
        if self.sink.is_state_due() {
            self.write_state()?;
        }
        self.context.stop.check()
    }

    pub(super) fn end_range(&mut self) -> Result<()> {
        self.sink.end_progress();
        if let Some(run) = &mut self.bookmark.run {
            run.ranges.remove(0);
        }
        self.mark_safe(None);
        Ok(())
    }

    /// Nothing comes for a while: the last safe place is said before a kill can take it back.
    pub(super) fn idle(&mut self) -> Result<()> {
        if self.sink.is_unsaid_place_due() { self.write_state() } else { Ok(()) }
    }

    /// Everything before `cursor` is written and proved; without one, everything of the ranges before the current one.
    fn mark_safe(&mut self, cursor: Option<Key>) {
        self.sink.mark_safe();
        let Some(run) = &mut self.bookmark.run else { return };
        if let (Some(cursor), Some(range)) = (cursor, run.ranges.first_mut()) {
            range.cursor = Some(cursor);
        }
        run.arrivals.note_all(std::mem::take(&mut self.unsafe_hours));
        let deduplicate = self.context.config.events.deduplicate;
        for version in self.unsafe_rows.drain(..) {
            let in_overlap = if deduplicate { self.window.note(version) } else { version.arrived >= run.overlap.from };
            if version.watched && !in_overlap {
                run.arrivals.note(version.arrived);
            }
        }
        run.arrivals.note_all(self.window.take_dropped());
    }

    fn write_state(&mut self) -> Result<()> {
        self.keep_bookmark();
        self.sink.write_state()
    }

    fn keep_bookmark(&mut self) {
        self.keep_overlap();
        self.sink.state().set_bookmark(self.id, self.bookmark.to_value());
    }

    /// Puts what was delivered of the coming overlap into the bookmark.
    fn keep_overlap(&mut self) {
        let deduplicate = self.context.config.events.deduplicate;
        let Some(run) = self.bookmark.run.as_mut().filter(|_| deduplicate) else { return };
        let last_from = run.overlap.from;
        run.overlap = self.window.overlap();
        if run.overlap.from == last_from {
            return;
        }
        run.arrivals.cut = run.overlap.from;
        if !std::mem::replace(&mut self.is_state_size_told, true) {
            log::warn(format!(
                "more events arrived within lookback_window_minutes than max_state_bytes can name; the next run looks back to \
                 {} only",
                to_rfc3339(run.overlap.from)
            ));
        }
    }

    /// Ends the run: with its horizon as bookmark, or, after a failure, at the last safe place.
    pub(super) fn end(mut self, outcome: Result<()>) -> Result<()> {
        self.sink.end_progress();
        self.sink.note_exceptions(self.projection.exceptions());
        match outcome {
            Ok(()) => {
                self.keep_overlap();
                self.bookmark.finish();
                self.sink.state().set_bookmark(self.id, self.bookmark.to_value());
                self.sink.write_state()
            }
            Err(error) => {
                if self.sink.may_say_after(&error) {
                    self.keep_bookmark();
                    self.sink.mark_safe();
                }
                Err(error)
            }
        }
    }
}
