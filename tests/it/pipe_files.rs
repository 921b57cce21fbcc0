//! tap | target: what is stored in PostHog stands in the files, once, over runs and kills of either side.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;

use crate::fake::events::{Dice, realistic};
use crate::fake::{Event, Fake, Fault, HOUR_MICROS, Options, micros};
use crate::harness::{Run, Tap, Target, is_running, same_once};

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(9, 2_000, now, 6));
    fake
}

/// One run of the pipe by way of the tap's whole output.
fn pipe(tap: &Tap<'_>, target: &Target) -> Run {
    let run = tap.run().ends(0);
    target.run(run.stdout).ends(0)
}

#[test]
fn three_runs_write_every_event_once() {
    let (fake, target) = (fake(), Target::new());
    let first = pipe(&Tap::new(&fake), &target);
    same_once("first run", &target.events(), fake.world().held());
    fake.world().advance(HOUR_MICROS);
    let now = fake.world().now;
    fake.world().insert(
        (0..300).map(|n| Event::new(90_000 + n, "later", now - n as i64 * 10 * 60_000_000 - 1).created(now - 1)),
    );
    let state = first.stdout.lines().last().unwrap().to_owned();
    let second = pipe(&Tap::new(&fake).state(&serde_json::from_str(&state).unwrap()), &target);
    same_once("second run", &target.events(), fake.world().held());
    let before = target.files("events").len();
    let state = second.stdout.lines().last().unwrap().to_owned();
    pipe(&Tap::new(&fake).state(&serde_json::from_str(&state).unwrap()), &target);
    assert_eq!(target.files("events").len(), before, "a run without news wrote a file");
}

#[test]
fn the_files_hold_what_the_records_hold() {
    let (fake, target) = (fake(), Target::new());
    let run = Tap::new(&fake).run().ends(0);
    target.run(&run.stdout).ends(0);
    let records = run.records("events");
    let rows = target.rows("events");
    assert_eq!(rows.len(), records.len());
    let by_uuid: std::collections::HashMap<&str, &Json> =
        records.iter().map(|record| (record["uuid"].as_str().unwrap(), record)).collect();
    for row in &rows {
        for (name, value) in by_uuid[row["uuid"].as_str().unwrap()].as_object().unwrap() {
            let same = match (&row[name], value) {
                // A time is a number of microseconds there; text that is no text here is its JSON.
                (Json::Number(here), Json::String(wanted)) => here.as_i64() == Some(micros(wanted)),
                (Json::Number(here), wanted) => here.as_f64() == wanted.as_f64(),
                (Json::String(here), Json::String(wanted)) => here == wanted,
                (Json::String(here), wanted) => serde_json::from_str::<Json>(here).ok().as_ref() == Some(wanted),
                (here, wanted) => here == wanted,
            };
            assert!(same, "{name}: {value} is {} in the file", row[name]);
        }
    }
}

/// Both programs in one real pipe; either is killed at a random line; the state is what the target printed last.
#[test]
fn killed_pipes_lose_and_repeat_nothing() {
    let mut met = 0;
    for seed in 0..8 {
        let (fake, target) = (fake(), Target::new());
        // Answers so slow that a run outlasts the longest wait before a kill.
        fake.world()
            .fault(Fault::new("slow").body("ORDER BY toDate(timestamp), event").pause(Duration::from_millis(12)));
        let mut dice = Dice::new(seed);
        let mut state = None;
        for round in 0..6 {
            let mut tap = Tap::new(&fake).set("page_size", 100);
            tap.state.clone_from(&state);
            if round == 5 {
                fake.world().faults.clear();
            }
            let mut source = tap.spawn();
            let mut sink = target.command().stdin(Stdio::from(source.stdout.take().unwrap())).spawn().unwrap();
            if round < 5 {
                std::thread::sleep(Duration::from_millis(20 + dice.roll(200)));
                let victim = dice.roll(3);
                met += usize::from(victim != 1 && is_running(&mut source) || victim != 0 && is_running(&mut sink));
                if victim != 1 {
                    source.kill().unwrap();
                }
                if victim != 0 {
                    sink.kill().unwrap();
                }
            }
            let said = Run::of(sink.wait_with_output().unwrap());
            let source = Run::of(source.wait_with_output().unwrap());
            if let Some(line) = said.stdout.lines().rfind(|line| line.starts_with('{')) {
                state = Some(line.to_owned());
            }
            assert!(round < 5 || said.code == 0 && source.code == 0, "seed {seed}: {} {}", source.stderr, said.stderr);
        }
        same_once(&format!("seed {seed}"), &target.events(), fake.world().held());
    }
    assert!(met >= 20, "{met} of 40 kills met a program that ran");
}
