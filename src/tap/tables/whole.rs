//! Tables that are read whole, or from a time on: persons, distinct ids, groups, members of cohorts.
//!
//! A reading has a version of its own, which is made the current one behind its last record: an interrupted reading replaces
//! nothing, nor does one with missing rows.

use std::io::Write;

use crate::error::Result;
use crate::log;
use crate::posthog::fault::Cause;
use crate::posthog::query::ask::server_time;
use crate::posthog::query::text;
use crate::singer::catalog::SelectedStream;
use crate::tap::context::Context;
use crate::tap::proof::{Shortfall, read_until_proved};
use crate::tap::replication::{Replication, set_bookmark};
use crate::tap::sink::Sink;
use crate::tap::stream::{Raw, Table};
use crate::time::HOUR_US;

use super::count::Refused;
use super::reading::Reading;
use super::{MAX_READINGS, read};

/// Reads a table and writes it.
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
        let key = text::identifier(table.column(stream.replication_key.as_deref().unwrap_or_default()));
        format!("({key} >= {} OR {key} IS NULL)", text::datetime(since - overlap))
    });
    let raw = if condition.is_empty() { table.raw.filter(|raw| reading.has(raw)) } else { None };
    let mut version = None;
    let outcome = read_until_proved(context.config.events.count_proof, MAX_READINGS, |before| {
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
    });
    sink.note_exceptions(reading.exceptions());
    outcome?;
    match version {
        Some(version) => sink.activate_version(version)?,
        None => set_bookmark(sink.state(), stream, started),
    }
    sink.write_state()
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
