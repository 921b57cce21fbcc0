use super::*;
use crate::posthog::query::page::Page;
use serde_json::json;

/// Puts documents through a page and a projection; gives the records as they are written.
pub(crate) fn records(schema: &Value, documents: &[&str]) -> Vec<String> {
    let mut projection = Projection::of_events(schema.as_object().unwrap(), true, false).keeping_lone_surrogates(true);
    let names: Vec<&str> = projection.columns().iter().map(|c| c.name.as_str()).collect();
    let row = |document: &str| -> Vec<Value> {
        names
            .iter()
            .map(|name| match *name {
                "uuid" => "01".into(),
                "event" => "say \"hi\"\n".into(),
                "timestamp" => "2026-08-01T00:00:00Z".into(),
                "created_at" => "2026-08-01T00:00:00.120000Z".into(),
                HASH_NAME => 7.into(),
                "properties" | "person_properties" => document.into(),
                _ => Value::Null,
            })
            .collect()
    };
    let rows: Vec<_> = documents.iter().map(|d| row(d)).collect();
    let body = json!({"columns": names, "results": rows}).to_string();
    let page = Page::parse(body.as_bytes(), &names).unwrap();
    page.rows()
        .map(|row| {
            let mut out = Vec::new();
            projection.write(&row, &mut out);
            String::from_utf8(out).unwrap()
        })
        .collect()
}

#[test]
fn nested_documents_pass_byte_for_byte() {
    let schema = json!({"uuid": {}, "event": {}, "timestamp": {}, "created_at": {}, "person_id": {}, "properties": {}});
    let document = r#"{"n":1.50,"big":123456789012345678901234567890,"s":"a\"b\\c\ud800é","o":{"x":[1, 2]}}"#;
    let records = records(&schema, &[document, "", "[1]", "{\"a\":1"]);
    let head = r#"{"uuid":"01","event":"say \"hi\"\n","timestamp":"2026-08-01T00:00:00.000000Z","created_at":"2026-08-01T00:00:00.120000Z","person_id":null,"properties":"#;
    assert_eq!(records[0], format!("{head}{document}}}"));
    assert_eq!(records[1], format!("{head}null}}"));
    assert_eq!(records[2], format!(r#"{head}{{"$invalid_json":"[1]"}}}}"#));
    assert_eq!(records[3], format!(r#"{head}{{"$invalid_json":"{{\"a\":1"}}}}"#));
}

#[test]
fn only_what_is_selected_is_asked_for() {
    let names = |schema: Value| -> Vec<String> {
        let projection = Projection::of_events(schema.as_object().unwrap(), true, false);
        projection.columns().iter().skip(6).map(|c| format!("{} AS {}", c.expression, c.name)).collect()
    };
    assert!(names(json!({"uuid": {}, "event": {}})).is_empty());
    assert_eq!(names(json!({"properties_a": {}})), ["properties AS properties"]);
    assert_eq!(names(json!({"unmapped_person_properties": {}})), ["poe.properties AS person_properties"]);
    assert_eq!(
        names(json!({"person_id": {}, "$session_id": {}})),
        ["event_person_id AS person_id", "`$session_id` AS $session_id"]
    );
}
#[test]
fn rows_become_records_of_their_schema() {
    let text = json!({"type": ["null", "string"]});
    let schema = json!({"id": {"type": "string"}, "at": {"type": ["null", "string"], "format": "date-time"},
        "is": {"type": ["null", "boolean"]}, "properties_a": text, "properties_n": {"type": ["null", "number"]},
        "unmapped_properties": {"type": ["null", "object"]}});
    let mut record = Projection::of_table(schema.as_object().unwrap(), |field| format!("{field}_column"));
    let names: Vec<&str> = record.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "at", "is", "properties"]);
    let rows = json!([["x", "2026-01-01T00:00:00", 1, r#"{"a":"é","n":"no","z":1.50}"#], ["y", null, false, ""]]);
    let body = json!({"columns": names, "results": rows}).to_string();
    let page = Page::parse(body.as_bytes(), &names).unwrap();
    let lines: Vec<String> = page
        .rows()
        .map(|row| {
            let mut out = Vec::new();
            record.write(&row, &mut out);
            String::from_utf8(out).unwrap()
        })
        .collect();
    let first = r#"{"id":"x","at":"2026-01-01T00:00:00.000000Z","is":true,"properties_a":"é","unmapped_properties":{"n":"no","z":1.50}}"#;
    assert_eq!(lines, [first, r#"{"id":"y","at":null,"is":false}"#]);
}

/// They used to be null, moved, cut, or `true`.
#[test]
fn what_a_field_of_a_table_cannot_hold_is_kept_aside_and_counted() {
    let or_null = |kind: &str| json!({"type": ["null", kind]});
    let mut schema = json!({"at": {"type": ["null", "string"], "format": "date-time"}, "is": or_null("boolean"),
        "count": or_null("integer"), "unmapped_fields": or_null("object")});
    let rows = json!([
        ["2026-01-01 00:00:00.123456", 1, 7],
        ["2026-01-01T00:00:00.123456789Z", 2, "7"],
        ["2026-01-01T23:59:60Z", "yes", 7.5],
        ["2026-01-01", null, [7]],
        ["soon", false, u64::MAX],
        ["10000-01-01T00:00:00Z", null, null],
        [1_767_225_600, null, null],
    ]);
    let body = json!({"columns": ["at", "is", "count"], "results": rows}).to_string();
    let page = Page::parse(body.as_bytes(), &["at", "is", "count"]).unwrap();
    let write = |schema: &Value| {
        let mut record = Projection::of_table(schema.as_object().unwrap(), str::to_owned);
        let mut lines = Vec::new();
        for row in page.rows() {
            let mut out = Vec::new();
            record.write(&row, &mut out);
            lines.push(serde_json::from_slice::<Value>(&out).unwrap());
        }
        (lines, record.exceptions().unfit)
    };
    let (lines, unfit) = write(&schema);
    assert_eq!(lines[0], json!({"at": "2026-01-01T00:00:00.123456Z", "is": true, "count": 7}));
    assert_eq!(lines[4], json!({"is": false, "unmapped_fields": {"at": "soon", "count": u64::MAX}}));
    for (line, row) in lines.iter().zip(rows.as_array().unwrap()).skip(1) {
        for (at, name) in ["at", "is", "count"].iter().enumerate().filter(|(at, _)| !row[at].is_null()) {
            assert!(line[name] == row[at] && at > 0 || line["unmapped_fields"][name] == row[at], "{line}");
        }
    }
    let kept_in = Some(UNMAPPED.to_owned());
    let counts: Vec<_> = unfit.iter().map(|unfit| (unfit.column.as_str(), unfit.count)).collect();
    assert_eq!((counts, &unfit[0].kept_in), (vec![("at", 6), ("count", 4), ("is", 2)], &kept_in));
    schema.as_object_mut().unwrap().remove(UNMAPPED);
    let (lines, unfit) = write(&schema);
    assert_eq!((&lines[4], &unfit[0].kept_in), (&json!({"is": false}), &None));
}
