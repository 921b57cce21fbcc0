//! Sessions: read in stretches of days by their start, from three days before the bookmark on.
//!
//! A session changes until it has been idle for half an hour, a day at most, and PostHog itself holds its sessions to be
//! settled after three days; so the last three are read again in every run. ClickHouse makes the table of events, pruned
//! by the session's start: a bound on both sides of it is what keeps the bytes down.

use std::io::Write;

use crate::error::Result;
use crate::log;
use crate::posthog::query::text;
use crate::singer::catalog::SelectedStream;
use crate::time::{DAY_US, Day, Micros};

use super::count::{Refused, SplitBy};
use super::reading::Reading;
use super::{MAX_READINGS, read};
use crate::posthog::query::ask::server_time;
use crate::tap::config::Config;
use crate::tap::context::Context;
use crate::tap::proof::read_until_proved;
use crate::tap::replication::{bookmark_of, set_bookmark};
use crate::tap::sink::Sink;
use crate::tap::stream::SESSIONS;

/// How long a session is held to change, PostHog's own figure.
const UNSETTLED_US: Micros = 3 * DAY_US;
/// A stretch with fewer records than this makes the next one longer.
const FEW_ROWS: u64 = 10_000;
const LONGEST_STRETCH_DAYS: i64 = 16;
/// While nothing is found at all, stretches may become this long.
const LONGEST_EMPTY_STRETCH_DAYS: i64 = 4096;

/// Reads the sessions that are new or may have changed.
///
/// # Errors
/// Whatever ended the reading early; the state says which stretch was the last whole one.
pub fn sync_stream<W: Write>(context: &Context<'_>, stream: &SelectedStream, sink: &mut Sink<'_, W>) -> Result<()> {
    let mut reading = Reading::new(context, &SESSIONS, stream);
    sink.write_schema(stream)?;
    sink.begin_progress(None);
    let outcome = read_stretches(context, stream, &mut reading, sink);
    sink.note_exceptions(reading.exceptions());
    outcome?;
    sink.write_state()
}

fn read_stretches<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    reading: &mut Reading<'_>,
    sink: &mut Sink<'_, W>,
) -> Result<()> {
    let horizon = server_time(context.client)?;
    let end = context.config.events.until.unwrap_or(Micros::MAX).min(horizon);
    let mut from = first(context.config, bookmark_of(sink.state(), stream)?);
    let (mut stretch_days, mut longest_days) = (1, LONGEST_EMPTY_STRETCH_DAYS);
    while from < end {
        // What lies before 1970 is one day to `Day`: the first stretch passes it as a whole.
        let to = Day::of((from + stretch_days * DAY_US).max(DAY_US)).start().min(end);
        let (before, days) = (sink.rows(), stretch_days.min((to - from + DAY_US - 1) / DAY_US));
        let key = text::identifier("$start_timestamp");
        let condition = format!("{key} >= {} AND {key} < {}", text::datetime(from), text::datetime(to));
        reading.split = if days > 1 { SplitBy::Caller } else { SplitBy::Rows };
        let outcome = read_until_proved(context.config.events.count_proof, MAX_READINGS, |_| {
            read(reading, SESSIONS.name, &condition, sink)
        });
        match outcome {
            Err(Refused::Split(why)) if days > 1 => {
                log::debug(format!("asking for less than {days} days of sessions: {why}"));
                stretch_days = days / 2;
                longest_days = stretch_days;
                continue;
            }
            outcome => _ = outcome?,
        }
        // What was too much becomes possible again day by day.
        longest_days = (longest_days + 1).min(LONGEST_EMPTY_STRETCH_DAYS);
        stretch_days = match sink.rows() - before {
            0 => (stretch_days * 2).min(longest_days),
            1..FEW_ROWS => (stretch_days * 2).min(LONGEST_STRETCH_DAYS.min(longest_days)),
            _ => 1,
        };
        from = to;
        set_bookmark(sink.state(), stream, to);
        sink.mark_safe();
        sink.write_state_if_due()?;
    }
    Ok(())
}

/// Where a run begins. A bound that nobody chose moves with the clock: it is for the first run alone.
fn first(config: &Config, bookmark: Option<Micros>) -> Micros {
    let since = config.events.since;
    let unsettled = |last| Day::of(last - UNSETTLED_US).start();
    match bookmark.map(unsettled) {
        Some(unsettled) if config.events.since_is_default => unsettled,
        Some(unsettled) => since.max(unsettled),
        None => since,
    }
}
