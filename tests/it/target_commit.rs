//! State and files: what is printed when, what a second run finds, versions, signals, closed pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::destination::{Destination, record, schema, state};
use crate::util::seconds;

fn ids(from: i64, to: i64) -> String {
    (from..to).map(|id| record("s", json!({"id": id}))).collect()
}

fn head() -> String {
    schema("s", json!({"id": {"type": "integer"}}), &["id"], &["id"])
}

fn sorted(d: &Destination) -> Vec<i64> {
    let mut ids: Vec<i64> = d.column("s", "id").iter().map(|v| v.as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn the_state_is_the_bytes_that_came_and_rows_behind_it_are_kept() {
    let d = Destination::new();
    let state = "{\"type\":\"STATE\",\"value\":{\"a\" : 1.0, \"b\":12345678901234567890123}}\n";
    let ran = d.run(head() + &ids(0, 3) + state + &ids(3, 5));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "{\"a\" : 1.0, \"b\":12345678901234567890123}\n"),
        "{}",
        ran.err
    );
    assert_eq!(sorted(&d), [0, 1, 2, 3, 4]);
    let shown = d.command().arg("state").output();
    drop(shown);
    let config = d.dir.path().join("config.json");
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_target-parquet"))
        .args(["state", "--config"])
        .arg(config)
        .output();
    assert_eq!(String::from_utf8(shown.unwrap().stdout).unwrap(), ran.out);
}

#[test]
fn nothing_is_printed_without_a_state_and_an_empty_input_is_fine() {
    let d = Destination::new();
    let ran = d.run("");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    let ran = d.run(head() + &ids(0, 3));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    assert_eq!(sorted(&d), [0, 1, 2]);
    // A tap with nothing new: its state comes out, and no file.
    let ran = d.run(state(json!({"s": 1})) + &head() + &state(json!({"s": 1})));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "{\"s\":1}\n"));
    assert_eq!(d.files("s").len(), 1);
}

#[test]
fn a_replay_from_an_older_state_leaves_out_what_is_there() {
    let d = Destination::with(json!({"batch_size_rows": 10}));
    let mut first = state(json!({})) + &head();
    for n in 0..5 {
        first += &ids(n * 10, n * 10 + 10);
        first += &state(json!({"n": n}));
    }
    assert_eq!(d.run(&first).out.lines().count(), 5);
    // The runner knows only the second state; the tap sends the rest again, cut otherwise, and three new rows.
    let again = state(json!({"n": 1}))
        + &head()
        + &ids(20, 37)
        + &state(json!({"n": 1.5}))
        + &ids(37, 53)
        + &state(json!({"n": 9}));
    let ran = d.run(&again);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(sorted(&d), (0..53).collect::<Vec<_>>(), "{}", ran.err);
    // From the last state: the same ids are sent on purpose, and kept.
    let ran = d.run(state(json!({"n": 9})) + &head() + &ids(50, 53) + &state(json!({"n": 10})));
    assert_eq!(sorted(&d).len(), 56, "{}", ran.err);
    // A start from nothing is known, too: it is what the first run began with.
    d.run(state(json!({})) + &head() + &ids(0, 60) + &state(json!({"n": 11})));
    assert_eq!(sorted(&d).len(), 63);
    // A state that nobody knows removes nothing, and says so.
    let ran = d.run(state(json!({"x": 0})) + &head() + &ids(0, 2) + &state(json!({"n": 12})));
    assert_eq!(sorted(&d).len(), 65);
    assert!(ran.err.contains("does not begin with a STATE that this destination knows"), "{}", ran.err);
}

#[test]
fn a_new_version_of_a_row_is_kept_and_keyless_streams_are_not_touched() {
    let d = Destination::new();
    let head = schema("s", json!({"id": {"type": "integer"}, "v": {"type": "integer"}}), &["id"], &[])
        + &schema("k", json!({"id": {"type": "integer"}}), &[], &[]);
    let rows = |v: i64| record("s", json!({"id": 1, "v": v})) + &record("k", json!({"id": 1}));
    d.run(state(json!({})) + &head + &rows(1) + &state(json!(1)));
    d.run(state(json!({})) + &head + &rows(1) + &rows(2) + &state(json!(2)));
    assert_eq!(d.column("s", "v"), [json!(1), json!(2)]);
    assert_eq!(d.rows("k").len(), 3);
}

#[test]
fn dedup_always_and_off() {
    let run = |dedup: &str| {
        let d = Destination::with(json!({"dedup": dedup}));
        d.run(head() + &ids(0, 3) + &ids(0, 3) + &state(json!(1)));
        d.run(state(json!(1)) + &head() + &ids(2, 5) + &state(json!(2)));
        sorted(&d)
    };
    assert_eq!(run("always"), [0, 1, 2, 3, 4]);
    assert_eq!(run("off"), [0, 0, 1, 1, 2, 2, 2, 3, 4]);
}

