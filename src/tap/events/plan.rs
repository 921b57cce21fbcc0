//! Cuts the sort key of `events` into slices: pure arithmetic over counts, no network.
//!
//! Level one is rows per UTC day. A day that is small against a slice stays one unit; a larger day is detailed just before
//! it is read, as rows per (event, bucket of the hash of `distinct_id`), and a bucket that is still too large by the next
//! number of the key. Units are packed, in key order, into slices of about one answer each, so that no slice is over-full.
//! The slices of a plan are contiguous half-open intervals: together they cover the whole key, so rows that the plan did not
//! count (new names, days without rows) are read too, never listed.

use std::collections::VecDeque;

use crate::posthog::query::hogql::MAX_LIMIT;
use crate::posthog::query::interval::{Buckets, Interval, Key, Storage};
use crate::time::Day;

use crate::tap::page_size::SizeModel;

/// A slice is packed from units of at most this share of it, where the hash allows it.
const UNITS_A_SLICE: u64 = 16;
/// More bits of a number than this are never asked for.
const MAX_BITS: u32 = 16;

/// How closely the rows of a unit were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A UTC day, or the rest of one.
    Day,
    /// Rows of one name on one day with the same numbers before `depth`, whose number there is at most `last`.
    Number {
        /// Which number of the key.
        depth: usize,
        /// The greatest one.
        last: u64,
    },
    /// Nothing closer is known.
    Whole,
}

/// Rows that lie between two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Where they start; they end where the next unit starts.
    pub from: Key,
    /// How many there are.
    pub rows: u64,
    /// How closely they were counted.
    pub grain: Grain,
}

/// One half-open interval of the key, about one answer long, with the number of rows that it was counted to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The interval.
    pub interval: Interval,
    /// Rows counted in it.
    pub rows: u64,
    /// The units that it was packed from: where it can be split.
    pub units: Vec<Unit>,
}

/// What the plan needs or gives next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read this slice.
    Read(Slice),
    /// Count this interval by these buckets, and hand the answer to [`Plan::detail`].
    Detail(Interval, Buckets),
    /// Find out how the server stores these rows, so many, all of one (day, event, hash), and tell [`Plan::set_storage`].
    Probe(Interval, u64),
    /// Everything is planned.
    Done,
}

/// One row of a detail answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// UTC day.
    pub day: Day,
    /// Event name.
    pub event: String,
    /// The least and the greatest number in the bucket.
    pub numbers: (u64, u64),
    /// How many rows.
    pub rows: u64,
}

/// A plan over the part of the key that is still to be read.
#[derive(Debug)]
pub struct Plan {
    /// Where the next slice starts; the first unit starts here too.
    next: Key,
    units: VecDeque<Unit>,
    /// About how many names a day has, from the last detail: bounds the bits of the next one.
    names_a_day: u64,
    /// How the server stores events, once that matters.
    storage: Option<Storage>,
    /// Set once the last slice, which is open at its end, was handed out.
    done: bool,
}

impl Plan {
    /// A plan from `start` on. `days` are the rows per day, in order; those before the start are ignored.
    pub fn new(start: Key, days: &[(Day, u64)]) -> Plan {
        let first = start.day;
        let begun = start != Key::day_start(first);
        let unit = |&(day, rows): &(Day, u64)| {
            // The count of a day that was begun tells nothing about its rest: large enough to be counted anew.
            let rows = if begun && day == first { rows.max(u64::from(MAX_LIMIT)) } else { rows };
            Unit { from: Key::day_start(day), rows, grain: Grain::Day }
        };
        let units = days.iter().filter(|(day, _)| *day >= first).map(unit).collect();
        // A place inside of one hash is a place in the order of one storage.
        let storage = (start.numbers[1..] != [0, 0]).then_some(start.storage);
        Plan { next: start, units, names_a_day: 16, storage, done: false }
    }

    /// Rows that are still to be handed out, as far as they were counted.
    pub fn rows_left(&self) -> u64 {
        self.units.iter().map(|unit| unit.rows).sum()
    }

