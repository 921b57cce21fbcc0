//! Files that a commit names, and that somebody moved or removed: their rows are not there any more, so they count as never
//! written. Files that the target replaced itself are not among them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::record::{Activation, FileEntry, Record};
use crate::error::Result;
use crate::log;
use crate::target::store::Fs;
use crate::target::store::names::{COMMITS, HELD};
use crate::target::store::tree::exists;

/// What later commits did to the files of earlier ones, and what is gone.
#[derive(Debug, Default)]
pub struct Gone {
    activations: Vec<Activation>,
    dropped: HashSet<String>,
    files: u64,
    first: String,
}

/// The rows of a commit that count as never written.
#[derive(Debug, Default)]
pub struct Lost {
    /// All of them, because it is not known which ones they are.
    all: bool,
    /// The rows of each sink.
    of_sinks: BTreeMap<u64, Vec<Range<u64>>>,
}

impl Lost {
    /// Whether this row is one of them: its sink, and which of the sink's rows it is.
    pub fn has(&self, row: Option<(u64, u64)>) -> bool {
        let is_lost = |(sink, place): (u64, u64)| {
            self.of_sinks.get(&sink).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&place)))
        };
        self.all || row.is_some_and(is_lost)
    }
}

impl Gone {
    /// Looks for the files of a commit. Commits come in turn, the newest first.
    pub fn look(&mut self, fs: &dyn Fs, record: &Record) -> Result<Lost> {
        self.activations.extend_from_slice(&record.activate);
        self.dropped.extend(record.drop.iter().cloned());
        let mut lost = Lost::default();
        let mut rows_of: BTreeMap<u64, u64> = BTreeMap::new();
        for file in record.files.iter().filter(|file| !file.path.starts_with(COMMITS)) {
            let from = rows_of.get(&file.sink).copied().unwrap_or_default();
            rows_of.insert(file.sink, from + file.rows);
            let dropped = self.dropped.contains(&file.path);
            if !dropped && self.is_there(fs, record.n, file)? {
                continue;
            }
            if file.sink == 0 {
                lost.all = true;
            } else {
                lost.of_sinks.entry(file.sink).or_default().push(from..from + file.rows);
            }
            if !dropped {
                self.files += 1;
                self.first.clone_from(&file.path);
            }
        }
        Ok(lost)
    }

    /// Whether the rows of a file of commit `n` are where they belong, or were replaced by those of a later commit.
    fn is_there(&self, fs: &dyn Fs, n: u64, file: &FileEntry) -> Result<bool> {
        let held = file.path.strip_prefix(HELD).and_then(|path| path.strip_prefix('/'));
        let Some((folder, behind)) = held.unwrap_or(&file.path).split_once('/') else { return Ok(true) };
        let mut later = self.activations.iter().filter(|activation| activation.folder == folder);
        let Some((version, inside)) = held.and_then(|_| behind.split_once('/')) else {
            let is_replaced = later.any(|activation| activation.keep_from.is_none_or(|first| first > n));
            return Ok(is_replaced || exists(fs, &file.path)?);
        };
        let version = version.parse().unwrap_or(i64::MAX);
        let stem = inside.trim_end_matches(".held");
        Ok(later.any(|activation| activation.version > version)
            || exists(fs, &file.path)?
            || exists(fs, &format!("{folder}/{stem}.parquet"))?)
    }

    /// Says what is gone.
    pub fn report(&self) {
        let Gone { files, first, .. } = self;
        if *files > 0 {
            log::warn(format!(
                "{files} files of earlier commits are gone (one of them is {first}): their rows count as never written, and \
                 come in again if they are sent"
            ));
        }
    }
}
