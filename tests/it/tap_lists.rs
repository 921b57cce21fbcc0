//! Streams other than events: lists that move while they are read, what a catalog deselects, what must not leave, tables
//! that some PostHogs lack, and what an incremental reading asks for.

use serde_json::{Value as Json, json};

use crate::fake::events::realistic;
use crate::fake::{Fake, HOUR_MICROS, Options, micros};
use crate::harness::{Run, Tap, Target, catalog, incremental, with_catalog};

fn id(digit: u8) -> String {
    format!("0000000{digit}-0000-4000-8000-000000000000")
}

#[test]
fn a_deletion_between_two_pages_hides_no_other_item() {
    for stream in ["insights", "cohorts"] {
        let fake = Fake::start(Options::default());
        let listed: Vec<String> = fake.world().objects.of(stream).iter().map(|item| item["id"].to_string()).collect();
        // The item behind the first page moves onto it, after that was read.
        fake.world().before_page(2, move |world| drop(world.objects.of(stream).remove(5)));
        let run = Tap::new(&fake).set("data_type", stream).run().ends(0);
        let mut came = run.texts(stream, "id");
        came.sort_by_key(|id| id.parse::<u64>().unwrap());
        assert_eq!(came, listed, "{stream}");
        assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    }
}

#[test]
fn a_bookmark_of_another_project_is_refused_and_one_without_a_name_is_taken() {
    let fake = Fake::start(Options::default());
    let host = fake.url().trim_start_matches("http://");
    for stream in ["feature_flags", "sessions"] {
        let tap = || Tap::new(&fake).set("data_type", stream);
        let mut state = tap().run().ends(0).last_state();
        assert_eq!(state["bookmarks"][stream]["source"], format!("{host}/1"));
        let run = tap().set("project_id", 3).state(&state).run().ends(3);
        run.complains(&[stream, &format!("belongs to {host}/1"), &format!("name {host}/3")]);
        assert!(run.records(stream).is_empty());
        // Also a stream that is read whole: its rows would replace those of the other project.
        let whole = tap().set("data_type", "cohorts").set("project_id", 3).state(&state).run().ends(3);
        whole.complains(&["state", &format!("belongs to {host}/1"), &format!("name {host}/3")]);
        state.as_object_mut().unwrap().shift_remove("source");
        state["bookmarks"][stream].as_object_mut().unwrap().shift_remove("source");
        tap().state(&state).run().ends(0);
    }
}

#[test]
fn a_page_of_large_items_is_read_in_parts() {
    let fake = Fake::start(Options::default());
    let text = "x".repeat(30_000);
    fake.world().objects.of("feature_flags").iter_mut().for_each(|flag| flag["name"] = json!(text));
    let tap = || Tap::new(&fake).set("data_type", "feature_flags").set("max_response_mb", 1);
    let mut came = tap().run().ends(0).texts("feature_flags", "id");
    came.sort_by_key(|id| id.parse::<u64>().unwrap());
    assert_eq!(came, (1..=230).map(|id| id.to_string()).collect::<Vec<_>>());
    let pages = fake.world().log.iter().filter(|request| request.path.contains("feature_flags")).count();
    assert!(pages <= 27, "{pages} requests");

    fake.world().objects.of("feature_flags")[7]["name"] = json!("x".repeat(1_100_000));
    let run = tap().run().ends(4);
    run.complains(&["feature_flags", "number 8", "max_response_mb", "raise it"]);
}

/// The machine's clock is far ahead of the fake's, which stands in August 2026.
#[test]
fn a_bookmark_does_not_pass_the_servers_clock_at_the_beginning() {
    let fake = Fake::start(Options { now: micros("2025-08-15T12:00:00Z"), ..Options::default() });
    // The first page is read already when its first item changes, and an item of the second one even later.
    fake.world().before_page(2, |world| {
        let flags = world.objects.of("feature_flags");
        flags[0]["updated_at"] = json!("2025-08-15T12:00:01Z");
        flags[150]["updated_at"] = json!("2025-08-15T12:00:02Z");
    });
    let tap = || Tap::new(&fake).set("data_type", "feature_flags");
    let state = tap().run().ends(0).last_state();
    let came = tap().state(&state).run().ends(0).texts("feature_flags", "id");
    assert!(came.contains(&"1".to_owned()), "the change of an item that was read before is lost: {came:?}; {state}");
}

