//! Exactly once under runners that keep their own state: rows that a crashed run committed, and that the tap now sends
//! again because the runner knows an older state, are recognised by fingerprint and left out.
//!
//! A fingerprint covers the stream, the version, and the row's key and bookmark values (the whole record where the SCHEMA
//! names no bookmark). Streams without key properties are never touched: two equal rows may be two facts. The window is
//! bounded; older rows may repeat, and a warning says so once.

use super::commit_log::CommitLog;
use super::fingerprints::{self, Writer};
use super::gone::{Gone, Lost};
use super::recent::Recent;
use super::record::{Record, state_hash};
use crate::error::Result;
use crate::log;
use crate::target::files::staged::Staged;
use crate::target::rows::fingerprint::Fingerprint;
use crate::target::settings::Dedup;

/// Commits that are kept at most, and so looked at when searching for the state that a run began with.
const MAX_COMMITS: usize = 1_000;

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
    /// The last commit that the tap's start may cover, if the log knows that start.
    covered: Option<u64>,
    /// `always`: the newest rows of this run and of earlier ones.
    recent: Recent,
    told_it_is_full: bool,
    fingerprints: Option<Writer>,
    skipped: u64,
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
            covered: None,
            recent: Recent::new(usize::try_from(window_rows).unwrap_or(usize::MAX)),
            told_it_is_full: false,
            fingerprints: None,
            skipped: 0,
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
        if commits.last().is_none() {
            return Ok(());
        }
        let after = match self.dedup {
            Dedup::Off => return Ok(()),
            Dedup::Always => 0,
            Dedup::Replay => match start.map(|start| Start::find(commits, start)).transpose()?.flatten() {
                Some(Start { after, covered }) => {
                    self.covered = Some(covered);
                    after
                }
                None => {
                    log::warn(
                        "the input does not begin with a STATE that this destination knows: rows that an earlier run \
                         committed are not recognised if they are sent again (dedup: always looks in any case)",
                    );
                    return Ok(());
                }
            },
        };
        self.fill(commits, after)
    }

    /// Takes the rows of commits behind `after`, the newest as many as the window holds.
    fn fill(&mut self, commits: &CommitLog, after: u64) -> Result<()> {
        let (mut wanted, mut gone) = (Vec::new(), Gone::default());
        let mut rows = 0;
        for record in commits.records() {
            let record = record?;
            if record.n <= after {
                break;
            }
            if rows >= self.window_rows {
                self.tell_it_is_full();
                break;
            }
            if record.overwrite {
                // Older rows are gone; a row of then that comes now is no repeat.
                log::warn("rows from before an overwrite are not looked for among repeats");
                break;
            }
            let lost = gone.look(commits.fs(), &record)?;
            rows += record.fingerprints;
            if record.fingerprints > 0 {
                wanted.push((record.n, record.fingerprints, lost));
            }
        }
        if rows > self.window_rows {
            self.tell_it_is_full();
        }
        gone.report();
        self.take(commits, wanted)?;
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

    /// Takes the rows of these commits, the newest first, but not the lost ones.
    fn take(&mut self, commits: &CommitLog, mut wanted: Vec<(u64, u64, Lost)>) -> Result<()> {
        let Replay { dedup, window, recent, .. } = self;
        let limit = usize::try_from(self.window_rows).unwrap_or(usize::MAX);
        if *dedup == Dedup::Always {
            // The newest rows are those that are remembered last.
            wanted.reverse();
        }
        for (n, rows, lost) in wanted {
            let room = limit.saturating_sub(window.len());
            let (mut at, from) = (0, rows.saturating_sub(room as u64));
            if *dedup == Dedup::Replay {
                window.reserve_exact(usize::try_from(rows).unwrap_or(usize::MAX).min(room));
            }
            let there = fingerprints::read(commits.fs(), n, rows, |row, fingerprint| {
                at += 1;
                if lost.has(row) {
                    return;
                }
                match dedup {
                    Dedup::Always => drop(recent.insert(fingerprint)),
                    _ if at > from => window.push(fingerprint),
                    _ => {}
                }
            })?;
            if !there {
                log::warn(format!(
                    "the fingerprints of commit {n} are gone: its rows come in twice if they are sent again"
                ));
            }
        }
        Ok(())
    }

    /// Whether rows of commit `n` are looked for among those of this run.
    pub fn looks_at(&self, n: u64) -> bool {
        self.dedup == Dedup::Always || self.behind.is_some_and(|behind| n > behind)
    }

    /// Whether the tap sends all rows of commit `n` again: it started before them.
    pub fn comes_again(&self, n: u64) -> bool {
        self.covered.is_some_and(|covered| n > covered)
    }

    fn tell_it_is_full(&mut self) {
        if !std::mem::replace(&mut self.told_it_is_full, true) {
            log::warn(format!(
                "the replay window is full (dedup_window_rows {}); older rows may repeat",
                self.window_rows
            ));
        }
    }

    /// Notes a row of a keyed stream, which goes to `sink`. False: it was written before, leave it out.
    pub fn note(&mut self, sink: u64, fingerprint: Fingerprint, commits: &CommitLog) -> Result<bool> {
        let known = !self.window.is_empty() && self.came_again(&fingerprint);
        if known || (self.dedup == Dedup::Always && !self.remember(fingerprint)) {
            self.skipped += 1;
            return Ok(false);
        }
        if self.fingerprints.is_none() {
            self.fingerprints = Some(Writer::create(commits.fs(), commits.next())?);
        }
        if let Some(fingerprints) = &mut self.fingerprints {
            fingerprints.note(sink, fingerprint)?;
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
        if let Some(fingerprints) = &mut self.fingerprints {
            fingerprints.on_state();
        }
    }

    /// Forgets the fingerprints of rows behind the newest STATE: these rows are not committed.
    pub fn forget_behind(&mut self, commits: &CommitLog) -> Result<()> {
        if let Some(fingerprints) = self.fingerprints.take() {
            self.fingerprints = fingerprints.forget_behind(commits.fs(), commits.next())?;
        }
        Ok(())
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
        self.fingerprints.take().map(Writer::finish).transpose()
    }

    /// Removes commits that lie below the window.
    pub fn forget(&self, commits: &mut CommitLog) -> Result<()> {
        commits.forget(self.window_rows, MAX_COMMITS)
    }
}

/// Where a start state stands in the log. Equal states can be in several commits.
struct Start {
    /// Rows of commits behind this one may come again. A run that ended in this state is the best witness, the latest one of
    /// them; without one, the earliest place is taken. A commit with rows behind its state is itself part of what may come
    /// again.
    after: u64,
    /// Rows of commits up to this one may be covered: the latest place, with the rows behind its state.
    covered: u64,
}

impl Start {
    fn find(commits: &CommitLog, start: &[u8]) -> Result<Option<Start>> {
        let wanted = state_hash(start);
        let is_it = |hash: &Option<String>| hash.as_ref() == Some(&wanted);
        let mut found: Option<Start> = None;
        let mut note = |after: u64, covered: u64| {
            let start = found.get_or_insert(Start { after, covered });
            start.after = start.after.min(after);
        };
        for record in commits.records().take(MAX_COMMITS) {
            let Record { n, run, trailing, uncovered, eof, state_hash, start_state_hash, .. } = record?;
            if is_it(&state_hash) {
                let place = if trailing { n - 1 } else { n };
                let after = uncovered.map_or(place, |uncovered| uncovered.min(place));
                if eof {
                    let covered = found.map_or(n, |found| found.covered);
                    return Ok(Some(Start { after, covered }));
                }
                note(after, n);
            }
            if run == n && is_it(&start_state_hash) {
                note(n - 1, n - 1);
            }
        }
        Ok(found)
    }
}
