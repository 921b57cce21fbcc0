//! The overlap: what a run delivered of the time that the next run reads again, so that the next run leaves it out.
//!
//! Versions are kept by the time of their arrival, in cells of seconds: 2 of them in the default lookback, 5 in one of an
//! hour, an hour in the longest one, 30 days. Where the list would grow beyond its bound, the oldest cells are dropped, and
//! the next run looks back less far. Cells of a minute would take 5 % less room, but a project may deliver more than the
//! bound within one. A cell never crosses an hour of a lookback, because arrivals are counted by the hour.

pub mod form_1;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::time::{Micros, SECOND_US};

use super::arrivals::{Hours, hour_of};

/// Most cells of an overlap, besides its first and its last one, which need not be whole.
const CELLS: i64 = 720;
/// Bytes of the bound for each cell: cells themselves are to take a small part of it.
const BYTES_A_CELL: usize = 475;
const HOUR_SECONDS: i64 = 3600;
/// Most bits that a cell takes in the state besides its hashes: its number, its count, punctuation, the head of its text.
const CELL_BITS: u64 = 228;
/// The cell of versions whose arrival is not known, because an older program did not keep it. It is never dropped.
pub(super) const UNKNOWN: i64 = (1 << 53) - 1;

/// A version that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// When it arrived.
    pub arrived: Micros,
    /// [`crate::posthog::query::version::Version::hash`].
    pub hash: u64,
    /// It is counted by its arrival once it is no longer part of the overlap.
    pub watched: bool,
}

/// An overlap in the form of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Every version that was delivered and arrived from here on is in it: the next run starts here. Microseconds.
    pub from: Micros,
    /// Seconds of a cell.
    pub seconds: i64,
    /// In order: the number of a cell since 1970, how many of its versions are watched, and the hashes of all of them
    /// ([`write()`]).
    pub cells: Vec<(i64, u64, String)>,
}

impl Overlap {
    /// The overlap from `from` on before anything is delivered.
    pub fn new(from: Micros) -> Overlap {
        Overlap { from, seconds: HOUR_SECONDS, cells: Vec::new() }
    }

    /// The hashes, sorted.
    ///
    /// # Errors
    /// [`Kind::Config`] when a text was damaged.
    pub fn hashes(&self) -> Result<Vec<u64>> {
        let mut hashes = Vec::new();
        for (_, _, text) in &self.cells {
            hashes.extend(read(text).ok_or_else(damaged)?);
        }
        hashes.sort_unstable();
        Ok(hashes)
    }
}

pub(super) fn damaged() -> Error {
    Error::new(Kind::Config, "the list of delivered events in the state is damaged; give the last complete state")
}

#[derive(Debug, Default)]
struct Cell {
    watched: u64,
    hashes: Vec<u64>,
    /// The hashes as text; empty if they changed.
    text: String,
}

/// Collects what this run delivers of the coming overlap, within a bound on the size of the state.
#[derive(Debug)]
pub struct DedupWindow {
    from: Micros,
    horizon: Micros,
    seconds: i64,
    cells: BTreeMap<i64, Cell>,
    /// Most bits that the cells take in the state.
    bits: u64,
    max_bits: u64,
    /// Watched versions of dropped cells.
    dropped: Hours,
}

impl DedupWindow {
    /// Goes on from an overlap that ends at `horizon`, whose text is to take at most `max_bytes`.
    ///
    /// # Errors
    /// [`Kind::Config`] when the overlap was damaged.
    pub fn new(overlap: &Overlap, horizon: Micros, max_bytes: usize) -> Result<DedupWindow> {
        let Overlap { from, mut seconds, ref cells } = *overlap;
        if cells.iter().all(|(number, ..)| *number == UNKNOWN) {
            seconds = width(from, horizon, max_bytes);
        }
        if !(1..=Micros::MAX / SECOND_US).contains(&seconds) {
            return Err(damaged());
        }
        let max_bits = (max_bytes as u64).saturating_mul(6);
        let mut window =
            DedupWindow { from, horizon, seconds, cells: BTreeMap::new(), bits: 0, max_bits, dropped: Vec::new() };
        for (number, watched, text) in cells {
            let hashes = read(text).ok_or_else(damaged)?;
            window.bits = window.bits.saturating_add(most_bits(hashes.len()));
            let cell = Cell { watched: *watched, hashes, text: text.clone() };
            if window.cells.insert(*number, cell).is_some() {
                return Err(damaged());
            }
        }
        Ok(window)
    }

