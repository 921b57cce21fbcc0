//! State and files: what is printed when, what a second run finds, versions, signals, closed pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{
    Run, Target, activate, feed_and_hold, head, ids, in_real_time, of_version, record, schema, state, target_parquet,
    terminate,
};

#[test]
fn the_state_is_the_bytes_that_came_and_rows_behind_it_are_kept() {
    let d = Target::new();
    let state = "{\"type\":\"STATE\",\"value\":{\"a\" : 1.0, \"b\":12345678901234567890123}}\n";
    let ran = d.run(head() + &ids(0..3) + state + &ids(3..5));
    let ran = ran.ends(0);
    assert_eq!(ran.stdout, "{\"a\" : 1.0, \"b\":12345678901234567890123}\n");
    assert_eq!(d.ids("s"), [0, 1, 2, 3, 4]);
    let shown = Run::of(target_parquet().args(["state", "--config"]).arg(d.write_settings()).output().unwrap());
    assert_eq!(shown.ends(0).stdout, ran.stdout);
    let shown = Run::of(d.command().arg("state").output().unwrap());
    assert_eq!(shown.ends(0).stdout, ran.stdout);
}

#[test]
fn nothing_is_printed_without_a_state_and_an_empty_input_is_fine() {
    let d = Target::new();
    let ran = d.run("");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    let ran = d.run(head() + &ids(0..3));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert_eq!(d.ids("s"), [0, 1, 2]);
    // A tap with nothing new: its state comes out, and no file.
    let ran = d.run(state(json!({"s": 1})) + &head() + &state(json!({"s": 1})));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\"s\":1}\n"));
    assert_eq!(d.files("s").len(), 1);
}

#[test]
fn a_replay_from_an_older_state_leaves_out_what_is_there() {
    let d = Target::with(json!({"batch_size_rows": 10}));
    let mut first = state(json!({})) + &head();
    for n in 0..5 {
        first += &ids(n * 10..n * 10 + 10);
        first += &state(json!({"n": n}));
    }
    assert_eq!(d.run(&first).stdout.lines().count(), 5);
    // The runner knows only the second state; the tap sends the rest again, cut otherwise, and three new rows.
    let again = state(json!({"n": 1}))
        + &head()
        + &ids(20..37)
        + &state(json!({"n": 1.5}))
        + &ids(37..53)
        + &state(json!({"n": 9}));
    let ran = d.run(&again);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.ids("s"), (0..53).collect::<Vec<_>>(), "{}", ran.stderr);
    // From the last state: the same ids are sent on purpose, and kept.
    let ran = d.run(state(json!({"n": 9})) + &head() + &ids(50..53) + &state(json!({"n": 10})));
    assert_eq!(d.ids("s").len(), 56, "{}", ran.stderr);
    // A start from nothing is known, too: it is what the first run began with.
    d.run(state(json!({})) + &head() + &ids(0..60) + &state(json!({"n": 11})));
    assert_eq!(d.ids("s").len(), 63);
    // A state that nobody knows removes nothing, and says so.
    let ran = d.run(state(json!({"x": 0})) + &head() + &ids(0..2) + &state(json!({"n": 12})));
    assert_eq!(d.ids("s").len(), 65);
    assert!(ran.stderr.contains("does not begin with a STATE that this destination knows"), "{}", ran.stderr);
}

#[test]
fn a_new_version_of_a_row_is_kept_and_keyless_streams_are_not_touched() {
    let d = Target::new();
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
        let d = Target::with(json!({"dedup": dedup}));
        d.run(head() + &ids(0..3) + &ids(0..3) + &state(json!(1)));
        d.run(state(json!(1)) + &head() + &ids(2..5) + &state(json!(2)));
        d.ids("s")
    };
    assert_eq!(run("always"), [0, 1, 2, 3, 4]);
    assert_eq!(run("off"), [0, 0, 1, 1, 2, 2, 2, 3, 4]);
}

#[test]
fn a_full_table_replaces_the_last_one_in_one_step() {
    let d = Target::new();
    assert_eq!(d.run(head() + &of_version(1, 0..5) + &activate(1) + &state(json!(1))).code, 0);
    assert_eq!(d.ids("s"), [0, 1, 2, 3, 4]);
    // Interrupted before it is activated: the old rows stay, the state goes on.
    let ran = d.run(head() + &of_version(2, 0..2) + &state(json!(2)));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "2\n"));
    assert_eq!(d.ids("s"), [0, 1, 2, 3, 4]);
    // A whole one, with the version before the record and the activation first, as Singer SDK taps do it.
    let front =
        |id: i64| format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"version\":3,\"record\":{{\"id\":{id}}}}}\n");
    let ran = d.run(head() + &activate(3) + &front(7) + &front(8) + &state(json!(3)));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.ids("s"), [7, 8]);
    // Rows of the visible version are added to it; an empty version empties the stream.
    d.run(head() + &of_version(3, 9..10));
    assert_eq!(d.ids("s"), [7, 8, 9]);
    d.run(head() + &activate(4) + &state(json!(4)));
    assert_eq!(d.ids("s"), Vec::<i64>::new());
    assert!(!d.tree().iter().any(|path| path.contains("held") || path.contains("staging")), "{:?}", d.tree());
}

