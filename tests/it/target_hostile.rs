//! Input from strangers: one line of error, no record data in it, the documented exit code, nothing outside the folder.

use std::io::Write;

use serde_json::{Value, json};

use crate::harness::{Run, Target, feed, parquet_files, record, schema, state, target_parquet};

fn head() -> String {
    schema("s", json!({"id": {"type": "integer"}, "o": {}}), &["id"], &[])
}

#[test]
fn lines_that_are_not_singer() {
    let deep = format!(
        "{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{\"id\":1,\"o\":{}1{}}}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    for bad in [
        "secret",
        "[]",
        "{\"type\":\"SECRET\"}",
        "{\"type\":\"BATCH\",\"stream\":\"s\",\"encoding\":{},\"manifest\":[\"file:///etc/passwd\"]}",
        "{\"type\":\"RECORD\",\"stream\":\"unknown\",\"record\":{}}",
        "{\"type\":\"RECORD\",\"stream\":\"s\"}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":[]}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":01}}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1}}}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1},\"record\":{\"id\":2}}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1,\"o\":NaN}}",
        "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1,\"o\":\"\u{1}\"}}",
        &deep,
        "{\"type\":\"STATE\"}",
        "{\"type\":\"STATE\",\"value\":null}",
        "{\"type\":\"SCHEMA\",\"stream\":\"x\",\"schema\":{\"properties\":{\"a\":{},\"\\u0061\":{}}},\"key_properties\":[]}",
        "{\"type\":\"SCHEMA\",\"stream\":\"s\",\"key_properties\":[]}",
        "{\"type\":\"SCHEMA\",\"stream\":\"s\",\"schema\":5,\"key_properties\":[]}",
        "{\"type\":\"SCHEMA\",\"stream\":\"x\",\"schema\":{\"properties\":{\"a\":{}}},\"key_properties\":[\"id\"]}",
        "{\"type\":\"ACTIVATE_VERSION\",\"stream\":\"s\"}",
        "{\"stream\":\"s\"}",
    ] {
        let d = Target::new();
        let ran = d.run(head() + &record("s", json!({"id": 0})) + bad + "\n" + &state(json!(1)));
        assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{bad}: {}", ran.stderr);
        let critical: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("CRITICAL")).collect();
        assert!(
            critical.len() == 1 && critical[0].contains("line 3") && !critical[0].contains("secret"),
            "{bad}: {}",
            ran.stderr
        );
        assert!(d.files("s").is_empty(), "{bad}");
    }
}

#[test]
fn a_member_of_a_record_that_comes_twice_is_refused() {
    let d = Target::new();
    let ran = d.run(head() + "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1,\"\\u0069d\":2}}\n");
    assert_eq!(ran.code, 7, "{}", ran.stderr);
}

