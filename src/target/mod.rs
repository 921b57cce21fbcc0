//! The target: Singer lines in, Parquet files out.
//!
//! Read [`load`] first: it is the loop. A line comes from [`input::lines`], and [`load`] does one of four things with it:
//!
//! | message | what happens | where |
//! |---|---|---|
//! | SCHEMA | becomes columns, whose types stay for the life of a folder | [`columns::message`], [`rows::streams`] |
//! | RECORD | becomes a row of the sink for its stream, version and partition | [`rows::streams`], [`rows::sink`], [`rows::cells`] |
//! | ACTIVATE_VERSION | is remembered for the next commit | [`commit::versions`] |
//! | STATE | commits, if that is [due](commit::due), and is [printed](commit::states) | [`commit::commits`], [`commit::commit_log`] |
//!
//! A full sink becomes a row group, and row groups become files out of sight ([`files::thread`], [`files::staged`]). A
//! commit makes these files durable, writes a record, and gives them their names (`commit/publish.rs`).
//!
//! # The rooms
//! Each imports only those below it.
//!
//! | room | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`run`] | a tap is started, shown and ended with the loop |
//! | [`load`], [`report`] | the loop, and the messages of a run |
//! | [`commit`] | files become visible with the state behind them; full tables are exchanged; repeats are left out |
//! | [`views`] | SQL views of what is committed, for DuckDB |
//! | [`rows`] | a record becomes a row, and rows wait within the memory budget |
//! | [`input`], [`settings`] | lines and the messages in them; the settings |
//! | [`files`], [`memory`] | rows become row groups, and these files; how memory is shared out |
//! | [`columns`] | a schema becomes columns, and their values in memory |
//! | [`store`] | the output directory, where all of this lies |

mod allocator;
pub mod cli;
mod columns;
mod commit;
mod files;
mod input;
mod load;
mod memory;
mod report;
mod rows;
mod run;
mod settings;
mod store;
mod views;

#[cfg(test)]
mod fault_tests;
