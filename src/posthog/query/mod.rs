//! What PostHog is asked in HogQL, and the pages that it answers with.

pub mod ask;
pub mod hogql;
pub mod interval;
pub mod keyset;
pub mod page;
pub mod text;
pub mod version;
