//! Bounds the bytes of answers that are held at one time, over all fetch threads.
//!
//! The thread that fetches the slice which is printed next is never made to wait: it is the one whose progress frees
//! memory. Every other thread waits while the bound is reached, in the middle of a body if need be.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::stop::Stop;

/// How often a waiting thread looks whether the run should end.
const LOOK: Duration = Duration::from_millis(100);

/// The bytes that are held, and whose turn it is.
#[derive(Debug)]
pub struct Memory {
    max_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    front: u64,
}

impl Memory {
    /// Memory for answers of `max_bytes` in all.
    #[must_use]
    pub fn new(max_bytes: usize) -> Memory {
        Memory { max_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// A reservation for the slice of this number; nothing is held yet.
    #[must_use]
    pub fn reserve(&self, slice: u64) -> Reservation<'_> {
        Reservation { memory: self, slice, bytes: 0 }
    }

    /// Slice number `slice` is printed next.
    pub fn set_front(&self, slice: u64) {
        self.lock().front = slice;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes held for one body; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    memory: &'a Memory,
    slice: u64,
    bytes: usize,
}

impl Reservation<'_> {
    /// Holds `bytes` in all from now on, waiting until there is room or it is this slice's turn. Zero gives all back.
    ///
    /// # Errors
    /// When the run should end.
    pub fn resize(&mut self, bytes: usize, stop: &Stop) -> Result<()> {
        let mut state = self.memory.lock();
        state.held -= self.bytes;
        self.bytes = 0;
        self.memory.changed.notify_all();
        while bytes > 0 && state.front < self.slice && state.held + bytes > self.memory.max_bytes {
            stop.check()?;
            state = self.memory.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held += bytes;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.memory.lock().held -= self.bytes;
        self.memory.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_never_waits_and_others_wait_for_room() {
        let (memory, stop) = (Memory::new(10), Stop::new());
        let mut front = memory.reserve(0);
        front.resize(100, &stop).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut second = memory.reserve(1);
                second.resize(5, &stop).unwrap();
                memory.lock().held
            });
            front.resize(6, &stop).unwrap();
            assert!(!waiting.is_finished() || memory.lock().held <= 10);
            drop(front);
            assert_eq!(waiting.join().unwrap(), 5);
        });
        assert_eq!(memory.lock().held, 0);
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let (memory, stop) = (Memory::new(10), Stop::new());
        let mut front = memory.reserve(0);
        front.resize(10, &stop).unwrap();
        stop.signal(15);
        assert!(memory.reserve(1).resize(5, &stop).is_err());
    }
}