fn versioned(from: i64, to: i64, version: i64) -> String {
    (from..to)
        .map(|id| format!("{}\n", json!({"type": "RECORD", "stream": "s", "record": {"id": id}, "version": version})))
        .collect()
}

fn activate(version: i64) -> String {
    format!("{}\n", json!({"type": "ACTIVATE_VERSION", "stream": "s", "version": version}))
}

#[test]
fn a_full_table_replaces_the_last_one_in_one_step() {
    let d = Destination::new();
    assert_eq!(d.run(head() + &versioned(0, 5, 1) + &activate(1) + &state(json!(1))).code, Some(0));
    assert_eq!(sorted(&d), [0, 1, 2, 3, 4]);
    // Interrupted before it is activated: the old rows stay, the state goes on.
    let ran = d.run(head() + &versioned(0, 2, 2) + &state(json!(2)));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "2\n"));
    assert_eq!(sorted(&d), [0, 1, 2, 3, 4]);
    // A whole one, with the version before the record and the activation first, as Singer SDK taps do it.
    let front =
        |id: i64| format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"version\":3,\"record\":{{\"id\":{id}}}}}\n");
    let ran = d.run(head() + &activate(3) + &front(7) + &front(8) + &state(json!(3)));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(sorted(&d), [7, 8]);
    // Rows of the visible version are added to it; an empty version empties the stream.
    d.run(head() + &versioned(9, 10, 3));
    assert_eq!(sorted(&d), [7, 8, 9]);
    d.run(head() + &activate(4) + &state(json!(4)));
    assert_eq!(sorted(&d), Vec::<i64>::new());
    assert!(!d.tree().iter().any(|path| path.contains("held") || path.contains("staging")), "{:?}", d.tree());
}

#[test]
fn overwrite_replaces_only_at_the_end_of_a_good_run() {
    let d = Destination::with(json!({"load_method": "overwrite", "batch_size_rows": 2}));
    d.run(head() + &ids(0, 5) + &state(json!(1)));
    assert_eq!(sorted(&d), [0, 1, 2, 3, 4]);
    let ran = d.run(head() + &ids(5, 9) + &state(json!(2)) + "broken\n");
    assert_eq!((ran.code, ran.out.as_str()), (Some(6), ""));
    assert_eq!(sorted(&d), [0, 1, 2, 3, 4]);
    d.run(state(json!(1)) + &head() + &ids(5, 9) + &state(json!(2)));
    assert_eq!(sorted(&d), [5, 6, 7, 8]);
    // From an older state, with rows that are there: they replace themselves.
    d.run(state(json!(1)) + &head() + &ids(5, 10) + &state(json!(3)));
    assert_eq!(sorted(&d), [5, 6, 7, 8, 9]);
}

#[test]
fn a_bad_line_publishes_nothing_of_its_interval() {
    let d = Destination::with(json!({"batch_size_rows": 3}));
    let ran =
        d.run(head() + &ids(0, 3) + &state(json!(1)) + &ids(3, 5) + "{\"type\":\"RECORD\",\"stream\":\"s\",\"rec");
    assert_eq!((ran.code, ran.out.as_str()), (Some(6), "1\n"), "{}", ran.err);
    assert_eq!(sorted(&d), [0, 1, 2]);
    d.run("");
    assert!(!d.tree().iter().any(|path| path.contains("staging")), "{:?}", d.tree());
}

