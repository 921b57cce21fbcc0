//! The commits of a run: the log, the versions of streams, and the rows that come again, in the order that a commit needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::commit_log::CommitLog;
use super::record::{Record, state_hash};
use super::replay::Replay;
use super::versions::{End, Versions};
use crate::error::Result;
use crate::metrics;
use crate::target::rows::fingerprint::Fingerprint;
use crate::target::rows::streams::{Stream, Streams};
use crate::target::settings::{Dedup, LoadMethod, Settings};
use crate::target::store::Fs;
use crate::target::views;

/// What the commits of a run wrote of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Files.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The commits of a run.
#[derive(Debug)]
pub struct Commits {
    /// What they wrote, by stream.
    pub written: BTreeMap<String, Written>,
    log: CommitLog,
    /// Which version of each stream is visible.
    pub versions: Versions,
    /// The rows that may come again.
    pub replay: Replay,
    overwrites: bool,
    /// The number of the run's first commit.
    first: u64,
    start_state: Option<Box<[u8]>>,
}

/// How far the run has come when it commits.
#[derive(Clone, Copy, Debug)]
pub struct Reached<'a> {
    /// The newest STATE.
    pub state: Option<&'a [u8]>,
    /// Some rows came after it.
    pub trailing: bool,
    /// Whether the input ended, and how.
    pub end: End,
    /// More came than a STATE to start with, which is no checkpoint.
    pub begun: bool,
}

impl Commits {
    /// Opens the log; the work that an earlier run left half done is finished or removed.
    pub fn open(settings: &Settings, fs: Arc<dyn Fs>) -> Result<Self> {
        let log = CommitLog::open(Arc::clone(&fs))?;
        let overwrites = settings.load_method == LoadMethod::Overwrite;
        // Rows that replace a stream must all come in, also rows that are there already.
        let dedup = if overwrites { Dedup::Off } else { settings.dedup };
        let run = overwrites.then(|| i64::try_from(log.next()).unwrap_or(i64::MAX));
        Ok(Commits {
            written: BTreeMap::new(),
            versions: Versions::new(fs, log.last(), run),
            replay: Replay::new(dedup, settings.dedup_window_rows),
            overwrites,
            first: log.next(),
            start_state: None,
            log,
        })
    }

    /// The number of the next commit.
    pub fn next(&self) -> u64 {
        self.log.next()
    }

    /// Writes the views of what is committed.
    pub fn write_views(&self, destination: &Path) {
        views::write(self.log.fs(), destination, |stream| self.versions.has_version(stream));
    }

    /// Notes the state that the input begins with, and loads the rows that may come again.
    pub fn begin(&mut self, start_state: Option<&[u8]>) -> Result<()> {
        self.start_state = start_state.map(Into::into);
        self.replay.load(&self.log, start_state)
    }

    /// A STATE came: it covers everything so far.
    pub fn on_state(&mut self) {
        self.replay.on_state();
        self.versions.on_state();
    }

    /// Forgets what came behind the newest STATE.
    pub fn forget_behind(&mut self) -> Result<()> {
        self.versions.forget_behind();
        self.replay.forget_behind(&self.log)
    }

    /// True if a row with this fingerprint was written before: it is left out. Else it goes to `sink`.
    pub fn is_repeat(&mut self, sink: u64, fingerprint: Fingerprint) -> Result<bool> {
        Ok(!self.replay.note(sink, fingerprint, &self.log)?)
    }

    /// Takes the first row of a held version that is kept in this run; its fingerprint, if the stream has keys.
    pub fn begin_version(&mut self, stream: &Stream, version: i64, first: Option<Fingerprint>) -> Result<()> {
        self.versions.begin(stream, version, first, &self.replay)
    }

    /// Makes every row that was handed over durable, with the state behind it, if there is anything new.
    pub fn commit(&mut self, streams: &mut Streams, reached: Reached<'_>) -> Result<()> {
        self.versions.before_commit(streams, reached.end)?;
        if reached.end == End::Whole {
            streams.make_tables(|folder| self.versions.is_due(folder))?;
        }
        let mut staged = streams.finish()?;
        let fingerprints = self.replay.finish()?;
        let last_state = self.log.last().and_then(|last| last.state.clone());
        let state = reached.state.and_then(raw).or_else(|| last_state.clone());
        let activate = self.versions.activations(streams, &mut staged, self.replay.begins_at(self.first))?;
        let eof = reached.end != End::NotYet;
        // A run that ends well is a witness for its last state, also where it was committed before the end was seen.
        let unwitnessed = eof && self.log.last().is_some_and(|last| last.run == self.first && !last.eof);
        let is_new = !activate.is_empty() || text(&state) != text(&last_state) || unwitnessed;
        if staged.is_empty() && !(is_new && reached.begun) {
            return Ok(());
        }
        let mut counted: Vec<_> = streams.iter().filter(|stream| stream.rows > 0).collect();
        counted.sort_by_key(|stream| &stream.name);
        for stream in counted {
            metrics::counter("record_count", stream.rows, Some(&stream.name));
        }
        let start_state = self.start_state.as_deref().filter(|_| self.next() == self.first);
        let record = Record {
            run: self.first,
            start_state_hash: start_state.map(state_hash),
            state_hash: state.as_ref().map(|state| state_hash(state.get().as_bytes())),
            state,
            eof,
            trailing: reached.trailing,
            uncovered: self.replay.uncovered(),
            overwrite: !activate.is_empty() && self.overwrites,
            fingerprints: fingerprints.as_ref().map_or(0, |staged| staged.rows),
            versions: self.versions.visible(&activate),
            held: self.versions.firsts(&activate),
            drop: self.versions.dropped().to_vec(),
            activate,
            ..Record::default()
        };
        staged.extend(fingerprints);
        streams.save_columns()?;
        let record = self.log.commit(record, &staged)?;
        for file in record.files.iter().filter(|file| !file.stream.is_empty()) {
            let written = self.written.entry(file.stream.clone()).or_default();
            written.files += 1;
            written.rows += file.rows;
            written.bytes += file.bytes;
        }
        self.versions.after_commit(record)?;
        self.replay.forget(&mut self.log)
    }
}

fn raw(text: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(std::str::from_utf8(text).ok()?.to_owned()).ok()
}

fn text(state: &Option<Box<RawValue>>) -> Option<&str> {
    state.as_deref().map(RawValue::get)
}
