//! Runs the real binaries in a fresh directory and reads what they said. Every run is checked for what must hold always:
//! whole Singer lines, a SCHEMA before its records, the key nowhere, no careless query.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::fake::{DAY_MICROS, Fake, Held, Identity, micros};

/// An address that nobody listens on, and that nobody else gets while the socket lives.
pub(crate) fn nobody() -> (rustix::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// How many seconds of the programs' clock pass in one (src/clock.rs): what they wait for takes less time than they say.
pub(crate) const CLOCK: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

/// The time that so many seconds of the programs' clock take.
pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count) / CLOCK
}

pub(crate) fn tap_posthog() -> Command {
    program(env!("CARGO_BIN_EXE_tap-posthog"))
}

pub(crate) fn target_parquet() -> Command {
    program(env!("CARGO_BIN_EXE_target-parquet"))
}

fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command.env("TAP_POSTHOG_TEST_CLOCK", CLOCK.to_string());
    command
}

/// The tap, its files, and the fake that it reads.
pub(crate) struct Tap<'a> {
    fake: &'a Fake,
    pub(crate) dir: TempDir,
    pub(crate) config: Json,
    pub(crate) state: Option<String>,
    pub(crate) catalog: Option<String>,
    pub(crate) args: Vec<&'static str>,
}

impl<'a> Tap<'a> {
    /// A tap that reads all of the fake's project, as fast as it can.
    pub(crate) fn new(fake: &'a Fake) -> Tap<'a> {
        let config = json!({
            "api_key": fake.key(), "project_id": 1, "region": "self_hosted", "custom_base_url": fake.url(),
            "initial_since": "2026-01-01T00:00:00Z", "requests_per_minute": 100_000,
            "requests_per_hour": 1_000_000, "data_type": "events",
        });
        Tap { fake, dir: tempfile::tempdir().unwrap(), config, state: None, catalog: None, args: Vec::new() }
    }

    /// With another value for a setting; null removes it.
    pub(crate) fn set(mut self, name: &str, value: impl Into<Json>) -> Tap<'a> {
        match value.into() {
            Json::Null => {
                self.config.as_object_mut().unwrap().shift_remove(name);
            }
            value => self.config[name] = value,
        }
        self
    }

    pub(crate) fn state(mut self, state: &Json) -> Tap<'a> {
        self.state = Some(state.to_string());
        self
    }

    pub(crate) fn arg(mut self, arg: &'static str) -> Tap<'a> {
        self.args.push(arg);
        self
    }

    /// The command, with its files written.
    pub(crate) fn command(&self) -> Command {
        let mut command = tap_posthog();
        let mut file = |flag: &str, text: &str| {
            let path = self.dir.path().join(flag.trim_start_matches('-')).with_extension("json");
            std::fs::write(&path, text).unwrap();
            make_private(&path);
            command.arg(flag).arg(path);
        };
        match &self.config {
            Json::String(text) => file("--config", text),
            config => file("--config", &config.to_string()),
        }
        if let Some(state) = &self.state {
            file("--state", state);
        }
        if let Some(catalog) = &self.catalog {
            file("--catalog", catalog);
        }
        command.args(&self.args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self) -> Run {
        let run = Run::of(self.command().output().unwrap());
        self.check(&run);
        run
    }

    pub(crate) fn spawn(&self) -> Child {
        self.command().spawn().unwrap()
    }

    /// What holds for every run, however it ended.
    pub(crate) fn check(&self, run: &Run) {
        let key = self.config["api_key"].as_str().unwrap_or(self.fake.key());
        for (name, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            assert!(!text.contains(key), "the key stands in {name}");
        }
        assert_eq!(self.fake.world().faux_pas(), Vec::<String>::new());
        let mut known = Vec::new();
        for message in run.messages() {
            let stream = message["stream"].as_str().map(str::to_owned);
            match (message["type"].as_str(), stream) {
                (Some("SCHEMA"), Some(stream)) => known.push(stream),
                (Some("RECORD" | "ACTIVATE_VERSION"), Some(stream)) => {
                    assert!(known.contains(&stream), "a record of {stream} before its schema");
                }
                (Some("STATE"), None) => assert!(message["value"].is_object(), "{message}"),
                _ => panic!("not a Singer message: {message}"),
            }
        }
    }
}

/// Nobody else may read the file; otherwise the tap warns about the key in it.
fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
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

/// A record of the stream `events` as the fake holds it.
pub(crate) fn held(record: &Json) -> Held {
    let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("no text in {name} of {record}")).to_owned();
    let timestamp = micros(&text("timestamp"));
    // The fake, too, says 0 where there is no arrival.
    let created_at = record["created_at"].as_str().map_or(0, micros);
    let day = timestamp.div_euclid(DAY_MICROS);
    let identity = Identity { day, event: text("event"), distinct_id: text("distinct_id"), uuid: text("uuid") };
    Held { identity, timestamp, created_at }
}

/// `got` holds each of `wanted` once and nothing else; `what` is told when not.
pub(crate) fn same_once(what: &str, got: &[Held], wanted: impl IntoIterator<Item = Held>) {
    let mut count: BTreeMap<Identity, (i64, i64)> = BTreeMap::new();
    for event in got {
        count.entry(event.identity.clone()).or_default().0 += 1;
    }
    let mut versions: Vec<Held> = wanted.into_iter().collect();
    let order =
        |a: &Held, b: &Held| (&a.identity, a.created_at, a.timestamp).cmp(&(&b.identity, b.created_at, b.timestamp));
    versions.sort_by(order);
    versions.dedup();
    for event in &versions {
        count.entry(event.identity.clone()).or_default().1 += 1;
    }
    count.retain(|_, (got, wanted)| got != wanted);
    let shown: Vec<_> = count.iter().take(5).collect();
    assert!(count.is_empty(), "{what}: {} identities are (delivered, wanted) {shown:?}", count.len());
    for event in got {
        let stored = versions.binary_search_by(|version| order(version, event));
        assert!(stored.is_ok(), "{what}: {event:?} is not what is stored");
    }
}

/// The target, writing under a folder.
pub(crate) struct Target {
    pub(crate) dir: TempDir,
    pub(crate) config: Json,
}

impl Target {
    pub(crate) fn new() -> Target {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"destination_path": dir.path().join("out")});
        Target { dir, config }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Feeds `input` to the target.
    pub(crate) fn run(&self, input: impl AsRef<[u8]>) -> Run {
        let config = self.dir.path().join("target.json");
        std::fs::write(&config, self.config.to_string()).unwrap();
        let mut child = target_parquet()
            .arg("--config")
            .arg(config)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // A target that refuses its input stops reading; its exit code says so.
        let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let run = Run::of(child.wait_with_output().unwrap());
        feed.join().unwrap();
        run
    }
}
