//! Streams against a server that plays a script.

use serde_json::{Value, json};

use super::whole::sync_stream;
use crate::error::{Kind, Result};
use crate::posthog::http::client::Client;
use crate::posthog::http::client::tests::{Play, error_answer, json_answer, options, serve};
use crate::singer::catalog::{Method, SelectedStream};
use crate::singer::output::Output;
use crate::singer::state::State;
use crate::stop::Stop;
use crate::tap::config::Config;
use crate::tap::context::Context;
use crate::tap::record::item::UNMAPPED;
use crate::tap::replication::Replication;
use crate::tap::sink::Sink;
use crate::tap::stream::{Source, find};
use crate::tap::sync::sync;

const NOW: i64 = 1_800_000_000_000_000;

/// What a run of one stream wrote and asked.
pub(crate) struct Run {
    pub(crate) rows: Result<u64>,
    /// Without the first STATE.
    pub(crate) messages: Vec<Value>,
    pub(crate) asked: Vec<String>,
}

impl Run {
    pub(crate) fn records(&self) -> Vec<&Value> {
        self.messages.iter().filter_map(|message| message.get("record")).collect()
    }

    pub(crate) fn types(&self) -> Vec<&str> {
        self.messages.iter().filter_map(|message| message["type"].as_str()).collect()
    }
}

/// Runs one stream with all of its fields.
pub(crate) fn run(stream: &str, settings: Value, state: State, script: Vec<Play>) -> Run {
    let server = serve(script);
    let mut all = json!({"api_key": "phx_stream_test", "project_id": 7, "flatten_properties": false});
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let config = Config::of(&all, NOW).unwrap();
    let client = Client::new(options(&server.base)).unwrap();
    let stop = Stop::new();
    let selected = selected(stream);
    let mut written = Vec::new();
    let mut output = Output::new(&mut written);
    let context = Context { client: &client, config: &config, stop: &stop, now: NOW };
    let outcome = sync(&context, &[selected], state, &mut output);
    // What a failed run holds back is written when its output is closed.
    output.flush().unwrap();
    drop(output);
    let lines = String::from_utf8(written).unwrap();
    let messages: Vec<Value> = lines.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = messages.iter().filter(|message| message["type"] == "RECORD").count() as u64;
    let seen = server.seen.lock().unwrap();
    let asked = seen.iter().map(|(head, body)| format!("{}{body}", head.split(' ').nth(1).unwrap())).collect();
    // The loop repeats the state at the end of the run; here there is one stream, so once is enough.
    let mut messages = messages;
    messages.dedup_by(|a, b| a == b && a["type"] == "STATE");
    Run { rows: outcome.map(|()| rows), messages, asked }
}

