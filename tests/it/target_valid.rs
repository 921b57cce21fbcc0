//! Records that real taps send and that are valid: each is taken, and what a column cannot hold of it is counted.

use serde_json::{Value, json};

use crate::harness::{Run, Target, record, schema, state};

/// Sends one value for each of the properties of one schema, in rows of their own; gives the column and the run.
fn column_of(property: Value, values: &[&str]) -> (Vec<Value>, Run) {
    let d = Target::new();
    let mut input = schema("s", json!({"v": property}), &[], &[]);
    for value in values {
        input += &format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{\"v\":{value}}}}}\n");
    }
    let run = d.run(input + &state(json!(1)));
    assert_eq!((run.code, run.stdout.as_str()), (0, "1\n"), "{property}: {}", run.stderr);
    (d.column("s", "v"), run)
}

/// The warning about a stream's values; there is only one.
fn warning(run: &Run) -> String {
    let lines: Vec<&str> =
        run.stderr.lines().filter(|line| line.contains("WARNING") && line.contains("stream")).collect();
    assert!(lines.len() <= 1, "{}", run.stderr);
    lines.join("")
}

#[test]
fn date_times_beyond_a_column_are_cut_or_held_and_counted_once() {
    let (column, run) = column_of(
        json!({"type": "string", "format": "date-time"}),
        &[
            "\"2026-03-01T12:30:45.1234567Z\"",
            "\"2026-03-01T12:30:45.123456789012Z\"",
            "\"2026-03-01 18:00:45 +05:30\"",
            "\"2026-03-01 12:30:45 UTC\"",
            "\"9999-12-31T23:59:59-05:00\"",
            "\"0001-01-01T00:00:00+05:00\"",
            "\"1970-01-01T23:59:60Z\"",
        ],
    );
    let at = 1_772_368_245_000_000i64;
    let (first, last) = (-62_135_596_800_000_000i64, 253_402_300_799_999_999i64);
    assert_eq!(column, [at + 123_456, at + 123_456, at, at, last, first, 86_399_999_999].map(Value::from));
    let said = warning(&run);
    for clause in ["2 times had more than six digits", "2 moments lay outside the years", "1 leap seconds"] {
        assert!(said.contains(clause), "{clause}: {}", run.stderr);
    }
}

#[test]
fn times_of_day_may_have_an_offset_and_a_short_hour() {
    let values = ["\"08:30:00+02:00\"", "\"8:30:00\"", "\"08:30:00.1234567\"", "\"23:59:60\"", "\"08:30:00Z\""];
    let (column, run) = column_of(json!({"type": "string", "format": "time"}), &values);
    let at = 30_600_000_000i64;
    assert_eq!(column, [at, at, at + 123_456, 86_399_999_999, at].map(Value::from));
    let said = warning(&run);
    for clause in ["1 times of day had an offset", "1 times had more than six digits", "1 leap seconds"] {
        assert!(said.contains(clause), "{clause}: {}", run.stderr);
    }
}

#[test]
fn a_date_may_have_a_midnight_behind_it() {
    let values = ["\"2026-03-01\"", "\"2026-03-01T00:00:00Z\"", "\"2026-03-01 00:00:00.000+05:30\""];
    let (column, run) = column_of(json!({"type": "string", "format": "date"}), &values);
    assert_eq!(column, [json!(20513), json!(20513), json!(20513)]);
    assert_eq!(warning(&run), "");
}

#[test]
fn decimals_are_read_as_programs_write_them() {
    let values = ["\".5\"", "\"+1.5\"", "\"007.50\"", "\"5.\"", "0.30000000000000004", "\"19.989999999999998\""];
    let property = json!({"type": ["string", "number"], "format": "x-singer.decimal", "precision": 10, "scale": 2});
    let number = json!({"type": "string", "format": "x-singer.decimal", "precision": 10, "scale": 2});
    for property in [number, property] {
        let (column, run) = column_of(property, &values);
        assert_eq!(column, ["0.50", "1.50", "7.50", "5.00", "0.30", "19.99"].map(Value::from));
        assert!(warning(&run).contains("2 decimals had the noise of doubles"), "{}", run.stderr);
    }
}