    /// Notes a delivered version. False: it arrived before the overlap.
    pub fn note(&mut self, delivered: Delivered) -> bool {
        if delivered.arrived < self.from {
            return false;
        }
        let number = delivered.arrived.div_euclid(self.seconds * SECOND_US);
        let before = self.cells.get(&number).map_or(0, |cell| most_bits(cell.hashes.len()));
        let cell = self.cells.entry(number).or_default();
        cell.hashes.push(delivered.hash);
        cell.watched = cell.watched.saturating_add(u64::from(delivered.watched));
        cell.text.clear();
        self.bits = self.bits.saturating_add(most_bits(cell.hashes.len())).saturating_sub(before);
        while self.bits > self.max_bits && self.drop_oldest() {}
        true
    }

    /// Drops the oldest cell. False where there is none whose arrival is known.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.cells.first_entry().filter(|cell| *cell.key() != UNKNOWN) else { return false };
        let (number, cell) = oldest.remove_entry();
        let width = self.seconds * SECOND_US;
        self.bits = self.bits.saturating_sub(most_bits(cell.hashes.len()));
        self.from = number.saturating_add(1).saturating_mul(width).min(self.horizon);
        if cell.watched > 0 {
            self.dropped.push((hour_of(self.from.saturating_sub(1)) / SECOND_US, cell.watched));
        }
        true
    }

    /// Watched versions that were pushed out of the overlap since the last call, by their hours of arrival.
    pub fn take_dropped(&mut self) -> Hours {
        std::mem::take(&mut self.dropped)
    }

    /// The form of the state. Only cells that changed since the last call are written anew.
    pub fn overlap(&mut self) -> Overlap {
        for cell in self.cells.values_mut().filter(|cell| cell.text.is_empty()) {
            cell.hashes.sort_unstable();
            cell.hashes.dedup();
            cell.text = write(&cell.hashes);
        }
        let cells = self.cells.iter().map(|(number, cell)| (*number, cell.watched, cell.text.clone()));
        Overlap { from: self.from, seconds: self.seconds, cells: cells.collect() }
    }
}

/// Seconds of a cell: a part of an hour. Never more than an hour where arrivals are counted: what is dropped is counted by
/// the hour of its cell. Some hours in an overlap that is longer than the longest lookback.
fn width(from: Micros, horizon: Micros, max_bytes: usize) -> i64 {
    let span = horizon.saturating_sub(from).max(0) / SECOND_US;
    let cells = i64::try_from(max_bytes / BYTES_A_CELL).unwrap_or(CELLS).clamp(1, CELLS);
    let part = (1..=HOUR_SECONDS).find(|seconds| HOUR_SECONDS % seconds == 0 && seconds * cells >= span);
    let is_lookback = span <= CELLS * HOUR_SECONDS;
    part.unwrap_or_else(|| if is_lookback { HOUR_SECONDS } else { (span / (cells * HOUR_SECONDS) + 1) * HOUR_SECONDS })
}

/// Most bits that a cell of so many hashes takes in the state. A hash of n takes at most 67 - log2(n) bits; a whole
/// logarithm makes steps, so what one hash less takes at most is a bound too: more hashes never take less. So an
/// interrupted run drops the cells that it would have dropped without that.
fn most_bits(hashes: usize) -> u64 {
    let n = hashes as u64;
    let log = n.max(1).ilog2();
    let before_step = ((1 << log) - 1) * u64::from(68 - log);
    CELL_BITS + (n * u64::from(67 - log)).max(before_step)
}

