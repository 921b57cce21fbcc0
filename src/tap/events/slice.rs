//! Reads one slice of `events`, page by page, and proves its count.
//!
//! A page that the server refuses as too much is asked for in smaller parts along the key, then with fewer rows; never the
//! same text again. A page is believed only if its rows lie in the asked interval and in the order of the key.

use std::collections::HashSet;
use std::sync::PoisonError;

use crate::error::Result;
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::query::hogql::{Cursor, Interval, Key};

use super::buffers::Reservation;
use super::count::{self, Stored};
use super::page::{ReadPage, Source};
use super::parts::Parts;
use super::plan::Slice;
use crate::tap::config::CountProof;
use crate::tap::proof::{Shortfall, read_until_proved};

/// How often a slice is read whose rows seem to be missing, before that is held to be so.
const MAX_READINGS: u32 = 2;
/// A slice of more pages than this is proved in parts, at one more query each: a run that ends inside it keeps what it read.
const PART_PAGES: u64 = 50;

/// What comes of a slice, in order.
#[derive(Debug)]
pub enum SliceEvent<'m> {
    /// A page. The last one of a slice is not to be written before the end of the slice came.
    Page(Box<ReadPage<'m>>),
    /// The pages so far are all that there is up to here: a run may go on from here.
    Checkpoint(Cursor),
    /// The slice is read again from its start; its last page, which nobody has written yet, comes again.
    Restart,
    /// Everything came, or the user lets the run go on without the rest.
    End {
        /// Where the next slice starts; none behind the last one.
        to: Option<Key>,
        /// The count of the slice was compared, and nothing is missing.
        is_proved: bool,
    },
    /// Nothing came for a while: a server that is slow, or that makes us wait.
    Idle,
}

/// Hands on what comes of a slice.
type Deliver<'d, 'm> = &'d mut dyn FnMut(SliceEvent<'m>) -> Result<()>;

impl Source<'_> {
    /// Reads a slice until it is proved, and hands what comes to `deliver`.
    ///
    /// # Errors
    /// Faults that asking for less does not help against, missing rows, and what `deliver` returns.
    pub fn read_slice<'m>(
        &self,
        slice: &Slice,
        reserve: impl Fn() -> Result<Reservation<'m>>,
        deliver: Deliver<'_, 'm>,
    ) -> Result<()> {
        let mut counted_before = None;
        let is_whole = read_until_proved(self.count_proof, MAX_READINGS, |before| {
            if before > 0 {
                deliver(SliceEvent::Restart)?;
            }
            let versions = self.read_once(slice, before > 0, &reserve, deliver)?;
            self.shortfall(slice, &versions, &mut counted_before)
        })?;
        let is_proved = is_whole && self.count_proof != CountProof::Off;
        deliver(SliceEvent::End { to: slice.interval.to.clone(), is_proved })
    }

    /// Reads a slice to its end; gives the hash of the version of each row.
    fn read_once<'m>(
        &self,
        slice: &Slice,
        is_again: bool,
        reserve: &impl Fn() -> Result<Reservation<'m>>,
        deliver: Deliver<'_, 'm>,
    ) -> Result<Vec<u64>> {
        let (mut versions, mut whole) = (Vec::new(), None);
        let mut parts = Parts::new(slice, &self.size.lock().unwrap_or_else(PoisonError::into_inner), self.page_size);
        let mut pages = 0u64;
        while let Some((interval, limit)) = parts.next() {
            match self.read_page(&interval, limit, parts.on_split(), reserve()?) {
                Ok(mut page) => {
                    pages += 1;
                    page.again = is_again;
                    versions.extend(page.notes.iter().map(|(version, _)| *version));
                    parts.done(page.next.as_ref());
                    page.next = parts.next().map(|(rest, _)| rest.from);
                    let next = page.next.clone();
                    deliver(SliceEvent::Page(Box::new(page)))?;
                    if let Some(next) = next.filter(|_| !is_again && pages.is_multiple_of(PART_PAGES))
                        && self.is_whole_until(&next, slice, &versions, &mut whole)
                    {
                        deliver(SliceEvent::Checkpoint(next))?;
                    }
                }
                Err(Fault::Split(why)) => {
                    log::debug(format!("asking for less than {limit} rows: {why}"));
                    self.learn(|size| size.refused(parts.expected_rows().min(u64::from(limit))));
                    if !parts.shrink() {
                        return Err(self.too_large(&interval, &why));
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(versions)
    }

    /// What is missing of a slice of which these versions came. `counted_before` are the versions that were counted after
    /// the reading before this one.
    fn shortfall(
        &self,
        slice: &Slice,
        versions: &[u64],
        counted_before: &mut Option<u64>,
    ) -> Result<Option<Shortfall>> {
        let received = versions.len() as u64;
        if self.count_proof == CountProof::Off || received == slice.rows {
            return Ok(None);
        }
        let now = self.stored(&slice.interval)?;
        let distinct = distinct(versions);
        // Merged or deleted meanwhile: fewer rows are stored now than were received. Or more become visible all the time:
        // then all that was there before counts, and the rest is for the next run's overlap and its counts of arrivals.
        let grows = counted_before.is_some_and(|before| before < now.versions && before <= distinct);
        if now.rows == received || distinct >= now.versions || grows {
            return Ok(None);
        }
        *counted_before = Some(now.versions);
        let (counted, day) = (now.versions, slice.interval.from.key().day);
        Ok(Some(Shortfall(format!("a slice of {day} holds {counted} events and {distinct} of them came"))))
    }

    fn stored(&self, interval: &Interval) -> Result<Stored> {
        count::stored(self.client, &self.range, interval)
    }

    /// True if these versions, of what was received of a slice, are all that lie before `next`: what was planned, without
    /// what is left. Or, because a version that is stored twice at the edge of a page comes once, all its versions (`whole`,
    /// once they were counted) without those that are left. A merge in between may make it false, and a count that fails
    /// does; the end of the slice tells more.
    fn is_whole_until(&self, next: &Cursor, slice: &Slice, versions: &[u64], whole: &mut Option<u64>) -> bool {
        if self.count_proof == CountProof::Off {
            return true;
        }
        let rest = Interval { from: next.clone(), to: slice.interval.to.clone() };
        let Ok(left) = self.stored(&rest) else { return false };
        if left.rows.checked_add(versions.len() as u64) == Some(slice.rows) {
            return true;
        }
        if whole.is_none() {
            *whole = self.stored(&slice.interval).ok().map(|stored| stored.versions);
        }
        let is_whole = *whole == Some(distinct(versions).saturating_add(left.versions));
        // What became visible meanwhile is in the next count.
        *whole = whole.filter(|_| is_whole);
        is_whole
    }
}

fn distinct(versions: &[u64]) -> u64 {
    versions.iter().collect::<HashSet<_>>().len() as u64
}
