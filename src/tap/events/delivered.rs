//! What a run delivers of the coming overlap, collected within a bound on the size of the state.
//!
//! The list is cut where it is too long, so it knows the arrival of each version; only by cells, some hundreds over the
//! overlap, because a run that was interrupted takes them from its state and exact times would not fit. All runs go by
//! cells, so one that is interrupted ends with what it would have known without that.

use crate::error::{Error, Kind, Result};
use crate::time::{HOUR_US, Micros};

use super::bits::{BitReader, Bits};
use super::overlap::Seen;

/// Bits of a cell's number in the state.
const CELL_BITS: u32 = 9;
/// Cells of an overlap: two less than there are numbers, because its first and its last one need not be whole.
const CELLS: i64 = (1 << CELL_BITS) - 2;

/// A version that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivered {
    /// When it arrived.
    pub arrived: Micros,
    /// [`super::overlap::Version::hash`].
    pub hash: u64,
    /// The ledger counts it once it is no longer part of the overlap.
    pub watched: bool,
}

/// The time of an overlap in cells, numbered back from its horizon. Each is a part of an hour, because the ledger counts by
/// hours; in overlaps of months, which only runs by `timestamp` have, of more hours.
#[derive(Clone, Copy, Debug)]
struct Cells {
    from: Micros,
    horizon: Micros,
    /// One hour, or some.
    stretch: Micros,
    a_stretch: i64,
}

impl Cells {
    fn new(from: Micros, horizon: Micros) -> Cells {
        // Cells of a few microseconds are short enough, and their numbers small enough to be multiplied.
        let span = horizon.saturating_sub(from).max(8 * CELLS);
        let stretch = (span / CELLS / HOUR_US + 1).saturating_mul(HOUR_US);
        Cells { from, horizon, stretch, a_stretch: CELLS.saturating_mul(stretch) / span }
    }

    /// The cell that a time lies in, counted from 1970 on.
    fn count(&self, time: Micros) -> i64 {
        let (stretch, a_stretch) = (self.stretch, self.a_stretch);
        time.div_euclid(stretch) * a_stretch + time.rem_euclid(stretch) * a_stretch / stretch
    }

    /// The cell that a time lies in.
    fn of(&self, time: Micros) -> u64 {
        let back = self.count(self.horizon - 1) - self.count(time);
        u64::try_from(back).unwrap_or(0).min((1 << CELL_BITS) - 1)
    }

    /// The last instant of a cell before the horizon.
    fn end(&self, cell: u64) -> Micros {
        let (stretch, a_stretch) = (self.stretch, self.a_stretch);
        let count = self.count(self.horizon - 1) - i64::try_from(cell).unwrap_or(0);
        let next = (count.rem_euclid(a_stretch) + 1) * stretch;
        let end = count.div_euclid(a_stretch) * stretch + (next + a_stretch - 1) / a_stretch - 1;
        end.min(self.horizon - 1)
    }
}

/// The list of an overlap, in the form of the state.
#[derive(Debug)]
pub struct Listed {
    /// The versions ([`Seen::encode`]).
    pub seen: String,
    /// The cells of their arrivals in the same order, and whether the ledger will count them.
    pub arrivals: String,
    /// The arrival from which the list is complete: the start of the next overlap.
    pub from: Micros,
}

/// Collects what this run delivers of the coming overlap.
#[derive(Debug)]
pub struct SeenBuilder {
    /// With the last instants of their cells as arrivals.
    entries: Vec<Delivered>,
    cells: Cells,
    from: Micros,
    max_entries: usize,
    /// What the bound pushed out, for the ledger.
    dropped: Vec<Micros>,
}

impl SeenBuilder {
    /// Collects versions that arrived at `from` or later and before `horizon`, at most as many as fit `max_state_bytes`.
    #[must_use]
    pub fn new(from: Micros, horizon: Micros, max_state_bytes: usize) -> Self {
        // A hash of n takes up to 67 - log2(n) bits, and `watched` one more. A character of the state holds six.
        let bits = 68 + CELL_BITS - (max_state_bytes / 12).max(1).ilog2();
        let max_entries = (max_state_bytes.saturating_mul(6) / bits as usize).max(1);
        SeenBuilder { entries: Vec::new(), cells: Cells::new(from, horizon), from, max_entries, dropped: Vec::new() }
    }

