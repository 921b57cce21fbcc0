//! Files become visible: the log that is the truth, full tables, and rows that come again.

pub mod commits;
pub mod due;
mod folder;
pub mod log;
mod publish;
mod recent;
mod record;
mod replay;
pub mod states;
pub mod versions;
