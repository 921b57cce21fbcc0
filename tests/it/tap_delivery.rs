//! Every stored version comes out once: no page edge, equal timestamp, late arrival, duplicate, name or time zone changes
//! that.

use serde_json::json;

use crate::fake::events::{Dice, realistic};
use crate::fake::{DAY_MICROS, Event, Fake, HOUR_MICROS, Held, Options, Zone, micros};
use crate::harness::{MINUTE, Run, Tap, fake_of, go_on, same_once};

fn now(fake: &Fake) -> i64 {
    fake.world().now
}

/// The next run from the last state of `before`, an hour later.
fn next(fake: &Fake, before: &Run) -> Run {
    go_on(fake, before, HOUR_MICROS, &[])
}

/// The run after the first one looks back over everything; later ones look `late_arrival_days` back.
#[test]
fn a_realistic_project_comes_out_whole_over_four_runs() {
    let fake = fake_of(realistic(7, 3_000, micros("2026-08-15T12:00:00Z"), 9));
    let mut delivered = Tap::new(&fake).run().ends(0);
    same_once("first run", &delivered.events(), fake.world().held());
    for (run, oldest_days) in [(2, 60), (3, 6), (4, 6)] {
        let old = fake.world().held();
        fake.world().advance(HOUR_MICROS);
        let now = now(&fake);
        let arrivals = (0..100).map(|n| {
            let age = n as i64 * oldest_days * DAY_MICROS / 100 + 20 * MINUTE;
            Event::new(run * 1_000_000 + n, "later", now - age).created(now - 20 * MINUTE)
        });
        fake.world().insert(arrivals.collect::<Vec<_>>());
        delivered = Tap::new(&fake).state(&delivered.last_state()).run().ends(0);
        let arrived = fake.world().held().into_iter().filter(|held| !old.contains(held));
        same_once(&format!("run {run}"), &delivered.events(), arrived);
    }
    same_once("a run without news", &next(&fake, &delivered).events(), []);
}

/// Their rows may not all be visible yet.
#[test]
fn a_horizon_that_lags_leaves_the_newest_arrivals_to_the_next_run() {
    let start = micros("2026-08-15T12:00:00Z");
    let fake = fake_of([0, 100, 299, 301, 4_000].map(|age| {
        let time = start - age * 1_000_000;
        Event::new(age.unsigned_abs(), "e", time).created(time)
    }));
    assert_eq!(now(&fake), start);
    let is_old = |held: &Held| held.created_at < start - 300_000_000;
    let (old, new): (Vec<Held>, Vec<Held>) = fake.world().held().into_iter().partition(is_old);
    let lagging = || Tap::new(&fake).set("horizon_lag_seconds", 300);
    let first = lagging().run().ends(0);
    same_once("first run", &first.events(), old);
    fake.world().advance(HOUR_MICROS);
    same_once("second run", &lagging().state(&first.last_state()).run().ends(0).events(), new);
}

/// What the last run left out, because the run before it had delivered it, may still lie in the next overlap.
#[test]
fn runs_a_minute_apart_deliver_every_event_once() {
    let fake = fake_of(realistic(2, 200, micros("2026-08-15T12:00:00Z"), 4));
    let mut delivered = Tap::new(&fake).run().ends(0);
    for run in 0..20 {
        let old = fake.world().held();
        let now = now(&fake);
        fake.world().insert(
            (0..10).map(|n| Event::new(run * 100 + n, "news", now - n as i64).created(now)).collect::<Vec<_>>(),
        );
        fake.world().advance(MINUTE);
        delivered = Tap::new(&fake).state(&delivered.last_state()).run().ends(0);
        let arrived = fake.world().held().into_iter().filter(|held| !old.contains(held));
        same_once(&format!("run {run}"), &delivered.events(), arrived);
    }
}

