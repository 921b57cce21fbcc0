//! A program from start to exit code: the log, the command line, the run, and the line that says how it failed.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser};

use crate::error::{Error, Kind, Result};
use crate::log::{self, Level};
use crate::singer::output::Output;

/// How much a program says.
#[derive(Clone, Copy, Debug, Args)]
pub struct Words {
    /// Say only what went wrong
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Say every request and every step
    #[arg(short, long)]
    verbose: bool,
}

impl Words {
    /// From now on so much is said; without a flag, as much as the environment asks for.
    pub fn set(self) {
        if self.quiet {
            log::set_level(Level::Warning);
        } else if self.verbose {
            log::set_level(Level::Debug);
        }
    }
}

/// Reads the command line and runs the program called `name` with it.
pub fn main<A: Parser>(name: &'static str, run: impl FnOnce(A) -> Result<()>) -> ExitCode {
    log::init(name);
    log::install_panic_hook();
    let code = match A::try_parse() {
        // A panic is a fault of ours; its line was printed by the hook.
        Ok(arguments) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ended(run(arguments))))
            .unwrap_or_else(|_| ExitCode::from(Kind::Internal.exit_code())),
        Err(help) if !help.use_stderr() => ended(say(&help.to_string())),
        Err(error) => ended(Err(usage(&error.to_string()))),
    };
    log::finish();
    code
}

/// Prints text that is no Singer line: help, version, about, state.
///
/// # Errors
/// When standard output does not take it.
pub fn say(text: &str) -> Result<()> {
    let mut out = Output::new(std::io::stdout());
    out.line(|line| {
        line.write_all(text.trim_end_matches('\n').as_bytes())
            .map_err(|e| Error::new(Kind::Internal, format!("writing failed: {e}")))
    })?;
    out.flush()
}

/// What is wrong with a command line, in one line.
fn usage(text: &str) -> Error {
    // The arguments that are missing stand on lines of their own; the usage follows behind an empty one.
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let what = lines.join(" ");
    Error::new(Kind::Usage, format!("{}; --help says what is possible", what.trim_start_matches("error: ")))
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.kind() {
                // Somebody wanted it so.
                Kind::Signal(_) => log::info(error.to_string()),
                Kind::Stopped | Kind::Tap(75) => log::warn(error.to_string()),
                _ => log::critical(error.to_string()),
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}
