//! Values in, values out: types, schema changes, partitions, metadata.

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Target, record, schema, state};

#[test]
fn every_type_comes_back() {
    let d = Target::new();
    let properties = json!({
        "id": {"type": "integer"}, "wide": {"type": ["null", "integer"], "maximum": 1e30},
        "n": {"type": ["null", "number"]}, "b": {"type": ["null", "boolean"]}, "s": {"type": ["null", "string"]},
        "o": {"type": ["null", "object"]}, "m": {"type": ["null", "integer", "string"]}, "any": {},
        "t": {"type": ["null", "string"], "format": "date-time"}, "day": {"type": "string", "format": "date"},
        "time": {"type": "string", "format": "time"}, "price": {"type": "number", "multipleOf": 0.01},
    });
    let line = r#"{"type":"RECORD","stream":"s","record":{"id":9223372036854775807,"wide":18446744073709551616,"n":0.1,"b":true,"s":"\u00e9\n","o":{"x": 1.0, "y":[1e-7,123456789012345678901234567890]},"m":"a","any":[],"t":"2026-03-01T05:30:00.000001+05:30","day":"2026-03-01","time":"00:00:01","price":12.5}}"#;
    let ran = d.run(format!("{}{line}\n{}", schema("s", properties, &["id"], &[]), state(json!({"x": 1}))));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\"x\":1}\n"), "{}", ran.stderr);
    assert_eq!(
        d.rows("s"),
        [json!({
            "id": i64::MAX, "wide": "18446744073709551616.", "n": 0.1, "b": true, "s": "é\n",
            "o": r#"{"x": 1.0, "y":[1e-7,123456789012345678901234567890]}"#, "m": "a", "any": "[]",
            "t": 1_772_323_200_000_001i64, "day": 20513, "time": 1_000_000, "price": "12.50",
        })]
    );
}

#[test]
fn what_does_not_fit_is_refused_with_its_place_and_without_its_value() {
    for (property, value) in [
        (json!({"type": "integer"}), "9223372036854775808"),
        (json!({"type": "integer"}), "\"secret\""),
        (json!({"type": "number"}), "9007199254740993"),
        (json!({"type": "number"}), "9007199254740993.0"),
        (json!({"type": "number"}), "9.007199254740993e15"),
        (json!({"type": "number"}), "1e400"),
        (json!({"type": "number"}), "1e-400"),
        (json!({"type": "string"}), "{\"secret\":1}"),
        (json!({"type": "string", "format": "date-time"}), "\"2026-02-30T00:00:00Z\""),
        (json!({"type": "string", "format": "date"}), "\"2026-02-03T00:00:01Z\""),
        (json!({"type": "string", "format": "time"}), "\"24:00:00\""),
        (json!({"type": "number", "multipleOf": 0.01}), "1.001"),
        (json!({"type": "boolean"}), "1"),
    ] {
        let d = Target::new();
        let good = "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":1}}\n";
        let bad = format!("{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{\"id\":2,\"secret col\":{value}}}}}\n");
        let properties = json!({"id": {"type": "integer"}, "secret col": property});
        let ran = d.run(format!("{}{good}{bad}{}", schema("s", properties, &["id"], &[]), state(json!(1))));
        assert_eq!((ran.code, ran.stdout.as_str()), (7, ""), "{value}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("line 3") && ran.stderr.contains("\"s\"") && ran.stderr.contains("\"secret col\""),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("\"secret\"") && !ran.stderr.contains("99254"), "{}", ran.stderr);
        assert!(d.files("s").is_empty());
    }
}

#[test]
fn strings_may_be_escaped_in_any_column() {
    let d = Target::new();
    let properties = json!({
        "t": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
        "time": {"type": "string", "format": "time"}, "price": {"type": "string", "format": "x-singer.decimal", "scale": 2, "precision": 9},
    });
    let line = r#"{"type":"RECORD","stream":"s","record":{"t":"1970-01-01T00:00:00\u002b00:00","day":"1970\u002d01-02","time":"00\u003a00:01","price":"1\u0032.5"}}"#;
    let ran = d.run(format!("{}{line}\n", schema("s", properties, &[], &[])));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.rows("s"), [json!({"t": 0, "day": 1, "time": 1_000_000, "price": "12.50"})]);
}