#[test]
fn events_later_than_late_arrival_days_are_found_without_that_limit() {
    let fake = fake_of(realistic(4, 100, micros("2026-08-15T12:00:00Z"), 2));
    let second = next(&fake, &Tap::new(&fake).run().ends(0));
    let now = now(&fake);
    fake.world().insert([
        Event::new(1, "from 1970", 1_000_003).created(now),
        Event::new(2, "month", now - 30 * DAY_MICROS).created(now),
    ]);
    fake.world().advance(HOUR_MICROS);
    let later = |days: u64| {
        let tap = Tap::new(&fake).set("initial_since", "1970-01-01T00:00:00Z").set("late_arrival_days", days);
        tap.state(&second.last_state()).run().ends(0).events()
    };
    assert_eq!(later(7), [], "the documented limit");
    same_once("no limit", &later(0), fake.world().held().into_iter().filter(|held| held.created_at == now));
}

#[test]
fn five_thousand_events_of_one_microsecond() {
    let instant = micros("2026-08-09T12:34:56.789012Z");
    let fake = fake_of((0..5_000).map(|n| Event::new(n, "burst", instant).by(["a", "b", "c"][n as usize % 3])));
    for page_size in [100, 1_000, 50_000] {
        let run = Tap::new(&fake).set("page_size", page_size).run().ends(0);
        same_once(&format!("page_size {page_size}"), &run.events(), fake.world().held());
    }
}

#[test]
fn every_page_size_from_one_to_twenty() {
    let start = micros("2026-08-13T22:00:00Z");
    let mut dice = Dice::new(20);
    let events: Vec<Event> = (0..43)
        .map(|n| {
            let name = ["a", "b", "", "ß"][dice.roll(4) as usize];
            Event::new(n, name, start + dice.roll(5) as i64 * HOUR_MICROS).by(["x", "y"][dice.roll(2) as usize])
        })
        .collect();
    let fake = fake_of(events);
    for page_size in 1..=20 {
        fake.world().log.clear();
        let run = Tap::new(&fake).set("page_size", page_size).run().ends(0);
        same_once(&format!("page_size {page_size}"), &run.events(), fake.world().held());
        let largest = fake.world().log.iter().filter(|query| sql_of_a_page(query)).map(|query| query.rows).max();
        assert!(largest <= Some(page_size), "a page of {largest:?} rows with page_size {page_size}");
    }
}

fn sql_of_a_page(query: &crate::fake::Request) -> bool {
    query.sql.as_ref().is_some_and(|sql| sql.contains("properties") && query.table == Some("events"))
}

#[test]
fn bounds_are_half_open() {
    let since = micros("2026-08-01T06:30:00Z");
    let until = micros("2026-08-03T06:30:00Z");
    let edges = [since - 1, since, since + 1, until - 1, until, until + 1, micros("2026-08-02T00:00:00Z")];
    let fake = fake_of(edges.iter().enumerate().map(|(n, at)| Event::new(n as u64, "edge", *at)));
    let tap = Tap::new(&fake).set("initial_since", "2026-08-01T06:30:00Z").set("until", "2026-08-03T08:30:00+02:00");
    let inside = fake.world().held().into_iter().filter(|held| (since..until).contains(&held.timestamp));
    same_once("the range", &tap.run().ends(0).events(), inside);
}