/// The lines that a sink of the stream of this name wrote when `drive` had it.
pub(crate) fn with_sink(name: &str, drive: impl FnOnce(&mut Sink<'_, Vec<u8>>)) -> Vec<String> {
    let config = Config::of(&json!({"api_key": "phx_stream_test", "project_id": 7}), NOW).unwrap();
    let client = Client::new(options("http://127.0.0.1:1")).unwrap();
    let stop = Stop::new();
    let context = Context { client: &client, config: &config, stop: &stop, now: NOW };
    let stream = SelectedStream { name: name.to_owned(), ..selected("cohorts") };
    let (mut state, mut output) = (State::default(), Output::new(Vec::new()));
    drive(&mut Sink::new(&context, &stream, &mut state, &mut output));
    output.flush().unwrap();
    String::from_utf8(output.inner().clone()).unwrap().lines().map(str::to_owned).collect()
}

/// A stream with all of its fields.
fn selected(stream: &str) -> SelectedStream {
    let row = find(stream).unwrap();
    let entry = row.entry().unwrap();
    let mut selected = SelectedStream {
        id: stream.to_owned(),
        name: stream.to_owned(),
        schema: entry.schema,
        key_properties: entry.key_properties,
        replication_key: None,
        replication_method: None,
        fields_off: Vec::new(),
        nested_off: Vec::new(),
        source: None,
    };
    row.resolve(&mut selected).unwrap();
    selected
}

fn id(digit: u8) -> String {
    format!("{digit:08}-0000-4000-8000-000000000000")
}

/// Rows of `raw_persons`: (id, version, deleted).
fn raw_rows(rows: &[(u8, u64, u8)]) -> Play {
    let columns = ["id", "created_at", "is_identified", "last_seen_at", "properties", "version", "is_deleted"];
    let row = |&(digit, version, deleted): &(u8, u64, u8)| {
        json!([id(digit), "2026-01-01T00:00:00Z", 1, null, format!("{{\"v\":{version}}}"), version, deleted])
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json_answer(200, "", &json!({"columns": columns, "results": rows}).to_string())
}

/// How much there is of a table.
fn counted(rows: u64, keys: u64) -> Play {
    json_answer(200, "", &json!({"columns": ["rows", "keys"], "results": [[rows, keys]]}).to_string())
}

fn written(run: &Run) -> Vec<String> {
    run.records().iter().map(|r| format!("{} v{}", &r["id"].as_str().unwrap()[7..8], r["properties"]["v"])).collect()
}

#[test]
fn a_nested_cell_with_line_breaks_stays_on_one_line_and_says_no_state() {
    let nested = "[\n{\"type\":\"STATE\",\"value\":{\"bookmarks\":{}}}\n]";
    let columns = json!(["id", "created_at", "is_identified", "last_seen_at", "properties", "version", "is_deleted"]);
    let row = format!("[\"{}\",\"2026-01-01T00:00:00Z\",{nested},null,\"{{}}\",1,0]", id(1));
    let page = json_answer(200, "", &format!("{{\"columns\":{columns},\"results\":[{row}]}}"));
    let run = run("persons", json!({}), State::default(), vec![counted(1, 1), page]);
    let of_server = run.messages.iter().filter(|message| message["value"] == json!({"bookmarks": {}}));
    assert_eq!((of_server.count(), run.records().len()), (0, 1), "{:?}", run.messages);
}

#[test]
fn the_newest_version_counts_across_page_edges_and_tombstones_are_dropped() {
    let script = vec![
        counted(6, 3),
        raw_rows(&[(1, 1, 0), (1, 2, 0), (2, 1, 0)]),
        raw_rows(&[(2, 1, 0), (2, 2, 1), (3, 0, 0)]),
        raw_rows(&[(3, 0, 0), (3, 0, 1)]),
    ];
    let run = run("persons", json!({"page_size": 3}), State::default(), script);
    assert_eq!(written(&run), ["1 v2"]);
    assert!(run.asked[0].contains("uniqExact(id) AS keys FROM raw_persons LIMIT 1"), "{}", run.asked[0]);
    assert!(run.asked[1].contains("FROM raw_persons ORDER BY id LIMIT 3"), "{}", run.asked[1]);
    assert!(run.asked[2].contains(&format!("id >= '{}' ORDER BY id LIMIT 3", id(2))), "{}", run.asked[2]);
    assert!(run.asked[3].contains(&format!("id >= '{}'", id(3))), "{}", run.asked[3]);
    assert_eq!(run.types(), ["SCHEMA", "RECORD", "ACTIVATE_VERSION", "STATE"]);
    assert_eq!(run.messages[1]["version"], run.messages[2]["version"]);
    assert_eq!(run.messages[1]["record"]["is_identified"], true);
}

#[test]
fn a_page_of_one_key_lets_the_server_choose() {
    let pages = [raw_rows(&[(1, 1, 0), (1, 2, 0)]), raw_rows(&[(1, 9, 0)]), raw_rows(&[(2, 5, 0)])];
    let script = std::iter::once(counted(3, 2)).chain(pages).collect();
    let run = run("persons", json!({"page_size": 2}), State::default(), script);
    assert_eq!(written(&run), ["1 v9", "2 v5"]);
    let newest = format!("id = '{}' ORDER BY version DESC, is_deleted DESC LIMIT 1", id(1));
    assert!(run.asked[2].contains(&newest), "{}", run.asked[2]);
    assert!(run.asked[3].contains(&format!("id > '{}'", id(1))), "{}", run.asked[3]);
}

#[test]
fn a_refused_raw_table_is_replaced_and_too_much_is_asked_in_parts() {
    let columns = ["id", "created_at", "is_identified", "last_seen_at", "properties"];
    let rows = |digits: &[u8]| {
        let rows: Vec<Value> = digits.iter().map(|d| json!([id(*d), null, false, null, "{}"])).collect();
        json_answer(200, "", &json!({"columns": columns, "results": rows}).to_string())
    };
    let script = vec![
        error_answer(400, "", "invalid_input", "Unknown table `raw_persons`."),
        error_answer(400, "", "invalid_input", "Unknown table `raw_persons`."),
        counted(3, 3),
        error_answer(513, "", "clickhouse_memory_limit_exceeded", "Query ran out of memory."),
        rows(&[1, 2]),
        rows(&[3]),
    ];
    let run = run("persons", json!({"page_size": 4}), State::default(), script);
    assert_eq!(run.records().len(), 3);
    assert!(run.asked[3].contains("FROM persons ORDER BY id LIMIT 4"), "{}", run.asked[3]);
    assert!(run.asked[4].contains("FROM persons ORDER BY id LIMIT 2"), "{}", run.asked[4]);
    assert!(run.asked[5].contains(&format!("id > '{}'", id(2))), "{}", run.asked[5]);
}

#[test]
fn a_reading_that_breaks_off_activates_nothing() {
    let script = vec![
        counted(3, 3),
        raw_rows(&[(1, 1, 0), (2, 1, 0)]),
        error_answer(403, "", "permission_denied", "API key missing required scope 'query:read'"),
    ];
    let run = run("persons", json!({"page_size": 2}), State::default(), script);
    assert_eq!(run.rows.as_ref().unwrap_err().kind(), Kind::Config);
    assert_eq!(run.messages.iter().filter(|m| m["type"] == "RECORD").count(), 1);
    assert!(!run.messages.iter().any(|m| m["type"] == "ACTIVATE_VERSION"));
}

#[test]
fn persons_by_last_seen_start_an_hour_and_the_lookback_before_the_bookmark() {
    let now = |us: i64| json_answer(200, "", &json!({"columns": ["now"], "results": [[us / 1_000_000]]}).to_string());
    let columns = ["id", "created_at", "is_identified", "last_seen_at", "properties"];
    let page = json_answer(200, "", &json!({"columns": columns, "results": []}).to_string());
    let server = serve(vec![now(NOW), counted(0, 0), page]);
    let config = Config::of(&json!({"api_key": "phx_stream_test", "project_id": 7}), NOW).unwrap();
    let client = Client::new(options(&server.base)).unwrap();
    let stop = Stop::new();
    let stream = SelectedStream {
        replication_key: Some("last_seen_at".to_owned()),
        replication_method: Some(Method::Incremental),
        ..selected("persons")
    };
    let at = json!({"replication_key": "last_seen_at", "replication_key_value": "2026-01-01T05:00:00.000000Z"});
    let mut state = State::from_value(json!({"bookmarks": {"persons": at}})).unwrap();
    let context = Context { client: &client, config: &config, stop: &stop, now: NOW };
    let row = find("persons").unwrap();
    let Source::Table(table) = row.source else { panic!("not a table") };
    let replication = Replication::of(&context, &stream, row.method, &state).unwrap();
    let mut output = Output::new(Vec::new());
    let mut sink = Sink::new(&context, &stream, &mut state, &mut output);
    sync_stream(&context, &stream, table, replication, &mut sink).unwrap();
    let asked = server.seen.lock().unwrap()[2].1.clone();
    assert!(
        asked.contains("FROM persons WHERE (last_seen_at >= toDateTime64('2026-01-01 03:45:00.000000', 6, 'UTC') OR last_seen_at IS NULL)"),
        "{asked}"
    );
    assert_eq!(state.bookmark("persons").unwrap().unwrap()["replication_key_value"], "2027-01-15T08:00:00.000000Z");
}

/// The columns that `sessions` is asked for: all of its fields but the one of what does not fit.
fn session_columns() -> Vec<String> {
    let schema = find("sessions").unwrap().entry().unwrap().schema;
    let fields = schema["properties"].as_object().unwrap().keys();
    fields.filter(|name| *name != UNMAPPED).cloned().collect()
}

#[test]
fn sessions_are_read_in_stretches() {
    let now = json_answer(200, "", &json!({"columns": ["now"], "results": [[NOW / 1_000_000]]}).to_string());
    let names = session_columns();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = |ids: &[&str]| {
        let cell = |id: &str, name: &&str| match *name {
            "session_id" => json!(id),
            "$start_timestamp" => json!("2027-01-12T00:00:00.5Z"),
            _ => Value::Null,
        };
        let rows: Vec<Value> = ids.iter().map(|id| names.iter().map(|name| cell(id, name)).collect()).collect();
        json_answer(200, "", &json!({"columns": names, "results": rows}).to_string())
    };
    let at = json!({"replication_key": "$start_timestamp", "replication_key_value": "2027-01-15T03:00:00.000000Z"});
    let state = State::from_value(json!({"bookmarks": {"sessions": at}})).unwrap();
    let script = vec![now, counted(1, 1), rows(&["b"]), counted(2, 2), rows(&["a", "c"]), counted(0, 0), rows(&[])];
    let run = run("sessions", json!({}), state, script);
    assert_eq!(*run.rows.as_ref().unwrap(), 3);
    let day = |day: u32| format!("toDateTime64('2027-01-{day:02} 00:00:00.000000', 6, 'UTC')");
    let bound = format!("`$start_timestamp` >= {} AND `$start_timestamp` < {}", day(12), day(13));
    assert!([1, 2].iter().all(|at| run.asked[*at].contains(&bound)), "{}", run.asked[2]);
    // A stretch with few rows makes the next one longer; the last one ends with the server's clock.
    assert!(run.asked[4].contains(&format!(">= {} AND `$start_timestamp` < {}", day(13), day(15))), "{}", run.asked[4]);
    assert!(run.asked[6].contains("< toDateTime64('2027-01-15 08:00:00.000000', 6, 'UTC')"), "{}", run.asked[6]);
    assert_eq!(run.types(), ["SCHEMA", "RECORD", "RECORD", "RECORD", "STATE"]);
    let last = &run.messages.last().unwrap()["value"]["bookmarks"]["sessions"]["replication_key_value"];
    assert_eq!(last, "2027-01-15T08:00:00.000000Z");
}

/// A STATE keeps its pace; whatever ends the run, the last whole stretch is said where no row came behind it.
#[test]
fn sessions_that_break_off_say_their_last_whole_stretch() {
    let now = json_answer(200, "", &json!({"columns": ["now"], "results": [[NOW / 1_000_000]]}).to_string());
    let names = session_columns();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cell = |name: &&str| if *name == "session_id" { json!("b") } else { Value::Null };
    let row: Vec<Value> = names.iter().map(cell).collect();
    let rows = json_answer(200, "", &json!({"columns": names, "results": [row]}).to_string());
    let at = json!({"replication_key": "$start_timestamp", "replication_key_value": "2027-01-15T03:00:00.000000Z"});
    let state = State::from_value(json!({"bookmarks": {"sessions": at}})).unwrap();
    let denied = error_answer(403, "", "permission_denied", "API key missing required scope 'query:read'");
    let run = run("sessions", json!({}), state, vec![now, counted(1, 1), rows, denied]);
    assert!(run.rows.is_err());
    assert_eq!(run.types(), ["SCHEMA", "RECORD", "STATE"]);
    let last = &run.messages.last().unwrap()["value"]["bookmarks"]["sessions"]["replication_key_value"];
    assert_eq!(last, "2027-01-13T00:00:00.000000Z");
}

#[test]
fn sessions_pass_the_time_before_1970_in_one_stretch_and_empty_years_in_few() {
    let now = json_answer(200, "", &json!({"columns": ["now"], "results": [[NOW / 1_000_000]]}).to_string());
    let names = session_columns();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let nothing = json!({"columns": names, "results": []}).to_string();
    let script =
        std::iter::once(now).chain((0..40).flat_map(|_| [counted(0, 0), json_answer(200, "", &nothing)])).collect();
    let run = run("sessions", json!({"initial_since": "1960-01-01"}), State::default(), script);
    assert_eq!(*run.rows.as_ref().unwrap(), 0);
    assert!(run.asked[1].contains("< toDateTime64('1970-01-02 00:00:00.000000', 6, 'UTC')"), "{}", run.asked[1]);
    assert!(run.asked.len() < 50, "{} requests", run.asked.len());
    let last = &run.messages.last().unwrap()["value"]["bookmarks"]["sessions"]["replication_key_value"];
    assert_eq!(last, "2027-01-15T08:00:00.000000Z");
}
