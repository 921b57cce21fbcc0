//! Exactly once in the corners: versions, grown schemas, odd states, windows that are full, tables that are replaced.

use serde_json::{Value, json};

use crate::harness::{Target, activate, of_version, record, schema, state};

/// Every STATE is a commit.
fn at_once(mut settings: Value) -> Target {
    settings["max_batch_age_minutes"] = json!(0);
    Target::with(settings)
}

fn properties() -> Value {
    json!({"id": {"type": "integer"}, "v": {"type": ["null", "string"]}, "u": {"type": ["null", "string"]}})
}

fn head(bookmarks: &[&str]) -> String {
    schema("s", properties(), &["id"], bookmarks)
}

fn row(id: i64, v: &str) -> String {
    record("s", json!({"id": id, "v": v}))
}

fn at(k: i64) -> String {
    state(json!({"k": k}))
}

const CUT: &str = "{\"type\":\"RECORD\"";

#[test]
fn a_replay_of_versioned_rows_repeats_nothing() {
    let d = at_once(json!({}));
    let rows: Vec<String> = (1..5).map(|id| of_version(1, id..id + 1)).collect();
    let steps: String = (1..5).map(|id| rows[id - 1].clone() + &at(id as i64)).collect();
    d.run(at(0) + &head(&[]) + &steps);
    let ran = d.run(at(0) + &head(&[]) + &rows.concat() + &at(4));
    assert!(ran.stderr.contains("skipped_repeats 4"), "{}", ran.stderr);
    assert_eq!(d.ids("s"), [1, 2, 3, 4]);
}

#[test]
fn a_changed_row_without_a_bookmark_is_no_repeat() {
    // The bookmark is not among the properties; it is null; it is one of the target's own columns.
    for bookmark in ["updated_at", "u", "_sdc_extracted_at"] {
        let d = Target::new();
        d.run(at(0) + &head(&[bookmark]) + &row(1, "old") + &row(2, "same") + &at(1));
        d.run(at(0) + &head(&[bookmark]) + &row(1, "new") + &row(2, "same") + &at(1));
        let mut values = d.column("s", "v");
        values.sort_by_key(Value::to_string);
        assert_eq!(values, ["new", "old", "same"], "{bookmark}");
    }
}

