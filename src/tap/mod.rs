//! The tap: what it is told ([`config`]), what exists ([`streams`], [`discover`]), and how a project is read out
//! ([`sync`]).

pub mod bookmark;
pub mod flatten;
pub mod ledger;
pub mod plan;
pub mod project;
pub mod seen;
pub mod size;
