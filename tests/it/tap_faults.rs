//! Answers gone wrong: a passing fault costs a retry and never a row; a lasting one ends the run with its own exit code,
//! and the next run goes on from the last STATE.

use std::time::Duration;

use crate::fake::events::realistic;
use crate::fake::{Event, FAULTS, Fake, Fault, HOUR_MICROS, Held, Options, Zone, micros};
use crate::harness::{CLOCK, Run, Tap, safe_part, same_once, splits_and_never_repeats};

/// Part of every page query and of no other.
const PAGE: &str = "cityHash64(distinct_id), timestamp, uuid";
const PLAN: &str = "count() AS rows";

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(5, 400, now - HOUR_MICROS, 4));
    fake
}

/// Faults that do not pass when the same, or less, is asked again.
const LASTING: &[&str] = &["status", "type_mismatch_400", "auth_401", "cloudflare_403", "redirect_302"];

fn one(name: &str) -> Fault {
    Fault::new(name).retry_after("1").pause(Duration::from_millis(if name == "hang" { 1_500 } else { 20 }))
}

#[test]
fn a_passing_fault_costs_no_row_and_repeats_none() {
    // Each case waits a second or more before it tries again, so they wait side by side.
    let cases: Vec<(&str, &'static str)> =
        FAULTS.iter().filter(|name| !LASTING.contains(name)).flat_map(|name| [(*name, PAGE), (*name, PLAN)]).collect();
    std::thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(8)) {
            scope.spawn(|| part.iter().for_each(|(name, body)| passes(name, body)));
        }
    });
}

fn passes(name: &'static str, body: &'static str) {
    let fake = fake();
    fake.world().fault(one(name).next(1).skip(1).body(body));
    let run = Tap::new(&fake).set("page_size", 90).set("request_timeout", 20).run();
    assert_eq!(run.code, 0, "{name} in {body}: {}", run.stderr);
    same_once(&format!("{name} in {body}"), &run.events(), fake.world().held());
    assert_eq!(fake.world().faults.fired(), [(name, 1)], "the fault of {body} was not met");
}

#[test]
fn faults_at_every_fourth_page_cost_no_row() {
    for name in ["reset_mid", "truncated_json", "drop_last_row", "bad_gateway_502", "timeout_504"] {
        let fake = fake();
        fake.world().fault(one(name).every(4).body(PAGE));
        let run = Tap::new(&fake).set("page_size", 60).run();
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        same_once(name, &run.events(), fake.world().held());
    }
}

/// A mixture, seeded. Runs that give up are gone on with; nothing is lost, and nothing repeated but what followed the
/// last STATE of a broken run.
#[test]
fn a_storm_of_faults_loses_nothing() {
    for seed in 1..=3 {
        let fake = fake();
        for (at, name) in
            ["reset", "cut_body", "server_500", "throttle_429", "gzip_corrupt", "null_results"].iter().enumerate()
        {
            fake.world().fault(one(name).one_in(25, seed * 100 + at as u64).path("/query/"));
        }
        let mut delivered: Vec<Held> = Vec::new();
        let mut tap = Tap::new(&fake).set("page_size", 50);
        for attempt in 0.. {
            let run = tap.run();
            let events = run.events();
            if run.code == 0 {
                delivered.extend(events);
                break;
            }
            assert!(attempt < 20 && [4, 9, 75].contains(&run.code), "seed {seed}: exit {}: {}", run.code, run.stderr);
            delivered.extend(up_to_last_state(&run.stdout));
            tap.state = Some(run.last_state().to_string());
        }
        same_once(&format!("seed {seed}"), &delivered, fake.world().held());
    }
}

fn up_to_last_state(stdout: &str) -> Vec<Held> {
    safe_part(stdout).map_or_else(Vec::new, |(events, _)| events)
}

