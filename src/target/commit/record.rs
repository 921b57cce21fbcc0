//! The form of a commit in the log; `commit_log.rs` writes and reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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

impl Record {
    /// True if its paths lead to files of streams and of the target: not out of the destination, and not to its roots.
    pub fn leads_nowhere_else(&self) -> bool {
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        let is_path = |path: &str| path.split('/').all(is_part);
        self.files.iter().all(|file| is_part(&file.staged) && !file.staged.contains('/') && is_path(&file.path))
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
