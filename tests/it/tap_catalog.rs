//! Catalogs, ready-made, discovered and edited, against servers that have less than they ask for.

use serde_json::{Value as Json, json};

use crate::fake::events::realistic;
use crate::fake::{DAY_MICROS, Event, Fake, Fault, HOUR_MICROS, Options};
use crate::harness::{Run, Tap};

const ALL: &str = include_str!("../../catalog/all-streams-raw.json");
const EVENTS: &str = include_str!("../../catalog/events-only-raw.json");
/// What a server of some years ago did not have.
const NEW_COLUMNS: [&str; 10] = [
    "events.poe.properties",
    "events.person_mode",
    "events.$session_id",
    "events.$window_id",
    "events.$group_0",
    "events.$group_1",
    "events.$group_2",
    "events.$group_3",
    "events.$group_4",
    "raw_persons.last_seen_at",
];

fn fake(absent: &[&'static str]) -> Fake {
    let fake = Fake::start(Options { absent: absent.to_vec(), ..Options::default() });
    let mut world = fake.world();
    let now = world.now;
    world.insert(realistic(3, 50, now, 3));
    world.insert_row(
        "raw_persons",
        &json!({"id": "00000000-0000-0000-0000-000000000001", "created_at": "2026-08-01T00:00:00Z", "properties": "{}",
            "is_identified": 1, "is_deleted": 0, "version": 1}),
    );
    world.insert_row("cohort_people", &json!({"person_id": "00000000-0000-0000-0000-000000000001", "cohort_id": 1}));
    let start = chrono::DateTime::from_timestamp_micros(now - DAY_MICROS).unwrap().to_rfc3339();
    world.insert_row("sessions", &json!({"session_id": "s", "$start_timestamp": start, "$end_timestamp": start}));
    drop(world);
    fake
}

fn tap<'a>(fake: &'a Fake, catalog: &Json) -> Tap<'a> {
    let mut tap = Tap::new(fake).set("data_type", json!(null));
    tap.catalog = Some(catalog.to_string());
    tap
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn discovered(fake: &Fake) -> (Json, String) {
    let output = Tap::new(fake).set("data_type", json!(null)).arg("--discover").command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

fn schema(run: &Run, stream: &str) -> Json {
    let is_it = |message: &Json| message["type"] == "SCHEMA" && message["stream"] == stream;
    run.messages().into_iter().find(is_it).unwrap_or_else(|| panic!("no SCHEMA of {stream}"))["schema"].clone()
}

fn warnings<'a>(said: &'a str, part: &str) -> Vec<&'a str> {
    said.lines().filter(|line| line.contains(" WARNING ") && line.contains(part)).collect()
}

fn names(catalog: &Json) -> Vec<&str> {
    catalog["streams"].as_array().unwrap().iter().map(|stream| stream["stream"].as_str().unwrap()).collect()
}

/// Every record has only fields of its schema, and all that the schema requires.
fn fits(run: &Run) {
    let mut schemas = std::collections::HashMap::new();
    for message in run.messages() {
        let stream = message["stream"].as_str().unwrap_or_default().to_owned();
        if message["type"] == "SCHEMA" {
            schemas.insert(stream, message["schema"].clone());
        } else if message["type"] == "RECORD" {
            let schema = &schemas[&stream];
            for field in message["record"].as_object().unwrap().keys() {
                assert!(schema["properties"].get(field).is_some(), "{field} of {stream} is not declared");
            }
            for field in schema["required"].as_array().into_iter().flatten() {
                assert!(message["record"].get(field.as_str().unwrap()).is_some(), "{message} lacks {field}");
            }
        }
    }
}

#[test]
fn the_ready_made_catalog_of_all_streams_runs() {
    let fake = fake(&Options::default().absent);
    let run = tap(&fake, &parsed(ALL)).run().ends(0);
    let catalog = parsed(ALL);
    for stream in names(&catalog) {
        schema(&run, stream);
    }
    for (stream, count) in
        [("events", 50), ("cohorts", 137), ("insights", 215), ("persons", 1), ("session_recordings", 40)]
    {
        assert_eq!(run.records(stream).len(), count, "{stream}");
    }
    fits(&run);
    assert!(schema(&run, "persons")["properties"].get("last_seen_at").is_none());
    let said = warnings(&run.stderr, "left out of SCHEMA and RECORD");
    assert!(said.len() == 1 && said[0].contains("last_seen_at of persons"), "{}", run.stderr);
}

#[test]
fn the_ready_made_catalog_of_events_runs_on_an_old_server() {
    let fake = fake(&NEW_COLUMNS);
    let run = tap(&fake, &parsed(EVENTS)).run().ends(0);
    assert_eq!(run.records("events").len(), 50);
    fits(&run);
    let schema = schema(&run, "events");
    for gone in ["person_mode", "$session_id", "$group_0", "$group_4", "person_properties"] {
        assert!(schema["properties"].get(gone).is_none(), "{gone}");
        let said = warnings(&run.stderr, "left out of SCHEMA and RECORD");
        assert!(said.len() == 1 && said[0].contains(gone), "{}", run.stderr);
    }
}

