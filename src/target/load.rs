//! The story of a run: read lines, put records into sinks, commit at a STATE, print the state.
//!
//! A commit happens at a STATE or at the end of input, never between, so it is a whole number of the tap's intervals. Any
//! other end (a signal, a bad line, a full disk) publishes nothing more: rows since the last STATE cannot be cut out of a
//! row group, so they are dropped here and the tap sends them again.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::columns::message::SchemaMessage;
use super::columns::metadata;
use super::commit::log::{CommitLog, Record};
use super::commit::replay::Replay;
use super::commit::versions::{End, Versions};
use super::files::thread::Encoder;
use super::input::lines::{Lines, Next};
use super::input::message::Envelope;
use super::rows::cells::Oddities;
use super::rows::streams::Streams;
use super::settings::{Dedup, LoadMethod, Settings};
use super::store::disk::Fs;
use crate::error::{Error, Kind, Result};
use crate::json::escape::unescape;
use crate::json::scan::Scanner;
use crate::metrics;
use crate::singer::output::Output;
use crate::stop::Stop;

/// Messages between two looks at how much memory is left for row groups.
const SHARE_MEMORY_EVERY: u64 = 1 << 16;

/// One run.
#[derive(Debug)]
pub struct Load<W: Write> {
    pub settings: Settings,
    output: Output<W>,
    commits: CommitLog,
    encoder: Encoder,
    pub streams: Streams,
    pub versions: Versions,
    pub replay: Replay,
    pub odd: Oddities,
    pub line: u64,
    pub messages: u64,
    /// The stream of the last record: the next one is probably of the same.
    last_stream: usize,
    start_state: Option<Box<[u8]>>,
    /// The newest STATE, and whether it was printed.
    state: Option<Box<[u8]>>,
    printed: Option<Box<[u8]>>,
    /// Rows since the newest STATE, and in the interval before it.
    rows_behind_state: u64,
    interval: Interval,
    first_commit: u64,
    last_commit: Instant,
    started_ms: i64,
}

/// How much came between the last two STATEs, to foresee whether another interval fits into the file.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    rows: u64,
    bytes: u64,
    bytes_before: u64,
}

/// Runs the target: reads `input` to its end.
///
/// # Errors
/// Whatever ended the run. All that was committed before stays.
pub fn run<W: Write>(settings: Settings, input: File, output: Output<W>, fs: Arc<dyn Fs>, stop: &Stop) -> Result<()> {
    let started = Instant::now();
    let mut lines = Lines::new(input, stop.clone(), settings.max_line_bytes)?;
    let mut load = Load::open(settings, output, fs)?;
    let ended = load.read(&mut lines).or_else(|error| load.rescue(error));
    metrics::timer("sync_duration", started.elapsed().as_secs_f64(), ended.is_ok(), None);
    load.report();
    ended
}

