//! Standard input: a line, and the kind of message in it.

pub mod lines;
pub mod message;
