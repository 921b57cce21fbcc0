use serde_json::{Value, json};

use crate::error::Kind;
use crate::posthog::http::client::tests::{Play, error_answer, json_answer};
use crate::singer::state::State;
use crate::tap::tables::tests::{Run, run};

fn page(items: Value, next: Option<&str>) -> Play {
    json_answer(200, "", &json!({"results": items, "next": next}).to_string())
}

#[test]
fn half_a_surrogate_pair_is_replaced() {
    let item = r#"{"results": [{"id": 1, "name": "\ud83d", "new": {"\ude00": "\ud83d\ude00"}}], "next": null}"#;
    let run = run_list("cohorts", vec![json_answer(200, "", item)]);
    let new = json!({"new": {"\u{fffd}": "\u{1f600}"}});
    assert_eq!(run.records(), [&json!({"id": 1, "name": "\u{fffd}", "unmapped_fields": new})]);
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
fn a_list_that_is_gone_in_the_middle_fails_alone() {
    for (status, code, detail) in [(404, "not_found", "Invalid cursor"), (403, "permission_denied", "Not for you.")] {
        let gone = error_answer(status, "", code, detail);
        let run = run_list("cohorts", vec![page(json!([{"id": 1}]), Some("?cursor=x")), gone]);
        let error = run.rows.as_ref().unwrap_err();
        assert_eq!(error.kind(), Kind::Service);
        assert!(
            error.to_string().contains(detail) && error.to_string().contains("the other streams were read"),
            "{error}"
        );
    }
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

fn counted(count: u64, items: Value, next: Option<&str>) -> Play {
    json_answer(200, "", &json!({"count": count, "results": items, "next": next}).to_string())
}

fn ids(run: &Run) -> Vec<u64> {
    run.records().iter().map(|record| record["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_list_that_moved_while_it_was_read_is_read_again() {
    let item = |id: u64| json!({"id": id, "updated_at": "2026-01-02T00:00:00Z"});
    // 1 is deleted behind the first page: 3 moves onto it, and the second page begins with 4.
    let script = vec![
        counted(4, json!([item(1), item(2)]), Some("?offset=2")),
        counted(3, json!([item(4)]), None),
        counted(3, json!([item(2), item(3)]), Some("?offset=2")),
        counted(3, json!([item(4)]), None),
    ];
    let run = run_list("annotations", script);
    assert_eq!(ids(&run), [1, 2, 4, 3]);
    let bookmark = &run.messages.last().unwrap()["value"]["bookmarks"]["annotations"]["replication_key_value"];
    assert_eq!(bookmark, "2026-01-02T00:00:00.000000Z");
}

#[test]
fn a_list_that_lacks_items_activates_nothing_and_moves_no_bookmark() {
    let lacking = || (0..4).map(|_| counted(105, json!([]), None)).collect::<Vec<_>>();
    for stream in ["actions", "annotations"] {
        let run = run_list(stream, lacking());
        let error = run.rows.as_ref().unwrap_err();
        assert_eq!(error.kind(), Kind::Incomplete);
        assert!(error.to_string().contains("of 105 items that PostHog counts 0 came"), "{error}");
        // The STATE is the one behind all streams.
        assert_eq!(run.types(), ["SCHEMA", "STATE"]);
        assert_eq!(run.messages.last().unwrap()["value"]["bookmarks"].get(stream), None);
    }
    let warned = run("actions", json!({"count_proof": "warn"}), State::default(), lacking());
    assert_eq!((warned.rows.unwrap(), warned.asked.len()), (0, 4));
    let unproved = run("actions", json!({"count_proof": "off"}), State::default(), lacking());
    assert_eq!((unproved.rows.unwrap(), unproved.asked.len()), (0, 1));
}

/// As in discovery; the other streams are read.
#[test]
fn a_list_that_is_not_there_is_left_out_of_the_run() {
    for (code, text) in [("not_found", "Endpoint not found."), ("", "")] {
        for stream in ["cohorts", "annotations"] {
            let run = run_list(stream, vec![error_answer(404, "", code, text)]);
            assert_eq!((run.rows.as_ref().unwrap(), run.types()), (&0, vec!["STATE"]), "{stream}");
            assert_eq!(run.messages[0]["value"]["bookmarks"].get(stream), None);
        }
    }
}

#[test]
fn a_number_beyond_its_column_is_kept_aside() {
    let body = r#"{"results": [{"id": 2, "count": 99999999999999999999}], "next": null}"#;
    let run = run_list("cohorts", vec![json_answer(200, "", body)]);
    assert_eq!(run.records(), [&json!({"id": 2, "unmapped_fields": {"count": 1e20}})]);
}

#[test]
fn definitions_without_those_of_groups_are_not_made_current() {
    let of = |id: &str| page(json!([{"id": id, "name": "x"}]), None);
    let answer = |status, code, text| {
        run_list("property_definitions", vec![of("e"), of("p"), of("s"), error_answer(status, "", code, text)])
    };
    let run = answer(403, "permission_denied", "API key missing required scope 'group:read'");
    let error = run.rows.as_ref().unwrap_err();
    assert!(error.kind() == Kind::Config && error.to_string().contains("group:read"), "{error}");
    assert!(!run.types().contains(&"ACTIVATE_VERSION"));
    // A PostHog without groups has none of their properties.
    let run = answer(404, "not_found", "Endpoint not found.");
    assert_eq!((run.rows.as_ref().unwrap(), run.types()[4]), (&3, "ACTIVATE_VERSION"));
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
fn more_items_than_there_are_numbers_are_missing_items() {
    let far = |count: u64| json_answer(200, "", &json!({"results": [{"id": 1}], "count": count}).to_string());
    let run = run_list("cohorts", (0..4).map(|_| far(u64::MAX)).collect());
    assert_eq!(run.rows.as_ref().unwrap_err().kind(), Kind::Incomplete);
    assert_eq!(run.asked.len(), 4);
}
