//! A run that fails loses nothing that a STATE before the failure covers, and vouches for nothing behind that STATE.

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::{Value, json};

use crate::harness::{Run, Target, activate, feed_and_hold, head, ids, of_version, record, schema, send, state};
use rustix::process::Signal;

/// A line that no target can take.
const BAD: &str = "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":\"x\"}}\n";

fn numbers(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

/// Sends again what follows the printed state, as a tap does.
fn resume(d: &Target, run: &Run, to: i64) -> Run {
    let last = run.stdout.lines().last().unwrap_or("null");
    let from: i64 = serde_json::from_str::<Value>(last).unwrap()["n"].as_i64().unwrap_or(0);
    d.run(state(json!({"n": from})) + &head() + &ids(from..to) + &state(json!({"n": to})))
}

#[test]
fn a_bad_line_commits_what_the_last_state_covers_and_the_next_run_goes_on_there() {
    for (bad, code) in [(BAD, 7), ("{\"type\":\"RECORD\"\n", 6), ("{\"type\":\"RECORD\",\"stream\":\"s\"", 6)] {
        let d = Target::new();
        let input = state(json!({"n": 0})) + &head() + &ids(0..10) + &state(json!({"n": 10})) + &ids(10..15) + bad;
        let run = d.run(input);
        assert_eq!((run.code, run.stdout.as_str()), (code, "{\"n\":10}\n"), "{}", run.stderr);
        assert_eq!(d.ids("s"), numbers(0..10));
        // Rows behind the STATE were never vouched for: they are no repeats.
        let again = resume(&d, &run, 20);
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert_eq!(d.ids("s"), numbers(0..20));
    }
}

#[test]
fn a_start_state_is_no_checkpoint_of_a_run_that_fails() {
    let d = Target::new();
    let run = d.run(state(json!({"n": 0})) + &head() + &state(json!({"n": 0})) + &ids(0..5) + BAD);
    assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{}", run.stderr);
    assert!(d.files("s").is_empty());
}

#[test]
fn a_signal_between_states_commits_up_to_the_last_one() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let d = Target::with(json!({"batch_size_rows": 10}));
        let mut child = d.spawn();
        let input = state(json!({"n": 0})) + &head() + &ids(0..10) + &state(json!({"n": 10}));
        let stdin = feed_and_hold(&mut child, &(input + &ids(10..14) + &state(json!({"n": 14})) + &ids(14..16)));
        // The first STATE commits; what follows is in the same read.
        while d.files("s").is_empty() {
            std::thread::yield_now();
        }
        send(&child, signal);
        let run = Run::of(child.wait_with_output().unwrap());
        drop(stdin);
        let printed = "{\"n\":10}\n{\"n\":14}\n";
        assert_eq!((run.code, run.stdout.as_str()), (128 + signal.as_raw(), printed), "{}", run.stderr);
        assert_eq!(d.ids("s"), numbers(0..14));
        assert_eq!(resume(&d, &run, 60).code, 0);
        assert_eq!(d.ids("s"), numbers(0..60));
    }
}

