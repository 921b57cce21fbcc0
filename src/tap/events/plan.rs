//! Cuts the sort key of `events` into slices: pure arithmetic over counts, no network.
//!
//! Level one is rows per UTC day. A day that is small against a slice stays one unit; a larger day is detailed just before
//! it is read, as rows per (event, bucket of the hash). Units are packed, in key order, into slices of about one answer
//! each. The slices of a plan are contiguous half-open intervals: together they cover the whole key, so rows that the plan
//! did not count (new names, days without rows) are read too, never listed.

use std::collections::VecDeque;

use crate::posthog::query::hogql::{Cursor, Interval, Key, MAX_LIMIT};
use crate::time::Day;

use crate::tap::page_size::SizeModel;

/// A slice is packed from units of at most this share of it, where the hash allows it.
const UNITS_A_SLICE: u64 = 16;
/// More bits of the hash than this are never asked for.
const MAX_BITS: u32 = 16;

/// How closely the rows of a unit were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A UTC day, or the rest of one.
    Day,
    /// One name on one day.
    Name,
    /// One name on one day, and a range of its hash: nothing is gained by a closer look.
    Bucket,
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
    /// Count this interval by (event, bucket of so many bits), and hand the answer to [`Plan::detail`].
    Detail(Interval, u32),
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
    /// The top bits of the hash.
    pub bucket: u64,
    /// How many rows.
    pub rows: u64,
}

/// A plan over the part of the key that is still to be read.
#[derive(Debug)]
pub struct Plan {
    /// Where the next slice starts; the first unit starts here too.
    next: Cursor,
    units: VecDeque<Unit>,
    /// About how many names a day has, from the last detail: bounds the bits of the next one.
    names_a_day: u64,
    /// Set once the last slice, which is open at its end, was handed out.
    done: bool,
}

impl Plan {
    /// A plan from `start` on. `days` are the rows per day, in order; those before the start are ignored.
    pub fn new(start: Cursor, days: &[(Day, u64)]) -> Plan {
        let first = start.key().day;
        let begun = start != Cursor::At(Key::day_start(first));
        let unit = |&(day, rows): &(Day, u64)| {
            // The count of a day that was begun tells nothing about its rest: large enough to be counted anew.
            let rows = if begun && day == first { rows.max(u64::from(MAX_LIMIT)) } else { rows };
            Unit { from: Key::day_start(day), rows, grain: Grain::Day }
        };
        let units = days.iter().filter(|(day, _)| *day >= first).map(unit).collect();
        Plan { next: start, units, names_a_day: 16, done: false }
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
            Some(key) => std::mem::replace(&mut self.next, Cursor::At(key.clone())),
            None => self.next.clone(),
        };
        Step::Read(Slice { interval: Interval { from, to }, rows, units })
    }

    /// Takes the answer to [`Step::Detail`]; `counts` are in key order. An answer that was cut at its LIMIT makes the next
    /// step ask for fewer bits, or, without bits, for what follows.
    pub fn detail(&mut self, counts: &[Count], bits: u32) {
        let cut = counts.len() >= MAX_LIMIT as usize;
        if cut && bits > 0 {
            self.names_a_day = self.names_a_day.max(1 << bits).saturating_mul(8);
            return;
        }
        let Some(coarse) = self.units.pop_front() else { return };
        let mut units: Vec<Unit> = Vec::with_capacity(counts.len() + 1);
        let mut names = 1;
        for count in counts {
            let same_name = units.last().is_some_and(|last| last.from.event == count.event);
            names += u64::from(!same_name);
            let hash = if same_name { count.bucket << (64 - bits.max(1)) } else { 0 };
            let grain = if bits == 0 && coarse.grain == Grain::Day { Grain::Name } else { Grain::Bucket };
            units.push(Unit {
                from: Key { day: count.day, event: count.event.clone(), hash },
                rows: count.rows,
                grain,
            });
        }
        if coarse.grain == Grain::Day {
            self.names_a_day = names;
        }
        match counts.last() {
            Some(last) if cut => {
                // No name lies between a name and the same name with a zero byte behind it.
                let from = Key { day: last.day, event: format!("{}\0", last.event), hash: 0 };
                units.push(Unit { from, rows: u64::from(MAX_LIMIT), grain: Grain::Day });
            }
            Some(_) => {}
            None => units.push(Unit { rows: 0, grain: Grain::Bucket, ..coarse }),
        }
        for unit in units.into_iter().rev() {
            self.units.push_front(unit);
        }
    }

    /// The server refused the count of [`Step::Detail`] as too much: fewer bits next, or none, or no closer look at all.
    pub fn detail_refused(&mut self, bits: u32) {
        match self.units.front_mut() {
            Some(unit) if bits == 0 || unit.grain == Grain::Name => unit.grain = Grain::Bucket,
            _ => self.names_a_day = u64::from(MAX_LIMIT),
        }
    }

    /// A closer look at the next unit, when it is too large to be packed well.
    fn wanted_detail(&self, size: &SizeModel) -> Option<Step> {
        let unit = self.units.front().filter(|unit| is_coarse(unit, size))?;
        let names = if unit.grain == Grain::Name { 1 } else { self.names_a_day };
        // Enough bits that even if one name had all rows its units were small, few enough that the answer fits.
        let wanted = unit.rows.saturating_mul(UNITS_A_SLICE) / size.rows_for(&unit.from.event).max(1);
        let room = u64::from(MAX_LIMIT) / 2 / names;
        let bits = wanted.min(room).max(1).ilog2().min(MAX_BITS);
        let to = self.units.get(1).map(|next| next.from.clone());
        Some(Step::Detail(Interval { from: self.next.clone(), to }, bits))
    }
}

