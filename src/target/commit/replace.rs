//! Full tables: rows of a version that is not yet the visible one are held, durable and out of sight, until the tap
//! activates the version; then the stream's folder is exchanged for the one with the new rows, in one step.
//!
//! A run that is interrupted leaves the old version as it was. Held rows of other versions go when one is activated.

use std::io;

use super::record::Activation;
use crate::error::{Error, Kind, Result};
use crate::target::store::Fs;
use crate::target::store::names::{HELD, held_folder};
use crate::target::store::tree::{entries, exists, failed, is_there, make_dirs, remove_tree, sync_dir};

/// Makes a held version the visible one, and removes the folder that it replaces. May be repeated at any point.
pub fn activate(fs: &dyn Fs, activation: &Activation) -> Result<()> {
    let Activation { folder, version, marker } = activation;
    let held = held_folder(folder, *version);
    // Neither here nor there: it was done, and somebody took the files away since.
    let waits = is_there(fs, &held)?;
    if waits && !exists(fs, &format!("{folder}/{marker}.parquet"))? {
        name_files(fs, &held)?;
        make_dirs(fs, folder)?;
        exchange(fs, &held, folder)?;
    }
    fs.sync_dir("").map_err(failed("fsync of the destination"))?;
    let above = format!("{HELD}/{folder}");
    if is_there(fs, &above)? {
        sync_dir(fs, &above)?;
        remove_tree(fs, &above)?;
    }
    Ok(())
}

/// Removes the held rows of a stream's versions before `keep`.
pub fn sweep_older(fs: &dyn Fs, folder: &str, keep: i64) -> Result<()> {
    let above = format!("{HELD}/{folder}");
    let Some(entries) = entries(fs, &above)? else { return Ok(()) };
    for entry in
        entries.iter().filter(|entry| entry.is_dir && entry.name.parse::<i64>().is_ok_and(|version| version < keep))
    {
        remove_tree(fs, &format!("{above}/{}", entry.name))?;
    }
    Ok(())
}

/// Refuses to replace a folder in which there are files that this program did not write.
pub fn refuse_foreign(fs: &dyn Fs, folder: &str) -> Result<()> {
    match foreign(fs, folder)? {
        Some(path) => Err(Error::new(
            Kind::Disk,
            format!("{path} is not a file of this target, and replacing the stream would remove it; move it away"),
        )),
        None => Ok(()),
    }
}

/// A file that is not ours: our files are named after their commit, in the folder or in a partition's. What is
/// hidden from readers is nobody's loss.
fn foreign(fs: &dyn Fs, folder: &str) -> Result<Option<String>> {
    let is_ours = |name: &str| {
        let stem = name.strip_suffix(".parquet").and_then(|stem| stem.split_once('-'));
        stem.is_some_and(|(commit, number)| {
            commit.len() == 20 && [commit, number].iter().all(|n| n.parse::<u64>().is_ok())
        })
    };
    let Some(entries) = entries(fs, folder)? else { return Ok(None) };
    for entry in entries.iter().filter(|entry| !entry.name.starts_with(['.', '_'])) {
        let path = format!("{folder}/{}", entry.name);
        let found = match entry.is_dir {
            true if entry.name.contains('=') => foreign(fs, &path)?,
            is_dir => (is_dir || !is_ours(&entry.name)).then_some(path),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Gives held files the names under which readers find them. Their folder is still out of sight.
fn name_files(fs: &dyn Fs, dir: &str) -> Result<()> {
    for entry in fs.list(dir).map_err(failed(format!("listing {dir}")))? {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir {
            name_files(fs, &path)?;
        } else if let Some(stem) = path.strip_suffix(".held") {
            match fs.rename(&path, &format!("{stem}.parquet")) {
                // A power cut between the two: the file is there under both names.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => fs.remove(&path, false),
                other => other,
            }
            .map_err(failed(format!("renaming {path}")))?;
        }
    }
    sync_dir(fs, dir)
}

/// Exchanges the folders. Where the file system cannot, the old one steps aside first, and for a moment there is none.
fn exchange(fs: &dyn Fs, held: &str, folder: &str) -> Result<()> {
    match fs.exchange(held, folder) {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(22 | 38 | 95)) => {
            let aside = format!("{held}.old");
            if is_there(fs, &aside)? {
                remove_tree(fs, &aside)?;
            }
            fs.rename(folder, &aside).map_err(failed(format!("renaming {folder}")))?;
            fs.rename(held, folder).map_err(failed(format!("renaming {held}")))
        }
        Err(e) => Err(failed(format!("exchanging {held} and {folder}"))(e)),
    }
}
