//! How fast PostHog is asked: requests a minute and an hour, bytes an hour, and who waits for what.

pub mod budget;
pub mod rate;
pub mod waits;
