//! Runs that go by `timestamp`: where `created_at` is missing, says nothing, or the catalog chooses so.

use serde_json::{Value as Json, json};

use crate::fake::events::realistic;
use crate::fake::{DAY_MICROS, Event, Fake, Fault, HOUR_MICROS, Options};
use crate::harness::{Run, Tap, same_once};

const READY_MADE: &str = include_str!("../../catalog/events-only-raw.json");
const PAGE: &str = "cityHash64(distinct_id), timestamp, uuid";

/// A project without `created_at`: days, one microsecond with many events, and copies that are not merged yet.
fn without_created_at() -> Fake {
    let fake = Fake::start(Options { absent: vec!["events.created_at"], ..Options::default() });
    let now = fake.world().now;
    let mut events = realistic(3, 300, now, 3);
    events.extend((90_000..90_060).map(|n| Event::new(n, "burst", now - HOUR_MICROS).by("one")));
    let copies: Vec<Event> = events.iter().step_by(3).cloned().collect();
    fake.world().insert(events.into_iter().chain(copies));
    fake
}

fn schema(run: &Run) -> Json {
    run.messages().into_iter().find(|message| message["type"] == "SCHEMA").unwrap()
}

fn replication_key(run: &Run) -> Json {
    run.last_state()["bookmarks"]["events"]["replication_key"].clone()
}

/// The ready-made catalog with another replication key.
fn by(key: &str) -> String {
    let mut catalog: Json = serde_json::from_str(READY_MADE).unwrap();
    let stream = &mut catalog["streams"][0];
    stream["replication_key"] = key.into();
    let entries = stream["metadata"].as_array_mut().unwrap();
    let root = entries.iter_mut().find(|entry| entry["breadcrumb"] == json!([])).unwrap();
    root["metadata"]["replication-key"] = key.into();
    catalog.to_string()
}

#[test]
fn a_project_without_created_at_is_read_by_timestamp() {
    for catalog in [None, Some(READY_MADE)] {
        let fake = without_created_at();
        let tap = |page_size: u64| {
            let mut tap = Tap::new(&fake).set("page_size", page_size);
            tap.catalog = catalog.map(str::to_owned);
            tap
        };
        for page_size in [7, 50_000] {
            let first = tap(page_size).run().ends(0);
            same_once(&format!("page_size {page_size}"), &first.events(), fake.world().held());
            assert_eq!(schema(&first)["bookmark_properties"], json!(["timestamp"]));
            assert!(schema(&first)["schema"]["properties"].get("created_at").is_none());
            assert_eq!(replication_key(&first), "timestamp");
            let warnings = first.stderr.lines().filter(|line| line.contains("runs go by `timestamp`"));
            assert_eq!(warnings.count(), 1, "{}", first.stderr);
        }
        let first = tap(50).run().ends(0);
        let before = fake.world().held();
        fake.world().advance(HOUR_MICROS);
        let now = fake.world().now;
        // Late by days, within late_arrival_days.
        fake.world().insert(
            (0..20).map(|n| Event::new(70_000 + n, "late", now - 1 - n as i64 * DAY_MICROS / 4)).collect::<Vec<_>>(),
        );
        fake.world().log.clear();
        let second = tap(50).state(&first.last_state()).run().ends(0);
        let arrived = fake.world().held().into_iter().filter(|held| !before.contains(held));
        same_once("second run", &second.events(), arrived);
        assert_eq!(schema(&second)["bookmark_properties"], json!(["timestamp"]));
        let refused = fake.world().log.iter().filter(|request| request.status == 400).count();
        assert!(refused <= 2, "{refused} refused: it is known that there is no created_at");
    }
}

