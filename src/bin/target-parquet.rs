//! The target's command line: parse, run, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tap_posthog::target::cli::main()
}
