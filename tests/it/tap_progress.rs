//! What a person is told while a run is under way: progress, waits, on a terminal and elsewhere.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::OFlags;
use serde_json::json;

use crate::fake::events::realistic;
use crate::fake::{Fake, Fault, Options};
use crate::harness::{Run, Tap, same_once, terminal};

const PAGE: &str = "cityHash64(distinct_id), timestamp, uuid";

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(9, 300, now, 3));
    fake
}

#[test]
fn short_waits_that_add_up_are_told() {
    let fake = fake();
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    // The hour's burst is used up: each of the sixty pages and more waits 1.8 s.
    let state = json!({"requests": {"at": now, "minute": 0, "hour": 400}});
    let tap = Tap::new(&fake).set("page_size", 5).set("requests_per_hour", 2400);
    let run = tap.state(&state).arg("--max-runtime=60").run().ends(75);
    let told = run.stderr.lines().filter(|line| line.contains("s in all: keeping below the limit of requests an hour"));
    // One every ten seconds, not one for each wait.
    assert!((1..=6).contains(&told.count()), "{}", run.stderr);
}

#[test]
fn a_line_comes_every_ten_seconds_while_it_waits_too() {
    let fake = fake();
    fake.world().fault(Fault::new("throttle_429").next(1).skip(3).body(PAGE).retry_after("25"));
    let run = Tap::new(&fake).set("page_size", 20).run().ends(0);
    same_once("after the wait", &run.events(), fake.world().held());
    assert!(run.stderr.contains("waiting 25 s: PostHog's request limit"), "{}", run.stderr);
    let waiting = "s more: PostHog's request limit";
    has_line(&run, &["events: ", "of about 300 rows", " %), ", " rows/s", " s left", "waited ", waiting]);
}

/// Whoever starts the tap may read standard output alone. The pipe for the log is full from the beginning here.
#[test]
fn a_log_that_nobody_reads_does_not_stop_a_run() {
    let fake = fake();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let blocking = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, blocking | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, blocking).unwrap();
    let tap = Tap::new(&fake);
    let mut command = tap.command();
    command.stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let run = Run { code: child.wait().unwrap().code().unwrap(), stdout, stderr: String::new() };
    same_once("all", &run.ends(0).events(), fake.world().held());
    drop(reader);
}

/// One line of the log has all of these parts.
fn has_line(run: &Run, parts: &[&str]) {
    let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
    assert!(run.stderr.lines().any(is_it), "no line with {parts:?} in {}", run.stderr);
}

/// A run that waits in the middle of a stream's pages.
fn run_that_waits(fake: &Fake, stream: &str, wait: Fault) -> Run {
    fake.world().fault(wait.next(1).skip(1).retry_after("25"));
    let run = Tap::new(fake).set("data_type", stream).set("page_size", 100).run().ends(0);
    let records = run.records(stream).len();
    let counted: Vec<&str> = run.stderr.lines().filter(|line| line.contains("record_count")).collect();
    assert!(counted.len() == 1 && counted[0].contains(&format!("\"value\":{records},")), "{counted:?}");
    run
}

#[test]
fn a_list_shows_its_share_and_what_it_waits_for() {
    let fake = Fake::start(Options::default());
    let run = run_that_waits(&fake, "cohorts", Fault::new("throttle_429").path("/cohorts/"));
    let waiting = "s more: PostHog's request limit";
    has_line(&run, &[": 100 of about 137 rows (73 %), ", " rows/s", " s left", "waited ", waiting]);
}

#[test]
fn a_table_shows_its_rows_and_what_it_waits_for() {
    let fake = Fake::start(Options::default());
    for number in 0..150 {
        let id = format!("{number:08}-0000-4000-8000-000000000000");
        fake.world().insert_row("raw_person_distinct_ids", &json!({"distinct_id": id, "person_id": id, "version": 1}));
    }
    let page = Fault::new("throttle_429").body("ORDER BY distinct_id");
    let run = run_that_waits(&fake, "person_distinct_ids", page);
    has_line(&run, &[": 99 rows, ", " rows/s, waited ", "s more: PostHog's request limit"]);
    assert!(!run.stderr.contains("of about"), "{}", run.stderr);
}

#[test]
fn a_terminal_shows_a_bar_with_rows_share_rate_time_left_and_waits() {
    let fake = fake();
    fake.world().fault(Fault::new("throttle_429").next(1).skip(3).body(PAGE).retry_after("30"));
    fake.world().fault(Fault::new("slow").body(PAGE).pause(Duration::from_millis(20)));
    let (mut master, slave) = terminal();
    let tap = Tap::new(&fake).set("page_size", 20);
    let mut command = tap.command();
    let mut child = command.env("TERM", "xterm").stderr(slave).stdout(Stdio::null()).spawn().unwrap();
    // The slave's last handle but the child's.
    drop(command);
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // A terminal that nobody writes to any more gives an error.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
    }
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    for part in [
        "events: ",
        " of about 300 rows (",
        " %), ",
        " rows/s",
        " s left",
        "█",
        "waiting ",
        " s more: PostHog's request limit",
    ] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    // A line of the log stands on a line of its own.
    let summary = shown.split(['\r', '\n']).find(|line| line.contains("proved")).unwrap();
    assert!(!summary.contains("of about"), "{summary:?}");
}
