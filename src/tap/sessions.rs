//! Sessions: read in stretches of days by their start, from three days before the bookmark on.
//!
//! A session changes until it has been idle for half an hour, a day at most, and PostHog itself holds its sessions to be
//! settled after three days; so the last three are read again in every run. ClickHouse makes the table of events, pruned
//! by the session's start: a bound on both sides of it is what keeps the bytes down.

use std::io::Write;

use crate::error::Result;
use crate::posthog::hogql;
use crate::posthog::time::{DAY_US, Day, Micros};
use crate::singer::catalog::SelectedStream;

use super::context::Context;
use super::extent::{bookmark, set_bookmark};
use super::pace::write_state;
use super::run::server_time;
use super::streams::SESSIONS;
use super::tables::{Reading, Sink};

/// How long a session is held to change, PostHog's own figure.
const UNSETTLED_US: Micros = 3 * DAY_US;
/// A stretch with fewer records than this makes the next one longer.
const FEW_ROWS: u64 = 10_000;
const LONGEST_STRETCH_DAYS: i64 = 16;
/// While nothing is found at all, stretches may become this long.
const LONGEST_EMPTY_STRETCH_DAYS: i64 = 4096;

/// Reads the sessions that are new or may have changed; gives the number of records.
///
/// # Errors
/// Whatever ended the reading early; the state says which stretch was the last whole one.
pub fn sync_stream<W: Write>(context: &Context<'_>, stream: &SelectedStream, sink: &mut Sink<'_, W>) -> Result<u64> {
    let mut reading = Reading::new(context, &SESSIONS, stream, None);
    let horizon = server_time(context.client)?;
    let end = context.config.events.until.unwrap_or(Micros::MAX).min(horizon);
    let since = context.config.events.since;
    let mut from = bookmark(sink.state, stream).map_or(since, |last| since.max(Day::of(last - UNSETTLED_US).start()));
    let mut stretch_days = 1;
    while from < end {
        // What lies before 1970 is one day to `Day`: the first stretch passes it as a whole.
        let to = Day::of((from + stretch_days * DAY_US).max(DAY_US)).start().min(end);
        let before = reading.rows;
        let key = hogql::identifier("$start_timestamp");
        let condition = format!("{key} >= {} AND {key} < {}", hogql::datetime(from), hogql::datetime(to));
        reading.proved(sink, |reading, sink| reading.read(SESSIONS.name, &condition, sink))?;
        stretch_days = match reading.rows - before {
            0 => (stretch_days * 2).min(LONGEST_EMPTY_STRETCH_DAYS),
            1..FEW_ROWS => (stretch_days * 2).min(LONGEST_STRETCH_DAYS),
            _ => 1,
        };
        from = to;
        set_bookmark(sink.state, stream, to);
        write_state(sink.state, context.client, sink.output)?;
    }
    Ok(reading.rows)
}
