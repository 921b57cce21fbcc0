//! SIGKILL at any instant: the run from the last STATE that left the process goes on, nothing is lost, and what is repeated
//! came after that STATE. SIGTERM: the line is finished, the last safe STATE goes out.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::time::Duration;

use serde_json::json;

use crate::fake::events::{Dice, realistic};
use crate::fake::{DAY_MICROS, Event, Fake, Fault, HOUR_MICROS, Held, Options, micros};
use crate::harness::{Run, Tap, at, in_real_time, rest_of, safe_part, same_once, terminate, with_states_often};

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(8, 1_500, now, 5));
    fake
}

/// Reads lines until one is `enough`, kills the tap, and gives everything that left it.
fn kill_when(mut child: Child, mut enough: impl FnMut(&str) -> bool) -> String {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = child.stderr.take().unwrap();
    let drain = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let mut text = String::new();
    let mut last = 0;
    while output.read_line(&mut text).unwrap() > 0 && !enough(&text[last..]) {
        last = text.len();
    }
    child.kill().unwrap();
    text.push_str(&rest_of(&mut output));
    child.wait().unwrap();
    drop(drain.join().unwrap());
    text
}

#[test]
fn killed_anywhere_the_next_run_goes_on() {
    for seed in 0..12 {
        let fake = fake();
        // Slow answers, so that a kill finds the tap at work and not merely writing.
        fake.world().fault(Fault::new("slow").every(3).pause(Duration::from_millis(3)));
        let mut dice = Dice::new(seed);
        let page_size = [30, 100, 1_000][dice.roll(3) as usize];
        let mut tap = Tap::new(&fake).set("page_size", page_size);
        let mut safe: Vec<Held> = Vec::new();
        for _ in 0..3 {
            let mut lines = dice.roll(1_200);
            let text = kill_when(tap.spawn(), |_| {
                lines = lines.saturating_sub(1);
                lines == 0
            });
            if let Some((records, state)) = safe_part(&text) {
                safe.extend(records);
                tap.state = Some(state);
            }
        }
        let run = tap.run().ends(0);
        safe.extend(run.events());
        same_once(&format!("seed {seed}"), &safe, fake.world().held());
    }
}

/// Killed in the middle of a long run, after a STATE with a cursor: the set stays closed, what arrives meanwhile comes later
/// and once.
#[test]
fn a_killed_run_keeps_its_horizon_and_its_place() {
    let fake = fake();
    // Answers so slow that the run outlasts the time between two STATEs.
    fake.world()
        .fault(Fault::new("slow").body("cityHash64(distinct_id), timestamp, uuid").pause(Duration::from_millis(40)));
    let mut tap = Tap::new(&fake).set("page_size", 50);
    let mut since_state = 0;
    let text = kill_when(tap.spawn(), |line| {
        since_state += usize::from(since_state > 0 || line.contains("\"cursor\""));
        since_state > 60
    });
    let (mut all, state) = safe_part(&text).unwrap();
    assert!(!all.is_empty() && all.len() < fake.world().held().len(), "not killed in the middle: {}", all.len());
    tap.state = Some(state);
    fake.world().faults.clear();
    fake.world().advance(2 * HOUR_MICROS);
    let now = fake.world().now;
    let arrived =
        (0..80).map(|n| Event::new(50_000 + n, "new", now - n as i64 * DAY_MICROS / 20).created(now - HOUR_MICROS));
    fake.world().insert(arrived.collect::<Vec<_>>());
    let second = tap.run().ends(0);
    all.extend(second.events());
    fake.world().advance(HOUR_MICROS);
    let third = Tap::new(&fake).state(&second.last_state()).run().ends(0);
    all.extend(third.events());
    same_once("three runs", &all, fake.world().held());
}

