//! Which folder a stream has: the one that it had before, or one that no other stream has.

use std::collections::{HashMap, HashSet};

use super::evolve::FolderColumns;
use crate::error::{Error, Kind, Result};
use crate::target::store::Fs;
use crate::target::store::names::{COLUMNS, HELD, earlier_folder, stream_folder, twin_folder};
use crate::target::store::tree::names;

/// The folders of a destination.
#[derive(Debug, Default)]
pub struct Folders {
    /// By the name that they have where case does not count.
    taken: HashMap<String, Vec<String>>,
    /// Those that streams of this run have.
    given: HashSet<String>,
}

impl Folders {
    /// Those that are there.
    pub fn read(fs: &dyn Fs) -> Result<Self> {
        let mut folders = Folders::default();
        for name in names(fs, COLUMNS)? {
            if let Some(folder) = name.strip_suffix(".json") {
                folders.take(folder);
            }
        }
        // Without the memory of their columns they are still not for others.
        for name in names(fs, "")?.iter().chain(&names(fs, HELD)?) {
            folders.take(name);
        }
        Ok(folders)
    }

    fn take(&mut self, folder: &str) {
        let same = self.taken.entry(folder.to_ascii_lowercase()).or_default();
        if !same.iter().any(|taken| taken == folder) {
            same.push(folder.to_owned());
        }
    }

    /// The folder of a stream, with the columns that it has. Each stream of a run asks once.
    pub fn of(&mut self, fs: &dyn Fs, stream: &str) -> Result<(String, FolderColumns)> {
        let (own, twin, earlier) = (stream_folder(stream), twin_folder(stream), earlier_folder(stream));
        for folder in [&own, &twin, &earlier] {
            if self.is_there(folder)
                && let Some(columns) = self.give(fs, stream, folder)?
            {
                return Ok((folder.clone(), columns));
            }
        }
        for folder in [own, twin] {
            if !self.taken.contains_key(&folder.to_ascii_lowercase())
                && let Some(columns) = self.give(fs, stream, &folder)?
            {
                return Ok((folder, columns));
            }
        }
        Err(Error::new(
            Kind::Disk,
            format!("stream {stream:?}: the folders that it could have belong to other streams"),
        ))
    }

    fn is_there(&self, folder: &String) -> bool {
        let same = self.taken.get(&folder.to_ascii_lowercase());
        same.is_some_and(|same| same.contains(folder)) && !self.given.contains(folder)
    }

    /// Gives a stream a folder, if it is not another one's.
    fn give(&mut self, fs: &dyn Fs, stream: &str, folder: &str) -> Result<Option<FolderColumns>> {
        let columns = FolderColumns::read(fs, stream, folder)?;
        if columns.is_some() {
            self.take(folder);
            self.given.insert(folder.to_owned());
        }
        Ok(columns)
    }
}
