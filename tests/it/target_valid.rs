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
    let property = json!({"type": "string", "format": "x-singer.decimal", "precision": 10, "scale": 2});
    let (column, run) = column_of(property, &values);
    assert_eq!(column, ["0.50", "1.50", "7.50", "5.00", "0.30", "19.99"].map(Value::from));
    assert!(warning(&run).contains("2 decimals had the noise of doubles"), "{}", run.stderr);
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
