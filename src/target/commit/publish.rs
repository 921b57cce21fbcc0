//! The files of a commit get their names, and its versions become the visible ones.

use std::collections::BTreeSet;
use std::io;

use super::record::Record;
use super::replace;
use crate::error::Result;
use crate::target::store::Fs;
use crate::target::store::names::STAGING;
use crate::target::store::tree::{failed, make_dirs, names, parent};

/// Publishes a commit. `again`: some of it may be done already.
pub fn publish(fs: &dyn Fs, record: &Record, again: bool) -> Result<()> {
    let there = if again { names(fs, STAGING)? } else { Vec::new() };
    let mut made = BTreeSet::new();
    for file in record.files.iter().filter(|file| !again || there.contains(&file.staged)) {
        let folder = parent(&file.path);
        if made.insert(folder) {
            make_dirs(fs, folder)?;
        }
        let staged = format!("{STAGING}/{}", file.staged);
        let what = || format!("renaming a file to {}", file.path);
        match fs.rename(&staged, &file.path) {
            Err(e) if again && e.kind() == io::ErrorKind::AlreadyExists => {
                // A hard link that a crash left without its second half; the sweep removes the staged name. Another file
                // under that name is not ours to take for it: the rows would be swept.
                if !fs.is_same_file(&staged, &file.path).map_err(failed(what()))? {
                    return Err(failed(what())(e));
                }
            }
            other => other.map_err(failed(what()))?,
        }
    }
    // On a redo also the folders whose renames were done, but perhaps not made durable.
    let folders: BTreeSet<&str> = record.files.iter().map(|file| parent(&file.path)).collect();
    for folder in folders {
        match fs.sync_dir(folder) {
            Err(e) if again && e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(failed(format!("fsync of {folder}")))?,
        }
    }
    record.activate.iter().try_for_each(|activation| replace::activate(fs, activation, record.overwrite))
}
