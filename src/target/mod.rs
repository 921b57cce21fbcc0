//! The target: Singer lines in, Parquet files out. [`load`] is the loop; read it first.
//!
//! | step | files |
//! |---|---|
//! | a line becomes a row | [`mod@line`], [`envelope`], [`crate::json`], [`sink`], [`cells`] ([`number`], [`time`]), [`partition`] |
//! | a SCHEMA becomes columns | [`schema_message`], [`schema`], [`mod@column`] (the type table), [`evolve`] (across runs) |
//! | rows become files | [`streams`] (the memory budget: [`memory`]), [`encoder`] (the thread), [`encode`] ([`json_chunk`], [`extremes`]), [`mod@file`] |
//! | files become visible | [`commit`] (the log), [`replay`] (rows that come again), [`publish`] and [`version`] (full tables) |
//! | around it | [`cli`], [`config`], [`about`], [`fs`] (the disk), [`name`] (folders), [`metadata`] |

pub mod about;
pub mod allocator;
pub mod cli;
pub mod columns;
pub mod commit;
pub mod files;
pub mod input;
pub mod load;
pub mod report;
pub mod rows;
pub mod settings;
pub mod store;
pub mod time;

#[cfg(test)]
mod fault_tests;
