//! A state is checked before the first request, and before anything is printed, for every selected stream: what this program
//! did not write is refused and never means "start over".

use serde_json::{Value as Json, json};

use crate::fake::{Event, Fake, HOUR_MICROS, Options, Zone, micros};
use crate::harness::{Tap, incremental, same_once, with_catalog};

const BEGAN: &str = "2026-08-15T11:50:00Z";

/// Thirty events, one each ten seconds.
fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let at = |n: u64| micros(BEGAN) + i64::try_from(n).unwrap() * 10_000_000;
    fake.world().insert((0..30).map(|n| Event::new(n, "e", at(n)).created(at(n))));
    fake.world().advance(HOUR_MICROS);
    fake
}

/// The run is refused before it asks for anything or prints anything.
fn refused(fake: &Fake, tap: &Tap<'_>, said: &[&str]) {
    refused_by(fake, tap, &[&["state"], said].concat());
}

fn refused_by(fake: &Fake, tap: &Tap<'_>, said: &[&str]) {
    fake.world().log.clear();
    let run = tap.run().ends(3);
    run.complains(said);
    assert_eq!(run.stdout, "", "printed");
    assert_eq!(fake.world().log.len(), 0, "requests were sent");
}

/// A state of a finished run of `events`.
fn finished(fake: &Fake) -> Json {
    Tap::new(fake).run().ends(0).last_state()
}

fn with(state: &Json, pointer: &str, value: Json) -> Json {
    let mut state = state.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    state.pointer_mut(parent).unwrap()[name] = value;
    state
}

#[test]
fn nothing_given_means_start() {
    let fake = fake();
    for state in
        [json!({}), json!({"singer_state": {}}), json!({"bookmarks": {}}), json!({"bookmarks": {"events": {}}})]
    {
        assert_eq!(Tap::new(&fake).state(&state).run().ends(0).events().len(), 30, "{state}");
    }
}

#[test]
fn a_state_in_a_wrapper_is_the_state() {
    let fake = fake();
    let state = finished(&fake);
    for wrapped in [
        json!({"singer_state": state}),
        json!({"completed": {"singer_state": state}}),
        json!({"value": state}),
        json!({"type": "STATE", "value": state}),
    ] {
        let run = Tap::new(&fake).state(&wrapped).run().ends(0);
        assert_eq!(run.events().len(), 0, "started over");
        assert_eq!(run.messages()[0]["value"], state, "the wrapper is carried along");
    }
}

#[test]
fn a_root_without_bookmarks_is_refused_and_says_what_was_found() {
    let fake = fake();
    for (given, said) in [
        (json!({"events": {"cursor": "2026-08-15"}}), "no bookmarks; it has events"),
        (json!({"events": "2026-08-15"}), "no bookmarks; it has events"),
        (json!({"seen_uuids": []}), "it has seen_uuids"),
        (json!({"type": "RECORD", "value": {}}), "it has type, value"),
        (json!({"bookmarks": null}), "bookmarks is null"),
        (json!({"bookmarks": "events"}), "bookmarks is a text"),
        (json!({"bookmarks": []}), "bookmarks is a list"),
        (json!({"singer_state": "{}"}), "singer_state: it is a text"),
        (json!({"singer_state": {"bookmarks": null}}), "bookmarks is null"),
        (json!({"completed": {}}), "completed.singer_state: it is null"),
        (json!({"type": "STATE"}), "value: it is null"),
    ] {
        refused(&fake, &Tap::new(&fake).state(&given), &[said]);
        // Also where no stream that is read has use for a bookmark.
        refused(&fake, &Tap::new(&fake).set("data_type", "cohorts").state(&given), &[said]);
    }
}

