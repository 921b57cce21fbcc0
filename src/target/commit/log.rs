//! The commit log: files and state become one record, and the record is the truth.
//!
//! Order of a commit: staged files are synced; `commits/<n>.json` is written, synced and put under its name, which must be
//! new; that is the commit. Then files get their final names, and only then the state may be printed. A start redoes
//! the names of the last commit and removes everything else that is staged. Nothing that failed is tried again here:
//! the run ends, and the next start recovers from the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::folder;
use super::folder::Activation;
use crate::error::{Error, Kind, Result};
use crate::target::files::staged::{STAGING, Staged};
use crate::target::store::disk::Fs;

/// Where the records are.
const COMMITS: &str = "_target/commits";

/// A file of a commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    staged: String,
    path: String,
    stream: String,
    rows: u64,
    bytes: u64,
}

/// One commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Its number, counted from 1.
    pub n: u64,
    /// The number of the first commit of the run that made it.
    pub run: u64,
    /// In the first commit of a run: the STATE that its input began with, as received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_state: Option<Box<RawValue>>,
    /// The last STATE before its last row, as received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<RawValue>>,
    /// The run saw the end of its input; this is its last commit.
    pub eof: bool,
    /// Some of its rows came after `state`.
    pub trailing: bool,
    /// Rows of commits behind this one may lie beyond `state`: they were committed by an earlier run, and this one had
    /// not yet seen all of them come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<u64>,
    /// It replaces everything that its streams had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// How many row fingerprints its `.fp` file holds.
    pub fingerprints: u64,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Versions of streams that it makes the visible ones.
    pub activate: Vec<Activation>,
    /// The visible version of every stream that has versions.
    pub versions: BTreeMap<String, i64>,
}

/// The log of one output directory.
#[derive(Debug)]
pub struct CommitLog {
    fs: Arc<dyn Fs>,
    last: Option<Record>,
}

/// Says what was tried; the system says why it failed.
fn disk(what: impl std::fmt::Display, error: &io::Error) -> Error {
    Error::new(Kind::Disk, format!("{what} failed: {error}"))
}

/// Writes `path` in directory `dir` so that it has all of `bytes` or does not change.
///
/// # Errors
/// [`Kind::Disk`].
pub fn put(fs: &dyn Fs, dir: &str, path: &str, bytes: &[u8]) -> Result<()> {
    let tmp = write_tmp(fs, path, bytes)?;
    fs.replace(&tmp, path).map_err(|e| disk(format!("renaming {tmp}"), &e))?;
    fs.sync_dir(dir).map_err(|e| disk(format!("fsync of {dir}"), &e))
}

fn write_tmp(fs: &dyn Fs, path: &str, bytes: &[u8]) -> Result<String> {
    let tmp = format!("{path}.tmp");
    let written = fs.create(&tmp).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync()
    });
    written.map(|()| tmp).map_err(|e| disk(format!("writing {path}.tmp"), &e))
}

fn record_path(n: u64) -> String {
    format!("{COMMITS}/{n:020}.json")
}

/// The path of the fingerprints of commit `n`.
#[must_use]
pub fn fingerprints_path(n: u64) -> String {
    format!("{COMMITS}/{n:020}.fp")
}

impl CommitLog {
    /// Opens the log: makes its folders, finishes the last commit, removes what was never committed. The lock must be held.
    ///
    /// # Errors
    /// [`Kind::Disk`], also for a record that cannot be understood: it is never skipped.
    pub fn open(fs: Arc<dyn Fs>) -> Result<Self> {
        for dir in ["_target", STAGING, COMMITS, "_target/columns", folder::HELD] {
            make_dirs(&*fs, dir)?;
        }
        let last = read_last(&*fs)?;
        let log = CommitLog { fs, last };
        if let Some(record) = &log.last {
            log.publish(record, true)?;
        }
        log.sweep()?;
        Ok(log)
    }

    /// The last commit.
    #[must_use]
    pub fn last(&self) -> Option<&Record> {
        self.last.as_ref()
    }

