//! What the target remembers: damaged, planted, of another form. Each is found, said with a way out, and leads nowhere.

use serde_json::{Value, json};

use crate::harness::{Run, Target, record, schema, state};

fn head() -> String {
    schema("s", json!({"id": {"type": "integer"}, "o": {}}), &["id"], &[])
}

#[test]
fn a_log_that_cannot_be_understood_is_not_skipped() {
    let d = Target::new();
    d.run(head() + &record("s", json!({"id": 1})));
    std::fs::write(d.out().join("_target/commits/00000000000000000002.json"), "{\"n\":2,").unwrap();
    let ran = d.run(head() + &record("s", json!({"id": 2})));
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert_eq!(d.rows("s").len(), 1);
}

/// The record of a commit that moves `from` and activates a version in `folder`.
fn planted(path: &str, folder: &str) -> String {
    let file = json!({"staged": "x", "path": path, "stream": "s", "rows": 1, "bytes": 1});
    let activation = json!({"folder": folder, "version": 2, "marker": "m"});
    let record = json!({
        "n": 2, "run": 2, "eof": true, "trailing": false, "fingerprints": 0, "files": [file], "activate": [activation],
        "versions": {},
    });
    record.to_string()
}

#[test]
fn a_planted_record_leads_nowhere() {
    for (path, folder) in
        [("s/../../victim/x", "s"), ("../x", "s"), ("s/x", "../victim"), ("s/x", ".."), ("/x", "s"), ("s/x", "_target")]
    {
        let d = Target::new();
        d.run(head() + &record("s", json!({"id": 1})));
        let victim = d.dir.path().join("victim");
        std::fs::create_dir_all(&victim).unwrap();
        std::fs::write(victim.join("mine"), "mine").unwrap();
        std::fs::create_dir_all(d.out().join("_target/held").join(folder).join("2")).unwrap();
        std::fs::write(d.out().join("_target/staging/x"), "y").unwrap();
        std::fs::write(d.out().join("_target/commits/00000000000000000002.json"), planted(path, folder)).unwrap();
        let before = d.tree();
        let ran = d.run(head());
        assert_eq!(ran.code, 5, "{path} {folder}: {}", ran.stderr);
        assert!(ran.stderr.contains("restore it, or use a new destination_path"), "{}", ran.stderr);
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1, "{path} {folder}");
        assert_eq!(d.tree(), before, "{path} {folder}");
    }
}

#[test]
fn what_is_no_record_in_place_of_one_is_refused_at_once() {
    for name in ["00000000000000000002.json", "99999999999999999999.json", "00009223372036854775808.json", "7.json"] {
        for what in ["pipe", "folder", "{}"] {
            let d = Target::new();
            d.run(head() + &record("s", json!({"id": 1})));
            let path = d.out().join("_target/commits").join(name);
            match what {
                "pipe" => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "folder" => std::fs::create_dir(&path).unwrap(),
                text => std::fs::write(&path, text).unwrap(),
            }
            let ran = d.run(head());
            assert_eq!(ran.code, 5, "{name} {what}: {}", ran.stderr);
        }
    }
}

/// A destination with two commits whose rows a run from the first state looks for again, and that run.
fn remembered() -> (Target, String) {
    let d = Target::with(json!({"max_batch_age_minutes": 0}));
    let rows = |id: i64| record("s", json!({"id": id, "o": {"a": id}}));
    let input = state(json!(0)) + &head() + &rows(1) + &state(json!(1)) + &rows(2) + &state(json!(2));
    assert_eq!(d.run(&input).code, 0);
    (d, input)
}

#[test]
fn a_bit_that_fell_over_in_what_is_remembered_is_found_and_said() {
    let (d, input) = remembered();
    for name in [
        "commits/00000000000000000002.json",
        "commits/00000000000000000001.json",
        "commits/00000000000000000001.fp",
        "columns/s.json",
    ] {
        let path = d.out().join("_target").join(name);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 5).chain([whole.len() - 1]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            for bad in [damaged, whole[..at].to_vec()] {
                std::fs::write(&path, bad).unwrap();
                let ran = d.run(&input);
                assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{name} {at}: {}", ran.stderr);
                assert!(ran.stderr.contains(name) && ran.stderr.contains("; restore it, or "), "{}", ran.stderr);
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(d.run(&input).code, 0);
    assert_eq!(d.rows("s").len(), 2);
}

#[test]
fn a_form_of_a_newer_version_is_refused() {
    let (d, input) = remembered();
    for name in ["commits/00000000000000000002.json", "columns/s.json"] {
        let path = d.out().join("_target").join(name);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replacen("\"form\":2", "\"form\":3", 1)).unwrap();
        let ran = d.run(&input);
        assert_eq!(ran.code, 5, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("it has form 3") && ran.stderr.contains("newer version"), "{}", ran.stderr);
        std::fs::write(&path, whole).unwrap();
    }
}

/// Makes what the target remembers what its first form was.
fn to_first_form(d: &Target) {
    for entry in std::fs::read_dir(d.out().join("_target/commits")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "fp") {
            // A head, the head of a section, a row, and the checksum.
            let row = std::fs::read(&path).unwrap()[32..48].to_vec();
            std::fs::write(&path, row).unwrap();
            continue;
        }
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        if record["n"] == 1 {
            record["start_state"] = json!(0);
        }
        for name in ["form", "checksum", "writer", "so_far", "state_hash", "start_state_hash"] {
            record.as_object_mut().unwrap().remove(name);
        }
        record["files"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|file| drop(file.as_object_mut().unwrap().remove("sink")));
        std::fs::write(&path, record.to_string()).unwrap();
    }
    let columns = d.out().join("_target/columns/s.json");
    let mut content: Value = serde_json::from_slice(&std::fs::read(&columns).unwrap()).unwrap();
    for name in ["form", "checksum"] {
        content.as_object_mut().unwrap().remove(name);
    }
    std::fs::write(&columns, content.to_string()).unwrap();
}

#[test]
fn a_destination_of_the_first_form_goes_on() {
    let (d, input) = remembered();
    to_first_form(&d);
    let shown = Run::of(d.command().arg("state").output().unwrap());
    assert_eq!(shown.ends(0).stdout, "2\n");
    // Its rows are known again, from either of its states, and those that came since.
    let third = record("s", json!({"id": 3})) + &state(json!(3));
    let ran = d.run(input.clone() + &third);
    assert_eq!((ran.code, d.column("s", "id")), (0, vec![json!(1), json!(2), json!(3)]), "{}", ran.stderr);
    let from_one = state(json!(1)) + &head() + &record("s", json!({"id": 2, "o": {"a": 2}})) + &third;
    let ran = d.run(from_one);
    assert_eq!((ran.code, d.rows("s").len()), (0, 3), "{}", ran.stderr);
    let newest = std::fs::read_to_string(d.out().join("_target/commits/00000000000000000005.json")).unwrap();
    assert!(newest.contains("\"form\":2") && newest.contains("\"checksum\":\""), "{newest}");
    // Of a file that is gone it is not known which rows were in it: all of its commit come again.
    let (d, input) = remembered();
    to_first_form(&d);
    std::fs::remove_file(&d.files("s")[0]).unwrap();
    let ran = d.run(input);
    assert!(ran.stderr.contains("1 files of earlier commits are gone"), "{}", ran.stderr);
    assert_eq!(d.column("s", "id"), [json!(2), json!(1)]);
}
