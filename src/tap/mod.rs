//! The tap: what it is told, what exists, and how a project is read out.

pub mod bookmark;
pub mod cli;
pub mod config;
pub mod discover;
pub mod events;
pub mod fetch;
pub mod flatten;
pub mod ledger;
pub mod lists;
pub mod memory;
pub mod pages;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod project;
pub mod properties;
pub mod record;
pub mod report;
pub mod run;
pub mod seen;
pub mod sessions;
pub mod settings;
pub mod size;
pub mod streams;
pub mod sync;
pub mod tables;
