//! Where the records and states of a stream go: one way out for events, tables and lists.
//!
//! A STATE vouches for every row before it. So a loop says where it is safe to go on ([`Sink::mark_safe`]), and the sink
//! says so to the target at most every five seconds, and never behind rows that came after that place.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::posthog::http::client::Client;
use crate::posthog::pace::rate::QuotaUsed;
use crate::singer::catalog::SelectedStream;
use crate::singer::output::{Line, LineText, Output};
use crate::singer::state::State;
use crate::stop::Cause;
use crate::time::{Micros, to_rfc3339};

use super::context::{Context, Summary};
use super::record::exceptions::Exceptions;
use progress::Progress;

mod progress;

/// STATE goes out at most this often, and at the end of a stream.
const STATE_EVERY: Duration = Duration::from_secs(5);
/// Rows that are written between two looks for a signal: a slow reader may take minutes for a page.
const LOOK_ROWS: u64 = 16;
/// The member of the state's root that holds the requests of the last hour.
pub const REQUESTS: &str = "requests";

/// What one stream writes.
pub struct Sink<'a, W: Write> {
    context: &'a Context<'a>,
    state: &'a mut State,
    output: &'a mut Output<W>,
    stream: String,
    envelope: Envelope,
    progress: Option<Progress>,
    summary: Summary,
    last_state: Instant,
    /// Rows were written since the last safe place.
    is_unsafe: bool,
    /// There is a safe place that no STATE has said.
    is_unsaid: bool,
}