#[test]
fn keys_count_from_the_first_file_on() {
    let d = Target::new();
    let properties = || json!({"id": {"type": "integer"}});
    for keys in [&[][..], &["id"], &[]] {
        let ran = d.run(schema("s", properties(), keys, &[]) + &state(json!({"k": keys.len()})));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let ran = d.run(schema("s", properties(), &["id"], &[]) + &record("s", json!({"id": 1})));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.run(schema("s", properties(), &["id"], &[])).code, 0);
    assert_eq!(d.run(schema("s", properties(), &[], &[])).code, 7);
}

#[test]
fn a_property_whose_column_is_taken_is_said() {
    let d = Target::new();
    let properties = |kind: &str| json!({"a": {"type": kind}});
    d.run(schema("s", properties("integer"), &[], &[]) + &record("s", json!({"a": 1})));
    d.run(schema("s", properties("string"), &[], &[]) + &record("s", json!({"a": "x"})));
    let properties = json!({"a": {"type": "string"}, "a__text": {"type": "string"}});
    let ran = d.run(schema("s", properties, &[], &[]) + &record("s", json!({"a": "x", "a__text": "y"})));
    assert!(ran.stderr.contains("WARNING") && ran.stderr.contains("\"a__text__text\""), "{}", ran.stderr);
    assert_eq!(d.rows("s").last(), Some(&json!({"a__text": "x", "a__text__text": "y"})));
}

#[test]
fn more_partitions_than_fit_are_given_up_in_between() {
    let d = Target::with(json!({"memory_limit_mb": 32, "partition_by": ["id", "nothing"]}));
    let mut properties = json!({"id": {"type": "integer"}});
    for column in 0..199 {
        properties[format!("c{column}")] = json!({"type": ["null", "string"]});
    }
    let mut input = schema("s", properties, &["id"], &[]);
    let ids: Vec<i64> = (0..300).chain(0..20).chain(280..300).collect();
    for id in &ids {
        input += &record("s", json!({"id": id, "c7": "x"}));
    }
    let ran = d.run(input);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("property \"nothing\""), "{}", ran.stderr);
    let files = d.files("s").len();
    assert!(files > 300 && files < 330, "{files}");
    let mut got: Vec<i64> = d.column("s", "id").iter().map(|id| id.as_i64().unwrap()).collect();
    got.sort_unstable();
    let mut wanted = ids;
    wanted.sort_unstable();
    assert_eq!(got, wanted);
}

#[test]
fn a_schema_that_changes_makes_new_files_and_new_columns() {
    let d = Target::new();
    let mut input = String::new();
    for (id, properties) in [
        json!({"id": {"type": "integer"}}),
        json!({"id": {"type": "integer"}, "a": {"type": ["null", "integer"]}}),
        json!({"id": {"type": "integer"}, "a": {"type": ["null", "string"]}}),
        json!({"id": {"type": "integer"}, "a": {"type": ["null", "integer"]}, "b": {"type": ["null", "boolean"]}}),
    ]
    .into_iter()
    .enumerate()
    {
        let a = if id == 2 { json!("text") } else { json!(7) };
        input += &schema("s", properties.clone(), &["id"], &[]);
        input += &record("s", if id == 0 { json!({"id": id}) } else { json!({"id": id, "a": a}) });
    }
    let ran = d.run(input);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.files("s").len(), 4);
    assert_eq!(
        d.rows("s"),
        [
            json!({"id": 0}),
            json!({"id": 1, "a": 7}),
            json!({"id": 2, "a__text": "text"}),
            json!({"id": 3, "a": 7, "b": null})
        ]
    );
    // The next run remembers.
    let properties = json!({"id": {"type": "integer"}, "a": {"type": "string"}});
    let ran = d.run(schema("s", properties, &["id"], &[]) + &record("s", json!({"id": 9, "a": "x"})));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(d.rows("s").last(), Some(&json!({"id": 9, "a__text": "x"})));
    // Other keys are another table.
    let ran = d.run(schema("s", json!({"id": {"type": "integer"}, "a": {"type": "string"}}), &["a"], &[]));
    assert_eq!(ran.code, 7, "{}", ran.stderr);
}

