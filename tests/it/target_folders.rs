//! Which folder a stream's files are in, and how many files a run opens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Target, activate, record, schema, state};

/// A SCHEMA and a record of a stream with one column.
fn row(stream: &str, id: i64) -> String {
    schema(stream, json!({"id": {"type": "integer"}}), &["id"], &["id"]) + &record(stream, json!({"id": id}))
}

/// The folders of streams.
fn folders(d: &Target) -> BTreeSet<String> {
    let names = std::fs::read_dir(d.out()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "_target" && name != "views.sql").collect()
}

#[test]
fn folders_have_the_names_of_streams_as_far_as_readers_take_them() {
    let d = Target::new();
    let streams = [
        ("Account", "Account"),
        ("public.users", "public.users"),
        ("$events", "$events"),
        ("_a", "@5Fa"),
        (".b", "@2Eb"),
        ("_target", "@5Ftarget"),
        ("Order Details/x=1", "Order@20Details@2Fx@3D1"),
    ];
    let input: String = streams.iter().map(|(stream, _)| row(stream, 1)).collect();
    d.run(input).ends(0);
    assert_eq!(folders(&d), streams.iter().map(|(_, folder)| (*folder).to_owned()).collect());
    for (_, folder) in streams {
        assert_eq!(d.ids(folder), [1], "{folder}");
    }
}

/// Where case does not count, `Account` and `account` are one folder.
#[test]
fn streams_that_differ_in_case_never_share_a_folder() {
    let d = Target::new();
    let streams = [("Account", 0), ("account", 1), ("ACCOUNT", 2), ("other", 3)];
    d.run(streams.iter().map(|(stream, id)| row(stream, *id)).collect::<String>()).ends(0);
    // The next run meets them in another order.
    d.run(streams.iter().rev().map(|(stream, id)| row(stream, 10 + id)).collect::<String>()).ends(0);
    let folders = folders(&d);
    let same: BTreeSet<String> = folders.iter().map(|folder| folder.to_lowercase()).collect();
    assert_eq!((folders.len(), same.len()), (4, 4), "{folders:?}");
    assert_eq!((d.ids("Account"), d.ids("other")), (vec![0, 10], vec![3, 13]));
    let mut twins: Vec<_> = folders.iter().filter(|folder| folder.contains("@-")).map(|folder| d.ids(folder)).collect();
    twins.sort();
    assert_eq!(twins, [vec![1, 11], vec![2, 12]]);
}

/// The name of a long stream is cut, and the rest becomes a hash; another stream may have just that name.
#[test]
fn streams_whose_names_are_cut_alike_never_share_a_folder() {
    let d = Target::new();
    let long = "x".repeat(500);
    d.run(row(&long, 1)).ends(0);
    let cut = folders(&d).pop_first().unwrap();
    // As earlier versions cut it.
    let earlier = format!("{}-{}", "x".repeat(87), cut.rsplit_once('-').unwrap().1);
    d.run(row(&cut, 2) + &row(&earlier, 3) + &row(&long, 4)).ends(0);
    assert_eq!((folders(&d).len(), d.ids(&cut), d.ids(&earlier)), (3, vec![1, 4], vec![3]));
    let d = Target::new();
    d.run(row(&earlier, 1) + &row(&long, 2)).ends(0);
    assert_eq!((folders(&d).len(), d.ids(&earlier), d.ids(&cut)), (2, vec![1], vec![2]));
}

