//! Bounds the memory of answers over all fetch threads: two buffers, used again and again, and a bound on their bytes.
//!
//! The thread that fetches the slice which is written next never waits for others: its progress frees
//! memory. Every other thread waits for a free buffer before it asks, and in the middle of a body when the bytes run out.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::stop::Stop;

/// Buffers in use at one time: an answer that is written and one that is fetched, or two that are fetched.
const BUFFERS: usize = 2;
/// A buffer that had to grow beyond this is not kept, nor is one that would lie beside such a one.
const KEPT_BYTES: usize = 24_000_000;
/// How often a waiting thread looks whether the run should end.
const LOOK: Duration = Duration::from_millis(100);

/// The buffers, and whose turn it is.
#[derive(Debug)]
pub struct Memory {
    max_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// The number of the slice that is written next or now.
    front: u64,
    /// The slices of the buffers that are in use.
    users: Vec<u64>,
    /// The front slice waits for the buffer of its own page that is being written.
    front_waits: bool,
    free: Vec<Vec<u8>>,
}

impl Memory {
    /// Memory for answers of about `max_bytes` in all.
    pub fn new(max_bytes: usize) -> Memory {
        Memory { max_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// A buffer for an answer of the slice of this number; waits until one is free.
    pub fn reserve(&self, slice: u64, stop: &Stop) -> Result<Reservation<'_>> {
        let mut state = self.lock();
        loop {
            let is_front = state.front >= slice;
            let enough = state.users.len() + usize::from(state.front_waits && !is_front) < BUFFERS;
            if enough || is_front && !state.users.contains(&slice) {
                break;
            }
            state.front_waits |= is_front;
            stop.check()?;
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.front >= slice {
            state.front_waits = false;
        }
        state.users.push(slice);
        let buffer = state.free.pop().unwrap_or_default();
        Ok(Reservation { memory: self, slice, bytes: 0, buffer })
    }

    /// Slice number `slice` is written next.
    pub fn set_front(&self, slice: u64) {
        let mut state = self.lock();
        state.front = slice;
        state.front_waits = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer and the bytes that it may hold; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    memory: &'a Memory,
    slice: u64,
    bytes: usize,
    buffer: Vec<u8>,
}

impl Reservation<'_> {
    /// Takes the buffer out, to be filled.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Puts a buffer back, to be used again.
    pub fn put_buffer(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Holds `bytes` in all from now on, waiting until there is room or it is this slice's turn.
    pub fn resize(&mut self, bytes: usize, stop: &Stop) -> Result<()> {
        let mut state = self.memory.lock();
        state.held -= self.bytes;
        self.bytes = 0;
        self.memory.changed.notify_all();
        while state.front < self.slice && state.held > 0 && state.held + bytes > self.memory.max_bytes {
            stop.check()?;
            state = self.memory.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held += bytes;
        self.bytes = bytes;
        if bytes > KEPT_BYTES {
            // A rare long row: what is kept for other answers would come on top of it.
            state.free.clear();
        }
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.held -= self.bytes;
        if let Some(at) = state.users.iter().position(|slice| *slice == self.slice) {
            state.users.swap_remove(at);
        }
        let capacity = self.buffer.capacity();
        let is_kept = capacity <= KEPT_BYTES && state.held + capacity <= BUFFERS * KEPT_BYTES;
        if capacity > 0 && is_kept && state.free.len() < BUFFERS {
            state.free.push(std::mem::take(&mut self.buffer));
        }
        self.memory.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_never_waits_for_bytes_and_others_do() {
        let (memory, stop) = (Memory::new(10), Stop::new());
        let mut front = memory.reserve(0, &stop).unwrap();
        front.resize(100, &stop).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut second = memory.reserve(1, &stop).unwrap();
                second.resize(5, &stop).unwrap();
                memory.lock().held
            });
            front.resize(6, &stop).unwrap();
            drop(front);
            assert_eq!(waiting.join().unwrap(), 5);
        });
        assert_eq!(memory.lock().held, 0);
        assert!(memory.lock().users.is_empty());
    }

    #[test]
    fn a_third_buffer_is_only_for_a_front_that_has_none() {
        let (memory, stop) = (Memory::new(10), Stop::new());
        let (one, _two) = (memory.reserve(1, &stop).unwrap(), memory.reserve(2, &stop).unwrap());
        let front = memory.reserve(0, &stop).unwrap();
        assert_eq!(memory.lock().users.len(), 3);
        drop(front);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.reserve(3, &stop).map(|r| r.slice).unwrap());
            drop(one);
            assert_eq!(waiting.join().unwrap(), 3);
        });
    }

    #[test]
    fn no_buffer_is_kept_beside_a_large_one() {
        let (memory, stop) = (Memory::new(30_000_000), Stop::new());
        for (large, kept) in [(19_000_000, 1), (44_000_000, 0)] {
            let mut front = memory.reserve(0, &stop).unwrap();
            let mut other = memory.reserve(0, &stop).unwrap();
            front.resize(large, &stop).unwrap();
            other.put_buffer(Vec::with_capacity(19_000_000));
            drop(other);
            assert_eq!(memory.lock().free.len(), kept, "{large}");
        }
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let (memory, stop) = (Memory::new(10), Stop::new());
        let mut front = memory.reserve(0, &stop).unwrap();
        front.resize(10, &stop).unwrap();
        let mut second = memory.reserve(1, &stop).unwrap();
        stop.signal(15);
        assert!(second.resize(5, &stop).is_err());
        assert!(memory.reserve(2, &stop).is_err());
    }
}
