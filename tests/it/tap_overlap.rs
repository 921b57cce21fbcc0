//! Where runs meet: the overlap, the ledger of arrivals, settings that change between runs, states that a failure leaves.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::json;

use crate::fake::{DAY_MICROS, Event, Fake, Fault, HOUR_MICROS, Held, Options, Zone};
use crate::harness::{
    MINUTE, PAGE, Run, Settings, Tap, at, fake_of, go_on, numbered, safe_part, same_once, start, tap_with, terminate,
};

/// What becomes visible while a run looks at the ledger is in this run or in the next one.
#[test]
fn what_shows_up_between_two_looks_at_the_ledger_is_found() {
    for nth in 1..8 {
        let fake = fake_of((0..100).map(|n| at(n, start() - n as i64 * 2 * MINUTE)));
        let mut run = Tap::new(&fake).run().ends(0);
        let late = start() - 3 * HOUR_MICROS;
        fake.world().before_query(nth, move |world| world.insert((1_000..1_005).map(|n| at(n, late + n as i64))));
        let mut all = run.events();
        for _ in 0..3 {
            run = go_on(&fake, &run, HOUR_MICROS, &[]);
            all.extend(run.events());
        }
        let lost: Vec<Held> = numbered(&fake, 1_000..1_005).into_iter().filter(|held| !all.contains(held)).collect();
        assert!(lost.is_empty(), "before query {nth}: {lost:?}");
    }
}

