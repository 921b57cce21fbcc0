//! Files become visible: the log that is the truth, full tables, and rows that come again.

pub mod folder;
pub mod log;
pub mod recent;
pub mod replay;
pub mod versions;
