//! The arrival ledger: how many rows each hour of arrival (`created_at`) held when a run planned.
//!
//! An event becomes visible some time after its `created_at`; the overlap of two runs covers the usual minutes. When an
//! hour before the overlap holds more rows than at the last run, rows became visible later than that: the hour is read
//! again, and a warning says that its rows may repeat. Repeated, never lost.

use serde::{Deserialize, Serialize};

use crate::posthog::time::{HOUR_US, Micros};

/// How far back arrivals are watched.
pub const WATCHED_US: Micros = 48 * HOUR_US;

/// (Unix seconds of an hour, rows that arrived in it), in order.
pub type Hours = Vec<(i64, u64)>;

/// Rows per hour of arrival, from a start up to a cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Arrivals before this time are not in it. Microseconds, on the hour.
    pub from: Micros,
    /// Arrivals at this time or later are not in it: the next run reads them anyway. Microseconds.
    pub cut: Micros,
    /// The rows.
    pub hours: Hours,
}

impl Ledger {
    /// Stretches of arrival that hold more rows now than when this ledger was made, neighbours joined. `now` must have been
    /// counted up to the same cut.
    #[must_use]
    pub fn grown(&self, now: &[(i64, u64)]) -> Vec<(Micros, Micros)> {
        let mut grown: Vec<(Micros, Micros)> = Vec::new();
        let before = |hour: i64| self.hours.iter().find(|(h, _)| *h == hour).map_or(0, |(_, rows)| *rows);
        for &(hour, rows) in now {
            let start = hour.saturating_mul(1_000_000);
            let end = (start + HOUR_US).min(self.cut);
            if start < self.from || start >= end || rows <= before(hour) {
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
        let ledger = Ledger { from: HOUR_US, cut: 4 * HOUR_US + 5, hours: vec![(3600, 10), (7200, 5), (14400, 7)] };
        let now = [(0, 99), (3600, 10), (7200, 6), (10800, 1), (14400, 7), (18000, 50)];
        assert_eq!(ledger.grown(&now), [(2 * HOUR_US, 4 * HOUR_US)]);
        assert_eq!(ledger.grown(&[(3600, 9), (14400, 8)]), [(4 * HOUR_US, 4 * HOUR_US + 5)]);
        assert!(Ledger::default().grown(&now).is_empty());
    }
}
