//! Reads one slice of `events`, page by page, and proves its count.
//!
//! A page that the server refuses as too much is asked for in smaller parts along the key, then with fewer rows; never the
//! same text again. A page is believed only if its rows lie in the asked interval and in the order of the key.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Fault, TooMuch};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Incoming, OnSplit, Query};
use crate::posthog::query::hogql;
use crate::posthog::query::hogql::{Column, Cursor, Interval, Key, MAX_LIMIT, Range, RowKey};
use crate::posthog::query::page::{Page, Row};
use crate::stop::Stop;
use crate::time::{Day, Micros};

use super::buffers::Reservation;
use super::plan::{Count, Slice};
use super::verify::Check;
use crate::posthog::query::ask::{TEXTS, ask, ask_one};
use crate::tap::config::CountProof;
use crate::tap::page_size::SizeModel;
use crate::tap::record::cell::time;
use crate::tap::record::projection::column;

/// How often one row alone is asked for before it is held to be too large: the server may have been busy.
const ONE_ROW_ATTEMPTS: u32 = 3;
/// A slice of more pages than this is proved in parts, at one more query each: a run that ends inside it keeps what it read.
const PART_PAGES: u64 = 50;

/// The rows of one closed set on one server.
#[derive(Debug)]
pub struct Source<'a> {
    /// Where they are asked for.
    pub client: &'a Client,
    /// Which rows.
    pub range: Range,
    /// The columns of a page.
    pub columns: &'a [Column],
    /// The largest body that is read.
    pub max_response_bytes: usize,
    /// The user's bound on rows of one answer.
    pub page_size: Option<u32>,
    /// How strictly counts are proved.
    pub count_proof: CountProof,
    /// What answers of this run weigh.
    pub size: &'a Mutex<SizeModel>,
    /// Ends waits early.
    pub stop: &'a Stop,
}

/// A page, with what was computed of its rows while it was checked.
#[derive(Debug)]
pub struct ReadPage<'m> {
    /// The rows.
    pub page: Page,
    /// Of each row: its stored version's hash, and its arrival.
    pub notes: Vec<(u64, Micros)>,
    /// Where the slice goes on behind this page; none for its last page.
    pub next: Option<Cursor>,
    /// The slice is read a second time: rows may have been printed before.
    pub again: bool,
    /// The memory that the page holds.
    pub memory: Reservation<'m>,
}

impl ReadPage<'_> {
    /// Ends the page: its buffer is used for another one.
    pub fn release(mut self) {
        self.memory.put_buffer(self.page.into_buffer());
    }
}

/// What reading a slice gives, piece by piece.
#[derive(Debug)]
pub enum Piece<'m> {
    /// A page.
    Page(Box<ReadPage<'m>>),
    /// What was given so far is all that there is up to here.
    Proved(Cursor),
    /// The slice is read again from its start: its last page, which nobody has printed yet, comes again.
    Again,
}

/// How the count of a slice came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// As many rows as planned, or as counted afresh.
    Proved,
    /// Not compared, by the user's wish.
    Skipped,
    /// Rows are missing.
    Missing {
        /// Stored versions counted.
        counted: u64,
        /// Stored versions received.
        received: u64,
    },
}

