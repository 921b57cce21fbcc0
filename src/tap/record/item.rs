//! Items of lists as text: what fits a field, and how it is written. A value is passed on as PostHog wrote it, to the last
//! digit; only white space between its parts is left out.

use indexmap::IndexMap;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::time::parse_rfc3339;

use super::cell::write_on_one_line;
use super::flatten::survives_a_double;
use super::table::write_label;

/// The field of what has no field of its own, as events have one for properties.
pub const UNMAPPED: &str = "unmapped_fields";

/// An item: its members as they were written.
pub type Item<'a> = IndexMap<String, &'a RawValue>;

/// Writes a record: its members, and in an object what has no field.
pub fn write_record(members: &Item<'_>, unmapped: &Item<'_>, out: &mut Vec<u8>) {
    write_members(members, out);
    if unmapped.is_empty() {
        return;
    }
    // Behind the last member: the object has its keys, so it is not empty.
    out.pop();
    out.push(b',');
    write_label(UNMAPPED, out);
    write_members(unmapped, out);
    out.push(b'}');
}

fn write_members(members: &Item<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    for (name, value) in members {
        if out.len() > start {
            out.push(b',');
        }
        write_label(name, out);
        write_on_one_line(value.get().as_bytes(), out);
    }
    out.push(b'}');
}

/// Whether a field of this schema takes text and nothing else, but for null. A number or a boolean goes into it as its text,
/// to the last digit: a catalog may ask for that, for keys that are compared with texts elsewhere.
#[must_use]
pub fn is_text(schema: &Value) -> bool {
    let has_type = match &schema["type"] {
        Value::Array(several) => {
            several.iter().any(|one| one == "string") && several.iter().all(|one| one == "string" || one == "null")
        }
        one => one == "string",
    };
    has_type && schema["format"].is_null()
}

/// A number or a boolean as a text; none for any other value.
#[must_use]
pub fn as_text(value: &RawValue) -> Option<Box<RawValue>> {
    let has_text = matches!(value.get().as_bytes().first(), Some(b'-' | b'0'..=b'9' | b't' | b'f'));
    has_text.then(|| RawValue::from_string(format!("\"{}\"", value.get())).ok())?
}

/// Whether a field of this schema holds exactly this value: it is of a type that the schema allows, no number that a
/// column of 64 bits would change, and a time where it has to be one.
#[must_use]
pub fn fits(schema: &Value, value: &str) -> bool {
    let allowed = |kind: &str| match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => true,
    };
    let is_time = || serde_json::from_str::<String>(value).is_ok_and(|text| parse_rfc3339(&text).is_some());
    match value.as_bytes().first() {
        Some(b'"') => allowed("string") && (schema["format"] != "date-time" || is_time()),
        Some(b'{') => allowed("object"),
        Some(b'[') => allowed("array"),
        Some(b't' | b'f') => allowed("boolean"),
        Some(b'n') => allowed("null"),
        _ => {
            let is_whole = || value.parse::<i64>().is_ok();
            allowed("integer") && is_whole() || allowed("number") && survives_a_double(value.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_judged_by_their_schema() {
        let of = |kind: &str| json!({"type": ["null", kind]});
        let time = json!({"type": ["null", "string"], "format": "date-time"});
        for (schema, value) in [
            (of("integer"), "7"),
            (of("integer"), "-9223372036854775808"),
            (of("number"), "7"),
            (of("number"), "-7.5e3"),
            (of("string"), "null"),
            (of("object"), "{}"),
            (of("array"), "[1]"),
            (of("boolean"), "false"),
            (time.clone(), "\"2026-01-01T00:00:00.5+02:00\""),
            (json!({}), "1"),
        ] {
            assert!(fits(&schema, value), "{schema} {value}");
        }
        for (schema, value) in [
            (of("integer"), "7.5"),
            (of("integer"), "9223372036854775808"),
            (of("number"), "9007199254740993"),
            (of("number"), "1e400"),
            (of("string"), "7"),
            (of("object"), "[]"),
            (json!({"type": "string"}), "null"),
            (time, "\"yesterday\""),
        ] {
            assert!(!fits(&schema, value), "{schema} {value}");
        }
    }

    #[test]
    fn numbers_and_booleans_become_their_text() {
        for (schema, is) in [
            (json!({"type": "string"}), true),
            (json!({"type": ["string", "null"]}), true),
            (json!({"type": ["null", "integer", "string"]}), false),
            (json!({"type": "string", "format": "date-time"}), false),
            (json!({"type": "null"}), false),
            (json!({}), false),
        ] {
            assert_eq!(is_text(&schema), is, "{schema}");
        }
        let text = |value: &str| Some(as_text(&RawValue::from_string(value.to_owned()).unwrap())?.get().to_owned());
        for value in ["7", "-1.50e400", "123456789012345678901", "true", "false"] {
            assert_eq!(text(value), Some(format!("\"{value}\"")));
        }
        for value in ["null", "\"7\"", "[7]", "{\"a\":7}"] {
            assert_eq!(text(value), None, "{value}");
        }
    }

    fn written(item: &str) -> String {
        let mut out = Vec::new();
        write_record(&serde_json::from_str(item).unwrap(), &Item::new(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_texts_stay_as_they_were_written_when_line_breaks_go() {
        let item =
            "{\"id\": 1, \"a\": [\n  1.50, 1e400,\r\n\t123456789012345678901234567890, \"x \\\" \\\\\" , \" y\\n\"\n]}";
        let expected = r#"{"id":1,"a":[1.50,1e400,123456789012345678901234567890,"x \" \\"," y\n"]}"#;
        assert_eq!(written(item), expected);
    }
}