/// Late by a minute, hours and days; stamped ahead; visible only later: all found by the run after their arrival, once.
#[test]
fn late_events_come_with_the_next_run() {
    let fake = fake_of(realistic(1, 300, micros("2026-08-15T11:00:00Z"), 5));
    let first = Tap::new(&fake).run().ends(0);
    let horizon = now(&fake);
    let before = fake.world().held();
    let lateness = [0, 1, 59, 61, 600, 1_440, 6 * 1_440, 7 * 1_440 - 90];
    let late = lateness.iter().enumerate().map(|(n, minutes)| {
        Event::new(70_000 + n as u64, "late", horizon - minutes * MINUTE).created(horizon + 5 * MINUTE)
    });
    let ahead = Event::new(71_000, "ahead", horizon + 20 * HOUR_MICROS).created(horizon + MINUTE);
    // Ingested before the horizon of the first run, shown by the server only after it: within the lookback.
    let slow = Event::new(72_000, "slow", horizon - 14 * MINUTE).created(horizon - 14 * MINUTE);
    fake.world().insert(late.chain([ahead, slow]).collect::<Vec<_>>());
    let second = next(&fake, &first);
    let arrived: Vec<Held> = fake.world().held().into_iter().filter(|held| !before.contains(held)).collect();
    assert_eq!(arrived.len(), lateness.len() + 2);
    same_once("second run", &second.events(), arrived);
    same_once("third run", &next(&fake, &second).events(), []);
}

#[test]
fn what_arrives_during_a_run_comes_with_the_next_one() {
    let fake = fake_of(realistic(2, 400, micros("2026-08-15T11:00:00Z"), 3));
    let before = fake.world().held();
    fake.world().before_query(4, |world| {
        let now = world.now;
        world.advance(1_000_000);
        world.insert((0..50).map(|n| Event::new(80_000 + n, "meanwhile", now - n as i64 * HOUR_MICROS).created(now)));
    });
    let first = Tap::new(&fake).set("page_size", 100).run().ends(0);
    same_once("first run", &first.events(), before.clone());
    let second = next(&fake, &first);
    same_once("second run", &second.events(), fake.world().held().into_iter().filter(|held| !before.contains(held)));
}

#[test]
fn an_event_stored_again_later_comes_out_again() {
    let at = micros("2026-08-14T10:00:00Z");
    let fake = fake_of((0..20).map(|n| Event::new(n, "e", at)));
    let first = Tap::new(&fake).run().ends(0);
    let horizon = now(&fake);
    fake.world().insert((0..5).map(|n| Event::new(n, "e", at).created(horizon + MINUTE)));
    let again: Vec<Held> = fake.world().held().into_iter().filter(|held| held.created_at > horizon).collect();
    let second = next(&fake, &first);
    same_once("second run", &second.events(), again);
    fake.world().merge();
    same_once("third run", &next(&fake, &second).events(), []);
}

#[test]
fn unmerged_duplicates_come_out_once() {
    let events = realistic(3, 500, micros("2026-08-15T11:00:00Z"), 3);
    let twice: Vec<Event> = events.iter().step_by(3).cloned().collect();
    let all: Vec<Event> = events.into_iter().chain(twice.clone()).chain(twice).collect();
    let stored = all.len();
    let fake = fake_of(all);
    let run = Tap::new(&fake).set("page_size", 7).run().ends(0);
    same_once("duplicates", &run.events(), fake.world().held());
    let kept = Tap::new(&fake).set("deduplication_enabled", false).run().ends(0);
    assert_eq!(kept.events().len(), stored, "deduplication_enabled: false drops nothing");
}

#[test]
fn one_uuid_under_two_names_is_two_events() {
    let (at, uuid) = (micros("2026-08-14T10:00:00Z"), "019fbc99-bec2-7afe-a3d9-f07224cdf735");
    let event = |n, name: &str, at| Event::new(n, name, at).uuid(uuid).by("someone");
    let fake =
        fake_of([event(1, "a", at), event(2, "b", at), event(3, "a", at + DAY_MICROS), event(4, "b", at).by("else")]);
    same_once("reused uuids", &Tap::new(&fake).run().ends(0).events(), fake.world().held());
}

