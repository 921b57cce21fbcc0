//! The commit log: files and state become one record, and the record is the truth.
//!
//! Order of a commit: staged files are synced; `commits/<n>.json` is written, synced and put under its name, which must be
//! new; that is the commit. Then files get their final names, and only then the state may be printed. A start redoes
//! the names of the last commit and removes everything else that is staged. Nothing that failed is tried again here:
//! the run ends, and the next start recovers from the log.
//!
//! A start reads the last record only. The newest few records hold their states whole, older ones the hash of a large one.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::publish::publish;
use super::record::{FileEntry, Record};
use super::unknown::newest_file;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::store::Fs;
use crate::target::store::checked::{self, FORM};
use crate::target::store::names::{COLUMNS, COMMITS, HELD, STAGING};
use crate::target::store::tree::{
    failed, make_dirs, make_dirs_again, names, put, remove, remove_if_there, sync_dir, write_tmp,
};

/// So many of the newest records hold their states whole, however large they are.
const WHOLE_STATES: usize = 8;
/// Older ones hold a state of so many bytes.
const SMALL_STATE_BYTES: usize = 4096;

/// The log of one output directory.
#[derive(Debug)]
pub struct CommitLog {
    fs: Arc<dyn Fs>,
    /// Tells this writer from others.
    writer: String,
    /// The numbers of the commits whose records are there.
    numbers: BTreeSet<u64>,
    last: Option<Record>,
    next: u64,
    /// The oldest commit, and the fingerprints up to it, if they were looked up.
    oldest: Option<(u64, u64)>,
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
        for dir in [STAGING, COMMITS, COLUMNS, HELD] {
            make_dirs(&*fs, dir)?;
        }
        make_dirs_again(&*fs, STAGING)?;
        let numbers = numbers(&*fs)?;
        let last = numbers.last().map(|n| last_record(&*fs, *n)).transpose()?;
        if let Some(record) = &last {
            publish(&*fs, record, true)?;
        }
        let known = last.as_ref().map_or(0, |last| last.n);
        let newest = newest_file(&*fs)?.filter(|(n, _)| *n > known);
        if let Some((_, path)) = &newest {
            log::warn(format!(
                "no commit knows {path} and perhaps other files (was _target removed or put back, or a file brought here?): they \
                 stay as they are, and rows in them that are sent again come in twice"
            ));
        }
        let next = newest.map_or(known, |(n, _)| n).saturating_add(1);
        let log = CommitLog { fs, writer: writer(), numbers, last, next, oldest: None };
        log.sweep()?;
        Ok(log)
    }

    /// The last commit.
    pub fn last(&self) -> Option<&Record> {
        self.last.as_ref()
    }

    /// The number of the next commit.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The commits whose records are there, the newest first.
    pub fn records(&self) -> impl Iterator<Item = Result<Record>> {
        self.numbers.iter().rev().filter_map(|n| read_record(&*self.fs, *n).transpose())
    }

    /// The file system that the log is on.
    pub fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    /// Commits the files `staged` with `record`, whose number, writer and files are filled in here.
    ///
    /// # Errors
    /// [`Kind::Disk`]. What was committed stays committed; the next start finishes it.
    pub fn commit(&mut self, mut record: Record, staged: &[Staged]) -> Result<&Record> {
        (record.form, record.n) = (FORM, self.next);
        record.writer.clone_from(&self.writer);
        record.files = staged.iter().map(|file| entry(file, record.n)).collect();
        record.so_far = self.last.as_ref().map_or(0, |last| last.so_far) + record.fingerprints;
        sync_dir(&*self.fs, STAGING)?;
        let path = record_path(record.n);
        let tmp = write_tmp(&*self.fs, &path, &checked::text(&record)?)?;
        match self.fs.rename(&tmp, &path) {
            // A file system over a network may say so of what it did itself.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let is_ours = |there: Record| there.writer == record.writer;
                if !read_record(&*self.fs, record.n)?.is_some_and(is_ours) {
                    let text =
                        "another target commits here; what it wrote is safe, and the rows of this run come again";
                    return Err(failed(format!("creating {path}"))(e).context(text));
                }
            }
            renamed => renamed.map_err(failed(format!("creating {path}")))?,
        }
        sync_dir(&*self.fs, COMMITS)?;
        self.numbers.insert(record.n);
        self.next = record.n.saturating_add(1);
        publish(&*self.fs, &record, false)?;
        self.shorten_a_state()?;
        Ok(self.last.insert(record))
    }

    /// One record leaves those that hold their states whole.
    fn shorten_a_state(&self) -> Result<()> {
        let Some(n) = self.numbers.iter().rev().nth(WHOLE_STATES) else { return Ok(()) };
        let Some(mut record) = read_record(&*self.fs, *n)? else { return Ok(()) };
        if record.state.take().is_none_or(|state| state.get().len() <= SMALL_STATE_BYTES) {
            return Ok(());
        }
        record.form = FORM;
        put(&*self.fs, &record_path(*n), &checked::text(&record)?)
    }

    /// Removes everything that was staged and not committed, and what removed commits left.
    fn sweep(&self) -> Result<()> {
        for name in names(&*self.fs, STAGING)? {
            remove(&*self.fs, &format!("{STAGING}/{name}"))?;
        }
        for dir in [COMMITS, COLUMNS] {
            for name in names(&*self.fs, dir)?.iter().filter(|name| name.ends_with(".tmp")) {
                remove(&*self.fs, &format!("{dir}/{name}"))?;
            }
        }
        let number = |name: &String| name.strip_suffix(".fp")?.parse::<u64>().ok();
        let orphans = |name: &String| number(name).is_some_and(|n| !self.numbers.contains(&n));
        for name in names(&*self.fs, COMMITS)?.into_iter().filter(orphans) {
            remove(&*self.fs, &format!("{COMMITS}/{name}"))?;
        }
        Ok(())
    }

    /// Removes the oldest commits, their records and fingerprints, as long as more than `rows` fingerprints lie above them,
    /// or more than `most` commits are there. Their files have long had their names.
    pub fn forget(&mut self, rows: u64, most: usize) -> Result<()> {
        let so_far = self.last.as_ref().map_or(0, |last| last.so_far);
        while let Some(n) = self.numbers.first().copied().filter(|_| self.numbers.len() > 1) {
            let oldest = match self.oldest {
                Some(oldest) if oldest.0 == n => oldest,
                _ => (n, read_record(&*self.fs, n)?.map_or(0, |record| record.so_far)),
            };
            self.oldest = Some(oldest);
            if self.numbers.len() <= most && so_far.saturating_sub(oldest.1) <= rows {
                break;
            }
            // The record first: whatever ends this, the records that are left have their fingerprints.
            remove(&*self.fs, &record_path(n))?;
            self.numbers.remove(&n);
            remove_if_there(&*self.fs, &fingerprints_path(n))?;
        }
        Ok(())
    }
}

