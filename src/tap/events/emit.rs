//! The printing half of a run of `events`: pages in, records and states out, and what the next run must know of them.
//!
//! A STATE vouches for every row before it: it goes out at the end of a slice whose count is proved, or of a proved part.

use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::query::hogql::Cursor;
use crate::posthog::query::page::Row;
use crate::singer::output::{LineText as _, Output};
use crate::singer::state::State;
use crate::stop::Cause;
use crate::time::{Micros, to_rfc3339};

use super::arrivals;
use super::arrivals::Hours;
use super::bookmark::{Bookmark, Pass};
use super::delivered::{Delivered, SeenBuilder};
use super::overlap::Seen;
use super::replication_key::CREATED_AT;
use super::slice::{Proof, ReadPage};
use super::{Events, Summary};
use crate::tap::config::{CountProof, PersonIds};
use crate::tap::pace::write_state;
use crate::tap::progress::Progress;
use crate::tap::record::cell::time;
use crate::tap::record::projection::{Projection, column};

/// STATE goes out at most this often, and at the end.
const STATE_EVERY: Duration = Duration::from_secs(5);
/// Rows printed between two looks for a signal.
const LOOK_ROWS: u64 = 16;

/// The printing half of a run: rows in, records and states out.
pub(super) struct Printer<'a, W: Write> {
    events: &'a Events<'a>,
    bookmark: &'a mut Bookmark,
    state: &'a mut State,
    output: &'a mut Output<W>,
    deduplicate: bool,
    pub(super) projection: Projection,
    pub(super) progress: Option<Progress>,
    /// What the last run delivered of the overlap, and the end of that overlap.
    seen: Seen,
    seen_uuids: HashSet<String>,
    seen_until: Micros,
    delivered: SeenBuilder,
    /// Versions since the last safe position that the overlap will name, those before it that the ledger will count, and
    /// whether any row was printed.
    unsafe_rows: Vec<Delivered>,
    unsafe_hours: Hours,
    is_unsafe: bool,
    /// Versions of the current slice that were noted, kept for the case that it is read twice.
    slice_versions: Vec<u64>,
    slice_set: HashSet<u64>,
    tail: Vec<u8>,
    last_state: Instant,
    /// There is a safe position that no STATE has said.
    is_unsaid: bool,
    told_about_state_size: bool,
    summary: Summary,
}

impl<'a, W: Write> Printer<'a, W> {
    pub(super) fn new(
        events: &'a Events<'a>,
        bookmark: &'a mut Bookmark,
        state: &'a mut State,
        output: &'a mut Output<W>,
    ) -> Result<Self> {
        let run = bookmark.run.as_ref();
        let (from, horizon) = run.map_or((Micros::MAX, Micros::MAX), |run| (run.seen_from, run.horizon));
        let mut delivered = SeenBuilder::new(from, horizon, events.max_state_bytes);
        if let Some(run) = run {
            delivered.resume(&Seen::decode(&run.seen)?, &run.seen_arrivals)?;
        }
        if run.is_some_and(|run| run.columns != events.columns_hash()) {
            log::warn("the selected fields changed while a run is half done; its remaining rows have the new fields");
        }
        let deduplicate = events.config.deduplicate;
        let seen = if deduplicate { Seen::decode(&bookmark.seen)? } else { Seen::default() };
        let seen_uuids = if deduplicate { bookmark.seen_uuids.iter().cloned().collect() } else { HashSet::new() };
        Ok(Printer {
            seen,
            seen_uuids,
            seen_until: bookmark.last_run().unwrap_or(Micros::MIN),
            projection: Projection::new(
                events.fields,
                bookmark.replication_key == CREATED_AT,
                events.config.person_ids == PersonIds::Joined,
            )
            .without(events.fields_off),
            deduplicate,
            events,
            bookmark,
            state,
            output,
            progress: None,
            delivered,
            unsafe_rows: Vec::new(),
            unsafe_hours: Vec::new(),
            is_unsafe: false,
            slice_versions: Vec::new(),
            slice_set: HashSet::new(),
            tail: Vec::new(),
            last_state: clock::now(),
            is_unsaid: false,
            told_about_state_size: false,
            summary: Summary::default(),
        })
    }