/// Rows that vanish between the pages of a run are no reason to stop, and no reason to lose the others.
#[test]
fn deletions_between_pages_do_not_stop_a_run() {
    for seed in 0..6 {
        let mut dice = Dice::new(seed);
        let fake = fake_of((0..300).map(|n| Event::new(n, ["a", "b"][n as usize % 2], micros("2026-08-14T10:00:00Z"))));
        let survivor = |held: &Held| !held.identity.uuid.ends_with(['0', '5', 'a']);
        fake.world().before_query(4 + dice.roll(6) as usize, move |world| {
            world.delete(|held| !survivor(held));
        });
        let run = Tap::new(&fake).set("page_size", 40).run().ends(0);
        let got = run.events();
        let kept: Vec<Held> = got.iter().filter(|held| survivor(held)).cloned().collect();
        same_once(&format!("seed {seed}"), &kept, fake.world().held());
    }
}

const HOSTILE: &[&str] = &[
    "",
    " ",
    "it's",
    "quo\"te",
    "back\\slash",
    "\\",
    "\\'",
    "trailing\\",
    "{x}",
    "{filters}",
    "100%",
    "a--b",
    "a/*b*/",
    "line\nbreak",
    "tab\t",
    "cr\r",
    "\u{b}",
    "\u{7}",
    "`tick`",
    "naïve événement 🎉",
    "日本語",
    "عربى",
    "\u{2028}",
    "é",
    "e\u{301}",
    "'; DROP",
    "null",
    "NaN",
    "$pageview",
    "\u{10ffff}",
    "ÿ",
    "~",
];

#[test]
fn hostile_names_come_out_and_select() {
    let at = micros("2026-08-14T10:00:00Z");
    let events = HOSTILE.iter().enumerate().flat_map(|(n, name)| {
        (0..3).map(move |copy| Event::new(n as u64 * 10 + copy, name, at + copy as i64).by(name))
    });
    let fake = fake_of(events);
    for page_size in [2, 5, 1_000] {
        let run = Tap::new(&fake).set("page_size", page_size).run().ends(0);
        same_once(&format!("page_size {page_size}"), &run.events(), fake.world().held());
    }
    for name in HOSTILE.iter().filter(|name| !name.trim().is_empty()) {
        let run = Tap::new(&fake).set("event_types", json!([name])).run().ends(0);
        let of_name = fake.world().held().into_iter().filter(|held| held.identity.event == *name);
        same_once(&format!("event_types {name:?}"), &run.events(), of_name);
    }
}

#[test]
fn a_project_in_los_angeles_loses_nothing_at_its_clock_changes() {
    let folds = [micros("2026-03-08T10:00:00Z"), micros("2026-06-15T07:00:00Z")];
    let events = folds.iter().enumerate().flat_map(|(fold, at)| {
        (0..80).map(move |n| Event::new(fold as u64 * 1_000 + n, "e", at + (n as i64 - 40) * 7 * MINUTE))
    });
    let fake = Fake::start(Options { zone: Zone::LosAngeles, ..Options::default() });
    fake.world().insert(events);
    let run = Tap::new(&fake).set("page_size", 9).run().ends(0);
    same_once("Los Angeles", &run.events(), fake.world().held());
    for record in run.records("events") {
        assert!(record["timestamp"].as_str().unwrap().ends_with('Z'), "not UTC: {record}");
    }
}

#[test]
fn the_form_of_state_that_came_before_is_upgraded() {
    let at = micros("2026-08-15T11:50:00Z");
    let fake =
        fake_of((0..30).map(|n| Event::new(n, "e", at + n as i64 * 10_000_000).created(at + n as i64 * 10_000_000)));
    let held = fake.world().held();
    let last_run = at + 150_000_000;
    let seen: Vec<&str> =
        held.iter().filter(|held| held.created_at < last_run).map(|held| held.identity.uuid.as_str()).collect();
    let state = json!({"last_run": Zone::Utc.rfc3339(last_run), "seen_uuids": seen});
    fake.world().advance(HOUR_MICROS);
    let run = Tap::new(&fake).state(&state).run().ends(0);
    same_once("upgraded", &run.events(), held.into_iter().filter(|held| held.created_at >= last_run));
    assert!(run.last_state()["bookmarks"]["events"]["replication_key_value"].is_string());
    assert!(!run.stderr.contains("changed since the last run"), "{}", run.stderr);
}

