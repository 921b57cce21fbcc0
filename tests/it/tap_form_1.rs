//! States of form 1, as the version before this form wrote them (`form_1.json`): the next run goes on from them, reads
//! nothing that is older, repeats nothing, and leaves a state of this form.

use std::collections::{HashMap, HashSet};

use serde_json::{Value as Json, json};

use crate::fake::{Fake, HOUR_MICROS, Held};
use crate::harness::{MINUTE, PAGE, Run, Settings, at, fake_of, go_on, same_once, start, tap_with};

/// Events of the last hour, in another order than the one in which they are read.
fn events() -> Fake {
    fake_of((0..2_000).map(|n| at(n, start() - 59 * MINUTE + n as i64 * 1_500_000).by(&format!("u{}", n % 90))))
}

const FULL: usize = 10_000;

fn settings(max_state_bytes: usize) -> [(&'static str, Json); 3] {
    [("lookback_window_minutes", json!(60)), ("page_size", json!(100)), ("max_state_bytes", json!(max_state_bytes))]
}

/// What an older run delivered before its last STATE, and that STATE, as if it had been of this server.
fn left(fake: &Fake, name: &str) -> (Vec<Held>, Json) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/form_1.json");
    let all: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut state = all[name]["state"].clone();
    assert_eq!(state["bookmarks"]["events"]["form"], 1);
    let host = fake.url().trim_start_matches("http://");
    state["bookmarks"]["events"]["source"] = json!(format!("{host}/1"));
    let delivered: HashSet<u64> =
        all[name]["delivered"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    let known = numbers();
    let was_delivered = |held: &Held| delivered.contains(&known[&held.identity.uuid.replace('-', "")]);
    let rows = fake.world().held().into_iter().filter(was_delivered).collect();
    (rows, state)
}

/// The numbers of the events, by their uuids without dashes.
fn numbers() -> HashMap<String, u64> {
    (0..2_000).map(|n| (format!("{:032x}", at(n, 0).uuid), n)).collect()
}

/// The earliest arrival that a page was asked for.
fn asked_from(fake: &Fake) -> i64 {
    let world = fake.world();
    let pages = world.log.iter().filter_map(|request| request.sql.as_deref()).filter(|sql| sql.contains(PAGE));
    let from = |sql: &str| {
        let bound = sql.split("created_at >= toDateTime64('").nth(1).expect("a bound");
        crate::fake::micros(&format!("{}Z", bound.split('\'').next().unwrap().replace(' ', "T")))
    };
    pages.map(from).min().unwrap()
}

#[test]
fn after_a_finished_run_only_what_is_new_comes() {
    let fake = events();
    let set: Settings<'_> = &settings(2_000_000);
    let (delivered, state) = left(&fake, "finished");
    assert_eq!(delivered.len(), 2_000);
    fake.world().insert((2_000..2_003).map(|n| at(n, start() + n as i64)));
    fake.world().advance(MINUTE);
    let run = tap_with(&fake, set).state(&state).run().ends(0);
    same_once("the run after it", &run.events(), new(&fake));
    let from = state["bookmarks"]["events"]["seen_from"].as_i64().unwrap();
    assert_eq!(asked_from(&fake), from);
    ends_in_form_2(&run);
    same_once("the run after that", &go_on(&fake, &run, MINUTE, set).events(), []);
}

/// The events that are not in the state.
fn new(fake: &Fake) -> Vec<Held> {
    fake.world().held().into_iter().filter(|held| held.created_at >= start()).collect()
}

fn ends_in_form_2(run: &Run) {
    let bookmark = run.last_state()["bookmarks"]["events"].clone();
    assert_eq!(bookmark["form"], 3);
    assert!(["seen", "seen_from", "run"].iter().all(|old| bookmark.get(old).is_none()), "{bookmark}");
}

/// A run that was under way: it goes on where it stood, and what it delivered before is not delivered again, nor by the
/// runs after it. Also where its list was full.
#[test]
fn a_run_under_way_goes_on_and_repeats_nothing() {
    for (name, max_state_bytes) in [("under_way", 2_000_000), ("under_way_full", FULL)] {
        let fake = events();
        let set: Settings<'_> = &settings(max_state_bytes);
        let (mut all, state) = left(&fake, name);
        assert!((100..1_900).contains(&all.len()), "{name}: {}", all.len());
        let run = tap_with(&fake, set).state(&state).run().ends(0);
        all.extend(run.events());
        same_once(name, &all, fake.world().held());
        ends_in_form_2(&run);
        fake.world().insert((2_000..2_003).map(|n| at(n, start() + n as i64)));
        let run = go_on(&fake, &run, HOUR_MICROS / 2, set);
        same_once(name, &run.events(), new(&fake));
        assert!(!run.stderr.contains("may repeat"), "{name}: {}", run.stderr);
        same_once(name, &go_on(&fake, &run, MINUTE, set).events(), []);
    }
}

/// A run that was under way before its state said when the listed events arrived: nothing is lost.
#[test]
fn a_run_under_way_whose_list_has_no_arrivals_goes_on() {
    for (name, max_state_bytes) in [("under_way", 2_000_000), ("under_way_full", FULL)] {
        let fake = events();
        let set: Settings<'_> = &settings(max_state_bytes);
        let (mut all, mut state) = left(&fake, name);
        let listed = state["bookmarks"]["events"]["run"].as_object_mut().unwrap().shift_remove("seen_arrivals");
        assert!(listed.is_some(), "{state}");
        let mut run = tap_with(&fake, set).state(&state).run().ends(0);
        all.extend(run.events());
        run = go_on(&fake, &run, MINUTE, set);
        all.extend(run.events());
        let lost = fake.world().held().into_iter().filter(|held| !all.contains(held)).count();
        assert_eq!(lost, 0, "{name}");
        same_once(name, &go_on(&fake, &run, MINUTE, set).events(), []);
    }
}