#[test]
fn a_catalog_of_a_newer_server_runs_on_an_old_one() {
    let (mut catalog, _) = discovered(&fake(&[]));
    for stream in catalog["streams"].as_array_mut().unwrap() {
        stream["metadata"][0]["metadata"]["selected"] = true.into();
    }
    let old = fake(&NEW_COLUMNS);
    for path in ["experiments", "surveys", "session_recordings"] {
        old.world().fault(Fault::new("status").status(404).path(path));
    }
    let run = tap(&old, &catalog).run().ends(0);
    fits(&run);
    assert_eq!((run.records("events").len(), run.records("projects").len()), (50, 1));
    assert!(!run.stdout.contains("person_properties"), "a column that the server has not is in the SCHEMA");
    assert_eq!(warnings(&run.stderr, "left out of SCHEMA and RECORD").len(), 1, "{}", run.stderr);
    let left_out = warnings(&run.stderr, "left out: ");
    assert!(left_out.len() == 1 && left_out[0].contains("surveys"), "{}", run.stderr);
}

#[test]
fn a_field_that_the_catalog_makes_a_text_is_no_change_of_the_project() {
    let fake = fake(&[]);
    let (mut catalog, _) = discovered(&fake);
    for stream in catalog["streams"].as_array_mut().unwrap() {
        stream["metadata"][0]["metadata"]["selected"] = (stream["stream"] == "cohorts").into();
        if stream["stream"] == "cohorts" {
            stream["schema"]["properties"]["id"] = json!({"type": "string"});
        }
    }
    let run = tap(&fake, &catalog).run().ends(0);
    assert_eq!(run.records("cohorts")[136]["id"], "137");
    assert!(warnings(&run.stderr, "").is_empty(), "{}", run.stderr);
}

#[test]
fn a_replication_key_that_the_server_has_not_is_refused() {
    let fake = fake(&NEW_COLUMNS);
    let mut catalog = parsed(ALL);
    catalog["streams"].as_array_mut().unwrap().retain(|stream| stream["stream"] == "persons");
    catalog["streams"][0]["metadata"][0]["metadata"]["replication-method"] = "INCREMENTAL".into();
    catalog["streams"][0]["metadata"][0]["metadata"]["replication-key"] = "last_seen_at".into();
    let run = tap(&fake, &catalog).run().ends(3);
    run.complains(&["persons", "last_seen_at", "FULL_TABLE"]);
    assert_eq!(run.stdout, "");
}

/// One bookmark cannot serve both: the second one was empty.
#[test]
fn a_stream_that_stands_twice_in_a_catalog_is_refused_before_any_request() {
    let fake = fake(&[]);
    let mut catalog = parsed(EVENTS);
    let mut copy = catalog["streams"][0].clone();
    copy["stream"] = "events_copy".into();
    catalog["streams"].as_array_mut().unwrap().push(copy);
    let run = tap(&fake, &catalog).run().ends(3);
    run.complains(&["the stream events stands there twice"]);
    assert_eq!((run.stdout.as_str(), fake.world().log.len()), ("", 0));
}

#[test]
fn a_method_that_a_stream_does_not_have_is_one_warning() {
    let fake = fake(&[]);
    for method in ["FULL_TABLE", "LOG_BASED"] {
        for at_root in [true, false] {
            let mut catalog = parsed(EVENTS);
            match at_root {
                true => catalog["streams"][0]["replication-method"] = method.into(),
                false => catalog["streams"][0]["metadata"][0]["metadata"]["replication-method"] = method.into(),
            }
            catalog["streams"][0].as_object_mut().unwrap().shift_remove("replication_method");
            let run = tap(&fake, &catalog).run().ends(0);
            assert_eq!(run.records("events").len(), 50);
            let said = warnings(&run.stderr, &format!("events: it is always read INCREMENTAL; {method} is not used"));
            assert_eq!(said.len(), 1, "{}", run.stderr);
        }
    }
}

#[test]
fn lists_that_fail_are_left_out_of_discovery_at_once() {
    for key_is_told in [true, false] {
        let fake = fake(&[]);
        fake.world().fault(Fault::new("status").status(404).path("session_recordings"));
        fake.world().fault(Fault::new("server_500").path("surveys"));
        if !key_is_told {
            fake.world().fault(Fault::new("status").status(404).path("personal_api_keys"));
        }
        let (catalog, said) = discovered(&fake);
        let asked = |path: &str| fake.world().log.iter().filter(|request| request.path.contains(path)).count();
        assert_eq!((asked("session_recordings"), asked("surveys")), (1, 2), "{said}");
        assert!(fake.world().log.len() <= 20, "{} requests", fake.world().log.len());
        assert_eq!(names(&catalog).len(), 17, "{said}");
        let said = warnings(&said, "left out");
        assert!(said.len() == 1, "{said:?}");
        assert!(
            said[0].contains("session_recordings (this PostHog does not have it)")
                && said[0].contains("surveys (cannot")
        );
    }
}

