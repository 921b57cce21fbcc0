//! Where files, log and held rows lie: the output directory, as the few operations that the target needs of it, each of
//! which can fail.
//!
//! A trait, because two things stand behind it: the [`disk`], and the disk of the tests that fails every call in turn and
//! forgets what was not synced. Paths are relative to the output directory and made by us, see [`names`]. [`tree`] holds
//! the steps that take several calls, and [`checked`] the form of what is remembered.

pub mod checked;
pub mod disk;
#[cfg(test)]
pub mod memory;
pub mod names;
pub mod system;
pub mod tree;

use std::io::{self, Write};

/// A file that is being written.
pub trait FsFile: Write + Send + std::fmt::Debug {
    /// Makes everything written so far durable. After a failure nothing about the file is known.
    fn sync(&mut self) -> io::Result<()>;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
}

/// A directory tree with the durability rules of POSIX.
pub trait Fs: Send + Sync + std::fmt::Debug {
    /// Creates a file that must not exist.
    fn create(&self, path: &str) -> io::Result<Box<dyn FsFile>>;
    /// The content of a file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The names in a directory, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<Entry>>;
    /// Creates a directory, if it does not exist. True if it was created.
    fn make_dir(&self, path: &str) -> io::Result<bool>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Renames; the new name must not exist.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// True if both names are the same file.
    fn is_same_file(&self, one: &str, other: &str) -> io::Result<bool>;
    /// Renames over whatever file has the new name.
    fn replace(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives each of two directories the other's name.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()>;
    /// Removes a file, or a directory that is empty.
    fn remove(&self, path: &str, is_dir: bool) -> io::Result<()>;
}