/// Sorted hashes as text: their differences Rice-coded, in base64, behind a head of the parameter and the number of hashes.
pub(super) fn write(hashes: &[u64]) -> String {
    let count = hashes.len() as u64;
    // The parameter that suits the differences of random numbers: their mean, times 0.69.
    let low_bits = u64::MAX.checked_div(count).map_or(0, |mean| (mean / 13 * 9).max(1).ilog2());
    let mut bits = BitWriter { bytes: vec![u8::try_from(low_bits).unwrap_or(0)], word: 0, used: 0 };
    bits.bytes.extend(count.to_le_bytes());
    let mut next = 0;
    for &hash in hashes {
        let gap = hash.wrapping_sub(next);
        bits.push_ones(gap >> low_bits);
        bits.push(gap & ((1 << low_bits) - 1), low_bits);
        next = hash.wrapping_add(1);
    }
    BASE64.encode(bits.end())
}

/// Reads what [`write()`] wrote; none where it was damaged.
pub(super) fn read(text: &str) -> Option<Vec<u64>> {
    let bytes = BASE64.decode(text).ok()?;
    let [low_bits, count @ ..] = *bytes.first_chunk::<9>()?;
    let low_bits = u32::from(low_bits);
    let mut reader = BitReader { bytes: &bytes, at: 9 * 8 };
    let count = usize::try_from(u64::from_le_bytes(count)).ok()?;
    if low_bits >= 64 || count > bytes.len() * 8 {
        return None;
    }
    let mut hashes: Vec<u64> = Vec::with_capacity(count);
    for _ in 0..count {
        let high = reader.ones()?;
        let low = reader.take(low_bits)?;
        let high = high.checked_shl(low_bits).filter(|shifted| shifted >> low_bits == high)?;
        let start = hashes.last().map_or(Some(0), |last| last.checked_add(1))?;
        hashes.push(start.checked_add(high | low)?);
    }
    Some(hashes)
}

struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that do not fill a word yet, from the highest on.
    word: u64,
    used: u32,
}

impl BitWriter {
    /// Writes a value of `count` bits.
    fn push(&mut self, value: u64, count: u32) {
        let free = 64 - self.used;
        if count == 0 {
            return;
        }
        if count < free {
            self.word |= value << (free - count);
            self.used += count;
            return;
        }
        let over = count - free;
        self.bytes.extend((self.word | value >> over).to_be_bytes());
        self.word = value.checked_shl(64 - over).unwrap_or(0);
        self.used = over;
    }

    /// Writes a number as so many ones, and a zero.
    fn push_ones(&mut self, mut ones: u64) {
        while ones >= 32 {
            self.push(u64::from(u32::MAX), 32);
            ones -= 32;
        }
        self.push((2 << ones) - 2, u32::try_from(ones).unwrap_or(0) + 1);
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend(self.word.to_be_bytes().iter().take(self.used.div_ceil(8) as usize));
        self.bytes
    }
}

/// Reads bits, from the highest of a byte on.
pub(super) struct BitReader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl BitReader<'_> {
    /// The bits from here on, at least 57 of them; zeros behind the end.
    fn word(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => rest.iter().zip(1..).fold(0, |word, (byte, at)| word | u64::from(*byte) << (64 - 8 * at)),
        };
        word << (self.at % 8)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.at += count as usize;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// The next `count` bits, at most 64.
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        if count > 56 {
            let high = self.take(count - 32)?;
            return Some(high << 32 | self.take(32)?);
        }
        let value = self.word().checked_shr(64 - count).unwrap_or(0);
        self.skip(count)?;
        Some(value)
    }

    /// The next number of ones, and the zero behind them.
    fn ones(&mut self) -> Option<u64> {
        let mut ones = 0;
        loop {
            let more = self.word().leading_ones().min(56);
            ones += u64::from(more);
            if more < 56 {
                self.skip(more + 1)?;
                return Some(ones);
            }
            self.skip(more)?;
        }
    }
}

#[cfg(test)]
mod tests;
