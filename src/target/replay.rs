//! Exactly once under runners that keep their own state: rows that a crashed run committed, and that the tap now sends
//! again because the runner knows an older state, are recognised by fingerprint and left out.
//!
//! A fingerprint covers the stream, the version, and the row's key and bookmark values (the whole record where the SCHEMA
//! names no bookmark). Streams without key properties are never touched: two equal rows may be two facts. The window is
//! bounded; what lies beyond it may repeat, and that is said once.

use std::collections::HashSet;
use std::io::Write as _;

use super::commit::{CommitLog, fingerprints_path};
use super::config::Dedup;
use super::file::{STAGING, Staged};
use super::fs::FsFile;
use crate::error::{Error, Kind, Result};
use crate::json::escape::unescape;
use crate::json::scan::Scanner;
use crate::log;

/// 128 bits of a BLAKE3 hash: event content is written by strangers, so it must be one that nobody can steer.
type Fingerprint = [u8; 16];

/// Commits that are kept at most, and so looked at when searching for the state that a run began with. States can be
/// large.
const MAX_COMMITS: u64 = 1_000;
/// Commits between two looks for those that are no longer needed.
const FORGET_EVERY: u64 = 64;
/// Fingerprints are written in pieces of this many bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// Hashes rows of one stream and version.
#[derive(Debug)]
pub struct Hasher {
    key: [u8; 32],
    text: Vec<u8>,
}

impl Hasher {
    /// For rows of `version` of `stream`.
    #[must_use]
    pub fn new(stream: &str, version: Option<i64>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&version.map_or([0; 9], |version| {
            let mut bytes = [1; 9];
            bytes[1..].copy_from_slice(&version.to_le_bytes());
            bytes
        }));
        hasher.update(stream.as_bytes());
        Hasher { key: *hasher.finalize().as_bytes(), text: Vec::new() }
    }

    /// Starts a row.
    pub fn start(&mut self) {
        self.text.clear();
    }

    /// Adds the JSON text of the row's next value; `slot` tells columns apart. Strings count without their escapes.
    pub fn add(&mut self, slot: u32, value: &[u8]) {
        let before = self.text.len();
        self.text.extend_from_slice(&[0; 8]);
        let string = if value.first() == Some(&b'"') { Scanner::new(value).string().ok() } else { None };
        match string {
            Some(string) => drop(unescape(string, &mut self.text)),
            None => self.text.extend_from_slice(value),
        }
        let mark = slot << 1 | u32::from(string.is_some());
        let length = u32::try_from(self.text.len() - before).unwrap_or(u32::MAX);
        if let Some(head) = self.text.get_mut(before..before + 8) {
            head.copy_from_slice(&(u64::from(mark) << 32 | u64::from(length)).to_le_bytes());
        }
    }

    /// The fingerprint of the row.
    #[must_use]
    pub fn finish(&self) -> Fingerprint {
        let hash = blake3::keyed_hash(&self.key, &self.text);
        hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default()
    }
}

/// What the target remembers of rows that it wrote.
#[derive(Debug)]
pub struct Replay {
    dedup: Dedup,
    window_rows: u64,
    /// Sorted: rows of earlier runs, and which of them came again (one bit each).
    window: Vec<Fingerprint>,
    came: Vec<u64>,
    /// How many of them did not come again yet, and the commit behind which the window begins while no STATE covers it.
    missing: usize,
    uncovered: Option<u64>,
    /// `always`: rows of this run, the newest half window and the half before it.
    newest: HashSet<Fingerprint>,
    newer: HashSet<Fingerprint>,
    pending: Option<Pending>,
    skipped: u64,
    commits: u64,
}

/// The fingerprints of the commit to come, on their way to the staging folder.
#[derive(Debug)]
struct Pending {
    name: String,
    file: Box<dyn FsFile>,
    buffer: Vec<u8>,
    rows: u64,
}

impl Replay {
    /// Nothing is left out until [`Replay::load`].
    #[must_use]
    pub fn new(dedup: Dedup, window_rows: u64) -> Self {
        Replay {
            dedup,
            window_rows,
            window: Vec::new(),
            came: Vec::new(),
            missing: 0,
            uncovered: None,
            newest: HashSet::new(),
            newer: HashSet::new(),
            pending: None,
            skipped: 0,
            commits: 0,
        }
    }

