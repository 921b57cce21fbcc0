//! Exactly once under runners that keep their own state: rows that a crashed run committed, and that the tap now sends
//! again because the runner knows an older state, are recognised by fingerprint and left out.
//!
//! A fingerprint covers the stream, the version, and the row's key and bookmark values (the whole record where the SCHEMA
//! names no bookmark). Streams without key properties are never touched: two equal rows may be two facts. The window is
//! bounded; older rows may repeat, and a warning says so once.

use std::io::Write as _;

use super::commit_log::{CommitLog, fingerprints_path};
use super::recent::Recent;
use crate::error::Result;
use crate::log;
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::rows::fingerprint::{Fingerprint, exact_form};
use crate::target::settings::Dedup;
use crate::target::store::FsFile;
use crate::target::store::names::{COMMITS, STAGING};
use crate::target::store::tree::failed;

/// Commits that are kept at most, and so looked at when searching for the state that a run began with. States can be
/// large.
const MAX_COMMITS: u64 = 1_000;
/// The log is looked through for old commits each time after so many.
const FORGET_EVERY: u64 = 64;
/// Fingerprints are written in pieces of this many bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// The fingerprints of rows that were written before.
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
    /// The commit behind which the window begins.
    behind: Option<u64>,
    /// `always`: the newest rows of this run and of earlier ones.
    recent: Recent,
    told_it_is_full: bool,
    fingerprints: Option<FingerprintFile>,
    skipped: u64,
    commits: u64,
}

/// The fingerprints of the commit to come, on their way to the staging folder.
#[derive(Debug)]
struct FingerprintFile {
    name: String,
    file: Box<dyn FsFile>,
    buffer: Vec<u8>,
    rows: u64,
}

impl Replay {
    /// Nothing is left out until [`Replay::load`].
    pub fn new(dedup: Dedup, window_rows: u64) -> Self {
        Replay {
            dedup,
            window_rows,
            window: Vec::new(),
            came: Vec::new(),
            missing: 0,
            uncovered: None,
            behind: None,
            recent: Recent::new(usize::try_from(window_rows).unwrap_or(usize::MAX)),
            told_it_is_full: false,
            fingerprints: None,
            skipped: 0,
            commits: 0,
        }
    }

    /// True where rows need no fingerprint at all.
    pub fn is_off(&self) -> bool {
        self.dedup == Dedup::Off
    }

    /// Rows left out so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The bytes that the window takes.
    pub fn bytes(&self) -> usize {
        self.window.capacity() * 16 + self.recent.bytes()
    }

    /// Loads the window for a run whose input begins with `start` (`None`: not with a STATE).
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

    /// Takes the rows of commits behind `after`, the newest as many as the window holds.
    fn fill(&mut self, commits: &CommitLog, after: u64, last: u64) -> Result<()> {
        let mut wanted = Vec::new();
        let (mut rows, mut n) = (0, last);
        while let Some(record) = commits.record(n)?.filter(|_| n > after) {
            if record.overwrite {
                // Older rows are gone; a row of then that comes now is no repeat.
                log::warn("rows from before an overwrite are not looked for among repeats");
                break;
            }
            rows += record.fingerprints;
            if record.fingerprints > 0 {
                wanted.push(n);
            }
            n -= 1;
            if rows >= self.window_rows {
                if rows > self.window_rows || n > after {
                    self.tell_it_is_full();
                }
                break;
            }
        }
        for n in &wanted {
            if self.dedup == Dedup::Replay {
                let limit = usize::try_from(self.window_rows).unwrap_or(usize::MAX);
                let bytes = fingerprints_of(commits, *n)?;
                let (rows, _) = bytes.as_chunks::<16>();
                let room = limit - self.window.len();
                self.window.reserve_exact(rows.len().min(room));
                self.window.extend(rows.iter().rev().take(room));
            }
        }
        for n in wanted.iter().rev().filter(|_| self.dedup == Dedup::Always) {
            let bytes = fingerprints_of(commits, *n)?;
            let (rows, _) = bytes.as_chunks::<16>();
            for row in rows {
                self.recent.insert(*row);
            }
        }
        self.window.sort_unstable();
        self.window.dedup();
        self.came = vec![0; self.window.len() / 64 + 1];
        self.behind = Some(after).filter(|_| !self.window.is_empty());
        (self.missing, self.uncovered) = (self.window.len(), self.behind);
        if !self.window.is_empty() {
            log::info(format!("replay window: {} rows of earlier commits", self.window.len()));
        }
        Ok(())
    }