impl Source<'_> {
    /// Reads a slice and hands its pages to `deliver`, in order; the last page is proved only by what this returns.
    ///
    /// # Errors
    /// Faults that asking for less does not help against, and what `deliver` returns.
    pub fn read_slice<'m>(
        &self,
        slice: &Slice,
        reserve: impl Fn() -> Result<Reservation<'m>>,
        deliver: &mut dyn FnMut(Piece<'m>) -> Result<()>,
    ) -> Result<Proof> {
        let mut versions: Vec<u64> = Vec::new();
        let (mut received, mut whole, mut counted_before) = (0, None, None);
        for again in [false, true] {
            received = 0;
            versions.clear();
            if again {
                deliver(Piece::Again)?;
            }
            let mut parts = Parts::new(self, slice);
            let mut pages = 0u64;
            while let Some((interval, limit)) = parts.next() {
                match self.read_page(&interval, limit, parts.on_split(), reserve()?) {
                    Ok(mut page) => {
                        page.again = again;
                        received += page.page.len() as u64;
                        versions.extend(page.notes.iter().map(|(version, _)| *version));
                        parts.done(page.next.as_ref());
                        page.next = parts.next().map(|(rest, _)| rest.from);
                        let next = page.next.clone();
                        deliver(Piece::Page(Box::new(page)))?;
                        pages += 1;
                        if let Some(next) = next.filter(|_| !again && pages.is_multiple_of(PART_PAGES))
                            && self.is_whole_until(&next, slice, (received, &versions), &mut whole)
                        {
                            deliver(Piece::Proved(next))?;
                        }
                    }
                    Err(Fault::Split(why)) => {
                        log::debug(format!("asking for less than {limit} rows: {why}"));
                        self.learn(|size| size.refused(parts.expected_rows().min(u64::from(limit))));
                        if !parts.narrow() {
                            return Err(self.too_large(&interval, &why));
                        }
                    }
                    Err(other) => return Err(other.into()),
                }
            }
            match self.prove(slice, received, &versions, counted_before)? {
                Proof::Missing { counted, .. } if !again => {
                    counted_before = Some(counted);
                    let day = slice.interval.from.key().day;
                    log::warn(format!(
                        "a slice of {day} gave {received} rows and its count says more; reading it again"
                    ));
                }
                proof => return Ok(proof),
            }
        }
        Ok(Proof::Missing { counted: slice.rows, received })
    }

    /// Rows per (event, bucket) of an interval.
    ///
    /// # Errors
    /// The fault, [`Fault::Split`] among them.
    pub fn count_buckets(&self, interval: &Interval, bits: u32) -> Result<Vec<Count>, Fault> {
        let sql = hogql::rows_per_bucket(&self.range, interval, bits);
        ask(self.client, &Query::new("plan of a day", &sql), &["day", "event", "bucket", "rows"], |row| {
            let day = Day::parse(row.text(0)?)?;
            Some(Count { day, event: row.text(1)?.to_owned(), bucket: row.cell(2).u64()?, rows: row.cell(3).u64()? })
        })
    }

    fn read_page<'m>(
        &self,
        interval: &Interval,
        limit: u32,
        on_split: OnSplit,
        mut memory: Reservation<'m>,
    ) -> Result<ReadPage<'m>, Fault> {
        let sql = hogql::page(&self.range, interval, self.columns, limit);
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let mut buffer = memory.take_buffer();
        let (mut rows, mut seconds) = (0, 0.0);
        let read = |incoming: &mut Incoming<'_>| {
            let mut check = Check::new(interval, self.range.by_arrival(), limit);
            let page = Page::read(&mut incoming.body, std::mem::take(&mut buffer), &names, |row| check.row(row));
            let (page, notes) = page.and_then(|page| Ok((page, check.end()?))).map_err(Fault::untrusted)?;
            (rows, seconds) = (page.len() as u64, incoming.timer.elapsed().as_secs_f64());
            Ok((page, notes))
        };
        let mut on_growth = |bytes| memory.resize(bytes, self.stop);
        let body = BodyLimit { max_bytes: self.max_response_bytes, on_growth: Some(&mut on_growth) };
        let query = Query { on_split, ..Query::new("events page", &sql) };
        let (page, notes) = self.client.query(&query, body, read)?;
        let (first, last) = (page.row(0), page.row(page.len().saturating_sub(1)));
        let event = first.text(column::EVENT).filter(|name| last.text(column::EVENT) == Some(name));
        self.learn(|size| {
            size.learn(event, rows, page.body_bytes() as u64);
            size.took(rows, seconds);
        });
        let full = page.len() == limit as usize;
        let next = if full { row_key(&last, &notes).map(Cursor::After) } else { None };
        if full && next.is_none() {
            return Err(Fault::untrusted("the last row of a page has no key"));
        }
        Ok(ReadPage { page, notes, next, again: false, memory })
    }

    /// `counted_before` are the versions that were counted between two readings.
    fn prove(&self, slice: &Slice, received: u64, versions: &[u64], counted_before: Option<u64>) -> Result<Proof> {
        if self.count_proof == CountProof::Off {
            return Ok(Proof::Skipped);
        }
        if received == slice.rows {
            return Ok(Proof::Proved);
        }
        let (rows, counted) = self.recount(&slice.interval)?;
        let distinct = distinct(versions);
        // Merged or deleted meanwhile: fewer rows are stored now than were received. Or more become visible all the time: then
        // all that was there before counts, and the rest is for the next run's overlap and ledger.
        let grows = counted_before.is_some_and(|before| before < counted && before <= distinct);
        let proved = rows == received || distinct >= counted || grows;
        Ok(if proved { Proof::Proved } else { Proof::Missing { counted, received: distinct } })
    }

    /// Rows and stored versions of an interval, as counted now.
    fn recount(&self, interval: &Interval) -> Result<(u64, u64)> {
        let sql = hogql::recount(&self.range, interval);
        let query = Query::new("count of a slice", &sql).reworded(TEXTS);
        let counted =
            ask_one(self.client, &query, &["rows", "versions"], |row| Some((row.cell(0).u64()?, row.cell(1).u64()?)));
        Ok(counted?)
    }

    /// True if what was received of a slice is all that lies before `next`: what was planned, without what is left. Or, because
    /// a version that is stored twice at the edge of a page comes once, all its versions (`whole`, once they were counted)
    /// without those that are left. A merge in between may make it false, and a count that fails does; the end of the slice
    /// tells more.
    fn is_whole_until(
        &self,
        next: &Cursor,
        slice: &Slice,
        (received, versions): (u64, &[u64]),
        whole: &mut Option<u64>,
    ) -> bool {
        if self.count_proof == CountProof::Off {
            return true;
        }
        let rest = Interval { from: next.clone(), to: slice.interval.to.clone() };
        let Ok((rows, left)) = self.recount(&rest) else { return false };
        if rows.checked_add(received) == Some(slice.rows) {
            return true;
        }
        if whole.is_none() {
            *whole = self.recount(&slice.interval).ok().map(|(_, versions)| versions);
        }
        let is_whole = *whole == Some(distinct(versions).saturating_add(left));
        // What became visible meanwhile is in the next count.
        *whole = whole.filter(|_| is_whole);
        is_whole
    }

    fn learn(&self, teach: impl FnOnce(&mut SizeModel)) {
        teach(&mut self.size.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The error for one row that is too large; the row is named by asking for its key alone.
    fn too_large(&self, interval: &Interval, why: &TooMuch) -> Error {
        let keys = &self.columns[..=column::HASH];
        let sql = hogql::page(&self.range, interval, keys, 1);
        let names: Vec<&str> = keys.iter().map(|column| column.name.as_str()).collect();
        let query = Query::new("key of a row", &sql);
        let row = ask(self.client, &query, &names, |row| Some(row.text(column::UUID)?.to_owned()));
        let row = row.ok().and_then(|rows| rows.into_iter().next()).unwrap_or_else(|| "unknown".to_owned());
        let day = interval.from.key().day;
        Error::new(
            Kind::Service,
            format!(
                "one event alone is too large to be read ({why}): uuid {row}, at or after {day}; raise max_response_mb, \
                 deselect properties, or leave its day out"
            ),
        )
    }
}

fn distinct(versions: &[u64]) -> u64 {
    versions.iter().collect::<HashSet<_>>().len() as u64
}

/// The key of the last row, as the server returned its parts.
fn row_key(row: &Row<'_>, notes: &[(u64, Micros)]) -> Option<RowKey> {
    let timestamp = time(row.cell(column::TIMESTAMP))?;
    Some(RowKey {
        key: Key {
            day: Day::of(timestamp),
            event: row.text(column::EVENT)?.to_owned(),
            hash: row.cell(column::HASH).u64()?,
        },
        timestamp,
        uuid: row.text(column::UUID)?.to_owned(),
        created_at: notes.last()?.1,
    })
}

/// The parts in which a slice is asked for: all of it at once, unless the server refuses.
struct Parts<'a> {
    slice: &'a Slice,
    cursor: Cursor,
    /// The units of the current part.
    first: usize,
    end: usize,
    limit: u32,
    max_limit: u32,
    finished: bool,
}