    pub(super) fn pass(&self) -> Option<Pass> {
        self.bookmark.run.as_ref()?.passes.first().cloned()
    }

    pub(super) fn horizon(&self) -> Micros {
        self.bookmark.run.as_ref().map_or(0, |run| run.horizon)
    }

    /// Prints the rows of a page.
    pub(super) fn print_page(&mut self, read: ReadPage<'_>) -> Result<()> {
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
        self.tail = format!(",\"time_extracted\":\"{now}\"}}").into_bytes();
        if read.again && self.slice_set.is_empty() {
            self.slice_set = self.slice_versions.iter().copied().collect();
        }
        let mut last = None;
        let mut printed = 0;
        for (row, &(version, arrived)) in read.page.rows().zip(&read.notes) {
            // The same stored version twice, not merged yet: neighbours, because arrival is the last part of the order.
            let repeated = last.replace(version) == Some(version);
            if self.slice_set.contains(&version) || self.deduplicate && repeated {
                continue;
            }
            // Also what an earlier run delivered: the overlaps of runs that follow each other closely overlap too. But once:
            // the ledger counts versions, and a merge of two rows of one would hide another that shows late.
            if !repeated {
                self.note(&row, arrived, version);
            }
            self.slice_versions.push(version);
            if self.deduplicate && self.is_known(&row, version, arrived) {
                continue;
            }
            self.print(&row)?;
            printed += 1;
        }
        let received = if read.again { 0 } else { read.page.len() as u64 };
        if let Some(progress) = &mut self.progress {
            progress.add(received, printed);
        }
        read.release();
        Ok(())
    }

    /// Remembers a version that is delivered, if it is recent enough to be asked for again.
    fn note(&mut self, row: &Row<'_>, arrived: Micros, version: u64) {
        let Some(run) = &self.bookmark.run else { return };
        if arrived < run.ledger.from.min(run.seen_from) {
            return;
        }
        let watched = self.bookmark.replication_key == CREATED_AT
            && time(row.cell(column::TIMESTAMP)).is_some_and(|timestamp| run.ledger.watches(arrived, timestamp));
        if arrived >= run.seen_from {
            self.unsafe_rows.push(Delivered { arrived, hash: version, watched });
        } else if watched {
            arrivals::note(&mut self.unsafe_hours, arrived);
        }
    }

    /// True if the last run delivered this version.
    fn is_known(&self, row: &Row<'_>, version: u64, arrived: Micros) -> bool {
        let named = |uuid| self.seen_uuids.contains(uuid);
        arrived < self.seen_until && (self.seen.contains(version) || row.text(column::UUID).is_some_and(named))
    }

    fn print(&mut self, row: &Row<'_>) -> Result<()> {
        let (projection, stream, tail) = (&mut self.projection, self.events.stream, &self.tail);
        self.output.long_line(|out| {
            out.extend_from_slice(b"{\"type\":\"RECORD\",\"stream\":\"");
            out.extend_from_slice(stream.as_bytes());
            out.extend_from_slice(b"\",\"record\":");
            projection.write(row, out);
            out.extend_from_slice(tail);
        })?;
        self.is_unsafe = true;
        self.summary.rows += 1;
        // A slow reader may take minutes for a page; a signal does not wait for them.
        if !self.summary.rows.is_multiple_of(LOOK_ROWS) {
            return Ok(());
        }
        match self.events.stop.cause() {
            Some(cause @ Cause::Signal(_)) => Err(cause.error()),
            _ => Ok(()),
        }
    }

    pub(super) fn slice_end(&mut self, to: Option<Cursor>, proof: Proof, last: Option<ReadPage<'_>>) -> Result<()> {
        self.summary.slices += 1;
        match proof {
            Proof::Proved => self.summary.proved += 1,
            Proof::Skipped => {}
            Proof::Missing { counted, received } => {
                let text = format!("a slice holds {counted} events and {received} of them were received, twice");
                if self.events.config.count_proof == CountProof::Strict {
                    let advice = "run again; count_proof: warn goes on without these rows";
                    return Err(Error::new(Kind::Incomplete, format!("{text}; {advice}")));
                }
                log::warn(text);
            }
        }
        if let Some(last) = last {
            self.print_page(last)?;
        }
        self.slice_versions.clear();
        self.slice_set.clear();
        match to {
            Some(cursor) => self.safe_at(cursor),
            None => Ok(()), // the end of the pass; `pass_done` follows
        }
    }

