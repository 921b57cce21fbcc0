//! A model of the events engine: random histories of a project (inserts, late ones, re-sends, duplicates, merges, deletes,
//! rows that show late) and of the runs over it (page sizes, faults, kills) against the set of delivered rows.
//! Each history follows from its seed, which every failure names; MODEL_SEED runs the one of any seed alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};

use crate::fake::events::{Dice, realistic};
use crate::fake::{Event, Fake, Fault, HOUR_MICROS, Held, Options, micros};
use crate::harness::{Run, Tap, held, rest_of};

const MINUTE: i64 = 60_000_000;
const HISTORIES: u64 = 16;

/// A stored version of an event, with what orders it.
type Version = (i64, i64, String);

fn version(held: &Held) -> Version {
    (held.timestamp, held.created_at, format!("{:?}", held.identity))
}

struct History {
    seed: u64,
    dice: Dice,
    fake: Fake,
    state: Option<String>,
    /// Every version that was ever stored.
    ever: BTreeSet<Version>,
    /// How often each version left a run for good: before its last STATE, or in a run that ended well.
    delivered: BTreeMap<Version, u32>,
    /// When the last of those that show late shows; until a run saw them, nothing goes: it would hide them.
    late_until: i64,
    /// The stretches of arrival that a run said it reads again.
    may_repeat: Vec<(i64, i64)>,
    next_number: u64,
}

impl History {
    fn new(seed: u64) -> History {
        let fake = Fake::start(Options::default());
        let now = fake.world().now;
        fake.world().insert(realistic(seed, 150, now, 6));
        let mut history = History {
            seed,
            dice: Dice::new(seed),
            fake,
            state: None,
            ever: BTreeSet::new(),
            delivered: BTreeMap::new(),
            late_until: i64::MIN,
            may_repeat: Vec::new(),
            next_number: 1 << 30,
        };
        history.remember();
        history
    }

    fn remember(&mut self) {
        self.ever.extend(self.fake.world().held().iter().map(version));
    }

    /// Events that happened up to `age` ago and arrive now.
    fn arriving(&mut self, count: u64, age: i64) -> Vec<Event> {
        let now = self.fake.world().now;
        let first = self.next_number;
        self.next_number += count;
        let dice = &mut self.dice;
        let event = |n| {
            let happened = now - i64::try_from(dice.roll(age as u64)).unwrap();
            let name = ["$pageview", "a", "zz", "naïve 🎉"][dice.roll(4) as usize];
            Event::new(n, name, happened).by(["u1", "u2", "u3"][dice.roll(3) as usize]).created(now - 1_000)
        };
        (first..first + count).map(event).collect()
    }

    /// Something happens to the project.
    fn happen(&mut self) {
        let count = 1 + self.dice.roll(20);
        match self.dice.roll(8) {
            0 | 1 => {
                let events = self.arriving(count, 5 * MINUTE);
                self.fake.world().insert(events);
            }
            2 => {
                let events = self.arriving(count, 6 * 24 * HOUR_MICROS);
                self.fake.world().insert(events);
            }
            3 => {
                // Many of one instant, in one key.
                let now = self.fake.world().now;
                let first = self.next_number;
                self.next_number += 40;
                let same =
                    (first..first + 40).map(|n| Event::new(n, "burst", now - MINUTE).by("one").created(now - 1_000));
                self.fake.world().insert(same);
            }
            4 => {
                // Stored twice, not merged yet; and stored anew, with a new arrival.
                let now = self.fake.world().now;
                let events = self.arriving(count, 2 * HOUR_MICROS);
                let again: Vec<Event> = events.iter().map(|event| event.clone().created(now - 500)).collect();
                self.fake.world().insert(events.clone());
                self.fake.world().insert(events);
                if self.dice.roll(2) == 0 {
                    self.fake.world().insert(again);
                }
            }
            5 | 6 if self.late_until > i64::MIN => {}
            5 => self.fake.world().merge(),
            6 => {
                let victim = self.dice.roll(7) as i64;
                self.fake.world().delete(|held| held.created_at / 1_000 % 31 == victim);
            }
            _ => {
                let now = self.fake.world().now;
                let late = now + [10 * MINUTE, 30 * MINUTE, 3 * HOUR_MICROS][self.dice.roll(3) as usize];
                self.late_until = self.late_until.max(late);
                let events = self.arriving(count, HOUR_MICROS);
                self.fake.world().insert_visible_from(events, late);
            }
        }
        self.remember();
    }

