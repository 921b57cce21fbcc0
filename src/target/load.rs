//! The story of a run: read lines, put records into sinks, commit at a STATE, print the state.
//!
//! A commit happens at a STATE or at the end of input, never between, so it is a whole number of the tap's intervals. A
//! signal or a bad line commits up to the last STATE: rows behind it are dropped, and the tap sends them again. Where the
//! disk fails, nothing more is published.

mod records;

use std::io::Write;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::columns::message::SchemaMessage;
use super::commit::commits::{Commits, Reached};
use super::commit::due::Due;
use super::commit::states::States;
use super::commit::versions::End;
use super::input::lines::{Lines, Next};
use super::input::message::Envelope;
use super::rows::streams::Streams;
use super::settings::{LoadMethod, Settings};
use super::store::Fs;
use crate::error::{Error, Kind, Result};
use crate::json::escape::plain;
use crate::json::token::{Escapes, Text};
use crate::log;
use crate::metrics;
use crate::singer::output::Output;

/// Messages between two looks at how much memory is left for row groups.
const SHARE_MEMORY_EVERY: u64 = 1 << 16;
/// Messages between two looks at how many there were.
const LOOK_EVERY: u64 = 1 << 9;

/// The program that writes the input, where this one started it.
pub trait Upstream {
    /// The state that it was started with.
    fn start_state(&self) -> Option<Box<[u8]>>;
    /// Called behind its last message: waits for its end, and says whether it ended well.
    fn ended(&mut self) -> Result<()>;
    /// So many messages came.
    fn came(&mut self, messages: u64);
    /// What it said of a stream, for the summary.
    fn remarks(&self, stream: &str) -> Vec<String>;
}

/// One run.
pub struct Load<'a, W: Write> {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The program that writes the input.
    pub upstream: Option<&'a mut dyn Upstream>,
    /// The streams of the input, and their rows.
    pub streams: Streams,
    /// What makes rows visible.
    pub commits: Commits,
    states: States<W>,
    due: Due,
    /// How many values were left out before the record in work.
    left_out: u64,
    /// The line that is read.
    pub line: u64,
    /// The first STATE, if no record came before it, until the run has begun.
    start_state: Option<Box<[u8]>>,
    begun: bool,
    /// A STATE came behind the first record.
    covers: bool,
    /// How many messages came.
    pub messages: u64,
    /// The stream of the last record: the next one is probably of the same.
    last_stream: usize,
    started_ms: i64,
}

/// Runs the target: reads the lines to their end. Where that fails, everything that was committed before stays.
pub fn run<W: Write>(
    settings: Settings,
    mut lines: Lines,
    upstream: Option<&mut dyn Upstream>,
    output: Output<W>,
    fs: Arc<dyn Fs>,
) -> Result<()> {
    let started = Instant::now();
    let mut load = Load::open(settings, upstream, output, fs)?;
    let ended = load.read(&mut lines).or_else(|error| load.rescue(error));
    metrics::timer("sync_duration", started.elapsed().as_secs_f64(), ended.is_ok(), None);
    load.report();
    ended
}

impl<'a, W: Write> Load<'a, W> {
    fn open(
        settings: Settings,
        upstream: Option<&'a mut dyn Upstream>,
        output: Output<W>,
        fs: Arc<dyn Fs>,
    ) -> Result<Self> {
        let settings = Arc::new(settings);
        let commits = Commits::open(&settings, Arc::clone(&fs))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        Ok(Load {
            streams: Streams::new(Arc::clone(&settings), fs, commits.next())?,
            commits,
            states: States::new(output),
            due: Due::new(Arc::clone(&settings)),
            left_out: 0,
            line: 0,
            start_state: upstream.as_ref().and_then(|upstream| upstream.start_state()),
            upstream,
            begun: false,
            covers: false,
            messages: 0,
            last_stream: 0,
            started_ms: i64::try_from(now).unwrap_or(i64::MAX),
            settings,
        })
    }