#[test]
fn a_null_that_the_schema_forgot_is_null_and_counted_by_column() {
    let d = Target::with(json!({"dedup": "always"}));
    let properties = json!({"id": {"type": "integer"}, "a": {"type": "string"}, "b": {"type": "number"}});
    let mut input = schema("s", properties, &["id"], &["id"]);
    for (id, a) in [(1, json!(null)), (2, json!("x")), (1, json!(null)), (3, json!(null))] {
        input += &record("s", json!({"id": id, "a": a, "b": null}));
    }
    let run = d.run(&input);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // The repeat is not counted.
    let said = "values were null where the SCHEMA does not allow it: \"a\" 2, \"b\" 3";
    assert!(warning(&run).ends_with(said), "{}", run.stderr);
    assert_eq!(d.column("s", "a"), [json!(null), json!("x"), json!(null)]);
    // A key is no key without a value.
    let run = d.run(input + &record("s", json!({"id": null, "a": "x"})));
    assert_eq!(run.code, 7, "{}", run.stderr);
    assert!(run.stderr.contains("column \"id\""), "{}", run.stderr);
}

/// The target's memory of the columns of the stream `s`.
fn remembered(d: &Target) -> Value {
    let text = std::fs::read_to_string(d.out().join("_target/columns/s.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_union_of_scalars_is_plain_text() {
    let values = ["\"Smith\"", "15", "1.50", "true", "null", "\"\\u00e9\""];
    let union = json!({"type": ["null", "string", "integer", "number", "boolean"]});
    let sheet = json!({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]});
    for property in [union, sheet] {
        let (column, run) = column_of(property, &values);
        let text = [json!("Smith"), json!("15"), json!("1.50"), json!("true"), json!(null), json!("é")];
        assert_eq!(column, text);
        assert_eq!(warning(&run), "");
    }
    let d = Target::with(json!({"scalar_unions": "json"}));
    let input = schema("s", json!({"v": {"type": ["string", "integer"]}}), &[], &[]);
    assert_eq!(d.run(input + &record("s", json!({"v": "Smith"})) + &record("s", json!({"v": 15}))).code, 0);
    assert_eq!(d.column("s", "v"), [json!("\"Smith\""), json!("15")]);
}

#[test]
fn a_type_beside_alternatives_and_lists_of_values_make_plain_text() {
    for property in [
        json!({"type": "string", "oneOf": [{"const": "a"}, {"const": "b"}]}),
        json!({"enum": ["a", "b", null]}),
        json!({"allOf": [{"type": ["string", "integer"]}, {"type": "string"}]}),
        json!({"type": ["null", "string"], "anyOf": [{"maxLength": 5}, {"format": "email"}]}),
    ] {
        assert_eq!(column_of(property, &["\"a\""]).0, [json!("a")]);
    }
}

#[test]
fn a_decimal_that_no_decimal_column_holds_is_text() {
    let values = ["\"12345678901234567890123456789.0123456789012345678901\"", "\"1.50\"", "0.1"];
    let text = ["12345678901234567890123456789.0123456789012345678901", "1.50", "0.1"].map(Value::from);
    for property in [
        json!({"type": ["string", "number"], "format": "x-singer.decimal"}),
        json!({"type": ["string", "number"], "format": "x-singer.decimal", "precision": 60, "scale": 30}),
    ] {
        assert_eq!(column_of(property, &values).0, text);
    }
    let numeric = json!({"type": ["null", "number"], "multipleOf": 1e-38, "maximum": 1e62, "minimum": -1e62});
    let number = "12345678901234567890123456789.0123456789012345678901";
    assert_eq!(column_of(numeric, &[number]).0, [json!(number)]);
}

/// Earlier versions made other columns of some schemas: these stay, because readers could not unite the two.
#[test]
fn a_column_of_an_earlier_version_stays_where_it_holds_what_comes() {
    let older = json!({
        "u": {"type": ["string", "object"]}, "e": {"type": ["string", "object"]},
        "d": {"type": "string", "format": "x-singer.decimal", "precision": 38, "scale": 18},
        "f": {"type": "number"}, "n": {"type": "integer"},
    });
    let newer = json!({
        "u": {"type": ["string", "integer"]}, "e": {"enum": ["a", "b"]},
        "d": {"type": "string", "format": "x-singer.decimal"},
        "f": {"anyOf": [{"type": "integer"}, {"type": "number", "multipleOf": 0.01}]},
        "n": {"type": ["string", "integer"]},
    });
    let d = Target::new();
    let first = record("s", json!({"u": "Smith", "e": "a", "d": "1.5", "f": 1.25, "n": 1}));
    assert_eq!(d.run(schema("s", older, &[], &[]) + &first).code, 0);
    let run = d.run(schema("s", newer, &[], &[]) + &first);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let rows = d.rows("s");
    for name in ["u", "e", "d", "f"] {
        assert_eq!(rows[0][name], rows[1][name], "{name}");
    }
    assert_eq!((&rows[1]["u"], &rows[1]["d"]), (&json!("\"Smith\""), &json!("1.500000000000000000")));
    // A column of integers holds no text: that is a change of type as ever.
    assert_eq!((&rows[1]["n"], &rows[1]["n__text"]), (&Value::Null, &json!("1")));
    assert!(run.stderr.contains("the type of \"n\" changed"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("changed to").count(), 1, "{}", run.stderr);
}

#[test]
fn names_that_differ_in_case_and_no_name_become_columns_of_their_own() {
    let d = Target::new();
    let properties = json!({"Name": {"type": "string"}, "name": {"type": "string"}, "NAME": {"type": "string"}, "": {"type": "integer"}, "name__2": {"type": "string"}});
    let head =
        schema("s", properties, &[], &[]).replace("\"bookmark_properties\":[]", "\"bookmark_properties\":[null]");
    let line = record("s", json!({"NAME": "a", "Name": "b", "name": "c", "name__2": "d", "": 7}));
    let run = d.run(head.clone() + &line);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stderr.matches("has the same name but for case").count(), 2, "{}", run.stderr);
    let row = d.rows("s").remove(0);
    let names: Vec<String> = row.as_object().unwrap().keys().map(|name| name.to_lowercase()).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), 5, "{row}");
    assert_eq!(row["unnamed"], 7);
    let values: std::collections::BTreeSet<_> = row.as_object().unwrap().values().map(Value::to_string).collect();
    assert_eq!(values.len(), 5, "{row}");
    // The next run knows them, and says nothing more.
    let run = d.run(head + &line);
    assert!(!run.stderr.contains("but for case"), "{}", run.stderr);
    assert_eq!(d.rows("s"), [row.clone(), row]);
}

