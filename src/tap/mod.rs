//! The tap.

pub mod config;
pub mod settings;
