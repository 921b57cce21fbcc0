//! Counts of arrivals, the ledger of the state: how many stored versions of each hour of arrival (`created_at`) were
//! delivered.
//!
//! An event becomes visible some time after its `created_at`; the overlap of two runs covers the usual minutes. When an
//! hour before the overlap holds more than was delivered of it, events became visible later than that: the hour is read
//! again, and a warning says that its rows may repeat. Versions that go meanwhile may hide as many that come: counts cannot
//! tell.

use serde::{Deserialize, Serialize};

use crate::time::{DAY_US, HOUR_US, Micros, SECOND_US};

/// How far back arrivals are watched.
pub const WATCHED_US: Micros = 48 * HOUR_US;

/// (Unix seconds of an hour, versions that arrived in it), in order.
pub type Hours = Vec<(i64, u64)>;

/// Versions delivered per hour of arrival, from a start up to a cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivalCounts {
    /// Arrivals before this time are not in it. Microseconds.
    pub from: Micros,
    /// Arrivals at this time or later are not in it: the next run reads them anyway. Microseconds.
    pub cut: Micros,
    /// Days by which a version may be older than its arrival to be in it; 0 for any number.
    pub late_days: u32,
    /// The versions.
    pub hours: Hours,
}

/// The start of the hour that a time lies in.
pub fn hour_of(time: Micros) -> Micros {
    time.div_euclid(HOUR_US).saturating_mul(HOUR_US)
}

/// The end of an hour that is named by its first second.
pub fn hour_end(hour: i64) -> Micros {
    hour.saturating_mul(SECOND_US).saturating_add(HOUR_US)
}

/// Counts one more version that arrived then.
pub fn note(hours: &mut Hours, arrived: Micros) {
    add(hours, hour_of(arrived) / SECOND_US, 1);
}

fn add(hours: &mut Hours, hour: i64, more: u64) {
    match hours.binary_search_by_key(&hour, |(hour, _)| *hour) {
        Ok(at) => hours.iter_mut().skip(at).take(1).for_each(|(_, count)| *count = count.saturating_add(more)),
        Err(at) => hours.insert(at, (hour, more)),
    }
}

impl ArrivalCounts {
    /// True if a version of this arrival and `timestamp` is one that is counted, or will be when the cut moves behind it.
    /// The query that counts on the server says the same.
    pub fn watches(&self, arrived: Micros, timestamp: Micros) -> bool {
        let late = i64::from(self.late_days).saturating_mul(DAY_US);
        arrived >= self.from && (late == 0 || timestamp >= hour_of(arrived).saturating_sub(late))
    }

    /// Counts a delivered version.
    pub fn note(&mut self, arrived: Micros) {
        note(&mut self.hours, arrived);
    }

    /// Counts versions that were counted by hour before.
    pub fn note_all(&mut self, hours: Hours) {
        hours.into_iter().for_each(|(hour, count)| add(&mut self.hours, hour, count));
    }

    /// Takes note of what went (deleted, or replaced by a version that arrived later): an hour is compared with what is left
    /// of it. `now` must have been counted up to the cut of the last counts.
    pub fn lower(&mut self, now: &[(i64, u64)]) {
        for (hour, count) in &mut self.hours {
            let rows = now.iter().find(|(h, _)| h == hour).map_or(0, |(_, rows)| *rows);
            *count = rows.min(*count);
        }
    }

    /// Forgets hours: they are counted anew.
    pub fn forget(&mut self, (start, end): (Micros, Micros)) {
        self.hours.retain(|(hour, _)| hour_end(*hour) <= start || hour.saturating_mul(SECOND_US) >= end);
    }

    /// Stretches of arrival that hold more now than is counted here, neighbours joined. `now` must have been counted up to
    /// the same cut.
    pub fn grown(&self, now: &[(i64, u64)]) -> Vec<(Micros, Micros)> {
        let mut grown: Vec<(Micros, Micros)> = Vec::new();
        let before = |hour: i64| self.hours.iter().find(|(h, _)| *h == hour).map_or(0, |(_, rows)| *rows);
        for &(hour, rows) in now {
            // The first hour and the last one need not be whole.
            let start = hour.saturating_mul(SECOND_US).max(self.from);
            let end = hour_end(hour).min(self.cut);
            if start >= end || rows <= before(hour) {
                continue;
            }
            match grown.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => grown.push((start, end)),
            }
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hours_that_grew_before_the_cut_are_read_again() {
        let hours = vec![(3600, 10), (7200, 5), (14400, 7)];
        let counts = ArrivalCounts { from: HOUR_US, cut: 4 * HOUR_US + 5, hours, ..ArrivalCounts::default() };
        let now = [(0, 99), (3600, 10), (7200, 6), (10800, 1), (14400, 7), (18000, 50)];
        assert_eq!(counts.grown(&now), [(2 * HOUR_US, 4 * HOUR_US)]);
        let now = [(3600, 9), (14400, 8)];
        assert_eq!(counts.grown(&now), [(4 * HOUR_US, 4 * HOUR_US + 5)]);
        assert!(ArrivalCounts::default().grown(&now).is_empty());
        let mut began_late = ArrivalCounts { from: HOUR_US + 7, ..counts };
        let grown = began_late.grown(&[(0, 1), (3600, 11)]);
        assert_eq!(grown, [(HOUR_US + 7, 2 * HOUR_US)]);
        began_late.forget(grown[0]);
        assert_eq!(began_late.hours, [(7200, 5), (14400, 7)]);
    }

    #[test]
    fn versions_are_counted_by_hour_of_arrival_and_age() {
        let mut counts = ArrivalCounts { from: HOUR_US, late_days: 1, ..ArrivalCounts::default() };
        assert!(!counts.watches(HOUR_US - 1, HOUR_US));
        assert!(counts.watches(30 * HOUR_US + 5, 6 * HOUR_US) && !counts.watches(30 * HOUR_US + 5, 6 * HOUR_US - 1));
        counts.late_days = 0;
        assert!(counts.watches(30 * HOUR_US, 0));
        for arrived in [2 * HOUR_US, HOUR_US, 3 * HOUR_US - 1, 3 * HOUR_US] {
            counts.note(arrived);
        }
        assert_eq!(counts.hours, [(3600, 1), (7200, 2), (10800, 1)]);
        let mut counted = counts.clone();
        counted.note_all(vec![(0, 4), (7200, 3)]);
        assert_eq!(counted.hours, [(0, 4), (3600, 1), (7200, 5), (10800, 1)]);
        counts.lower(&[(3600, 5), (7200, 1)]);
        assert_eq!(counts.hours, [(3600, 1), (7200, 1), (10800, 0)]);
        counts.forget((2 * HOUR_US, 3 * HOUR_US));
        assert_eq!(counts.hours, [(3600, 1), (10800, 0)]);
        // A state may name any hour.
        counts.note_all(vec![(1 << 53, 1)]);
        counts.forget((2 * HOUR_US, 4 * HOUR_US));
        assert_eq!(counts.hours, [(3600, 1), (1 << 53, 1)]);
    }
}
