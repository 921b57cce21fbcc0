//! One page of `events`: asked for, checked row by row while it arrives, and weighed.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind};
use crate::posthog::fault::{Fault, TooMuch};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Incoming, OnSplit, Query};
use crate::posthog::query::ask::ask;
use crate::posthog::query::hogql;
use crate::posthog::query::hogql::Range;
use crate::posthog::query::interval::Interval;
use crate::posthog::query::keyset::Place;
use crate::posthog::query::page::Page;
use crate::posthog::query::text::Column;
use crate::stop::Stop;
use crate::time::Micros;

use super::buffers::Reservation;
use super::verify::Check;
use crate::tap::config::CountProof;
use crate::tap::page_size::SizeModel;
use crate::tap::record::projection::column;

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
    /// The slice ends with this page.
    pub is_last: bool,
    /// The slice is read a second time: its rows may have been written before.
    pub is_again: bool,
    /// The memory that the page holds.
    pub memory: Reservation<'m>,
}

impl ReadPage<'_> {
    /// Ends the page: its buffer is used for another one.
    pub fn release(mut self) {
        self.memory.put_buffer(self.page.into_buffer());
    }
}

impl Source<'_> {
    /// Asks for the page at a place of an interval; with it comes the place behind its last row.
    pub(super) fn read_page<'m>(
        &self,
        interval: &Interval,
        place: &Place,
        limit: u32,
        on_split: OnSplit,
        mut memory: Reservation<'m>,
    ) -> Result<(ReadPage<'m>, Option<Place>), Fault> {
        let sql = hogql::page(&self.range, interval, self.columns, place, limit);
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
        let behind = hogql::behind(&self.range, self.columns, &last);
        if behind.is_none() && !page.is_empty() {
            return Err(Fault::untrusted("the last row of a page has no key"));
        }
        Ok((ReadPage { page, notes, is_last: false, is_again: false, memory }, behind))
    }

    /// Takes note of what an answer weighed, or that it was refused.
    pub(super) fn learn(&self, teach: impl FnOnce(&mut SizeModel)) {
        teach(&mut self.size.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The error for one row that is too large; the row is named by asking for its key alone.
    pub(super) fn too_large(&self, interval: &Interval, place: &Place, why: &TooMuch) -> Error {
        let keys = &self.columns[..=column::HASH];
        let sql = hogql::page(&self.range, interval, keys, place, 1);
        let names: Vec<&str> = keys.iter().map(|column| column.name.as_str()).collect();
        let query = Query::new("key of a row", &sql);
        let row = ask(self.client, &query, &names, |row| Some(row.text(column::UUID)?.to_owned()));
        let row = row.ok().and_then(|rows| rows.into_iter().next()).unwrap_or_else(|| "unknown".to_owned());
        let day = interval.from.day;
        Error::new(
            Kind::Service,
            format!(
                "one event alone is too large to be read ({why}): uuid {row}, at or after {day}; raise max_response_mb, \
                 deselect properties, or leave its day out"
            ),
        )
    }
}
