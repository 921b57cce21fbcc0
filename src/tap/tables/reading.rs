//! Pages of a table, and what is written of their rows: of each key the version that counts.

use std::io::Write;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::Query;
use crate::posthog::query::hogql::MAX_LIMIT;
use crate::posthog::query::keyset::{KeyPart, Place, Walk};
use crate::posthog::query::page::{Cell, Page, Row};
use crate::posthog::query::text;
use crate::posthog::query::text::Column;
use crate::singer::catalog::SelectedStream;
use crate::tap::context::Context;
use crate::tap::page_size::SizeModel;
use crate::tap::record::cell::time_of;
use crate::tap::record::exceptions::Exceptions;
use crate::tap::record::projection::Projection;
use crate::tap::sink::Sink;
use crate::tap::stream::{Raw, Table};

use super::count::{Count, Counter, Refused, SplitBy};

/// Where the columns that tell versions of one key apart are.
#[derive(Clone, Copy, Debug)]
struct Versions {
    version: usize,
    deleted: Option<usize>,
    /// The order that puts the one that counts first.
    order: &'static str,
}

/// How a table is read.
pub(super) struct Reading<'a> {
    context: &'a Context<'a>,
    /// Its stream.
    pub(super) stream: String,
    /// The order in which it is read.
    pub(super) key: Vec<KeyPart>,
    /// Where the parts of the key are in a page.
    key_columns: Vec<usize>,
    record: Projection,
    size: SizeModel,
    versions: Option<Versions>,
    /// Counts it.
    pub(super) counter: Counter<'a>,
    /// What is made smaller where it is too much for the server.
    pub(super) split: SplitBy,
}

impl<'a> Reading<'a> {
    /// A reading of `table` with the fields of `stream`.
    pub(super) fn new(context: &'a Context<'a>, table: &Table, stream: &SelectedStream) -> Self {
        let none = Map::new();
        let fields = stream.schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let expression = |field: &str| text::identifier(table.column(field));
        let part = |(field, kind): &(&'static str, _)| KeyPart { field, expression: expression(field), kind: *kind };
        let key: Vec<KeyPart> = table.key.iter().map(part).collect();
        let record = Projection::of_table(fields, expression)
            .without(&stream.fields_off)
            .keeping_lone_surrogates(context.config.keeps_lone_surrogates);
        let place = |part: &KeyPart| record.columns().iter().position(|column| column.name == part.field);
        Reading {
            context,
            stream: stream.name.clone(),
            key_columns: key.iter().filter_map(place).collect(),
            key,
            record,
            size: SizeModel::new(context.config.events.page_size),
            versions: None,
            counter: Counter::new(context, &stream.name),
            split: SplitBy::Rows,
        }
    }

    /// The columns that are asked for.
    pub(super) fn columns(&self) -> &[Column] {
        self.record.columns()
    }

    /// What the records that were written do not hold as it came.
    pub(super) fn exceptions(&self) -> Exceptions {
        self.record.exceptions()
    }

    /// True if the stored versions behind the table can be told apart.
    pub(super) fn has(&self, raw: &Raw) -> bool {
        raw.needs.is_none_or(|field| self.columns().iter().any(|column| column.name == field))
    }

    /// Asks for what tells the stored versions of a key apart.
    pub(super) fn ask_for_versions(&mut self, raw: &Raw) {
        self.versions = Some(Versions {
            version: self.record.ask(raw.version.to_owned(), raw.version),
            deleted: raw.deleted.map(|column| self.record.ask(column.to_owned(), column)),
            order: raw.order,
        });
    }

    /// Asks for the first `plain` columns only, again.
    pub(super) fn forget_versions(&mut self, plain: usize) {
        self.record.forget_columns(plain);
        self.versions = None;
        self.counter.forget_refusal();
    }

    /// The page at `place`, as large as the server gives, and how many rows were asked for.
    pub(super) fn page(&mut self, walk: &Walk<'_>, place: &Place) -> Result<(Page, u32), Refused> {
        loop {
            let limit = u32::try_from(self.size.rows_for("")).unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT);
            match self.ask(walk, &walk.page(place, limit), limit) {
                Ok(page) => return Ok((page, limit)),
                Err(Fault::Split(why)) if self.split == SplitBy::Caller => return Err(Refused::Split(why)),
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

    /// A page of so many rows, fewer than were asked for, was not the last one.
    pub(super) fn went_on_behind(&mut self, rows: usize) {
        self.size.went_on_behind(u32::try_from(rows).unwrap_or(u32::MAX));
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
    pub(super) fn write_page<W: Write>(
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
            let key = self.literals(walk, &page.row(start))?;
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
        let first = page.row(start);
        let same =
            |at: &usize| self.key_columns.iter().all(|column| page.row(*at).cell(*column) == first.cell(*column));
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
        let record = &mut self.record;
        sink.long_record(|out| record.write(row, out))
    }

    /// The rows and keys of a page.
    pub(super) fn count_of(&self, page: &Page) -> Count {
        let (mut count, mut start) = (Count::default(), 0);
        while start < page.len() {
            let end = self.key_end(page, start);
            count.add(end - start);
            start = end;
        }
        count
    }

    fn literals(&self, walk: &Walk<'_>, row: &Row<'_>) -> Result<Vec<String>> {
        walk.key_of(row).ok_or_else(|| {
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
