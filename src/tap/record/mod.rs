//! A row or an item becomes a record.

pub mod cell;
pub mod exceptions;
pub mod fits;
pub mod flatten;
pub mod item;
pub mod members;
pub mod projection;
pub mod repair;
