//! What identifies a stored version of an event: the one place for the queries that order and count versions, and for the
//! hash that stands for one.
//!
//! An event that PostHog stored again has a new `created_at`, is a new version, and comes out again. Runs that go by
//! `timestamp` do not name `created_at`: for them, versions that differ in nothing else are one.
//!
//! Who changes the columns looks at these places, too: `Check::row` in `tap/events/verify.rs` fills a [`Version`]; the order of
//! a page (`page_order` in `hogql.rs`) must tell all versions apart; `tap/record/projection.rs` always asks for the columns; and
//! `FORM` in `tap/events/bookmark.rs` goes up, because the hashes of older states are of other versions then.

use crate::time::Micros;

/// The columns of a version.
const COLUMNS: [&str; 4] = ["timestamp", "event", "distinct_id", "uuid"];
/// The last column of both, where runs go by arrival.
const ARRIVAL: &str = "created_at";

/// These columns, and the arrival where runs go by it, as a list in a query.
fn listed(columns: &[&str], by_arrival: bool) -> String {
    let arrival = by_arrival.then_some(ARRIVAL);
    columns.iter().copied().chain(arrival).collect::<Vec<_>>().join(", ")
}

/// The expression that counts stored versions.
pub(super) fn count(by_arrival: bool) -> String {
    format!("uniqExact(tuple({}))", listed(&COLUMNS, by_arrival))
}

/// The parts of a stored version, as the server returned them.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// `timestamp`.
    pub timestamp: Micros,
    /// `created_at`; the same as `timestamp` where runs go by that.
    pub created_at: Micros,
    /// `event`.
    pub event: &'a [u8],
    /// `distinct_id`.
    pub distinct_id: &'a [u8],
    /// `uuid` as text.
    pub uuid: &'a [u8],
}

impl Version<'_> {
    /// The hash that stands for this version. It is cryptographic because names and ids are written by strangers, and a
    /// collision would drop an event. What `buffer` holds is written over.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_version_do_not_run_into_each_other() {
        let hash = |version: Version<'_>| version.hash(&mut b"what was there".to_vec());
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
}
