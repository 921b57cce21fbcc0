//! The demo: `cargo run --example demo [folder]`. It needs no account and no network. It builds the two programs,
//! starts a fake PostHog on this machine, runs the real `tap-posthog | target-parquet` over real HTTP and a real pipe,
//! twice, and shows what was made and that nothing was lost or repeated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a demo says what is wrong by panicking")]
#![allow(clippy::print_stdout, reason = "the demo talks to a person")]

#[allow(dead_code, unused_imports, reason = "the tests use other parts of it")]
#[path = "../fake/mod.rs"]
mod fake;
mod show;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use fake::events::realistic;
use fake::{DAY_MICROS, Event, Fake, HOUR_MICROS, Held, Options};
use serde_json::json;
use show::{bold, dim, green, thousands};

const EVENTS: usize = 30_000;
const NEW: u64 = 440;
const LATE: u64 = 60;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("\n{} {why}", bold("The demo stopped:"));
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), String> {
    println!("{}\n", bold("tap-posthog | target-parquet, end to end on this machine"));
    let programs = build()?;
    let folder = folder()?;
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(1, EVENTS, now, 7).into_iter().map(with_flag));
    for property in ["$feature_flag", "$feature_flag_response"] {
        fake.world().objects.define_property("event", property, Some("String"));
    }
    println!("{} a fake PostHog at {} with {} events\n", green("started"), fake.url(), thousands(EVENTS));

    let pipe = Pipe { programs, folder: &folder, log: "first.log" };
    pipe.configure(&fake);
    println!("{}", bold("1  A first run reads everything"));
    let took = pipe.run(None)?;
    let first = show::files(&folder.join("out/events"));
    show::table_of_files(&folder.join("out"), &first, took);
    show::some_rows(&first);
    show::state(&folder.join("state.json"));

    println!("{}", bold("2  An hour later: new events, and late ones up to five days old"));
    let before: BTreeSet<PathBuf> = first.into_iter().collect();
    fake.world().advance(HOUR_MICROS);
    fake.world().insert(later(now));
    let took = Pipe { log: "second.log", ..pipe }.run(Some("state.json"))?;
    let all = show::files(&folder.join("out/events"));
    let new: Vec<PathBuf> = all.iter().filter(|path| !before.contains(*path)).cloned().collect();
    show::table_of_files(&folder.join("out"), &new, took);
    let (arrived, old) = show::count_older_than(&new, now - HOUR_MICROS);
    println!("  {} rows are new, {} of them late\n", thousands(arrived), thousands(old));

    compare(&fake, &all)?;
    println!("{}", bold("Your own project"));
    println!("{}", show::YOUR_OWN);
    println!("Everything above lies in {}", bold(&folder.display().to_string()));
    Ok(())
}

/// The event with the properties that PostHog's libraries give to calls of feature flags.
fn with_flag(mut event: Event) -> Event {
    if event.event == "$feature_flag_called" {
        let calls = [("new-checkout", "control"), ("new-checkout", "test"), ("beta-ui", "true")];
        let (flag, value) = calls[event.distinct_id.len() % calls.len()];
        let properties = format!("{{\"$feature_flag\":\"{flag}\",\"$feature_flag_response\":\"{value}\",");
        event.properties = event.properties.replacen('{', &properties, 1);
    }
    event
}

/// What arrived after the first run: new events, and late ones whose own time is up to five days back.
fn later(now: i64) -> Vec<Event> {
    let new = (0..NEW).map(|n| Event::new(1 << 40 | n, "$pageview", now + n as i64 * 8_000_000));
    let late = (0..LATE).map(|n| {
        let happened = now - HOUR_MICROS - n as i64 * 5 * DAY_MICROS / LATE as i64;
        Event::new(1 << 41 | n, "purchase", happened).created(now + 60_000_000 + n as i64)
    });
    new.chain(late).collect()
}

