//! Two slices in flight, delivered in key order.
//!
//! Fetch threads take slices from the plan one after another and queue, in that same order, a channel for each; the reader
//! empties the channels in queue order. So order costs nothing and the order of answers does not matter. What a thread
//! may hold ahead of its turn is bounded in bytes ([`Memory`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::posthog::fault::Fault;

use super::buffers::Memory;
use super::count;
use super::page::Source;
use super::plan::{Plan, Slice, Step};
use super::slice::SliceEvent;

/// PostHog runs three queries of a team at once; one is left to the people who work with it.
const IN_FLIGHT: usize = 2;
/// Bytes of answers that are held before their turn.
const HELD_BYTES: usize = 30_000_000;

/// While nothing arrives, the reader is woken this often.
const IDLE: Duration = Duration::from_secs(1);

type Channel<'m> = Receiver<Result<SliceEvent<'m>>>;

/// What comes of the slices of a plan, in key order.
pub struct Slices<'q, 'm> {
    queue: &'q Receiver<Channel<'m>>,
    memory: &'m Memory,
    /// What comes of the current slice.
    current: Option<Channel<'m>>,
    /// The number of the next slice.
    number: u64,
}

impl<'m> Slices<'_, 'm> {
    /// What comes next; none at the end of the plan.
    ///
    /// # Errors
    /// The first failure in key order.
    pub fn next(&mut self) -> Result<Option<SliceEvent<'m>>> {
        let Some(channel) = &self.current else {
            self.current = match self.queue.recv_timeout(clock::real(IDLE)) {
                Ok(channel) => Some(channel),
                Err(RecvTimeoutError::Timeout) => return Ok(Some(SliceEvent::Idle)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            };
            self.memory.set_front(self.number);
            self.number += 1;
            return self.next();
        };
        match channel.recv_timeout(clock::real(IDLE)) {
            Ok(event) => {
                let event = event?;
                if matches!(event, SliceEvent::End { .. }) {
                    self.current = None;
                }
                Ok(Some(event))
            }
            Err(RecvTimeoutError::Timeout) => Ok(Some(SliceEvent::Idle)),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::new(Kind::Internal, "a fetch thread ended without a word"))
            }
        }
    }
}

/// Fetches what is left of a plan, while `read` takes it.
pub fn with_slices(
    source: &Source<'_>,
    plan: Plan,
    read: impl for<'q, 'm> FnOnce(&mut Slices<'q, 'm>) -> Result<()>,
) -> Result<()> {
    let memory = Memory::new(HELD_BYTES);
    let (queue, channels) = sync_channel::<Channel<'_>>(IN_FLIGHT);
    let failed = AtomicBool::new(false);
    let plan = Mutex::new(Planner { plan, taken: 0, queue: Some(queue), failed: &failed });
    let result = std::thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| while fetch_one(source, &plan, &memory, &failed) {});
        }
        let mut slices = Slices { queue: &channels, memory: &memory, current: None, number: 0 };
        let result = read(&mut slices);
        // A reader that gave up: no new slice is taken, waits end, and waiting senders fail.
        failed.store(true, Ordering::Relaxed);
        source.stop.abandon(result.is_err());
        drop(slices);
        drop(channels);
        result
    });
    source.stop.abandon(false);
    result
}

struct Planner<'p, 'm> {
    plan: Plan,
    taken: u64,
    /// Dropped at the end of the plan, which ends the reader's loop once the threads are done.
    queue: Option<SyncSender<Channel<'m>>>,
    /// A thread failed, or the reader. Not under the lock, which is held while the server counts: a failure is said at once.
    failed: &'p AtomicBool,
}

/// Takes the next slice and reads it. False when there is none, or nobody wants it.
fn fetch_one<'m>(source: &Source<'_>, plan: &Mutex<Planner<'_, 'm>>, memory: &'m Memory, failed: &AtomicBool) -> bool {
    let (slice, number, sender) = {
        let mut planner = plan.lock().unwrap_or_else(PoisonError::into_inner);
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
    let mut deliver = |event| sender.send(Ok(event)).map_err(|_| gone());
    let outcome = source.read_slice(&slice, || memory.reserve(number, source.stop), &mut deliver);
    let Err(error) = outcome else { return true };
    failed.store(true, Ordering::Relaxed);
    let _ = sender.send(Err(error));
    false
}

/// The next slice of the plan, counted more closely where the plan wants it. None at the end, or after a failure.
fn next_slice(source: &Source<'_>, planner: &mut Planner<'_, '_>) -> Result<Option<Slice>> {
    loop {
        if planner.failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        source.stop.check()?;
        let step = planner.plan.step(&source.size.lock().unwrap_or_else(PoisonError::into_inner));
        match step {
            Step::Read(slice) => return Ok(Some(slice)),
            Step::Done => return Ok(None),
            Step::Probe(interval, rows) => {
                let storage = count::storage(source.client, &source.range, &interval, rows)?;
                planner.plan.set_storage(storage);
            }
            Step::Detail(interval, buckets) => {
                match count::buckets(source.client, &source.range, &interval, &buckets) {
                    Ok(counts) => planner.plan.detail(&counts, &buckets),
                    Err(Fault::Split(_)) => planner.plan.detail_refused(&buckets),
                    Err(fault) => return Err(fault.into()),
                }
            }
        }
    }
}
