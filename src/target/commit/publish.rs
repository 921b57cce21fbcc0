//! The files of a commit get their names, and its versions become the visible ones.

use std::collections::BTreeSet;
use std::io;

use super::record::Record;
use super::replace;
use crate::error::Result;
use crate::target::store::Fs;
use crate::target::store::names::STAGING;
use crate::target::store::tree::{failed, make_dirs, make_dirs_again, names, parent, remove_if_there, sync_dir};

/// Publishes a commit. `again`: some of it may be done already.
pub fn publish(fs: &dyn Fs, record: &Record, again: bool) -> Result<()> {
    let there: BTreeSet<String> = if again { names(fs, STAGING)?.into_iter().collect() } else { BTreeSet::new() };
    let mut made = BTreeSet::new();
    for file in record.files.iter().filter(|file| !again || there.contains(&file.staged)) {
        let folder = parent(&file.path);
        if made.insert(folder) {
            if again { make_dirs_again(fs, folder)? } else { make_dirs(fs, folder)? }
        }
        let staged = format!("{STAGING}/{}", file.staged);
        let what = || format!("renaming a file to {}", file.path);
        match fs.rename(&staged, &file.path) {
            Err(e) if again && e.kind() == io::ErrorKind::AlreadyExists => {
                // A hard link that a crash left without its second half; the sweep removes the staged name. Another file
                // under that name is not ours to take for it: the rows would be swept.
                if !fs.is_same_file(&staged, &file.path).map_err(failed(what()))? {
                    let text = "another file stands where rows of the last commit belong; move it away";
                    return Err(failed(what())(e).context(text));
                }
            }
            other => other.map_err(failed(what()))?,
        }
    }
    // On a redo also the folders whose renames were done, but perhaps not made durable.
    let folders: BTreeSet<&str> = record.files.iter().map(|file| parent(&file.path)).collect();
    for folder in folders {
        if again { sync_dir_if_there(fs, folder)? } else { sync_dir(fs, folder)? }
    }
    let mut folders = BTreeSet::new();
    for path in &record.drop {
        remove_if_there(fs, path)?;
        folders.insert(parent(path));
    }
    folders.into_iter().try_for_each(|folder| sync_dir_if_there(fs, folder))?;
    record.activate.iter().try_for_each(|activation| replace::activate(fs, activation, record.overwrite))
}

/// Makes the names in a folder durable, unless somebody took the folder away.
fn sync_dir_if_there(fs: &dyn Fs, folder: &str) -> Result<()> {
    match fs.sync_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(failed(format!("fsync of {folder}"))),
    }
}