impl<'a, W: Write> Sink<'a, W> {
    /// The way out of `stream`.
    pub fn new(
        context: &'a Context<'a>,
        stream: &SelectedStream,
        state: &'a mut State,
        output: &'a mut Output<W>,
    ) -> Sink<'a, W> {
        Sink {
            context,
            state,
            output,
            stream: stream.name.clone(),
            envelope: Envelope::new(&stream.name, None, context.now),
            progress: None,
            summary: Summary::default(),
            last_state: clock::now(),
            is_unsafe: false,
            is_unsaid: false,
        }
    }

    /// Writes the SCHEMA of the stream.
    pub fn write_schema(&mut self, stream: &SelectedStream) -> Result<()> {
        let bookmarks: Vec<String> = stream.replication_key.iter().cloned().collect();
        // A field that does not fit its schema stands there whole.
        let unmapped = stream.nested_off.iter().map(|path| [&["unmapped_fields".to_owned()], path.as_slice()].concat());
        self.output.hide(&stream.nested_off.iter().cloned().chain(unmapped).collect::<Vec<_>>());
        self.output.schema(&stream.name, &stream.schema, &stream.key_properties, &bookmarks)
    }

    /// The records from now on belong to this version of the stream.
    pub fn set_version(&mut self, version: Option<i64>) {
        self.envelope = Envelope::new(&self.stream, version, self.context.now);
    }

    /// The records from now on were read at this time.
    pub fn set_extracted(&mut self, extracted: Micros) {
        self.envelope = Envelope::new(&self.stream, None, extracted);
    }

    /// Writes a record of any length.
    pub fn long_record(&mut self, write: impl FnOnce(&mut Line<'_>)) -> Result<()> {
        let envelope = &self.envelope;
        self.output.long_line(|out| envelope.write(out, write))?;
        self.wrote()
    }

    fn wrote(&mut self) -> Result<()> {
        self.is_unsafe = true;
        self.summary.rows += 1;
        if !self.summary.rows.is_multiple_of(LOOK_ROWS) {
            return Ok(());
        }
        // A limit of the run waits for the next safe place.
        match self.context.stop.cause() {
            Some(cause @ Cause::Signal(_)) => Err(cause.error()),
            _ => Ok(()),
        }
    }

    /// Records written so far.
    pub fn rows(&self) -> u64 {
        self.summary.rows
    }

    /// Counts a slice that was read.
    pub fn count_slice(&mut self, is_proved: bool) {
        self.summary.slices += 1;
        self.summary.proved += u64::from(is_proved);
    }

    /// What was done so far.
    pub fn summary(&self) -> Summary {
        self.summary.clone()
    }

    /// Notes what the records that were written do not hold as it came.
    pub fn note_exceptions(&mut self, exceptions: Exceptions) {
        self.summary.exceptions = exceptions;
    }

    /// Makes the records of a version the whole of the stream.
    pub fn activate_version(&mut self, version: i64) -> Result<()> {
        self.output.activate_version(&self.stream, version)
    }

    /// Begins to show progress towards about `planned` rows, if that is known.
    pub fn begin_progress(&mut self, planned: Option<u64>) {
        self.progress = Some(Progress::new(&self.stream, planned, self.context.client.waits()));
    }

    /// Ends the display of progress.
    pub fn end_progress(&mut self) {
        self.progress = None;
    }

    /// Sets how many rows there are, the received ones among them.
    pub fn plan_progress(&self, rows: u64) {
        if let Some(progress) = &self.progress {
            progress.plan(rows);
        }
    }

    /// Counts rows that were received, and those of them that were written.
    pub fn count(&mut self, received: u64, written: u64) {
        if let Some(progress) = &mut self.progress {
            progress.add(received, written);
        }
    }

    /// The rows that were received so far.
    pub fn received(&self) -> u64 {
        self.progress.as_ref().map_or(0, Progress::done)
    }

    /// The state, to set a bookmark in.
    pub fn state(&mut self) -> &mut State {
        self.state
    }

    /// Everything that was written so far is whole, and a run may go on from here.
    pub fn mark_safe(&mut self) {
        self.is_unsafe = false;
        self.is_unsaid = true;
    }

    /// True where a STATE may go out, as to its pace.
    pub fn is_state_due(&self) -> bool {
        clock::since(self.last_state) >= STATE_EVERY
    }

    /// True where a safe place was not said yet, nothing was written behind it, and a STATE may go out.
    pub fn is_unsaid_place_due(&self) -> bool {
        self.is_unsaid && !self.is_unsafe && self.is_state_due()
    }

    /// Writes a STATE if the last one is long enough ago. One that says nothing new still lets a target commit.
    pub fn write_state_if_due(&mut self) -> Result<()> {
        if self.is_state_due() { self.write_state() } else { Ok(()) }
    }

    /// Writes a STATE now.
    pub fn write_state(&mut self) -> Result<()> {
        self.last_state = clock::now();
        self.is_unsaid = false;
        write_state(self.state, self.context.client, self.output)
    }

    /// True if the last safe place may be said after this failure. Not where rows behind it went out: the STATE would vouch
    /// for them. Not after a failed write: rows before it may not have gone out, and an earlier STATE has to do.
    pub fn may_say_after(&self, error: &Error) -> bool {
        !self.is_unsafe && !matches!(error.kind(), Kind::Pipe | Kind::Disk)
    }

    /// True where rows went out behind the last safe place: they come again.
    pub fn is_unsafe(&self) -> bool {
        self.is_unsafe
    }

    /// The failure with the last safe place said, where that may be.
    pub fn end_early(&mut self, error: Error) -> Error {
        if self.is_unsaid && self.may_say_after(&error) {
            return self.write_state().err().unwrap_or(error);
        }
        match error.kind() {
            Kind::Stopped if self.is_unsafe => error.context("the rows behind the last STATE come again"),
            _ => error,
        }
    }
}

/// What stands around each record of a stream.
struct Envelope {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Envelope {
    fn new(stream: &str, version: Option<i64>, extracted: Micros) -> Envelope {
        let name = Value::from(stream);
        let version = version.map_or_else(String::new, |version| format!(",\"version\":{version}"));
        let extracted = to_rfc3339(extracted);
        Envelope {
            head: format!("{{\"type\":\"RECORD\",\"stream\":{name},\"record\":").into_bytes(),
            tail: format!("{version},\"time_extracted\":\"{extracted}\"}}").into_bytes(),
        }
    }