    /// The number of the next commit.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.last.as_ref().map_or(1, |record| record.n + 1)
    }

    /// The record of commit `n`, if it is there.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn record(&self, n: u64) -> Result<Option<Record>> {
        read_record(&*self.fs, n)
    }

    /// The file system that the log is on.
    #[must_use]
    pub fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    /// Commits `staged` with what `record` says; number and files are filled in here.
    ///
    /// # Errors
    /// [`Kind::Disk`]. What was committed stays committed; the next start finishes it.
    pub fn commit(&mut self, mut record: Record, staged: &[Staged]) -> Result<()> {
        record.n = self.next();
        record.files = staged.iter().map(|file| entry(file, record.n)).collect();
        self.fs.sync_dir(STAGING).map_err(|e| disk(format!("fsync of {STAGING}"), &e))?;
        let text = serde_json::to_vec(&record)
            .map_err(|e| Error::new(Kind::Internal, format!("writing commit {} failed: {e}", record.n)))?;
        let path = record_path(record.n);
        let tmp = write_tmp(&*self.fs, &path, &text)?;
        self.fs
            .rename(&tmp, &path)
            .map_err(|e| disk(format!("creating {path} (does another process write here?)"), &e))?;
        self.fs.sync_dir(COMMITS).map_err(|e| disk(format!("fsync of {COMMITS}"), &e))?;
        self.publish(&record, false)?;
        self.last = Some(record);
        Ok(())
    }

    /// Gives the files of a commit their names. `again`: some of it may be done already.
    fn publish(&self, record: &Record, again: bool) -> Result<()> {
        let fs = &*self.fs;
        let there: BTreeSet<String> = if again { names(fs, STAGING)? } else { BTreeSet::new() };
        let mut folders = BTreeSet::new();
        for file in record.files.iter().filter(|file| !again || there.contains(&file.staged)) {
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if folders.insert(folder.to_owned()) {
                make_dirs(fs, folder)?;
            }
            let staged = format!("{STAGING}/{}", file.staged);
            match fs.rename(&staged, &file.path) {
                // A hard link that a crash left without its second half; the sweep removes the staged name. Another
                // file under that name is not ours to take for it: the rows would be swept.
                Err(e)
                    if again
                        && e.kind() == io::ErrorKind::AlreadyExists
                        && fs.is_same_file(&staged, &file.path).unwrap_or(false) => {}
                other => other.map_err(|e| disk(format!("renaming a file to {}", file.path), &e))?,
            }
        }
        // On a redo also the folders whose renames were done, but perhaps not made durable.
        for file in &record.files {
            folders.insert(file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned());
        }
        for folder in &folders {
            match fs.sync_dir(folder) {
                Err(e) if again && e.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|e| disk(format!("fsync of {folder}"), &e))?,
            }
        }
        record.activate.iter().try_for_each(|activation| folder::publish(fs, activation))
    }

    /// Removes everything that was staged and not committed.
    fn sweep(&self) -> Result<()> {
        for name in names(&*self.fs, STAGING)? {
            let path = format!("{STAGING}/{name}");
            self.fs.remove(&path, false).map_err(|e| disk(format!("removing {path}"), &e))?;
        }
        for dir in [COMMITS, "_target/columns"] {
            for name in names(&*self.fs, dir)?.iter().filter(|name| name.ends_with(".tmp")) {
                let path = format!("{dir}/{name}");
                self.fs.remove(&path, false).map_err(|e| disk(format!("removing {path}"), &e))?;
            }
        }
        Ok(())
    }

    /// Removes what is known of commits before `n`: more than the replay window lies above them, and their files have
    /// long had their names.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn forget_before(&self, n: u64) -> Result<()> {
        let names = names(&*self.fs, COMMITS)?;
        // Records first, the oldest first: whatever ends this, those that are left have their fingerprints and no gap.
        for suffix in [".json", ".fp"] {
            let number = |name: &String| name.strip_suffix(suffix)?.parse::<u64>().ok();
            for name in names.iter().filter(|name| number(name).is_some_and(|number| number < n)) {
                let path = format!("{COMMITS}/{name}");
                self.fs.remove(&path, false).map_err(|e| disk(format!("removing {path}"), &e))?;
            }
        }
        Ok(())
    }
}

/// The last commit of a log, without opening it for writing: for a look from outside.
///
/// # Errors
/// [`Kind::Disk`].
pub fn read_last(fs: &dyn Fs) -> Result<Option<Record>> {
    let numbers = names(fs, COMMITS)?;
    let last = numbers.iter().filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok()).max();
    last.map_or(Ok(None), |n| read_record(fs, n))
}

fn read_record(fs: &dyn Fs, n: u64) -> Result<Option<Record>> {
    let path = record_path(n);
    match fs.read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
            Error::new(
                Kind::Disk,
                format!("{path} cannot be understood ({e}); restore it, or use a new destination_path"),
            )
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(disk(format!("reading {path}"), &e)),
    }
}

fn entry(staged: &Staged, n: u64) -> FileEntry {
    let (stem, _) = staged.name.rsplit_once('.').unwrap_or((&staged.name, ""));
    let path = if staged.folder.is_empty() {
        fingerprints_path(n)
    } else if staged.folder.starts_with(folder::HELD) {
        format!("{}/{stem}.held", staged.folder)
    } else {
        format!("{}/{stem}.parquet", staged.folder)
    };
    FileEntry {
        staged: staged.name.clone(),
        path,
        stream: staged.stream.clone(),
        rows: staged.rows,
        bytes: staged.bytes,
    }
}

/// The names in a directory; none if it does not exist.
fn names(fs: &dyn Fs, dir: &str) -> Result<BTreeSet<String>> {
    match fs.list(dir) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(disk(format!("listing {dir}"), &e)),
    }
}

/// Makes a directory with its parents, each made durable in the one above.
///
/// # Errors
/// [`Kind::Disk`], also when a symbolic link stands in the way.
pub fn make_dirs(fs: &dyn Fs, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let dir = path.get(..end).unwrap_or_default();
        let created = fs.make_dir(dir).map_err(|e| {
            disk(format!("creating the folder {dir} in the destination (it must not be a symbolic link)"), &e)
        })?;
        if created {
            let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
            fs.sync_dir(parent).map_err(|e| disk(format!("fsync of {parent:?}"), &e))?;
        }
    }
    Ok(())
}
