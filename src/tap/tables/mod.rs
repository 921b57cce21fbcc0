//! HogQL tables that are read in the order of their key, whole or from a time on: persons, distinct ids, groups, members of
//! cohorts. The loop is here ([`read`]); a page and its rows are in `reading.rs`, counts in `count.rs`.
//!
//! The raw tables are read where the key may: they are stored in the order of the walk, so every page costs its own rows,
//! while a page of the lazy tables makes ClickHouse aggregate all of them. In exchange the newest version of each key is
//! chosen here, and keys that were deleted or merged away are dropped here. A reading has a version of its own, which is
//! made the current one behind its last record: an interrupted reading replaces nothing, nor does one with missing rows.

mod count;
mod reading;
pub mod sessions;

use std::io::Write;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::Cause;
use crate::posthog::query::ask::server_time;
use crate::posthog::query::hogql;
use crate::posthog::query::keyset::{Place, Walk};
use crate::singer::catalog::SelectedStream;
use crate::time::HOUR_US;

use super::context::Context;
use super::proof::{Shortfall, read_until_proved};
use super::replication::{Replication, set_bookmark};
use super::sink::Sink;
use super::stream::{Raw, Table};
use count::{Count, Refused};
use reading::Reading;

/// How often a table is read that seems to lack keys, before that is held to be so.
const MAX_READINGS: u32 = 3;

/// Reads a table and writes it.
///
/// # Errors
/// Whatever ended the reading early.
pub fn sync_stream<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    table: &'static Table,
    replication: Replication,
    sink: &mut Sink<'_, W>,
) -> Result<()> {
    let mut reading = Reading::new(context, table, stream);
    sink.write_schema(stream)?;
    sink.begin_progress(None);
    let started = if replication.version().is_none() { server_time(context.client)? } else { 0 };
    // `last_seen_at` is rounded to the hour, and shows after a while; it is null where PostHog did not note it: such a row
    // may have changed.
    let overlap = HOUR_US + context.config.events.lookback_us;
    let condition = replication.since().map_or_else(String::new, |since| {
        let key = hogql::identifier(table.column(stream.replication_key.as_deref().unwrap_or_default()));
        format!("({key} >= {} OR {key} IS NULL)", hogql::datetime(since - overlap))
    });
    let raw = if condition.is_empty() { table.raw.filter(|raw| reading.has(raw)) } else { None };
    let mut version = None;
    read_until_proved(context.config.events.count_proof, MAX_READINGS, |before| {
        // The version that is made current holds each key once, so each reading has its own.
        version = replication.version().map(|version| version + i64::from(before));
        sink.set_version(version);
        let main = match raw {
            Some(raw) => read_raw(&mut reading, &raw, sink)?,
            None => None,
        };
        let missing = match main {
            Some(missing) => missing,
            None => read(&mut reading, table.name, &condition, sink)?,
        };
        // Also where something is missing: with `count_proof: warn` this reading may be the one that counts.
        let also = table.also.map(|also| read_if_known(&mut reading, also, &condition, sink)).transpose()?;
        Ok::<_, Refused>(missing.or(also.flatten()))
    })?;
    match version {
        Some(version) => sink.activate_version(version)?,
        None => set_bookmark(sink.state(), stream, started),
    }
    sink.write_state()
}

/// The loop of a table: from page to page of the rows that meet `condition`, in the order of the key. Says what is missing.
///
/// A page with fewer rows than were asked for is not the last one for that: a server may give fewer. The walk ends where
/// nothing follows, or where as much came as was counted.
///
/// # Errors
/// [`Refused::Table`] when the first page is refused as it stands, [`Refused::Split`] where the caller asks for less.
fn read<W: Write>(
    reading: &mut Reading<'_>,
    table: &str,
    condition: &str,
    sink: &mut Sink<'_, W>,
) -> Result<Option<Shortfall>, Refused> {
    let (columns, key) = (reading.columns().to_vec(), reading.key.clone());
    let walk = Walk { table, columns: &columns, key: &key, condition };
    let counted = reading.counter.count(&walk, reading.split)?;
    let (mut place, mut received, mut was_empty) = (Place::Start, Count::default(), false);
    loop {
        let (page, limit) = reading.page(&walk, &place)?;
        if page.is_empty() {
            // An answer may have lost its rows: a page that contradicts the count, or is not counted, is asked for twice.
            if was_empty || !reading.counter.doubts(counted, received) {
                break;
            }
            was_empty = true;
            continue;
        }
        was_empty = false;
        let is_last = page.len() < limit as usize
            && counted.is_some_and(|counted| received.and(reading.count_of(&page)).covers(counted));
        let before = sink.rows();
        let next = reading.write_page(&walk, &page, is_last, &mut received, sink);
        let written = sink.rows() - before;
        sink.count(written, written);
        let Some(next) = next? else { break };
        if next == place {
            let text = format!("{table} does not go on behind a page of {limit} rows; try again");
            return Err(Error::new(Kind::Service, text).into());
        }
        place = next;
        sink.write_state_if_due()?;
    }
    reading.counter.shortfall(&walk, counted, received, reading.split)
}

/// Reads the raw table; none if the server refuses it.
fn read_raw<W: Write>(
    reading: &mut Reading<'_>,
    raw: &Raw,
    sink: &mut Sink<'_, W>,
) -> Result<Option<Option<Shortfall>>> {
    let plain = reading.columns().len();
    reading.ask_for_versions(raw);
    match read(reading, raw.table, "", sink) {
        Ok(missing) => Ok(Some(missing)),
        Err(Refused::Table(failure)) if sink.rows() == 0 => {
            let why = failure.error;
            log::info(format!("{} cannot be read, its aggregated table costs more: {why}", raw.table));
            reading.forget_versions(plain);
            Ok(None)
        }
        Err(refused) => Err(refused.into()),
    }
}

/// Reads a table that this PostHog may not have. Refused for any other reason, it is not passed over: the version that is
/// made current would lack its rows.
fn read_if_known<W: Write>(
    reading: &mut Reading<'_>,
    table: &str,
    condition: &str,
    sink: &mut Sink<'_, W>,
) -> Result<Option<Shortfall>> {
    match read(reading, table, condition, sink) {
        Err(Refused::Table(failure)) if failure.cause == Cause::UnknownTable => {
            log::info(format!("{}: this PostHog has no table {table}, its rows are not among them", reading.stream));
            Ok(None)
        }
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
pub(super) mod tests;