#[test]
fn states_of_the_older_component_are_upgraded_and_nothing_older_is_read_again() {
    let fake = fake();
    let held = fake.world().held();
    let last_run = micros(BEGAN) + 150_000_000;
    let time = Zone::Utc.rfc3339(last_run);
    let mut seen: Vec<String> =
        held.iter().filter(|held| held.created_at < last_run).map(|held| held.identity.uuid.to_uppercase()).collect();
    let new = || held.iter().filter(|held| held.created_at >= last_run).cloned();
    let by_description = json!({"last_run": time, "seen_uuids": seen});
    let last_uuid = seen.pop();
    let by_driver = json!({"last_timestamp": time, "last_uuid": last_uuid});
    let persons = json!({"last_timestamp": time, "last_uuid": null});
    let flat = json!({"last_timestamp": time, "last_uuid": last_uuid, "recent_uuids": seen});
    for given in [
        by_description.clone(),
        json!({"events_state": by_description}),
        json!({"bookmarks": {"events": by_description}}),
        json!({"events_state": by_driver, "recent_uuids": seen}),
        json!({"events_state": by_driver, "persons_state": persons, "recent_uuids": seen}),
        json!({"events_state": flat}),
        flat.clone(),
        json!({"singer_state": flat}),
    ] {
        let run = Tap::new(&fake).state(&given).run().ends(0);
        same_once(&given.to_string(), &run.events(), new());
        let state = run.last_state();
        assert!(state["bookmarks"]["events"]["replication_key_value"].is_string(), "{state}");
        for member in ["events_state", "persons_state", "recent_uuids", "seen_uuids", "last_uuid", "last_timestamp"] {
            assert_eq!(state.get(member), None, "{member} is left over");
        }
        assert!(Tap::new(&fake).state(&state).run().ends(0).events().is_empty());
    }
    // Persons are read whole; what is said of the events waits for them.
    let given = json!({"events_state": by_driver, "persons_state": persons, "recent_uuids": seen});
    let state = Tap::new(&fake).set("data_type", "persons").state(&given).run().ends(0).last_state();
    same_once("events after persons", &Tap::new(&fake).state(&state).run().ends(0).events(), new());
}

#[test]
fn broken_states_of_the_older_component_are_refused() {
    let fake = fake();
    let time = "2026-08-15T11:50:00";
    for (given, said) in [
        (json!({"last_run": 5, "seen_uuids": []}), "last_run"),
        (json!({"last_run": null}), "last_run"),
        (json!({"last_run": "soon"}), "last_run"),
        (json!({"last_run": "9999-12-31T00:00:00Z"}), "last_run"),
        (json!({"last_run": time, "seen_uuids": 7}), "seen_uuids"),
        (json!({"last_run": time, "seen_uuids": [7]}), "seen_uuids"),
        (json!({"last_timestamp": time, "recent_uuids": "a"}), "recent_uuids"),
        (json!({"last_timestamp": time, "last_uuid": {}}), "last_uuid"),
        (json!({"last_timestamp": null, "last_uuid": "a"}), "last_timestamp"),
        (json!({"events_state": {"cursor": time}}), "events_state"),
        (json!({"persons_state": {}, "events_state": "x"}), "events_state"),
        (json!({"bookmarks": {"events": {"last_run": 7}}}), "last_run"),
    ] {
        refused(&fake, &Tap::new(&fake).state(&given), &[said]);
    }
}