#[test]
fn members_of_static_cohorts_come_in_the_same_version() {
    let member = |cohort: u64, person: u8| json!({"cohort_id": cohort, "person_id": id(person)});
    let fields = json!({"cohort_id": {"type": "integer"}, "person_id": {"type": "string"}});
    let given = catalog("cohort_people", &["cohort_id", "person_id"], &fields, &json!({}), &[]);
    let fill = |fake: &Fake, tables: &[&str]| {
        for (at, table) in tables.iter().enumerate() {
            let first = 1 + 2 * at as u8;
            (first..first + 2).for_each(|person| fake.world().insert_row(table, &member(7 + at as u64, person)));
        }
    };
    let fake = Fake::start(Options::default());
    fill(&fake, &["cohort_people", "static_cohort_people"]);
    let run = with_catalog(&fake, given.clone()).set("page_size", 1).run().ends(0);
    assert_eq!(run.texts("cohort_people", "cohort_id"), ["7", "7", "8", "8"]);
    assert_eq!(run.texts("cohort_people", "person_id"), [1, 2, 3, 4].map(id));
    let versions: Vec<Json> =
        run.messages().into_iter().filter_map(|mut message| message.get_mut("version").map(Json::take)).collect();
    assert!(versions.len() == 5 && versions.iter().all(|version| *version == versions[0]), "{versions:?}");

    let mut options = Options::default();
    options.absent.push("static_cohort_people");
    let fake = Fake::start(options);
    fill(&fake, &["cohort_people"]);
    let run = with_catalog(&fake, given).run().ends(0);
    assert_eq!(run.texts("cohort_people", "person_id"), [1, 2].map(id));
    let said = run.stderr.lines().filter(|line| line.contains("static_cohort_people")).count();
    assert_eq!(said, 1, "{}", run.stderr);
}

#[test]
fn numbers_and_booleans_are_text_where_the_catalog_says_so() {
    let fake = Fake::start(Options::default());
    fake.world().objects.of("cohorts")[0]["count"] = json!(u64::MAX);
    let (text, or_null) = (json!({"type": "string"}), json!({"type": ["string", "null"]}));
    let fields = json!({"id": text, "count": or_null, "is_static": or_null, "query": or_null, "filters": or_null,
        "created_at": {"type": "string", "format": "date-time"}, "unmapped_fields": {"type": ["null", "object"]}});
    let run = with_catalog(&fake, catalog("cohorts", &["id"], &fields, &json!({}), &[])).run().ends(0);
    let records = run.records("cohorts");
    assert_eq!(records.len(), 137);
    let first = &records[0];
    assert_eq!([&first["id"], &first["count"]], [&json!("1"), &json!("18446744073709551615")]);
    assert_eq!([&first["is_static"], &first["query"]], [&json!("false"), &Json::Null]);
    // Nothing else is turned into a text.
    assert!(first.get("filters").is_none() && first["unmapped_fields"]["filters"].is_object(), "{first}");
    assert!(run.messages()[1]["schema"]["properties"]["id"] == text, "{}", &run.stdout[..500]);
    Target::new().run(&run.stdout).ends(0);

    for (person, cohort) in [(1, 7), (2, 12)] {
        fake.world().insert_row("cohort_people", &json!({"cohort_id": cohort, "person_id": id(person)}));
    }
    let fields = json!({"cohort_id": text, "person_id": text});
    let given = catalog("cohort_people", &["cohort_id", "person_id"], &fields, &json!({}), &[]);
    let run = with_catalog(&fake, given).set("page_size", 1).run().ends(0);
    let cohorts: Vec<Json> = run.records("cohort_people").iter().map(|record| record["cohort_id"].clone()).collect();
    assert_eq!(cohorts, ["7", "12"]);
    Target::new().run(&run.stdout).ends(0);
}

#[test]
fn a_catalog_cannot_ask_for_the_secrets_of_a_project_and_hears_of_fields_that_there_are_not() {
    let fake = Fake::start(Options::default());
    let text = json!({"type": ["null", "string"]});
    let fields = json!({"id": {"type": "integer"}, "name": text, "secret_api_token": text,
        "unmapped_fields": {"type": ["null", "object"]}});
    let run = with_catalog(&fake, catalog("projects", &["id"], &fields, &json!({}), &[])).run().ends(0);
    assert_eq!(run.records("projects"), [json!({"id": 1, "name": "Fake project"})]);
    assert!(run.stderr.contains("no record has the fields secret_api_token"), "{}", run.stderr);
    // A field that only newer PostHogs have is nothing to warn of.
    let fields = json!({"id": {"type": "integer"}, "nmae": text, "derived_name": text, "updated_at": text});
    let run = with_catalog(&fake, catalog("insights", &["id"], &fields, &json!({}), &[])).run().ends(0);
    assert!(run.stderr.contains("no record has the fields nmae;"), "{}", run.stderr);
}