#[test]
fn a_state_ahead_of_the_servers_clock_is_said() {
    let fake = fake_of([Event::new(1, "e", micros("2026-08-14T10:00:00Z"))]);
    let state = json!({"last_run": "2090-01-01T00:00:00Z", "seen_uuids": []});
    let run = Tap::new(&fake).state(&state).run().ends(0);
    assert!(run.events().is_empty());
    assert!(run.stderr.contains("2090-01-01") && run.stderr.contains("start over without --state"), "{}", run.stderr);
}

#[test]
fn foreign_bookmarks_are_carried_through() {
    let fake = fake_of([Event::new(1, "e", micros("2026-08-14T10:00:00Z"))]);
    let foreign = json!({"bookmarks": {"orders": {"x": [1, {"y": null}]}}, "note": "keep me"});
    let state = Tap::new(&fake).state(&foreign).run().ends(0).last_state();
    assert_eq!((&state["bookmarks"]["orders"], &state["note"]), (&json!({"x": [1, {"y": null}]}), &json!("keep me")));
}

#[test]
fn properties_come_out_flattened_with_nothing_lost_and_nested_as_they_are() {
    let mut events = realistic(11, 400, micros("2026-08-15T11:00:00Z"), 3);
    events[0].properties =
        r#"{"plan":"pro","price":"12.50","big":123456789012345678901234567890,"odd":{"a":[1.50]}}"#.into();
    let fake = fake_of(events.clone());
    let run = Tap::new(&fake).run().ends(0);
    let by_uuid: std::collections::HashMap<String, &Event> =
        events.iter().map(|event| (format!("{:032x}", event.uuid), event)).collect();
    for record in run.records("events") {
        let event = by_uuid[&record["uuid"].as_str().unwrap().replace('-', "")];
        let mut wanted: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&event.properties).unwrap();
        wanted.retain(|_, value| !value.is_null());
        let mut rebuilt = record["unmapped_properties"].as_object().cloned().unwrap_or_default();
        for (name, value) in record.as_object().unwrap() {
            if let Some(name) = name.strip_prefix("properties_").filter(|_| !value.is_null()) {
                assert!(rebuilt.insert(name.to_owned(), value.clone()).is_none(), "{name} stands twice");
            }
        }
        rebuilt.retain(|_, value| !value.is_null());
        for (name, value) in &wanted {
            let same = match &rebuilt[name] {
                // A nested value in a text column is its JSON.
                serde_json::Value::String(text) if !value.is_string() => {
                    serde_json::from_str::<serde_json::Value>(text).ok().as_ref() == Some(value)
                }
                other => other == value || other.as_f64().is_some() && other.as_f64() == value.as_f64(),
            };
            assert!(same, "{name}: {value} became {}", rebuilt[name]);
        }
        assert_eq!(rebuilt.len(), wanted.len(), "{record}");
    }
    let nested = Tap::new(&fake).set("flatten_properties", false).run().ends(0);
    for line in nested.stdout.lines().filter(|line| line.contains("\"RECORD\"")) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let event = by_uuid[&record["record"]["uuid"].as_str().unwrap().replace('-', "")];
        assert!(line.contains(&event.properties), "properties are not passed through byte for byte");
    }
}

#[test]
fn runs_within_one_lookback_repeat_nothing() {
    let fake = fake_of([]);
    let since = now(&fake) - 10 * MINUTE;
    fake.world().insert((0..50).map(|n| Event::new(n, "fresh", since + n as i64 * 1_000).created(since)));
    let mut run = Tap::new(&fake).run().ends(0);
    same_once("first run", &run.events(), fake.world().held());
    for round in 0..4 {
        fake.world().advance(MINUTE);
        run = Tap::new(&fake).state(&run.last_state()).run().ends(0);
        same_once(&format!("round {round}"), &run.events(), []);
    }
}