#[test]
fn overwrite_replaces_only_at_the_end_of_a_good_run() {
    let d = Target::with(json!({"load_method": "overwrite", "batch_size_rows": 2}));
    d.run(head() + &ids(0..5) + &state(json!(1)));
    assert_eq!(d.ids("s"), [0, 1, 2, 3, 4]);
    let ran = d.run(head() + &ids(5..9) + &state(json!(2)) + "broken\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""));
    assert_eq!(d.ids("s"), [0, 1, 2, 3, 4]);
    d.run(state(json!(1)) + &head() + &ids(5..9) + &state(json!(2)));
    assert_eq!(d.ids("s"), [5, 6, 7, 8]);
    // From an older state, with rows that are there: they replace themselves.
    d.run(state(json!(1)) + &head() + &ids(5..10) + &state(json!(3)));
    assert_eq!(d.ids("s"), [5, 6, 7, 8, 9]);
}

#[test]
fn a_bad_line_publishes_nothing_of_its_interval() {
    let d = Target::with(json!({"batch_size_rows": 3}));
    let ran =
        d.run(head() + &ids(0..3) + &state(json!(1)) + &ids(3..5) + "{\"type\":\"RECORD\",\"stream\":\"s\",\"rec");
    assert_eq!((ran.code, ran.stdout.as_str()), (6, "1\n"), "{}", ran.stderr);
    assert_eq!(d.ids("s"), [0, 1, 2]);
    d.run("");
    assert!(!d.tree().iter().any(|path| path.contains("staging")), "{:?}", d.tree());
}

fn signalled(after: &str) -> (Target, Run) {
    let d = Target::with(json!({"max_batch_age_minutes": 100}));
    let mut child = in_real_time(d.command()).spawn().unwrap();
    // Signals are looked at between reads.
    let stdin = feed_and_hold(&mut child, &(state(json!({"at": "start"})) + &head() + &ids(0..3) + after));
    d.wait_for_start();
    terminate(&child);
    let run = Run::of(child.wait_with_output().unwrap()).ends(143);
    drop(stdin);
    (d, run)
}

#[test]
fn a_signal_after_a_state_commits_and_otherwise_drops() {
    let (d, run) = signalled(&state(json!({"at": "end"})));
    assert_eq!(run.stdout, "{\"at\":\"end\"}\n");
    assert_eq!(d.ids("s"), [0, 1, 2]);
    let (d, run) = signalled("");
    assert_eq!(run.stdout, "");
    assert!(d.files("s").is_empty());
}

#[test]
fn a_commit_that_hangs_is_given_up_five_seconds_after_a_signal() {
    // The commit that the signal asks for, and one that was under way before.
    std::thread::scope(|scope| {
        scope.spawn(|| hangs(100));
        scope.spawn(|| hangs(0));
    });
}

fn hangs(age: u32) {
    let d = Target::with(json!({"max_batch_age_minutes": age}));
    let mut child = in_real_time(d.command()).spawn().unwrap();
    // More than a pipe holds, and nobody reads it.
    let wide = state(json!({"at": "x".repeat(1 << 20)}));
    let stdin = feed_and_hold(&mut child, &(state(json!({})) + &head() + &ids(0..3) + &wide));
    // The commit of now begins when the rows are read; its rows are there before it hangs.
    while age == 0 && d.files("s").is_empty() {
        std::thread::yield_now();
    }
    let signalled = Instant::now();
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    // Nobody reads, so nothing else than the patience of the target ends it.
    let took = signalled.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(10)).contains(&took), "{took:?}");
    drop(stdin);
    // What hung was the printing: the rows were committed before it.
    assert_eq!(d.ids("s"), [0, 1, 2]);
}

