//! Settings of both programs.

pub mod dotenv;
