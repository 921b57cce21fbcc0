//! `tap-posthog`: parse, run, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use tap_posthog::log;
use tap_posthog::tap::cli::{Arguments, run};

fn main() -> ExitCode {
    log::init("tap-posthog");
    log::install_panic_hook();
    let outcome = std::panic::catch_unwind(|| run(&Arguments::parse()));
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log::critical(error.to_string());
            ExitCode::from(error.kind().exit_code())
        }
        // The hook has said where.
        Err(_) => ExitCode::from(tap_posthog::error::Kind::Internal.exit_code()),
    }
}
