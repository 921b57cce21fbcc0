//! The tap as a process: its start, the signals that it gets, and how it ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::log::{self, Level};
use crate::stop::{Cause, Stop};

/// How long the process still runs after a signal: the tap ends in half of it, and then there is a commit to make.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// How often a tap that has to end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The tap.
pub(super) struct Tap {
    /// Its name, for messages.
    pub(super) name: String,
    child: Child,
    group: Group,
}

/// The processes of the tap, until the first of them is gone: its number may then be another's.
#[derive(Clone)]
struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    fn send(&self, signal: Signal) {
        if let Some(group) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }

    fn is_gone(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Tap {
    /// Starts a tap: the process, its messages, and its words where they are shown here.
    pub(super) fn start(command: &[OsString], state: Option<&Path>) -> Result<(Tap, File, Option<ChildStderr>)> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Error::new(Kind::Usage, "no tap: give its command behind `--`; --help says what is possible"));
        };
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(state) = state {
            command.arg("--state").arg(state);
        }
        if log::is_terminal() {
            command.stderr(Stdio::piped()).env(log::SHOWN, "1");
        }
        if !log::enabled(Level::Info) && std::env::var_os("LOGLEVEL").is_none() {
            command.env("LOGLEVEL", "WARNING");
        }
        // A group of its own: Ctrl-C on a terminal reaches this process alone, which passes it on once.
        let mut child = command.process_group(0).spawn().map_err(|e| {
            Error::new(Kind::Usage, format!("starting the tap {} failed: {e}; is it installed?", program.display()))
        })?;
        let (messages, said) = (child.stdout.take(), child.stderr.take());
        let messages = messages.ok_or_else(|| Error::new(Kind::Internal, "the tap has no standard output"))?;
        let group = Group(Arc::new(Mutex::new(Pid::from_raw(child.id().cast_signed()))));
        Ok((Tap { name, child, group }, File::from(OwnedFd::from(messages)), said))
    }

    /// Passes a signal on to the tap. A tap that does not end by it is killed in time for a commit.
    pub(super) fn end_on(&self, stop: &Stop) -> Result<()> {
        let (mut wake, stop, group) = (stop.wake()?, stop.clone(), self.group.clone());
        std::thread::spawn(move || {
            let _ = wake.read(&mut [0]);
            if let Some(Cause::Signal(number)) = stop.cause() {
                group.send(Signal::from_named_raw(i32::from(number)).unwrap_or(Signal::TERM));
                std::thread::sleep(clock::real(PATIENCE / 2));
                group.send(Signal::KILL);
            }
        });
        Ok(())
    }

    /// Waits for its end; what it fails with.
    pub(super) fn ended(&mut self) -> Result<()> {
        let status = self.child.wait();
        self.group.is_gone();
        let status = status.map_err(|e| Error::new(Kind::Internal, format!("waiting for the tap failed: {e}")))?;
        outcome(&self.name, status)
    }

    /// Ends it, where it still runs: nobody reads its messages any more.
    pub(super) fn end(&mut self) {
        let is_running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        if is_running(&mut self.child) {
            self.group.send(Signal::TERM);
            let end = clock::now() + PATIENCE / 2;
            while is_running(&mut self.child) && clock::now() < end {
                std::thread::sleep(LOOK_EVERY);
            }
            if is_running(&mut self.child) {
                self.group.send(Signal::KILL);
                let _ = self.child.wait();
            }
        }
        self.group.is_gone();
    }
}

/// What the end of a tap means for the run.
fn outcome(name: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let number = |number: i32| u8::try_from(number).unwrap_or(1);
    let (code, how) = match (status.code(), status.signal()) {
        (Some(75), _) => (75, "stopped early, by a limit (exit code 75)".to_owned()),
        (Some(code), _) => (number(code), format!("failed with exit code {code}")),
        (None, signal) => {
            let signal = number(signal.unwrap_or_default());
            (Kind::Signal(signal).exit_code(), format!("was ended by signal {signal}"))
        }
    };
    let rest = "what came before its last STATE is kept, and the next run goes on from there";
    Err(Error::new(Kind::Tap(code), format!("{name} {how}; {rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_a_tap_is_that_of_the_run() {
        let code = |status| outcome("tap", ExitStatus::from_raw(status)).map_err(|e| e.kind().exit_code());
        assert_eq!([code(0), code(75 << 8), code(4 << 8), code(9)], [Ok(()), Err(75), Err(4), Err(137)]);
    }
}
