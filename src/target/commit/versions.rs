//! Which version of each stream is the visible one, and which becomes it with the next commit. The exchange of the folders
//! is in `replace.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Activation, Firsts, Record};
use super::replace;
use super::replay::Replay;
use crate::error::{Error, Kind, Result};
use crate::fingerprint::hex;
use crate::log;
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::rows::fingerprint::Fingerprint;
use crate::target::rows::streams::{Stream, Streams};
use crate::target::store::names::{HELD, held_folder};
use crate::target::store::tree::{entries, is_empty, is_there};
use crate::target::store::{Entry, Fs};

/// What a run knows of the versions of a stream that are not visible.
#[derive(Debug)]
struct Waiting {
    folder: String,
    /// Versions whose rows came in this run, or that the tap asked for.
    held: BTreeMap<i64, Held>,
    /// The version that the tap asked for last: with the next commit, or (before any row of it came) at the end of input.
    wanted: Option<(i64, When)>,
    /// What it had asked for before the newest STATE.
    covered: Option<(i64, When)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Rows of it came.
    rows: bool,
    /// Rows of it came before the newest STATE.
    covered: bool,
    /// A row of it was kept.
    begun: bool,
    /// It is older than the visible one.
    old: bool,
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
    waiting: BTreeMap<String, Waiting>,
    firsts: Firsts,
    /// Held files of versions that the tap sends again from their start; they go with the next commit.
    dropped: Vec<String>,
    /// Of what the newest STATE covers: the first rows, how many files are dropped, and the visible versions.
    covered: (Firsts, usize, BTreeMap<String, i64>),
    /// Whether any of these changed since.
    changed: bool,
    /// With `load_method: overwrite` every row of the run belongs to this version.
    overwrite: Option<i64>,
    /// Stream, folder and version of the held ones that the commit in work makes visible.
    due: Vec<(String, String, i64)>,
}

impl Versions {
    /// As the `last` commit left them. With `overwrite` all rows of the run belong to that version.
    pub fn new(fs: Arc<dyn Fs>, last: Option<&Record>, overwrite: Option<i64>) -> Self {
        let (visible, firsts) = last.map(|last| (last.versions.clone(), last.held.clone())).unwrap_or_default();
        let covered = (firsts.clone(), 0, visible.clone());
        let (waiting, dropped, changed, due) = (BTreeMap::new(), Vec::new(), false, Vec::new());
        Versions { fs, visible, waiting, firsts, dropped, covered, changed, overwrite, due }
    }