#[test]
fn lasting_refusals_end_the_run_with_their_code() {
    for (name, code) in [("auth_401", 3), ("type_mismatch_400", 4), ("redirect_302", 3)] {
        let fake = fake();
        fake.world().fault(Fault::new(name).skip(1).body(PAGE));
        let run = Tap::new(&fake).set("page_size", 60).run();
        assert_eq!(run.code, code, "{name}: {}", run.stderr);
        run.complains(&[]);
        fake.world().faults.clear();
        let mut all = up_to_last_state(&run.stdout);
        all.extend(Tap::new(&fake).set("page_size", 60).state(&run.last_state()).run().ends(0).events());
        same_once(name, &all, fake.world().held());
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let (fake, trap) = (fake(), Fake::start(Options::default()));
    let location = format!("{}/api/projects/1/query/", trap.url());
    fake.world().fault(Fault::new("redirect_302").location(location));
    assert_ne!(Tap::new(&fake).run().code, 0);
    assert_eq!(trap.world().log.len(), 0, "the key went to another host");
}

#[test]
fn retry_after_may_be_a_date() {
    let fake = fake();
    // Six seconds after the `Date` of the answer, which shows the fake's clock.
    let date = chrono::DateTime::from_timestamp_micros(fake.world().now + 6_000_000).unwrap();
    let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    fake.world().fault(Fault::new("throttle_429").next(1).skip(2).retry_after(date));
    let run = Tap::new(&fake).run().ends(0);
    same_once("date", &run.events(), fake.world().held());
    assert!(run.stderr.contains("waiting 6 s"), "{}", run.stderr);
}

#[test]
fn a_budget_that_ran_out_stops_the_run_with_its_state_saved() {
    let fake = fake();
    fake.world().fault(Fault::new("budget_429").skip(2).body(PAGE).retry_after("3000"));
    let run = Tap::new(&fake).set("page_size", 90).set("budget", "stop").run().ends(75);
    fake.world().faults.clear();
    let mut all = up_to_last_state(&run.stdout);
    all.extend(Tap::new(&fake).set("page_size", 90).state(&run.last_state()).run().ends(0).events());
    same_once("both runs", &all, fake.world().held());
}

/// The bytes that a run over these events reads.
fn bytes_needed(events: &[Event]) -> i64 {
    let free = Fake::start(Options::default());
    free.world().insert(events.to_vec());
    Tap::new(&free).set("page_size", 40).run().ends(0);
    free.world().log.iter().map(|request| request.bytes_read).sum::<u64>().cast_signed()
}

fn refused(fake: &Fake) -> usize {
    fake.world().log.iter().filter(|request| request.status == 429).count()
}

/// By the headers alone: before it is refused, and with a state that the next run goes on from.
#[test]
fn a_budget_that_runs_out_stops_a_run_before_it_is_refused() {
    let events = realistic(5, 400, Options::default().now - HOUR_MICROS, 4);
    let half = bytes_needed(&events) / 2;
    for set in [("budget", "stop".into()), ("max_wait_minutes", serde_json::Value::from(0))] {
        let fake = Fake::start(Options { budget_bytes: Some(half), budget_refill: 200, ..Options::default() });
        fake.world().insert(events.clone());
        let tap = || Tap::new(&fake).set("page_size", 40).set(set.0, set.1.clone());
        let run = tap().run().ends(75);
        assert_eq!(refused(&fake), 0, "{}", run.stderr);
        run.complains(&["byte budget is nearly used up", "would have to wait", set.0]);
        assert!((1..events.len()).contains(&run.events().len()), "{}", run.stderr);
        let mut all = up_to_last_state(&run.stdout);
        fake.world().limits.pay(10 * half);
        all.extend(tap().state(&run.last_state()).run().ends(0).events());
        same_once(set.0, &all, fake.world().held());
    }
}

/// The headers tell what is left: a run slows down before it is refused, however little comes back.
#[test]
fn a_small_budget_slows_a_run_down_and_never_refuses_it() {
    let events = realistic(5, 400, Options::default().now - HOUR_MICROS, 4);
    let needed = bytes_needed(&events);
    // Half of it is there, the rest comes back in twenty seconds of the tap's clock: it has to wait.
    let options =
        Options { budget_bytes: Some(needed / 2), budget_refill: needed / 40 * i64::from(CLOCK), ..Options::default() };
    let fake = Fake::start(options);
    fake.world().insert(events);
    let run = Tap::new(&fake).set("page_size", 40).run().ends(0);
    same_once("slowed", &run.events(), fake.world().held());
    assert_eq!(refused(&fake), 0, "{}", run.stderr);
    assert!(run.stderr.contains("byte budget is nearly used up"), "{}", run.stderr);
}

/// Nothing smaller can be asked for: the error names the event, and the rest can be had.
#[test]
fn an_event_that_is_too_large_is_named() {
    let fake = fake();
    let day = Options::default().now - 3 * HOUR_MICROS;
    let uuid = "0198f3a0-0000-7000-8000-00000000beef";
    let text = serde_json::json!({"text": "x".repeat(2_000_000)});
    fake.world().insert([Event::new(9_999, "large", day).created(day).uuid(uuid).properties(&text)]);
    let run = Tap::new(&fake).set("max_response_mb", 1).run().ends(4);
    run.complains(&["one event alone is too large", uuid, "max_response_mb"]);
    same_once("larger answers", &Tap::new(&fake).run().ends(0).events(), fake.world().held());
}

/// A server that can read only so many bytes at once gets smaller questions until it can, and never the same one twice.
#[test]
fn queries_that_run_out_of_time_are_split() {
    let fake = Fake::start(Options { most_bytes_read: 100_000, ..Options::default() });
    let now = fake.world().now;
    fake.world().insert(realistic(6, 500, now, 2));
    let run = Tap::new(&fake).run().ends(0);
    same_once("split", &run.events(), fake.world().held());
    splits_and_never_repeats(&fake);
}

#[test]
fn old_servers_without_modifiers_and_optional_columns_are_read() {
    let absent =
        ["$session_id", "$window_id", "$group_0", "$group_1", "$group_2", "$group_3", "$group_4", "person_mode"];
    let mut options = Options { refuses: &["modifiers"], budget_bytes: None, gzip: false, ..Options::default() };
    options.absent.extend(absent.map(|name| -> &'static str { format!("events.{name}").leak() }));
    let fake = Fake::start(options);
    fake.world().insert((0..50).map(|n| Event::new(n, "e", micros("2026-08-14T10:00:00Z"))));
    let run = Tap::new(&fake).run().ends(0);
    same_once("old server", &run.events(), fake.world().held());
}

#[test]
fn an_old_server_whose_days_are_not_utc_is_refused() {
    let fake = Fake::start(Options { refuses: &["modifiers"], zone: Zone::LosAngeles, ..Options::default() });
    fake.world().insert((0..50).map(|n| Event::new(n, "e", micros("2026-08-14T10:00:00Z"))));
    let run = Tap::new(&fake).run().ends(3);
    assert!(run.stderr.contains("time zone America/Los_Angeles") && run.stderr.contains("update it"), "{}", run.stderr);
    assert!(run.events().is_empty());
    for (stream, code, category) in [("events", 3, "config"), ("cohorts", 0, "ok")] {
        let output = Tap::new(&fake).set("data_type", stream).arg("--doctor").command().output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), report["category"].as_str()), (Some(code), Some(category)), "{report}");
        assert!(report["message"].as_str().unwrap().contains("time zone America/Los_Angeles"), "{report}");
    }
}

