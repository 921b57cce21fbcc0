//! Standard input: a line, and what kind of message it holds.

pub mod lines;
pub mod message;
