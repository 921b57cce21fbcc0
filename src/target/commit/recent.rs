//! The newest rows, as many as the window holds: a ring of fingerprints, and a table of their places in it.

use hashbrown::HashTable;

use crate::target::rows::fingerprint::Fingerprint;

/// The newest fingerprints that were inserted, at most a fixed number.
#[derive(Debug)]
pub struct Recent {
    limit: usize,
    ring: Vec<Fingerprint>,
    /// Where the next one goes once the ring is full.
    next: usize,
    places: HashTable<u32>,
}

impl Recent {
    /// Room for `limit` rows, taken as they come.
    pub fn new(limit: usize) -> Self {
        Recent { limit: limit.max(1), ring: Vec::new(), next: 0, places: HashTable::new() }
    }

    /// True if every further row takes the place of another one.
    pub fn is_full(&self) -> bool {
        self.ring.len() >= self.limit
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.ring.capacity() * 16 + self.places.allocation_size()
    }

    /// Notes a row. False: it is there already.
    pub fn insert(&mut self, fingerprint: Fingerprint) -> bool {
        let Recent { ring, places, .. } = self;
        let is_it = |place: &u32| ring.get(*place as usize) == Some(&fingerprint);
        if places.find(hash(&fingerprint), is_it).is_some() {
            return false;
        }
        let place = if ring.len() < self.limit { ring.len() } else { self.next };
        let Ok(short) = u32::try_from(place) else { return true };
        match ring.get_mut(place) {
            Some(slot) => {
                let oldest = std::mem::replace(slot, fingerprint);
                if let Ok(entry) = places.find_entry(hash(&oldest), |found| *found == short) {
                    entry.remove();
                }
                self.next = (place + 1) % self.limit;
            }
            None => ring.push(fingerprint),
        }
        let hash_of = |place: &u32| ring.get(*place as usize).map_or(0, hash);
        places.insert_unique(hash(&fingerprint), short, hash_of);
        true
    }
}

/// A fingerprint is a hash already.
fn hash(fingerprint: &Fingerprint) -> u64 {
    fingerprint.first_chunk::<8>().map_or(0, |half| u64::from_le_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn the_newest_are_known_and_no_others(limit in 1usize..9, rows in prop::collection::vec(0u8..14, 0..200)) {
            let mut recent = Recent::new(limit);
            let mut model: VecDeque<u8> = VecDeque::new();
            for row in rows {
                // Half of them share their first half.
                let mut fingerprint = [0; 16];
                fingerprint[0] = row / 2;
                fingerprint[15] = row;
                prop_assert_eq!(recent.insert(fingerprint), !model.contains(&row));
                if !model.contains(&row) {
                    model.push_back(row);
                    if model.len() > limit {
                        model.pop_front();
                    }
                }
                prop_assert_eq!(recent.is_full(), model.len() == limit);
            }
        }
    }
}
