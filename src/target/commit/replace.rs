//! Full tables: rows of a version that is not yet the visible one are held, durable and out of sight, until the tap
//! activates the version; then the stream's folder is exchanged for the one with the new rows, in one step.
//!
//! A run that is interrupted leaves the old version as it was. Held rows of older versions go when one is activated.

use std::io;

use super::record::Activation;
use crate::error::{Error, Kind, Result};
use crate::target::store::names::{HELD, held_folder};
use crate::target::store::system::is_lacking;
use crate::target::store::tree::{
    entries, exists, failed, is_there, make_dirs, make_dirs_again, remove, remove_tree, sync_dir,
};
use crate::target::store::{Entry, Fs};

/// Makes a held version the visible one, and removes the folder that it replaces; with `overwrite` no other version is
/// held afterwards. May be repeated at any point.
pub fn activate(fs: &dyn Fs, activation: &Activation, overwrite: bool) -> Result<()> {
    let Activation { folder, version, marker, keep_from } = activation;
    let held = held_folder(folder, *version);
    // Neither here nor there: it was done, and somebody took the files away since.
    let waits = is_there(fs, &held)?;
    if waits && !exists(fs, &format!("{folder}/{marker}.parquet"))? {
        name_files(fs, &held)?;
        make_dirs(fs, folder)?;
        if let Some(first) = keep_from {
            move_files(fs, folder, &held, *first)?;
        }
        exchange(fs, &held, folder)?;
    }
    fs.sync_dir("").map_err(failed("fsync of the destination"))?;
    let above = format!("{HELD}/{folder}");
    if !is_there(fs, &above)? {
        return Ok(());
    }
    sync_dir(fs, &above)?;
    if overwrite {
        return remove_tree(fs, &above);
    }
    // Newer ones wait for their own activation.
    let is_newer = |name: &str| name.parse::<i64>().is_ok_and(|other| other > *version);
    if remove_versions(fs, &above, |name| !is_newer(name))? {
        fs.remove(&above, true).map_err(failed(format!("removing {above}")))?;
    }
    Ok(())
}

/// Removes versions from the folder `above`. True if nothing is left in it.
fn remove_versions(fs: &dyn Fs, above: &str, goes: impl Fn(&str) -> bool) -> Result<bool> {
    let (gone, left): (Vec<_>, Vec<_>) =
        entries(fs, above)?.unwrap_or_default().into_iter().partition(|entry| goes(&entry.name));
    for Entry { name, is_dir } in gone {
        let path = format!("{above}/{name}");
        if is_dir { remove_tree(fs, &path)? } else { remove(fs, &path)? }
    }
    Ok(left.is_empty())
}

/// Moves the files of commits from number `first` on into another folder.
fn move_files(fs: &dyn Fs, from: &str, to: &str, first: u64) -> Result<()> {
    let mut moved = false;
    for entry in entries(fs, from)?.unwrap_or_default() {
        let (path, new) = (format!("{from}/{}", entry.name), format!("{to}/{}", entry.name));
        if entry.is_dir {
            move_files(fs, &path, &new, first)?;
        } else if commit_of(&entry.name).is_some_and(|commit| commit >= first) {
            if !std::mem::replace(&mut moved, true) {
                make_dirs_again(fs, to)?;
            }
            match fs.rename(&path, &new) {
                // A power cut between two starts: the file is there under both names.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(failed(format!("renaming {path}")))?,
            }
        }
    }
    if moved { sync_dir(fs, to) } else { Ok(()) }
}

/// Removes the held rows of a stream's versions before `keep`.
pub fn sweep_older(fs: &dyn Fs, folder: &str, keep: i64) -> Result<()> {
    let above = format!("{HELD}/{folder}");
    remove_versions(fs, &above, |name| name.parse::<i64>().is_ok_and(|version| version < keep)).map(drop)
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

/// A file that is not ours, hidden or not: our files are named after their commit, in the folder or in those of its
/// partitions. What systems leave everywhere is nobody's loss.
fn foreign(fs: &dyn Fs, folder: &str) -> Result<Option<String>> {
    for entry in entries(fs, folder)?.unwrap_or_default() {
        let path = format!("{folder}/{}", entry.name);
        let found = match entry.is_dir {
            true if entry.name.contains('=') => foreign(fs, &path)?,
            true => Some(path),
            false => (commit_of(&entry.name).is_none() && !is_litter(&entry.name)).then_some(path),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The number of the commit that a file is of, if it is one of ours.
pub fn commit_of(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".parquet").or_else(|| name.strip_suffix(".held"))?;
    let (commit, number) = stem.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (commit.len() == 20 && is_number(commit) && is_number(number)).then(|| commit.parse().ok()).flatten()
}

/// What operating systems and writers of Parquet leave in folders.
fn is_litter(name: &str) -> bool {
    let marker = matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini" | "_SUCCESS");
    marker || name.starts_with("._") || name.starts_with('.') && name.ends_with(".crc")
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
        Err(e) if is_lacking(&e) => {
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