#[test]
fn partitions_are_hive_folders() {
    let d = Target::with(json!({"partition_by": ["e", "t:day"]}));
    let properties = json!({"e": {"type": ["null", "string"]}, "t": {"type": "string", "format": "date-time"}});
    let mut input = schema("s", properties, &[], &[]);
    for (e, t) in [("a", "2026-03-01T23:00:00-02:00"), ("../b", "2026-03-01T00:00:00Z"), ("a", "2026-03-02T12:00:00Z")]
    {
        input += &record("s", json!({"t": t, "e": e}));
    }
    input += &record("s", json!({"t": "2026-03-01T00:00:00Z"}));
    let ran = d.run(input);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let folders: Vec<String> = d
        .files("s")
        .iter()
        .map(|f| f.parent().unwrap().strip_prefix(d.out()).unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        folders,
        ["s/e=..%2Fb/t_day=2026-03-01", "s/e=__HIVE_DEFAULT_PARTITION__/t_day=2026-03-01", "s/e=a/t_day=2026-03-02"]
    );
    assert_eq!(d.rows("s").len(), 4);
}

#[test]
fn metadata_columns_are_added_on_request_and_never_taken_from_the_input() {
    let properties = json!({"id": {"type": "integer"}, "_sdc_sequence": {"type": "integer"}});
    let line =
        r#"{"type":"RECORD","stream":"s","record":{"id":1,"_sdc_sequence":5},"time_extracted":"1970-01-01T00:00:01Z"}"#;
    let input = format!("{}{line}\n", schema("s", properties, &["id"], &[]));
    let d = Target::new();
    assert_eq!(d.run(&input).code, 0);
    assert_eq!(d.rows("s"), [json!({"id": 1})]);
    let d = Target::with(json!({"add_record_metadata": true}));
    assert_eq!(d.run(&input).code, 0);
    let row = &d.rows("s")[0];
    assert_eq!(row["_sdc_extracted_at"], 1_000_000);
    assert!(row["_sdc_sequence"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(row["_sdc_table_version"], Value::Null);
    // An escape makes no difference; what is no moment is null, and that is said.
    for (time, micros) in [("1970-01-01T00:00:01\\u005a", json!(1_000_000)), ("yesterday", Value::Null)] {
        let d = Target::with(json!({"add_record_metadata": true}));
        let ran = d.run(input.replace("1970-01-01T00:00:01Z", time));
        assert_eq!(d.rows("s")[0]["_sdc_extracted_at"], micros);
        assert_eq!(ran.stderr.contains("time_extracted of 1 records"), micros.is_null(), "{}", ran.stderr);
    }
}

#[test]
fn files_are_cut_by_rows_and_all_are_full() {
    let d = Target::with(json!({"batch_size_rows": 100}));
    let mut input = schema("s", json!({"id": {"type": "integer"}}), &["id"], &[]);
    for id in 0..250 {
        input += &record("s", json!({"id": id}));
    }
    assert_eq!(d.run(&input).code, 0);
    let counts: Vec<usize> = d.files("s").iter().map(|f| crate::harness::rows(f).len()).collect();
    assert_eq!(counts, [100, 100, 50]);
    // With a STATE every 40 rows a file takes whole intervals and no crumbs follow it.
    let d = Target::with(json!({"batch_size_rows": 100}));
    let mut input = schema("s", json!({"id": {"type": "integer"}}), &["id"], &[]);
    for id in 0..240 {
        input += &record("s", json!({"id": id}));
        if id % 40 == 39 {
            input += &state(json!(id));
        }
    }
    let ran = d.run(&input);
    assert_eq!(ran.stdout, "79\n159\n239\n");
    let counts: Vec<usize> = d.files("s").iter().map(|f| crate::harness::rows(f).len()).collect();
    assert_eq!(counts, [80, 80, 80]);
}

#[test]
fn all_codecs_write_files_that_read_back() {
    for codec in ["zstd", "snappy", "gzip", "brotli", "lz4", "none"] {
        let d = Target::with(json!({"compression_method": codec}));
        let input = schema("s", json!({"id": {"type": "integer"}}), &["id"], &[]) + &record("s", json!({"id": 1}));
        assert_eq!(d.run(input).code, 0, "{codec}");
        assert_eq!(d.rows("s"), [json!({"id": 1})], "{codec}");
    }
}

#[test]
fn json_text_is_declared_as_a_string_unless_asked_for() {
    for (settings, declared) in [(json!({}), "UTF8"), (json!({"json_logical_type": true}), "JSON")] {
        let d = Target::with(settings);
        let input = schema("s", json!({"o": {"type": "object"}}), &[], &[]) + &record("s", json!({"o": {"a": 1}}));
        assert_eq!(d.run(input).code, 0);
        let reader = SerializedFileReader::new(std::fs::File::open(&d.files("s")[0]).unwrap()).unwrap();
        let column = reader.metadata().file_metadata().schema_descr().column(0);
        assert_eq!(column.converted_type().to_string(), declared);
        assert_eq!(d.rows("s"), [json!({"o": "{\"a\":1}"})]);
    }
}

type Cells = (Option<i64>, Option<f64>, Option<bool>, Option<String>, Option<i64>, Times);
/// A moment, a date and a time of day in microseconds and days, and the cents of a decimal.
type Times = Option<(i64, i32, i64, i64)>;

fn cell() -> impl Strategy<Value = Cells> {
    // Also whole numbers beyond 2^53.
    let float = prop::option::of(prop_oneof![any::<f64>(), (-1e22f64..1e22).prop_map(f64::round)]);
    let times =
        (-62_135_596_800_000_000i64..253_402_300_800_000_000, -719_162i32..2_932_897, 0i64..86_400_000_000, 1000i64..);
    (
        any::<Option<i64>>(),
        float,
        any::<Option<bool>>(),
        any::<Option<String>>(),
        any::<Option<i64>>(),
        prop::option::of(times),
    )
}

fn moment(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn values_come_back(cells in prop::collection::vec(cell(), 0..200), order in any::<u64>()) {
        let d = Target::new();
        let properties = json!({
            "i": {"type": ["null", "integer"]}, "f": {"type": ["null", "number"]}, "b": {"type": ["null", "boolean"]},
            "s": {"type": ["null", "string"]}, "o": {"type": ["null", "array"]},
            "t": {"type": ["null", "string"], "format": "date-time"}, "d": {"type": ["null", "string"], "format": "date"},
            "c": {"type": ["null", "string"], "format": "time"}, "p": {"type": ["null", "number"], "multipleOf": 0.01},
        });
        let mut input = schema("s", properties, &[], &[]);
        let mut expected = Vec::new();
        for (row, (i, f, b, s, o, times)) in cells.iter().enumerate() {
            let f = f.filter(|f| f.is_finite());
            let o = o.map(|o| json!([o]));
            let t = times.map(|times| moment(times.0));
            let d = times.map(|times| moment(i64::from(times.1) * 86_400_000_000)[..10].to_owned());
            let c = times.map(|times| moment(times.2)[11..26].to_owned());
            let p = times.map(|times| format!("{}.{:02}", times.3 / 100, times.3 % 100));
            let decimal: Option<serde_json::Value> = p.as_deref().map(|_| json!("the decimal"));
            let full = json!({"i": i, "f": f, "b": b, "s": s, "o": o, "t": t, "d": d, "c": c, "p": decimal});
            let mut members: Vec<_> = full.as_object().unwrap().clone().into_iter().collect();
            if order >> (row % 64) & 1 == 1 {
                members.reverse();
                members.retain(|(_, value)| !value.is_null());
            }
            let line = record("s", Value::Object(members.into_iter().collect()));
            input += &line.replace("\"the decimal\"", p.as_deref().unwrap_or_default());
            expected.push(json!({
                "i": i, "f": f, "b": b, "s": s, "o": o.map(|o| o.to_string()), "t": times.map(|times| times.0),
                "d": times.map(|times| times.1), "c": times.map(|times| times.2), "p": p,
            }));
        }
        let ran = d.run(input);
        prop_assert_eq!(ran.code, 0, "{}", ran.stderr);
        prop_assert_eq!(d.rows("s"), expected);
    }
}
