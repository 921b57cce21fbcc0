//! Which folder a stream's files are in, and how many files a run opens.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::harness::{Target, activate, record, schema, state};

/// A SCHEMA and a record of a stream with one column.
fn row(stream: &str, id: i64) -> String {
    schema(stream, json!({"id": {"type": "integer"}}), &["id"], &["id"]) + &record(stream, json!({"id": id}))
}

/// The folders of streams.
fn folders(d: &Target) -> BTreeSet<String> {
    let names = std::fs::read_dir(d.out()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "_target").collect()
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
