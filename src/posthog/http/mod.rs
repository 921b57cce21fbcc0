//! One request and its answer: sent, waited for, tried again, received within bounds. The only place that uses the network.
//!
//! | question | file |
//! |---|---|
//! | what does a status, or a text of PostHog, mean; is the request tried again? | `decision.rs`, `envelope.rs` |
//! | how often, and after which wait? | `retry.rs`, `backoff.rs` |
//! | how does an answer come in, within which bounds? | `receive.rs`, `body.rs` |
//! | who asks, and over which connection? | `client.rs`, `connection.rs` |

pub mod backoff;
pub mod body;
pub mod client;
mod connection;
mod decision;
mod envelope;
mod form;
mod receive;
mod request;
pub mod retry;
pub mod usage;
mod wire;