    /// True where a version of the stream is the visible one: the stream is replaced as a whole.
    pub fn has_version(&self, stream: &str) -> bool {
        self.visible.contains_key(stream)
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
            if self.is_first(stream, version)? {
                // An ACTIVATE_VERSION that came before has its wish.
                self.waiting.remove(&stream.name);
                self.visible.insert(stream.name.clone(), version);
                self.changed = true;
                return Ok(Place::Stream);
            }
        }
        match self.waiting.get_mut(&stream.name).and_then(|waiting| waiting.held.get_mut(&version)) {
            Some(held) => held.rows = true,
            None => self.add(&stream.name, &stream.folder, version).rows = true,
        }
        Ok(Place::Held(version))
    }

    /// True if no version of the stream is visible, and no rows of it are there or held.
    fn is_first(&self, stream: &Stream, version: i64) -> Result<bool> {
        let (name, folder) = (stream.name.as_str(), stream.folder.as_str());
        let others = |waiting: &Waiting| waiting.held.iter().any(|(other, held)| held.rows || *other != version);
        if self.visible.contains_key(name) || self.waiting.get(name).is_some_and(others) {
            return Ok(false);
        }
        let is_none = stream.never_had_rows() || is_empty(&*self.fs, folder)?;
        Ok(is_none && !is_there(&*self.fs, &held_folder(folder, version))?)
    }

    /// True if the commit in work makes a version of this folder visible.
    pub fn is_due(&self, folder: &str) -> bool {
        self.due.iter().any(|(_, due, _)| due == folder)
    }

    /// A STATE came: it covers everything so far.
    pub fn on_state(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.covered = waiting.wanted;
            waiting.held.values_mut().for_each(|held| held.covered = held.rows);
        }
        if std::mem::take(&mut self.changed) {
            self.covered = (self.firsts.clone(), self.dropped.len(), self.visible.clone());
        }
    }

    /// Forgets what came behind the newest STATE.
    pub fn forget_behind(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.wanted = waiting.covered;
            waiting.held.values_mut().for_each(|held| held.rows = held.covered);
        }
        let (firsts, dropped, visible) = std::mem::take(&mut self.covered);
        self.dropped.truncate(dropped);
        (self.firsts, self.visible) = (firsts, visible);
    }

    fn waiting(&mut self, stream: &str, folder: &str) -> &mut Waiting {
        let fresh = || Waiting { folder: folder.to_owned(), held: BTreeMap::new(), wanted: None, covered: None };
        self.waiting.entry(stream.to_owned()).or_insert_with(fresh)
    }

    fn add(&mut self, stream: &str, folder: &str, version: i64) -> &mut Held {
        let old = self.overwrite.is_none() && self.visible.get(stream).is_some_and(|visible| version < *visible);
        self.waiting(stream, folder).held.entry(version).or_insert_with(|| {
            if old {
                warn_of_older(stream, version);
            }
            Held { old, ..Held::default() }
        })
    }

    /// True if no row of a held version was kept in this run.
    pub fn is_to_begin(&self, stream: &str, version: i64) -> bool {
        let held = self.waiting.get(stream).and_then(|waiting| waiting.held.get(&version));
        self.overwrite.is_none() && held.is_some_and(|held| !held.begun)
    }

    /// Takes the first row of a held version that is kept in this run: its fingerprint, if the stream has keys. Where the
    /// tap sends the version again from its start, what earlier runs held of it goes, but not what `replay` finds again.
    pub fn begin(&mut self, stream: &Stream, version: i64, first: Option<Fingerprint>, replay: &Replay) -> Result<()> {
        self.add(&stream.name, &stream.folder, version).begun = true;
        self.changed = true;
        let before = held_files(&*self.fs, &held_folder(&stream.folder, version))?;
        let from_start = match first.map(|first| hex(&first)) {
            Some(first) => {
                let known = self.firsts.entry(stream.name.clone()).or_default();
                if before.is_empty() {
                    known.insert(version, first.clone());
                }
                known.get(&version) == Some(&first)
            }
            None => before.iter().all(|(commit, _)| replay.comes_again(*commit)),
        };
        if from_start {
            let goes = before.into_iter().filter(|(commit, _)| first.is_none() || !replay.looks_at(*commit));
            self.dropped.extend(goes.map(|(_, path)| path));
        }
        Ok(())
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
        let wanted = &mut self.waiting(stream, folder).wanted;
        match *wanted {
            Some((newer, _)) if newer > version => warn_of_older(stream, version),
            _ => *wanted = Some((version, when)),
        }
    }

    /// Decides what the commit in work makes visible.
    pub fn before_commit(&mut self, streams: &Streams, end: End) -> Result<()> {
        if let (Some(run), true) = (self.overwrite, end != End::NotYet) {
            let names: Vec<(String, String)> = streams.iter().map(|s| (s.name.clone(), s.folder.clone())).collect();
            for (stream, folder) in names {
                self.add(&stream, &folder, run);
                self.waiting(&stream, &folder).wanted = Some((run, When::EndOfInput));
            }
        }
        self.due.clear();
        for (stream, Waiting { folder, wanted, .. }) in &self.waiting {
            let Some((version, when)) = *wanted else { continue };
            if when == When::NextCommit || end == End::Whole {
                replace::refuse_foreign(&*self.fs, folder)?;
                self.due.push((stream.clone(), folder.clone(), version));
            }
        }
        Ok(())
    }

    /// The paths of held files that the commit in work removes.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// The first rows of the versions that are held once `activations` are done.
    pub fn firsts(&self, activations: &[Activation]) -> Firsts {
        let mut firsts = self.firsts.clone();
        for (stream, _, version) in self.due.iter().filter(|(_, folder, _)| is_among(activations, folder)) {
            if let Some(of_stream) = firsts.get_mut(stream) {
                of_stream.retain(|other, _| other > version);
            }
        }
        firsts.retain(|_, of_stream| !of_stream.is_empty());
        firsts
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
            if is_among(activations, folder) {
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
        for (stream, Waiting { held, .. }) in &self.waiting {
            for (version, _) in held.iter().filter(|(_, held)| held.rows && !held.old) {
                let version =
                    if self.overwrite.is_some() { "this run".to_owned() } else { format!("version {version}") };
                log::warn(format!(
                    "stream {stream:?}: the rows of {version} are held back, out of sight, and the older ones stay, because the \
                     input ended before all of the stream came (no ACTIVATE_VERSION, or rows behind the last STATE)"
                ));
            }
        }
    }

    /// The commit `record` is done; versions older than the ones of this run are swept.
    pub fn after_commit(&mut self, record: &Record) -> Result<()> {
        self.visible.clone_from(&record.versions);
        self.firsts.clone_from(&record.held);
        self.dropped.clear();
        self.covered = (self.firsts.clone(), 0, self.visible.clone());
        self.changed = false;
        for (stream, _, version) in std::mem::take(&mut self.due) {
            if let Some(waiting) = self.waiting.get_mut(&stream) {
                // Older ones went with it; what comes of them from now on is old.
                waiting.held.retain(|other, _| *other > version);
                (waiting.wanted, waiting.covered) = (None, None);
            }
        }
        for (stream, Waiting { folder, held, .. }) in &self.waiting {
            // The oldest of this run: its ACTIVATE_VERSION may come, also when rows of a newer one came since.
            let Some((oldest, _)) = held.iter().find(|(_, held)| held.rows && !held.old) else { continue };
            replace::sweep_older(&*self.fs, folder, *oldest)?;
            if let Some(of_stream) = self.firsts.get_mut(stream) {
                of_stream.retain(|version, _| version >= oldest);
            }
        }
        Ok(())
    }
}

fn warn_of_older(stream: &str, version: i64) {
    log::warn(format!(
        "stream {stream:?}: version {version} is older than the one in place; its rows and its ACTIVATE_VERSION are left out"
    ));
}

fn is_among(activations: &[Activation], folder: &str) -> bool {
    activations.iter().any(|activation| activation.folder == folder)
}

/// The held files of a version, and the numbers of their commits.
fn held_files(fs: &dyn Fs, folder: &str) -> Result<Vec<(u64, String)>> {
    let mut files = Vec::new();
    for Entry { name, is_dir } in entries(fs, folder)?.unwrap_or_default() {
        let path = format!("{folder}/{name}");
        if is_dir {
            files.extend(held_files(fs, &path)?);
        } else if let Some(commit) = replace::commit_of(&name) {
            files.push((commit, path));
        }
    }
    Ok(files)
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
