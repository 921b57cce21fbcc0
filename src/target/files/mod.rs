//! Rows become Parquet files, out of sight until a commit names them.

pub mod codec;
pub mod json_chunk;
pub mod layout;
pub mod row_group;
pub mod staged;
pub mod thread;
