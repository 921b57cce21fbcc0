//! The one place that knows whether the run should end early: a signal came, or the time limit passed.
//!
//! Every wait of the program goes through [`Stop::sleep`], so a signal wakes a program that waits for a rate limit at once.

use std::io::{PipeReader, PipeWriter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::clock;
use crate::error::{Error, Kind, Result};

/// Why the run should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A signal of this number came.
    Signal(u8),
    /// The time limit of the run passed.
    TimeLimit,
    /// What is waited for is not wanted any more: the run fails for a reason of its own.
    Abandoned,
}

impl Cause {
    /// The error that the run ends with.
    pub fn error(self) -> Error {
        match self {
            Cause::Signal(number) => Error::new(Kind::Signal(number), format!("stopped by signal {number}")),
            Cause::TimeLimit => {
                Error::new(Kind::Stopped, "stopped by the time limit; the state is saved and the next run continues")
            }
            Cause::Abandoned => Error::new(Kind::Stopped, "nobody waits for the answer any more"),
        }
    }
}

/// A handle on the decision to stop; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    signal: Option<u8>,
    deadline: Option<Instant>,
    is_abandoned: bool,
    /// Open until a signal comes.
    wakers: Vec<PipeWriter>,
}

impl Stop {
    /// A handle that nothing has asked to stop.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Asks the run to end when `limit` has passed from now.
    pub fn set_time_limit(&self, limit: Duration) {
        self.lock().deadline = clock::now().checked_add(limit);
    }

    /// Asks the run to end because of a signal. The first signal counts.
    pub fn signal(&self, number: u8) {
        let mut state = self.lock();
        state.signal.get_or_insert(number);
        state.wakers.clear();
        drop(state);
        self.0.changed.notify_all();
    }

    /// A pipe that hangs up when a signal comes: for a wait that has to look at other files, too.
    ///
    /// # Errors
    /// When the system has no pipe left.
    pub fn wake(&self) -> Result<PipeReader> {
        let pipe = std::io::pipe();
        let (reader, writer) = pipe.map_err(|e| Error::new(Kind::Internal, format!("making a pipe failed: {e}")))?;
        let mut state = self.lock();
        if state.signal.is_none() {
            state.wakers.push(writer);
        }
        Ok(reader)
    }

    /// Ends the waits and requests of other threads, until it is called with false.
    pub fn abandon(&self, is_abandoned: bool) {
        self.lock().is_abandoned = is_abandoned;
        self.0.changed.notify_all();
    }

    /// Turns SIGTERM, SIGINT and SIGHUP into a request to end; a second one ends the process at once, and so does the
    /// first one when the process still runs after `patience`: it may hang in a write that nobody takes.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn watch_signals(&self, patience: Duration) -> Result<()> {
        let watched = [SIGTERM, SIGINT, SIGHUP];
        let mut signals = Signals::new(watched)
            .map_err(|e| Error::new(Kind::Internal, format!("installing signal handlers failed: {e}")))?;
        let stop = self.clone();
        std::thread::spawn(move || {
            for number in signals.forever() {
                let number = u8::try_from(number).unwrap_or(u8::MAX);
                let code = i32::from(Kind::Signal(number).exit_code());
                if matches!(stop.cause(), Some(Cause::Signal(_))) {
                    std::process::exit(code);
                }
                stop.signal(number);
                std::thread::spawn(move || {
                    std::thread::sleep(clock::real(patience));
                    std::process::exit(code);
                });
            }
        });
        Ok(())
    }

    /// Why the run should end, if it should.
    pub fn cause(&self) -> Option<Cause> {
        cause(&self.lock(), clock::now())
    }

    /// Fails with the error of the cause if the run should end.
    ///
    /// # Errors
    /// The [`Cause`]'s error.
    pub fn check(&self) -> Result<()> {
        self.cause().map_or(Ok(()), |cause| Err(cause.error()))
    }

    /// Waits for `duration`, or less when the run should end.
    ///
    /// # Errors
    /// The [`Cause`]'s error, as soon as there is one.
    pub fn sleep(&self, duration: Duration) -> Result<()> {
        let now = clock::now();
        let end = now.checked_add(duration).unwrap_or(now + Duration::from_secs(86_400));
        let mut state = self.lock();
        loop {
            let now = clock::now();
            if let Some(cause) = cause(&state, now) {
                return Err(cause.error());
            }
            if now >= end {
                return Ok(());
            }
            let until = state.deadline.map_or(end, |deadline| deadline.min(end));
            state = self
                .0
                .changed
                .wait_timeout(state, clock::real(until.saturating_duration_since(now)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cause(state: &State, now: Instant) -> Option<Cause> {
    match (state.signal, state.deadline) {
        (Some(number), _) => Some(Cause::Signal(number)),
        (None, Some(deadline)) if now >= deadline => Some(Cause::TimeLimit),
        _ => state.is_abandoned.then_some(Cause::Abandoned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_wakes_a_sleeper_and_wins() {
        let stop = Stop::new();
        let other = stop.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_secs(600)));
        stop.signal(15);
        stop.signal(2);
        assert_eq!(sleeper.join().unwrap().unwrap_err().kind(), Kind::Signal(15));
    }

    #[test]
    fn a_deadline_cuts_a_sleep_short() {
        let stop = Stop::new();
        stop.set_time_limit(Duration::from_millis(5));
        assert_eq!(stop.sleep(Duration::from_secs(600)).unwrap_err().kind(), Kind::Stopped);
        assert_eq!(stop.cause(), Some(Cause::TimeLimit));
    }

    #[test]
    fn what_is_abandoned_is_not_waited_for() {
        let stop = Stop::new();
        let other = stop.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_secs(600)));
        stop.abandon(true);
        assert_eq!(sleeper.join().unwrap().unwrap_err().kind(), Kind::Stopped);
        stop.abandon(false);
        assert_eq!(stop.cause(), None);
    }

    #[test]
    fn an_undisturbed_sleep_ends() {
        assert!(Stop::new().sleep(Duration::from_millis(1)).is_ok());
    }
}