#[test]
fn a_run_by_timestamp_that_broke_off_goes_on() {
    let fake = without_created_at();
    let tap = || Tap::new(&fake).set("page_size", 20);
    // Between two slices: inside of one no state is said.
    let breaks_off = |skip: usize| {
        fake.world().fault(Fault::new("auth_401").skip(skip).body(PAGE));
        let first = tap().run().ends(3);
        fake.world().faults.clear();
        first.stdout.contains("\"cursor\"").then_some(first)
    };
    let first = (5..40).find_map(breaks_off).expect("no break between two slices");
    let second = tap().state(&first.last_state()).run().ends(0);
    let mut all = first.events();
    all.extend(second.events());
    same_once("both runs", &all, fake.world().held());
}

#[test]
fn arrivals_that_say_nothing_are_not_gone_by() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    let events = realistic(4, 300, now, 3).into_iter().enumerate();
    fake.world().insert(events.map(|(n, event)| if n % 20 == 0 { event.created(0) } else { event }));
    let run = Tap::new(&fake).set("page_size", 30).run().ends(0);
    same_once("1970", &run.events(), fake.world().held());
    assert_eq!(
        (schema(&run)["bookmark_properties"].clone(), replication_key(&run)),
        (json!(["timestamp"]), "timestamp".into())
    );
    assert_eq!(schema(&run)["schema"]["properties"]["created_at"]["type"], json!(["null", "string"]));
}

#[test]
fn the_replication_key_of_the_catalog_is_gone_by() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(5, 300, now, 3));
    for key in ["timestamp", "created_at"] {
        fake.world().log.clear();
        let mut tap = Tap::new(&fake).set("page_size", 30);
        tap.catalog = Some(by(key));
        let run = tap.run().ends(0);
        same_once(key, &run.events(), fake.world().held());
        assert_eq!((schema(&run)["bookmark_properties"].clone(), replication_key(&run)), (json!([key]), key.into()));
        let world = fake.world();
        let bounds =
            world.log.iter().filter_map(|request| request.sql.as_ref()).any(|sql| sql.contains("created_at <"));
        assert_eq!(bounds, key == "created_at");
    }
}

#[test]
fn a_changed_replication_key_repeats_events_and_is_refused_in_the_middle() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert((0..200).map(|n| Event::new(n, "e", now - n as i64 * DAY_MICROS / 10)));
    let whole = Tap::new(&fake).set("page_size", 20).run().ends(0);
    let mut tap = Tap::new(&fake).set("page_size", 20).state(&whole.last_state());
    tap.catalog = Some(by("timestamp"));
    fake.world().advance(HOUR_MICROS);
    let changed = tap.run().ends(0);
    assert!(changed.stderr.contains("replication-key changed"), "{}", changed.stderr);
    let recent = fake.world().held().into_iter().filter(|held| held.timestamp >= now - 7 * DAY_MICROS);
    same_once("after the change", &changed.events(), recent);
    same_once("the run after", &tap.state(&changed.last_state()).run().ends(0).events(), []);
    fake.world().fault(Fault::new("auth_401").skip(3).body(PAGE));
    let broken = Tap::new(&fake).set("page_size", 20).run().ends(3);
    fake.world().faults.clear();
    let mut tap = Tap::new(&fake).state(&broken.last_state());
    tap.catalog = Some(by("timestamp"));
    tap.run().ends(3).complains(&["replication-key", "half done"]);
}

#[test]
fn without_arrivals_events_of_any_age_are_found_where_that_is_wanted() {
    let fake = without_created_at();
    let first = Tap::new(&fake).set("late_arrival_days", 0).run().ends(0);
    let before = fake.world().held();
    fake.world().advance(HOUR_MICROS);
    let now = fake.world().now;
    fake.world().insert((0..5).map(|n| Event::new(80_000 + n, "late", now - (1 + 5 * n as i64) * DAY_MICROS)));
    let second = Tap::new(&fake).set("late_arrival_days", 0).state(&first.last_state()).run().ends(0);
    same_once("late", &second.events(), fake.world().held().into_iter().filter(|held| !before.contains(held)));
}
