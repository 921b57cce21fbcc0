//! Rows become Parquet files, out of sight until a commit names them.

pub mod codec;
mod json_chunk;
pub mod layout;
pub mod row_group;
pub mod staged;
pub mod thread;