#[test]
fn names_from_records_are_not_said() {
    let d = Target::new();
    let mut input = head();
    for id in 0..1500 {
        input += &record("s", json!({"id": id, format!("john{id}@example.com"): 1, "secret": {}}));
    }
    let ran = d.run(input);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("3000 values") && ran.stderr.contains("1000 names"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("john") && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[test]
fn a_value_that_is_not_json_is_named_by_its_column() {
    for bad in ["tru", "[1,]", "01", "\"\u{1}\""] {
        let line = format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{\"id\":1,\"o\":{bad}}}}}\n");
        let ran = Target::new().run(head() + &line);
        assert_eq!(ran.code, 6, "{}", ran.stderr);
        assert!(ran.stderr.contains("stream \"s\", column \"o\": line 2"), "{}", ran.stderr);
    }
}

#[test]
fn lists_in_a_schema_may_be_long() {
    let d = Target::new();
    let list = vec![1; 1 << 20];
    let schema = schema("s", json!({"id": {"enum": list, "type": "integer"}}), &["id"], &[]);
    let ran = d.run(schema + &record("s", json!({"id": 1})));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.rows("s"), [json!({"id": 1})]);
}

/// Never a file without columns: whole records stand in one, and their keys beside them.
#[test]
fn records_of_a_schema_without_properties_are_kept_whole() {
    let line = |schema: Value, keys: Value| {
        format!("{}\n", json!({"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": keys}))
    };
    for (schema, metadata) in [(json!({}), false), (json!({"properties": {}}), true), (json!({"anyOf": [{}]}), false)] {
        let d = Target::with(json!({"add_record_metadata": metadata}));
        // Without a record nothing happens, and nothing is remembered.
        let ran = d.run(line(schema.clone(), json!([])) + &state(json!(1)));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "1\n"), "{}", ran.stderr);
        assert!(parquet_files(&d.out()).is_empty());
        let text =
            |id: &str| format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{\"a\" : [1.50], \"id\":{id}}}}}\n");
        let rows = text("7") + &text("\"x\\u0041\"") + &text("{\"b\":1}");
        let input = state(json!({})) + &line(schema.clone(), json!(["id"])) + &rows + &state(json!(2));
        let ran = d.run(&input);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!ran.stderr.contains("left out"), "{}", ran.stderr);
        let record = |id: &str| json!(format!("{{\"a\" : [1.50], \"id\":{id}}}"));
        assert_eq!(d.column("s", "id"), ["7", "xA", "{\"b\":1}"]);
        assert_eq!(d.column("s", "record"), [record("7"), record("\"x\\u0041\""), record("{\"b\":1}")]);
        assert_eq!(d.rows("s")[0].as_object().unwrap().contains_key("_sdc_extracted_at"), metadata);
        // They come again, and one of them with another value.
        let ran = d.run(input.replace(&text("7"), &(text("7") + &text("7").replace("1.50", "2"))));
        assert_eq!(d.rows("s").len(), 4, "{}", ran.stderr);
        for (bad, code) in [(text("null"), 7), (text("1,\"id\":2"), 7), (text("tru"), 6)] {
            let ran = d.run(line(schema.clone(), json!(["id"])) + &bad);
            assert_eq!(ran.code, code, "{bad}: {}", ran.stderr);
        }
    }
}

/// A SCHEMA without properties that no record follows leaves the columns of a later one as they are.
#[test]
fn a_schema_without_properties_takes_no_names() {
    let d = Target::new();
    let empty = "{\"type\":\"SCHEMA\",\"stream\":\"s\",\"schema\":{},\"key_properties\":[\"id\"]}\n";
    let ran = d.run(empty.to_owned() + &state(json!(1)) + &head() + &record("s", json!({"id": 1})) + &state(json!(2)));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.rows("s"), [json!({"id": 1, "o": null})], "{}", ran.stderr);
}

#[test]
fn bytes_that_are_not_utf8() {
    let d = Target::new();
    let mut input = head().into_bytes();
    input.extend_from_slice(b"{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1,\"o\":\"\xff\"}}\n");
    let ran = d.run(input);
    assert_eq!(ran.code, 6);
    assert!(ran.stderr.contains("line 2: it is not UTF-8"), "{}", ran.stderr);
}

#[test]
fn streams_with_harmful_names_stay_inside() {
    let d = Target::new();
    let names = [
        "../../x",
        "/etc/x",
        ".",
        "..",
        "",
        "a\0b",
        "CON",
        "A",
        "a",
        "_target",
        "x:y!?",
        "\u{202e}x",
        &"n".repeat(400),
    ];
    let mut input = String::new();
    for name in names {
        input += &schema(name, json!({"id": {"type": "integer"}}), &["id"], &[]);
        input += &record(name, json!({"id": 1}));
    }
    let ran = d.run(input);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(parquet_files(&d.out()).len(), names.len());
    assert_eq!(parquet_files(d.dir.path()).len(), names.len());
}