    /// Something happens in the middle of the next run.
    fn happen_between_pages(&mut self) {
        let nth = 1 + self.dice.roll(12) as usize;
        let events = self.arriving(5, HOUR_MICROS);
        let victim = self.dice.roll(13) as i64;
        let some_may_hide = self.late_until > i64::MIN;
        let mut world = self.fake.world();
        world.before_query(nth, move |world| {
            world.insert(events);
            world.delete(|held| !some_may_hide && held.created_at / 1_000 % 53 == victim);
        });
    }

    /// A run, perhaps among faults, perhaps killed.
    fn run(&mut self, calm: bool) {
        let mut tap = Tap::new(&self.fake);
        let mut may_fail = false;
        if !calm {
            let page_size = [1, 3, 17, 60, 1_000, 0][self.dice.roll(6) as usize];
            if page_size > 0 {
                tap = tap.set("page_size", page_size);
            }
            if self.dice.roll(3) == 0 {
                // The last one ends the run at once: with a cursor in its state, where the others only cost a retry.
                let fault =
                    ["cut_body", "drop_last_row", "reset_mid", "timeout_504", "auth_401"][self.dice.roll(5) as usize];
                may_fail = fault == "auth_401";
                let skipped = self.dice.roll(12) as usize;
                self.fake.world().fault(Fault::new(fault).path("query").skip(skipped).next(1));
            }
        }
        tap.state.clone_from(&self.state);
        let kill_after = if !calm && self.dice.roll(3) == 0 { Some(self.dice.roll(200) as usize) } else { None };
        let mut child = tap.spawn();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut text, mut lines) = (String::new(), 0);
        while kill_after.is_none_or(|most| lines < most) && output.read_line(&mut text).unwrap() > 0 {
            lines += 1;
        }
        if kill_after.is_some() {
            child.kill().unwrap();
        }
        text.push_str(&rest_of(&mut output));
        let run = Run { stdout: text, ..Run::of(child.wait_with_output().unwrap()) };
        tap.check(&run);
        let is_expected = run.code == 0 || kill_after.is_some() || may_fail && run.code == 3;
        assert!(is_expected, "seed {}: exit {}: {}", self.seed, run.code, run.stderr);
        self.take(&run);
        if run.code == 0 && self.fake.world().now > self.late_until {
            self.late_until = i64::MIN;
        }
        self.fake.world().faults.clear();
        self.remember();
    }

    /// Counts what left the run for good.
    fn take(&mut self, run: &Run) {
        for warning in run.stderr.lines().filter(|line| line.contains("its events may repeat")) {
            let stretch =
                warning.split_once("arrived between ").and_then(|(_, rest)| rest.split_once(" and ")).unwrap();
            self.may_repeat.push((micros(stretch.0), micros(stretch.1.split_once(' ').unwrap().0)));
        }
        let messages = run.messages();
        let Some(safe) = messages.iter().rposition(|message| message["type"] == "STATE") else { return };
        self.state = Some(messages[safe]["value"].to_string());
        for record in messages[..safe].iter().filter(|message| message["type"] == "RECORD") {
            *self.delivered.entry(version(&held(&record["record"]))).or_default() += 1;
        }
    }

    /// Whatever happened: after some quiet runs everything that is stored was delivered, and nothing else.
    fn check(mut self) {
        for _ in 0..3 {
            self.fake.world().advance(2 * HOUR_MICROS);
            self.run(true);
        }
        let stored: BTreeSet<Version> = self.fake.world().held().iter().map(version).collect();
        let lost: Vec<&Version> = stored.iter().filter(|version| !self.delivered.contains_key(*version)).collect();
        assert!(lost.is_empty(), "seed {}: {} lost, first {:?}", self.seed, lost.len(), lost[0]);
        for (version, times) in &self.delivered {
            assert!(self.ever.contains(version), "seed {}: {version:?} was never stored", self.seed);
            let may_repeat = self.may_repeat.iter().any(|(from, until)| (*from..*until).contains(&version.1));
            assert!(*times == 1 || may_repeat, "seed {}: {version:?} came out {times} times", self.seed);
        }
    }
}

#[test]
fn random_histories_are_delivered_whole_and_once() {
    let only = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(0..HISTORIES, |seed| seed..seed + 1) {
        let mut history = History::new(seed);
        for _ in 0..5 {
            for _ in 0..history.dice.roll(5) {
                history.happen();
            }
            if history.dice.roll(3) == 0 {
                history.happen_between_pages();
            }
            history.run(false);
            let minutes = [0, 3, 20, 90][history.dice.roll(4) as usize];
            history.fake.world().advance(minutes * MINUTE);
        }
        history.check();
    }
}
