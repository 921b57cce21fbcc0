//! Files of the target that the log may not know: `_target` was removed or put back, or somebody brought files here. Commits
//! to come get higher numbers than theirs, so that no two files ever have one name.

use std::io;

use super::replace::commit_of;
use crate::error::Result;
use crate::target::store::names::HELD;
use crate::target::store::tree::failed;
use crate::target::store::{Entry, Fs};

/// No commit of ours has so high a number.
const TOO_HIGH: u64 = 1 << 60;

/// The highest number of a commit that a file is named after, and the path of such a file.
pub fn newest_file(fs: &dyn Fs) -> Result<Option<(u64, String)>> {
    let mut newest = None;
    for folder in folders(fs, "")?.into_iter().filter(|folder| folder != "_target") {
        look(fs, &folder, &mut newest)?;
    }
    for held in folders(fs, HELD)? {
        for version in folders(fs, &held)? {
            look(fs, &version, &mut newest)?;
        }
    }
    Ok(newest)
}

fn folders(fs: &dyn Fs, dir: &str) -> Result<Vec<String>> {
    let path = |name: String| if dir.is_empty() { name } else { format!("{dir}/{name}") };
    Ok(entries(fs, dir)?.into_iter().filter(|entry| entry.is_dir).map(|entry| path(entry.name)).collect())
}

/// Looks at a folder and at those of its partitions.
fn look(fs: &dyn Fs, folder: &str, newest: &mut Option<(u64, String)>) -> Result<()> {
    for Entry { name, is_dir } in entries(fs, folder)? {
        let path = format!("{folder}/{name}");
        if is_dir && name.contains('=') {
            look(fs, &path, newest)?;
        } else if let Some(n) = commit_of(&name).filter(|n| !is_dir && *n < TOO_HIGH)
            && newest.as_ref().is_none_or(|(most, _)| n > *most)
        {
            *newest = Some((n, path));
        }
    }
    Ok(())
}

/// What is in a folder. One that nobody may look into, as file systems have at their roots, is not the target's.
fn entries(fs: &dyn Fs, folder: &str) -> Result<Vec<Entry>> {
    match fs.list(folder) {
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => Ok(Vec::new()),
        listed => listed.map_err(failed(format!("listing {folder:?}"))),
    }
}
