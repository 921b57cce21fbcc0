//! HogQL tables that are read in the order of their key, whole or from a time on: persons, distinct ids, groups, members of cohorts.
//!
//! The raw tables are read where the key may: they are stored in the order of the walk, so every page costs its own rows,
//! while a page of the lazy tables makes ClickHouse aggregate all of them. In exchange the newest version of each key is
//! chosen here, and what was deleted or merged away is dropped here. A reading has a version of its own, which is made the
//! current one behind its last record: an interrupted reading replaces nothing, nor does one of which rows are missing
//! (`tables/proof.rs`).

use std::io::Write;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault, TooMuch};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::Query;
use crate::posthog::query::hogql;
use crate::posthog::query::hogql::MAX_LIMIT;
use crate::posthog::query::keyset::{KeyPart, Place, Walk};
use crate::posthog::query::page::{Cell, Page, Row};
use crate::singer::catalog::SelectedStream;
use crate::singer::output::Output;
use crate::singer::state::State;
use crate::time::HOUR_US;

use super::context::Context;
use super::events::window::server_time;
use super::pace::write_state;
use super::page_size::SizeModel;
use super::progress::Progress;
use super::record::table::{Envelope, TableRecord, time_of};
use super::replication::{Extent, set_bookmark};
use super::stream::{Raw, Table};

mod proof;
pub mod sessions;

use proof::Count;
pub use proof::Lack;

/// A state that says nothing new still lets a target commit what it has.
const STATE_EVERY: Duration = Duration::from_secs(5);
/// Rows printed between two looks at whether the run should end: a slow reader may take minutes for a page.
const STOP_LOOK_ROWS: u64 = 16;

/// Reads a table and writes it to `output`; gives the number of records.
///
/// # Errors
/// Whatever ended the reading early.
pub fn sync_stream<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    table: &'static Table,
    extent: Extent,
    sink: &mut Sink<'_, W>,
) -> Result<u64> {
    let mut reading = Reading::new(context, table, stream, extent.version);
    let started = if extent.version.is_none() { server_time(context.client)? } else { 0 };
    // `last_seen_at` is rounded to the hour, and shows after a while; it is null where PostHog did not note it: such a row
    // may have changed.
    let overlap = HOUR_US + context.config.events.lookback_us;
    let condition = extent.since.map_or_else(String::new, |since| {
        let key = hogql::identifier(table.column(stream.replication_key.as_deref().unwrap_or_default()));
        format!("({key} >= {} OR {key} IS NULL)", hogql::datetime(since - overlap))
    });
    let raw = if condition.is_empty() { table.raw.filter(|raw| reading.has(raw)) } else { None };
    reading.proved(sink, |reading, sink| {
        let lack = match raw {
            Some(raw) => reading.read_raw(&raw, sink)?,
            None => None,
        };
        let lack = lack.map_or_else(|| reading.read(table.name, &condition, sink), Ok)?;
        // Also where something is lacking: with `count_proof: warn` this reading may be the one that counts.
        let also = table.also.map(|also| reading.read_if_known(also, &condition, sink)).transpose()?;
        Ok(Lack(lack.0.or(also.and_then(|also| also.0))))
    })?;
    match reading.version {
        Some(version) => sink.output.activate_version(&stream.name, version)?,
        None => set_bookmark(sink.state, stream, started),
    }
    Ok(reading.rows)
}

/// Where rows and states go.
pub struct Sink<'a, W: Write> {
    /// What a state holds.
    pub state: &'a mut State,
    /// Standard output.
    pub output: &'a mut Output<W>,
}

/// Where the columns that tell versions of one key apart are.
#[derive(Clone, Copy, Debug)]
struct Versions {
    version: usize,
    deleted: Option<usize>,
    /// The order that puts the one that counts first.
    order: &'static str,
}