#[test]
fn twins_that_a_folder_has_stay() {
    let d = Target::new();
    let properties = json!({"a": {"type": "string"}, "b": {"type": "string"}});
    assert_eq!(d.run(schema("s", properties, &[], &[]) + &record("s", json!({"a": "x", "b": "y"}))).code, 0);
    // As an earlier version wrote them.
    let path = d.out().join("_target/columns/s.json");
    let text = std::fs::read_to_string(&path).unwrap();
    if !text.contains("sum") {
        std::fs::write(&path, text.replace("\"b\"", "\"A\"")).unwrap();
        let properties = json!({"a": {"type": "string"}, "A": {"type": "string"}});
        assert_eq!(d.run(schema("s", properties, &[], &[]) + &record("s", json!({"a": "x", "A": "y"}))).code, 0);
        assert_eq!(d.rows("s").last(), Some(&json!({"a": "x", "A": "y"})));
    }
}

#[test]
fn keys_may_come_in_another_order_and_change_before_any_row() {
    let properties = || json!({"a": {"type": "integer"}, "b": {"type": "integer"}});
    let line = |a: i64| record("s", json!({"a": a, "b": 1}));
    let d = Target::new();
    let early = schema("s", properties(), &["b"], &[]);
    let run = d.run(early.clone() + &schema("s", properties(), &["a", "b"], &[]) + &line(1));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = d.run(schema("s", properties(), &["b", "a"], &[]) + &line(2));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(d.run(early.clone()).code, 7);
    // A file without rows is no row.
    let d = Target::new();
    for keys in [&["a"][..], &["b"], &[]] {
        let run = d.run(schema("s", properties(), keys, &[]) + &state(json!(keys)));
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(d.rows("s").is_empty() && d.files("s").len() == 1, "{:?}", d.files("s"));
    }
    assert_eq!(d.run(early + &line(1)).code, 0);
    assert_eq!(d.run(schema("s", properties(), &["a"], &[])).code, 7);
    assert_eq!(remembered(&d)["rows"], true);
}

