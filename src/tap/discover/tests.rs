use super::properties::{PropertyType, flatten};
use super::*;
use crate::posthog::http::client::tests::{Play, error_answer, json_answer, options, serve};
use crate::singer::catalog::StreamEntry;
use crate::tap::stream::Source;
use serde_json::{Value, json};

fn config(flatten: bool) -> Config {
    Config::of(&json!({"api_key": "phx_discover_test", "project_id": 7, "flatten_properties": flatten}), 0).unwrap()
}

/// Discovers on a server that gives these answers in order; gives the catalog and what was asked.
fn discovered(script: Vec<Play>, flatten: bool) -> (Result<Catalog>, Vec<String>) {
    let server = serve(script);
    let client = Client::new(options(&server.base)).unwrap();
    let catalog = discover(&client, &config(flatten), 1_800_000_000_000_000);
    let seen = server.seen.lock().unwrap();
    let asked = seen.iter().map(|(head, body)| format!("{}{body}", head.split(' ').nth(1).unwrap())).collect();
    (catalog, asked)
}

fn key(scopes: &[&str], projects: &[u64]) -> Play {
    json_answer(200, "", &json!({"scopes": scopes, "scoped_teams": projects}).to_string())
}

fn columns(names: &[&str]) -> Play {
    json_answer(200, "", &json!({"columns": names, "results": []}).to_string())
}

fn event_columns(without: &str) -> Play {
    let schema = find("events").unwrap().entry().unwrap().schema;
    let asked =
        crate::tap::record::projection::Projection::of_events(schema["properties"].as_object().unwrap(), true, false);
    let names = asked.columns().iter().map(|column| column.name.as_str());
    columns(&names.filter(|name| *name != without).collect::<Vec<_>>())
}

