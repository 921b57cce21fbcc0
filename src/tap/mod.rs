//! The tap: what it is told, what exists, and how a project is read out.

pub mod cli;
pub mod command;
pub mod config;
pub mod context;
pub mod discover;
pub mod events;
pub mod lists;
pub mod page_size;
pub mod proof;
pub mod record;
pub mod replication;
pub mod sink;
pub mod stream;
pub mod sync;
pub mod tables;
