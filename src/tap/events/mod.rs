//! The loop of the `events` stream: closed set after closed set, slice after slice, row after row.
//!
//! Rows go out as they come in key order; the STATE follows them, and never passes a row whose slice, or part of a long slice, is not
//! proved. Whatever ends the run, the last STATE that left is a position from which the same closed set goes on.

pub mod arrivals;
pub mod bits;
pub mod bookmark;
pub mod buffers;
pub mod delivered;
pub mod emit;
pub mod overlap;
pub mod plan;
pub mod prefetch;
pub mod replication_key;
pub mod slice;
pub mod verify;
pub mod window;

use std::io::Write;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::fingerprint;
use crate::log;
use crate::posthog::http::client::Client;
use crate::posthog::query::hogql::{Cursor, Key};
use crate::singer::output::Output;
use crate::singer::state::State;
use crate::stop::Stop;
use crate::time::Day;

use super::config::EventsConfig;
use super::page_size::SizeModel;
use super::progress::Progress;
use bookmark::{Bookmark, Pass};
use emit::Printer;
use plan::Plan;
use prefetch::{Delivery, read_all};
use slice::Source;

/// What a run of the stream works with.
#[derive(Debug)]
pub struct Events<'a> {
    /// The service.
    pub client: &'a Client,
    /// The settings.
    pub config: &'a EventsConfig,
    /// The largest list of delivered events in the state.
    pub max_state_bytes: usize,
    /// Ends the run early.
    pub stop: &'a Stop,
    /// The stream's name in messages.
    pub stream: &'a str,
    /// Its name in the state.
    pub id: &'a str,
    /// The selected fields: the `properties` of the schema.
    pub fields: &'a Map<String, Value>,
    /// The deselected ones.
    pub fields_off: &'a [String],
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Rows printed.
    pub rows: u64,
    /// Slices whose count was proved.
    pub proved: u64,
    /// Slices read.
    pub slices: u64,
}

impl Events<'_> {
    /// Reads everything that is new since `bookmark`, writes it to `output` and keeps `state` up to date.
    ///
    /// # Errors
    /// Whatever ended the run early; the last STATE was written before.
    pub fn sync<W: Write>(&self, mut bookmark: Bookmark, state: &mut State, output: &mut Output<W>) -> Result<Summary> {
        bookmark::forget_seed_form(state, self.id);
        let mut summary = Summary::default();
        // A closed set that an earlier run left half read comes first, then what arrived since.
        if bookmark.run.is_some() {
            log::info("going on with the run that was interrupted");
            summary.add(self.read_run(&mut bookmark, state, output)?);
        }
        window::open(&mut bookmark, self.client, self.config, &self.columns_hash())?;
        summary.add(self.read_run(&mut bookmark, state, output)?);
        Ok(summary)
    }

    /// Reads the run that the bookmark holds to its end.
    fn read_run<W: Write>(
        &self,
        bookmark: &mut Bookmark,
        state: &mut State,
        output: &mut Output<W>,
    ) -> Result<Summary> {
        let mut printer = Printer::new(self, bookmark, state, output)?;
        let size = Mutex::new(SizeModel::new(self.config.page_size));
        let mut outcome = Ok(());
        while let (Ok(()), Some(pass)) = (&outcome, printer.pass()) {
            outcome = self.read_pass(&pass, &size, &mut printer);
        }
        printer.end(outcome)
    }

    fn read_pass<W: Write>(&self, pass: &Pass, size: &Mutex<SizeModel>, printer: &mut Printer<'_, W>) -> Result<()> {
        let range = window::range(pass, self.config);
        if range.since >= range.until {
            return printer.pass_done();
        }
        let days = window::count_days(self.client, &range, printer.horizon())?;
        let first = Cursor::At(Key::day_start(Day::of(range.since)));
        let plan = Plan::new(pass.cursor.clone().unwrap_or(first), &days);
        printer.progress = Some(Progress::new(self.stream, Some(plan.rows_left()), self.client.waits()));
        let columns = printer.projection.columns().to_vec();
        let source = Source {
            client: self.client,
            range,
            columns: &columns,
            max_response_bytes: self.config.max_response_bytes,
            page_size: self.config.page_size,
            count_proof: self.config.count_proof,
            size,
            stop: self.stop,
        };
        read_all(&source, plan, |delivery| match delivery {
            Delivery::Page(page) => printer.print_page(*page),
            Delivery::Proved(cursor) => printer.part_end(cursor),
            Delivery::Silence => printer.silence(),
            Delivery::SliceEnd { to, proof, last } => {
                printer.slice_end(to.map(Cursor::At), proof, last.map(|page| *page))
            }
        })?;
        printer.pass_done()
    }

    pub(super) fn columns_hash(&self) -> String {
        fingerprint::of(&json!(self.fields.keys().collect::<Vec<_>>()))
    }
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.rows += other.rows;
        self.proved += other.proved;
        self.slices += other.slices;
    }
}
