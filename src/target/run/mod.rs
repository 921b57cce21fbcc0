//! `target-parquet run -- tap ...`: one command for both programs. It starts the tap with the state of the last commit, loads
//! what the tap writes, and ends with one exit code.
//!
//! A signal goes to the tap alone at first: the tap says a last STATE and ends, and with its output the run ends, too. A tap
//! that fails makes the run fail with the tap's exit code; what came before its last STATE stays.

mod display;
mod tap;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use display::Display;
pub use tap::PATIENCE;
use tap::Tap;

use crate::error::{Error, Kind, Result};
use crate::singer::output::Output;
use crate::stop::Stop;
use crate::target::commit::commit_log::read_last;
use crate::target::input::lines::Lines;
use crate::target::load::{self, Upstream};
use crate::target::settings::{LoadMethod, Settings};
use crate::target::store::disk::Disk;
use crate::target::store::tree::renew;

/// The state that the tap is started with, as a file for it.
const START_STATE: &str = "_target/start_state.json";
/// Runs `command` and loads what it writes. The destination is locked.
///
/// # Errors
/// Those of the loader; else the failure of the tap, with its exit code.
pub fn run<W: Write>(
    settings: Settings,
    disk: Disk,
    command: &[OsString],
    stop: &Stop,
    output: Output<W>,
) -> Result<()> {
    refuse_state(command)?;
    let state = start_state(&settings, &disk)?;
    let file = state.as_deref().map(|state| write_state(&disk, &settings.destination, state)).transpose()?;
    let (tap, messages, said) = Tap::start(command, file.as_deref())?;
    tap.end_on(stop)?;
    let display = said.map(|said| Display::start(&tap.name, said));
    // The loader reads on until the tap has ended: a signal is the tap's business.
    let lines = Lines::new(messages, Stop::new(), settings.max_line_bytes)?;
    let mut started = Started { tap, display, state, stop: stop.clone() };
    let loaded = load::run(settings, lines, Some(&mut started), output, Arc::new(disk));
    started.finish();
    loaded
}

/// The state of the last commit. What replaces a stream has to be all of it.
fn start_state(settings: &Settings, disk: &Disk) -> Result<Option<Box<[u8]>>> {
    if settings.load_method == LoadMethod::Overwrite {
        return Ok(None);
    }
    let last = read_last(disk)?.and_then(|last| last.state);
    Ok(last.map(|state| state.get().as_bytes().into()))
}

/// The tap's state is ours to give: another one would repeat rows, or leave a gap.
fn refuse_state(command: &[OsString]) -> Result<()> {
    let is_state = |word: &&OsString| {
        let word = word.to_string_lossy();
        word == "--state" || word.starts_with("--state=")
    };
    match command.iter().find(is_state) {
        Some(_) => Err(Error::new(
            Kind::Usage,
            "run starts the tap with the state of the last commit; leave out --state (with load_method: overwrite it starts \
             from the beginning)",
        )),
        None => Ok(()),
    }
}

/// Writes the state into a file, whose path is told to the tap.
fn write_state(disk: &Disk, destination: &Path, state: &[u8]) -> Result<PathBuf> {
    renew(disk, START_STATE, state)?;
    std::path::absolute(destination.join(START_STATE))
        .map_err(|e| Error::new(Kind::Disk, format!("finding the current folder failed: {e}")))
}

/// The tap that this run started, with what shows its words.
struct Started {
    tap: Tap,
    display: Option<Display>,
    state: Option<Box<[u8]>>,
    stop: Stop,
}

impl Started {
    /// Ends the tap where it still runs, and the display.
    fn finish(&mut self) {
        self.tap.end();
        if let Some(display) = &mut self.display {
            display.end();
        }
    }
}

impl Upstream for Started {
    fn start_state(&self) -> Option<Box<[u8]>> {
        self.state.clone()
    }

    fn ended(&mut self) -> Result<()> {
        let ended = self.tap.ended();
        // The tap's last words stand before the summary.
        if let Some(display) = &mut self.display {
            display.end();
        }
        // Some taps end well by a signal. They have not done all of their work.
        self.stop.check().and(ended)
    }

    fn came(&mut self, messages: u64) {
        if let Some(display) = &self.display {
            display.came(messages);
        }
    }

    fn remarks(&self, stream: &str) -> Vec<String> {
        self.display.as_ref().map_or_else(Vec::new, |display| display.remarks(stream))
    }
}