#[test]
fn a_deletion_that_the_schema_declares_is_kept() {
    let time = "1970-01-01T00:00:01Z";
    let input = |declared: bool| {
        let mut properties = json!({"id": {"type": "integer"}});
        if declared {
            properties["_sdc_deleted_at"] = json!({"type": ["null", "string"], "format": "date-time"});
        }
        let rows = record("s", json!({"id": 1})) + &record("s", json!({"id": 1, "_sdc_deleted_at": time}));
        schema("s", properties, &["id"], &[]) + &rows
    };
    // The deletion is another row than the one that it deletes.
    for settings in [json!({"dedup": "always"}), json!({"dedup": "always", "add_record_metadata": true})] {
        let d = Target::with(settings);
        let run = d.run(input(true));
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(d.column("s", "_sdc_deleted_at"), [json!(null), json!(1_000_000)]);
    }
    let run = Target::new().run(input(false));
    assert!(warning(&run).contains("_sdc_deleted_at among them, which add_record_metadata keeps"), "{}", run.stderr);
}

#[test]
fn a_stream_without_rows_has_a_table_from_the_first_run_on() {
    let head = || schema("s", json!({"id": {"type": "integer"}, "t": {"type": "string"}}), &["id"], &["id"]);
    let row = |id: i64| record("s", json!({"id": id, "t": "x"}));
    for settings in [json!({}), json!({"partition_by": ["t"]}), json!({"load_method": "overwrite"})] {
        let d = Target::with(settings.clone());
        assert_eq!(d.run(head() + &state(json!(1))).code, 0);
        let files = d.files("s");
        assert_eq!((files.len(), d.rows("s").len()), (1, 0), "{settings}");
        let reader = parquet::file::reader::SerializedFileReader::new(std::fs::File::open(&files[0]).unwrap()).unwrap();
        let names = parquet::file::reader::FileReader::metadata(&reader).file_metadata().schema_descr().num_columns();
        assert_eq!(names, 2);
        // One is enough, also when rows come.
        assert_eq!(d.run(head() + &state(json!(2))).code, 0);
        assert_eq!(d.run(head() + &row(1) + &state(json!(3))).code, 0);
        assert_eq!(d.run(head() + &state(json!(4))).code, 0);
        if settings != json!({"load_method": "overwrite"}) {
            assert_eq!((d.files("s").len(), d.ids("s")), (2, vec![1]), "{settings}");
        }
    }
    // A run that failed, or was interrupted, makes none.
    let d = Target::new();
    assert_eq!(d.run(head() + "{").code, 6);
    assert!(d.files("s").is_empty());
    // The first version of a table is visible at once, as where no file is.
    let d = Target::new();
    assert_eq!(d.run(head() + &state(json!(1))).code, 0);
    let line = "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1,\"t\":\"x\"},\"version\":5}\n";
    assert_eq!(d.run(head() + line + &state(json!(2))).code, 0);
    assert_eq!(d.ids("s"), [1]);
}