fn names(catalog: &Catalog) -> Vec<String> {
    let value = catalog.to_value();
    let streams = value["streams"].as_array().unwrap();
    streams.iter().map(|stream| stream["tap_stream_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_key_lists_what_its_scopes_allow_without_asking_for_it() {
    let script = vec![
        key(&["query:read", "cohort:write"], &[7]),
        error_answer(400, "", "invalid_input", "Unable to resolve field: person_mode"),
        event_columns("person_mode"),
        columns(&["index", "key", "properties", "created_at"]),
        columns(&["id", "created_at", "properties", "is_identified", "last_seen_at"]),
        columns(&["session_id", "$start_timestamp"]),
    ];
    let (catalog, asked) = discovered(script, false);
    let catalog = catalog.unwrap();
    let expected = ["cohort_people", "cohorts", "events", "groups", "person_distinct_ids", "persons", "sessions"];
    assert_eq!(names(&catalog), expected);
    assert_eq!(asked.len(), 6, "{asked:?}");
    assert!(asked.iter().skip(1).all(|query| query.contains("LIMIT 0")));
    let fields = |name: &str| -> Vec<String> {
        let stream = catalog.only(&[name]).unwrap().selected().unwrap().remove(0);
        stream.schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    assert!(
        !fields("events").contains(&"person_mode".to_owned()) && fields("events").contains(&"properties".to_owned())
    );
    assert_eq!(
        fields("groups"),
        ["group_type_index", "group_key", "created_at", "group_properties", "unmapped_fields"]
    );
    assert_eq!(fields("sessions"), ["session_id", "$start_timestamp", "unmapped_fields"]);
    let value = catalog.to_value();
    assert_eq!(value["streams"][5]["metadata"][0]["metadata"]["valid-replication-keys"], json!(["last_seen_at"]));
}

#[test]
fn properties_become_columns_in_the_order_of_ids_up_to_their_bound() {
    let definition = |id: &str, name: &str, kind: Value| json!({"id": id, "name": name, "property_type": kind});
    let page = |items: Value| json_answer(200, "", &json!({"results": items, "next": null}).to_string());
    let script = vec![
        key(&["query:read", "property_definition:read"], &[]),
        event_columns(""),
        columns(&["index", "key", "properties", "created_at"]),
        columns(&["id", "created_at", "properties", "is_identified"]),
        columns(&["session_id", "$start_timestamp"]),
        page(json!([
            definition("2", "b", json!("Numeric")),
            definition("1", "c", Value::Null),
            definition("3", "", json!("Boolean"))
        ])),
        page(json!([])),
    ];
    let catalog = discovered(script, true).0.unwrap();
    // The stream of definitions also holds those of groups, which take another scope.
    assert!(names(&catalog).len() == 6 && !names(&catalog).contains(&"property_definitions".to_owned()));
    let events = catalog.only(&["events"]).unwrap().selected().unwrap().remove(0);
    let fields: Vec<String> = events.schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        fields[5..12],
        [
            "person_id",
            "properties_",
            "properties_b",
            "properties_c",
            "unmapped_properties",
            "unmapped_person_properties",
            "$session_id"
        ]
    );
    assert_eq!(events.schema["properties"]["properties_b"], json!({"type": ["null", "number"]}));
    let persons = catalog.only(&["persons"]).unwrap().selected().unwrap().remove(0);
    assert!(persons.schema["properties"].get("unmapped_properties").is_some());
}

#[test]
fn a_key_of_another_project_or_without_scopes_is_refused() {
    let (catalog, asked) = discovered(vec![key(&["*"], &[1, 2])], false);
    assert!(catalog.unwrap_err().to_string().contains("add project 7"));
    assert_eq!(asked.len(), 1);
    let error = discovered(vec![key(&[], &[])], false).0.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("query:read"), "{error}");
}

/// A server that gives one definition a page, however many are asked for.
#[test]
fn definitions_are_read_as_far_as_twenty_requests_go() {
    let mut script = vec![
        key(&["query:read", "property_definition:read"], &[]),
        event_columns(""),
        columns(&["index", "key", "properties", "created_at"]),
        columns(&["id", "created_at", "properties", "is_identified"]),
        columns(&["session_id", "$start_timestamp"]),
    ];
    let page = |number: usize| {
        let item = json!({"id": number.to_string(), "name": format!("p{number}"), "property_type": null});
        let (offset, kind) = (number / 2 + 1, ["event", "person"][number % 2]);
        let next = format!("http://x/?limit=1000&offset={offset}&type={kind}");
        json_answer(200, "", &json!({"count": 500, "results": [item], "next": next}).to_string())
    };
    script.extend((0..40).map(page));
    let (catalog, asked) = discovered(script, true);
    assert_eq!(asked.len(), 20);
    assert!(asked[5].contains("type=event") && asked[6].contains("type=person"), "{asked:?}");
    assert!(asked[7].contains("offset=1&type=event"), "{asked:?}");
    let events = catalog.unwrap().only(&["events"]).unwrap().selected().unwrap().remove(0);
    let fields = events.schema["properties"].as_object().unwrap();
    assert_eq!(fields.keys().filter(|name| name.contains("properties_p")).count(), 15);
}

/// Without its own query, PostHog computes an insight for the probe, or fails.
#[test]
fn a_list_is_probed_with_its_own_query() {
    let server = serve(vec![json_answer(200, "", r#"{"results":[]}"#)]);
    let client = Client::new(options(&server.base)).unwrap();
    let Source::List(list) = find("insights").unwrap().source else { panic!("not a list") };
    columns::try_list(&client, list, &client.options().retry_policy).unwrap();
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen[0].0.split(' ').nth(1).unwrap(), "/api/projects/7/insights/?basic=true&limit=1");
}

fn refused(detail: &str) -> Play {
    error_answer(400, "", "parse_error", detail)
}

/// What a server of some years ago says to the first queries.
fn old_server() -> Vec<Play> {
    let key =
        |key: &str| refused(&format!("1 validation error for QueryRequest\n{key}\n  Extra inputs are not permitted"));
    let field = |name: &str| refused(&format!("Unable to resolve field: {name}"));
    let columns = ["created_at", "$group_2", "poe", "person_mode", "$session_id", "$window_id", "event_person_id"];
    [key("modifiers"), key("name")].into_iter().chain(columns.map(field)).collect()
}

fn failure() -> Play {
    error_answer(500, "", "error", "A server error occurred.")
}

/// Every second request fails. What is not reached is in the catalog with all that it could have.
#[test]
fn twenty_requests_are_all_whatever_the_server_says() {
    let page = json!({"results": [{"id": "1", "name": "b", "property_type": "Numeric"}], "next": null}).to_string();
    // The description of the key; as much of `events` as leaves one request for each of three tables and three for
    // properties; these.
    let answers =
        std::iter::once(error_answer(404, "", "not_found", "Not found.")).chain(old_server().into_iter().take(6));
    let mut script: Vec<Play> = answers.flat_map(|answer| [failure(), answer]).collect();
    script.extend(vec![failure(); 3]);
    script.extend([failure(), json_answer(200, "", &page), failure()]);
    assert_eq!(script.len(), 20);
    script.extend(vec![failure(); 40]);
    let (catalog, asked) = discovered(script, true);
    assert_eq!(asked.len(), 20, "{asked:#?}");
    let catalog = catalog.unwrap();
    assert_eq!(names(&catalog).len(), STREAMS.len());
    let events = catalog.only(&["events"]).unwrap().selected().unwrap().remove(0);
    // No request was left to ask for created_at once more; a run asks.
    assert_eq!(events.replication_key.as_deref(), Some("created_at"));
    let fields = events.schema["properties"].as_object().unwrap();
    for gone in ["$group_0", "unmapped_person_properties", "person_mode"] {
        assert!(!fields.contains_key(gone), "{gone}");
    }
    for kept in ["properties_b", "unmapped_properties", "$session_id", "person_id"] {
        assert!(fields.contains_key(kept), "{kept}");
    }
    let sessions = catalog.only(&["sessions"]).unwrap().selected().unwrap().remove(0);
    assert_eq!(json!(sessions.schema), find("sessions").unwrap().entry().unwrap().schema);
}

#[test]
fn requests_that_are_refused_for_now_count_too() {
    let busy = error_answer(429, "", "throttled", "Exceeded maximum concurrency limit: 3 for key: x");
    let (catalog, asked) = discovered(vec![busy; 60], true);
    assert_eq!(asked.len(), 20, "{asked:#?}");
    assert_eq!(names(&catalog.unwrap()).len(), STREAMS.len());
}

/// It has to know its columns, however often it has to ask.
#[test]
fn a_run_goes_on_with_what_it_needs() {
    let mut script = vec![error_answer(404, "", "not_found", "Not found.")];
    // Both keys are refused while one query is on its way, which may fail three times.
    let often = |(number, answer)| [vec![failure(); 1 + usize::from(number > 2)], vec![answer]].concat();
    script.extend(old_server().into_iter().enumerate().flat_map(often));
    script.push(columns(&["uuid", "event", "distinct_id", "timestamp", "key_hash", "properties", "elements_chain"]));
    script.push(columns(&["timestamp", "person_id"]));
    // What would hold for the life of a state is asked once more, and beside it something that is there.
    script.push(refused("Unable to resolve field: created_at"));
    script.push(columns(&["timestamp"]));
    let sent = script.len();
    assert!(sent > 20);
    let server = serve(script);
    let client = Client::new(options(&server.base)).unwrap();
    let streams = Streams::Named { names: vec!["events".to_owned()], setting: "data_type".to_owned() };
    let config = Config { streams, ..config(false) };
    let streams = streams_of_run(&client, &config, None, 1_800_000_000_000_000).unwrap().streams;
    assert_eq!(server.seen.lock().unwrap().len(), sent);
    let fields = streams[0].schema["properties"].as_object().unwrap();
    assert!(!fields.contains_key("$session_id") && fields.contains_key("properties"));
    assert!(!fields.contains_key("created_at") && fields.contains_key("person_id"));
}

/// `catalog/*.json` are this, printed. To make them anew: `UPDATE_CATALOGS=1 cargo test ready_made`.
#[test]
fn ready_made_catalogs_are_what_the_code_makes() {
    let all = ready_made(|_| true).unwrap();
    let events = ready_made(|stream| stream.name == "events").unwrap();
    for (file, catalog) in [("all-streams-raw.json", all), ("events-only-raw.json", events)] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog").join(file);
        let text = format!("{}\n", serde_json::to_string_pretty(&catalog.to_value()).unwrap());
        if std::env::var_os("UPDATE_CATALOGS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{file}");
        assert_eq!(catalog.selected().unwrap().len(), names(&catalog).len());
    }
}

#[test]
fn properties_take_the_place_of_their_object() {
    let mut entry = find("events").unwrap().entry().unwrap();
    let defined = [("b", PropertyType::Number), ("$a", PropertyType::Text)];
    flatten(&mut entry, "properties", "properties", &defined.map(|(n, t)| (n.to_owned(), t)).into());
    let names: Vec<&String> = entry.schema["properties"].as_object().unwrap().keys().collect();
    let expected = ["person_id", "properties_$a", "properties_b", "unmapped_properties", "person_properties"];
    assert_eq!(names[5..10], expected);
}

/// The catalog of the streams that `wanted` chooses, as far as it does not depend on a project: properties are objects.
fn ready_made(wanted: impl Fn(&Stream) -> bool) -> Result<Catalog> {
    let chosen = STREAMS.iter().filter(|stream| wanted(stream));
    let entries: Vec<StreamEntry> = chosen
        .map(|stream| stream.entry().map(|entry| StreamEntry { selected_by_default: true, ..entry }))
        .collect::<Result<_>>()?;
    Ok(Catalog::discovered(&entries, None))
}
