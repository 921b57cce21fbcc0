//! A RECORD becomes a row, and rows wait in memory for their file.

mod budget;
pub mod cells;
pub mod fingerprint;
mod members;
pub mod oddities;
mod partition;
pub mod sink;
mod sinks;
pub mod streams;