impl<'a> Parts<'a> {
    fn new(source: &Source<'_>, slice: &'a Slice) -> Self {
        let size = source.size.lock().unwrap_or_else(PoisonError::into_inner);
        let event = slice.units.first().map_or("", |unit| unit.from.event.as_str());
        // A slice of one unit may be over-full; one of several was packed to fit.
        let rows = if slice.units.len() <= 1 { slice.rows.min(size.rows_for(event)) } else { slice.rows };
        // Some room above the plan, so that a slice which grew a little is still one answer.
        let wanted = u32::try_from(rows + rows / 8 + 100).unwrap_or(MAX_LIMIT);
        let max_limit = wanted.min(source.page_size.unwrap_or(MAX_LIMIT)).clamp(1, MAX_LIMIT);
        let cursor = slice.interval.from.clone();
        Parts { slice, cursor, first: 0, end: slice.units.len(), limit: max_limit, max_limit, finished: false }
    }

    fn next(&self) -> Option<(Interval, u32)> {
        let interval = Interval { from: self.cursor.clone(), to: self.end_key() };
        (!self.finished).then_some((interval, self.limit))
    }

    fn end_key(&self) -> Option<Key> {
        match self.slice.units.get(self.end) {
            Some(unit) => Some(unit.from.clone()),
            None => self.slice.interval.to.clone(),
        }
    }

