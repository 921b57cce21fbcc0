//! Room in the memory budget: which row groups go to the encoder, and which sinks are given up.

use super::handing_over::{complete, hand_over};
use super::sink::COLUMN_BYTES;
use super::sinks::Slot;
use super::streams::Streams;
use crate::error::Result;
use crate::target::memory;

impl Streams {
    /// The bytes that the values in open row groups may take.
    pub(super) fn values_budget(&self) -> usize {
        memory::less_columns(self.budget, self.columns)
    }

    /// The bytes of one open sink of each stream without its values: these are accounted for.
    pub(super) fn first_sinks(&self) -> usize {
        self.columns * COLUMN_BYTES
    }

    pub(super) fn forget_empty(&mut self) {
        for stream in &mut self.all {
            for slot in stream.sinks.forget(|slot| slot.sink.rows() > 0) {
                self.used = self.used.saturating_sub(slot.counted);
            }
        }
    }

    /// Hands row groups over until the others are within the budget: the largest first. Where the sinks themselves are
    /// what takes the room, because there are so many of them, those that got no rows for the longest time are given up.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let (budget, first_sinks) = (self.values_budget(), self.first_sinks());
        while self.used > budget + first_sinks {
            let values: usize = self.slots().map(|slot| slot.sink.bytes()).sum();
            if self.used.saturating_sub(values + first_sinks) > budget / 2 && self.slots().nth(1).is_some() {
                self.give_up_half()?;
                continue;
            }
            let slots = self.all.iter_mut().flat_map(|stream| stream.sinks.iter_mut());
            let largest = slots.max_by_key(|slot| slot.sink.bytes());
            let Some(largest) = largest.filter(|largest| largest.sink.rows() > 0) else { break };
            hand_over(&mut largest.sink, &mut self.encoder, self.states, false)?;
            largest.recount(&mut self.used);
        }
        Ok(())
    }

    /// Completes the files of the half of the sinks that was used least lately, and forgets them.
    fn give_up_half(&mut self) -> Result<()> {
        let mut used_at: Vec<u64> = self.slots().map(|slot| slot.used_at).collect();
        let half = used_at.len() / 2;
        let limit = *used_at.select_nth_unstable(half).1;
        for stream in &mut self.all {
            for slot in stream.sinks.forget(|slot| slot.used_at >= limit) {
                self.used = self.used.saturating_sub(slot.counted);
                complete(slot.sink, &mut self.encoder, self.states)?;
            }
        }
        Ok(())
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter().flat_map(|stream| stream.sinks.iter())
    }
}
