//! The PostHog service: the HTTP client with its limits, HogQL text, the pages that queries answer with, REST lists.
//! Knows nothing of Singer.

pub mod address;
pub mod fault;
pub mod http;
pub mod key;
pub mod pace;
pub mod query;
pub mod rest;
pub mod secret;