    /// Takes up what an interrupted run had collected.
    ///
    /// # Errors
    /// [`Kind::Config`] when the text was damaged.
    pub fn resume(&mut self, seen: &Seen, arrivals: &str) -> Result<()> {
        if arrivals.is_empty() {
            // A state from before arrivals were kept. These versions stay as the newest, and the ledger does not count them.
            self.entries.extend(seen.hashes().map(|hash| Delivered { arrived: Micros::MAX, hash, watched: false }));
            self.max_entries = self.max_entries.max(seen.len());
            return Ok(());
        }
        let damaged = || Error::new(Kind::Config, "the arrivals of delivered events in the state are damaged");
        let (from, mut reader) = BitReader::new::<8>(arrivals).ok_or_else(damaged)?;
        self.cells = Cells::new(Micros::from_le_bytes(from), self.cells.horizon);
        for hash in seen.hashes() {
            let arrived = self.cells.end(reader.take(CELL_BITS).ok_or_else(damaged)?);
            let watched = reader.take(1).ok_or_else(damaged)? == 1;
            self.entries.push(Delivered { arrived, hash, watched });
        }
        if reader.left() < 8 { Ok(()) } else { Err(damaged()) }
    }

    /// Notes a delivered version. False: it arrived before the overlap.
    pub fn note(&mut self, delivered: Delivered) -> bool {
        if delivered.arrived < self.from {
            return false;
        }
        let arrived = self.cells.end(self.cells.of(delivered.arrived));
        self.entries.push(Delivered { arrived, ..delivered });
        if self.entries.len() > self.max_entries.saturating_mul(2).max(4096) {
            self.shrink();
        }
        true
    }

    /// Arrivals, to the hour, of versions that were pushed out of the overlap since the last call, as far as the ledger
    /// counts them.
    pub fn take_dropped(&mut self) -> Vec<Micros> {
        std::mem::take(&mut self.dropped)
    }

    /// The list so far.
    pub fn build(&mut self) -> Listed {
        self.shrink();
        self.entries.sort_unstable_by_key(|entry| entry.hash);
        self.entries.dedup_by_key(|entry| entry.hash);
        let mut bits = Bits::default();
        for entry in &self.entries {
            bits.push(self.cells.of(entry.arrived), CELL_BITS);
            bits.push(u64::from(entry.watched), 1);
        }
        let is_known = self.entries.iter().all(|entry| entry.arrived < Micros::MAX);
        let arrivals = if is_known { bits.text(self.cells.from.to_le_bytes().to_vec()) } else { String::new() };
        let seen = Seen::new(self.entries.iter().map(|entry| entry.hash).collect()).encode();
        Listed { seen, arrivals, from: self.from }
    }