/// Builds both programs, in the profile of this demo and with the crates that it was built with, and says where they lie.
fn build() -> Result<PathBuf, String> {
    let started = Instant::now();
    let release = !cfg!(debug_assertions);
    println!("{}", dim("building tap-posthog and target-parquet (the first time takes a minute or two)"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--bins", "--example", "demo"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if release {
        cargo.arg("--release");
    }
    if !cargo.status().map_err(|e| format!("cargo cannot be started: {e}"))?.success() {
        return Err("the build failed; its messages stand above".to_owned());
    }
    println!("{} in {:.0} s", green("built"), started.elapsed().as_secs_f64());
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    // The example lies in <target>/<profile>/examples, the programs one folder up.
    Ok(here.parent().and_then(Path::parent).ok_or("this program lies in no target folder")?.to_owned())
}

/// The folder of the demo's files: the argument, or a fresh one.
fn folder() -> Result<PathBuf, String> {
    let fresh = std::env::temp_dir().join(format!("tap-posthog-demo-{}", std::process::id()));
    let folder = std::env::args_os().nth(1).map_or(fresh, PathBuf::from);
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty; name a fresh folder", folder.display()));
    }
    fs::create_dir_all(&folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    Ok(folder)
}

/// The two programs and their files.
struct Pipe<'a> {
    programs: PathBuf,
    folder: &'a Path,
    /// Where both write their standard error.
    log: &'a str,
}

impl Pipe<'_> {
    fn configure(&self, fake: &Fake) {
        let tap = json!({"api_key": fake.key(), "project_id": 1, "region": "self_hosted", "custom_base_url": fake.url(),
            "initial_since": "2026-08-01T00:00:00Z", "data_type": "events"});
        let target = json!({"destination_path": self.folder.join("out")});
        for (name, config) in [("tap.json", tap), ("target.json", target)] {
            let path = self.folder.join(name);
            fs::write(&path, serde_json::to_string_pretty(&config).unwrap()).unwrap();
            show::make_private(&path);
        }
    }

    /// Runs the pipe; the last line of the target becomes `state.json`.
    fn run(&self, state: Option<&str>) -> Result<Duration, String> {
        let with_state = state.map_or(String::new(), |state| format!(" --state {state}"));
        println!(
            "  {}",
            dim(&format!("$ tap-posthog --config tap.json{with_state} | target-parquet --config target.json"))
        );
        let started = Instant::now();
        let log = fs::File::create(self.folder.join(self.log)).unwrap();
        let program = |name: &str, arguments: &str| {
            let mut command = Command::new(self.programs.join(name));
            command.args(arguments.split_ascii_whitespace()).current_dir(self.folder);
            command.stdout(Stdio::piped()).stderr(log.try_clone().unwrap());
            command
        };
        let mut tap = program("tap-posthog", &format!("--config tap.json{with_state}"))
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("tap-posthog cannot be started: {e}"))?;
        let target = program("target-parquet", "--config target.json")
            .stdin(tap.stdout.take().unwrap())
            .output()
            .map_err(|e| format!("target-parquet cannot be started: {e}"))?;
        let tap = tap.wait().map_err(|e| e.to_string())?;
        let said = fs::read_to_string(self.folder.join(self.log)).unwrap_or_default();
        if !tap.success() || !target.status.success() {
            return Err(format!("the tap ended with {tap}, the target with {}:\n{said}", target.status));
        }
        let states = String::from_utf8_lossy(&target.stdout).into_owned();
        let last = states.lines().last().ok_or("the target printed no state")?;
        fs::write(self.folder.join("state.json"), last).unwrap();
        Ok(started.elapsed())
    }
}

/// What the fake holds against what the files hold.
fn compare(fake: &Fake, files: &[PathBuf]) -> Result<(), String> {
    let stored: BTreeSet<String> = fake.world().held().iter().map(name_of).collect();
    let written = show::names(files);
    let distinct: BTreeSet<&String> = written.iter().collect();
    let lost = stored.iter().filter(|name| !distinct.contains(name)).count();
    let repeated = written.len() - distinct.len();
    println!("  {} in PostHog, {} in the files", thousands(stored.len()), thousands(written.len()));
    let verdict = format!("  {lost} lost, {repeated} repeated");
    println!("{}\n", if lost + repeated == 0 { green(&verdict) } else { bold(&verdict) });
    if lost + repeated == 0 && written.len() == stored.len() {
        Ok(())
    } else {
        Err("the files do not hold what PostHog holds".to_owned())
    }
}

fn name_of(held: &Held) -> String {
    let identity = &held.identity;
    format!("{} {} {} {}", held.timestamp, identity.event, identity.distinct_id, identity.uuid)
}
