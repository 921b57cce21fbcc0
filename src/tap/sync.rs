//! The loop of the tap: stream after stream, each with its SCHEMA, its records and its STATE.

use std::io::Write;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::log;
use crate::metrics;
use crate::posthog::http::usage::Usage;
use crate::singer::catalog::SelectedStream;
use crate::singer::output::Output;
use crate::singer::state::State;

use super::context::Context;
use super::events::replication_key;
use super::events::replication_key::CREATED_AT;
use super::events::{Events, Summary};
use super::lists;
use super::pace::write_state;
use super::replication::Extent;
use super::stream::{Source, find};
use super::tables::sessions;
use super::tables::{self, Sink};

/// Syncs the streams in order. The first message repeats the state that the run was started with, so that a target can
/// find the commit that it belongs to.
///
/// # Errors
/// Whatever ended the run early; the last STATE that was written is safe to go on from.
pub fn sync<W: Write>(
    context: &Context<'_>,
    streams: &[SelectedStream],
    mut state: State,
    output: &mut Output<W>,
) -> Result<()> {
    output.state(&state.to_value())?;
    for stream in streams {
        let started = Instant::now();
        let before = context.client.usage();
        let outcome = sync_one(context, stream, &mut state, output);
        let seconds = started.elapsed().as_secs_f64();
        metrics::timer("sync_duration", seconds, outcome.is_ok(), Some(&stream.name));
        let summary = outcome?;
        log::info(sentence(&stream.name, summary, &before, &context.client.usage(), seconds));
    }
    write_state(&mut state, context.client, output)
}

fn sync_one<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    state: &mut State,
    output: &mut Output<W>,
) -> Result<Summary> {
    let row = find(&stream.id)?;
    let extent = Extent::of(context, stream, row.method, state)?;
    // What the SCHEMA of events says depends on its bookmark.
    if !matches!(row.source, Source::Events) {
        write_schema(stream, output)?;
    }
    let rows = match row.source {
        Source::Events => return sync_events(context, stream.clone(), state, output),
        Source::Sessions(_) => sessions::sync_stream(context, stream, &mut Sink { state, output })?,
        Source::Table(table) => tables::sync_stream(context, stream, table, extent, &mut Sink { state, output })?,
        Source::List(list) => lists::sync_stream(context, stream, list, extent, &mut Sink { state, output })?,
    };
    write_state(state, context.client, output)?;
    Ok(Summary { rows, ..Summary::default() })
}

fn sync_events<W: Write>(
    context: &Context<'_>,
    mut stream: SelectedStream,
    state: &mut State,
    output: &mut Output<W>,
) -> Result<Summary> {
    let (client, config) = (context.client, &context.config.events);
    let chosen = stream.replication_key.as_deref().unwrap_or(CREATED_AT);
    let bookmark = replication_key::bookmark(client, config, (&stream.id, chosen), state)?;
    replication_key::settle(client, &mut stream, &bookmark, context.now)?;
    write_schema(&stream, output)?;
    let none = Map::new();
    let events = Events {
        client,
        config,
        max_state_bytes: context.config.max_state_bytes,
        stop: context.stop,
        stream: &stream.name,
        id: &stream.id,
        fields: stream.schema.get("properties").and_then(Value::as_object).unwrap_or(&none),
        fields_off: &stream.fields_off,
    };
    events.sync(bookmark, state, output)
}

fn write_schema<W: Write>(stream: &SelectedStream, output: &mut Output<W>) -> Result<()> {
    let bookmarks: Vec<String> = stream.replication_key.iter().cloned().collect();
    // A field that does not fit its schema stands there whole.
    let unmapped = stream.nested_off.iter().map(|path| [&["unmapped_fields".to_owned()], path.as_slice()].concat());
    output.hide(&stream.nested_off.iter().cloned().chain(unmapped).collect::<Vec<_>>());
    output.schema(&stream.name, &stream.schema, &stream.key_properties, &bookmarks)
}

/// The closing line of a stream.
fn sentence(stream: &str, summary: Summary, before: &Usage, after: &Usage, seconds: f64) -> String {
    let (rows, requests) = (summary.rows, after.requests - before.requests);
    let mut line = format!("{stream}: {rows} rows in {seconds:.1} s with {requests} requests");
    let (read, body) = (after.bytes_read - before.bytes_read, after.body_bytes - before.body_bytes);
    if read > 0 && body > 0 {
        #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
        let ratio = read as f64 / body as f64;
        line += &format!("; PostHog read {} MB for {} MB of answers ({ratio:.2}x)", read / 1_000_000, body / 1_000_000);
    }
    if summary.slices > 0 {
        line += &format!("; proved {} of {} slices", summary.proved, summary.slices);
    }
    line
}
