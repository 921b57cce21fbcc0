//! The form of a commit in the log; `commit_log.rs` writes and reads it.
//!
//! The number of a record is a fence: a record is created where there is none of this number, and whoever created it owns the
//! commit. Its `writer` tells afterwards who did. A commit that is there is done again by any start: `files` get their names,
//! versions are exchanged, and the paths in `drop` are removed. What older records said of states may be cut to a hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::target::rows::form::exact_form;
use crate::target::store::checked;
use crate::target::store::names::HELD;

/// A file of a commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the staging folder.
    pub staged: String,
    /// Its path once it is committed.
    pub path: String,
    /// The stream; none for the fingerprints of the commit's rows.
    pub stream: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The sink that its rows went through; 0 is none, and what the first form says of all.
    #[serde(default)]
    pub sink: u64,
}

/// Fingerprints by stream and version, in hex digits.
pub type Firsts = BTreeMap<String, BTreeMap<i64, String>>;

/// One commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// See [`checked`].
    #[serde(default = "checked::first_form")]
    pub form: u32,
    /// Its number, counted from 1.
    pub n: u64,
    /// Who wrote it: eight hex digits, new in each run.
    #[serde(default)]
    pub writer: String,
    /// The number of the first commit of the run that made it.
    pub run: u64,
    /// In the first commit of a run: the hash of the STATE that its input began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_state_hash: Option<String>,
    /// The hash of the last STATE before its last row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// That STATE, as received; not in older records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<RawValue>>,
    /// What the first form has in place of a hash.
    #[serde(skip_serializing)]
    pub start_state: Option<Box<RawValue>>,
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
    /// How many fingerprints the commits up to this one had together, counted from the first one of the second form.
    #[serde(default)]
    pub so_far: u64,
    /// Its files. Those of one sink hold its rows in their order.
    pub files: Vec<FileEntry>,
    /// Versions of streams that it makes the visible ones.
    pub activate: Vec<Activation>,
    /// The visible version of every stream that has versions.
    pub versions: BTreeMap<String, i64>,
    /// The first row of every held version of each stream that has keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: Firsts,
    /// Paths of held files that go with this commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// A hash of a state that is the same however the state is written.
pub fn state_hash(state: &[u8]) -> String {
    checked::checksum(&exact_form(state))
}

impl Record {
    /// Reads a record, of whatever form, or says why it cannot be understood.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let mut record: Record = checked::content(text)?;
        let hash = |state: &Option<Box<RawValue>>| state.as_ref().map(|state| state_hash(state.get().as_bytes()));
        record.state_hash = record.state_hash.or_else(|| hash(&record.state));
        record.start_state_hash = record.start_state_hash.or_else(|| hash(&record.start_state));
        Ok(record)
    }

    /// True if its paths lead to files of streams and of the target: not out of the destination, and not to its roots.
    pub fn leads_nowhere_else(&self) -> bool {
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        let is_path = |path: &str| path.split('/').all(is_part);
        let is_held =
            |path: &String| path.strip_prefix(HELD).is_some_and(|path| path.starts_with('/')) && is_path(path);
        self.drop.iter().all(is_held)
            && self.files.iter().all(|file| is_part(&file.staged) && !file.staged.contains('/') && is_path(&file.path))
            && self.activate.iter().all(|activation| {
                let folder = activation.folder.as_str();
                is_part(folder) && !folder.contains('/') && folder != "_target" && is_path(&activation.marker)
            })
    }
}

/// A version of a stream that a commit makes the visible one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Activation {
    /// The stream's folder.
    pub folder: String,
    /// The version.
    pub version: i64,
    /// A file of the version, as a path in its folder without suffix: where it is, there the version is.
    pub marker: String,
    /// Rows that came without a version are in files of commits from this number on: these files stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_from: Option<u64>,
}
