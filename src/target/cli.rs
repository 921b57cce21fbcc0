//! The command line of `target-parquet`.

use std::fs::File;
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
use super::{allocator, load};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::program::{self, say};
use crate::settings::about::{Format, about};
use crate::singer::output::Output;
use crate::stop::Stop;

/// Writes any Singer stream as Parquet files. Reads messages from standard input; prints each state once the rows
/// before it are on disk.
#[derive(Debug, Parser)]
#[command(name = "target-parquet", version)]
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
    #[command(subcommand)]
    command: Option<Command>,
}

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
}

/// The program `target-parquet`.
pub fn main() -> ExitCode {
    allocator::keep_freed_memory();
    program::main("target-parquet", run)
}

fn run(cli: Cli) -> Result<()> {
    if let Some(Command::State { config }) = cli.command {
        if cli.about || cli.input.is_some() {
            return Err(Error::new(Kind::Usage, "state takes --config alone; --help says what is possible"));
        }
        return state(&Settings::load(&[cli.config, config].concat())?);
    }
    if cli.about {
        return say(&about(TABLE, cli.format, ""));
    }
    let settings = Settings::load(&cli.config)?;
    let input = input(cli.input)?;
    let stop = Stop::new();
    stop.watch_signals(PATIENCE)?;
    warn_of_lost_states();
    let disk = locked(&settings)?;
    let lines = Lines::new(input, stop, settings.max_line_bytes)?;
    load::run(settings, lines, Output::new(std::io::stdout()), Arc::new(disk))
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

/// A standard output that is closed is /dev/null from the start of the process on: no write to it ever fails.
fn warn_of_lost_states() {
    let output = rustix::fs::stat("/proc/self/fd/1");
    let null = rustix::fs::stat("/dev/null");
    if let (Ok(output), Ok(null)) = (output, null)
        && (output.st_rdev, output.st_ino) == (null.st_rdev, null.st_ino)
    {
        log::warn(
            "standard output is closed or /dev/null: states go nowhere; `target-parquet state` prints the last one",
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
