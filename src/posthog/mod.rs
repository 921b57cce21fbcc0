//! The PostHog service: the HTTP client with its limits, HogQL text, the pages that queries answer with, REST lists.
//! Knows nothing of Singer.

pub mod hogql;
pub mod page;
pub mod scan;
pub mod time;