    /// The next step. The size of a slice follows `size` at the time of the call.
    pub fn step(&mut self, size: &SizeModel) -> Step {
        if self.done {
            return Step::Done;
        }
        if let Some(detail) = self.wanted_detail(size) {
            return detail;
        }
        let (mut units, mut rows, mut bytes) = (Vec::<Unit>::new(), 0, 0);
        while let Some(unit) = self.units.front() {
            let unit_bytes = unit.rows.saturating_mul(size.row_bytes(&unit.from.event));
            let full = bytes + unit_bytes > size.slice_bytes() || rows + unit.rows > size.slice_rows();
            if !units.is_empty() && (full || is_coarse(unit, size)) {
                break;
            }
            rows += unit.rows;
            bytes += unit_bytes;
            units.extend(self.units.pop_front());
        }
        let last_day = units.last().map(|unit| unit.from.day);
        let to = self.units.front().map(|unit| match last_day {
            // The end of a day is a bound on the time alone, which prunes best.
            Some(day) if day != unit.from.day => Key::day_start(unit.from.day),
            _ => unit.from.clone(),
        });
        self.done = to.is_none();
        let from = match &to {
            Some(key) => std::mem::replace(&mut self.next, key.clone()),
            None => self.next.clone(),
        };
        Step::Read(Slice { interval: Interval { from, to }, rows, units })
    }

    /// How the server stores events: [`Step::Probe`] is answered.
    pub fn set_storage(&mut self, storage: Storage) {
        self.storage = Some(storage);
    }

    /// Takes the answer to [`Step::Detail`]; `counts` are in key order. An answer that was cut at its LIMIT makes the next
    /// step ask for fewer bits, or, without bits, for what follows.
    pub fn detail(&mut self, counts: &[Count], buckets: &Buckets) {
        let cut = counts.len() >= MAX_LIMIT as usize;
        if cut && !buckets.is_by_name() {
            self.detail_refused(buckets);
            return;
        }
        let Some(coarse) = self.units.pop_front() else { return };
        let depth = buckets.depth;
        let mut units: Vec<Unit> = Vec::with_capacity(counts.len() + 1);
        let mut names = 1;
        for Count { day, event, numbers: (least, last), rows } in counts {
            names += u64::from(units.last().is_none_or(|unit| unit.from.event != *event));
            let mut from = Key { day: *day, event: event.clone(), storage: buckets.storage, ..coarse.from };
            from.numbers[depth] = *least;
            from.numbers.iter_mut().skip(depth + 1).for_each(|number| *number = 0);
            units.push(Unit { from, rows: *rows, grain: Grain::Number { depth, last: *last } });
        }
        if coarse.grain == Grain::Day {
            self.names_a_day = names;
        }
        match units.last() {
            Some(last) if cut => {
                let from = last.from.behind(0);
                units.push(Unit { from, rows: u64::from(MAX_LIMIT), grain: Grain::Day });
            }
            Some(_) => {}
            None => units.push(Unit { rows: 0, grain: Grain::Whole, ..coarse }),
        }
        for unit in units.into_iter().rev() {
            self.units.push_front(unit);
        }
    }

    /// The server refused the count of [`Step::Detail`] as too much: by name alone next, or no closer look at all.
    pub fn detail_refused(&mut self, buckets: &Buckets) {
        match self.units.front_mut() {
            Some(unit) if unit.grain != Grain::Day || buckets.is_by_name() => unit.grain = Grain::Whole,
            _ => self.names_a_day = u64::from(MAX_LIMIT),
        }
    }

