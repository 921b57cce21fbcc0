use super::*;
use proptest::prelude::*;
use serde_json::{Map, json};

fn schema() -> Value {
    let text = json!({"type": ["null", "string"]});
    json!({"properties_s": text, "properties_n": {"type": ["null", "number"]}, "properties_b": {"type": ["null", "boolean"]},
            "properties_a b\"c": text, "properties_": text, "properties_é": text, "unmapped_properties": {"type": ["null", "object"]}})
}

fn flatten(document: &str) -> String {
    let mut flattener = Flattener::default();
    for (name, schema) in schema().as_object().unwrap() {
        if let Some((_, property)) = Family::of_column(name) {
            flattener.add(name, property, schema);
        }
    }
    let first = record(&mut flattener, document);
    // As a later one, too: by then the order of its members is known.
    assert_eq!(record(&mut flattener, document), first);
    record(&mut flattener, r#"{"n":1,"s":"x","zz":[],"b":true,"é":"1"}"#);
    assert_eq!(record(&mut flattener, document), first);
    first
}

fn record(flattener: &mut Flattener, document: &str) -> String {
    flattener.read(document.as_bytes());
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    flattener.write_members(document.as_bytes(), &mut object);
    let unmapped = object.begin(&Label::new("unmapped_properties"));
    if flattener.has_unmapped() {
        flattener.write_unmapped(document.as_bytes(), unmapped);
    } else {
        unmapped.extend(b"null");
    }
    object.close();
    String::from_utf8(out).unwrap()
}

/// The documented rule that makes the properties of an event out of its columns again.
fn rebuild(record: &str) -> Map<String, Value> {
    let record: Map<String, Value> = serde_json::from_str(record).unwrap();
    let mut properties = Map::new();
    for (name, value) in &record {
        if let Some(property) = name.strip_prefix("properties_") {
            let nested = value.as_str().filter(|text| text.starts_with(['{', '[']));
            let value = nested.map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap());
            properties.insert(property.to_owned(), value);
        }
    }
    properties.extend(record["unmapped_properties"].as_object().cloned().unwrap_or_default());
    properties
}