#[test]
fn rows_are_known_again_when_the_schema_grew_and_members_moved() {
    let d = Target::new();
    let line = |text: &str| format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{text}}}\n");
    let before = schema("s", json!({"id": {"type": "integer"}, "o": {"type": "object"}}), &["id"], &[]);
    d.run(at(0) + &before + &line(r#"{"id":1,"o":{"a":1,"b":"x"}}"#) + &line(r#"{"id":2}"#) + &at(2));
    let properties = json!({"a": {"type": ["null", "string"]}, "id": {"type": "integer"}, "o": {"type": "object"}});
    let after = schema("s", properties, &["id"], &[]);
    let again = line(r#"{"o":{"b":"\u0078", "a":1},"id":1}"#) + &line(r#"{"id":2,"a":null}"#);
    d.run(at(0) + &after + &again + &line(r#"{"id":2,"a":"changed"}"#) + &at(2));
    assert_eq!(d.ids("s"), [1, 2, 2]);
}

#[test]
fn a_newer_version_is_not_replaced_by_an_older_one() {
    let d = Target::new();
    let new: String = (0..3).map(|id| of_version(2, id..id + 1)).collect();
    d.run(head(&[]) + &new + &activate(2) + &at(1));
    let ran = d.run(head(&[]) + &of_version(1, 9..10) + &activate(1) + &at(2));
    assert!(ran.stderr.contains("version 1 is older"), "{}", ran.stderr);
    d.run(head(&[]) + &activate(1) + &at(3));
    assert_eq!(d.ids("s"), [0, 1, 2]);
}

#[test]
fn rows_of_the_first_version_are_seen_whatever_came_between() {
    let d = at_once(json!({}));
    assert_eq!(d.run(head(&[]) + &activate(1) + &of_version(1, 1..2) + &at(1) + CUT).code, 6);
    d.run(at(1) + &head(&[]) + &of_version(1, 2..3) + &at(2) + &activate(1));
    assert_eq!(d.ids("s"), [1, 2]);
}

#[test]
fn an_interrupted_run_that_activated_first_leaves_the_old_version() {
    let d = at_once(json!({}));
    let old: String = (0..3).map(|id| of_version(1, id..id + 1)).collect();
    d.run(head(&[]) + &old + &activate(1) + &at(1));
    // Cut off; then cut off again, before anything came.
    d.run(at(1) + &head(&[]) + &activate(2) + &of_version(2, 7..8) + &at(2) + CUT);
    d.run(at(2) + &head(&[]) + &activate(2) + &at(3) + CUT);
    assert_eq!(d.ids("s"), [0, 1, 2]);
    // Killed between two lines: rows behind the last STATE.
    let ran = d.run(at(3) + &head(&[]) + &activate(2) + &of_version(2, 8..9));
    assert!(ran.stderr.contains("rows of version 2 are held back"), "{}", ran.stderr);
    assert_eq!(d.ids("s"), [0, 1, 2]);
    // At last whole: the rows of all these runs, once.
    d.run(at(3) + &head(&[]) + &activate(2) + &of_version(2, 8..9) + &of_version(2, 9..10) + &at(4));
    assert_eq!(d.ids("s"), [7, 8, 9]);
}

#[test]
fn two_new_versions_in_one_run_do_not_sweep_each_other() {
    let d = at_once(json!({}));
    d.run(head(&[]) + &of_version(1, 1..2) + &activate(1) + &at(1));
    let two = of_version(2, 2..3) + &at(2) + &of_version(3, 3..4) + &at(3) + &of_version(3, 4..5) + &at(4);
    d.run(at(1) + &head(&[]) + &two + &activate(3) + &at(5));
    assert_eq!(d.ids("s"), [3, 4]);
}

#[test]
fn an_interrupted_overwrite_leaves_what_was_there_and_its_state() {
    let d = Target::with(json!({"load_method": "overwrite"}));
    d.run(at(0) + &head(&[]) + &row(1, "a") + &row(2, "b") + &at(1));
    let ran = d.run(at(1) + &head(&[]) + &row(7, "a") + &at(2) + &row(8, "b"));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("held back"), "{}", ran.stderr);
    assert_eq!(d.ids("s"), [1, 2]);
    // A tap that sends no STATE at all is done when it ends.
    d.run(head(&[]) + &row(5, "a"));
    assert_eq!(d.ids("s"), [5]);
}

#[test]
fn files_that_somebody_moved_away_do_not_stop_the_next_run() {
    for overwrite in [true, false] {
        let d = Target::with(json!({"load_method": if overwrite { "overwrite" } else { "append-only" }}));
        d.run(head(&[]) + &of_version(1, 1..2) + &activate(1) + &at(1));
        d.run(at(1) + &head(&[]) + &of_version(2, 2..3) + &activate(2) + &at(2));
        d.files("s").iter().for_each(|path| std::fs::remove_file(path).unwrap());
        let ran = d.run(at(2) + &head(&[]) + &of_version(2, 3..4) + &at(3));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(d.ids("s"), [3]);
    }
}

#[test]
fn a_folder_with_files_of_others_is_not_replaced() {
    let d = Target::with(json!({"load_method": "overwrite"}));
    let thesis = d.out().join("s/chapters/thesis.txt");
    std::fs::create_dir_all(thesis.parent().unwrap()).unwrap();
    std::fs::write(&thesis, "years of work").unwrap();
    let ran = d.run(head(&[]) + &row(1, "a") + &at(1));
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""));
    assert!(ran.stderr.contains("s/chapters is not a file of this target"), "{}", ran.stderr);
    assert!(thesis.exists());
    std::fs::remove_dir_all(thesis.parent().unwrap()).unwrap();
    std::fs::write(d.out().join("s/.DS_Store"), "").unwrap();
    assert_eq!(d.run(head(&[]) + &row(1, "a") + &at(1)).code, 0);
    assert_eq!(d.ids("s"), [1]);
}

#[test]
fn a_row_that_an_overwrite_removed_comes_back() {
    let mut d = Target::new();
    d.run(at(0) + &head(&[]) + &row(1, "a") + &at(1));
    d.settings["load_method"] = json!("overwrite");
    d.run(at(1) + &head(&[]) + &row(2, "a") + &at(2));
    d.settings["load_method"] = json!("append-only");
    let ran = d.run(at(0) + &head(&[]) + &row(1, "a") + &at(1));
    assert!(ran.stderr.contains("before an overwrite"), "{}", ran.stderr);
    assert_eq!(d.ids("s"), [1, 2]);
}

#[test]
fn states_that_are_not_unicode_or_nest_deep_are_told_apart() {
    let deep = |n: u32| format!("{}{n}{}", "[".repeat(126), "]".repeat(126));
    let odd = |n: u32| format!("{{\"a\":\"\\ud800\",\"n\":{n}}}");
    for of in [&odd as &dyn Fn(u32) -> String, &deep] {
        let line = |n| format!("{{\"type\":\"STATE\",\"value\":{}}}\n", of(n));
        let d = Target::new();
        d.run(line(0) + &head(&[]) + &row(1, "a") + &line(1));
        let ran = d.run(line(0) + &head(&[]) + &row(1, "a") + &line(1));
        assert_eq!((ran.code, d.ids("s")), (0, vec![1]), "{}", ran.stderr);
    }
}

#[test]
fn a_snapshot_is_not_taken_for_a_repeat_of_the_last_one() {
    for minutes in [0, 5] {
        let d = Target::with(json!({"max_batch_age_minutes": minutes}));
        let snapshot = state(json!({})) + &head(&[]) + &row(1, "a") + &row(2, "b") + &state(json!({}));
        d.run(&snapshot);
        d.run(&snapshot);
        assert_eq!(d.ids("s"), [1, 1, 2, 2], "{minutes}");
    }
}

#[test]
fn a_window_that_is_full_says_so() {
    let rows: String = (0..20).map(|id| row(id, "x")).collect();
    let input = at(0) + &head(&[]) + &rows + &at(1);
    for (dedup, kept) in [("replay", 10), ("always", 20)] {
        let d = Target::with(json!({"dedup_window_rows": 10, "dedup": dedup}));
        d.run(&input);
        let ran = d.run(&input);
        assert!(ran.stderr.contains("window is full"), "{dedup}: {}", ran.stderr);
        assert_eq!(d.ids("s").len(), 20 + kept, "{dedup}");
    }
}

#[test]
fn always_knows_the_newest_rows_across_runs() {
    let d = Target::with(json!({"dedup_window_rows": 10, "dedup": "always"}));
    let rows = |ids: &mut dyn Iterator<Item = i64>| ids.map(|id| row(id, "x")).collect::<String>();
    d.run(head(&[]) + &rows(&mut (0..10)) + &at(1));
    // Four new ones push out the four oldest; the others are still known.
    d.run(head(&[]) + &rows(&mut (100..104).chain(4..10)) + &at(2));
    assert_eq!(d.ids("s").len(), 14);
    let ran = d.run(head(&[]) + &rows(&mut (100..104).chain(4..10).chain(0..1)) + &at(3));
    assert!(ran.stderr.contains("skipped_repeats 10"), "{}", ran.stderr);
    assert_eq!(d.ids("s").len(), 15);
}

/// What cannot be read is no version without rows.
#[test]
fn held_rows_that_cannot_be_listed_end_the_run() {
    let d = Target::new();
    d.run(head(&[]) + &of_version(1, 1..2) + &activate(1) + &at(1));
    d.run(at(1) + &head(&[]) + &of_version(2, 2..3) + &at(2));
    let held = d.out().join("_target/held/s/2");
    std::fs::rename(&held, d.dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(d.dir.path().join("elsewhere"), &held).unwrap();
    let ran = d.run(at(2) + &head(&[]) + &activate(2) + &at(3));
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{}", ran.stderr);
    std::fs::remove_file(&held).unwrap();
    std::fs::rename(d.dir.path().join("elsewhere"), &held).unwrap();
    assert_eq!(d.run(at(2) + &head(&[]) + &activate(2) + &at(3)).code, 0);
    assert_eq!(d.ids("s"), [2]);
}

#[test]
fn an_activation_leaves_what_is_held_of_newer_versions() {
    let d = at_once(json!({}));
    d.run(head(&[]) + &of_version(1, 1..2) + &activate(1) + &at(1));
    // Rows of both are held before the first is activated.
    let two = of_version(2, 2..4) + &at(2) + &of_version(3, 4..6) + &at(3);
    let ran = d.run(at(1) + &head(&[]) + &two + &activate(2) + &at(4));
    assert_eq!(d.ids("s"), [2, 3]);
    assert!(!ran.stderr.contains("without a version"), "{}", ran.stderr);
    d.run(at(4) + &head(&[]) + &of_version(3, 6..7) + &activate(3) + &at(5));
    assert_eq!(d.ids("s"), [4, 5, 6]);
    assert!(!d.tree().iter().any(|path| path.contains("held")), "{:?}", d.tree());
}

#[test]
fn rows_without_a_version_stay_when_one_is_activated() {
    for partition in [json!([]), json!(["v"])] {
        let d = at_once(json!({"partition_by": partition}));
        let old: String = (0..3).map(|id| of_version(1, id..id + 1)).collect();
        d.run(at(0) + &head(&[]) + &old + &row(3, "old") + &activate(1) + &at(1));
        assert_eq!(d.ids("s"), [0, 1, 2, 3]);
        // Two of them are committed before the activation, and the first comes again after a crash.
        d.run(at(1) + &head(&[]) + &row(10, "x") + &at(2) + CUT);
        let again = row(10, "x") + &at(2) + &row(11, "y") + &at(3) + &of_version(2, 20..21) + &at(4) + &row(12, "y");
        let ran = d.run(at(1) + &head(&[]) + &again + &activate(2) + &at(5));
        assert_eq!(d.ids("s"), [10, 11, 12, 20], "{}", ran.stderr);
        assert!(ran.stderr.contains("rows of this run came without a version"), "{}", ran.stderr);
        // A version without any row, and only rows without one.
        d.run(at(5) + &head(&[]) + &row(30, "z") + &activate(3) + &at(6));
        assert_eq!(d.ids("s"), [30]);
    }
}

/// A STATE before the first record says where the tap began, wherever it stands, and numbers count by their exact value.
#[test]
fn the_start_state_may_stand_behind_schemas_and_is_compared_exactly() {
    let d = at_once(json!({}));
    let big = |text: &str| format!("{{\"type\":\"STATE\",\"value\":{{\"k\":{text}}}}}\n");
    let (one, other) = (big("9007199254740993.0"), big("9007199254740992.0"));
    d.run(big("0") + &head(&[]) + &row(1, "a") + &one + &row(2, "b") + &other + &row(3, "c") + &big("5"));
    // From the first of two states that are one as doubles: rows 2 and 3 are there.
    let ran = d.run(head(&[]) + &big("9007199254740993") + &row(2, "b") + &row(3, "c") + &row(4, "d") + &big("6"));
    assert_eq!(d.ids("s"), [1, 2, 3, 4], "{}", ran.stderr);
    // From the second one, rewritten: row 3 is there, and row 2 is a new one.
    let ran = d.run(head(&[]) + &big("9.007199254740992E15") + &row(2, "b") + &row(3, "c") + &big("7"));
    assert_eq!(d.ids("s"), [1, 2, 2, 3, 4], "{}", ran.stderr);
}

#[test]
fn nothing_is_counted_twice_and_not_for_rows_that_are_left_out() {
    let d = Target::new();
    let line = |id: i64, version: i64| {
        let text = format!("{{\"id\":{id},\"v\":\"\\ud83d\",\"gone\":1,\"lost\":2}}");
        format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{text},\"version\":{version}}}\n")
    };
    // A version behind the record, which changes: the record is read twice.
    let ran = d.run(at(0) + &head(&[]) + &line(1, 1) + &line(2, 2) + &line(3, 1) + &at(1));
    assert!(ran.stderr.contains("6 values were left out") && ran.stderr.contains("3 halves of"), "{}", ran.stderr);
    let ran = d.run(at(0) + &head(&[]) + &line(1, 1) + &line(3, 1) + &at(1));
    assert!(!ran.stderr.contains("values were left out") && !ran.stderr.contains("halves of"), "{}", ran.stderr);
    // The way to load them again is said once.
    assert_eq!(ran.stderr.matches("all 2 rows were left out as repeats").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("load_method: overwrite"), "{}", ran.stderr);
}

/// Rows 1 to 4 in two commits, each with a file for `a` and one for `b`, and what a run from their start sends.
fn parted(dedup: &str) -> (Target, String) {
    let d = at_once(json!({"partition_by": ["v"], "dedup": dedup}));
    let input = at(0) + &head(&[]) + &row(1, "a") + &row(2, "b") + &at(1) + &row(3, "a") + &row(4, "b") + &at(2);
    d.run(&input);
    (d, input)
}

#[test]
fn rows_of_files_that_are_gone_are_delivered_again() {
    for dedup in ["replay", "always"] {
        let (d, input) = parted(dedup);
        std::fs::remove_file(&d.files("s/v=a")[0]).unwrap();
        let ran = d.run(&input);
        assert_eq!((ran.code, d.ids("s")), (0, vec![1, 2, 3, 4]), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("1 files of earlier commits are gone").count(), 1, "{}", ran.stderr);
        // The whole stream, moved away.
        let (d, input) = parted(dedup);
        std::fs::rename(d.out().join("s"), d.dir.path().join("old")).unwrap();
        let ran = d.run(&input);
        assert_eq!((ran.code, d.ids("s")), (0, vec![1, 2, 3, 4]), "{}", ran.stderr);
        assert!(ran.stderr.contains("4 files of earlier commits are gone"), "{}", ran.stderr);
        let ran = d.run(&input);
        assert_eq!((ran.code, d.ids("s")), (0, vec![1, 2, 3, 4]), "{}", ran.stderr);
    }
}

/// A SCHEMA that grew while rows waited: they stand in one file with those behind it.
#[test]
fn rows_of_a_file_that_grew_before_it_was_gone_are_delivered_again() {
    let d = Target::new();
    let narrow = schema("s", json!({"id": {"type": "integer"}}), &["id"], &[]);
    let rows = |ids: std::ops::Range<i64>| ids.map(|id| record("s", json!({"id": id}))).collect::<String>();
    // The folder has all columns: files of a run need not have them.
    d.run(at(0) + &head(&[]) + &row(9, "x") + &at(1));
    let input = at(1) + &narrow + &rows(0..3) + &head(&[]) + &rows(3..5) + &at(2);
    d.run(&input);
    assert_eq!(d.files("s").len(), 2);
    std::fs::remove_file(&d.files("s")[1]).unwrap();
    let ran = d.run(&input);
    assert_eq!((ran.code, d.ids("s")), (0, vec![0, 1, 2, 3, 4, 9]), "{}", ran.stderr);
}

#[test]
fn files_that_the_target_replaced_are_not_gone() {
    let d = at_once(json!({}));
    let old = at(0) + &head(&[]) + &of_version(1, 1..3) + &activate(1) + &at(1);
    d.run(&old);
    let two = at(1) + &head(&[]) + &of_version(2, 5..7) + &at(2) + &of_version(2, 7..8) + &activate(2) + &at(3);
    d.run(&two);
    assert_eq!(d.ids("s"), [5, 6, 7]);
    let ran = d.run(&two);
    assert_eq!(d.ids("s"), [5, 6, 7], "{}", ran.stderr);
    let ran = d.run(&old);
    assert!(!ran.stderr.contains("gone") && ran.stderr.contains("skipped_repeats 2"), "{}", ran.stderr);
    // Of the visible version one file is taken away.
    std::fs::remove_file(&d.files("s")[0]).unwrap();
    let ran = d.run(&two);
    assert!(ran.stderr.contains("1 files of earlier commits are gone"), "{}", ran.stderr);
    assert_eq!(d.ids("s"), [5, 6, 7], "{}", ran.stderr);
}

#[test]
fn fingerprints_that_are_gone_are_said_and_stop_nothing() {
    let (d, input) = parted("replay");
    std::fs::remove_file(d.out().join("_target/commits/00000000000000000001.fp")).unwrap();
    let ran = d.run(&input);
    assert_eq!((ran.code, d.ids("s")), (0, vec![1, 1, 2, 2, 3, 4]), "{}", ran.stderr);
    assert!(ran.stderr.contains("the fingerprints of commit 1 are gone"), "{}", ran.stderr);
}

/// The tap does not say where it begins, or begins anew: what an earlier run held of the version is not shown beside it.
#[test]
fn a_version_that_is_sent_again_from_its_start_replaces_what_was_held_of_it() {
    for (partition, dedup) in [(json!([]), "replay"), (json!(["v"]), "replay"), (json!([]), "off")] {
        let d = at_once(json!({"partition_by": partition, "dedup": dedup}));
        d.run(head(&[]) + &of_version(1, 1..3) + &activate(1) + &at(1));
        d.run(head(&[]) + &of_version(2, 5..7) + &at(2) + &of_version(2, 7..8) + &at(3) + CUT);
        // Again, and again cut off.
        d.run(head(&[]) + &of_version(2, 5..6) + &at(2) + CUT);
        // From its middle: these belong to what is held.
        let ran = d.run(head(&[]) + &of_version(2, 6..7) + &at(3) + CUT);
        assert_eq!(d.ids("s"), [1, 2], "{}", ran.stderr);
        d.run(head(&[]) + &of_version(2, 7..9) + &activate(2) + &at(4));
        assert_eq!(d.ids("s"), [5, 6, 7, 8], "{dedup} {partition}");
    }
}

#[test]
fn held_rows_without_keys_go_when_the_tap_starts_before_them() {
    let head = schema("s", json!({"id": {"type": "integer"}}), &[], &[]);
    let d = at_once(json!({}));
    d.run(at(0) + &head + &of_version(1, 1..3) + &activate(1) + &at(1));
    let first = at(1) + &head + &of_version(2, 5..7) + &at(2) + &of_version(2, 7..8) + &at(3);
    d.run(first.clone() + CUT);
    // From the state in their middle: no row may be lost.
    d.run(at(2) + &head + &of_version(2, 7..8) + &at(3) + CUT);
    // From before them.
    let ran = d.run(first + &of_version(2, 8..9) + &activate(2) + &at(4));
    assert_eq!(d.ids("s"), [5, 6, 7, 8], "{}", ran.stderr);
}
