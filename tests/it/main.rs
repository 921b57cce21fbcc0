//! Black-box tests: the real programs, in fresh directories.

mod target_commit;
mod target_hostile;
mod target_types;
mod util;