#[test]
fn what_does_not_fit_is_null_or_kept_beside() {
    let properties = || {
        json!({
            "id": {"type": "integer"}, "n": {"type": "integer"}, "t": {"type": "string", "format": "date-time"},
            "s": {"type": "string"}, "d": {"type": "number", "multipleOf": 0.01},
        })
    };
    let lines = [
        json!({"id": 1, "n": 1, "t": "1970-01-01T00:00:00Z", "s": "x", "d": 1.5}),
        json!({"id": 2, "n": "one", "t": "yesterday", "s": {"a": [1, 2]}, "d": 1.5}),
        json!({"id": 3, "n": 1.5, "t": "1970-01-01T00:00:00Z", "s": 5, "d": 1.001}),
    ];
    let rows: String = lines.iter().map(|line| record("s", line.clone())).collect();
    let input = || schema("s", properties(), &["id"], &[]) + &rows;
    let d = Target::with(json!({"on_misfit": "null", "dedup": "always"}));
    let run = d.run(input() + &record("s", lines[1].clone()));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(warning(&run).contains("\"d\" 1, \"n\" 2, \"s\" 2, \"t\" 1"), "{}", run.stderr);
    let n = d.column("s", "n");
    assert_eq!(n, [json!(1), Value::Null, Value::Null]);
    assert_eq!(d.rows("s")[0].as_object().unwrap().len(), 5);

    let d = Target::with(json!({"on_misfit": "keep", "dedup": "always"}));
    let run = d.run(
        input()
            + &record("s", lines[1].clone())
            + &record("s", json!({"id": 4, "n": 4, "t": "1970-01-01T00:00:00Z", "s": "x", "d": 1})),
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(warning(&run).contains("\"d\" 1, \"n\" 2, \"s\" 2, \"t\" 1"), "{}", run.stderr);
    let rows = d.rows("s");
    assert_eq!(rows.len(), 4);
    let of = |id: i64, name: &str| rows.iter().find(|row| row["id"] == id).unwrap().get(name).cloned();
    assert_eq!((of(1, "n"), of(4, "n__misfit")), (Some(json!(1)), Some(Value::Null)));
    assert_eq!((of(2, "n"), of(2, "n__misfit")), (Some(Value::Null), Some(json!("\"one\""))));
    assert_eq!((of(2, "s__misfit"), of(2, "t__misfit")), (Some(json!("{\"a\":[1,2]}")), Some(json!("\"yesterday\""))));
    assert_eq!((of(3, "n__misfit"), of(3, "s__misfit")), (Some(json!("1.5")), Some(json!("5"))));
    assert_eq!(of(3, "d__misfit"), Some(json!("1.001")));
    // The next run has the columns at once, and the same SCHEMA again opens no new file.
    let more = |id: i64| record("s", json!({"id": id, "n": "x", "t": "1970-01-01T00:00:00Z", "s": "x", "d": 1}));
    let head = schema("s", properties(), &["id"], &[]);
    let before = d.files("s").len();
    assert_eq!(d.run(head.clone() + &more(5) + &head + &more(6)).code, 0);
    assert_eq!(d.files("s").len(), before + 1);
    assert_eq!(d.rows("s").last().unwrap()["n__misfit"], "\"x\"");
    // Two rows that differ in such a value only are two rows; keys are refused in any case.
    let twins = record("s", json!({"id": 7, "n": "a"})) + &record("s", json!({"id": 7, "n": "b"}));
    assert_eq!(d.run(head.clone() + &twins).code, 0);
    assert_eq!(d.ids("s").iter().filter(|id| **id == 7).count(), 2);
    for line in [json!({"id": "x"}), json!({"n": 1})] {
        let run = d.run(head.clone() + &record("s", line));
        assert_eq!(run.code, 7, "{}", run.stderr);
        assert!(run.stderr.contains("column \"id\""), "{}", run.stderr);
    }
}

#[test]
fn halves_of_surrogate_pairs_in_json_text_are_replaced_and_counted() {
    let value = "{\"\\ud83d\":[\"\\ud83d\\ude00\\udc00\"]}";
    let (column, run) = column_of(json!({"type": "object"}), &[value]);
    assert_eq!(column, [json!("{\"\\ufffd\":[\"\\ud83d\\ude00\\ufffd\"]}")]);
    assert!(warning(&run).contains("2 halves of surrogate pairs were written as U+FFFD"), "{}", run.stderr);
    let d = Target::with(json!({"lone_surrogates": "keep"}));
    let line = format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{\"v\":{value}}}}}\n");
    let run = d.run(schema("s", json!({"v": {"type": "object"}}), &[], &[]) + &line);
    assert_eq!(warning(&run), "");
    assert_eq!(d.column("s", "v"), [json!(value)]);
}

#[test]
fn a_folder_has_at_most_ten_thousand_columns_and_says_so() {
    let d = Target::new();
    let part =
        |kind: &str| (0..6_000).map(|n| (format!("c{n}"), json!({"type": kind}))).collect::<serde_json::Map<_, _>>();
    let head = |kind: &str| schema("s", Value::Object(part(kind)), &[], &[]);
    let row = |value: Value| record("s", json!({"c1": value}));
    let run = d.run(head("integer") + &row(json!(1)) + &state(json!(1)) + &head("string") + &row(json!("x")));
    assert_eq!((run.code, run.stdout.as_str()), (6, "1\n"), "{}", &run.stderr[run.stderr.len().saturating_sub(2000)..]);
    assert!(run.stderr.contains("its folder has 10000 columns, and no more are possible"));
    // What is there goes on.
    assert_eq!(d.run(head("integer") + &row(json!(2))).code, 0);
    assert_eq!(d.column("s", "c1"), [json!(1), json!(2)]);
}
