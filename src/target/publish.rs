//! Which version of each stream is the visible one, and which becomes it with the next commit.

use std::collections::BTreeMap;

use super::commit::CommitLog;
use super::config::{LoadMethod, Settings};
use super::encoder::Encoder;
use super::file::Staged;
use super::fs::Fs;
use super::streams::Streams;
use super::version::{self, Activation, HELD, held_folder};
use crate::error::Result;

/// A version whose rows are held in this run.
#[derive(Debug)]
struct Held {
    stream: String,
    folder: String,
    version: i64,
    /// Rows of it came.
    rows: bool,
    /// The tap asked for it: with the next commit, or (before any row of it came) at the end of input.
    wanted: Option<When>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    NextCommit,
    EndOfInput,
}

/// The versions of a run.
#[derive(Debug)]
pub struct Versions {
    visible: BTreeMap<String, i64>,
    held: Vec<Held>,
    /// With `load_method: overwrite` every row of the run belongs to this version.
    overwrite: Option<i64>,
    /// Those of [`Versions::held`] that the commit in work makes visible.
    due: Vec<(String, String, i64)>,
}

impl Versions {
    /// As the log left them.
    #[must_use]
    pub fn new(commits: &CommitLog, method: LoadMethod) -> Self {
        let visible = commits.last().map(|last| last.versions.clone()).unwrap_or_default();
        let run = i64::try_from(commits.next()).unwrap_or(i64::MAX);
        let overwrite = (method == LoadMethod::Overwrite).then_some(run);
        Versions { visible, held: Vec::new(), overwrite, due: Vec::new() }
    }

    /// The version under which a row is held, or `None` if it goes straight into the stream's folder.
    ///
    /// The first version that a stream ever has is visible at once: there is no older one to protect.
    pub fn held(&mut self, stream: &str, folder: &str, version: Option<i64>, fs: &dyn Fs) -> Option<i64> {
        let version = self.overwrite.or(version)?;
        if self.overwrite.is_none() {
            let visible = self.visible.get(stream);
            if visible == Some(&version) {
                return None;
            }
            let held = self.held.iter().any(|held| held.stream == stream);
            if visible.is_none() && !held && fs.list(folder).map_or(true, |entries| entries.is_empty()) {
                self.visible.insert(stream.to_owned(), version);
                return None;
            }
        }
        self.add(stream, folder, version).rows = true;
        Some(version)
    }

    fn add(&mut self, stream: &str, folder: &str, version: i64) -> &mut Held {
        let found = self.held.iter().position(|held| held.version == version && held.stream == stream);
        let index = found.unwrap_or_else(|| {
            let wanted = self.overwrite.map(|_| When::EndOfInput);
            self.held.push(Held { stream: stream.to_owned(), folder: folder.to_owned(), version, rows: false, wanted });
            self.held.len() - 1
        });
        &mut self.held[index]
    }

    /// Takes an ACTIVATE_VERSION. One that comes before any row of its version waits for the end of input: made
    /// visible now, it would empty the stream until its rows are there.
    pub fn activate(&mut self, stream: &str, folder: &str, version: i64, fs: &dyn Fs) {
        if self.overwrite.is_some() || self.visible.get(stream) == Some(&version) {
            return;
        }
        let on_disk = fs.list(&held_folder(folder, version)).is_ok();
        let known = self.held.iter().any(|held| held.stream == stream && held.version == version);
        let when = if known || on_disk { When::NextCommit } else { When::EndOfInput };
        self.add(stream, folder, version);
        for held in self.held.iter_mut().filter(|held| held.stream == stream) {
            // The newest wish counts.
            held.wanted = (held.version == version).then_some(when);
        }
    }

    /// Decides what the commit in work makes visible, and has a file without rows made for a version that has none.
    ///
    /// # Errors
    /// When the encoder failed.
    pub fn before_commit(
        &mut self,
        streams: &mut Streams,
        encoder: &mut Encoder,
        (settings, eof): (&Settings, bool),
        fs: &dyn Fs,
    ) -> Result<()> {
        if let (Some(run), true) = (self.overwrite, eof) {
            let names: Vec<(String, String)> = streams.iter().map(|s| (s.name.clone(), s.folder.clone())).collect();
            for (stream, folder) in names {
                self.add(&stream, &folder, run);
            }
        }
        let is_due = |held: &&Held| held.wanted == Some(When::NextCommit) || (eof && held.wanted.is_some());
        self.due.clear();
        for held in self.held.iter().filter(is_due) {
            let Held { stream, folder, version, .. } = held;
            self.due.push((stream.clone(), folder.clone(), *version));
            if held.rows || fs.list(&held_folder(folder, *version)).is_ok() {
                continue;
            }
            let Some(index) = streams.find(stream) else { continue };
            if let Some(layout) = streams.empty_layout(index, *version, settings)? {
                encoder.empty(layout)?;
            }
        }
        Ok(())
    }

    /// The activations of the commit in work, each with a file that tells it apart.
    ///
    /// # Errors
    /// When the folder of a held version cannot be listed.
    pub fn activations(&self, staged: &[Staged], fs: &dyn Fs) -> Result<Vec<Activation>> {
        let mut activations = Vec::new();
        for (_, folder, version) in &self.due {
            let held = held_folder(folder, *version);
            let in_commit = staged.iter().find_map(|file| {
                let inside = file.folder.strip_prefix(&held)?;
                let (stem, _) = file.name.rsplit_once('.')?;
                Some(format!("{inside}/{stem}").trim_start_matches('/').to_owned())
            });
            if let Some(marker) = in_commit.or_else(|| first_held(fs, &held)) {
                activations.push(Activation { folder: folder.clone(), version: *version, marker });
            }
        }
        Ok(activations)
    }

    /// The visible versions once `activations` are done.
    #[must_use]
    pub fn visible(&self, activations: &[Activation]) -> BTreeMap<String, i64> {
        let mut visible = self.visible.clone();
        for (stream, folder, version) in &self.due {
            if activations.iter().any(|a| a.folder == *folder) {
                // An overwritten stream has no version of the tap's.
                if self.overwrite.is_some() {
                    visible.remove(stream)
                } else {
                    visible.insert(stream.clone(), *version)
                };
            }
        }
        visible
    }

    /// The commit is done: what it made visible is visible, and versions that this run does not send are swept.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn after_commit(&mut self, commits: &CommitLog) -> Result<()> {
        if let Some(last) = commits.last() {
            self.visible.clone_from(&last.versions);
        }
        let due = std::mem::take(&mut self.due);
        self.held
            .retain(|held| !due.iter().any(|(stream, _, version)| *stream == held.stream && *version == held.version));
        self.held.iter().try_for_each(|held| version::sweep_others(commits.fs(), &held.folder, held.version))
    }
}

/// Some held file of a version, as a path in its folder without suffix.
fn first_held(fs: &dyn Fs, folder: &str) -> Option<String> {
    debug_assert!(folder.starts_with(HELD));
    for entry in fs.list(folder).ok()? {
        if entry.is_dir {
            if let Some(inner) = first_held(fs, &format!("{folder}/{}", entry.name)) {
                return Some(format!("{}/{inner}", entry.name));
            }
        } else if let Some(stem) = entry.name.strip_suffix(".held") {
            return Some(stem.to_owned());
        }
    }
    None
}