#[test]
fn silence_after_a_state_commits_when_the_age_is_reached() {
    let d = Target::with(json!({"max_batch_age_minutes": 0.005}));
    let mut child = d.spawn();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all((head() + &ids(0..3) + &state(json!(1))).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    assert_eq!(d.ids("s"), [0, 1, 2]);
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_or_full_output_is_an_error_and_the_rows_stay() {
    let d = Target::new();
    let mut child =
        d.command().stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((head() + &ids(0..3) + &state(json!(1))).as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(d.ids("s"), [0, 1, 2]);
    let mut child = d.spawn();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all((head() + &ids(3..5) + &state(json!(2))).as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(8));
    assert_eq!(d.ids("s"), [0, 1, 2, 3, 4]);
}

#[test]
fn a_second_target_is_kept_out() {
    let d = Target::new();
    let mut first = d.command().stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all((head() + &ids(0..3)).as_bytes()).unwrap();
    d.wait_for_start();
    let ran = d.run(head() + &ids(3..5));
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.contains("another target writes"), "{}", ran.stderr);
    drop(stdin);
    assert!(first.wait().unwrap().success());
    assert_eq!(d.ids("s"), [0, 1, 2]);
}

#[test]
fn every_file_says_its_stream_and_keys() {
    use parquet::file::reader::FileReader;
    let d = Target::new();
    d.run(head() + &ids(0..3));
    let file = std::fs::File::open(&d.files("s")[0]).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let find = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    assert_eq!(find("singer.stream").as_deref(), Some("s"));
    assert_eq!(find("singer.key_properties").as_deref(), Some("[\"id\"]"));
}

#[test]
fn the_log_does_not_grow_for_ever() {
    let d = Target::with(json!({"batch_size_rows": 1, "dedup_window_rows": 20}));
    let one = |id: i64| ids(id..id + 1) + &state(json!({"n": id}));
    let lines: String = (0..200).map(one).collect();
    assert_eq!(d.run(head() + &lines).code, 0);
    let kept = d.tree().into_iter().filter(|path| path.ends_with(".fp")).count();
    assert!((20..100).contains(&kept), "{kept}");
    // What is kept is enough for what the window promises.
    d.run(state(json!({"n": 185})) + &head() + &ids(186..205) + &state(json!({"n": 204})));
    assert_eq!(d.ids("s"), (0..205).collect::<Vec<_>>());
}

/// The last commit is made true again at the start, but never by taking another file for a committed one.
#[test]
fn a_committed_file_is_not_mistaken_for_another_of_its_name() {
    let d = Target::new();
    assert_eq!(d.run(head() + &ids(0..3) + &state(json!({"s": 1}))).code, 0);
    let published = d.files("s").remove(0);
    let staged = d.out().join("_target/staging/00000000000000000001-0.staged");
    // A rename that got half way, where the file system knows only hard links.
    std::fs::hard_link(&published, &staged).unwrap();
    assert_eq!(d.run("").code, 0);
    assert!(!staged.exists());
    assert_eq!(d.ids("s"), [0, 1, 2]);
    // Another file under the committed name: its rows are not those of the commit.
    std::fs::rename(&published, &staged).unwrap();
    std::fs::write(&published, "other").unwrap();
    let ran = d.run("");
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(staged.exists(), "the rows of a commit were swept");
}

/// A silence after a STATE without rows makes no commit; the files of the next one have its number.
#[test]
fn file_names_follow_the_log_after_a_silence() {
    let d = Target::with(json!({"max_batch_age_minutes": 0.005}));
    let mut child = d.spawn();
    let mut stdin = feed_and_hold(&mut child, &(state(json!({})) + &head() + &state(json!({}))));
    // The silence has done what it does: the state is printed.
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "{}\n");
    stdin.write_all((ids(0..2) + &state(json!({"s": 1}))).as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let file = d.files("s").remove(0);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let number = name.split_once('-').unwrap().0;
    let record = std::fs::read_to_string(d.out().join(format!("_target/commits/{number}.json"))).unwrap();
    assert!(record.contains(&name), "{name} is not a file of the commit whose number it has: {record}");
}

/// A stream is replaced with what systems leave in folders, and with nothing else that is not the target's.
#[test]
fn a_folder_with_what_others_put_there_is_not_replaced() {
    for name in ["_delta_log/0.json", ".git/config", "x.parquet", ".hidden", "_x", "a=1/notes.txt", "sub/.DS_Store"] {
        let d = Target::new();
        d.run(head() + &of_version(1, 0..2) + &activate(1) + &state(json!(1)));
        let path = d.out().join("s").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "mine").unwrap();
        let ran = d.run(head() + &of_version(2, 5..6) + &activate(2) + &state(json!(2)));
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{name}: {}", ran.stderr);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}

#[test]
fn what_systems_leave_in_folders_hinders_nothing() {
    let d = Target::with(json!({"load_method": "overwrite"}));
    d.run(head() + &ids(0..2));
    for name in [".DS_Store", "_SUCCESS", ".00000000000000000001-0.parquet.crc", "._x", "Thumbs.db"] {
        std::fs::write(d.out().join("s").join(name), "").unwrap();
    }
    assert_eq!(d.run(head() + &ids(5..6)).code, 0);
    assert_eq!(d.ids("s"), [5]);
}

/// The log holds a few states whole, and knows the others again by their hash.
#[test]
fn large_states_do_not_pile_up() {
    let d = Target::with(json!({"batch_size_rows": 1}));
    let large = |n: i64| state(json!({"n": n, "seen": "x".repeat(20_000)}));
    let lines: String = (0..60).map(|n| ids(n..n + 1) + &large(n)).collect();
    assert_eq!(d.run(head() + &lines).code, 0);
    let size = |path: &std::path::Path| {
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let bytes = size(&d.out().join("_target/commits"));
    // Eight states, and less than a kilobyte for each of the other records.
    assert!(bytes < 10 * 20_000 + 60_000, "{bytes}");
    let shown = Run::of(d.command().arg("state").output().unwrap());
    assert_eq!(format!("{{\"type\":\"STATE\",\"value\":{}}}\n", shown.stdout.trim_end()), large(59));
    d.run(large(10) + &head() + &ids(11..61) + &large(60));
    assert_eq!(d.ids("s"), (0..61).collect::<Vec<_>>());
}

/// What the target remembers was removed, whole or in part: files stay, no name comes twice, and every start goes on.
#[test]
fn a_destination_whose_memory_was_removed_goes_on() {
    for gone in
        ["_target", "_target/commits", "_target/columns", "_target/held", "_target/commits/00000000000000000002.json"]
    {
        let d = Target::new();
        d.run(head() + &of_version(1, 0..2) + &activate(1) + &state(json!(1)));
        d.run(state(json!(1)) + &head() + &of_version(2, 5..7) + &activate(2) + &state(json!(2)));
        let path = d.out().join(gone);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::remove_file(&path).unwrap()
        }
        let ran = d.run(state(json!(2)) + &head() + &ids(7..9) + &state(json!(3)));
        assert_eq!(ran.code, 0, "{gone}: {}", ran.stderr);
        assert_eq!(
            ran.stderr.contains("no commit knows s/0000"),
            gone.contains("commits") || gone == "_target",
            "{gone}: {}",
            ran.stderr
        );
        assert_eq!(d.ids("s"), [5, 6, 7, 8], "{gone}");
        let ran = d.run(state(json!(3)) + &head() + &of_version(3, 9..10) + &activate(3) + &state(json!(4)));
        assert!(!ran.stderr.contains("no commit knows"), "{gone}: {}", ran.stderr);
        assert_eq!((ran.code, d.ids("s")), (0, vec![9]), "{gone}: {}", ran.stderr);
    }
}

/// Files with the numbers of commits to come were brought from elsewhere.
#[test]
fn files_of_other_destinations_take_no_name_of_a_commit() {
    let d = Target::new();
    d.run(head() + &ids(0..1));
    let file = d.files("s").remove(0);
    for name in ["00000000000000000002-0.parquet", "18446744073709551615-0.parquet", "99999999999999999999-0.parquet"] {
        std::fs::copy(&file, file.with_file_name(name)).unwrap();
    }
    for id in 1..4 {
        let ran = d.run(head() + &ids(id..id + 1));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("no commit knows"), id == 1, "{}", ran.stderr);
    }
    assert_eq!(d.ids("s"), [0, 0, 0, 0, 1, 2, 3]);
}

/// `views.sql` is made anew behind each commit, for all streams that are there, and what stands in its way stops no run.
#[test]
fn views_follow_each_commit_and_stop_nothing() {
    let target = Target::new();
    let views = || std::fs::read_to_string(target.out().join("views.sql")).unwrap();
    target.run(head() + &ids(1..3) + &state(json!(1))).ends(0);
    assert_eq!(views().matches("CREATE OR REPLACE VIEW").count(), 2, "{}", views());
    let other = schema("other", json!({"id": {"type": "integer"}}), &[], &[]) + &record("other", json!({"id": 1}));
    target.run(other + &state(json!(2))).ends(0);
    for name in ["s", "s_latest", "other"] {
        assert!(views().contains(&format!("VIEW \"{name}\" AS")), "no view {name} in {}", views());
    }
    std::fs::remove_file(target.out().join("views.sql")).unwrap();
    std::fs::create_dir(target.out().join("views.sql")).unwrap();
    let run = target.run(head() + &ids(3..5) + &state(json!(3))).ends(0);
    assert!(run.stderr.contains("WARNING views.sql is not up to date: "), "{}", run.stderr);
    assert_eq!((target.ids("s"), run.stdout.as_str()), (vec![1, 2, 3, 4], "3\n"));
}