    pub(super) fn pass_done(&mut self) -> Result<()> {
        if let Some(progress) = &mut self.progress {
            progress.finish();
        }
        if let Some(run) = &mut self.bookmark.run {
            run.passes.remove(0);
        }
        self.settle();
        Ok(())
    }

    /// A part of a long slice is printed and proved. It is said at once: no safe position may come for a while.
    pub(super) fn part_end(&mut self, cursor: Cursor) -> Result<()> {
        self.go_on_at(cursor);
        self.write_state()?;
        self.events.stop.check()
    }

    /// Everything up to `cursor` is printed and proved: a run may go on from here.
    fn safe_at(&mut self, cursor: Cursor) -> Result<()> {
        self.go_on_at(cursor);
        if clock::since(self.last_state) >= STATE_EVERY {
            self.write_state()?;
        }
        self.events.stop.check()
    }

    fn go_on_at(&mut self, cursor: Cursor) {
        if let Some(pass) = self.bookmark.run.as_mut().and_then(|run| run.passes.first_mut()) {
            pass.cursor = Some(cursor);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.is_unsafe = false;
        self.is_unsaid = true;
        let Some(run) = &mut self.bookmark.run else { return };
        run.rows = self.summary.rows;
        run.ledger.note_all(std::mem::take(&mut self.unsafe_hours));
        for version in self.unsafe_rows.drain(..) {
            let in_overlap =
                if self.deduplicate { self.delivered.note(version) } else { version.arrived >= run.seen_from };
            if version.watched && !in_overlap {
                run.ledger.note(version.arrived);
            }
        }
        self.delivered.take_dropped().into_iter().for_each(|arrived| run.ledger.note(arrived));
    }

    /// Nothing comes for a while: the last safe position is said before a kill can take it back.
    pub(super) fn silence(&mut self) -> Result<()> {
        if self.is_unsaid && !self.is_unsafe && clock::since(self.last_state) >= STATE_EVERY {
            self.write_state()?;
        }
        Ok(())
    }

    fn write_state(&mut self) -> Result<()> {
        self.note_seen();
        self.state.set_bookmark(self.events.id, self.bookmark.to_value());
        self.last_state = clock::now();
        self.is_unsaid = false;
        write_state(self.state, self.events.client, self.output)
    }

    /// Puts what was delivered of the coming overlap into the bookmark.
    fn note_seen(&mut self) {
        if !self.deduplicate {
            return;
        }
        let listed = self.delivered.build();
        let Some(run) = &mut self.bookmark.run else { return };
        (run.seen, run.seen_arrivals) = (listed.seen, listed.arrivals);
        self.delivered.take_dropped().into_iter().for_each(|arrived| run.ledger.note(arrived));
        if listed.from > run.seen_from {
            run.seen_from = listed.from;
            run.ledger.cut = listed.from;
            if !std::mem::replace(&mut self.told_about_state_size, true) {
                log::warn(format!(
                    "more events arrived within lookback_window_minutes than max_state_bytes can name; the next run looks \
                     back to {} only",
                    to_rfc3339(listed.from)
                ));
            }
        }
    }

    /// Ends the run: with its horizon as bookmark, or, after a failure, at the last safe position.
    pub(super) fn end(mut self, outcome: Result<()>) -> Result<Summary> {
        if let Some(progress) = &mut self.progress {
            progress.finish();
        }
        match outcome {
            Ok(()) => {
                self.note_seen();
                self.bookmark.finish();
                self.state.set_bookmark(self.events.id, self.bookmark.to_value());
                write_state(self.state, self.events.client, self.output)?;
                Ok(self.summary)
            }
            // A STATE vouches for every row before it. Where rows behind the last safe position went out (a slice read twice),
            // or rows before it may not have (a failed write), an earlier STATE has to do.
            Err(error) if error.kind() == Kind::Stopped && self.is_unsafe => {
                Err(error.context("the rows behind the last STATE come again"))
            }
            Err(error) if matches!(error.kind(), Kind::Pipe | Kind::Disk) || self.is_unsafe => Err(error),
            Err(error) => {
                self.write_state()?;
                Err(error)
            }
        }
    }
}