#[test]
fn discovery_of_an_old_server_with_many_definitions_ends_within_twenty_requests() {
    // There are 18 more.
    for count in [1_982, 3_000] {
        let fake = fake(&NEW_COLUMNS);
        fake.world().fault(Fault::new("status").status(404).path("personal_api_keys"));
        fake.world().fault(Fault::new("status").status(404).path("surveys"));
        for number in 0..count {
            fake.world().objects.define_property("event", &format!("p{number}"), Some("String"));
        }
        let (catalog, said) = discovered(&fake);
        assert!(fake.world().log.len() <= 20, "{} requests for {count}", fake.world().log.len());
        assert_eq!(names(&catalog).len(), 18, "{said}");
        assert_eq!(warnings(&said, "property definitions were read").len(), usize::from(count == 3_000), "{said}");
    }
}

/// It refuses two keys of a query and lacks what is new, and the first request of each kind fails.
#[test]
fn discovery_of_an_old_server_that_fails_ends_within_twenty_requests_and_its_catalog_runs() {
    let absent = ["events.created_at", "events.event_person_id"];
    let fake = fake(&[NEW_COLUMNS.as_slice(), &absent].concat());
    fake.world().options.refuses = &["modifiers", "name"];
    let paths =
        ["personal_api_keys", "/query/", "experiments", "session_recordings", "surveys", "type=event", "type=person"];
    for (path, name) in paths.into_iter().zip(["server_500", "db_unavailable_503"].into_iter().cycle()) {
        fake.world().fault(Fault::new(name).path(path).next(1));
    }
    let (mut catalog, said) = discovered(&fake);
    let log = std::mem::take(&mut fake.world().log);
    assert!(log.len() <= 20, "{} requests: {log:#?}", log.len());
    assert_eq!(names(&catalog), names(&parsed(ALL)), "{said}");
    let untried = warnings(&said, "not tried");
    assert!(untried.len() == 1 && untried[0].contains("surveys"), "{said}");
    for stream in catalog["streams"].as_array_mut().unwrap() {
        let is_wanted = ["events", "groups", "surveys"].contains(&stream["stream"].as_str().unwrap());
        stream["metadata"][0]["metadata"]["selected"] = is_wanted.into();
        if stream["stream"] == "events" {
            let fields = stream["schema"]["properties"].as_object().unwrap();
            for gone in NEW_COLUMNS.iter().filter_map(|name| name.strip_prefix("events.")) {
                assert!(!fields.contains_key(gone), "{gone}");
            }
            assert!(fields.keys().any(|name| name.starts_with("properties_")), "{fields:?}");
        }
    }
    let run = tap(&fake, &catalog).run().ends(0);
    fits(&run);
    assert_eq!(run.records("events").len(), 50);
}

/// One for the key, one for events and for each table that differs, one for each list that not everybody has, two for
/// definitions.
#[test]
fn discovery_of_a_healthy_server_takes_ten_requests() {
    let fake = fake(&[]);
    let (catalog, said) = discovered(&fake);
    assert_eq!(names(&catalog), names(&parsed(ALL)), "{said}");
    assert!(warnings(&said, "").is_empty(), "{said}");
    let log = &fake.world().log;
    assert_eq!(log.len(), 10, "{log:#?}");
}

#[test]
fn fields_inside_of_fields_are_deselected_and_choices_that_do_not_count_are_said() {
    let fake = fake(&[]);
    let now = fake.world().now;
    fake.world().insert([Event::new(7, "e", now - HOUR_MICROS)]);
    let field = |path: &[&str], metadata: Json| json!({"breadcrumb": path, "metadata": metadata});
    let nested = ["properties", "created_by", "properties", "email"];
    let created_by = json!({"type": ["null", "object"], "properties": {"id": {"type": "integer"}, "email": {}}});
    let catalog = json!({"streams": [
        {"tap_stream_id": "cohorts", "stream": "cohorts", "key_properties": ["id"],
         "schema": {"type": "object", "properties": {"id": {"type": "integer"}, "created_by": created_by, "name": {}}},
         "metadata": [
             field(&[], json!({"selected": true})),
             field(&nested, json!({"inclusion": "available", "selected": false})),
             field(&["properties", "id"], json!({"inclusion": "automatic", "selected": false})),
             field(&["properties", "name"], json!({"inclusion": "unsupported", "selected": true})),
         ]},
        {"tap_stream_id": "surveys", "stream": "surveys", "key_properties": ["id"],
         "schema": {"type": "object", "properties": {"id": {"type": "string"}}},
         "metadata": [field(&[], json!({"inclusion": "unsupported", "selected": true}))]},
    ]});
    let run = tap(&fake, &catalog).run().ends(0);
    assert!(!run.stdout.contains("\"email\":") && !run.stdout.contains("fake@example.com"));
    let records = run.records("cohorts");
    let user = &records[0]["created_by"];
    assert_eq!((records.len(), &user["id"], &user["first_name"]), (137, &json!(1), &json!("Fake")));
    assert_eq!(warnings(&run.stderr, "cohorts: id cannot be deselected").len(), 1, "{}", run.stderr);
    assert_eq!(warnings(&run.stderr, "cohorts: name cannot be selected").len(), 1, "{}", run.stderr);
    assert_eq!(warnings(&run.stderr, "surveys: it cannot be selected").len(), 1, "{}", run.stderr);
}