    /// True where rows need no fingerprint at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.dedup == Dedup::Off
    }

    /// Rows left out so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The bytes that the window takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.window.len() * 16 + (self.newest.capacity() + self.newer.capacity()) * 17
    }

    /// Loads the window for a run whose input begins with `start` (`None`: not with a STATE).
    ///
    /// # Errors
    /// [`Kind::Disk`] when the log cannot be read.
    pub fn load(&mut self, commits: &CommitLog, start: Option<&[u8]>) -> Result<()> {
        let Some(last) = commits.last() else { return Ok(()) };
        let after = match self.dedup {
            Dedup::Off => return Ok(()),
            Dedup::Always => 0,
            Dedup::Replay => match start.map(|start| committed_before(commits, start)).transpose()?.flatten() {
                Some(after) => after,
                None => {
                    log::warn(
                        "the input does not begin with a STATE that this destination knows: rows that an earlier run \
                         committed are not recognised if they are sent again (dedup: always looks in any case)",
                    );
                    return Ok(());
                }
            },
        };
        self.fill(commits, after, last.n)
    }

    fn fill(&mut self, commits: &CommitLog, after: u64, last: u64) -> Result<()> {
        let limit = usize::try_from(self.window_rows).unwrap_or(usize::MAX);
        let mut n = last;
        while n > after {
            let Some(record) = commits.record(n)? else { break };
            if record.fingerprints > 0 {
                let path = fingerprints_path(n);
                let bytes = commits.fs().read(&path);
                let bytes = bytes.map_err(|e| Error::new(Kind::Disk, format!("reading {path} failed: {e}")))?;
                let (rows, _) = bytes.as_chunks::<16>();
                self.window.extend(rows.iter().rev().take(limit - self.window.len()));
            }
            if self.window.len() >= limit {
                if self.dedup == Dedup::Replay && n > after + 1 {
                    log::warn(format!("the replay window is full (dedup_window_rows {limit}); older rows may repeat"));
                }
                break;
            }
            n -= 1;
        }
        self.window.sort_unstable();
        self.window.dedup();
        self.came = vec![0; self.window.len() / 64 + 1];
        (self.missing, self.uncovered) = (self.window.len(), Some(after).filter(|_| !self.window.is_empty()));
        if !self.window.is_empty() {
            log::info(format!("replay window: {} rows of earlier commits", self.window.len()));
        }
        Ok(())
    }

    /// Notes a row of a keyed stream. False: it was written before, leave it out.
    ///
    /// # Errors
    /// [`Kind::Disk`] when its fingerprint cannot be staged.
    pub fn note(&mut self, fingerprint: Fingerprint, commits: &CommitLog) -> Result<bool> {
        let known = !self.window.is_empty() && self.came_again(&fingerprint);
        if known || (self.dedup == Dedup::Always && !self.remember(fingerprint)) {
            self.skipped += 1;
            return Ok(false);
        }
        if self.pending.is_none() {
            let name = format!("{:020}.fp.staged", commits.next());
            let file = commits.fs().create(&format!("{STAGING}/{name}"));
            let file = file.map_err(|e| Error::new(Kind::Disk, format!("creating {STAGING}/{name} failed: {e}")))?;
            self.pending = Some(Pending { name, file, buffer: Vec::with_capacity(WRITE_BYTES), rows: 0 });
        }
        if let Some(pending) = &mut self.pending {
            pending.rows += 1;
            pending.buffer.extend_from_slice(&fingerprint);
            if pending.buffer.len() >= WRITE_BYTES {
                pending.write()?;
            }
        }
        Ok(true)
    }

    fn came_again(&mut self, fingerprint: &Fingerprint) -> bool {
        let Ok(index) = self.window.binary_search(fingerprint) else { return false };
        if let Some(word) = self.came.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            self.missing -= usize::from(*word & bit == 0);
            *word |= bit;
        }
        true
    }

    /// A STATE came: it covers the window if every row of it came again before.
    pub fn on_state(&mut self) {
        if self.missing == 0 {
            self.uncovered = None;
        }
    }

    /// The commit behind which rows lie that the newest STATE does not cover. A later start from it needs the same window.
    #[must_use]
    pub fn uncovered(&self) -> Option<u64> {
        self.uncovered.filter(|_| self.dedup == Dedup::Replay)
    }

    fn remember(&mut self, fingerprint: Fingerprint) -> bool {
        if self.newest.len() as u64 >= self.window_rows / 2 {
            self.newer = std::mem::take(&mut self.newest);
            self.window = Vec::new();
        }
        !self.newer.contains(&fingerprint) && self.newest.insert(fingerprint)
    }

    /// Completes the fingerprints of the commit to come: how many, and their staged file.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn finish(&mut self) -> Result<Option<Staged>> {
        let Some(mut pending) = self.pending.take() else { return Ok(None) };
        pending.write()?;
        let synced = pending.file.sync();
        synced.map_err(|e| Error::new(Kind::Disk, format!("fsync of {STAGING}/{} failed: {e}", pending.name)))?;
        let (rows, bytes) = (pending.rows, pending.rows * 16);
        Ok(Some(Staged { name: pending.name, stream: String::new(), folder: String::new(), rows, bytes }))
    }

    /// Counts a commit, and now and then removes those that lie below the window.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn forget(&mut self, commits: &CommitLog) -> Result<()> {
        self.commits += 1;
        if self.commits % FORGET_EVERY != 1 {
            return Ok(());
        }
        let last = commits.next() - 1;
        let (mut rows, mut n) = (0, last);
        while let Some(record) = commits.record(n)?.filter(|_| n > 0) {
            if rows > self.window_rows || last - n >= MAX_COMMITS {
                return commits.forget_before(n + 1);
            }
            rows += record.fingerprints;
            n -= 1;
        }
        Ok(())
    }
}