impl<W: Write> Load<W> {
    fn open(settings: Settings, output: Output<W>, fs: Arc<dyn Fs>) -> Result<Self> {
        let commits = CommitLog::open(Arc::clone(&fs))?;
        let first_commit = commits.next();
        let encoder = Encoder::start(fs, first_commit)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        // Rows that replace what is there must all come in, also those that are there already.
        let dedup = if settings.load_method == LoadMethod::Overwrite { Dedup::Off } else { settings.dedup };
        Ok(Load {
            streams: Streams::new(super::rows::memory::row_groups(&settings, 0)),
            versions: Versions::new(&commits, settings.load_method),
            replay: Replay::new(dedup, settings.dedup_window_rows),
            odd: Oddities::default(),
            line: 0,
            messages: 0,
            last_stream: 0,
            start_state: None,
            state: None,
            printed: None,
            rows_behind_state: 0,
            interval: Interval::default(),
            first_commit,
            last_commit: Instant::now(),
            started_ms: i64::try_from(now).unwrap_or(i64::MAX),
            settings,
            output,
            commits,
            encoder,
        })
    }

    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        loop {
            let next = lines.next(self.deadline())?;
            match next {
                Next::Line(line) => {
                    self.line += 1;
                    self.message(line)?;
                }
                Next::Silence => self.commit(false)?,
                Next::End => return self.commit(true),
            }
        }
    }

    /// When to commit if nothing more comes: only after a STATE, and only if something waits.
    fn deadline(&self) -> Option<Instant> {
        let waits = self.rows_behind_state == 0 && self.state != self.printed && self.commits_now();
        waits.then(|| self.last_commit + self.settings.max_batch_age)
    }

    /// Rows that replace a stream are published together, at the end.
    fn commits_now(&self) -> bool {
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
        if self.messages.is_multiple_of(SHARE_MEMORY_EVERY) {
            self.share_memory();
        }
        if let Some((version, record)) = self.streams.get(self.last_stream).and_then(|stream| stream.head.find(line)) {
            let envelope = Envelope { version, ..Envelope::default() };
            return self.record(self.last_stream, line, record, Some(envelope));
        }
        let envelope = Envelope::read(line).map_err(|fault| self.syntax(fault))?;
        let mut kind = Vec::new();
        unescape(envelope.kind.ok_or_else(|| self.not_singer("it has no type"))?, &mut kind);
        if self.messages == 1 {
            self.begin(&kind, &envelope)?;
        }
        match kind.to_ascii_uppercase().as_slice() {
            b"RECORD" => self.any_record(line, envelope),
            b"STATE" => self.on_state(&envelope),
            b"SCHEMA" => self.schema(line),
            b"ACTIVATE_VERSION" => self.activate(&envelope),
            b"BATCH" => Err(self.not_singer("BATCH messages name files to read; this target takes records only")),
            _ => Err(self.not_singer("its type is not one of SCHEMA, RECORD, STATE, ACTIVATE_VERSION")),
        }
    }

    /// The first message. A STATE there says what the tap was started with; it is no checkpoint.
    fn begin(&mut self, kind: &[u8], envelope: &Envelope<'_>) -> Result<()> {
        self.start_state = envelope.value.filter(|_| kind.eq_ignore_ascii_case(b"STATE")).map(Into::into);
        self.replay.load(&self.commits, self.start_state.as_deref())?;
        self.share_memory();
        Ok(())
    }

    /// What the window takes, row groups cannot have.
    fn share_memory(&mut self) {
        self.streams.set_budget(super::rows::memory::row_groups(&self.settings, self.replay.bytes()));
    }

    fn any_record(&mut self, line: &[u8], envelope: Envelope<'_>) -> Result<()> {
        let at = envelope.record.ok_or_else(|| self.not_singer("it has no record"))?;
        let index = self.stream_of(&envelope)?;
        let mut record = Scanner::new(line);
        record.jump(at);
        self.last_stream = index;
        self.record_of(index, line, record, &envelope)
    }

    /// A record whose envelope in front of it was read; the members behind it are still to come.
    fn record(&mut self, index: usize, line: &[u8], record: Scanner<'_>, front: Option<Envelope<'_>>) -> Result<()> {
        let front = front.unwrap_or_default();
        let Some(stream) = self.streams.get(index) else { return Ok(()) };
        let version = front.version.or(stream.last_version);
        stream.last_version = version;
        let mut scanner = record;
        self.read_row(index, version, &mut scanner)?;
        let seen = Envelope { kind: Some(EMPTY), stream: Some(EMPTY), record: Some(0), ..front };
        let envelope = seen.behind_record(&mut scanner).map_err(|fault| self.syntax(fault))?;
        if envelope.version == version {
            return self.keep_row(index, line, &envelope);
        }
        // Another version than the last record's, said behind the record: read it again, into the right sink.
        if let Some(sink) = self.streams.current(index) {
            sink.undo();
        }
        self.record_of(index, line, record, &envelope)
    }

    fn record_of(&mut self, index: usize, line: &[u8], mut record: Scanner<'_>, envelope: &Envelope<'_>) -> Result<()> {
        if let Some(stream) = self.streams.get(index) {
            stream.last_version = envelope.version;
        }
        self.read_row(index, envelope.version, &mut record)?;
        self.keep_row(index, line, envelope)
    }

    fn read_row(&mut self, index: usize, version: Option<i64>, record: &mut Scanner<'_>) -> Result<()> {
        let Some(stream) = self.streams.get(index) else { return Ok(()) };
        let held = self.versions.held(&stream.name, &stream.folder, version, self.commits.fs())?;
        let routed = self.streams.route(index, held, *record, &self.settings);
        let read = routed.and_then(|()| self.streams.read(index, record, &mut self.odd));
        read.map_err(|error| self.misfit(index, error))
    }

    /// The row was read: leave it out if it was written before, else count it.
    fn keep_row(&mut self, index: usize, line: &[u8], envelope: &Envelope<'_>) -> Result<()> {
        let keyed = !self.replay.is_off() && self.streams.get(index).is_some_and(|stream| stream.schema.keyed);
        let Some(sink) = self.streams.current(index) else { return Ok(()) };
        if keyed && !self.replay.note(sink.fingerprint(line, envelope.version), &self.commits)? {
            sink.undo();
            return Ok(());
        }
        if self.settings.add_record_metadata {
            sink.metadata(metadata::values(envelope, self.started_ms, &mut self.odd));
        }
        self.rows_behind_state += 1;
        self.streams.keep(index, line.len(), &self.settings, &mut self.encoder)
    }

    fn schema(&mut self, line: &[u8]) -> Result<()> {
        let message = SchemaMessage::read(line).map_err(|e| e.context(format!("line {}", self.line)))?;
        let fs = self.commits.fs();
        let taken = self.streams.schema(&message, &self.settings, fs, &mut self.encoder);
        taken.map_err(|e| e.context(format!("line {}", self.line)))
    }

    fn activate(&mut self, envelope: &Envelope<'_>) -> Result<()> {
        let index = self.stream_of(envelope)?;
        let version = envelope.version.ok_or_else(|| self.not_singer("its ACTIVATE_VERSION has no version"))?;
        if let Some(stream) = self.streams.get(index) {
            self.versions.activate(&stream.name, &stream.folder, version);
        }
        Ok(())
    }

    fn stream_of(&mut self, envelope: &Envelope<'_>) -> Result<usize> {
        let mut name = Vec::new();
        unescape(envelope.stream.ok_or_else(|| self.not_singer("it has no stream"))?, &mut name);
        let name = String::from_utf8(name).unwrap_or_default();
        let found = self.streams.find(&name);
        found.ok_or_else(|| self.not_singer(format!("stream {name:?} has had no SCHEMA message before it")))
    }

    fn on_state(&mut self, envelope: &Envelope<'_>) -> Result<()> {
        let value = envelope.value.ok_or_else(|| self.not_singer("its STATE has no value"))?;
        if value == b"null" {
            return Err(self.not_singer("the value of its STATE is null, which would make the tap begin anew"));
        }
        self.state = Some(value.into());
        self.replay.on_state();
        let bytes = self.encoder.bytes_written();
        self.interval = Interval {
            rows: std::mem::take(&mut self.rows_behind_state),
            bytes: bytes.saturating_sub(self.interval.bytes_before),
            bytes_before: bytes,
        };
        if self.messages > 1 && self.commits_now() && self.is_due() { self.commit(false) } else { Ok(()) }
    }

    /// True if the file would grow beyond its limits in another interval as long as the last one, or is old enough.
    fn is_due(&self) -> bool {
        let rows = self.streams.iter().map(|stream| stream.rows).max().unwrap_or_default();
        let bytes = self.encoder.bytes_written() + self.interval.bytes;
        rows + self.interval.rows > self.settings.batch_size_rows
            || bytes > self.settings.file_size_bytes
            || self.last_commit.elapsed() >= self.settings.max_batch_age
    }

    /// Makes everything so far durable, then prints the newest STATE.
    fn commit(&mut self, eof: bool) -> Result<()> {
        self.streams.flush(&mut self.encoder)?;
        // Rows behind the last STATE say that the tap was interrupted, unless it is one that sends none.
        let end = match (eof, self.rows_behind_state == 0 || self.state.is_none()) {
            (false, _) => End::NotYet,
            (true, true) => End::Whole,
            (true, false) => End::Interrupted,
        };
        if end == End::Interrupted && !self.commits_now() {
            // The next run reads everything again: no state may say that it need not.
            return Ok(());
        }
        self.versions.before_commit(&mut self.streams, &mut self.encoder, &self.settings, end, self.commits.fs())?;
        let mut staged = self.encoder.finish()?;
        let fingerprints = self.replay.finish()?;
        let last_state = self.commits.last().and_then(|last| last.state.clone());
        let state = self.state.as_deref().and_then(raw).or_else(|| last_state.clone());
        let activate = self.versions.activations(&staged, self.commits.fs())?;
        // A run that ends well is a witness for its last state, also where it was committed before the end was seen.
        let unwitnessed = eof && self.commits.last().is_some_and(|last| last.run == self.first_commit && !last.eof);
        let news = !staged.is_empty() || !activate.is_empty() || text(&state) != text(&last_state) || unwitnessed;
        if news && (self.messages > 1 || !staged.is_empty()) {
            for (stream, rows) in Streams::rows_of(&staged) {
                metrics::counter("record_count", rows, Some(stream));
            }
            let first = self.commits.next() == self.first_commit;
            let record = Record {
                run: self.first_commit,
                start_state: self.start_state.as_deref().filter(|_| first).and_then(raw),
                state,
                eof,
                trailing: self.rows_behind_state > 0,
                uncovered: self.replay.uncovered(),
                overwrite: !activate.is_empty() && self.settings.load_method == LoadMethod::Overwrite,
                fingerprints: fingerprints.as_ref().map_or(0, |staged| staged.rows),
                versions: self.versions.visible(&activate),
                activate,
                ..Record::default()
            };
            staged.extend(fingerprints);
            self.streams.save_columns(self.commits.fs())?;
            self.commits.commit(record, &staged)?;
            self.versions.after_commit(&self.commits)?;
            self.replay.forget(&self.commits)?;
        }
        self.encoder.set_commit(self.commits.next())?;
        self.streams.committed();
        self.interval = Interval::default();
        self.last_commit = Instant::now();
        self.print_state()
    }

    fn print_state(&mut self) -> Result<()> {
        if self.state.is_none() || self.state == self.printed {
            return Ok(());
        }
        self.printed.clone_from(&self.state);
        let state = self.state.as_deref().unwrap_or_default();
        self.output.line(|line| {
            line.extend_from_slice(state);
            Ok(())
        })?;
        self.output.flush()
    }

    /// A signal right after a STATE loses nothing: commits, if that is quick (the signal has set a limit). Any other failure ends the run as it is.
    fn rescue(&mut self, error: Error) -> Result<()> {
        let Kind::Signal(_) = error.kind() else { return Err(error) };
        if self.rows_behind_state == 0 && self.state.is_some() && self.commits_now() {
            self.commit(false)?;
        }
        Err(error)
    }
}

/// Stands for members that the usual start of a line has.
const EMPTY: crate::json::scan::Text<'static> =
    crate::json::scan::Text { raw: b"", escapes: crate::json::scan::Escapes::None };

fn raw(text: &[u8]) -> Option<Box<serde_json::value::RawValue>> {
    serde_json::value::RawValue::from_string(std::str::from_utf8(text).ok()?.to_owned()).ok()
}

fn text(state: &Option<Box<serde_json::value::RawValue>>) -> Option<&str> {
    state.as_deref().map(serde_json::value::RawValue::get)
}