/// The last commit of a log, without opening it for writing: for a look from outside.
pub fn read_last(fs: &dyn Fs) -> Result<Option<Record>> {
    numbers(fs)?.last().map(|n| last_record(fs, *n)).transpose()
}

fn last_record(fs: &dyn Fs, n: u64) -> Result<Record> {
    read_record(fs, n)?.ok_or_else(|| damaged(&record_path(n), "it cannot be found", WAYS_OUT))
}

/// The numbers of the commits whose records are there.
fn numbers(fs: &dyn Fs) -> Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for name in names(fs, COMMITS)? {
        let Some(number) = name.strip_suffix(".json").filter(|stem| stem.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let n = number.parse::<i64>().ok().filter(|n| *n > 0 && number.len() == 20);
        let n = n.and_then(|n| u64::try_from(n).ok());
        let path = || format!("{COMMITS}/{name}");
        numbers.insert(n.ok_or_else(|| damaged(&path(), "it has no number of a commit", WAYS_OUT))?);
    }
    Ok(numbers)
}

/// What to do about a record that cannot be understood.
const WAYS_OUT: &str = "restore it, or use a new destination_path, or move _target away (files stay as they are; what they \
                        hold, and what waits for its ACTIVATE_VERSION, is forgotten)";

/// Something that the target remembers cannot be understood.
pub fn damaged(path: &str, why: impl std::fmt::Display, ways_out: &str) -> Error {
    Error::new(Kind::Disk, format!("{path} cannot be understood ({why}); {ways_out}"))
}

fn read_record(fs: &dyn Fs, n: u64) -> Result<Option<Record>> {
    let path = record_path(n);
    match fs.read(&path) {
        Ok(text) => {
            let record = Record::read(&text).map_err(|why| damaged(&path, why, WAYS_OUT))?;
            let is_whole = record.n == n && record.leads_nowhere_else();
            if is_whole { Ok(Some(record)) } else { Err(damaged(&path, "it is not a record of this commit", WAYS_OUT)) }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(format!("reading {path}"))(e)),
    }
}

/// Eight hex digits that no other run has.
fn writer() -> String {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:08x}", bits >> 32)
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
        sink: staged.sink,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::store::memory::Memory;

    /// A file system over a network may have done what it says had been done before.
    #[test]
    fn a_record_that_is_there_already_is_ours_or_ends_the_run() {
        let fs = Memory::new();
        let mut log = CommitLog::open(Arc::new(fs.clone())).unwrap();
        log.commit(Record::default(), &[]).unwrap();
        for (writer, ok) in [(log.writer.clone(), true), ("0badf00d".to_owned(), false)] {
            let record = Record { form: FORM, n: log.next(), writer, ..Record::default() };
            put(&fs, &record_path(record.n), &checked::text(&record).unwrap()).unwrap();
            let committed = log.commit(Record::default(), &[]).map(|record| record.n);
            assert_eq!(committed.is_ok(), ok, "{committed:?}");
        }
        let error = log.commit(Record::default(), &[]).unwrap_err();
        assert!(error.to_string().contains("3.json.tmp"), "{error}");
        // The next start takes the record of the other one for the last commit.
        assert_eq!(CommitLog::open(Arc::new(fs)).unwrap().last().map(|last| last.writer.clone()).unwrap(), "0badf00d");
    }
}
