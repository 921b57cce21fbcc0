//! What a run delivered of the overlap that the next run reads again: 64-bit hashes of stored versions, small enough to
//! live in the state.
//!
//! A stored version of an event is (timestamp, event, distinct_id, uuid, created_at): an event that PostHog stored again
//! has a new `created_at`, is a new version, and comes out again. The hash is cryptographic because names and ids are
//! written by strangers, and a collision would drop an event.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::error::{Error, Kind, Result};
use crate::posthog::time::Micros;

/// The parts of a stored version, as the server returned them.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// `timestamp`.
    pub timestamp: Micros,
    /// `created_at`.
    pub created_at: Micros,
    /// `event`.
    pub event: &'a [u8],
    /// `distinct_id`.
    pub distinct_id: &'a [u8],
    /// `uuid` as text.
    pub uuid: &'a [u8],
}

impl Version<'_> {
    /// The hash that stands for this version.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.timestamp.to_le_bytes());
        hasher.update(&self.created_at.to_le_bytes());
        for part in [self.uuid, self.event, self.distinct_id] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

/// A sorted set of hashes: what an earlier run delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<u64>);

impl Seen {
    /// A set of these hashes.
    #[must_use]
    pub fn new(mut hashes: Vec<u64>) -> Seen {
        hashes.sort_unstable();
        hashes.dedup();
        Seen(hashes)
    }

    /// True if the hash is in it.
    #[must_use]
    pub fn contains(&self, hash: u64) -> bool {
        self.0.binary_search(&hash).is_ok()
    }

    /// How many hashes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without hashes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Text for the state: sorted, the differences Rice-coded, base64. About 8.2 characters a hash.
    #[must_use]
    pub fn encode(&self) -> String {
        let count = self.0.len() as u64;
        let Some(mean) = u64::MAX.checked_div(count) else { return String::new() };
        // The best parameter for differences that are spread like those of random numbers.
        let low_bits = mean.ilog2().saturating_sub(1);
        let mut bits = Bits::default();
        let mut last = 0;
        for (i, &hash) in self.0.iter().enumerate() {
            let gap = if i == 0 { hash } else { hash - last - 1 };
            bits.push_unary(gap >> low_bits);
            bits.push(gap & ((1 << low_bits) - 1), low_bits);
            last = hash;
        }
        let mut bytes = vec![u8::try_from(low_bits).unwrap_or(0)];
        bytes.extend(count.to_le_bytes());
        bytes.extend(bits.bytes);
        BASE64.encode(bytes)
    }

    /// Reads what [`Seen::encode`] wrote.
    ///
    /// # Errors
    /// [`Kind::Config`] when the text was damaged.
    pub fn decode(text: &str) -> Result<Seen> {
        if text.is_empty() {
            return Ok(Seen::default());
        }
        let damaged = || Error::new(Kind::Config, "the list of delivered events in the state is damaged");
        let bytes = BASE64.decode(text).map_err(|_| damaged())?;
        let (&low_bits, rest) = bytes.split_first().filter(|(bits, _)| **bits < 64).ok_or_else(damaged)?;
        let (count, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| damaged())?;
        if count > rest.len().saturating_mul(8) {
            return Err(damaged());
        }
        let mut reader = BitReader { bytes: rest, at: 0 };
        let mut hashes = Vec::with_capacity(count);
        for _ in 0..count {
            let high = reader.unary().ok_or_else(damaged)?;
            let low = reader.take(u32::from(low_bits)).ok_or_else(damaged)?;
            let high = high.checked_shl(u32::from(low_bits)).filter(|v| v >> low_bits == high).ok_or_else(damaged)?;
            let start = hashes.last().map_or(Some(0), |last: &u64| last.checked_add(1)).ok_or_else(damaged)?;
            hashes.push(start.checked_add(high | low).ok_or_else(damaged)?);
        }
        Ok(Seen(hashes))
    }
}

/// A version that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivered {
    /// When it arrived.
    pub arrived: Micros,
    /// [`Version::hash`].
    pub hash: u64,
    /// The ledger counts it once it is no longer part of the overlap.
    pub watched: bool,
}

/// Collects what this run delivers of the coming overlap, within a bound on the size of the state.
#[derive(Debug)]
pub struct SeenBuilder {
    entries: Vec<Delivered>,
    from: Micros,
    max_entries: usize,
    /// What the bound pushed out, for the ledger.
    dropped: Vec<Micros>,
}

/// What is needed of the state for one hash, in bytes (8.2 measured, and room for the rest of the state).
const STATE_BYTES_A_HASH: usize = 9;

impl SeenBuilder {
    /// Collects versions that arrived at `from` or later, at most as many as fit `max_state_bytes`.
    #[must_use]
    pub fn new(from: Micros, max_state_bytes: usize) -> Self {
        let max_entries = (max_state_bytes / STATE_BYTES_A_HASH).max(1);
        SeenBuilder { entries: Vec::new(), from, max_entries, dropped: Vec::new() }
    }

    /// Takes up what an interrupted run had collected. Their arrival is not known any more; they are kept as the newest.
    pub fn resume(&mut self, seen: &Seen) {
        let kept = |&hash: &u64| Delivered { arrived: Micros::MAX, hash, watched: false };
        self.entries.extend(seen.0.iter().map(kept));
    }