#[test]
fn values_go_where_their_column_holds_them_exactly() {
    let cases = [
        (
            r#"{"s":"x","n":1.5,"b":true}"#,
            r#"{"properties_s":"x","properties_n":1.5,"properties_b":true,"unmapped_properties":null}"#,
        ),
        (r#"{"s":1,"n":"x","b":0}"#, r#"{"unmapped_properties":{"s":1,"n":"x","b":0}}"#),
        (
            r#"{"s":{"a":[1,"é\n"]},"n":9007199254740993}"#,
            r#"{"properties_s":"{\"a\":[1,\"é\\n\"]}","unmapped_properties":{"n":9007199254740993}}"#,
        ),
        (r#"{"s":"[not nested","n":1e308}"#, r#"{"properties_n":1e308,"unmapped_properties":{"s":"[not nested"}}"#),
        (r#"{"s":"\ud800","n":1e400,"x":1}"#, r#"{"unmapped_properties":{"s":"\ud800","n":1e400,"x":1}}"#),
        (r#"{"s":null,"other":null}"#, r#"{"unmapped_properties":{"other":null}}"#),
        (
            r#"{"a b\"c":"1","":"2","\u00e9":"3"}"#,
            r#"{"properties_a b\"c":"1","properties_":"2","properties_é":"3","unmapped_properties":null}"#,
        ),
        (r#"{"s":"\u005bx","\u007A":1}"#, r#"{"unmapped_properties":{"s":"\u005bx","\u007A":1}}"#),
        (r#"{"s":"\u007B","n":1}"#, r#"{"properties_n":1,"unmapped_properties":{"s":"\u007B"}}"#),
        (r#"{"s":2,"\u0073":"last"}"#, r#"{"properties_s":"last","unmapped_properties":null}"#),
        (r#"{"\u0073":"first","s":2,"n":"x","\u006e":1}"#, r#"{"properties_n":1,"unmapped_properties":{"s":2}}"#),
        (r#"{"s":"first","s":2}"#, r#"{"unmapped_properties":{"s":2}}"#),
        (r#"{"s":2,"s":"last"}"#, r#"{"properties_s":"last","unmapped_properties":null}"#),
        ("{", r#"{"unmapped_properties":{"$invalid_json":"{"}}"#),
        ("", r#"{"unmapped_properties":null}"#),
    ];
    for (document, expected) in cases {
        assert_eq!(flatten(document), expected, "{document}");
    }
}

#[test]
fn of_a_name_that_comes_again_the_last_value_counts() {
    let long = "x".repeat(LONG_BYTES);
    let cases = [
        (r#"{"s":"a","n":1,"s":"bb","b":true,"n":2}"#, r#"{"properties_s":"bb","properties_b":true,"properties_n":2"#),
        (r#"{"s":"a","n":1,"b":true,"s":null,"n":null}"#, r#"{"properties_b":true"#),
        (r#"{"n":1,"s":"LONG","n":3,"s":"b"}"#, r#"{"properties_n":3,"properties_s":"b""#),
        (r#"{"s":"b","n":1,"s":"LONG"}"#, r#"{"properties_n":1,"properties_s":"LONG""#),
        (r#"{"s":"b","s":"c","s":"LONG","s":"d","b":false}"#, r#"{"properties_s":"d","properties_b":false"#),
    ];
    for (document, expected) in cases {
        let record = flatten(&document.replace("LONG", &long));
        assert_eq!(record.replace(&long, "LONG"), format!("{expected},\"unmapped_properties\":null}}"), "{document}");
    }
}

#[test]
fn columns_of_other_types_hold_what_fits_them_as_it_was_written() {
    let null_or = |kind: &str| json!({"type": ["null", kind]});
    let time = json!({"type": ["null", "string"], "format": "date-time"});
    let cases = [
        (null_or("integer"), "7", true),
        (null_or("integer"), "7.5", false),
        (null_or("integer"), "9223372036854775808", false),
        (time.clone(), r#""2026-01-01T00:00:00Z""#, true),
        (time, r#""yesterday""#, false),
        (null_or("object"), r#"{"a": [1]}"#, true),
        (null_or("object"), "[1]", false),
        (null_or("array"), "[1.50]", true),
        (null_or("array"), r#""[1]""#, false),
    ];
    for (schema, value, fits) in cases {
        let mut flattener = Flattener::default();
        flattener.add("c", "x", &schema);
        let record = record(&mut flattener, &format!("{{\"x\":{value}}}"));
        let expected = if fits {
            format!("{{\"c\":{value},\"unmapped_properties\":null}}")
        } else {
            format!("{{\"unmapped_properties\":{{\"x\":{value}}}}}")
        };
        assert_eq!(record, expected, "{schema}");
        // An explicit null is an absent property, whatever stands behind it.
        for document in [r#"{"x":null}"#, r#"{"x":null,"y":1}"#] {
            assert!(!self::record(&mut flattener, document).contains("\"c\""), "{schema}");
        }
    }
}

#[test]
fn what_is_deselected_is_nowhere_and_line_breaks_do_not_get_into_a_line() {
    let mut flattener = Flattener::default();
    flattener.add("kept", "kept", &json!({"type": "string"}));
    flattener.leave_out("secret");
    flattener.leave_out("kept");
    let document = "{\"secret\": {\"a\": 1}, \"kept\": \"x\",\n \"o\": {\n\"a\" : [1,\r 2], \"t\": \"\\n \\\" \"}}";
    let expected = r#"{"kept":"x","unmapped_properties":{"o":{"a":[1,2],"t":"\n \" "}}}"#;
    assert_eq!(record(&mut flattener, document), expected);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e6..1e6f64).prop_map(Value::from),
        "[a\\[{\"\\\\é]{0,6}".prop_map(Value::from),
        any::<String>().prop_map(Value::from)
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|m| Value::Object(m.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn columns_and_unmapped_rebuild_every_document(properties in prop::collection::btree_map("(s|n|b|a b\"c||é|x|[a-z]{2})", value(), 0..8)) {
        let properties: Map<String, Value> = properties.into_iter().collect();
        let document = Value::Object(properties).to_string();
        let mut rebuilt = rebuild(&flatten(&document));
        rebuilt.sort_keys();
        // Read back, because the library's own reading of a number may differ from the number in the last bit.
        let mut expected: Map<String, Value> = serde_json::from_str(&document).unwrap();
        expected.sort_keys();
        prop_assert_eq!(Value::Object(rebuilt), Value::Object(expected));
    }

    /// Whatever may stand for a value, with and without white space that keeps a member from being a plain one.
    #[test]
    fn plain_members_are_taken_as_any_other(members in prop::collection::vec((member_name(), token()), 0..12)) {
        let write = |space: &str| {
            let members: Vec<String> = members.iter().map(|(name, token)| format!("\"{name}\":{space}{token}{space}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let document = write("");
        let is_valid = serde_json::from_str::<&serde_json::value::RawValue>(&document).is_ok();
        let flat = flatten(&document);
        prop_assert_eq!(flat.contains("$invalid_json"), !is_valid, "{}", flat);
        if is_valid {
            prop_assert_eq!(flat.replace(' ', ""), flatten(&write(" ")).replace(' ', ""));
        }
    }
}

fn member_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["s", "n", "b", "é", "x", "a b\\\"c", ""])
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{0,18}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?",
        "(true|false|null|tru|True|nul|falsee)",
        "\"[a-c:,\\[{é]{0,70}\"",
        "\"[a-c\\\\n\"]{0,6}\"",
        "(\\[1,\\{\\}\\]|\\{\"s\":\"n\"\\}|\\[|\\{\\]|)",
    ]
}