    /// A closer look at the next unit, when it is too large to be packed well.
    fn wanted_detail(&self, size: &SizeModel) -> Option<Step> {
        let unit = self.units.front().filter(|unit| is_coarse(unit, size))?;
        let from = self.next.clone().max(unit.from.clone());
        let names = if unit.grain == Grain::Day { self.names_a_day } else { 1 };
        // Enough bits that even if one name had all rows its units were small, few enough that the answer fits.
        let wanted = unit.rows.saturating_mul(UNITS_A_SLICE) / size.rows_for(&unit.from.event).max(1);
        let room = u64::from(MAX_LIMIT) / 2 / names;
        let bits = wanted.min(room).max(1).ilog2().min(MAX_BITS);
        let storage = self.storage.unwrap_or_default();
        let (depth, to, width) = match unit.grain {
            Grain::Number { depth, last } if unit.from.numbers[depth] < last => {
                let mut end = unit.from.clone();
                end.numbers[depth] = last;
                (depth, Some(end.behind(depth + 1)), (last - unit.from.numbers[depth]).ilog2() + 1)
            }
            Grain::Number { depth, .. } => (depth + 1, Some(unit.from.behind(depth + 1)), storage.bits(depth + 1)),
            Grain::Day | Grain::Whole => (0, self.units.get(1).map(|next| next.from.clone()), storage.bits(0)),
        };
        let interval = Interval { from, to };
        if depth > 0 && self.storage.is_none() {
            return Some(Step::Probe(interval, unit.rows));
        }
        Some(Step::Detail(interval, Buckets { depth, shift: width.saturating_sub(bits), storage }))
    }
}