    /// Notes a delivered version. False: it arrived before the overlap.
    pub fn note(&mut self, delivered: Delivered) -> bool {
        if delivered.arrived < self.from {
            return false;
        }
        self.entries.push(delivered);
        if self.entries.len() > self.max_entries.saturating_mul(2).max(4096) {
            self.shrink();
        }
        true
    }

    /// Arrivals of versions that were pushed out of the overlap since the last call, as far as the ledger counts them.
    pub fn take_dropped(&mut self) -> Vec<Micros> {
        std::mem::take(&mut self.dropped)
    }

    /// The set so far, and the arrival from which it is complete: the start of the next overlap.
    pub fn build(&mut self) -> (Seen, Micros) {
        self.shrink();
        (Seen::new(self.entries.iter().map(|entry| entry.hash).collect()), self.from)
    }

    /// Keeps the newest entries that fit, whole instants only.
    fn shrink(&mut self) {
        if self.entries.len() <= self.max_entries {
            return;
        }
        self.entries.sort_unstable();
        let cut = self.entries.len() - self.max_entries;
        let last_dropped = self.entries.get(cut - 1).map_or(Micros::MIN, |entry| entry.arrived);
        if last_dropped < Micros::MAX {
            let goes = |entry: &&Delivered| entry.arrived <= last_dropped;
            self.dropped.extend(self.entries.iter().filter(goes).filter(|entry| entry.watched).map(|e| e.arrived));
            self.entries.retain(|entry| entry.arrived > last_dropped);
            self.from = last_dropped + 1;
        }
    }
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn push(&mut self, value: u64, count: u32) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(byte) = self.bytes.last_mut() {
                *byte |= u8::from(value >> bit & 1 == 1) << self.free;
            }
        }
    }

    fn push_unary(&mut self, ones: u64) {
        for _ in 0..ones {
            self.push(1, 1);
        }
        self.push(0, 1);
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: u32) -> Option<u64> {
        (0..count).try_fold(0, |value, _| {
            let byte = self.bytes.get(self.at / 8)?;
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u64::from(bit))
        })
    }

    fn unary(&mut self) -> Option<u64> {
        let mut ones = 0;
        while self.take(1)? == 1 {
            ones += 1;
        }
        Some(ones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delivered(arrived: Micros, hash: u64) -> Delivered {
        Delivered { arrived, hash, watched: arrived % 2 == 0 }
    }

    fn random(count: u64) -> Vec<u64> {
        (0..count)
            .map(|i| {
                Version { timestamp: 0, created_at: i.cast_signed(), event: b"e", distinct_id: b"d", uuid: b"u" }.hash()
            })
            .collect()
    }

    #[test]
    fn parts_of_a_version_do_not_run_into_each_other() {
        let version = Version { timestamp: 1, created_at: 2, event: b"ab", distinct_id: b"c", uuid: b"u" };
        let others = [
            Version { event: b"a", distinct_id: b"bc", ..version },
            Version { created_at: 3, ..version },
            Version { timestamp: 2, ..version },
            Version { uuid: b"v", ..version },
        ];
        assert!(others.iter().all(|other| other.hash() != version.hash()));
        assert_eq!(version.hash(), Version { ..version }.hash());
    }

    #[test]
    fn two_hundred_thousand_hashes_take_under_nine_characters_each() {
        let seen = Seen::new(random(200_000));
        let text = seen.encode();
        assert!(text.len() < 200_000 * 9, "{}", text.len());
        assert_eq!(Seen::decode(&text).unwrap(), seen);
    }

    #[test]
    fn damaged_text_is_refused_and_never_a_panic() {
        let text = Seen::new(random(50)).encode();
        for cut in 1..text.len() {
            assert_ne!(Seen::decode(&text[..cut]).ok(), Some(Seen::new(random(50))), "{cut}");
        }
        assert!(Seen::decode("/////////////////////w").is_err());
        assert!(Seen::decode("not base64!").is_err());
    }

    #[test]
    fn above_the_bound_the_newest_whole_instants_stay() {
        let mut builder = SeenBuilder::new(100, 10 * STATE_BYTES_A_HASH);
        builder.note(delivered(99, 1));
        for arrived in 100..120 {
            builder.note(delivered(arrived, u64::try_from(arrived).unwrap()));
            builder.note(delivered(arrived, u64::try_from(arrived + 1000).unwrap()));
        }
        let (seen, from) = builder.build();
        assert_eq!((seen.len(), from), (10, 115));
        assert!(seen.contains(119) && seen.contains(1119) && !seen.contains(114) && !seen.contains(1));
    }

    proptest! {
        #[test]
        fn any_set_survives(hashes in prop::collection::vec(any::<u64>(), 0..200)) {
            let seen = Seen::new(hashes.clone());
            let back = Seen::decode(&seen.encode()).unwrap();
            prop_assert!(hashes.iter().all(|hash| back.contains(*hash)));
            prop_assert_eq!(back, seen);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[A-Za-z0-9+/]{0,200}") {
            let _ = Seen::decode(&text);
        }
    }
}