    /// The loop: a line is a record, a schema, a state or an activation; silence and the end of the input commit.
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        loop {
            let next = lines.next(self.deadline())?;
            match next {
                Next::Line(line) => {
                    self.line += 1;
                    self.message(line)?;
                }
                Next::Silence => self.commit(End::NotYet)?,
                Next::End => return self.last_commit(),
                Next::Torn => return self.torn(),
            }
        }
    }

    /// At the end of the input: what came of a program that failed is kept, and is not taken for all of its work.
    fn last_commit(&mut self) -> Result<()> {
        let ended = self.upstream.as_mut().map_or(Ok(()), |upstream| upstream.ended());
        self.commit(if ended.is_ok() { self.end() } else { End::Interrupted })?;
        ended
    }

    /// The input ends with half a line. Where the program that wrote it failed, that is the trouble.
    fn torn(&mut self) -> Result<()> {
        let text = "the input ends in the middle of a line; the tap did not end well";
        let error = Error::new(Kind::NotSinger, format!("line {}: {text}", self.line + 1));
        let Some(upstream) = &mut self.upstream else { return Err(error) };
        let ended = upstream.ended();
        self.commit(End::Interrupted)?;
        ended.and(Err(error))
    }

    /// When to commit if nothing more comes: only after a STATE, and only if something waits.
    fn deadline(&self) -> Option<Instant> {
        let waits = self.due.rows_behind_state == 0 && self.states.waits() && self.commits_at_states();
        waits.then(|| self.due.deadline())
    }

    /// How the input ended: rows behind the last STATE say that the tap was interrupted, unless it is one that sends none.
    fn end(&self) -> End {
        let is_whole = self.due.rows_behind_state == 0 || self.states.newest().is_none();
        if is_whole { End::Whole } else { End::Interrupted }
    }

    /// Rows that replace a stream are published together, at the end.
    fn commits_at_states(&self) -> bool {
        self.settings.load_method == LoadMethod::AppendOnly
    }

    fn message(&mut self, line: &[u8]) -> Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if simdutf8::basic::from_utf8(line).is_err() {
            return Err(self.not_singer("it is not UTF-8"));
        }
        self.messages += 1;
        if self.messages.is_multiple_of(LOOK_EVERY) {
            self.look_around();
        }
        if let Some((version, record)) = self.streams.get(self.last_stream).and_then(|stream| stream.head.find(line)) {
            self.begin()?;
            let envelope = Envelope { version, ..Envelope::default() };
            return self.record(self.last_stream, line, record, Some(envelope));
        }
        let envelope = Envelope::read(line).map_err(|fault| self.syntax(fault))?;
        let kind = plain(envelope.kind.ok_or_else(|| self.not_singer("it has no type"))?);
        match kind.to_ascii_uppercase().as_slice() {
            b"RECORD" => self.any_record(line, envelope),
            b"STATE" => self.on_state(&envelope),
            b"SCHEMA" => self.schema(line),
            b"ACTIVATE_VERSION" => self.activate(&envelope),
            b"BATCH" => Err(self.not_singer("BATCH messages name files to read; this target takes records only")),
            _ => Err(self.not_singer("its type is not one of SCHEMA, RECORD, STATE, ACTIVATE_VERSION")),
        }
    }

    /// Before the first record, and before any commit: a STATE that came so far says what the tap was started with.
    fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let start_state = self.start_state.take();
        self.commits.begin(start_state.as_deref())?;
        self.share_memory();
        Ok(())
    }

    fn look_around(&mut self) {
        if self.messages.is_multiple_of(SHARE_MEMORY_EVERY) {
            self.share_memory();
        }
        if let Some(upstream) = &mut self.upstream {
            upstream.came(self.messages);
        }
    }

    /// Row groups cannot have the memory that the replay window takes.
    fn share_memory(&mut self) {
        self.streams.share_memory(self.commits.replay.bytes());
    }

    fn schema(&mut self, line: &[u8]) -> Result<()> {
        let taken = SchemaMessage::read(line).and_then(|message| self.streams.schema(&message));
        taken.map_err(|e| e.context(format!("line {}", self.line)))
    }

    fn activate(&mut self, envelope: &Envelope<'_>) -> Result<()> {
        let index = self.stream_of(envelope)?;
        let version = envelope.version.ok_or_else(|| self.not_singer("its ACTIVATE_VERSION has no version"))?;
        if let Some(stream) = self.streams.get(index) {
            self.commits.versions.activate(stream, version);
        }
        Ok(())
    }

    fn stream_of(&mut self, envelope: &Envelope<'_>) -> Result<usize> {
        let name = plain(envelope.stream.ok_or_else(|| self.not_singer("it has no stream"))?);
        let name = std::str::from_utf8(&name).unwrap_or_default();
        let found = self.streams.find(name);
        found.ok_or_else(|| self.not_singer(format!("stream {name:?} has had no SCHEMA message before it")))
    }

    fn on_state(&mut self, envelope: &Envelope<'_>) -> Result<()> {
        let value = envelope.value.ok_or_else(|| self.not_singer("its STATE has no value"))?;
        if value == b"null" {
            return Err(self.not_singer("the value of its STATE is null, which would make the tap begin anew"));
        }
        if !self.begun && self.start_state.is_none() {
            self.start_state = Some(value.into());
        }
        self.states.take(value);
        self.covers = self.begun;
        self.streams.on_state();
        self.commits.on_state();
        let bytes = self.streams.bytes_written();
        self.due.on_state(bytes);
        let rows = self.streams.iter().map(|stream| stream.rows).max().unwrap_or_default();
        let commits = self.messages > 1 && self.commits_at_states() && self.due.is_due(rows, bytes);
        if commits { self.commit(End::NotYet) } else { Ok(()) }
    }

    /// Makes everything so far durable, then prints the newest STATE.
    fn commit(&mut self, end: End) -> Result<()> {
        self.streams.flush()?;
        if end == End::Interrupted && !self.commits_at_states() {
            // The next run reads everything again: no state may say that it need not.
            return Ok(());
        }
        if self.messages > 0 {
            self.begin()?;
        }
        let (state, trailing) = (self.states.newest(), self.due.rows_behind_state > 0);
        let before = self.commits.next();
        self.commits.commit(&mut self.streams, Reached { state, trailing, end, begun: self.messages > 1 })?;
        if self.commits.next() > before && self.settings.writes_views {
            self.commits.write_views(&self.settings.destination);
        }
        self.streams.committed(self.commits.next())?;
        self.due.committed();
        self.states.print()
    }

    /// A line that cannot be taken, a signal and a tap that died lose nothing that a STATE before them covers: the rows behind
    /// it are forgotten, the others are committed, so that the next run goes on from there. (A signal has set a limit to
    /// how long that may take.) The run ends with its error all the same.
    fn rescue(&mut self, error: Error) -> Result<()> {
        let is_of_input = matches!(error.kind(), Kind::NotSinger | Kind::Misfit | Kind::Signal(_));
        if is_of_input && self.covers && self.states.waits() && self.commits_at_states() {
            self.streams.forget_behind();
            self.due.rows_behind_state = 0;
            if let Err(failed) = self.commits.forget_behind().and_then(|()| self.commit(End::NotYet)) {
                log::warn(format!("what the last STATE covers could not be committed: {failed}"));
            }
        }
        Err(error)
    }
}

/// Stands for members that the usual start of a line has.
const EMPTY: Text<'static> = Text { raw: b"", escapes: Escapes::None };
