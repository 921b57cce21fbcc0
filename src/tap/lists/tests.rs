use super::*;
use crate::posthog::client::tests::{Play, error_answer, json_answer};
use crate::tap::tables::tests::{Run, run};

fn page(items: Value, next: Option<&str>) -> Play {
    json_answer(200, "", &json!({"results": items, "next": next}).to_string())
}

fn run_list(stream: &str, script: Vec<Play>) -> Run {
    run(stream, json!({}), State::default(), script)
}

#[test]
fn a_full_list_has_one_version_that_is_activated_behind_its_last_record() {
    let next = "http://elsewhere/?offset=1";
    let script = vec![
        page(json!([{"id": 1, "name": "a", "brand_new": [1.50], "deleted": 7}, {"id": 2}]), Some(next)),
        page(json!([{"id": 2, "name": "moved"}, {"id": 3, "created_at": "2026-01-01T00:00:00Z"}]), None),
    ];
    let run = run_list("cohorts", script);
    let version = run.messages[1]["version"].as_i64().unwrap();
    let records: Vec<&Value> = run.records();
    // A value that its column cannot hold, and what the schema does not know, are kept aside.
    assert_eq!(
        records,
        [
            &json!({"id": 1, "name": "a", "unmapped_fields": {"brand_new": [1.5], "deleted": 7}}),
            &json!({"id": 2}),
            &json!({"id": 3, "created_at": "2026-01-01T00:00:00Z"})
        ]
    );
    assert_eq!(run.messages[4], json!({"type": "ACTIVATE_VERSION", "stream": "cohorts", "version": version}));
    assert_eq!(run.messages[5]["type"], "STATE");
    assert_eq!(run.messages[5]["value"].get("bookmarks"), None);
    assert_eq!(*run.rows.as_ref().unwrap(), 3);
}

#[test]
fn a_list_that_breaks_off_activates_nothing() {
    let denied = error_answer(403, "", "permission_denied", "API key missing required scope 'cohort:read'");
    let run = run_list("cohorts", vec![page(json!([{"id": 1}]), Some("?offset=1")), denied]);
    assert_eq!(run.rows.as_ref().unwrap_err().kind(), Kind::Config);
    assert_eq!(run.types(), ["SCHEMA", "RECORD"]);
}

#[test]
fn an_incremental_list_gives_what_changed_since_its_bookmark() {
    let changed = |id: u64, at: Value| json!({"id": id, "updated_at": at});
    let items = json!([
        changed(1, json!("2026-01-01T00:00:00Z")),
        changed(2, json!("2026-01-02T00:00:00Z")),
        changed(3, Value::Null),
        changed(4, json!("2020-01-02T00:00:00Z")),
        changed(5, json!("2099-01-01T00:00:00Z")),
    ]);
    let at = |value: &str| json!({"replication_key": "updated_at", "replication_key_value": value});
    let state = State::from_value(json!({"bookmarks": {"annotations": at("2026-01-02T00:00:00.000000Z")}})).unwrap();
    let run = run("annotations", json!({}), state, vec![page(items, None)]);
    let ids: Vec<&Value> = run.records().into_iter().map(|record| &record["id"]).collect();
    // What is exactly as new as the bookmark came with it.
    assert_eq!(ids, [3, 5]);
    assert!(run.messages[1].get("version").is_none());
    // Never behind the time of the run less what clocks may differ.
    let bookmark = &run.messages.last().unwrap()["value"]["bookmarks"]["annotations"];
    assert_eq!(*bookmark, at("2027-01-15T07:55:00.000000Z"));
}

#[test]
fn a_project_shows_allowed_fields_only() {
    let project = json!({"id": 7, "name": "x", "api_token": "phc_secret", "slack_incoming_webhook": "https://x"});
    let run = run_list("projects", vec![json_answer(200, "", &project.to_string())]);
    assert_eq!(run.records(), [&json!({"id": 7, "name": "x"})]);
}

#[test]
fn definitions_of_properties_say_whose_they_are() {
    let of = |id: &str| page(json!([{"id": id, "name": "x"}]), None);
    let groups = json_answer(200, "", r#"[{"group_type": "org", "group_type_index": 3}]"#);
    let run = run_list("property_definitions", vec![of("e"), of("p"), of("s"), groups, of("g")]);
    let kinds: Vec<String> = run.records().iter().map(|r| format!("{} {}", r["type"], r["group_type_index"])).collect();
    assert_eq!(kinds, ["\"event\" null", "\"person\" null", "\"session\" null", "\"group\" 3"]);
    assert!(run.asked[4].contains("group_type_index=3"), "{:?}", run.asked);
}

#[test]
fn recordings_are_asked_from_a_day_before_the_bookmark() {
    let at = json!({"replication_key": "start_time", "replication_key_value": "2026-03-10T12:00:00.000000Z"});
    let state = State::from_value(json!({"bookmarks": {"session_recordings": at}})).unwrap();
    let item = json!({"id": "r", "start_time": "2026-03-09T00:00:00Z", "person": {"email": "x"}});
    let run = run("session_recordings", json!({}), state, vec![page(json!([item]), None)]);
    assert!(run.asked[0].contains("date_from=2026-03-08"), "{:?}", run.asked);
    assert_eq!(run.records(), [&json!({"id": "r", "start_time": "2026-03-09T00:00:00Z"})]);
}

#[test]
fn values_are_judged_by_their_schema() {
    let of = |kind: &str| json!({"type": ["null", kind]});
    let time = json!({"type": ["null", "string"], "format": "date-time"});
    for (schema, value) in [
        (of("integer"), "7"),
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
        (of("string"), "7"),
        (of("object"), "[]"),
        (json!({"type": "string"}), "null"),
        (time, "\"yesterday\""),
    ] {
        assert!(!fits(&schema, value), "{schema} {value}");
    }
}
