//! How many rows fit into one answer: learned from the answers of this run.
//!
//! The cost of reading falls with the size of a slice (each slice pays about half a granule of the table for its start),
//! memory and the server's ten seconds bound it. So slices aim at a number of decoded bytes; what a row of an event weighs
//! is measured, and the number of rows gives way when the server is slow or refuses.

use std::collections::HashMap;

use crate::log;
use crate::posthog::query::hogql::MAX_LIMIT;

/// What an answer aims at, in bytes of its decoded body. Measured on a project with 1.7 kB a row: 15 MB slices make
/// ClickHouse read 1.20 bytes per byte of body, 18 MB 1.15, 22 MB 1.10; two of them in flight must fit the memory.
pub(super) const TARGET_BYTES: u64 = 19_000_000;
/// What a row is held to weigh before the first answer.
const FIRST_GUESS_BYTES: u64 = 4_000;
/// A slow answer alone never makes the number of rows smaller than this; a refusal may.
const MIN_ROWS: u64 = 1_000;
/// An answer that takes longer than this makes the next one smaller: the server stops at ten seconds.
const SLOW_SECONDS: f64 = 6.0;
/// An answer that is faster than this lets the number of rows grow again.
const FAST_SECONDS: f64 = 3.0;
/// Names whose weight is remembered; more share the average.
const MAX_NAMES: usize = 4_096;

/// The model. One for a run, fed with every page.
#[derive(Debug)]
pub struct SizeModel {
    /// The most rows of one answer: the user's bound, or what the server gives.
    most_rows: u32,
    /// The rows of an answer that had fewer than were asked for and yet was not the last.
    short: Option<u32>,
    average: Option<f64>,
    by_name: HashMap<String, f64>,
    /// Most rows of a slice, as time and faults allow.
    rows_cap: u64,
}

impl SizeModel {
    /// A model without experience. `page_size` is the user's bound on rows of one answer.
    pub fn new(page_size: Option<u32>) -> Self {
        let rows_cap = u64::from(MAX_LIMIT);
        let most_rows = page_size.unwrap_or(MAX_LIMIT);
        SizeModel { most_rows, short: None, average: None, by_name: HashMap::new(), rows_cap }
    }

    /// About how many bytes of body a row of this event makes.
    pub fn row_bytes(&self, event: &str) -> u64 {
        let known = self.by_name.get(event).copied().or(self.average);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below a body's size")]
        known.map_or(FIRST_GUESS_BYTES, |bytes| bytes.ceil() as u64).max(1)
    }

    /// Bytes of body that a slice aims at.
    pub fn slice_bytes(&self) -> u64 {
        TARGET_BYTES
    }

    /// The most rows of a slice.
    pub fn slice_rows(&self) -> u64 {
        u64::from(self.most_rows).min(self.rows_cap).max(1)
    }

    /// The most rows of one answer, whatever they weigh.
    pub fn most_rows(&self) -> u32 {
        self.most_rows
    }

    /// Learns that more rows lay behind an answer of `rows` rows, although more were asked for. Twice the same number is what
    /// the server gives at most; once, rows may have come meanwhile.
    pub fn went_on_behind(&mut self, rows: u32) {
        if self.short.replace(rows) == Some(rows) && rows < self.most_rows {
            log::info(format!("PostHog gives {rows} rows at most, whatever is asked for: pages get no larger"));
            self.most_rows = rows;
        }
    }

    /// About how many rows of this event one answer should hold.
    pub fn rows_for(&self, event: &str) -> u64 {
        (TARGET_BYTES / self.row_bytes(event)).clamp(1, self.slice_rows())
    }

    /// Learns from an answer: `rows` rows of `event`, if they are all of one, weighed `bytes`.
    pub fn learn(&mut self, event: Option<&str>, rows: u64, bytes: u64) {
        if rows == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let weight = bytes as f64 / rows as f64;
        let blend = |old: f64| old * 0.7 + weight * 0.3;
        self.average = Some(self.average.map_or(weight, blend));
        let Some(event) = event else { return };
        if let Some(known) = self.by_name.get_mut(event) {
            *known = blend(*known);
        } else if self.by_name.len() < MAX_NAMES {
            self.by_name.insert(event.to_owned(), weight);
        }
    }

    /// Learns from the time that an answer of `rows` rows took.
    pub fn took(&mut self, rows: u64, seconds: f64) {
        if seconds > SLOW_SECONDS {
            self.rows_cap = (rows / 2).clamp(MIN_ROWS, u64::from(MAX_LIMIT));
        } else if seconds < FAST_SECONDS {
            // Few rows are not what makes a query slow: from a refusal for another reason the way back is short.
            let more = if self.rows_cap < MIN_ROWS { self.rows_cap } else { self.rows_cap / 4 };
            self.rows_cap = (self.rows_cap + more).min(u64::from(MAX_LIMIT));
        }
    }

    /// Learns from a refusal: `rows` rows were too much to ask for.
    pub fn refused(&mut self, rows: u64) {
        // A query that was small by itself and is refused says little of larger ones: go down in steps.
        let least = if rows < MIN_ROWS.min(self.slice_rows()) { self.rows_cap / 4 } else { 0 };
        self.rows_cap = self.rows_cap.min((rows / 2).max(least)).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_answers_get_smaller_and_fast_ones_larger() {
        let mut size = SizeModel::new(None);
        size.took(40_000, SLOW_SECONDS + 1.0);
        assert_eq!(size.slice_rows(), 20_000);
        size.took(20_000, (SLOW_SECONDS + FAST_SECONDS) / 2.0);
        assert_eq!(size.slice_rows(), 20_000);
        size.took(20_000, FAST_SECONDS / 2.0);
        assert_eq!(size.slice_rows(), 25_000);
    }

    #[test]
    fn a_bound_of_the_server_is_learned_from_two_answers() {
        let mut size = SizeModel::new(None);
        [70, 100, 70].into_iter().for_each(|rows| size.went_on_behind(rows));
        assert_eq!(size.slice_rows(), u64::from(MAX_LIMIT));
        size.went_on_behind(70);
        assert_eq!((size.slice_rows(), size.most_rows()), (70, 70));
    }

    #[test]
    fn refusals_for_reasons_of_the_server_do_not_leave_tiny_slices_behind() {
        let mut size = SizeModel::new(None);
        for _ in 0..40 {
            size.refused(size.slice_rows());
        }
        assert_eq!(size.slice_rows(), 1);
        for _ in 0..10 {
            size.took(size.slice_rows(), 0.1);
        }
        assert_eq!(size.slice_rows(), 1_024);
        // Every third query refused, whatever its size.
        let least = (0..60).map(|n| {
            let rows = size.slice_rows();
            if n % 3 == 0 {
                size.refused(rows)
            } else {
                size.took(rows, 0.1)
            }
            size.slice_rows()
        });
        assert!(least.min().unwrap() > 500);
        // And small slices among them.
        for n in 0..60 {
            if n % 3 == 0 {
                size.refused(3)
            } else {
                size.took(3, 0.1)
            }
            assert!(size.slice_rows() >= 250, "{}", size.slice_rows());
        }
    }
}
