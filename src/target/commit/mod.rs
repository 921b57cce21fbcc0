//! Files become visible: the log that is the truth, full tables, and rows that come again.
//!
//! | step | file |
//! |---|---|
//! | is a commit due? | `due.rs` |
//! | the commits of a run, in the order that each needs | `commits.rs` |
//! | **what a commit writes beside the files of rows**, what a start redoes, and which old commits are forgotten | `commit_log.rs`; the form of its record: `record.rs` |
//! | files get their names, held versions are made visible | `publish.rs` |
//! | **the folder of a full table is exchanged, and the old one removed** | `replace.rs`; which version is the visible one: `versions.rs` |
//! | rows that a crashed run committed come again | `replay.rs`, `recent.rs`, `fingerprints.rs` |
//! | somebody removed files, or what the target remembers of them | `gone.rs`, `unknown.rs` |
//! | states come in, and go out when their rows are safe | `states.rs` |

pub mod commit_log;
pub mod commits;
pub mod due;
mod fingerprints;
mod gone;
mod publish;
mod recent;
mod record;
mod replace;
mod replay;
pub mod states;
mod unknown;
pub mod versions;
