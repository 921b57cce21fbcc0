//! Which version of each stream is the visible one, and which becomes it with the next commit.

use std::collections::BTreeMap;

use super::folder;
use super::folder::{Activation, HELD, held_folder};
use super::log::CommitLog;
use crate::error::Result;
use crate::log;
use crate::target::files::staged::Staged;
use crate::target::files::thread::Encoder;
use crate::target::rows::streams::Streams;
use crate::target::settings::{LoadMethod, Settings};
use crate::target::store::disk::Fs;

/// A version whose rows are held in this run.
#[derive(Debug)]
struct Held {
    stream: String,
    folder: String,
    version: i64,
    /// Rows of it came.
    rows: bool,
    /// It is older than the visible one.
    old: bool,
    /// The tap asked for it: with the next commit, or (before any row of it came) at the end of input.
    wanted: Option<When>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    NextCommit,
    EndOfInput,
}

/// How far the input has come when a commit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// More may come.
    NotYet,
    /// It ended, as a tap ends that has done its work.
    Whole,
    /// It ended with rows behind the last STATE: the tap did not get to its end.
    Interrupted,
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
    ///
    /// # Errors
    /// When it cannot be told what is there.
    pub fn held(&mut self, stream: &str, folder: &str, version: Option<i64>, fs: &dyn Fs) -> Result<Option<i64>> {
        let Some(version) = self.overwrite.or(version) else { return Ok(None) };
        if self.overwrite.is_none() {
            if self.visible.get(stream) == Some(&version) {
                return Ok(None);
            }
            if self.is_first(stream, folder, version, fs)? {
                // An ACTIVATE_VERSION that came before has its wish.
                self.held.retain(|held| held.stream != stream);
                self.visible.insert(stream.to_owned(), version);
                return Ok(None);
            }
        }
        self.add(stream, folder, version).rows = true;
        Ok(Some(version))
    }

    /// True if no version of the stream is visible, and no rows of it are there or held.
    fn is_first(&self, stream: &str, folder: &str, version: i64, fs: &dyn Fs) -> Result<bool> {
        let held = |held: &Held| held.stream == stream && (held.rows || held.version != version);
        if self.visible.contains_key(stream) || self.held.iter().any(held) {
            return Ok(false);
        }
        Ok(folder::is_empty(fs, folder)? && !folder::is_there(fs, &held_folder(folder, version))?)
    }

    fn add(&mut self, stream: &str, folder: &str, version: i64) -> &mut Held {
        let found = self.held.iter().position(|held| held.version == version && held.stream == stream);
        let index = found.unwrap_or_else(|| {
            let wanted = self.overwrite.map(|_| When::EndOfInput);
            let old = self.overwrite.is_none() && self.visible.get(stream).is_some_and(|visible| version < *visible);
            if old {
                log::warn(format!(
                    "stream {stream:?}: version {version} is older than the one in place; its rows and its \
                     ACTIVATE_VERSION are left out"
                ));
            }
            let (stream, folder) = (stream.to_owned(), folder.to_owned());
            self.held.push(Held { stream, folder, version, rows: false, old, wanted });
            self.held.len() - 1
        });
        &mut self.held[index]
    }

    /// Takes an ACTIVATE_VERSION. One that comes before any row of its version waits for the end of input: made
    /// visible now, it would empty the stream until its rows are there, or show those of an interrupted run only. An older
    /// version than the visible one never takes its place: versions are times.
    pub fn activate(&mut self, stream: &str, folder: &str, version: i64) {
        if self.overwrite.is_some() || self.visible.get(stream) == Some(&version) {
            return;
        }
        let held = self.add(stream, folder, version);
        if held.old {
            return;
        }
        let when = if held.rows { When::NextCommit } else { When::EndOfInput };
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
        settings: &Settings,
        end: End,
        fs: &dyn Fs,
    ) -> Result<()> {
        if let (Some(run), true) = (self.overwrite, end != End::NotYet) {
            let names: Vec<(String, String)> = streams.iter().map(|s| (s.name.clone(), s.folder.clone())).collect();
            for (stream, folder) in names {
                self.add(&stream, &folder, run);
            }
        }
        let is_due = |held: &&Held| match held.wanted {
            Some(When::NextCommit) => true,
            Some(When::EndOfInput) => end == End::Whole,
            None => false,
        };
        self.due.clear();
        for held in self.held.iter().filter(is_due) {
            let Held { stream, folder, version, .. } = held;
            folder::refuse_foreign(fs, folder)?;
            self.due.push((stream.clone(), folder.clone(), *version));
            if held.rows || folder::is_there(fs, &held_folder(folder, *version))? {
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

    /// Says whose rows stay out of sight.
    pub fn report(&self) {
        for Held { stream, version, .. } in self.held.iter().filter(|held| held.rows && !held.old) {
            let version = if self.overwrite.is_some() { "this run".to_owned() } else { format!("version {version}") };
            log::warn(format!(
                "stream {stream:?}: the rows of {version} are held back, and the older ones stay, because the input ended \
                 before its work was done (no ACTIVATE_VERSION, or rows behind the last STATE)"
            ));
        }
    }

    /// The commit is done: what it made visible is visible, and versions older than those of this run are swept.
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
        let of_use = self.held.iter().filter(|held| held.rows && !held.old);
        of_use.into_iter().try_for_each(|held| folder::sweep_older(commits.fs(), &held.folder, held.version))
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