    /// Keeps the newest entries that fit, whole cells only.
    fn shrink(&mut self) {
        if self.entries.len() <= self.max_entries {
            return;
        }
        self.entries.sort_unstable();
        let cut = self.entries.len() - self.max_entries;
        let last_dropped = self.entries.get(cut - 1).map_or(Micros::MIN, |entry| entry.arrived);
        let goes = |entry: &&Delivered| entry.arrived <= last_dropped;
        self.dropped.extend(self.entries.iter().filter(goes).filter(|entry| entry.watched).map(|e| e.arrived));
        self.entries.retain(|entry| entry.arrived > last_dropped);
        self.from = last_dropped + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::events::overlap::Version;
    use crate::time::SECOND_US;
    use proptest::prelude::*;

    fn hash(n: u64) -> u64 {
        let version = Version { timestamp: 0, created_at: n.cast_signed(), event: b"e", distinct_id: b"d", uuid: b"u" };
        version.hash(&mut Vec::new())
    }

    fn delivered(arrived: Micros, hash: u64) -> Delivered {
        Delivered { arrived, hash, watched: arrived % 2 == 0 }
    }

    #[test]
    fn above_the_bound_the_newest_whole_cells_stay() {
        let mut builder = SeenBuilder::new(0, 480 * SECOND_US, 125);
        assert_eq!(builder.max_entries, 10);
        assert!(!builder.note(delivered(-1, 1)));
        for second in 0..20 {
            for (hash, arrived) in [(second, second * SECOND_US), (second + 1000, second * SECOND_US + 1_000)] {
                assert!(builder.note(Delivered { arrived, hash: hash.cast_unsigned(), watched: true }));
            }
        }
        let listed = builder.build();
        let seen = Seen::decode(&listed.seen).unwrap();
        assert_eq!(seen.hashes().collect::<Vec<_>>(), [15, 16, 17, 18, 19, 1015, 1016, 1017, 1018, 1019]);
        assert!((14 * SECOND_US + 1_001..15 * SECOND_US).contains(&listed.from), "{}", listed.from);
        assert_eq!(builder.take_dropped().len(), 30);
    }

    /// Full, the list takes what it may take and no more, while the run is under way; and 8.2 bytes a version afterwards.
    #[test]
    fn a_full_list_takes_the_bytes_that_it_may_take() {
        for max_state_bytes in [10_000, 300_000, 2_000_000] {
            let horizon = 20_000 * HOUR_US;
            let mut builder = SeenBuilder::new(horizon - HOUR_US / 4, horizon, max_state_bytes);
            let full = builder.max_entries as u64;
            for n in 0..full {
                builder.note(delivered(horizon - HOUR_US / 4 + n.cast_signed(), hash(n)));
            }
            let listed = builder.build();
            let bytes = listed.seen.len() + listed.arrivals.len();
            assert!(bytes <= max_state_bytes && bytes > max_state_bytes * 9 / 10, "{bytes} of {max_state_bytes}");
            assert!(max_state_bytes < 2_000_000 || full >= 200_000, "{full} in {max_state_bytes} bytes");
        }
    }

    /// Versions of a state without arrivals are never pushed out, and never asked for their arrival.
    #[test]
    fn a_list_without_arrivals_is_kept() {
        let seen = Seen::new((0..50).map(hash).collect());
        let mut builder = SeenBuilder::new(0, HOUR_US, 125);
        builder.resume(&seen, "").unwrap();
        (1..100).for_each(|n| assert!(builder.note(delivered(n * SECOND_US, n.cast_unsigned()))));
        let listed = builder.build();
        assert_eq!(Seen::decode(&listed.seen).unwrap(), seen);
        assert!(listed.from > 99 * SECOND_US);
        assert_eq!(listed.arrivals, "");
    }

    #[test]
    fn damaged_arrivals_are_refused() {
        let mut builder = SeenBuilder::new(0, HOUR_US, 10_000);
        (0..9).for_each(|n| assert!(builder.note(delivered(n, hash(n.cast_unsigned())))));
        let listed = builder.build();
        let seen = Seen::decode(&listed.seen).unwrap();
        let resume = |arrivals: &str| SeenBuilder::new(0, HOUR_US, 10_000).resume(&seen, arrivals);
        assert!(resume(&listed.arrivals).is_ok());
        for damaged in ["?", "AAAA", &listed.arrivals[..20], &format!("{0}{0}", listed.arrivals)] {
            assert!(resume(damaged).is_err(), "{damaged}");
        }
    }

    proptest! {
        /// A cell ends where its last time is, before the horizon, and in the hour of its times.
        #[test]
        fn cells_cover_the_overlap_and_keep_to_their_hours(
            horizon in 1_000_000 * HOUR_US..1_000_100 * HOUR_US,
            span in prop_oneof![0i64..100_000_000, 0..4_000 * HOUR_US, 0..900_000 * HOUR_US],
            at in 0.0..1.0,
        ) {
            let cells = Cells::new(horizon - span, horizon);
            let time = horizon - 1 - (span as f64 * at) as i64;
            let end = cells.end(cells.of(time));
            prop_assert!(time <= end && end < horizon);
            prop_assert!(cells.stretch > HOUR_US || end.div_euclid(HOUR_US) == time.div_euclid(HOUR_US));
            prop_assert_eq!(cells.of(end), cells.of(time));
            prop_assert!(end + 1 == horizon || cells.of(end + 1) < cells.of(end));
        }

        /// Wherever a run is interrupted, it ends with the same list, start and dropped versions.
        #[test]
        fn interruptions_change_nothing(
            arrivals in prop::collection::vec(0..3 * HOUR_US, 0..400),
            cuts in prop::collection::vec(0usize..400, 0..4),
        ) {
            let (from, horizon) = (20_000 * HOUR_US - HOUR_US / 3, 20_003 * HOUR_US);
            let list = |cuts: &[usize]| {
                let mut builder = SeenBuilder::new(from, horizon, 1_000);
                let mut dropped = Vec::new();
                for (n, arrived) in arrivals.iter().enumerate() {
                    if cuts.contains(&n) {
                        let listed = builder.build();
                        dropped.extend(builder.take_dropped());
                        builder = SeenBuilder::new(listed.from, horizon, 1_000);
                        builder.resume(&Seen::decode(&listed.seen).unwrap(), &listed.arrivals).unwrap();
                    }
                    let delivered = delivered(from + arrived, hash(n as u64));
                    if !builder.note(delivered) && delivered.watched {
                        dropped.push(delivered.arrived);
                    }
                }
                let listed = builder.build();
                dropped.extend(builder.take_dropped());
                let mut hours: Vec<Micros> = dropped.iter().map(|time| time.div_euclid(HOUR_US)).collect();
                hours.sort_unstable();
                (listed.seen, listed.from, hours)
            };
            prop_assert_eq!(list(&cuts), list(&[]));
        }
    }
}