/// The ready-made discovery of a project, with `events` (and `persons`) selected and changed by `change`.
fn changed_catalog(fake: &Fake, change: impl Fn(&mut Json)) -> Json {
    let (mut catalog, _) = discovered(fake);
    for stream in catalog["streams"].as_array_mut().unwrap() {
        let is_wanted = ["events", "persons"].contains(&stream["tap_stream_id"].as_str().unwrap());
        stream["metadata"][0]["metadata"]["selected"] = is_wanted.into();
        change(stream);
    }
    catalog
}

fn with_properties() -> Fake {
    let fake = fake(&[]);
    for (name, kind) in [("plan", "String"), ("price", "Numeric"), ("tags", "String")] {
        fake.world().objects.define_property("event", name, Some(kind));
        fake.world().objects.define_property("person", name, Some(kind));
    }
    let now = fake.world().now;
    let documents = [json!({"plan": "pro", "price": 7, "tags": ["a"]}), json!({"plan": 5, "price": 7.5, "tags": "b"})];
    for (n, document) in documents.iter().enumerate() {
        let event = Event::new(900 + n as u64, "priced", now - HOUR_MICROS).properties(document);
        fake.world().insert([event]);
    }
    fake
}

#[test]
fn deselected_properties_are_not_among_the_unmapped_ones_either() {
    let fake = with_properties();
    let catalog = changed_catalog(&fake, |stream| {
        for entry in stream["metadata"].as_array_mut().unwrap() {
            if entry["breadcrumb"][1].as_str().is_some_and(|name| name.ends_with("_plan")) {
                entry["metadata"]["selected"] = false.into();
            }
        }
    });
    let run = tap(&fake, &catalog).run().ends(0);
    fits(&run);
    let records = run.records("events");
    let priced: Vec<&Json> = records.iter().filter(|record| record["event"] == "priced").collect();
    assert_eq!(priced.len(), 2);
    assert!(priced.iter().all(|record| !record.to_string().contains("plan")), "{priced:?}");
    assert!(priced.iter().any(|record| record["properties_price"] == 7), "{priced:?}");
}

#[test]
fn the_type_that_a_catalog_gives_a_property_holds_for_its_records() {
    let fake = with_properties();
    let catalog = changed_catalog(&fake, |stream| {
        if stream["tap_stream_id"] == "events" {
            stream["schema"]["properties"]["properties_price"]["type"] = json!(["null", "integer"]);
            stream["schema"]["properties"]["properties_tags"]["type"] = json!(["null", "array"]);
        }
    });
    let run = tap(&fake, &catalog).run().ends(0);
    let records = run.records("events");
    let mut found: Vec<[&Json; 3]> = records
        .iter()
        .filter(|record| record["event"] == "priced")
        .map(|r| [&r["properties_price"], &r["properties_tags"], &r["unmapped_properties"]])
        .collect();
    found.sort_by_key(|found| found[0].is_null());
    assert_eq!(json!(found[0]), json!([7, ["a"], null]));
    assert_eq!(json!(found[1]), json!([null, null, {"plan": 5, "price": 7.5, "tags": "b"}]));
}

#[test]
fn a_stream_that_the_catalog_renames_keeps_its_bookmark() {
    let fake = fake(&[]);
    let catalog = changed_catalog(&fake, |stream| {
        if stream["tap_stream_id"] == "events" {
            stream["stream"] = "ph_events".into();
        }
    });
    let first = tap(&fake, &catalog).run().ends(0);
    assert_eq!(first.records("ph_events").len(), 50);
    assert!(first.last_state()["bookmarks"]["events"].is_object(), "{}", first.last_state());
    let second = tap(&fake, &catalog).state(&first.last_state()).run().ends(0);
    assert!(second.records("ph_events").is_empty());
}