/// Files are cut, columns change and partitions come and go between the STATEs, so that files and row groups hold rows of
/// both sides of the last one, wherever the bad line stands.
#[test]
fn files_that_hold_rows_of_both_sides_of_the_last_state_are_cut_there() {
    for settings in [
        json!({"batch_size_rows": 7}),
        json!({"batch_size_rows": 50}),
        json!({"partition_by": ["p"], "batch_size_rows": 5}),
        json!({"dedup": "always", "batch_size_rows": 20}),
    ] {
        for end in [1, 6, 7, 8, 13, 29, 30, 31, 50, 64, 99] {
            let d = Target::with(settings.clone());
            let properties =
                json!({"id": {"type": "integer"}, "p": {"type": "integer"}, "t": {"type": ["null", "string"]}});
            let wider = json!({"id": {"type": "integer"}, "p": {"type": "integer"}, "u": {"type": ["null", "string"]}});
            let head =
                |n: i64| schema("s", if n % 20 < 10 { properties.clone() } else { wider.clone() }, &["id"], &["id"]);
            let feed = |from: i64, to: i64| {
                let mut input = state(json!({"n": from})) + &head(from);
                for n in from..to {
                    if n % 10 == 0 {
                        input += &head(n);
                    }
                    input += &record(
                        "s",
                        json!({"id": n, "p": n % 3, "t": format!("t{n}"), "u": if n % 4 == 0 { None } else { Some("u") }}),
                    );
                    if n % 30 == 29 {
                        input += &state(json!({"n": n + 1}));
                    }
                }
                input
            };
            let run = d.run(feed(0, end) + BAD);
            let covered = end / 30 * 30;
            assert_eq!(run.code, 7, "{}", run.stderr);
            assert!(!run.stderr.contains("could not be committed"), "{settings} {end}: {}", run.stderr);
            let printed = run.stdout.lines().last().map(str::to_owned);
            assert_eq!(printed, (covered > 0).then(|| json!({"n": covered}).to_string()), "{settings} {end}");
            assert_eq!(d.ids("s"), numbers(0..covered), "{settings} {end}");
            let run = d.run(feed(covered, 120));
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert_eq!(d.ids("s"), numbers(0..120), "{settings} {end}");
            let texts: Vec<Value> =
                d.rows("s").iter().filter(|row| row["id"] == 5).map(|row| row["t"].clone()).collect();
            assert_eq!(texts, [json!("t5")]);
        }
    }
}

#[test]
fn a_small_memory_keeps_rows_behind_the_state_apart() {
    let d = Target::with(json!({"memory_limit_mb": 32}));
    let properties = json!({"id": {"type": "integer"}, "t": {"type": "string"}});
    let text = "x".repeat(20_000);
    let rows =
        |range: std::ops::Range<i64>| range.map(|id| record("s", json!({"id": id, "t": text}))).collect::<String>();
    let head = schema("s", properties, &["id"], &["id"]);
    let input = state(json!({"n": 0})) + &head + &rows(0..700) + &state(json!({"n": 700})) + &rows(700..1900) + BAD;
    let run = d.run(input);
    assert_eq!((run.code, run.stdout.as_str()), (7, "{\"n\":700}\n"), "{}", run.stderr);
    assert_eq!(d.ids("s"), numbers(0..700));
}

#[test]
fn an_activation_counts_up_to_the_last_state_and_not_behind_it() {
    let start = || state(json!({"v": 0})) + &head() + &of_version(1, 0..3) + &activate(1) + &state(json!({"v": 1}));
    let d = Target::new();
    assert_eq!(d.run(start()).code, 0);
    // Behind the last STATE: version 2 stays out of sight.
    let run =
        d.run(state(json!({"v": 1})) + &head() + &of_version(2, 10..13) + &state(json!({"v": 2})) + &activate(2) + BAD);
    assert_eq!((run.code, run.stdout.as_str()), (7, "{\"v\":2}\n"), "{}", run.stderr);
    assert_eq!(d.ids("s"), numbers(0..3));
    // Before it: version 2 is there, and rows of a third one are not.
    let third = of_version(3, 20..23);
    let run = d.run(
        state(json!({"v": 2}))
            + &head()
            + &of_version(2, 13..14)
            + &activate(2)
            + &state(json!({"v": 3}))
            + &third
            + BAD,
    );
    assert_eq!((run.code, run.stdout.as_str()), (7, "{\"v\":3}\n"), "{}", run.stderr);
    assert_eq!(d.ids("s"), numbers(10..14));
}

#[test]
fn a_stream_that_is_replaced_is_not_replaced_by_half_of_it() {
    let d = Target::with(json!({"load_method": "overwrite"}));
    assert_eq!(d.run(head() + &ids(0..5)).code, 0);
    let run = d.run(head() + &ids(10..20) + &state(json!({"n": 20})) + BAD);
    assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{}", run.stderr);
    assert_eq!(d.ids("s"), numbers(0..5));
}

