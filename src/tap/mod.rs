//! The tap: a PostHog project in, Singer messages out. [`sync`] goes through the streams; read it first. The loop of each
//! kind of stream is in one file: `events/mod.rs`, `tables/mod.rs`, `lists.rs`.
//!
//! | step | room |
//! |---|---|
//! | the command line, and what it can ask for besides a run | [`cli`], [`command`] |
//! | the settings, and what all streams of a run share | [`config`], [`context`] |
//! | which streams there are, and which of their fields this project has | [`stream`], [`discover`] |
//! | how much of a stream is read: all of it, or what changed since the bookmark | [`replication`] |
//! | the stream is read | [`events`], [`tables`], [`lists`] |
//! | how many rows one answer is asked for | [`page_size`] |
//! | rows and items become records | [`record`] |
//! | what came is compared with what PostHog counts, and read again if something is missing | [`proof`] |
//! | records go out, and states behind them | [`sink`] |

pub mod cli;
mod command;
mod config;
mod context;
mod discover;
pub mod events;
mod lists;
mod page_size;
mod proof;
pub mod record;
mod replication;
mod sink;
mod stream;
mod sync;
mod tables;
