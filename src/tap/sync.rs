//! The loop of the tap: stream after stream, each with its SCHEMA, its records and its STATE.

pub mod check;

use std::io::Write;
use std::time::Instant;

use serde_json::json;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::metrics;
use crate::posthog::http::usage::Usage;
use crate::singer::catalog::SelectedStream;
use crate::singer::output::Output;
use crate::singer::state::State;

use super::context::{Context, Summary};
use super::events;
use super::lists;
use super::replication::{Replication, SOURCE, source};
use super::sink::{Sink, write_state};
use super::stream::{Source, find};
use super::tables::{sessions, whole};

/// Syncs the streams, `events` first. The first message repeats the state that the run was started with, so that a target
/// can find the commit that it belongs to. A stream that fails keeps its bookmark and its version; the others are read.
///
/// # Errors
/// Whatever ended the run early, else the first failure of a stream, with the names of all that failed. The last STATE
/// that was written is safe to go on from.
pub fn sync<W: Write>(
    context: &Context<'_>,
    streams: &[SelectedStream],
    mut state: State,
    output: &mut Output<W>,
) -> Result<()> {
    output.state(&state.to_value())?;
    state.set_member(SOURCE, json!(source(context.client.options())));
    let mut failures: Vec<(&str, Error)> = Vec::new();
    let (events, others): (Vec<_>, Vec<_>) = streams.iter().partition(|stream| is_of_events(stream));
    for stream in events.into_iter().chain(others) {
        let started = Instant::now();
        let before = context.client.usage();
        let outcome = sync_one(context, stream, &mut state, output);
        let seconds = started.elapsed().as_secs_f64();
        metrics::timer("sync_duration", seconds, outcome.is_ok(), Some(&stream.name));
        match outcome {
            Ok(summary) => {
                if summary.slices > 0 {
                    log::remark(&stream.name, &proved(&summary));
                }
                log::info(sentence(&stream.name, &summary, &before, &context.client.usage(), seconds));
            }
            Err(Failure { error, ends_run: false }) => {
                log::warn(format!("{} is not read to the end: {error}; its bookmark stays", stream.name));
                failures.push((&stream.name, error));
            }
            Err(failure) => return Err(failure.error),
        }
    }
    write_state(&mut state, context.client, output)?;
    all_failed_streams(failures)
}

fn is_of_events(stream: &SelectedStream) -> bool {
    find(&stream.id).is_ok_and(|row| row.is_of_events())
}

/// Why a stream was not read to its end.
struct Failure {
    error: Error,
    /// No other stream is read after it.
    ends_run: bool,
}

impl Failure {
    /// A wrong key, a budget that is used up, a signal, a closed pipe and a fault of ours concern all streams. So does a
    /// row of an event behind the last STATE: a later STATE would vouch for the row, and the row comes again.
    fn new(error: Error, events_come_again: bool) -> Failure {
        let concerns_one_stream = matches!(error.kind(), Kind::Service | Kind::Incomplete);
        Failure { error, ends_run: events_come_again || !concerns_one_stream }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(error, false)
    }
}

/// The failure to end with, which names all streams that failed.
fn all_failed_streams(failures: Vec<(&str, Error)>) -> Result<()> {
    let names: Vec<&str> = failures.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    match failures.into_iter().next() {
        Some((_, first)) => Err(first.context(format!("not read to the end: {names}; the other streams were read"))),
        None => Ok(()),
    }
}

fn sync_one<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    state: &mut State,
    output: &mut Output<W>,
) -> Result<Summary, Failure> {
    let row = find(&stream.id)?;
    let sink = &mut Sink::new(context, stream, state, output);
    // The loops of events and sessions read their bookmarks themselves.
    let replication = |state: &State| Replication::of(context, stream, row.method, state);
    let outcome = match row.source {
        Source::Events => events::sync_stream(context, stream, sink),
        Source::Sessions(_) => sessions::sync_stream(context, stream, sink),
        Source::Table(table) => replication(sink.state())
            .and_then(|replication| whole::sync_stream(context, stream, table, replication, sink)),
        Source::List(list) => replication(sink.state())
            .and_then(|replication| lists::sync_stream(context, stream, list, replication, sink)),
    };
    for sentence in sink.summary().exceptions.sentences() {
        // The summary has the number alone.
        log::remark(&stream.name, sentence.split([',', ';']).next().unwrap_or(&sentence));
        log::warn(format!("{}: {sentence}", stream.name));
    }
    match outcome {
        Ok(()) => Ok(sink.summary()),
        Err(error) => {
            let error = sink.end_early(error);
            Err(Failure::new(error, is_of_events(stream) && sink.is_unsafe()))
        }
    }
}

/// The closing line of a stream.
fn sentence(stream: &str, summary: &Summary, before: &Usage, after: &Usage, seconds: f64) -> String {
    let (rows, requests) = (summary.rows, after.requests - before.requests);
    let mut line = format!("{stream}: {rows} rows in {seconds:.1} s with {requests} requests");
    let (read, body) = (after.bytes_read - before.bytes_read, after.body_bytes - before.body_bytes);
    if read > 0 && body > 0 {
        #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
        let ratio = read as f64 / body as f64;
        let size = |bytes| {
            if bytes < 1_000_000 { format!("{} kB", bytes / 1_000) } else { format!("{} MB", bytes / 1_000_000) }
        };
        let (read, body) = (size(read), size(body));
        line += &format!("; PostHog read {read} for {body} of answers ({ratio:.2}x)");
    }
    if summary.slices > 0 {
        line += &format!("; {}", proved(summary));
    }
    line
}

fn proved(summary: &Summary) -> String {
    format!("proved {} of {} slices", summary.proved, summary.slices)
}