#[test]
fn a_bookmark_of_events_that_this_program_did_not_write_is_refused_by_its_member() {
    let fake = fake();
    let state = finished(&fake);
    let huge = json!(i64::MAX);
    for (member, values) in [
        ("form", vec![json!(4), json!(u64::MAX), json!("2"), json!(null), json!(0), json!(-1)]),
        ("source", vec![json!(7), json!(null)]),
        ("replication_key", vec![json!("id"), json!(7)]),
        (
            "replication_key_value",
            vec![json!(7), json!("soon"), json!("0001-01-01T00:00:00Z"), json!("9999-12-31T00:00:00Z")],
        ),
        ("since", vec![json!("2026"), json!(i64::MIN), huge.clone()]),
        ("filters", vec![json!(null), json!([]), json!("x")]),
        ("runs", vec![json!(u64::MAX), json!(-1), json!(1.5), json!("1")]),
        ("overlap", vec![json!(7), json!([])]),
        ("overlap/from", vec![json!(i64::MIN), huge.clone(), json!("x")]),
        ("overlap/seconds", vec![json!(0), json!(-1), huge.clone()]),
        (
            "overlap/cells",
            vec![
                json!(7),
                json!([7]),
                json!([[0, 0]]),
                json!([[i64::MIN, 0, ""]]),
                json!([[1, u64::MAX, ""]]),
                json!([[1, 0, ""], [1, 0, ""]]),
            ],
        ),
        ("ledger/from", vec![json!(i64::MIN), json!(null)]),
        ("ledger/late_days", vec![json!(u32::MAX), json!(-1)]),
        (
            "ledger/hours",
            vec![json!({}), json!([[0]]), json!([[huge, 1]]), json!([[0, u64::MAX]]), json!([[1, 1], [0, 1]])],
        ),
        ("seen_uuids", vec![json!(7), json!([7]), json!("a")]),
        ("run", vec![json!(7), json!([]), json!("x")]),
    ] {
        for value in values {
            let broken = with(&state, &format!("/bookmarks/events/{member}"), value);
            refused(&fake, &Tap::new(&fake).state(&broken), &["stream events", &member.replace('/', ".")]);
        }
    }
    for member in ["runs", "replication_key_value"] {
        let mut lacking = state.clone();
        lacking["bookmarks"]["events"].as_object_mut().unwrap().shift_remove(member);
        refused(&fake, &Tap::new(&fake).state(&lacking), &["stream events", member]);
    }
    // Also where it says that no run has ended: it would mean starting over.
    let no_time =
        with(&with(&state, "/bookmarks/events/runs", json!(0)), "/bookmarks/events/replication_key_value", json!(null));
    refused(&fake, &Tap::new(&fake).state(&no_time), &["stream events", "replication_key_value"]);
    let damaged = with(&state, "/bookmarks/events/overlap/cells", json!([[1, 0, "AAAA"]]));
    refused(&fake, &Tap::new(&fake).state(&damaged), &["stream events", "overlap"]);
}

#[test]
fn a_half_done_run_with_numbers_out_of_range_is_refused_and_never_a_panic_or_a_hang() {
    let fake = fake();
    let state = finished(&fake);
    let bookmark = &state["bookmarks"]["events"];
    let pass = json!({"since": 0, "until": 9, "arrived_from": null, "arrived_until": null});
    let run = json!({"horizon": micros(BEGAN), "columns": "c", "passes": [pass], "overlap": bookmark["overlap"], "ledger": bookmark["ledger"]});
    let state = with(&state, "/bookmarks/events/run", run);
    // Nothing is wrong with it, but its rows were chosen by other settings.
    let tap = Tap::new(&fake).set("event_types", json!(["other"])).state(&state);
    refused_by(&fake, &tap, &["event_types", "half done"]);
    let cursor = json!({"day": "2026-08-15", "event": "e", "hash": "1", "row": [i64::MAX, "019fbc99-bec2-7afe-a3d9-f07224cdf735", 0]});
    for (member, value) in [
        ("run/horizon", json!(i64::MAX)),
        ("run/horizon", json!(i64::MIN)),
        ("run/horizon", json!("x")),
        ("run/columns", json!(7)),
        ("run/passes", json!(7)),
        ("run/passes/0/since", json!(i64::MIN)),
        ("run/passes/0/until", json!(i64::MAX)),
        ("run/passes/0/arrived_from", json!("x")),
        ("run/passes/0/cursor", cursor),
        ("run/overlap/from", json!(i64::MIN)),
        ("run/ledger/hours", json!([[0, u64::MAX]])),
    ] {
        let broken = with(&state, &format!("/bookmarks/events/{member}"), value);
        refused(
            &fake,
            &Tap::new(&fake).state(&broken),
            &["stream events", &member.replace("/0", "[0]").replace('/', ".")],
        );
    }
    let form_1 = json!({"form": 1, "source": bookmark["source"], "replication_key": "created_at", "filters": {}, "runs": 3,
        "seen_from": i64::MIN});
    refused(&fake, &Tap::new(&fake).state(&json!({"bookmarks": {"events": form_1}})), &["stream events", "seen_from"]);
}