/// Rows that a merge takes away hide no late ones; nor do deleted ones, if more come than went.
#[test]
fn late_rows_are_found_behind_merges_and_deletions() {
    for (deleted, deduplicate) in [(false, true), (true, true), (false, false)] {
        let set: Settings<'_> = &[("deduplication_enabled", json!(deduplicate))];
        let old = start() - 5 * HOUR_MICROS;
        let fake = fake_of((0..50).map(|n| at(n, old + n as i64 * 1_000)));
        if !deleted {
            fake.world().insert((0..20).map(|n| at(n, old + n as i64 * 1_000)));
        }
        let mut run = tap_with(&fake, set).run().ends(0);
        run = go_on(&fake, &run, MINUTE, set);
        assert!(run.events().is_empty() && !run.stderr.contains("may repeat"), "unmerged rows are no news");
        if deleted {
            assert_eq!(fake.world().delete(|held| held.created_at < old + 2_000), 2);
        } else {
            fake.world().merge();
        }
        fake.world().insert((1_000..1_003).map(|n| at(n, old + n as i64)));
        run = go_on(&fake, &run, HOUR_MICROS, set);
        assert!(run.stderr.contains("may repeat"), "{}", run.stderr);
        let lost: Vec<Held> =
            numbered(&fake, 1_000..1_003).into_iter().filter(|held| !run.events().contains(held)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert!(go_on(&fake, &run, MINUTE, set).events().is_empty(), "once is enough");
    }
}

#[test]
fn a_lookback_longer_than_late_arrival_days_is_looked_through() {
    let set: Settings<'_> = &[("lookback_window_minutes", json!(20_160))];
    let fake = fake_of((0..50).map(|n| at(n, start() - n as i64 * HOUR_MICROS)));
    let mut run = tap_with(&fake, set).run().ends(0);
    run = go_on(&fake, &run, MINUTE, set);
    fake.world().insert((1_000..1_003).map(|n| at(n, start() - 10 * DAY_MICROS + n as i64)));
    run = go_on(&fake, &run, MINUTE, set);
    same_once("ten days old", &run.events(), numbered(&fake, 1_000..1_003));
}

/// More in the overlap than the state can name: what is not named is watched by the ledger, and nothing repeats.
#[test]
fn a_list_that_is_too_long_loses_and_repeats_nothing() {
    let set: Settings<'_> = &[("max_state_bytes", json!(10_000)), ("lookback_window_minutes", json!(60))];
    let fake = fake_of((0..4_000).map(|n| at(n, start() - 59 * MINUTE + n as i64 * 800_000)));
    let mut run = tap_with(&fake, set).run().ends(0);
    assert!(run.stderr.contains("max_state_bytes"), "{}", run.stderr);
    same_once("first run", &run.events(), fake.world().held());
    for round in 0..3 {
        run = go_on(&fake, &run, 10_000_000, set);
        same_once(&format!("round {round}"), &run.events(), []);
    }
    fake.world().insert((10_000..10_003).map(|n| at(n, start() - 50 * MINUTE + n as i64)));
    run = go_on(&fake, &run, 10_000_000, set);
    let lost: Vec<Held> =
        numbered(&fake, 10_000..10_003).into_iter().filter(|held| !run.events().contains(held)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// A run that ends early again and again knows at its end what one that was left alone knows, also where the list of its
/// overlap is too long.
#[test]
fn an_interrupted_run_with_a_list_that_is_too_long_ends_like_any_other() {
    let fake = Fake::start(Options::default());
    // Arrival goes across the order in which rows are read: each part of a run has old arrivals and new ones.
    let event = |n: u64| {
        let arrived = start() - 59 * MINUTE + n as i64 * 800_000;
        // Some are too old for the ledger.
        let happened = if n.is_multiple_of(7) { arrived - 9 * DAY_MICROS } else { arrived };
        Event::new(n, ["a", "b", "c", "d"][n as usize % 4], happened).by(&format!("u{}", n % 90)).created(arrived)
    };
    fake.world().insert((0..4_000).map(event));
    let set: Settings<'_> =
        &[("max_state_bytes", json!(10_000)), ("lookback_window_minutes", json!(60)), ("page_size", json!(250))];
    // More pages than the overlap has twice: it is read to end the interrupted set, and again in the one that opens then.
    for pages in [9, 11] {
        let mut all = Vec::new();
        let mut state = json!({});
        let mut interruptions = 0;
        let run = loop {
            fake.world().faults.clear();
            fake.world().fault(Fault::new("auth_401").body(PAGE).skip(pages).next(1));
            let run = tap_with(&fake, set).state(&state).run();
            all.extend(safe_part(&run.stdout).unwrap().0);
            state = run.last_state();
            if run.code == 0 {
                break run;
            }
            interruptions += 1;
            assert!(interruptions < 40, "it does not end: {}", run.stderr);
        };
        fake.world().faults.clear();
        assert!(interruptions > 1, "{interruptions} interruptions");
        same_once("interrupted", &all, fake.world().held());
        let bookmark = |run: &Run| run.last_state()["bookmarks"]["events"].clone();
        let mut alone = tap_with(&fake, set).run().ends(0);
        while bookmark(&alone)["runs"].as_u64() < bookmark(&run)["runs"].as_u64() {
            alone = go_on(&fake, &alone, 0, set);
        }
        assert_eq!(bookmark(&run), bookmark(&alone), "interrupted after {pages} pages");
        let next = go_on(&fake, &run, MINUTE, set);
        assert!(!next.stderr.contains("became visible"), "{}", next.stderr);
        same_once("the next run", &next.events(), []);
        fake.world().advance(-MINUTE);
    }
}

/// Two days in a list that holds a tenth of their events: what shows late in an hour whose events were dropped is found, and
/// no other hour is read again.
#[test]
fn what_shows_late_is_found_where_a_small_list_is_to_hold_two_days() {
    let set: Settings<'_> =
        &[("max_state_bytes", json!(10_000)), ("lookback_window_minutes", json!(2_880)), ("page_size", json!(500))];
    let fake = fake_of((0..4_000).map(|n| at(n, start() - 47 * 60 * MINUTE + n as i64 * 42_000_000)));
    let mut run = tap_with(&fake, set).run().ends(0);
    let late = start() - 40 * 60 * MINUTE;
    fake.world().insert((10_000..10_003).map(|n| at(n, late + n as i64)));
    let mut all = Vec::new();
    for _ in 0..3 {
        run = go_on(&fake, &run, MINUTE, set);
        all.extend(run.events());
    }
    assert!(numbered(&fake, 10_000..10_003).iter().all(|held| all.contains(held)), "{}", run.stderr);
    // An hour holds some 86 events.
    assert!(all.len() < 200, "{} came again", all.len());
}

/// Where nothing is known of earlier arrivals, the ledger begins in the middle of an hour, and watches what is left of it.
#[test]
fn what_shows_late_of_the_hour_in_which_the_ledger_began_is_found() {
    let fake = fake_of((0..100).map(|n| at(n, start() + 20 * MINUTE - n as i64 * 2 * MINUTE)));
    fake.world().advance(25 * MINUTE);
    let run = Tap::new(&fake).run().ends(0);
    let set: Settings<'_> = &[("late_arrival_days", json!(5))];
    let mut run = go_on(&fake, &run, 5 * MINUTE, set);
    let showing = start() + 100 * MINUTE;
    fake.world().insert_visible_from((1_000..1_003).map(|n| at(n, start() + 28 * MINUTE + n as i64)), showing);
    for _ in 0..3 {
        run = go_on(&fake, &run, 20 * MINUTE, set);
        same_once("not there yet", &run.events(), []);
    }
    run = go_on(&fake, &run, 20 * MINUTE, set);
    let lost = numbered(&fake, 1_000..1_003).into_iter().filter(|held| !run.events().contains(held)).count();
    assert_eq!(lost, 0, "{}", run.stderr);
    run = go_on(&fake, &run, 20 * MINUTE, set);
    same_once("once is enough", &run.events(), []);
    assert!(!run.stderr.contains("became visible"), "{}", run.stderr);
}

#[test]
fn a_lookback_that_grows_repeats_nothing() {
    for by_timestamp in [false, true] {
        let mut events: Vec<Event> = (1..300).map(|n| at(n, start() - n as i64 * MINUTE)).collect();
        if by_timestamp {
            events.extend((1_000..2_000).map(|n| Event::new(n, "e", start() - 2 * HOUR_MICROS).created(0)));
        }
        let fake = fake_of(events);
        let narrow: Settings<'_> = &[("lookback_window_minutes", json!(15)), ("late_arrival_days", json!(1))];
        let wide: Settings<'_> = &[("lookback_window_minutes", json!(240)), ("late_arrival_days", json!(3))];
        let mut run = tap_with(&fake, narrow).run().ends(0);
        same_once("first run", &run.events(), fake.world().held());
        for round in 0..4 {
            run = go_on(&fake, &run, MINUTE, wide);
            same_once(&format!("by timestamp {by_timestamp}, round {round}"), &run.events(), []);
        }
    }
}

#[test]
fn a_filter_that_changes_repeats_nothing() {
    let both = |n: u64| if n.is_multiple_of(2) { "a" } else { "b" };
    let event = |n: u64| Event::new(n, both(n), start() - n as i64 * MINUTE).created(start() - n as i64 * MINUTE);
    let fake = fake_of((1..300).map(event));
    let only_a = Tap::new(&fake).set("event_types", json!(["a"])).run().ends(0);
    let run = go_on(&fake, &only_a, MINUTE, &[("event_types", json!(["a", "b"]))]);
    assert!(!run.stderr.contains("became visible"), "{}", run.stderr);
    let again: Vec<Held> = run.events().into_iter().filter(|held| held.identity.event == "a").collect();
    assert!(again.is_empty(), "{} rows of a came again: {:?}, {}", again.len(), again[0], only_a.last_state());
    let all = Tap::new(&fake).run().ends(0);
    let run = go_on(&fake, &all, MINUTE, &[("late_arrival_days", json!(0))]);
    same_once("late_arrival_days: 0", &run.events(), []);
}

#[test]
fn a_listed_uuid_is_left_out_only_in_the_overlap() {
    let last_run = start() - HOUR_MICROS;
    let fake = fake_of([at(1, last_run - MINUTE), at(2, last_run + MINUTE)]);
    fake.world().insert([Event::new(1, "another", last_run + MINUTE).by("somebody").created(last_run + MINUTE)]);
    let uuid = fake.world().held()[0].identity.uuid.clone();
    let state = json!({"last_run": Zone::Utc.rfc3339(last_run), "seen_uuids": [uuid], "kept": 1});
    let run = Tap::new(&fake).state(&state).run().ends(0);
    let wanted: Vec<Held> = fake.world().held().into_iter().filter(|held| held.created_at > last_run).collect();
    same_once("upgraded", &run.events(), wanted);
    let state = run.last_state();
    assert!(state.get("last_run").is_none() && state.get("seen_uuids").is_none() && state["kept"] == 1, "{state}");
}

/// What the older component delivered is not counted anywhere: nothing can have grown.
#[test]
fn an_upgraded_state_repeats_nothing_of_the_days_before_it() {
    let last_run = start() - 30 * MINUTE;
    let fake = fake_of((1..400).map(|n| at(n, start() - n as i64 * 5 * MINUTE)));
    let seen: Vec<String> = fake.world().held().iter().map(|held| held.identity.uuid.clone()).collect();
    let state = json!({"last_run": Zone::Utc.rfc3339(last_run), "seen_uuids": &seen[..10]});
    let mut run = Tap::new(&fake).state(&state).run().ends(0);
    assert!(run.events().len() < 10);
    for _ in 0..2 {
        run = go_on(&fake, &run, HOUR_MICROS, &[]);
        same_once("after the upgrade", &run.events(), []);
    }
}

#[test]
fn without_deduplication_no_list_is_kept_and_no_lookback_cut() {
    let set: Settings<'_> = &[("deduplication_enabled", json!(false)), ("max_state_bytes", json!(10_000))];
    let fake = fake_of((0..3_000).map(|n| at(n, start() - 10 * MINUTE + n as i64)));
    let run = tap_with(&fake, set).run().ends(0);
    assert!(!run.stderr.contains("max_state_bytes"), "{}", run.stderr);
    let run = go_on(&fake, &run, MINUTE, set);
    same_once("the overlap again", &run.events(), fake.world().held());
}

/// A count of arrivals that the server has no time for does not end the run.
#[test]
fn a_ledger_that_cannot_be_counted_is_said() {
    let fake = fake_of((0..100).map(|n| at(n, start() - n as i64 * MINUTE)));
    let run = Tap::new(&fake).run().ends(0);
    fake.world().fault(Fault::new("timeout_504").body("toStartOfHour"));
    let run = go_on(&fake, &run, MINUTE, &[]);
    assert!(run.stderr.contains("did not count"), "{}", run.stderr);
    fake.world().faults.clear();
    fake.world().insert((1_000..1_003).map(|n| at(n, start() - HOUR_MICROS + n as i64)));
    let run = go_on(&fake, &run, MINUTE, &[]);
    let lost = numbered(&fake, 1_000..1_003).into_iter().filter(|held| !run.events().contains(held)).count();
    assert_eq!(lost, 0);
}

/// What lies before a long wait for the server is said before it.
#[test]
fn a_state_goes_out_before_a_long_wait() {
    let fake = fake_of((0..400).map(|n| at(n, start() - n as i64 * HOUR_MICROS)));
    fake.world().fault(Fault::new("throttle_429").path("query").skip(8).retry_after("600"));
    let tap = Tap::new(&fake).set("page_size", 50);
    let mut child = tap.spawn();
    let output = BufReader::new(child.stdout.take().unwrap());
    let has_cursor = |line: &String| line.starts_with("{\"type\":\"STATE\"") && line.contains("\"cursor\":{");
    assert!(output.lines().map(Result::unwrap).any(|line| has_cursor(&line)), "no STATE with a cursor");
    let refused = fake.world().log.iter().filter(|request| request.status == 429).count();
    child.kill().unwrap();
    child.wait().unwrap();
    // Each of the two threads is refused once before the wait; what is refused later came after it.
    assert!((1..=2).contains(&refused), "{refused} refusals");
}

/// A reader that stopped: nothing can be finished, and one signal still ends the tap.
#[test]
fn a_signal_ends_a_tap_that_nobody_reads() {
    let wide = "x".repeat(20_000);
    let fake = fake_of(
        (0..200).map(|n| Event { properties: json!({ "wide": wide }).to_string(), ..at(n, start() - n as i64) }),
    );
    let tap = Tap::new(&fake);
    let mut child = tap.command().stderr(Stdio::null()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut vec![0; 100_000]).unwrap();
    // Nobody reads on, so nothing else than the signal ends it.
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