fn signalled(after: &str) -> (Destination, Option<i32>, String) {
    let d = Destination::with(json!({"max_batch_age_minutes": 100}));
    let mut child = d.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all((state(json!({"at": "start"})) + &head() + &ids(0, 3) + after).as_bytes()).unwrap();
    stdin.flush().unwrap();
    // Once the pipe is empty the target has it all: signals are looked at between reads.
    while !d.out().join("_target/commits").exists() || rustix::io::ioctl_fionread(&stdin).unwrap() > 0 {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    (d, output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_signal_after_a_state_commits_and_otherwise_drops() {
    let (d, code, out) = signalled(&state(json!({"at": "end"})));
    assert_eq!((code, out.as_str()), (Some(143), "{\"at\":\"end\"}\n"));
    assert_eq!(sorted(&d), [0, 1, 2]);
    let (d, code, out) = signalled("");
    assert_eq!((code, out.as_str()), (Some(143), ""));
    assert!(d.files("s").is_empty());
}

#[test]
fn a_commit_that_hangs_is_given_up_five_seconds_after_a_signal() {
    // The commit that the signal asks for, and one that was under way before.
    hangs(100);
    hangs(0);
}

fn hangs(age: u32) {
    let d = Destination::with(json!({"max_batch_age_minutes": age}));
    let mut child = d.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds, and nobody reads it.
    let wide = state(json!({"at": "x".repeat(1 << 20)}));
    stdin.write_all((state(json!({})) + &head() + &ids(0, 3) + &wide).as_bytes()).unwrap();
    stdin.flush().unwrap();
    while rustix::io::ioctl_fionread(&stdin).unwrap() > 0 {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    if age == 0 {
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let signalled = std::time::Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    // Nobody reads, so nothing else than the patience of the target ends it.
    let took = signalled.elapsed();
    assert!((seconds(5)..seconds(5) + Duration::from_secs(5)).contains(&took), "{took:?}");
    drop(stdin);
    // What hung was the printing: the rows were committed before it.
    assert_eq!(sorted(&d), [0, 1, 2]);
}

#[test]
fn silence_after_a_state_commits_when_the_age_is_reached() {
    let d = Destination::with(json!({"max_batch_age_minutes": 0.005}));
    let mut child = d.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all((head() + &ids(0, 3) + &state(json!(1))).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    assert_eq!(sorted(&d), [0, 1, 2]);
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_or_full_output_is_an_error_and_the_rows_stay() {
    let d = Destination::new();
    let mut child =
        d.command().stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((head() + &ids(0, 3) + &state(json!(1))).as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(sorted(&d), [0, 1, 2]);
    let mut child = d.command().spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all((head() + &ids(3, 5) + &state(json!(2))).as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(8));
    assert_eq!(sorted(&d), [0, 1, 2, 3, 4]);
}

#[test]
fn a_second_target_is_kept_out() {
    let d = Destination::new();
    let mut first = d.command().stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all((head() + &ids(0, 3)).as_bytes()).unwrap();
    while !d.out().join("_target/commits").exists() {
        std::thread::yield_now();
    }
    let ran = d.run(head() + &ids(3, 5));
    assert_eq!(ran.code, Some(5));
    assert!(ran.err.contains("another target writes"), "{}", ran.err);
    drop(stdin);
    assert!(first.wait().unwrap().success());
    assert_eq!(sorted(&d), [0, 1, 2]);
}

#[test]
fn every_file_says_its_stream_and_keys() {
    use parquet::file::reader::FileReader;
    let d = Destination::new();
    d.run(head() + &ids(0, 3));
    let file = std::fs::File::open(&d.files("s")[0]).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let find = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    assert_eq!(find("singer.stream").as_deref(), Some("s"));
    assert_eq!(find("singer.key_properties").as_deref(), Some("[\"id\"]"));
    let about: Value = serde_json::from_slice(
        &std::process::Command::new(env!("CARGO_BIN_EXE_target-parquet"))
            .args(["--about", "--format", "json"])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert_eq!(about["name"], "target-parquet");
}

#[test]
fn the_log_does_not_grow_for_ever() {
    let d = Destination::with(json!({"batch_size_rows": 1, "dedup_window_rows": 20}));
    let one = |id: i64| ids(id, id + 1) + &state(json!({"n": id}));
    let lines: String = (0..200).map(one).collect();
    assert_eq!(d.run(head() + &lines).code, Some(0));
    let kept = d.tree().into_iter().filter(|path| path.ends_with(".fp")).count();
    assert!((20..100).contains(&kept), "{kept}");
    // What is kept is enough for what the window promises.
    d.run(state(json!({"n": 185})) + &head() + &ids(186, 205) + &state(json!({"n": 204})));
    assert_eq!(sorted(&d), (0..205).collect::<Vec<_>>());
}

/// The last commit is made true again at the start, but never by taking another file for a committed one.
#[test]
fn a_committed_file_is_not_mistaken_for_another_of_its_name() {
    let d = Destination::new();
    assert_eq!(d.run(head() + &ids(0, 3) + &state(json!({"s": 1}))).code, Some(0));
    let published = d.files("s").remove(0);
    let staged = d.out().join("_target/staging/00000000000000000001-0.staged");
    // A rename that got half way, where the file system knows only hard links.
    std::fs::hard_link(&published, &staged).unwrap();
    assert_eq!(d.run("").code, Some(0));
    assert!(!staged.exists());
    assert_eq!(sorted(&d), [0, 1, 2]);
    // Another file under the committed name: its rows are not those of the commit.
    std::fs::rename(&published, &staged).unwrap();
    std::fs::write(&published, "other").unwrap();
    let ran = d.run("");
    assert_eq!(ran.code, Some(5), "{}", ran.err);
    assert!(staged.exists(), "the rows of a commit were swept");
}

/// A silence after a STATE without rows makes no commit; the files of the next one have its number.
#[test]
fn file_names_follow_the_log_after_a_silence() {
    let d = Destination::with(json!({"max_batch_age_minutes": 0.01}));
    let mut child = d.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all((state(json!({})) + &head() + &state(json!({}))).as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    stdin.write_all((ids(0, 2) + &state(json!({"s": 1}))).as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let file = d.files("s").remove(0);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let number = name.split_once('-').unwrap().0;
    let record = std::fs::read_to_string(d.out().join(format!("_target/commits/{number}.json"))).unwrap();
    assert!(record.contains(&name), "{name} is not a file of the commit whose number it has: {record}");
}
