//! The PostHog service: the HTTP client with its limits, HogQL text, the pages that queries answer with, REST lists.
//! Knows nothing of Singer.

pub mod address;
pub mod attempts;
pub mod body;
pub mod client;
pub mod fault;
pub mod limits;
pub mod secret;
pub mod usage;
