//! Very busy keys: one `distinct_id` with more events of a name and a day than one answer holds. They are read in the order in
//! which the server stores them, at the price of any other events.

use serde_json::{Value as Json, json};

use crate::fake::{DAY_MICROS, Event, Fake, Fault, Held, NEW_STORAGE, Options, cityhash64};
use crate::harness::{PAGE, Run, Tap, safe_part, same_once, with_states_often};

/// Servers that store events in one way or the other, and say what a query reads or not.
fn servers() -> [(&'static str, Options); 4] {
    let new = || Options { sort_key: NEW_STORAGE, ..Options::default() };
    let silent = |options| Options { budget_bytes: None, ..options };
    [
        ("classic", Options::default()),
        ("new", new()),
        ("classic, silent", silent(Options::default())),
        ("new, silent", silent(new())),
    ]
}

/// Noon of the day before yesterday.
fn noon(fake: &Fake) -> i64 {
    fake.world().now - 2 * DAY_MICROS
}

fn busy(n: u64, at: i64) -> Event {
    Event::new(n, "busy", at).by("server").properties(&json!({"number": n, "text": "x".repeat(300)}))
}

/// Others of the same name, and of names before and behind.
fn others(noon: i64) -> Vec<Event> {
    let event = |n: u64| Event::new(100_000 + n, ["a", "busy", "c"][n as usize % 3], noon + n as i64 * 1_000);
    (0..60).map(event).collect()
}

fn sqls(fake: &Fake, part: &str) -> Vec<String> {
    let log: Vec<String> = fake.world().log.iter().filter_map(|request| request.sql.clone()).collect();
    log.into_iter().filter(|sql| sql.contains(part)).collect()
}

fn probes(fake: &Fake) -> usize {
    sqls(fake, "SELECT uuid FROM events").len()
}

#[test]
fn a_busy_key_is_read_whole_and_once_at_the_price_of_any_other() {
    for (name, options) in servers() {
        let fake = Fake::start(options);
        let noon = noon(&fake);
        fake.world().insert((0..3_000).map(|n| busy(n, noon + n as i64 * 7_000)));
        fake.world().insert(others(noon));
        let run = Tap::new(&fake).set("page_size", 60).run().ends(0);
        same_once(name, &run.events(), fake.world().held());
        let asked = fake.world().log.iter().map(|request| request.bytes_read).sum::<u64>();
        let bodies = fake.world().log.iter().map(|request| request.body_bytes as u64).sum::<u64>();
        assert!(asked * 10 < bodies * 16, "{name}: {asked} bytes read for {bodies}");
        // What the first row costs in either order tells how events are stored.
        assert_eq!(probes(&fake), if name == "new" { 2 } else { 1 }, "{name}");
        let by_uuid = sqls(&fake, "AND cityHash64(uuid) >= ").len();
        let by_time = sqls(&fake, "AND cityHash64(distinct_id) = ").len() - by_uuid;
        assert!(
            if name == "new" { by_time > 40 } else { by_uuid > 40 },
            "{name}: {by_uuid} by uuid, {by_time} by time"
        );
        assert!(run.stderr.contains("proved"), "{}", run.stderr);
    }
}

#[test]
fn without_a_busy_key_nothing_is_probed() {
    let fake = Fake::start(Options::default());
    let noon = noon(&fake);
    fake.world().insert(others(noon));
    let run = Tap::new(&fake).run().ends(0);
    same_once("others", &run.events(), fake.world().held());
    assert_eq!((probes(&fake), sqls(&fake, "cityHash64(uuid)").len()), (0, 0));
}

/// Neither part of the key tells the events apart alone, and whichever way they are read must not depend on it.
#[test]
fn many_events_of_one_microsecond_or_of_one_uuid_are_read_whole_and_once() {
    for (name, options) in servers() {
        for page_size in [7, 50] {
            let fake = Fake::start(options.clone());
            let noon = noon(&fake);
            let uuid = "019fbc99-bec2-7afe-a3d9-f07224cdf735";
            fake.world().insert((0..600).map(|n| busy(n, noon)));
            fake.world().insert((0..600).map(|n| busy(n, noon + DAY_MICROS + n as i64 * 999).uuid(uuid)));
            // Versions of one event that nothing but their arrival tells apart.
            fake.world().insert((0..60).map(|n| busy(7, noon - DAY_MICROS).uuid(uuid).created(noon + n)));
            let run = Tap::new(&fake).set("page_size", page_size).run().ends(0);
            same_once(&format!("{name}, page_size {page_size}"), &run.events(), fake.world().held());
        }
    }
}

/// Between any two queries: rows of the key go, copies come and are merged. What stays comes, once.
#[test]
fn rows_that_come_go_and_merge_inside_a_busy_key_are_no_loss() {
    for nth in 3..16 {
        let (_, options) = servers().into_iter().nth(nth % 2).unwrap();
        let fake = Fake::start(options);
        let noon = noon(&fake);
        let event = move |n: u64| busy(n, noon + n as i64 / 3);
        fake.world().insert((0..500).map(event));
        fake.world().insert((0..500).step_by(7).map(event));
        let stays = |held: &Held| !held.identity.uuid.ends_with(['0', '5', 'a']);
        fake.world().before_query(nth, move |world| {
            world.delete(|held| !stays(held));
            world.insert(
                (0..500)
                    .step_by(5)
                    .map(event)
                    .filter(|event| event.uuid & 0xf != 0 && event.uuid & 0xf != 5 && event.uuid & 0xf != 10),
            );
        });
        fake.world().before_query(nth + 3, |world| world.merge());
        let run = Tap::new(&fake).set("page_size", 40).run().ends(0);
        let kept: Vec<Held> = run.events().into_iter().filter(stays).collect();
        same_once(&format!("before query {nth}"), &kept, fake.world().held());
    }
}

/// A run that breaks off anywhere inside a busy key goes on there, without another probe, also where the server meanwhile
/// stores events in the other way.
#[test]
fn a_run_that_breaks_off_inside_a_busy_key_goes_on_there() {
    for (at, (name, options)) in servers().into_iter().enumerate() {
        for moves in [false, true] {
            let fake = Fake::start(options.clone());
            let noon = noon(&fake);
            fake.world().insert((0..1_000).map(|n| busy(n, noon + n as i64 * 5_000)));
            fake.world().insert(others(noon));
            fake.world().fault(Fault::new("auth_401").body(PAGE).skip(18 + at).next(1));
            let mut tap = Tap::new(&fake).set("page_size", 40);
            let first = Run::of(with_states_often(tap.command()).output().unwrap()).ends(3);
            let (mut all, state) = safe_part(&first.stdout).unwrap();
            assert!(all.len() > 100 && state.contains("\"inside\":["), "{name}: {} rows, {state}", all.len());
            fake.world().faults.clear();
            fake.world().log.clear();
            if moves {
                let other = &servers()[(at + 1) % 2].1;
                fake.world().options.sort_key = other.sort_key;
            }
            tap.state = Some(state);
            all.extend(tap.run().ends(0).events());
            same_once(&format!("{name}, moves: {moves}"), &all, fake.world().held());
            assert_eq!(probes(&fake), 0, "{name}");
        }
    }
}

/// A state whose cursor lies behind a row of a busy key: the rows before it do not come again, the others all do, also when
/// the run breaks off once more.
#[test]
fn a_cursor_of_form_2_inside_a_busy_key_goes_on_behind_its_row() {
    for (name, options) in servers() {
        let fake = Fake::start(options);
        let noon = noon(&fake);
        fake.world().insert((0..1_000).map(|n| busy(n, noon + n as i64 * 5_000)));
        fake.world().insert(others(noon));
        fake.world().fault(Fault::new("auth_401").body(PAGE).skip(3).next(1));
        let mut tap = Tap::new(&fake).set("page_size", 40);
        let mut state = tap.run().ends(3).last_state();
        fake.world().faults.clear();
        let mut wanted = fake.world().held();
        wanted.sort_by_key(|held| held.timestamp);
        let last = wanted.iter().filter(|held| held.identity.distinct_id == "server").nth(300).unwrap().clone();
        let (uuid, hash) = (last.identity.uuid.clone(), cityhash64(b"server").to_string());
        let bookmark = &mut state["bookmarks"]["events"];
        bookmark["form"] = json!(2);
        bookmark["run"]["passes"][0]["cursor"] = json!({"day": "2026-08-13", "event": "busy", "hash": hash,
            "row": [last.timestamp, uuid, last.created_at]});
        let place = |held: &Held| {
            (
                held.identity.day,
                held.identity.event.clone(),
                cityhash64(held.identity.distinct_id.as_bytes()),
                held.timestamp,
            )
        };
        let stored = wanted.len();
        wanted.retain(|held| place(held) > place(&last));
        assert!(wanted.len() > 690, "{}", wanted.len());
        // As the state counts what was delivered, by the hour of its arrival.
        bookmark["run"]["ledger"]["hours"] = json!([[noon / 1_000_000, stored - wanted.len()]]);
        tap.state = Some(state.to_string());
        fake.world().fault(Fault::new("auth_401").body("AND cityHash64(distinct_id) = ").skip(8).next(1));
        let broken = tap.run().ends(3);
        let (mut all, state) = safe_part(&broken.stdout).unwrap();
        fake.world().faults.clear();
        tap.state = Some(state);
        all.extend(tap.run().ends(0).events());
        same_once(name, &all, wanted);
    }
}

/// A page that fails ends the run at once, while another thread counts the next day, over and over.
#[test]
fn a_failed_page_is_said_while_the_next_day_is_counted() {
    let fake = Fake::start(Options::default());
    let noon = noon(&fake);
    fake.world().insert((0..2).map(|n| Event::new(n, "few", noon - DAY_MICROS)));
    fake.world().insert((10..900).map(|n| Event::new(n, "many", noon + n as i64)));
    fake.world().fault(Fault::new("server_500").body("AS least"));
    fake.world().fault(Fault::new("server_500").body(PAGE).next(1));
    fake.world().fault(Fault::new("auth_401").body(PAGE));
    let run = Tap::new(&fake).set("page_size", 10).run();
    assert_eq!(run.code, 3, "{}", run.stderr);
    let counts = sqls(&fake, "AS least").len();
    assert!(counts < 7, "{counts} of 8 attempts to count, while a page had failed after two");
}

/// Counts whose rows come in another order cannot be planned by: a slice would go backwards.
#[test]
fn counts_that_are_out_of_order_are_asked_for_again() {
    for part in ["AS least", "AS day, count() AS rows"] {
        let fake = Fake::start(Options::default());
        let noon = noon(&fake);
        fake.world()
            .insert((0..400).map(|n| Event::new(n, ["a", "b", "c"][n as usize % 3], noon + n as i64 * 400_000_000)));
        fake.world().fault(Fault::new("reversed_rows").body(part).next(1));
        let run = Tap::new(&fake).set("page_size", 40).run().ends(0);
        let asked = sqls(&fake, part);
        assert_eq!(asked.iter().filter(|sql| **sql == asked[0]).count(), 2, "{part}: {asked:?}");
        same_once(part, &run.events(), fake.world().held());
    }
}

fn bound(run: &Run) -> usize {
    run.stderr.matches("PostHog gives 100 rows at most").count()
}

/// A server that gives fewer rows than LIMIT says: reading goes on behind the last row, with the smaller page.
#[test]
fn a_server_that_gives_fewer_rows_of_events_than_are_asked_for_is_read_to_the_end() {
    let fake = Fake::start(Options { most_rows: 100, ..Options::default() });
    let noon = noon(&fake);
    fake.world().insert((0..1_324).map(|n| Event::new(n, ["a", "b"][n as usize % 2], noon + n as i64 * 90_000_000)));
    let run = Tap::new(&fake).run().ends(0);
    same_once("capped", &run.events(), fake.world().held());
    assert_eq!(bound(&run), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    // One distinct_id with many events, so that the plan of its day is cut too.
    fake.world().insert((0..1_500).map(|n| busy(5_000 + n, noon + n as i64)));
    let run = Tap::new(&fake).run().ends(0);
    same_once("capped, busy", &run.events(), fake.world().held());
    let said: Json = run.last_state();
    assert!(said["bookmarks"]["events"]["run"].is_null(), "{said}");
}
