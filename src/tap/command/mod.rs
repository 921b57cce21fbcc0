//! The jobs of the tap besides a run: one file for each flag.

pub mod about;
pub mod doctor;
pub mod init;
pub mod plan;
pub mod test;
