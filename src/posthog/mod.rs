//! The PostHog service: the HTTP client with its limits, HogQL text, the pages that queries answer with, REST lists.
//! Knows nothing of Singer.
