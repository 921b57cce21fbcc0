//! The command line of `target-parquet`.

use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::commit::commit_log::read_last;
use super::input::lines::Lines;
use super::settings::{Settings, TABLE};
use super::store::disk::Disk;
use super::store::tree::make_dirs;
use super::{allocator, load, run};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::program::{self, Words, say};
use crate::settings::about::{Format, about};
use crate::singer::output::{Output, is_nowhere};
use crate::stop::Stop;

/// Writes any Singer stream as Parquet files. Reads messages from standard input, or starts the tap itself (`run`); prints
/// each state once the rows before it are on disk.
#[derive(Debug, Parser)]
#[command(name = "target-parquet", version, after_help = MORE_HELP)]
struct Cli {
    /// Settings file (JSON or YAML); given twice, later files override earlier ones; ENV reads `TARGET_PARQUET_*` too
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Read messages from this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Describe the target and its settings.
    #[arg(long)]
    about: bool,
    /// The form of --about.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    words: Words,
    #[command(subcommand)]
    command: Option<Command>,
}

const MORE_HELP: &str = "\
Examples:
  target-parquet run -- tap-posthog --config posthog.json
          one command: starts the tap where the last run ended, loads what is new
  tap-posthog --config posthog.json --state state.json | target-parquet > states.jsonl
          the pipe: keep the last line as the next state
  target-parquet state
          the state of the last commit

Exit codes:
  0 done   2 command line   3 settings   5 disk, or another target writes there   6 input is not Singer
  7 a record does not fit its schema   8 nobody reads standard output   128+n ended by signal n
  of run, also that of a tap that failed, and 75: the tap stopped early by a limit, the next run goes on";

/// After a signal the process ends in this time, whatever it waits for: a commit, a disk, a reader of its states.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the state of the last commit, the exact one to start the tap from.
    State {
        /// Settings file, as for a run; before `state` it is as good.
        #[arg(long, short, value_name = "FILE")]
        config: Vec<PathBuf>,
    },
    /// Start a tap where the last run ended, and load what it writes: `run -- tap-posthog --config posthog.json`.
    Run {
        /// Settings file, as for a run without a tap.
        #[arg(long, short, value_name = "FILE")]
        config: Vec<PathBuf>,
        #[command(flatten)]
        words: Words,
        /// The tap and its arguments, without --state.
        #[arg(last = true, required = true, value_name = "TAP")]
        tap: Vec<OsString>,
    },
}

/// The program `target-parquet`.
pub fn main() -> ExitCode {
    allocator::keep_freed_memory();
    program::main("target-parquet", run)
}

fn run(cli: Cli) -> Result<()> {
    cli.words.set();
    match cli.command {
        Some(_) if cli.about || cli.input.is_some() => {
            Err(Error::new(Kind::Usage, "a command takes --config alone; --help says what is possible"))
        }
        Some(Command::State { config }) => state(&Settings::load(&[cli.config, config].concat())?),
        Some(Command::Run { config, words, tap }) => {
            words.set();
            run_tap(Settings::load(&[cli.config, config].concat())?, &tap)
        }
        None if cli.about => say(&about(TABLE, cli.format, "")),
        None => load(Settings::load(&cli.config)?, cli.input),
    }
}

/// Starts a tap and loads what it writes.
fn run_tap(settings: Settings, tap: &[OsString]) -> Result<()> {
    let stop = Stop::new();
    stop.watch_signals(run::PATIENCE)?;
    let disk = locked(&settings)?;
    run::run(settings, disk, tap, &stop, Output::for_machines())
}

/// Loads what comes on standard input, or from a file.
fn load(settings: Settings, path: Option<PathBuf>) -> Result<()> {
    if path.is_none() && std::io::stdin().is_terminal() {
        log::info(
            "waits for Singer messages on standard input, which is this terminal: pipe a tap into it, or use `target-parquet \
             run -- tap-posthog --config posthog.json` (--help says more); Ctrl-C ends it",
        );
    }
    let input = input(path)?;
    let stop = Stop::new();
    stop.watch_signals(PATIENCE)?;
    tell_of_lost_states();
    let disk = locked(&settings)?;
    let lines = Lines::new(input, stop, settings.max_line_bytes)?;
    load::run(settings, lines, None, Output::for_machines(), Arc::new(disk))
}

fn input(path: Option<PathBuf>) -> Result<File> {
    match path {
        Some(path) => {
            let shown = path.display();
            File::open(&path).map_err(|e| Error::new(Kind::Usage, format!("opening the input {shown} failed: {e}")))
        }
        None => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            stdin.map(File::from).map_err(|e| Error::new(Kind::Disk, format!("opening standard input failed: {e}")))
        }
    }
}

/// States that go to /dev/null, or to a standard output that is closed, are lost.
fn tell_of_lost_states() {
    if is_nowhere() {
        log::info(
            "states are not printed, because standard output is closed or /dev/null; `target-parquet state` prints the last one",
        );
    }
}

/// The destination, locked for the life of the process.
fn locked(settings: &Settings) -> Result<Disk> {
    let shown = settings.destination.display();
    let failed = |e: std::io::Error| Error::new(Kind::Disk, format!("opening the destination {shown} failed: {e}"));
    let mut disk = Disk::open(&settings.destination).map_err(failed)?;
    make_dirs(&disk, "_target")?;
    if !disk.lock("_target/lock").map_err(failed)? {
        return Err(Error::new(Kind::Disk, format!("another target writes to {shown}; one at a time")));
    }
    Ok(disk)
}

/// Prints the state of the last commit. Where there is none yet a script goes on without a state, and a person sees why.
fn state(settings: &Settings) -> Result<()> {
    let shown = settings.destination.display();
    let failed = |e: std::io::Error| Error::new(Kind::Disk, format!("opening the destination {shown} failed: {e}"));
    if !settings.destination.try_exists().map_err(failed)? {
        log::warn(format!(
            "there is no folder {shown}, so there is no state yet; if files were written before, check destination_path and the \
             folder that this program is started in"
        ));
        return Ok(());
    }
    let disk = Disk::open(&settings.destination).map_err(failed)?;
    match read_last(&disk)?.and_then(|last| last.state) {
        Some(state) => say(&format!("{}\n", state.get())),
        None => {
            log::warn(format!("no state was committed in {shown} yet"));
            Ok(())
        }
    }
}