/// A long interval behind a short one: files are full, or end with a SCHEMA, while rows of both sides are in them.
#[test]
fn a_full_file_with_rows_of_both_sides_is_cut_by_a_second_footer() {
    let wider = schema("s", json!({"id": {"type": "integer"}, "u": {"type": ["null", "string"]}}), &["id"], &["id"]);
    for (partition, in_between) in
        [(json!([]), ""), (json!([]), wider.as_str()), (json!(["id"]), ""), (json!(["id"]), &wider)]
    {
        for end in [4, 5, 9, 10, 11, 13, 20, 25, 40] {
            let d = Target::with(json!({"batch_size_rows": 10, "partition_by": partition}));
            let at = 3 + (end - 3) / 2;
            let input =
                state(json!({"n": 0})) + &head() + &ids(0..3) + &state(json!({"n": 3})) + &ids(3..at) + in_between;
            let run = d.run(input + &ids(at..end) + BAD);
            assert_eq!((run.code, run.stdout.as_str()), (7, "{\"n\":3}\n"), "{partition} {end}: {}", run.stderr);
            assert_eq!(d.ids("s"), numbers(0..3), "{partition} {end}");
            for file in d.files("s") {
                // What another reader sees of it, and no index that leads into the first footer.
                let reader = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap();
                let rows: i64 = reader.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
                assert_eq!(rows, reader.metadata().file_metadata().num_rows());
            }
            assert_eq!(resume(&d, &run, 50).code, 0);
            assert_eq!(d.ids("s"), numbers(0..50), "{partition} {end}");
        }
    }
}

#[test]
fn a_misfit_of_a_column_of_metadata_is_kept_beside_it() {
    let d = Target::with(json!({"on_misfit": "keep", "add_record_metadata": true}));
    let row = |id: i64, deleted: &str| record("s", json!({"id": id, "_sdc_deleted_at": deleted}));
    let run = d.run(head() + &row(1, "soon") + &row(2, "2024-01-01T00:00:00Z") + &state(json!(1)));
    assert_eq!((run.code, run.stdout.as_str()), (0, "1\n"), "{}", run.stderr);
    let rows = d.rows("s");
    let kept: Vec<_> = rows.iter().map(|row| (&row["_sdc_deleted_at"], &row["_sdc_deleted_at__misfit"])).collect();
    assert_eq!(kept[0], (&Value::Null, &json!("\"soon\"")));
    assert_eq!(kept[1], (&json!(1_704_067_200_000_000_i64), &Value::Null));
}

#[test]
fn an_older_version_does_not_replace_one_that_the_same_run_activated() {
    for batch in [1, 1000] {
        let d = Target::with(json!({"batch_size_rows": batch}));
        d.run(head() + &of_version(1, 0..1) + &activate(1) + &state(json!(1)));
        let newer = of_version(2, 1..2) + &of_version(3, 2..5) + &activate(3) + &state(json!(2));
        let run = d.run(head() + &newer + &of_version(2, 9..10) + &activate(2) + &state(json!(3)));
        assert_eq!((run.code, d.ids("s")), (0, numbers(2..5)), "{}", run.stderr);
        assert!(run.stderr.contains("version 2 is older"), "{}", run.stderr);
        assert!(!run.stderr.contains("are held back"), "{}", run.stderr);
    }
}

#[test]
fn a_misfit_of_a_column_of_partitions_ends_no_run() {
    let d = Target::with(json!({"on_misfit": "keep", "partition_by": ["t:day"]}));
    let head =
        schema("s", json!({"id": {"type": "integer"}, "t": {"type": "string", "format": "date-time"}}), &[], &[]);
    let row = |id: i64, t: Value| record("s", json!({"id": id, "t": t}));
    let run = d.run(head + &row(1, json!("nope")) + &row(2, json!({})) + &row(3, Value::Null) + &state(json!(1)));
    assert_eq!((run.code, run.stdout.as_str()), (0, "1\n"), "{}", run.stderr);
    let folder = "s/t_day=__HIVE_DEFAULT_PARTITION__";
    let rows = d.rows(folder);
    let kept: Vec<_> = rows.iter().map(|row| (&row["t"], &row["t__misfit"])).collect();
    assert!(kept.iter().all(|(t, _)| t.is_null()), "{kept:?}");
    assert_eq!(
        kept.iter().map(|(_, beside)| (*beside).clone()).collect::<Vec<_>>(),
        [json!("\"nope\""), json!("{}"), Value::Null]
    );
}
