//! Reads one slice of `events`, page by page, and proves its count.
//!
//! A page that the server refuses as too much is asked for in smaller parts along the key, then with fewer rows; never the
//! same text again. A page is believed only if its rows lie in the asked interval and in the order of the key.

use std::sync::PoisonError;

use crate::error::Result;
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::query::interval::Key;
use crate::posthog::query::keyset::Place;

use super::buffers::Reservation;
use super::count::{self, Stored};
use super::page::{ReadPage, Source};
use super::parts::Parts;
use super::plan::Slice;
use crate::tap::config::CountProof;
use crate::tap::proof::{Shortfall, read_until_proved};

/// How often a slice is read whose rows seem to be missing, before that is held to be so.
const MAX_READINGS: u32 = 2;

/// What comes of a slice, in order.
#[derive(Debug)]
pub enum SliceEvent<'m> {
    /// A page. The last one of a slice is not to be written before the end of the slice came.
    Page(Box<ReadPage<'m>>),
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
            let received = self.read_once(slice, before > 0, &reserve, deliver)?;
            self.shortfall(slice, received, &mut counted_before)
        })?;
        let is_proved = is_whole && self.count_proof != CountProof::Off;
        deliver(SliceEvent::End { to: slice.interval.to.clone(), is_proved })
    }

    /// Reads a slice to its end; counts what comes.
    fn read_once<'m>(
        &self,
        slice: &Slice,
        is_again: bool,
        reserve: &impl Fn() -> Result<Reservation<'m>>,
        deliver: Deliver<'_, 'm>,
    ) -> Result<Stored> {
        let (mut received, mut last) = (Stored { rows: 0, versions: 0 }, None);
        let mut parts = Parts::new(slice, &self.size.lock().unwrap_or_else(PoisonError::into_inner));
        // The rows of the page before, if it had fewer than were asked for.
        let mut short = None;
        while let Some((interval, place, limit)) = parts.next() {
            match self.read_page(&interval, &place, limit, parts.on_split(), reserve()?) {
                Ok((mut page, behind)) => {
                    let rows = u32::try_from(page.notes.len()).unwrap_or(u32::MAX);
                    received.rows += u64::from(rows);
                    // Copies of a version are neighbours in the order of a page.
                    for (version, _) in &page.notes {
                        received.versions += u64::from(last.replace(*version) != Some(*version));
                    }
                    if let Some(short) = short.filter(|_| rows > 0 && place != Place::Start) {
                        self.learn(|size| size.went_on_behind(short));
                    }
                    short = (rows < limit).then_some(rows);
                    parts.done(rows, behind);
                    (page.is_again, page.is_last) = (is_again, parts.is_finished());
                    deliver(SliceEvent::Page(Box::new(page)))?;
                }
                Err(Fault::Split(why)) => {
                    log::debug(format!("asking for less than {limit} rows: {why}"));
                    self.learn(|size| size.refused(parts.expected_rows().min(u64::from(limit))));
                    if !parts.shrink() {
                        return Err(self.too_large(&interval, &place, &why));
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(received)
    }

    /// What is missing of a slice of which so much came. `counted_before` are the versions that were counted after
    /// the reading before this one.
    fn shortfall(
        &self,
        slice: &Slice,
        received: Stored,
        counted_before: &mut Option<u64>,
    ) -> Result<Option<Shortfall>> {
        if self.count_proof == CountProof::Off || received.rows == slice.rows {
            return Ok(None);
        }
        let now = count::stored(self.client, &self.range, &slice.interval)?;
        let distinct = received.versions;
        // Merged or deleted meanwhile: fewer rows are stored now than were received. Or more become visible all the time:
        // then all that was there before counts, and the rest is for the next run's overlap and its counts of arrivals.
        let grows = counted_before.is_some_and(|before| before < now.versions && before <= distinct);
        if now.rows == received.rows || distinct >= now.versions || grows {
            return Ok(None);
        }
        *counted_before = Some(now.versions);
        let (counted, day) = (now.versions, slice.interval.from.day);
        Ok(Some(Shortfall(format!("a slice of {day} holds {counted} events and {distinct} of them came"))))
    }
}
