//! Runs the real binaries in a fresh directory and reads what they said: [`Tap`] and [`Target`] make the command, [`Run`] is
//! what came of it, [`events`] what was delivered.

use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use crate::fake::Held;

mod events;
mod tap;
mod target;
mod terminal;

pub(crate) use events::*;
pub(crate) use tap::*;
pub(crate) use target::*;
pub(crate) use terminal::*;

/// How many seconds of the programs' clock pass in one (src/clock.rs): what they wait for takes less time than they say.
pub(crate) const CLOCK: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

const CLOCK_NAME: &str = "TAP_POSTHOG_TEST_CLOCK";

pub(crate) fn tap_posthog() -> Command {
    program(env!("CARGO_BIN_EXE_tap-posthog"))
}

pub(crate) fn target_parquet() -> Command {
    program(env!("CARGO_BIN_EXE_target-parquet"))
}

fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command.env(CLOCK_NAME, CLOCK.to_string());
    command
}

/// As `command`, at the speed of the machine's clock: for what has to happen in the seconds that a signal leaves.
pub(crate) fn in_real_time(mut command: Command) -> Command {
    command.env_remove(CLOCK_NAME);
    command
}

/// As `command`, with a clock on which a STATE is due every 5 ms: for what is kept where a run breaks off.
pub(crate) fn with_states_often(mut command: Command) -> Command {
    command.env(CLOCK_NAME, "1000");
    command
}

/// Sends SIGTERM.
pub(crate) fn terminate(child: &Child) {
    send(child, Signal::TERM);
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Whether it has not ended yet.
pub(crate) fn is_running(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

/// Writes `input` and waits for the end. A program that refuses its input stops reading; its exit code says so.
pub(crate) fn feed(mut child: Child, input: impl AsRef<[u8]>) -> Run {
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_ref().to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let run = Run::of(child.wait_with_output().unwrap());
    writer.join().unwrap();
    run
}

/// Writes `input`, and gives the open input when the program has taken all of it.
pub(crate) fn feed_and_hold(child: &mut Child, input: &str) -> ChildStdin {
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    while rustix::io::ioctl_fionread(&stdin).unwrap() > 0 {
        std::thread::yield_now();
    }
    stdin
}

/// What a killed program left in the pipe. A kill may cut a character in two.
pub(crate) fn rest_of(output: &mut impl Read) -> String {
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

/// An address that nobody listens on, and that nobody else gets while the socket lives.
pub(crate) fn nobody() -> (rustix::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// What a run said and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code; 128 + n after signal n.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Run {
        use std::os::unix::process::ExitStatusExt as _;
        let signal = output.status.signal().map(|number| 128 + number);
        Run {
            code: output.status.code().or(signal).unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same run, with this exit code expected of it.
    pub(crate) fn ends(self, code: i32) -> Run {
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        self
    }

    /// Every whole line of standard output.
    pub(crate) fn messages(&self) -> Vec<Json> {
        let whole = self.stdout.rfind('\n').map_or("", |end| &self.stdout[..end]);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        whole.lines().map(parse).collect()
    }

    pub(crate) fn records(&self, stream: &str) -> Vec<Json> {
        let of_stream = |message: &Json| message["type"] == "RECORD" && message["stream"] == stream;
        self.messages().into_iter().filter(of_stream).map(|mut message| message["record"].take()).collect()
    }

    pub(crate) fn last_state(&self) -> Json {
        let last = self.messages().into_iter().rfind(|message| message["type"] == "STATE");
        last.unwrap_or_else(|| panic!("no STATE; stderr: {}", self.stderr))["value"].take()
    }

    /// The values of one field of a stream's records, as text without quotes.
    pub(crate) fn texts(&self, stream: &str, field: &str) -> Vec<String> {
        self.records(stream).iter().map(|record| record[field].to_string().replace('"', "")).collect()
    }

    /// The delivered events.
    pub(crate) fn events(&self) -> Vec<Held> {
        self.records("events").iter().map(held).collect()
    }

    /// The one line that says what is wrong, which holds all of `parts`.
    pub(crate) fn complains(&self, parts: &[&str]) {
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.last().unwrap_or_else(|| panic!("nothing on stderr, exit {}", self.code));
        for part in parts {
            let (said, wanted) = (last.to_lowercase(), part.to_lowercase());
            assert!(said.contains(&wanted), "stderr ends with: {last}\nwithout: {part}");
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}