    fn write<T: LineText>(&self, out: &mut T, write: impl FnOnce(&mut T)) {
        out.extend_from_slice(&self.head);
        write(out);
        out.extend_from_slice(&self.tail);
    }
}

/// Writes a STATE with the requests of the last hour in it: PostHog counts requests over all processes, so a run that
/// starts soon after another one goes on where that one stood. Requests after the last STATE are not counted.
pub fn write_state<W: Write>(state: &mut State, client: &Client, output: &mut Output<W>) -> Result<()> {
    state.set_member(REQUESTS, json!(client.queries().spent(chrono::Utc::now().timestamp())));
    output.state(&state.to_value())
}

/// Counts the requests of the run before this one. `now` is Unix time in seconds. A member of another form is left alone.
pub fn resume_requests(state: &State, client: &Client, now: i64) {
    let spent = state.member(REQUESTS).and_then(|member| serde_json::from_value::<QuotaUsed>(member.clone()).ok());
    if let Some(spent) = spent {
        client.queries().resume(spent, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::tables::tests::with_sink;

    #[test]
    fn a_record_stands_in_one_envelope_and_names_are_escaped() {
        let lines = with_sink("a \"b\"", |sink| {
            sink.long_record(|out| out.extend_from_slice(b"{}")).unwrap();
            sink.set_extracted(1);
            sink.long_record(|out| out.extend_from_slice(b"{}")).unwrap();
            sink.set_version(Some(7));
            sink.long_record(|out| out.extend_from_slice(b"{}")).unwrap();
        });
        let line = |rest: &str| format!(r#"{{"type":"RECORD","stream":"a \"b\"","record":{{}}{rest}"}}"#);
        let now = r#","time_extracted":"2027-01-15T08:00:00.000000Z"#;
        assert_eq!(lines[0], line(now));
        assert_eq!(lines[1], line(r#","time_extracted":"1970-01-01T00:00:00.000001Z"#));
        assert_eq!(lines[2], line(&format!(r#","version":7{now}"#)));
    }

    /// A STATE comes when the last one is old enough, and never behind rows that it does not vouch for.
    #[test]
    fn states_keep_their_pace_and_never_pass_a_row() {
        let failed = || Error::new(Kind::Service, "no answer");
        let states = |drive: &dyn Fn(&mut Sink<'_, Vec<u8>>)| with_sink("s", |sink| drive(sink)).len();
        let old = |sink: &mut Sink<'_, Vec<u8>>| sink.last_state -= STATE_EVERY;
        assert_eq!(states(&|sink| sink.write_state_if_due().unwrap()), 0);
        let twice = |sink: &mut Sink<'_, Vec<u8>>| {
            old(sink);
            sink.write_state_if_due().unwrap();
            sink.write_state_if_due().unwrap();
        };
        assert_eq!(states(&twice), 1);
        let safe = |sink: &mut Sink<'_, Vec<u8>>| {
            sink.mark_safe();
            assert!(!sink.is_unsaid_place_due());
            old(sink);
            assert!(sink.is_unsaid_place_due());
            assert_eq!(sink.end_early(failed()).kind(), Kind::Service);
            old(sink);
            assert!(!sink.is_unsaid_place_due(), "it was said");
            sink.end_early(failed());
        };
        assert_eq!(states(&safe), 1);
        let passed = |sink: &mut Sink<'_, Vec<u8>>| {
            sink.mark_safe();
            sink.long_record(|_| ()).unwrap();
            old(sink);
            assert!(!sink.is_unsaid_place_due());
            sink.end_early(failed());
        };
        assert_eq!(states(&passed), 1, "the row alone");
        assert_eq!(states(&|sink| (sink.mark_safe(), sink.end_early(Error::new(Kind::Pipe, ""))).0), 0);
    }
}