#[test]
fn a_bookmark_that_is_no_object_is_refused_for_every_stream() {
    let fake = fake();
    for stream in ["events", "cohorts", "persons", "feature_flags", "sessions"] {
        for bookmark in [json!("2026-08-15"), json!(17), json!(null), json!([]), json!(true)] {
            let state = json!({"bookmarks": {stream: bookmark}});
            refused(&fake, &Tap::new(&fake).set("data_type", stream).state(&state), &["stream", stream]);
        }
    }
    // Streams that are not selected are carried along.
    let state = json!({"bookmarks": {"sessions": "2026-08-15", "cohorts": 17}});
    let kept = Tap::new(&fake).state(&state).run().ends(0).last_state();
    assert_eq!((&kept["bookmarks"]["sessions"], &kept["bookmarks"]["cohorts"]), (&json!("2026-08-15"), &json!(17)));
}

#[test]
fn a_broken_bookmark_of_a_list_or_a_table_does_not_mean_starting_over() {
    let fake = fake();
    for (stream, keys, by, other) in [
        ("feature_flags", &["id"][..], "updated_at", "created_at"),
        ("groups", &["group_type_index", "group_key"], "updated_at", "created_at"),
        ("persons", &["id"], "last_seen_at", "created_at"),
        ("sessions", &["session_id"], "$start_timestamp", "start_time"),
    ] {
        let (catalog, state) = incremental(stream, keys, by);
        let tap = || with_catalog(&fake, catalog.clone());
        let path = format!("/bookmarks/{stream}");
        for (member, value) in [
            ("replication_key_value", json!("garbage")),
            ("replication_key_value", json!(17)),
            ("replication_key_value", json!(null)),
            ("replication_key_value", json!("0001-01-01T00:00:00Z")),
            ("replication_key_value", json!("9999-12-31T00:00:00Z")),
            ("replication_key", json!(other)),
            ("replication_key", json!(7)),
            ("source", json!(7)),
        ] {
            let broken = with(&state, &format!("{path}/{member}"), value);
            refused(&fake, &tap().state(&broken), &["stream", stream, member]);
        }
        let lacking = with(&state, &path, json!({"replication_key": by}));
        refused(&fake, &tap().state(&lacking), &["stream", stream, "replication_key_value"]);
    }
    // Beside a good one, and before the streams in front of it are read.
    let broken =
        json!({"bookmarks": {"feature_flags": {"replication_key": "updated_at", "replication_key_value": "x"}}});
    refused(&fake, &Tap::new(&fake).set("data_type", Json::Null).state(&broken), &["feature_flags"]);
}

#[test]
fn the_state_of_another_project_is_refused_for_every_stream() {
    let fake = fake();
    let host = fake.url().trim_start_matches("http://").to_owned();
    let (theirs, ours) = (format!("belongs to {host}/1"), format!("name {host}/3"));
    for stream in ["events", "cohorts", "persons", "feature_flags", "sessions"] {
        let state = Tap::new(&fake).set("data_type", stream).run().ends(0).last_state();
        assert_eq!(state["source"], format!("{host}/1"), "{stream}");
        for other in ["events", "cohorts", "persons", "feature_flags", "sessions"] {
            let tap = Tap::new(&fake).set("data_type", other).set("project_id", 3).state(&state);
            refused(&fake, &tap, &[&theirs, &ours]);
        }
    }
    // A state from before the project stood at the root.
    let mut older = finished(&fake);
    older.as_object_mut().unwrap().shift_remove("source");
    refused(&fake, &Tap::new(&fake).set("data_type", "cohorts").set("project_id", 3).state(&older), &[&theirs, &ours]);
    assert_eq!(Tap::new(&fake).state(&older).run().ends(0).last_state()["source"], format!("{host}/1"));
    refused(&fake, &Tap::new(&fake).state(&json!({"source": 7, "bookmarks": {}})), &["source"]);
}

#[test]
fn the_state_of_a_project_that_moved_is_kept_as_the_message_says() {
    let fake = fake();
    let host = fake.url().trim_start_matches("http://").to_owned();
    let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    let moved = finished(&fake).to_string().replace(&host, "old.example.com");
    let tap = Tap::new(&fake).state(&json(&moved));
    refused(&fake, &tap, &[&format!("write {host}/1 for old.example.com/1 everywhere in the state")]);
    let edited = moved.replace("old.example.com/1", &format!("{host}/1"));
    assert!(Tap::new(&fake).state(&json(&edited)).run().ends(0).events().is_empty());
}
