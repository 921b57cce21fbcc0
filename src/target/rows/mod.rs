//! A RECORD becomes a row, and rows wait in memory for their file.

pub mod budget;
pub mod cells;
pub mod fingerprint;
pub mod memory;
pub mod partition;
pub mod sink;
pub mod streams;
