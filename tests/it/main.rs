//! Black-box tests: the real binaries in a fresh directory, against the fake PostHog and on Singer streams.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests say what is wrong by panicking"
)]

#[allow(dead_code, unused_imports, reason = "the demo uses other parts of it")]
#[path = "../fake/mod.rs"]
mod fake;

mod commands;
mod documented;
mod floors;
mod harness;
mod pipe_files;
mod portable;
mod readme;
mod run;
mod settings;
mod tap_busy;
mod tap_catalog;
mod tap_delivery;
mod tap_errors;
mod tap_exact;
mod tap_faults;
mod tap_form_1;
mod tap_lists;
mod tap_model;
mod tap_overlap;
mod tap_persons;
mod tap_plan;
mod tap_probes;
mod tap_progress;
mod tap_proof;
mod tap_resume;
mod tap_state;
mod tap_tables;
mod tap_timestamp;
mod tap_words;
mod target_commit;
mod target_folders;
mod target_hostile;
mod target_remembered;
mod target_replay;
mod target_rescue;
mod target_types;
mod target_valid;