    fn expected_rows(&self) -> u64 {
        self.slice.units.get(self.first..self.end).unwrap_or(&[]).iter().map(|unit| unit.rows).sum()
    }

    /// Goes on behind a page; `behind` is its last row if it was full.
    fn done(&mut self, behind: Option<&Cursor>) {
        self.limit = self.limit.saturating_mul(2).min(self.max_limit);
        match (behind, self.slice.units.get(self.end)) {
            (Some(cursor), _) => {
                self.cursor = cursor.clone();
                // Units before the cursor are done: a later split must not go back behind it.
                let rest = self.slice.units.get(..self.end).unwrap_or(&[]);
                let current = rest.partition_point(|unit| unit.from <= *cursor.key()).saturating_sub(1);
                self.first = self.first.max(current);
            }
            (None, Some(unit)) => {
                self.cursor = Cursor::At(unit.from.clone());
                let width = self.end - self.first;
                self.first = self.end;
                self.end = (self.end + width * 2).min(self.slice.units.len());
            }
            (None, None) => self.finished = true,
        }
    }

    /// One row alone cannot be made smaller, but the server may have been busy.
    fn on_split(&self) -> OnSplit {
        let is_one_row = self.limit <= 1 && self.end - self.first <= 1;
        if is_one_row { OnSplit::Reword(ONE_ROW_ATTEMPTS) } else { OnSplit::Tell }
    }

    /// Asks for less: fewer units, then fewer rows. False when one row is already too much.
    fn narrow(&mut self) -> bool {
        if self.end - self.first > 1 {
            self.end = self.first + (self.end - self.first) / 2;
            return true;
        }
        let rows = u32::try_from(self.expected_rows().max(1)).unwrap_or(MAX_LIMIT);
        let less = self.limit.min(rows.max(2)) / 2;
        if self.limit <= 1 {
            return false;
        }
        self.limit = less.max(1);
        true
    }
}