/// One reading of a table.
pub struct Reading<'a> {
    context: &'a Context<'a>,
    key: Vec<KeyPart>,
    record: TableRecord,
    envelope: Envelope,
    size: SizeModel,
    versions: Option<Versions>,
    last_state: Instant,
    progress: Progress,
    stream: String,
    /// What the records of this reading carry; another one in each further reading.
    version: Option<i64>,
    /// Why rows are not counted, and whether that was said.
    uncounted: Option<String>,
    told_uncounted: bool,
    /// True while the caller can ask for less in another way than by fewer rows: then a split is the caller's.
    pub narrows: bool,
    /// Records written.
    pub rows: u64,
}

impl<'a> Reading<'a> {
    /// A reading of `table` with the fields of `stream`.
    #[must_use]
    pub fn new(context: &'a Context<'a>, table: &Table, stream: &SelectedStream, version: Option<i64>) -> Self {
        let none = Map::new();
        let fields = stream.schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let part = |(field, kind): &(&'static str, _)| KeyPart { field, column: table.column(field), kind: *kind };
        Reading {
            context,
            key: table.key.iter().map(part).collect(),
            record: TableRecord::new(fields, |field| hogql::identifier(table.column(field)))
                .without(&stream.fields_off),
            envelope: Envelope::new(&stream.name, version, context.now),
            size: SizeModel::new(context.config.events.page_size),
            versions: None,
            last_state: clock::now(),
            progress: Progress::new(&stream.name, None, context.client.waits()),
            stream: stream.name.clone(),
            version,
            uncounted: None,
            told_uncounted: false,
            narrows: false,
            rows: 0,
        }
    }

    fn has(&self, raw: &Raw) -> bool {
        raw.needs.is_none_or(|field| self.record.columns().iter().any(|column| column.name == field))
    }

    /// Reads the raw table; none if the server refuses it.
    fn read_raw<W: Write>(&mut self, raw: &Raw, sink: &mut Sink<'_, W>) -> Result<Option<Lack>> {
        let plain = self.record.columns().len();
        self.versions = Some(Versions {
            version: self.record.ask(raw.version.to_owned(), raw.version),
            deleted: raw.deleted.map(|column| self.record.ask(column.to_owned(), column)),
            order: raw.order,
        });
        match self.read(raw.table, "", sink) {
            Ok(lack) => Ok(Some(lack)),
            Err(Refused::Table(failure)) if self.rows == 0 => {
                let why = failure.error;
                log::info(format!("{} cannot be read, its aggregated table costs more: {why}", raw.table));
                self.record.forget_columns(plain);
                self.versions = None;
                self.uncounted = None;
                Ok(None)
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Reads a table that this PostHog may not have. Refused for any other reason, it is not passed over: the version that
    /// is made current would lack its rows.
    fn read_if_known<W: Write>(&mut self, table: &str, condition: &str, sink: &mut Sink<'_, W>) -> Result<Lack> {
        match self.read(table, condition, sink) {
            Err(Refused::Table(failure)) if failure.cause == Cause::UnknownTable => {
                log::info(format!("{}: this PostHog has no table {table}, its rows are not among them", self.stream));
                Ok(Lack(None))
            }
            outcome => Ok(outcome?),
        }
    }

    /// Reads the rows of `table` that meet `condition`, in the order of the key, and says what is lacking.
    ///
    /// # Errors
    /// [`Refused::Table`] when the first page is refused as it stands, [`Refused::Split`] where the caller can narrow.
    pub fn read<W: Write>(&mut self, table: &str, condition: &str, sink: &mut Sink<'_, W>) -> Result<Lack, Refused> {
        let (columns, key) = (self.record.columns().to_vec(), self.key.clone());
        let walk = Walk { table, columns: &columns, key: &key, condition };
        let counted = self.count(&walk)?;
        let received = self.walk(&walk, counted, sink)?;
        self.prove(&walk, counted, received)
    }

    /// Goes from page to page. A page with fewer rows than were asked for is not the last one for that: a server may give
    /// fewer. The walk ends where nothing follows, or where as much came as was counted.
    fn walk<W: Write>(
        &mut self,
        walk: &Walk<'_>,
        counted: Option<Count>,
        sink: &mut Sink<'_, W>,
    ) -> Result<Count, Refused> {
        let (mut place, mut received, mut was_empty) = (Place::Start, Count::default(), false);
        loop {
            let (page, limit) = self.page(walk, &place)?;
            if page.is_empty() {
                // An answer may have lost its rows: what is not counted, or contradicts the count, is asked twice.
                if was_empty || !self.doubts(counted, received) {
                    return Ok(received);
                }
                was_empty = true;
                continue;
            }
            was_empty = false;
            let is_last = page.len() < limit as usize
                && counted.is_some_and(|counted| received.and(self.count_of(&page)).covers(counted));
            let before = self.rows;
            let next = self.write_page(walk, &page, is_last, &mut received, sink);
            self.progress.add(self.rows - before, self.rows - before);
            let Some(next) = next? else { return Ok(received) };
            if next == place {
                let text = format!("{} does not go on behind a page of {limit} rows; try again", walk.table);
                return Err(Error::new(Kind::Service, text).into());
            }
            place = next;
            if clock::since(self.last_state) >= STATE_EVERY {
                self.last_state = clock::now();
                write_state(sink.state, self.context.client, sink.output)?;
            }
        }
    }

    /// The page at `place`, as large as the server gives, and how many rows were asked for.
    fn page(&mut self, walk: &Walk<'_>, place: &Place) -> Result<(Page, u32), Refused> {
        loop {
            let limit = u32::try_from(self.size.rows_for("")).unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT);
            match self.ask(walk, &walk.page(place, limit), limit) {
                Ok(page) => return Ok((page, limit)),
                Err(Fault::Split(why)) if self.narrows => return Err(Refused::Split(why)),
                Err(Fault::Split(why)) if limit > 1 => {
                    log::debug(format!("asking for less than {limit} rows of {}: {why}", walk.table));
                    self.size.refused(u64::from(limit));
                }
                Err(Fault::Fatal(failure)) if failure.cause.is_refusal() && *place == Place::Start => {
                    return Err(Refused::Table(failure));
                }
                Err(fault) => return Err(Error::from(fault).context(format!("reading {}", walk.table)).into()),
            }
        }
    }

    fn ask(&mut self, walk: &Walk<'_>, sql: &str, limit: u32) -> Result<Page, Fault> {
        let names: Vec<&str> = walk.columns.iter().map(|column| column.name.as_str()).collect();
        let body = BodyLimit::of(self.context.config.events.max_response_bytes);
        let label = format!("{} page", walk.table);
        let mut seconds = 0.0;
        let page = self.context.client.query(&Query::new(&label, sql), body, |incoming| {
            let page = Page::read(&mut incoming.body, Vec::new(), &names, |_| Ok(())).map_err(Fault::untrusted)?;
            seconds = incoming.timer.elapsed().as_secs_f64();
            if page.len() > limit as usize {
                return Err(Fault::untrusted(format!("{} rows came although {limit} were asked for", page.len())));
            }
            Ok(page)
        })?;
        self.size.learn(None, page.len() as u64, page.body_bytes() as u64);
        self.size.took(page.len() as u64, seconds);
        Ok(page)
    }

    /// Writes what counts of each key of a page, and gives the place where the next one starts. Where a key has versions,
    /// the last key of a page that is not the last may have more of them behind it: it is left to the next page.
    fn write_page<W: Write>(
        &mut self,
        walk: &Walk<'_>,
        page: &Page,
        is_last: bool,
        received: &mut Count,
        sink: &mut Sink<'_, W>,
    ) -> Result<Option<Place>> {
        let mut start = 0;
        while start < page.len() {
            let end = self.key_end(page, start);
            if end < page.len() || is_last {
                self.write_newest(page, start..end, sink)?;
                received.add(end - start);
                start = end;
                continue;
            }
            let key = self.literals(&page.row(start))?;
            match self.versions {
                Some(_) if start > 0 => return Ok(Some(Place::At(key))),
                None => self.write_newest(page, start..end, sink)?,
                // A whole page of one key: the server says which version counts.
                Some(versions) => {
                    let sql = walk.first_of(&key, versions.order);
                    let mut newest = self.ask(walk, &sql, 1)?;
                    if newest.is_empty() {
                        newest = self.ask(walk, &sql, 1)?;
                    }
                    self.write_newest(&newest, 0..newest.len(), sink)?;
                    if newest.is_empty() {
                        return Ok(Some(Place::Behind(key)));
                    }
                }
            }
            received.add(end - start);
            return Ok(Some(Place::Behind(key)));
        }
        Ok(None)
    }

    /// Behind the last row of a page that has the key of the one at `start`.
    fn key_end(&self, page: &Page, start: usize) -> usize {
        let (columns, first) = (self.key_columns(), page.row(start));
        let same = |at: &usize| columns.iter().all(|column| page.row(*at).cell(*column) == first.cell(*column));
        (start + 1..page.len()).find(|at| !same(at)).unwrap_or(page.len())
    }

    /// Writes the newest of the rows of one key, unless it says that the key is gone.
    fn write_newest<W: Write>(&mut self, page: &Page, rows: Range<usize>, sink: &mut Sink<'_, W>) -> Result<()> {
        let Some(versions) = self.versions else {
            return rows.take(1).try_for_each(|at| self.write(&page.row(at), sink));
        };
        let gone = |row: &Row<'_>| {
            versions.deleted.is_some_and(|at| !matches!(row.cell(at), Cell::Bool(false) | Cell::Number(b"0")))
        };
        // Of two that are equally new, the one that says it is gone.
        let newest = rows.map(|at| page.row(at)).max_by_key(|row| (rank(row.cell(versions.version)), gone(row)));
        match newest {
            Some(row) if !gone(&row) => self.write(&row, sink),
            _ => Ok(()),
        }
    }

    fn write<W: Write>(&mut self, row: &Row<'_>, sink: &mut Sink<'_, W>) -> Result<()> {
        if self.rows.is_multiple_of(STOP_LOOK_ROWS) {
            self.context.stop.check()?;
        }
        let (record, envelope) = (&mut self.record, &self.envelope);
        sink.output.line(|out| {
            envelope.write(out, |out| record.write(row, out));
            Ok(())
        })?;
        self.rows += 1;
        Ok(())
    }

    fn key_columns(&self) -> Vec<usize> {
        let columns = self.record.columns();
        let place = |part: &KeyPart| columns.iter().position(|column| column.name == part.field);
        self.key.iter().filter_map(place).collect()
    }

    fn literals(&self, row: &Row<'_>) -> Result<Vec<String>> {
        let parts = self.key.iter().zip(self.key_columns());
        let literals: Option<Vec<String>> = parts.map(|(part, at)| part.kind.literal(row.cell(at))).collect();
        literals.filter(|literals| literals.len() == self.key.len()).ok_or_else(|| {
            let fields: Vec<&str> = self.key.iter().map(|part| part.field).collect();
            Error::new(Kind::Service, format!("a row came without its key {}", fields.join(", ")))
        })
    }
}

/// What versions are compared by: a number, or a time.
fn rank(version: Cell<'_>) -> i128 {
    match version {
        Cell::Number(digits) => std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        cell => time_of(cell).map_or(i128::MIN, i128::from),
    }
}

/// Why a table was not read to its end.
pub enum Refused {
    /// The server does not take the query: it has no such table, or the key may not read it.
    Table(Failure),
    /// It is too much for the server, and the caller can ask for less.
    Split(TooMuch),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Failed(error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        match refused {
            Refused::Table(failure) => failure.error,
            Refused::Split(why) => Fault::Split(why).into(),
            Refused::Failed(error) => error,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
