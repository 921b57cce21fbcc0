//! The tap.