#[test]
fn a_terminated_run_ends_on_a_whole_line_with_143() {
    let fake = fake();
    fake.world().fault(Fault::new("slow").skip(3).pause(Duration::from_millis(40)));
    let mut tap = Tap::new(&fake).set("page_size", 50);
    let mut child = in_real_time(tap.command()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("RECORD") {
        assert_ne!(output.read_line(&mut text).unwrap(), 0, "the run ended early");
    }
    terminate(&child);
    output.read_to_string(&mut text).unwrap();
    let run = Run { stdout: text, ..Run::of(child.wait_with_output().unwrap()) };
    assert_eq!(run.code, 143, "{}", run.stderr);
    assert!(run.stdout.ends_with('\n'), "cut inside a line");
    tap.check(&run);
    let mut all = safe_part(&run.stdout).unwrap().0;
    tap.state = Some(run.last_state().to_string());
    fake.world().faults.clear();
    all.extend(tap.run().ends(0).events());
    same_once("both runs", &all, fake.world().held());
}

/// A reader that takes its time, and a signal: the line is finished, not the page.
#[test]
fn a_signal_does_not_wait_for_a_slow_reader_of_events_a_table_or_a_list() {
    let wide = "x".repeat(20_000);
    let properties = json!({"wide": wide}).to_string();
    for stream in ["events", "persons", "cohorts"] {
        let fake = Fake::start(Options::default());
        let now = fake.world().now;
        let event = |n| Event { properties: properties.clone(), ..at(n, now - 1 - n as i64) };
        match stream {
            "events" => fake.world().insert((0..900).map(event)),
            "persons" => (0..900).for_each(|n| {
                let id = format!("{n:08}-0000-4000-8000-000000000000");
                let row = json!({"id": id, "version": 1, "properties": properties});
                fake.world().insert_row("raw_persons", &row);
            }),
            // A page of a list is 100 items.
            _ => fake.world().objects.of(stream).iter_mut().for_each(|item| item["name"] = json!(wide.repeat(5))),
        }
        let tap = Tap::new(&fake).set("data_type", stream);
        let mut child = in_real_time(tap.command()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut vec![0; 300_000]).unwrap();
        terminate(&child);
        // 8 MB a second: a page has 18 MB, and one of the list 10.
        let (mut rest, mut block) = (Vec::new(), vec![0; 40_000]);
        while let read @ 1.. = output.read(&mut block).unwrap() {
            rest.extend_from_slice(&block[..read]);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(child.wait().unwrap().code(), Some(143), "{stream}");
        assert!(rest.len() < 3_000_000 && rest.ends_with(b"\n"), "{} bytes of {stream}", rest.len());
    }
}

/// The hour's quota is one over all processes, so a run counts what the run before it asked.
#[test]
fn the_requests_of_the_run_before_count() {
    let fake = fake();
    let first = Tap::new(&fake).run().ends(0).last_state();
    assert!(first["requests"]["minute"].as_u64().unwrap() > 0, "{first}");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let next = |ago: u64| {
        let mut state = first.clone();
        state["requests"] = serde_json::json!({"at": now - ago, "minute": 0, "hour": 20});
        Tap::new(&fake).set("requests_per_hour", 120).state(&state)
    };
    // One comes back every 36 seconds.
    let waits = next(0).arg("--max-runtime=30").run().ends(75);
    assert!(waits.stderr.contains("keeping below the limit of requests an hour"), "{}", waits.stderr);
    assert!(waits.records("events").is_empty());
    assert!(next(3600).run().ends(0).stderr.contains("proved"));
}

#[test]
fn a_closed_pipe_ends_the_run_with_its_own_code() {
    let fake = fake();
    let tap = Tap::new(&fake).set("page_size", 50);
    let mut child = tap.spawn();
    drop(child.stdout.take());
    let run = Run::of(child.wait_with_output().unwrap()).ends(8);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Rows that the server shows only hours after their arrival time: beyond the lookback the ledger finds them.
#[test]
fn rows_that_show_hours_after_their_arrival_are_found() {
    let fake = Fake::start(Options::default());
    let horizon = micros("2026-08-15T12:00:00Z");
    let event = |n: u64, minutes: i64| {
        Event::new(n, "e", horizon - minutes * 60_000_000).created(horizon - minutes * 60_000_000)
    };
    fake.world().insert((0..200).map(|n| event(n, n as i64)));
    fake.world().insert_visible_from((1_000..1_020).map(|n| event(n, 20)), horizon + HOUR_MICROS / 2);
    fake.world().insert_visible_from((2_000..2_020).map(|n| event(n, 180)), horizon + 3 * HOUR_MICROS);
    let first = Tap::new(&fake).run().ends(0);
    let (mut all, mut state, mut said) = (first.events(), first.last_state(), String::new());
    for _ in 0..4 {
        fake.world().advance(HOUR_MICROS);
        let run = Tap::new(&fake).state(&state).run().ends(0);
        said.push_str(&run.stderr);
        all.extend(run.events());
        state = run.last_state();
    }
    // Repeated is allowed here, lost is not.
    let wanted = fake.world().held();
    let missing: Vec<&Held> = wanted.iter().filter(|held| !all.contains(held)).collect();
    assert!(missing.is_empty(), "{} lost, first {:?}", missing.len(), missing[0]);
    assert!(said.contains("became visible after the last run"), "{said}");
}

/// One person's events of a day are slices like any others: what was read of them is kept.
#[test]
fn a_run_that_ends_inside_a_busy_key_keeps_what_was_read_of_it() {
    let fake = Fake::start(Options::default());
    let noon = fake.world().now - 2 * DAY_MICROS;
    let event = |n: u64| Event::new(n, "busy", noon + n as i64 / 3).by("one");
    fake.world().insert((0..400).map(event));
    // A version stored twice, perhaps with the edge of a page between them.
    fake.world().insert([event(1)]);
    let page = "ORDER BY toDate(timestamp), event";
    fake.world().fault(Fault::new("auth_401").body(page).skip(130).next(1));
    let mut tap = Tap::new(&fake).set("page_size", 2);
    let run = Run::of(with_states_often(tap.command()).output().unwrap()).ends(3);
    let (mut all, state) = safe_part(&run.stdout).unwrap();
    // A slice is one or two rows and at most two pages, the second one empty: so 130 pages hold 65 rows and more. What came
    // in the last milliseconds comes again.
    let read = run.events().len();
    assert!(read >= 60 && all.len() >= 40, "{} of {read} rows of 130 pages", all.len());
    fake.world().faults.clear();
    tap.state = Some(state);
    all.extend(tap.run().ends(0).events());
    same_once("both runs", &all, fake.world().held());
}