/// `earlier_destination` was written when folders had other names: `%41ccount`, `public%2Eusers`, `_a`, `%46ull`.
#[test]
fn destinations_of_earlier_versions_go_on_in_their_folders() {
    let d = Target::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/earlier_destination"), &d.out());
    let streams = [("Account", "%41ccount"), ("public.users", "public%2Eusers"), ("_a", "_a")];
    let rows = |ids: &[i64]| -> String {
        streams.iter().flat_map(|(stream, _)| ids.iter().map(|id| row(stream, *id))).collect()
    };
    let version = |version: i64, id: i64| {
        let line = json!({"type": "RECORD", "stream": "Full", "record": {"id": id}, "version": version});
        schema("Full", json!({"id": {"type": "integer"}}), &["id"], &["id"]) + &format!("{line}\n")
    };
    // A tap whose runner lost the state sends the rows again: they are known.
    let ran = d.run(state(json!(0)) + &rows(&[0, 1]) + &version(1, 0) + &version(1, 1) + &state(json!(1))).ends(0);
    assert!(ran.stderr.contains("skipped_repeats 8"), "{}", ran.stderr);
    d.run(rows(&[2]) + &version(2, 9) + &activate(2).replace("\"s\"", "\"Full\"")).ends(0);
    let wanted: BTreeSet<String> =
        streams.iter().map(|(_, folder)| *folder).chain(["%46ull"]).map(str::to_owned).collect();
    assert_eq!(folders(&d), wanted);
    for (_, folder) in streams {
        assert_eq!(d.ids(folder), [0, 1, 2], "{folder}");
    }
    assert_eq!(d.ids("%46ull"), [9]);
    // A stream of the name that the old folder has is another one.
    d.run(row("%41ccount", 5)).ends(0);
    assert_eq!((d.ids("@2541ccount"), d.ids("%41ccount")), (vec![5], vec![0, 1, 2]));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The same SCHEMA of `s` with other words and another order.
fn described(n: usize, mut properties: Vec<(&str, Value)>) -> String {
    let rotated = n % properties.len();
    properties.rotate_left(rotated);
    let properties = properties.into_iter().map(|(name, mut property)| {
        property["description"] = json!(format!("column {name}, described for the time {n}"));
        (name.to_owned(), property)
    });
    schema("s", Value::Object(properties.collect()), &["id"], &[])
}

fn nullable(kind: &str) -> Value {
    json!({"type": ["null", kind]})
}

#[test]
fn schemas_that_are_reordered_and_described_anew_write_into_one_file() {
    for settings in [json!({}), json!({"add_record_metadata": true}), json!({"partition_by": ["a"]})] {
        let d = Target::with(settings.clone());
        let mut input = String::new();
        for n in 0..1_000 {
            let id = json!({"type": "integer"});
            input += &described(n, vec![("id", id), ("a", nullable("string")), ("b", nullable("integer"))]);
            input += &record("s", json!({"id": n, "b": n * 2, "a": "x", "unknown": 1}));
        }
        let ran = d.run(input).ends(0);
        assert_eq!(d.files("s").len(), 1, "{settings}");
        assert!(ran.stderr.contains("1000 values were left out"), "{}", ran.stderr);
        for (n, row) in d.rows("s").iter().enumerate() {
            assert_eq!((&row["id"], &row["a"], &row["b"]), (&json!(n), &json!("x"), &json!(n * 2)));
        }
    }
}

#[test]
fn schemas_that_take_turns_write_into_one_file_once_the_folder_has_their_columns() {
    let d = Target::new();
    let id = || ("id", json!({"type": "integer"}));
    let input = |from: usize| -> String {
        let line = |n: usize| match n % 3 {
            0 => described(n, vec![id(), ("a", nullable("integer"))]) + &record("s", json!({"id": n, "a": n})),
            1 => described(n, vec![("b", nullable("string")), id()]) + &record("s", json!({"id": n, "b": "y"})),
            _ => described(n, vec![("a", nullable("string")), id()]) + &record("s", json!({"id": n, "a": "z"})),
        };
        (from..from + 999).map(line).collect()
    };
    d.run(input(0)).ends(0);
    // The columns `a`, `b` and `a__text` are new once each.
    assert_eq!(d.files("s").len(), 3);
    d.run(input(999)).ends(0);
    assert_eq!(d.files("s").len(), 4);
    assert_eq!(d.ids("s"), (0..1_998).collect::<Vec<_>>());
    for row in d.rows("s") {
        let n = row["id"].as_u64().unwrap();
        let wanted = [json!({"a": n}), json!({"b": "y"}), json!({"a__text": "z"})][n as usize % 3].clone();
        let mut there = row.as_object().unwrap().clone();
        there.retain(|name, value| name != "id" && !value.is_null());
        assert_eq!(Value::Object(there), wanted);
    }
}

#[test]
fn more_than_a_thousand_files_are_said() {
    for (files, said) in [(1_000, false), (1_001, true)] {
        let d = Target::with(json!({"partition_by": ["id"]}));
        let ran = d.run(crate::harness::head() + &crate::harness::ids(0..files)).ends(0);
        assert_eq!(ran.stderr.contains("more than 1000 files"), said, "{}", ran.stderr);
    }
}

#[test]
fn null_and_an_empty_text_are_in_the_partition_that_every_reader_knows() {
    let d = Target::with(json!({"partition_by": ["e"]}));
    let lines = [json!({"e": ""}), json!({"e": null}), json!({"e": "a"}), json!({"e": "\u{61}"}), json!({})];
    let head = schema("s", json!({"e": {"type": ["null", "string"]}}), &[], &[]);
    let escaped = "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"e\":\"\\u0061\"}}\n";
    d.run(head + &lines.map(|line| record("s", line)).concat() + escaped).ends(0);
    let files = d.files("s");
    let folders: Vec<_> = files.iter().map(|f| f.parent().unwrap().file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(folders, ["e=__HIVE_DEFAULT_PARTITION__", "e=a"]);
    assert_eq!(d.column("s", "e"), [json!(""), json!(null), json!(null), json!("a"), json!("a"), json!("a")]);
}

/// A property's type, if a SCHEMA has it at all.
type Shape = [u8; 3];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// SCHEMAs of any shapes in any order: each value is where its type says, and nothing else is.
    #[test]
    fn values_find_their_columns_through_any_turns_of_schemas(
        turns in prop::collection::vec((prop::array::uniform3(0u8..3), 0usize..4, 0i64..3, any::<bool>()), 1..40),
        small in any::<bool>(), parts in any::<bool>(),
    ) {
        let mut settings = if small { json!({"batch_size_rows": 3}) } else { json!({}) };
        if parts {
            settings["partition_by"] = json!(["p1"]);
        }
        let d = Target::with(settings);
        let mut first = [None; 3];
        let (mut input, mut wanted) = (String::new(), BTreeMap::new());
        for (n, (shape, rows, of, keeps_nulls)) in turns.iter().enumerate() {
            let shape: Shape = *shape;
            if wanted.is_empty() {
                // What was asked for without a row leaves no trace.
                first = [None; 3];
            }
            let kinds = [None, Some("integer"), Some("string")];
            let names = ["p0", "p1", "p2"];
            let properties = (0..3).filter_map(|p| Some((names[p], nullable(kinds[shape[p] as usize]?))));
            input += &described(n, [("id", json!({"type": "integer"}))].into_iter().chain(properties).collect());
            for (p, kind) in shape.iter().enumerate().filter(|(_, kind)| **kind > 0) {
                first[p].get_or_insert(*kind);
            }
            for _ in 0..*rows {
                let id = wanted.len();
                let (mut line, mut row) = (json!({"id": id}), json!({"id": id}));
                for (p, kind) in shape.iter().enumerate().filter(|(_, kind)| **kind > 0) {
                    let value = match kind {
                        _ if *of == p as i64 => Value::Null,
                        1 => json!(id + p),
                        _ => json!(format!("{id} {p}")),
                    };
                    if *keeps_nulls || !value.is_null() {
                        line[names[p]] = value.clone();
                    }
                    let suffix = ["", "__int64", "__text"][if first[p] == Some(*kind) { 0 } else { *kind as usize }];
                    if !value.is_null() {
                        row[format!("{}{suffix}", names[p])] = value;
                    }
                }
                input += &record("s", line);
                wanted.insert(id, row);
            }
        }
        let ran = d.run(input);
        prop_assert_eq!(ran.code, 0, "{}", ran.stderr);
        let mut rows = BTreeMap::new();
        for row in d.rows("s") {
            let mut row = row.as_object().unwrap().clone();
            row.retain(|_, value| !value.is_null());
            rows.insert(row["id"].as_u64().unwrap() as usize, Value::Object(row));
        }
        prop_assert_eq!(rows, wanted);
    }
}
