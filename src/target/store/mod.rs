//! Where a destination lies: the disk, and the names of folders and files on it.

pub mod disk;
pub mod names;

#[cfg(test)]
pub mod memory;
