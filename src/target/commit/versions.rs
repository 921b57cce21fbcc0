//! Which version of each stream is the visible one, and which becomes it with the next commit. The exchange of the folders
//! is in `replace.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::Activation;
use super::replace;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::rows::streams::{Stream, Streams};
use crate::target::store::Fs;
use crate::target::store::names::{HELD, held_folder};
use crate::target::store::tree::{entries, is_empty, is_there};

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
    fs: Arc<dyn Fs>,
    visible: BTreeMap<String, i64>,
    held: Vec<Held>,
    /// With `load_method: overwrite` every row of the run belongs to this version.
    overwrite: Option<i64>,
    /// Stream, folder and version of the held ones that the commit in work makes visible.
    due: Vec<(String, String, i64)>,
}

impl Versions {
    /// As the log left them: the versions that are `visible`. With `overwrite` all rows of the run belong to that one.
    pub fn new(fs: Arc<dyn Fs>, visible: BTreeMap<String, i64>, overwrite: Option<i64>) -> Self {
        Versions { fs, visible, held: Vec::new(), overwrite, due: Vec::new() }
    }

    /// Where a row of this version goes: out of sight, or straight into the stream's folder.
    ///
    /// The first version that a stream ever has is visible at once: there is no older one to protect.
    pub fn place(&mut self, stream: &Stream, version: Option<i64>) -> Result<Place> {
        let Some(version) = self.overwrite.or(version) else { return Ok(Place::Stream) };
        if self.overwrite.is_none() {
            if self.visible.get(&stream.name) == Some(&version) {
                return Ok(Place::Stream);
            }
            if self.is_first(&stream.name, &stream.folder, version)? {
                // An ACTIVATE_VERSION that came before has its wish.
                self.held.retain(|held| held.stream != stream.name);
                self.visible.insert(stream.name.clone(), version);
                return Ok(Place::Stream);
            }
        }
        self.add(&stream.name, &stream.folder, version).rows = true;
        Ok(Place::Held(version))
    }

    /// True if no version of the stream is visible, and no rows of it are there or held.
    fn is_first(&self, stream: &str, folder: &str, version: i64) -> Result<bool> {
        let held = |held: &Held| held.stream == stream && (held.rows || held.version != version);
        if self.visible.contains_key(stream) || self.held.iter().any(held) {
            return Ok(false);
        }
        Ok(is_empty(&*self.fs, folder)? && !is_there(&*self.fs, &held_folder(folder, version))?)
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
    pub fn activate(&mut self, stream: &Stream, version: i64) {
        let (stream, folder) = (stream.name.as_str(), stream.folder.as_str());
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

    /// Decides what the commit in work makes visible.
    pub fn before_commit(&mut self, streams: &Streams, end: End) -> Result<()> {
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
        for Held { stream, folder, version, .. } in self.held.iter().filter(is_due) {
            replace::refuse_foreign(&*self.fs, folder)?;
            self.due.push((stream.clone(), folder.clone(), *version));
        }
        Ok(())
    }

    /// The activations of the commit in work, each with a file that tells it apart. A version without rows gets a file
    /// without rows, which joins those that are `staged`. The rows of this run are in commits from number `first` on.
    pub fn activations(&self, streams: &mut Streams, staged: &mut Vec<Staged>, first: u64) -> Result<Vec<Activation>> {
        for (stream, folder, version) in &self.due {
            if self.marker(staged, folder, *version)?.is_none()
                && let Some(index) = streams.find(stream)
            {
                streams.empty_file(index, *version)?;
            }
        }
        staged.extend(streams.finish()?);
        let mut activations = Vec::new();
        for (stream, folder, version) in &self.due {
            let Some(marker) = self.marker(staged, folder, *version)? else {
                return Err(Error::new(Kind::Internal, format!("version {version} of {folder} has no file")));
            };
            let stays = |s: &Stream| s.name == *stream && s.without_version && self.overwrite.is_none();
            let keep_from = streams.iter().any(stays).then_some(first);
            if keep_from.is_some() {
                log::warn(format!(
                    "stream {stream:?}: rows of this run came without a version; they stay beside those of version {version}"
                ));
            }
            activations.push(Activation { folder: folder.clone(), version: *version, marker, keep_from });
        }
        Ok(activations)
    }

    /// A file of a version as a path in its folder without suffix: one of the commit in work, or one that is held.
    fn marker(&self, staged: &[Staged], folder: &str, version: i64) -> Result<Option<String>> {
        let held = held_folder(folder, version);
        let of_version = staged.iter().filter(|file| file.place == Place::Held(version));
        let in_commit = of_version.into_iter().find_map(|file| {
            let inside = file.folder.strip_prefix(&held)?;
            let (stem, _) = file.name.rsplit_once('.')?;
            Some(format!("{inside}/{stem}").trim_start_matches('/').to_owned())
        });
        if in_commit.is_some() { Ok(in_commit) } else { first_held(&*self.fs, &held) }
    }

    /// The visible versions once `activations` are done.
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

    /// The commit is done: these versions are `visible`, and versions older than the ones of this run are swept.
    pub fn after_commit(&mut self, visible: &BTreeMap<String, i64>) -> Result<()> {
        self.visible.clone_from(visible);
        let due = std::mem::take(&mut self.due);
        self.held
            .retain(|held| !due.iter().any(|(stream, _, version)| *stream == held.stream && *version == held.version));
        // The oldest of this run: its ACTIVATE_VERSION may come, also when rows of a newer one came since.
        let mut oldest: BTreeMap<&str, i64> = BTreeMap::new();
        for held in self.held.iter().filter(|held| held.rows && !held.old) {
            oldest.entry(&held.folder).and_modify(|least| *least = held.version.min(*least)).or_insert(held.version);
        }
        oldest.into_iter().try_for_each(|(folder, version)| replace::sweep_older(&*self.fs, folder, version))
    }
}

/// Some held file of a version, as a path in its folder without suffix.
fn first_held(fs: &dyn Fs, folder: &str) -> Result<Option<String>> {
    debug_assert!(folder.starts_with(HELD));
    for entry in entries(fs, folder)?.unwrap_or_default() {
        if entry.is_dir {
            if let Some(inner) = first_held(fs, &format!("{folder}/{}", entry.name))? {
                return Ok(Some(format!("{}/{inner}", entry.name)));
            }
        } else if let Some(stem) = entry.name.strip_suffix(".held") {
            return Ok(Some(stem.to_owned()));
        }
    }
    Ok(None)
}
