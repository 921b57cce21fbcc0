//! The target: Singer lines in, Parquet files out. [`load`] is the loop; read it first.
//!
//! | step | room |
//! |---|---|
//! | a line becomes a message | [`input`] |
//! | a SCHEMA becomes columns, whose types stay for the life of a folder | [`columns`] |
//! | a RECORD becomes a row, and rows wait within the memory budget | [`rows`] |
//! | rows become row groups, and these files out of sight | [`files`] |
//! | files become visible with the state behind them; full tables are exchanged; repeats are left out | [`commit`] |
//! | where all of this lies | [`store`] |
//! | around it | [`cli`], [`settings`], [`report`] |

pub mod about;
pub mod allocator;
pub mod cli;
pub mod columns;
pub mod commit;
pub mod files;
pub mod input;
pub mod load;
pub mod memory;
pub mod report;
pub mod rows;
pub mod settings;
pub mod store;

#[cfg(test)]
mod fault_tests;
