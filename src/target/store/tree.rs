//! Steps in the output directory that take several calls, or that say what failed.

use std::io;

use super::{Entry, Fs};
use crate::error::{Error, Kind, Result};

/// Says what was tried; the system says why it failed.
pub fn failed(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::new(Kind::Disk, format!("{what} failed: {error}"))
}

/// The folder that holds `path`.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Makes a directory with its parents, each made durable in the one above. A symbolic link in their place is refused.
pub fn make_dirs(fs: &dyn Fs, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let dir = path.get(..end).unwrap_or_default();
        let what = || format!("creating the folder {dir} in the destination (it must not be a symbolic link)");
        if fs.make_dir(dir).map_err(|e| failed(what())(e))? {
            let above = parent(dir);
            fs.sync_dir(above).map_err(failed(format!("fsync of {above:?}")))?;
        }
    }
    Ok(())
}

/// Makes a directory with its parents, and makes each durable also where an earlier run made it: that run may have been
/// killed before it could.
pub fn make_dirs_again(fs: &dyn Fs, path: &str) -> Result<()> {
    make_dirs(fs, path)?;
    let above = path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default());
    [""].into_iter().chain(above).try_for_each(|dir| sync_dir(fs, dir))
}

/// Makes the names in a directory durable.
pub fn sync_dir(fs: &dyn Fs, dir: &str) -> Result<()> {
    fs.sync_dir(dir).map_err(failed(format!("fsync of {dir}")))
}

/// Writes `path` so that it has all of `bytes` or does not change.
pub fn put(fs: &dyn Fs, path: &str, bytes: &[u8]) -> Result<()> {
    let tmp = write_tmp(fs, path, bytes)?;
    fs.replace(&tmp, path).map_err(failed(format!("renaming {tmp}")))?;
    sync_dir(fs, parent(path))
}

/// As [`put`], also where a killed process left half of it.
pub fn renew(fs: &dyn Fs, path: &str, bytes: &[u8]) -> Result<()> {
    let left = format!("{path}.tmp");
    if exists(fs, &left)? {
        remove(fs, &left)?;
    }
    put(fs, path, bytes)
}

/// Writes and syncs `bytes` under a name beside `path`, which is returned.
pub fn write_tmp(fs: &dyn Fs, path: &str, bytes: &[u8]) -> Result<String> {
    let tmp = format!("{path}.tmp");
    let written = fs.create(&tmp).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync()
    });
    written.map_err(failed(format!("writing {tmp}")))?;
    Ok(tmp)
}

/// The entries of a folder; `None` where there is no such folder.
pub fn entries(fs: &dyn Fs, dir: &str) -> Result<Option<Vec<Entry>>> {
    match fs.list(dir) {
        Ok(entries) => Ok(Some(entries)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(format!("listing {dir}"))(e)),
    }
}

/// The names in a folder; none if it does not exist.
pub fn names(fs: &dyn Fs, dir: &str) -> Result<Vec<String>> {
    Ok(entries(fs, dir)?.into_iter().flatten().map(|entry| entry.name).collect())
}

/// Whether there is such a folder.
pub fn is_there(fs: &dyn Fs, dir: &str) -> Result<bool> {
    Ok(entries(fs, dir)?.is_some())
}

/// Whether a folder has nothing in it, or does not exist.
pub fn is_empty(fs: &dyn Fs, dir: &str) -> Result<bool> {
    Ok(entries(fs, dir)?.is_none_or(|entries| entries.is_empty()))
}

/// Whether there is such a file.
pub fn exists(fs: &dyn Fs, path: &str) -> Result<bool> {
    match fs.is_same_file(path, path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        looked => looked.map_err(failed(format!("looking for {path}"))),
    }
}

/// Removes a file.
pub fn remove(fs: &dyn Fs, path: &str) -> Result<()> {
    fs.remove(path, false).map_err(failed(format!("removing {path}")))
}

/// Removes a file, unless somebody did before.
pub fn remove_if_there(fs: &dyn Fs, path: &str) -> Result<()> {
    match fs.remove(path, false) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed(format!("removing {path}"))),
    }
}

/// Removes a folder with everything in it.
pub fn remove_tree(fs: &dyn Fs, dir: &str) -> Result<()> {
    for entry in fs.list(dir).map_err(failed(format!("listing {dir}")))? {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir { remove_tree(fs, &path)? } else { remove(fs, &path)? }
    }
    fs.remove(dir, true).map_err(failed(format!("removing {dir}")))
}