const SAMPLE: &str = "LIMIT 20 BY event";

/// A run without the scope for definitions, whose columns of properties come from a sample; and the samples it asked for.
fn sampled(fault: Option<Fault>) -> (Run, Vec<String>) {
    // The days of a sample are those before the day of this machine.
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    let fake = Fake::start(Options { now, ..Options::default() });
    fake.world().insert(realistic(5, 400, now - HOUR_MICROS, 4));
    if let Some(fault) = fault {
        fake.world().fault(fault.body(SAMPLE));
    }
    let tap = Tap::new(&fake).set("api_key", "phx_fake_query_only").set("data_type", serde_json::Value::Null);
    let run = tap.run().ends(0);
    same_once("events", &run.events(), fake.world().held());
    let asked: Vec<String> = fake.world().log.iter().filter_map(|request| request.sql.clone()).collect();
    (run, asked.into_iter().filter(|sql| sql.contains(SAMPLE)).collect())
}

fn columns(run: &Run) -> Vec<String> {
    let schema = run.messages().into_iter().find(|message| message["stream"] == "events").unwrap();
    let names = schema["schema"]["properties"].as_object().unwrap().keys();
    names.filter(|name| name.starts_with("properties_")).cloned().collect()
}

#[test]
fn a_sample_of_events_gives_columns() {
    let (run, asked) = sampled(None);
    assert_eq!((asked.len(), run.stderr.contains("no sample of events")), (1, false), "{}", run.stderr);
    let columns = columns(&run);
    assert!(columns.contains(&"properties_$browser".to_owned()) && columns.len() > 5, "{columns:?}");
    let filled = run.records("events").iter().filter(|record| record["properties_$browser"].is_string()).count();
    assert!(filled > 100, "{filled} of 400 events have their browser in its column");
}

/// Without a sample there are no such columns.
#[test]
fn a_sample_that_fails_costs_columns_and_no_row() {
    for (name, requests) in [("timeout_504", 3), ("too_many_bytes_400", 3), ("memory_513", 3), ("server_500", 2)] {
        let (run, asked) = sampled(Some(Fault::new(name)));
        let warnings = run.stderr.lines().filter(|line| line.contains("no sample of events")).count();
        assert_eq!((asked.len(), warnings, columns(&run).len()), (requests, 1, 0), "{name}: {}", run.stderr);
        assert!(run.stdout.contains("\"unmapped_properties\":{\""), "{name}");
    }
    // What is too much is asked for less of: fewer days, then a smaller part of the keys.
    let (_, asked) = sampled(Some(Fault::new("timeout_504")));
    let since = |sql: &str| sql.split("timestamp >= ").nth(1).unwrap()[..40].to_owned();
    assert!(since(&asked[0]) < since(&asked[1]) && since(&asked[1]) == since(&asked[2]), "{asked:?}");
    for (sql, bits) in asked.iter().zip([60, 60, 56]) {
        assert!(sql.contains(&format!("<= {} ", 1u64 << bits)), "{sql}");
    }
}
