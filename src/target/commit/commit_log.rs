//! The commit log: files and state become one record, and the record is the truth.
//!
//! Order of a commit: staged files are synced; `commits/<n>.json` is written, synced and put under its name, which must be
//! new; that is the commit. Then files get their final names, and only then the state may be printed. A start redoes
//! the names of the last commit and removes everything else that is staged. Nothing that failed is tried again here:
//! the run ends, and the next start recovers from the log.

use std::io;
use std::sync::Arc;

use super::publish::publish;
use super::record::{FileEntry, Record};
use crate::error::{Error, Kind, Result};
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::store::Fs;
use crate::target::store::names::{COLUMNS, COMMITS, HELD, STAGING};
use crate::target::store::tree::{failed, make_dirs, names, remove, sync_dir, write_tmp};

/// The log of one output directory.
#[derive(Debug)]
pub struct CommitLog {
    fs: Arc<dyn Fs>,
    last: Option<Record>,
}

fn record_path(n: u64) -> String {
    format!("{COMMITS}/{n:020}.json")
}

/// The path of the fingerprints of commit `n`.
pub fn fingerprints_path(n: u64) -> String {
    format!("{COMMITS}/{n:020}.fp")
}

impl CommitLog {
    /// Opens the log: makes its folders, finishes the last commit, removes files that were never committed. The lock
    /// must be held.
    ///
    /// # Errors
    /// [`Kind::Disk`], also for a record that cannot be understood: it is never skipped.
    pub fn open(fs: Arc<dyn Fs>) -> Result<Self> {
        for dir in ["_target", STAGING, COMMITS, COLUMNS, HELD] {
            make_dirs(&*fs, dir)?;
        }
        let last = read_last(&*fs)?;
        let log = CommitLog { fs, last };
        if let Some(record) = &log.last {
            publish(&*log.fs, record, true)?;
        }
        log.sweep()?;
        Ok(log)
    }

    /// The last commit.
    pub fn last(&self) -> Option<&Record> {
        self.last.as_ref()
    }

    /// The number of the next commit.
    pub fn next(&self) -> u64 {
        self.last.as_ref().map_or(1, |record| record.n + 1)
    }

    /// The record of commit `n`, if it is there.
    pub fn record(&self, n: u64) -> Result<Option<Record>> {
        read_record(&*self.fs, n)
    }

    /// The file system that the log is on.
    pub fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    /// Commits the files `staged` with `record`, whose number and files are filled in here.
    ///
    /// # Errors
    /// [`Kind::Disk`]. What was committed stays committed; the next start finishes it.
    pub fn commit(&mut self, mut record: Record, staged: &[Staged]) -> Result<&Record> {
        record.n = self.next();
        record.files = staged.iter().map(|file| entry(file, record.n)).collect();
        sync_dir(&*self.fs, STAGING)?;
        let text = serde_json::to_vec(&record)
            .map_err(|e| Error::new(Kind::Internal, format!("writing commit {} failed: {e}", record.n)))?;
        let path = record_path(record.n);
        let tmp = write_tmp(&*self.fs, &path, &text)?;
        let renamed = self.fs.rename(&tmp, &path);
        renamed.map_err(failed(format!("creating {path} (does another process write here?)")))?;
        sync_dir(&*self.fs, COMMITS)?;
        publish(&*self.fs, &record, false)?;
        Ok(self.last.insert(record))
    }

    /// Removes everything that was staged and not committed.
    fn sweep(&self) -> Result<()> {
        for name in names(&*self.fs, STAGING)? {
            remove(&*self.fs, &format!("{STAGING}/{name}"))?;
        }
        for dir in [COMMITS, COLUMNS] {
            for name in names(&*self.fs, dir)?.iter().filter(|name| name.ends_with(".tmp")) {
                remove(&*self.fs, &format!("{dir}/{name}"))?;
            }
        }
        Ok(())
    }

    /// Removes the records and fingerprints of commits before `n`: more than the replay window lies above them, and
    /// their files have long had their names.
    pub fn forget_before(&self, n: u64) -> Result<()> {
        let names = names(&*self.fs, COMMITS)?;
        // Records first, the oldest first: whatever ends this, the records that are left have their fingerprints and no
        // gap.
        for suffix in [".json", ".fp"] {
            let number = |name: &String| name.strip_suffix(suffix)?.parse::<u64>().ok();
            for name in names.iter().filter(|name| number(name).is_some_and(|number| number < n)) {
                remove(&*self.fs, &format!("{COMMITS}/{name}"))?;
            }
        }
        Ok(())
    }
}

/// The last commit of a log, without opening it for writing: for a look from outside.
pub fn read_last(fs: &dyn Fs) -> Result<Option<Record>> {
    let mut last = None;
    for name in names(fs, COMMITS)? {
        let Some(number) = name.strip_suffix(".json").filter(|stem| stem.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let n = number.parse::<i64>().ok().filter(|n| *n > 0 && number.len() == 20);
        last = last.max(Some(n.ok_or_else(|| damaged(&format!("{COMMITS}/{name}"), "it has no number of a commit"))?));
    }
    let Some(n) = last.and_then(|n| u64::try_from(n).ok()) else { return Ok(None) };
    let record = read_record(fs, n)?;
    record.map(Some).ok_or_else(|| damaged(&record_path(n), "it cannot be found"))
}

fn damaged(path: &str, why: impl std::fmt::Display) -> Error {
    let what_to_do = "restore it, or use a new destination_path";
    Error::new(Kind::Disk, format!("{path} cannot be understood ({why}); {what_to_do}"))
}

fn read_record(fs: &dyn Fs, n: u64) -> Result<Option<Record>> {
    let path = record_path(n);
    match fs.read(&path) {
        Ok(text) => {
            let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(&path, e))?;
            let is_whole = record.n == n && record.leads_nowhere_else();
            if is_whole { Ok(Some(record)) } else { Err(damaged(&path, "it is not a record of this commit")) }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(format!("reading {path}"))(e)),
    }
}

fn entry(staged: &Staged, n: u64) -> FileEntry {
    let (stem, _) = staged.name.rsplit_once('.').unwrap_or((&staged.name, ""));
    let path = match staged.place {
        Place::Log => fingerprints_path(n),
        Place::Held(_) => format!("{}/{stem}.held", staged.folder),
        Place::Stream => format!("{}/{stem}.parquet", staged.folder),
    };
    FileEntry {
        staged: staged.name.clone(),
        path,
        stream: staged.stream.clone(),
        rows: staged.rows,
        bytes: staged.bytes,
    }
}