impl Pending {
    fn write(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|e| Error::new(Kind::Disk, format!("writing {STAGING}/{} failed: {e}", self.name)))
    }
}

/// The number of the last commit that everything in `start` covers: rows of later commits may come again.
///
/// Equal states can be in several commits. A run that ended in this state is the best witness, the latest one of them;
/// without one, the earliest place is taken. A commit with rows behind its state is itself part of what may come again.
fn committed_before(commits: &CommitLog, start: &[u8]) -> Result<Option<u64>> {
    let parse = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    let wanted = parse(start);
    let is_it = |state: &Option<Box<serde_json::value::RawValue>>| {
        state.as_ref().is_some_and(|state| state.get().as_bytes() == start || parse(state.get().as_bytes()) == wanted)
    };
    let mut earliest: Option<u64> = None;
    let last = commits.next() - 1;
    for n in (last.saturating_sub(MAX_COMMITS) + 1..=last).rev() {
        let Some(record) = commits.record(n)? else { break };
        if is_it(&record.state) {
            let place = if record.trailing { n - 1 } else { n };
            let place = record.uncovered.map_or(place, |uncovered| uncovered.min(place));
            if record.eof {
                return Ok(Some(place));
            }
            earliest = Some(earliest.map_or(place, |earliest| earliest.min(place)));
        }
        if record.run == n && is_it(&record.start_state) {
            earliest = Some(earliest.map_or(n - 1, |earliest| earliest.min(n - 1)));
        }
    }
    Ok(earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(values: &[(u32, &str)]) -> Fingerprint {
        let mut hasher = Hasher::new("s", None);
        hasher.start();
        for (slot, value) in values {
            hasher.add(*slot, value.as_bytes());
        }
        hasher.finish()
    }

    #[test]
    fn equal_rows_are_equal_and_others_are_not() {
        assert_eq!(hash(&[(0, r#""a\u00e9""#)]), hash(&[(0, "\"aé\"")]));
        let all = [
            hash(&[(0, "\"1\"")]),
            hash(&[(0, "1")]),
            hash(&[(1, "1")]),
            hash(&[(0, "\"a\""), (1, "\"b\"")]),
            hash(&[(0, "\"ab\""), (1, "\"\"")]),
            hash(&[]),
            hash(&[(0, "1.0")]),
        ];
        let distinct: HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn versions_and_streams_count() {
        let finish = |mut hasher: Hasher| {
            hasher.start();
            hasher.finish()
        };
        let all = [("s", None), ("s", Some(0)), ("s", Some(1)), ("t", None)].map(|(s, v)| finish(Hasher::new(s, v)));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
    }
}
