//! A RECORD becomes a row, and rows wait in memory for their file.

mod budget;
pub mod cells;
mod closing;
pub mod fingerprint;
pub mod form;
mod handing_over;
mod long_form;
mod members;
pub mod oddities;
mod partition;
pub mod sink;
mod sinks;
pub mod streams;