#[test]
fn a_symbolic_link_in_place_of_a_folder_is_refused() {
    for link in ["s", "_target"] {
        let d = Target::new();
        let elsewhere = d.dir.path().join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::fs::create_dir_all(d.out()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, d.out().join(link)).unwrap();
        let ran = d.run(head() + &record("s", json!({"id": 1})));
        assert_eq!(ran.code, 5, "{link}: {}", ran.stderr);
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "{link}");
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_while_it_is_read() {
    let d = Target::with(json!({"max_line_mb": 1}));
    let mut child = d.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Endless: only a target that gives up early lets this end.
    let writer = std::thread::spawn(move || while stdin.write_all(&[b'x'; 65536]).is_ok() {});
    let run = Run::of(child.wait_with_output().unwrap()).ends(6);
    writer.join().unwrap();
    assert!(run.stderr.contains("line 1 is longer than max_line_mb (1)"), "{}", run.stderr);
}

#[test]
fn long_lines_below_the_limit_are_read_whole() {
    let d = Target::new();
    let long = "y".repeat(3_000_000);
    let input = head() + &record("s", json!({"id": 1, "o": long})) + &record("s", json!({"id": 2, "o": null}));
    assert_eq!(d.run(input).code, 0);
    assert_eq!(d.column("s", "o"), [json!(format!("\"{long}\"")), json!(null)]);
}

#[test]
fn too_many_columns_are_refused_and_many_are_not() {
    let properties = |n: usize| (0..n).map(|i| (format!("c{i}"), json!({"type": ["null", "integer"]}))).collect();
    let d = Target::new();
    assert_eq!(d.run(schema("s", serde_json::Value::Object(properties(10_001)), &[], &[])).code, 6);
    let wide = schema("s", serde_json::Value::Object(properties(3_000)), &[], &[]);
    let ran = d.run(wide + &record("s", json!({"c7": 1, "c2999": 2})) + &record("s", json!({"c2": 3})));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let rows = d.rows("s");
    assert_eq!(
        (&rows[0]["c7"], &rows[0]["c2999"], &rows[1]["c2"], &rows[1]["c7"]),
        (&json!(1), &json!(2), &json!(3), &json!(null))
    );
}

#[test]
fn settings_that_are_wrong_touch_nothing() {
    let d = Target::with(json!({"dedup": "maybe"}));
    let ran = d.run(head());
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
    assert!(!d.out().exists());
    Run::of(target_parquet().arg("--nonsense").output().unwrap()).ends(2);
}

/// The rows that each file of tests/streams leaves.
const STREAM_FILES: [(&str, &str); 11] = [
    ("byte_order_mark", "[]"),
    ("crlf_line_ends_and_empty_lines", r#"[{"id": 1}]"#),
    ("integer_written_as_a_decimal", r#"[{"id": 1}, {"id": 1000}]"#),
    ("key_is_absent", "[]"),
    ("key_is_null", "[]"),
    ("key_properties_missing", r#"[{"id": 1}]"#),
    ("lone_surrogates_in_strings_and_objects", r#"[{"id": 1, "t": "\ufffd", "o": "{\"\\ufffd\":\"\\ufffd\"}"}]"#),
    ("lower_case_types", r#"[{"id": 1}]"#),
    ("record_before_schema", "[]"),
    ("schema_without_properties", "[]"),
    ("two_growing_schemas", r#"[{"id": 1}, {"id": 2, "b": "x"}, {"id": 3, "b": null}]"#),
];

/// Lines of files named after the trouble: each must load, or fail with the code that its name ends in.
#[test]
fn stream_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(stem) =
            path.file_stem().and_then(|s| s.to_str()).filter(|_| path.extension().is_some_and(|e| e == "singer"))
        else {
            continue;
        };
        let (name, code) = stem.rsplit_once('.').map_or((stem, 0), |(name, code)| (name, code.parse().unwrap()));
        let d = Target::new();
        let ran = d.run(std::fs::read(&path).unwrap());
        assert_eq!(ran.code, code, "{stem}: {}", ran.stderr);
        let mut rows = d.rows("s");
        rows.sort_by_key(|row| row["id"].as_i64());
        let expected = STREAM_FILES.iter().find(|(known, _)| *known == name);
        let (_, expected) = expected.unwrap_or_else(|| panic!("no rows are known of {name}"));
        assert_eq!(json!(rows), serde_json::from_str::<Value>(expected).unwrap(), "{stem}");
        seen.push(name.to_owned());
    }
    assert_eq!(seen.len(), STREAM_FILES.len(), "{seen:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_damage_is_loaded_or_refused(damage in proptest::collection::vec((0usize..2000, proptest::prelude::any::<u8>()), 1..4)) {
        let mut input = (state(json!({})) + &head()
            + &record("s", json!({"id": 1, "o": {"a": [1.5, "x\u{e9}", null]}}))
            + "{\"type\":\"RECORD\",\"stream\":\"s\",\"version\":3,\"record\":{\"id\":2,\"o\":\"\\ud83d\\n\"},\"time_extracted\":\"2026-01-01T00:00:00Z\"}\n"
            + "{\"type\":\"ACTIVATE_VERSION\",\"stream\":\"s\",\"version\":3}\n"
            + &state(json!({"n": 1}))).into_bytes();
        for (at, byte) in damage {
            let at = at % input.len();
            input[at] = byte;
        }
        let d = Target::new();
        let ran = d.run(&input);
        proptest::prop_assert!(matches!(ran.code, 0 | 6 | 7), "{:?} {}", ran.code, ran.stderr);
        // The last STATE is the only one behind rows: a run that is refused before it has published none.
        let files = parquet_files(&d.out()).len();
        proptest::prop_assert!(ran.code == 0 || files == 0, "{files} files, {}", ran.stderr);
        proptest::prop_assert!(!ran.stderr.contains("internal fault"), "{}", ran.stderr);
    }
}

#[test]
fn names_that_are_not_utf8_hinder_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let odd = |end: &[u8]| std::ffi::OsStr::from_bytes(&[b"a\xff=", end].concat()).to_owned();
    let d = Target::new();
    d.run(head() + &record("s", json!({"id": 1})));
    for folder in ["_target/staging", "_target/commits", "_target/columns", "_target/held", "", "_target"] {
        std::fs::write(d.out().join(folder).join(odd(b"1.tmp")), "x").unwrap();
    }
    assert_eq!(d.run(head() + &record("s", json!({"id": 2}))).code, 0);
    // A stream's folder with such a name is not the target's, and is not replaced.
    std::fs::create_dir(d.out().join("s").join(odd(b"2"))).unwrap();
    std::fs::write(d.out().join("s").join(odd(b"2")).join(odd(b"3")), "mine").unwrap();
    let mut overwrite = Target { dir: d.dir, settings: d.settings };
    overwrite.settings["load_method"] = json!("overwrite");
    let ran = overwrite.run(head() + &record("s", json!({"id": 3})));
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    std::fs::remove_file(overwrite.out().join("s").join(odd(b"2")).join(odd(b"3"))).unwrap();
    assert_eq!(overwrite.run(head() + &record("s", json!({"id": 3}))).code, 0);
    assert_eq!(overwrite.ids("s"), [3]);
}

#[test]
fn the_limit_of_a_line_is_the_same_for_files_and_pipes() {
    let d = Target::with(json!({"max_line_mb": 1}));
    let line =
        |bytes: usize| head() + &record("s", json!({"id": 1, "x": "y".repeat(bytes)})) + &record("s", json!({"id": 2}));
    for (bytes, code) in [(1_000_000, 0), (1_300_000, 6), (1_048_570, 6)] {
        let path = d.dir.path().join("input");
        std::fs::write(&path, line(bytes)).unwrap();
        let mut command = d.command();
        command.arg("--input").arg(&path);
        let from_file = Run::of(command.output().unwrap());
        assert_eq!(from_file.code, code, "{bytes}: {}", from_file.stderr);
        assert_eq!(d.run(line(bytes)).code, code, "{bytes}");
    }
}

#[test]
fn an_address_is_no_folder_unless_it_is_one_of_a_file() {
    for address in [
        "s3://bucket/x",
        "gs://b",
        "az://c/x",
        "abfss://c@a.dfs.core.windows.net/x",
        "https://example.com/x",
        "file://host/x",
    ] {
        let mut d = Target::new();
        d.settings["destination_path"] = json!(address);
        let ran = d.run(head());
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{address}: {}", ran.stderr);
        // Nothing but the settings.
        assert_eq!(std::fs::read_dir(d.dir.path()).unwrap().count(), 1, "{address}");
    }
    let mut d = Target::new();
    let inside = d.out().to_str().unwrap().to_owned();
    for (destination, id) in
        [(format!("file://{inside}"), 1), ("~/out".to_owned(), 2), ("file://localhost".to_owned() + &inside, 3)]
    {
        d.settings["destination_path"] = json!(destination);
        let mut command = d.command();
        command.env("HOME", d.dir.path());
        let ran = feed(command.spawn().unwrap(), head() + &record("s", json!({"id": id})));
        assert_eq!(ran.code, 0, "{destination}: {}", ran.stderr);
    }
    assert_eq!(d.ids("s"), [1, 2, 3]);
}
