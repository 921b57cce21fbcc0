//! What a run delivered of the overlap that the next run reads again: 64-bit hashes of stored versions, small enough to
//! live in the state.
//!
//! A stored version of an event is (timestamp, event, distinct_id, uuid, created_at): an event that PostHog stored again
//! has a new `created_at`, is a new version, and comes out again. The hash is cryptographic because names and ids are
//! written by strangers, and a collision would drop an event.

use crate::error::{Error, Kind, Result};
use crate::time::Micros;

use super::bits::{BitReader, Bits};

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
    /// The hash that stands for this version. What `buffer` holds is written over.
    #[must_use]
    pub fn hash(&self, buffer: &mut Vec<u8>) -> u64 {
        // In one piece: a hasher that is fed is made for long texts.
        buffer.clear();
        buffer.extend_from_slice(&self.timestamp.to_le_bytes());
        buffer.extend_from_slice(&self.created_at.to_le_bytes());
        for part in [self.uuid, self.event, self.distinct_id] {
            buffer.extend_from_slice(&(part.len() as u64).to_le_bytes());
            buffer.extend_from_slice(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(buffer).as_bytes()[..8]);
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

    /// The hashes, in order.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
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
        let mut header = vec![u8::try_from(low_bits).unwrap_or(0)];
        header.extend(count.to_le_bytes());
        bits.text(header)
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
        let ([low_bits, count @ ..], mut reader) = BitReader::new::<9>(text).ok_or_else(damaged)?;
        let count = usize::try_from(u64::from_le_bytes(count)).map_err(|_| damaged())?;
        if low_bits >= 64 || count > reader.left() {
            return Err(damaged());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(version: Version<'_>) -> u64 {
        version.hash(&mut b"what was there".to_vec())
    }

    fn random(count: u64) -> Vec<u64> {
        (0..count)
            .map(|i| {
                hash(Version { timestamp: 0, created_at: i.cast_signed(), event: b"e", distinct_id: b"d", uuid: b"u" })
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
        assert!(others.iter().all(|other| hash(*other) != hash(version)));
        // States of earlier runs hold such hashes.
        assert_eq!(hash(version), 5_182_857_223_235_851_603);
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
