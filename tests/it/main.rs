//! Black-box tests: the real programs, in fresh directories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod target_commit;
mod target_hostile;
mod target_types;
mod util;
