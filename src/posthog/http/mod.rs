//! One request and its answer: sent, waited for, tried again, received within bounds. The only place that uses the network.

pub mod backoff;
pub mod body;
pub mod client;
mod connection;
mod decision;
mod form;
mod receive;
mod request;
pub mod retry;
pub mod usage;
mod wire;