fn is_coarse(unit: &Unit, size: &SizeModel) -> bool {
    match unit.grain {
        Grain::Day => unit.rows > size.rows_for(&unit.from.event) / 4,
        Grain::Name => unit.rows > size.rows_for(&unit.from.event),
        Grain::Bucket => false,
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

    /// Rows of a small world: (day, name, hash).
    fn world() -> impl Strategy<Value = Vec<Key>> {
        let hash = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 5u64..8];
        let row = (0i64..4, "[a-c]{0,2}", hash).prop_map(|(d, event, hash)| Key { day: day(d), event, hash });
        prop::collection::vec(row, 0..400).prop_map(|mut rows| {
            rows.sort();
            rows
        })
    }

    fn inside(key: &Key, interval: &Interval) -> bool {
        interval.from.key() <= key && interval.to.as_ref().is_none_or(|to| key < to)
    }

    /// Plays the server's part: counts rows of an interval by (day, event, bucket), cut at the LIMIT.
    fn count(rows: &[Key], interval: &Interval, bits: u32) -> Vec<Count> {
        let mut counts: Vec<Count> = Vec::new();
        for row in rows.iter().filter(|row| inside(row, interval)) {
            let bucket = if bits == 0 { 0 } else { row.hash >> (64 - bits) };
            match counts.last_mut() {
                Some(last) if (last.day, &last.event, last.bucket) == (row.day, &row.event, bucket) => last.rows += 1,
                _ => counts.push(Count { day: row.day, event: row.event.clone(), bucket, rows: 1 }),
            }
        }
        counts.truncate(MAX_LIMIT as usize);
        counts
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

    fn slices(rows: &[Key], start: Cursor, size: &SizeModel) -> Vec<Slice> {
        let mut plan = Plan::new(start, &days(rows));
        let mut slices = Vec::new();
        for _ in 0..10_000 {
            match plan.step(size) {
                Step::Read(slice) => slices.push(slice),
                Step::Detail(interval, bits) => plan.detail(&count(rows, &interval, bits), bits),
                Step::Done => return slices,
            }
        }
        panic!("the plan does not end");
    }

    proptest! {
        #[test]
        fn slices_are_contiguous_cover_everything_and_hold_what_they_say(rows in world(), page_size in 1u32..60, start in 0i64..4) {
            let from = Cursor::At(Key::day_start(day(start)));
            let slices = slices(&rows, from.clone(), &SizeModel::new(Some(page_size)));
            prop_assert_eq!(&slices[0].interval.from, &from);
            prop_assert_eq!(&slices[slices.len() - 1].interval.to, &None);
            for pair in slices.windows(2) {
                let to = pair[0].interval.to.clone().unwrap();
                prop_assert!(pair[0].interval.from.key() < &to);
                prop_assert_eq!(&pair[1].interval.from, &Cursor::At(to));
            }
            for slice in &slices {
                let held = rows.iter().filter(|row| inside(row, &slice.interval)).count() as u64;
                prop_assert_eq!(held, slice.rows);
                prop_assert!(slice.units.len() <= 1 || slice.rows <= u64::from(page_size));
            }
        }

        #[test]
        fn a_plan_from_inside_a_day_counts_its_rest_anew(rows in world(), at in any::<prop::sample::Index>()) {
            prop_assume!(!rows.is_empty());
            let start = Cursor::At(rows[at.index(rows.len())].clone());
            let slices = slices(&rows, start.clone(), &SizeModel::new(Some(20)));
            prop_assert_eq!(&slices[0].interval.from, &start);
            let planned: u64 = slices.iter().map(|slice| slice.rows).sum();
            prop_assert_eq!(planned, rows.iter().filter(|row| *row >= start.key()).count() as u64);
        }
    }

    #[test]
    fn a_large_day_is_cut_into_answers_of_the_wanted_weight() {
        let rows: Vec<Key> =
            (0..200_000u64).map(|i| Key { day: day(1), event: "a".into(), hash: i * (u64::MAX / 200_000) }).collect();
        let mut size = SizeModel::new(None);
        size.learn(Some("a"), 100, 180_000);
        let slices = slices(&rows, Cursor::At(Key::day_start(day(0))), &size);
        let target = size.rows_for("a");
        assert!((5_000..20_000).contains(&target), "{target}");
        assert!((200_000 / target..200_000 / target + 4).contains(&(slices.len() as u64)), "{}", slices.len());
        assert!(slices.iter().all(|slice| slice.rows <= target));
    }

    #[test]
    fn twenty_thousand_names_are_counted_without_bits_and_an_answer_at_its_limit_goes_on() {
        let names = 120_000;
        let rows: Vec<Key> = (0..names).map(|i| Key { day: day(1), event: format!("{i:06}"), hash: 1 << 63 }).collect();
        let mut size = SizeModel::new(Some(5_000));
        size.learn(None, 1, 100);
        let slices = slices(&rows, Cursor::At(Key::day_start(day(1))), &size);
        assert_eq!(slices.iter().map(|slice| slice.rows).sum::<u64>(), names);
        assert_eq!(slices.len(), 24);
    }

    #[test]
    fn many_rows_of_one_id_are_one_slice_that_is_read_page_by_page() {
        let rows = vec![Key { day: day(1), event: "a".into(), hash: 77 }; 30_000];
        let slices = slices(&rows, Cursor::At(Key::day_start(day(1))), &SizeModel::new(Some(1_000)));
        assert_eq!(slices.iter().map(|slice| slice.rows).max(), Some(30_000));
    }
}
