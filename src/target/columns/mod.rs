//! A SCHEMA becomes columns, which keep their types for the life of a folder.

pub mod evolve;
pub mod kind;
pub mod message;
pub mod metadata;
mod property;
pub mod schema;
pub mod values;
