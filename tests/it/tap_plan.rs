//! `--plan` says what the run after it then does.

use serde_json::{Value as Json, json};

use crate::fake::events::realistic;
use crate::fake::{Event, Fake, Fault, HOUR_MICROS, Options};
use crate::harness::{Run, Tap};

const PAGE: &str = "cityHash64(distinct_id), timestamp, uuid";

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(7, 1_000, now, 4));
    fake
}

/// What the tap prints for `--plan`, which is no Singer.
fn plan(tap: Tap<'_>) -> String {
    let run = Run::of(tap.arg("--plan").arg("--format=text").command().output().unwrap()).ends(0);
    assert!(!run.stdout.contains("RECORD"));
    run.stdout
}

/// The number before `unit`.
fn number(text: &str, unit: &str) -> u64 {
    let at = text.find(unit).unwrap_or_else(|| panic!("no `{unit}` in {text}"));
    text[..at]
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("no number before `{unit}`: {text}"))
}

fn chart(text: &str) -> u64 {
    let days = text.lines().filter(|line| line.contains('█'));
    days.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn rows_requests_and_time_follow_the_settings() {
    let fake = fake();
    for page_size in [20, 100, 50_000] {
        let tap = || Tap::new(&fake).set("page_size", page_size);
        let text = plan(tap());
        fake.world().log.clear();
        let run = tap().run().ends(0);
        let queries = fake.world().log.iter().filter(|request| request.sql.is_some()).count() as u64;
        let rows = number(&text, " rows to read");
        assert_eq!((rows, chart(&text)), (fake.world().held().len() as u64, rows), "{text}");
        assert_eq!(run.records("events").len() as u64, rows);
        let planned = number(&text, " requests");
        assert!(
            planned * 10 >= queries * 6 && planned * 6 <= queries * 10,
            "{planned} planned, {queries} asked: {text}"
        );
    }
    let slow = plan(Tap::new(&fake).set("page_size", 20).set("requests_per_minute", 60).set("requests_per_hour", 100));
    // 16 at once, less those of the plan itself, then one every 43 seconds.
    let minutes = (number(&slow, " requests") - 12) * 43 / 60;
    let said = number(&slow, " minutes under 60 queries a minute and 100 an hour");
    assert!(said.abs_diff(minutes) <= 5, "{minutes} minutes: {slow}");
}

#[test]
fn an_overlap_is_told_from_what_is_new() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert((0..40).map(|n| Event::new(n, "old", now - n as i64 - 1).created(now - n as i64 - 1)));
    let first = Tap::new(&fake).run().ends(0);
    fake.world().advance(60_000_000);
    let later = fake.world().now;
    fake.world().insert((100..103).map(|n| Event::new(n, "new", later - n as i64).created(later - n as i64)));
    let text = plan(Tap::new(&fake).state(&first.last_state()));
    assert_eq!((number(&text, " rows to read"), number(&text, " of them new")), (43, 3), "{text}");
    let second = Tap::new(&fake).state(&first.last_state()).run().ends(0);
    assert_eq!(second.records("events").len(), 3);
}

#[test]
fn the_rest_of_an_interrupted_run_and_the_next_one_are_planned() {
    let fake = fake();
    // Between two slices: inside of one no state is said.
    let breaks_off = |skip: usize| {
        fake.world().fault(Fault::new("auth_401").skip(skip).body(PAGE));
        let broken = Tap::new(&fake).set("page_size", 30).run().ends(3);
        fake.world().faults.clear();
        let state = broken.last_state();
        let event = &state["bookmarks"]["events"]["run"]["passes"][0]["cursor"]["event"];
        event.as_str().is_some_and(|event| !event.is_empty()).then_some(broken)
    };
    let broken = (20..40).find_map(breaks_off).expect("no break inside a day");
    fake.world().advance(2 * HOUR_MICROS);
    let now = fake.world().now;
    fake.world().insert((5_000..5_017).map(|n| Event::new(n, "new", now - HOUR_MICROS)));
    let state = broken.last_state();
    let text = plan(Tap::new(&fake).state(&state));
    let rest = Tap::new(&fake).state(&state).run().ends(0);
    let printed = rest.records("events").len() as u64;
    assert!(text.contains("the rest of the run that was interrupted"), "{text}");
    assert!(printed < 1_000 && number(&text, " of them new") == printed, "{printed} printed: {text}");
    assert_eq!(text.matches("events that arrived").count(), 2, "{text}");
}

#[test]
fn the_catalog_says_which_stream_is_planned() {
    let fake = fake();
    let mut catalog: Json = serde_json::from_str(include_str!("../../catalog/events-only-raw.json")).unwrap();
    catalog["streams"][0]["stream"] = json!("visits");
    let mut tap = Tap::new(&fake);
    tap.catalog = Some(catalog.to_string());
    let state = tap.run().ends(0).last_state();
    fake.world().advance(HOUR_MICROS);
    let mut tap = Tap::new(&fake).state(&state);
    tap.catalog = Some(catalog.to_string());
    assert!(number(&plan(tap), " rows to read") < 100, "its state is not found");
    let mut tap = Tap::new(&fake);
    tap.catalog = Some(json!({"streams": []}).to_string());
    assert!(plan(tap).contains("not selected"));
    assert!(plan(Tap::new(&fake).set("data_type", "persons")).contains("not selected"));
}