#[test]
fn losing_the_scope_of_groups_does_not_take_their_definitions_away() {
    let fake = Fake::start(Options::default());
    fake.world().keys[0].scopes = &["property_definition:read"];
    let given = catalog("property_definitions", &["id"], &json!({"id": {"type": "string"}}), &json!({}), &[]);
    let run = with_catalog(&fake, given).run().ends(3);
    run.complains(&["property_definitions", "group:read"]);
    assert!(!run.stdout.contains("ACTIVATE_VERSION"));
}

#[test]
fn persons_that_were_never_noted_as_seen_come_in_every_run() {
    let fake = Fake::start(Options { absent: Vec::new(), ..Options::default() });
    let seen = [json!("2026-08-01T00:00:00Z"), Json::Null, json!("2026-08-14T11:00:00Z")];
    for (at, seen) in seen.iter().enumerate() {
        fake.world().insert_row("raw_persons", &json!({"id": id(at as u8), "version": 1, "last_seen_at": seen}));
    }
    let (given, state) = incremental("persons", &["id"], "last_seen_at");
    let run = with_catalog(&fake, given).state(&state).run().ends(0);
    assert_eq!(run.texts("persons", "id"), [id(1), id(2)]);
    assert!(!run.stdout.contains("ACTIVATE_VERSION"));
}

#[test]
fn groups_and_definitions_can_be_read_from_their_last_change_on() {
    let fake = Fake::start(Options::default());
    for (key, updated) in [("old", "2026-08-14T10:00:00Z"), ("new", "2026-08-14T12:00:00Z")] {
        let row = json!({"index": 0, "key": key, "created_at": "2026-08-01T00:00:00Z", "updated_at": updated});
        fake.world().insert_row("raw_groups", &row);
    }
    let (given, state) = incremental("groups", &["group_key"], "updated_at");
    let run = with_catalog(
        &fake,
        given.replace(r#""properties":{"#, r#""properties":{"group_type_index":{"type":"integer"},"#),
    )
    .state(&state)
    .run()
    .ends(0);
    assert_eq!(run.texts("groups", "group_key"), ["new"]);
    assert_eq!(run.last_state()["bookmarks"]["groups"]["replication_key_value"], "2026-08-15T12:00:00.000000Z");
    for (stream, by) in [("event_definitions", "last_updated_at"), ("property_definitions", "updated_at")] {
        let kind = if stream == "event_definitions" { stream } else { "property_definitions:event" };
        let definition = |id: &str, at: Json| json!({"id": id, "name": id, by: at});
        let times = [json!("2026-08-14T10:00:00Z"), json!("2026-08-14T13:00:00Z"), Json::Null];
        *fake.world().objects.of(kind) =
            ["old", "new", "silent"].iter().zip(times).map(|(id, at)| definition(id, at)).collect();
        let (given, state) = incremental(stream, &["id"], by);
        let run = with_catalog(&fake, given).state(&state).run().ends(0);
        assert_eq!(run.texts(stream, "id")[..2], ["new", "silent"], "{stream}");
        assert_eq!(run.last_state()["bookmarks"][stream]["replication_key_value"], "2026-08-14T13:00:00.000000Z");
    }
}

#[test]
fn a_list_that_fails_does_not_stop_the_other_streams() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(5, 300, now, 4));
    let all = || Tap::new(&fake).set("data_type", json!(null));
    let before = all().run().ends(0);
    fake.world().objects.of("cohorts")[3]["id"] = json!(null);
    fake.world().objects.of("feature_flags")[3]["id"] = json!(null);
    fake.world().advance(HOUR_MICROS);
    let run = all().state(&before.last_state()).run().ends(4);
    let last = run.stderr.lines().last().unwrap();
    assert!(last.contains("CRITICAL") && last.contains("cohorts, feature_flags"), "{last}");
    let streams: Vec<_> =
        run.messages().iter().filter(|m| m["type"] == "SCHEMA").map(|m| m["stream"].clone()).collect();
    assert_eq!(streams[0], "events", "{streams:?}");
    assert!(streams.contains(&json!("persons")), "{streams:?}");
    let activated = |run: &Run, stream: &str| {
        run.messages().iter().any(|m| m["type"] == "ACTIVATE_VERSION" && m["stream"] == stream)
    };
    assert!(activated(&before, "cohorts") && !activated(&run, "cohorts") && activated(&run, "persons"));
    assert_eq!(before.last_state()["bookmarks"]["cohorts"], run.last_state()["bookmarks"]["cohorts"]);
    let horizon = |run: &Run| run.last_state()["bookmarks"]["events"]["replication_key_value"].clone();
    assert_ne!(horizon(&before), horizon(&run));
}
