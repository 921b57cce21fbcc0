//! The Singer wire format: messages, catalog and selection, state. Knows neither PostHog nor Parquet.

pub mod catalog;
pub mod message;
mod nested;
pub mod state;