fn is_coarse(unit: &Unit, size: &SizeModel) -> bool {
    let most = size.rows_for(&unit.from.event);
    match unit.grain {
        Grain::Day => unit.rows > most / 4,
        Grain::Number { depth, last } => unit.rows > most && (unit.from.numbers[depth] < last || depth < 2),
        Grain::Whole => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY_US;
    use proptest::prelude::*;

    fn day(n: i64) -> Day {
        Day::of(n * DAY_US)
    }

    fn key(n: i64, event: &str, numbers: [u64; 3]) -> Key {
        Key { day: day(n), event: event.to_owned(), numbers, storage: Storage::Classic }
    }

    /// Rows of a small world: (day, name, numbers).
    fn world() -> impl Strategy<Value = Vec<Key>> {
        let number = || prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 5u64..8];
        let numbers = (number(), number(), 0u64..86_400_000).prop_map(|(id, uuid, time)| [id, uuid, time]);
        let row = (0i64..4, "[a-c]{0,2}", numbers).prop_map(|(d, event, numbers)| key(d, &event, numbers));
        prop::collection::vec(row, 0..400).prop_map(|mut rows| {
            rows.sort();
            rows
        })
    }

    fn inside(key: &Key, interval: &Interval) -> bool {
        interval.from <= *key && interval.to.as_ref().is_none_or(|to| key < to)
    }

    /// Plays the server's part: counts rows of an interval by (day, event, bucket), cut at the LIMIT.
    fn count(rows: &[Key], interval: &Interval, buckets: &Buckets) -> Vec<Count> {
        let mut counts: Vec<(Count, u64)> = Vec::new();
        for row in rows.iter().filter(|row| inside(row, interval)) {
            let number = row.numbers[buckets.depth];
            assert_eq!(row.numbers[..buckets.depth], interval.from.numbers[..buckets.depth]);
            let bucket = number.checked_shr(buckets.shift).unwrap_or(0);
            match counts.last_mut() {
                Some((last, at)) if (last.day, &last.event, *at) == (row.day, &row.event, bucket) => {
                    last.rows += 1;
                    last.numbers.1 = number;
                }
                _ => {
                    let (day, event) = (row.day, row.event.clone());
                    counts.push((Count { day, event, numbers: (number, number), rows: 1 }, bucket));
                }
            }
        }
        counts.truncate(MAX_LIMIT as usize);
        counts.into_iter().map(|(count, _)| count).collect()
    }

    fn days(rows: &[Key]) -> Vec<(Day, u64)> {
        let mut days: Vec<(Day, u64)> = Vec::new();
        for row in rows {
            match days.last_mut() {
                Some((day, count)) if *day == row.day => *count += 1,
                _ => days.push((row.day, 1)),
            }
        }
        days
    }

    fn slices(rows: &[Key], start: Key, size: &SizeModel) -> Vec<Slice> {
        let mut plan = Plan::new(start, &days(rows));
        let mut slices = Vec::new();
        for _ in 0..10_000 {
            match plan.step(size) {
                Step::Read(slice) => slices.push(slice),
                Step::Detail(interval, buckets) => plan.detail(&count(rows, &interval, &buckets), &buckets),
                Step::Probe(interval, count) => {
                    let held: Vec<&Key> = rows.iter().filter(|row| inside(row, &interval)).collect();
                    assert!(held.iter().all(|row| row.behind(1) == held[0].behind(1)), "more than one id");
                    assert_eq!(held.len() as u64, count);
                    plan.set_storage(Storage::Classic);
                }
                Step::Done => return slices,
            }
        }
        panic!("the plan does not end");
    }

    proptest! {
        #[test]
        fn slices_are_contiguous_cover_everything_and_hold_what_they_say(rows in world(), page_size in 1u32..60, start in 0i64..4) {
            let from = Key::day_start(day(start));
            let slices = slices(&rows, from.clone(), &SizeModel::new(Some(page_size)));
            prop_assert_eq!(&slices[0].interval.from, &from);
            prop_assert_eq!(&slices[slices.len() - 1].interval.to, &None);
            for pair in slices.windows(2) {
                let to = pair[0].interval.to.clone().unwrap();
                prop_assert!(pair[0].interval.from < to);
                prop_assert_eq!(&pair[1].interval.from, &to);
            }
            for slice in &slices {
                let held = rows.iter().filter(|row| inside(row, &slice.interval)).count() as u64;
                prop_assert_eq!(held, slice.rows);
                // Only rows that have all numbers in common are more than a page.
                let numbers = rows.iter().filter(|row| inside(row, &slice.interval)).map(|row| row.numbers);
                prop_assert!(slice.rows <= u64::from(page_size) || numbers.collect::<std::collections::BTreeSet<_>>().len() == 1);
            }
        }

        #[test]
        fn a_plan_from_inside_a_day_counts_its_rest_anew(rows in world(), at in any::<prop::sample::Index>()) {
            prop_assume!(!rows.is_empty());
            let start = rows[at.index(rows.len())].clone();
            let slices = slices(&rows, start.clone(), &SizeModel::new(Some(20)));
            prop_assert_eq!(&slices[0].interval.from, &start);
            let planned: u64 = slices.iter().map(|slice| slice.rows).sum();
            prop_assert_eq!(planned, rows.iter().filter(|row| **row >= start).count() as u64);
        }
    }

    #[test]
    fn a_large_day_is_cut_into_answers_of_the_wanted_weight() {
        let rows: Vec<Key> = (0..200_000u64).map(|i| key(1, "a", [i * (u64::MAX / 200_000), 0, 0])).collect();
        let mut size = SizeModel::new(None);
        size.learn(Some("a"), 100, 180_000);
        let slices = slices(&rows, Key::day_start(day(0)), &size);
        let target = size.rows_for("a");
        assert!((5_000..20_000).contains(&target), "{target}");
        assert!((200_000 / target..200_000 / target + 4).contains(&(slices.len() as u64)), "{}", slices.len());
        assert!(slices.iter().all(|slice| slice.rows <= target));
    }

    #[test]
    fn twenty_thousand_names_are_counted_without_bits_and_an_answer_at_its_limit_goes_on() {
        let names = 120_000;
        let rows: Vec<Key> = (0..names).map(|i| key(1, &format!("{i:06}"), [1 << 63, 0, 0])).collect();
        let mut size = SizeModel::new(Some(5_000));
        size.learn(None, 1, 100);
        let slices = slices(&rows, Key::day_start(day(1)), &size);
        assert_eq!(slices.iter().map(|slice| slice.rows).sum::<u64>(), names);
        assert_eq!(slices.len(), 24);
    }

    /// Beside other ids, of one uuid in part, and all at one time.
    #[test]
    fn many_rows_of_one_id_are_slices_like_any_other() {
        let others = (0..5_000).map(|i| key(1, "a", [70 + i % 17, 3, 4]));
        let busy = (0..30_000u64).map(|i| key(1, "a", [77, if i < 9_000 { 5 } else { i << 49 }, i]));
        let mut rows: Vec<Key> = others.chain(busy).collect();
        rows.sort();
        let slices = slices(&rows, Key::day_start(day(1)), &SizeModel::new(Some(1_000)));
        assert!(slices.iter().all(|slice| slice.rows <= 1_000), "{:?}", slices.iter().map(|slice| slice.rows).max());
        assert!(slices.len() < 60, "{}", slices.len());
    }
}