    fn tell_it_is_full(&mut self) {
        if !std::mem::replace(&mut self.told_it_is_full, true) {
            log::warn(format!(
                "the replay window is full (dedup_window_rows {}); older rows may repeat",
                self.window_rows
            ));
        }
    }

    /// Notes a row of a keyed stream. False: it was written before, leave it out.
    pub fn note(&mut self, fingerprint: Fingerprint, commits: &CommitLog) -> Result<bool> {
        let known = !self.window.is_empty() && self.came_again(&fingerprint);
        if known || (self.dedup == Dedup::Always && !self.remember(fingerprint)) {
            self.skipped += 1;
            return Ok(false);
        }
        if self.fingerprints.is_none() {
            let name = format!("{:020}.fp.staged", commits.next());
            let file = commits.fs().create(&format!("{STAGING}/{name}"));
            let file = file.map_err(failed(format!("creating {STAGING}/{name}")))?;
            self.fingerprints = Some(FingerprintFile { name, file, buffer: Vec::with_capacity(WRITE_BYTES), rows: 0 });
        }
        if let Some(fingerprints) = &mut self.fingerprints {
            fingerprints.rows += 1;
            fingerprints.buffer.extend_from_slice(&fingerprint);
            if fingerprints.buffer.len() >= WRITE_BYTES {
                fingerprints.write()?;
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
    pub fn uncovered(&self) -> Option<u64> {
        self.uncovered.filter(|_| self.dedup == Dedup::Replay)
    }

    /// The first commit that holds rows of this run: `first`, or an earlier one whose rows come again.
    pub fn begins_at(&self, first: u64) -> u64 {
        self.behind.map_or(first, |behind| first.min(behind + 1))
    }

    fn remember(&mut self, fingerprint: Fingerprint) -> bool {
        let was_full = self.recent.is_full();
        let new = self.recent.insert(fingerprint);
        if was_full && new {
            self.tell_it_is_full();
        }
        new
    }

    /// Completes the fingerprints of the commit to come: how many, and their staged file.
    pub fn finish(&mut self) -> Result<Option<Staged>> {
        let Some(mut fingerprints) = self.fingerprints.take() else { return Ok(None) };
        fingerprints.write()?;
        let synced = fingerprints.file.sync();
        synced.map_err(failed(format!("fsync of {STAGING}/{}", fingerprints.name)))?;
        let (rows, bytes) = (fingerprints.rows, fingerprints.rows * 16);
        let (stream, folder) = (String::new(), COMMITS.to_owned());
        Ok(Some(Staged { name: fingerprints.name, stream, place: Place::Log, folder, rows, bytes }))
    }

    /// Counts a commit, and now and then removes commits that lie below the window.
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

impl FingerprintFile {
    fn write(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(failed(format!("writing {STAGING}/{}", self.name)))
    }
}

fn fingerprints_of(commits: &CommitLog, n: u64) -> Result<Vec<u8>> {
    let path = fingerprints_path(n);
    commits.fs().read(&path).map_err(failed(format!("reading {path}")))
}

/// The number of the last commit that everything in `start` covers: rows of later commits may come again.
///
/// Equal states can be in several commits. A run that ended in this state is the best witness, the latest one of them;
/// without one, the earliest place is taken. A commit with rows behind its state is itself part of what may come again.
fn committed_before(commits: &CommitLog, start: &[u8]) -> Result<Option<u64>> {
    let wanted = exact_form(start);
    let is_it = |state: &Option<Box<serde_json::value::RawValue>>| {
        state.as_ref().is_some_and(|state| exact_form(state.get().as_bytes()) == wanted)
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
