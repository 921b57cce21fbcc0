//! Full tables: rows of a version that is not yet the visible one are held, durable and out of sight, until the tap
//! activates the version; then the stream's folder is exchanged for the one with the new rows, in one step.
//!
//! A run that is interrupted leaves the old version as it was. Held rows of other versions go when one is activated.

use std::io;

use serde::{Deserialize, Serialize};

use super::fs::Fs;
use crate::error::{Error, Kind, Result};

/// Where rows of versions wait.
pub const HELD: &str = "_target/held";

/// A version of a stream that a commit makes the visible one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Activation {
    /// The stream's folder.
    pub folder: String,
    /// The version.
    pub version: i64,
    /// A file of the version, as a path in its folder without suffix: where it is, there the version is.
    pub marker: String,
}

/// The folder that holds a version.
#[must_use]
pub fn held_folder(folder: &str, version: i64) -> String {
    format!("{HELD}/{folder}/{version}")
}

fn disk(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Error {
    move |e| Error::new(Kind::Disk, format!("{what} failed: {e}"))
}

/// Makes a version the visible one. May be repeated at any point.
///
/// # Errors
/// [`Kind::Disk`].
pub fn publish(fs: &dyn Fs, activation: &Activation) -> Result<()> {
    let Activation { folder, version, marker } = activation;
    let held = held_folder(folder, *version);
    if !exists(fs, &format!("{folder}/{marker}.parquet"))? {
        name_files(fs, &held)?;
        super::commit::make_dirs(fs, folder)?;
        exchange(fs, &held, folder)?;
    }
    fs.sync_dir("").map_err(disk("fsync of the destination"))?;
    let above = format!("{HELD}/{folder}");
    if fs.list(&above).is_ok() {
        fs.sync_dir(&above).map_err(disk(format!("fsync of {above}")))?;
        remove_tree(fs, &above)?;
    }
    Ok(())
}

/// Removes everything that is held for a stream's folder but the version `keep`.
///
/// # Errors
/// [`Kind::Disk`].
pub fn sweep_others(fs: &dyn Fs, folder: &str, keep: i64) -> Result<()> {
    let above = format!("{HELD}/{folder}");
    let Ok(entries) = fs.list(&above) else { return Ok(()) };
    for entry in entries.iter().filter(|entry| entry.is_dir && entry.name != keep.to_string()) {
        remove_tree(fs, &format!("{above}/{}", entry.name))?;
    }
    Ok(())
}

/// Gives held files the names under which readers find them. Their folder is still out of sight.
fn name_files(fs: &dyn Fs, dir: &str) -> Result<()> {
    for entry in fs.list(dir).map_err(disk(format!("listing {dir}")))? {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir {
            name_files(fs, &path)?;
        } else if let Some(stem) = path.strip_suffix(".held") {
            match fs.rename(&path, &format!("{stem}.parquet")) {
                // A power cut between the two: the file is there under both names.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => fs.remove(&path, false),
                other => other,
            }
            .map_err(disk(format!("renaming {path}")))?;
        }
    }
    fs.sync_dir(dir).map_err(disk(format!("fsync of {dir}")))
}

/// Exchanges the folders. Where the file system cannot, the old one steps aside first, and for a moment there is none.
fn exchange(fs: &dyn Fs, held: &str, folder: &str) -> Result<()> {
    match fs.exchange(held, folder) {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(22 | 38 | 95)) => {
            let aside = format!("{held}.old");
            if fs.list(&aside).is_ok() {
                remove_tree(fs, &aside)?;
            }
            fs.rename(folder, &aside).map_err(disk(format!("renaming {folder}")))?;
            fs.rename(held, folder).map_err(disk(format!("renaming {held}")))
        }
        Err(e) => Err(disk(format!("exchanging {held} and {folder}"))(e)),
    }
}

fn exists(fs: &dyn Fs, path: &str) -> Result<bool> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    match fs.list(dir) {
        Ok(entries) => Ok(entries.iter().any(|entry| entry.name == name)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(disk(format!("listing {dir}"))(e)),
    }
}

fn remove_tree(fs: &dyn Fs, dir: &str) -> Result<()> {
    for entry in fs.list(dir).map_err(disk(format!("listing {dir}")))? {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir {
            remove_tree(fs, &path)?;
        } else {
            fs.remove(&path, false).map_err(disk(format!("removing {path}")))?;
        }
    }
    fs.remove(dir, true).map_err(disk(format!("removing {dir}")))
}
