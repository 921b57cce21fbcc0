//! Two slices in flight, delivered in key order.
//!
//! Fetch threads take slices from the plan one after another and queue, in that same order, a channel for each; the reader
//! empties the channels in queue order. So order costs nothing and the order of answers does not matter. What a thread
//! may hold ahead of its turn is bounded in bytes ([`Memory`]).

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::posthog::fault::Fault;
use crate::posthog::query::hogql::{Cursor, Key};

use super::buffers::Memory;
use super::plan::{Plan, Slice, Step};
use super::slice::{Piece, Proof, ReadPage, Source};

/// PostHog runs three queries of a team at once; one is left to the people who work with it.
const IN_FLIGHT: usize = 2;
/// Bytes of answers that are held before their turn.
const HELD_BYTES: usize = 30_000_000;

/// A wait for the fetch threads is told of each time it has lasted so long again.
const SILENCE: Duration = Duration::from_secs(1);

/// What the fetch threads deliver, in key order.
#[derive(Debug)]
pub enum Delivery<'m> {
    /// A page of the current slice, which goes on behind it.
    Page(Box<ReadPage<'m>>),
    /// The pages so far of the current slice are proved: a run may go on from here.
    Proved(Cursor),
    /// The current slice is read: where the next one starts (none: it was the last), and how its count came out.
    SliceEnd {
        /// The end of the slice.
        to: Option<Key>,
        /// Its count proof.
        proof: Proof,
        /// Its last page: not to be printed before the proof was looked at.
        last: Option<Box<ReadPage<'m>>>,
    },
    /// Nothing came for a while: a server that is slow, or that makes us wait.
    Silence,
}

/// What a fetch thread says of its slice.
enum Said<'m> {
    Piece(Piece<'m>),
    End { to: Option<Key>, proof: Proof },
}

type Channel<'m> = Receiver<Result<Said<'m>>>;

/// Reads everything that is left of a plan, and hands it to `deliver` in key order.
///
/// # Errors
/// The first failure in key order, of a fetch or of `deliver`; what came before it was delivered.
pub fn read_all(source: &Source<'_>, plan: Plan, mut deliver: impl FnMut(Delivery<'_>) -> Result<()>) -> Result<()> {
    let memory = Memory::new(HELD_BYTES);
    let (queue, channels) = sync_channel::<Channel<'_>>(IN_FLIGHT);
    let plan = Mutex::new(Planner { plan, taken: 0, queue: Some(queue), failed: false });
    let result = std::thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| while fetch_one(source, &plan, &memory) {});
        }
        let result = deliver_all(&channels, &memory, &mut deliver);
        // A reader that gave up: waits end, waiting senders fail (first, one may hold the lock), and no new slice is taken.
        source.stop.abandon(result.is_err());
        drop(channels);
        lock(&plan).failed = true;
        result
    });
    source.stop.abandon(false);
    result
}

fn deliver_all<'m>(
    channels: &Receiver<Channel<'m>>,
    memory: &Memory,
    deliver: &mut impl FnMut(Delivery<'m>) -> Result<()>,
) -> Result<()> {
    let mut slice = 0;
    while let Some(channel) = next(channels, deliver)? {
        memory.set_front(slice);
        slice += 1;
        let (mut ended, mut held) = (false, None);
        while let Some(said) = next(&channel, deliver)? {
            match said? {
                Said::Piece(Piece::Page(page)) if page.next.is_none() => held = Some(page),
                Said::Piece(Piece::Page(page)) => deliver(Delivery::Page(page))?,
                Said::Piece(Piece::Proved(cursor)) => deliver(Delivery::Proved(cursor))?,
                Said::Piece(Piece::Again) => held = None,
                Said::End { to, proof } => {
                    ended = true;
                    deliver(Delivery::SliceEnd { to, proof, last: held.take() })?;
                }
            }
        }
        if !ended {
            return Err(Error::new(Kind::Internal, "a fetch thread ended without a word"));
        }
    }
    Ok(())
}

/// What a channel gives next; none at its end.
fn next<'m, T>(channel: &Receiver<T>, deliver: &mut impl FnMut(Delivery<'m>) -> Result<()>) -> Result<Option<T>> {
    loop {
        match channel.recv_timeout(clock::real(SILENCE)) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) => deliver(Delivery::Silence)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

struct Planner<'m> {
    plan: Plan,
    taken: u64,
    /// Dropped at the end of the plan, which ends the reader's loop once the threads are done.
    queue: Option<SyncSender<Channel<'m>>>,
    failed: bool,
}

fn lock<'p, 'm>(plan: &'p Mutex<Planner<'m>>) -> std::sync::MutexGuard<'p, Planner<'m>> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the next slice and reads it. False when there is none, or nobody wants it.
fn fetch_one<'m>(source: &Source<'_>, plan: &Mutex<Planner<'m>>, memory: &'m Memory) -> bool {
    let (slice, number, sender) = {
        let mut planner = lock(plan);
        let slice = match next_slice(source, &mut planner) {
            Ok(Some(slice)) => Ok(slice),
            Ok(None) => {
                planner.queue = None;
                return false;
            }
            Err(error) => Err(error),
        };
        let (sender, channel) = sync_channel(1);
        let number = planner.taken;
        planner.taken += 1;
        planner.failed |= slice.is_err();
        // Sent under the lock: the queue has the order of the plan. The reader empties it, or drops it.
        let queued = planner.queue.as_ref().is_some_and(|queue| queue.send(channel).is_ok());
        match slice {
            Ok(slice) if queued => (slice, number, sender),
            Err(error) => {
                let _ = sender.send(Err(error));
                planner.queue = None;
                return false;
            }
            Ok(_) => return false,
        }
    };
    let gone = || Error::new(Kind::Internal, "nobody reads the rows any more");
    let mut deliver = |piece| sender.send(Ok(Said::Piece(piece))).map_err(|_| gone());
    let outcome = source
        .read_slice(&slice, || memory.reserve(number, source.stop), &mut deliver)
        .map(|proof| Said::End { to: slice.interval.to.clone(), proof });
    let failed = outcome.is_err();
    if failed {
        let mut planner = lock(plan);
        planner.failed = true;
        planner.queue = None;
    }
    sender.send(outcome).is_ok() && !failed
}

/// The next slice of the plan, counted more closely where the plan wants it. None at the end, or after a failure.
fn next_slice(source: &Source<'_>, planner: &mut Planner<'_>) -> Result<Option<Slice>> {
    loop {
        if planner.failed {
            return Ok(None);
        }
        source.stop.check()?;
        let step = planner.plan.step(&source.size.lock().unwrap_or_else(PoisonError::into_inner));
        match step {
            Step::Read(slice) => return Ok(Some(slice)),
            Step::Done => return Ok(None),
            Step::Detail(interval, bits) => match source.count_buckets(&interval, bits) {
                Ok(counts) => planner.plan.detail(&counts, bits),
                Err(Fault::Split(_)) => planner.plan.detail_refused(bits),
                Err(fault) => return Err(fault.into()),
            },
        }
    }
}
