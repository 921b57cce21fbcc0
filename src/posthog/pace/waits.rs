//! The waits of the client: what it waits for now, for how long it has waited, and what a person is told of it.
//!
//! A long wait is told when it starts. Short ones (the pace of an hour's quota is one of two seconds before each request)
//! would be a line a second, so they are told by kind, when they add up.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A wait of this length is told at once; short ones of a kind when they add up to it.
const WORTH_A_LINE: Duration = Duration::from_secs(5);
/// Short waits are told at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shared by the threads that wait and those that show it.
#[derive(Debug, Default)]
pub struct Waits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The ends of the waits of now, and their kinds.
    current: Vec<(Instant, &'static str)>,
    /// When the first of them began, if there are any.
    since: Option<Instant>,
    total: Duration,
    untold: Vec<Untold>,
    last_line: Option<Instant>,
}

/// Short waits of one kind since its last line.
#[derive(Debug)]
struct Untold {
    kind: &'static str,
    count: u32,
    time: Duration,
}

impl Waits {
    /// The time in which a request had to wait, until `now`. Waits that overlap count once.
    pub fn total(&self, now: Instant) -> Duration {
        let state = self.lock();
        state.total + state.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// What is waited for at `now`, and how much longer; of several waits the longest.
    pub fn current(&self, now: Instant) -> Option<(Duration, &'static str)> {
        let (end, kind) = self.lock().current.iter().max().copied()?;
        Some((end.saturating_duration_since(now), kind))
    }

    /// Notes a wait that begins, and gives the line that tells of it, if it is worth one.
    pub(crate) fn begin(&self, now: Instant, wait: Duration, kind: &'static str, why: &str) -> Option<String> {
        let mut state = self.lock();
        state.since.get_or_insert(now);
        state.current.push((now + wait, kind));
        if wait >= WORTH_A_LINE {
            return Some(format!("waiting {:.0} s: {why}", wait.as_secs_f64().ceil()));
        }
        state.short(now, wait, kind)
    }

    /// Notes the end of a wait that began with the same `end` and `kind`.
    pub(crate) fn end(&self, now: Instant, end: Instant, kind: &'static str) {
        let mut state = self.lock();
        if let Some(at) = state.current.iter().position(|wait| *wait == (end, kind)) {
            state.current.swap_remove(at);
        }
        if state.current.is_empty()
            && let Some(since) = state.since.take()
        {
            state.total += now.saturating_duration_since(since);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn short(&mut self, now: Instant, wait: Duration, kind: &'static str) -> Option<String> {
        let at = self.untold.iter().position(|untold| untold.kind == kind).unwrap_or_else(|| {
            self.untold.push(Untold { kind, count: 0, time: Duration::ZERO });
            self.untold.len() - 1
        });
        let recent = self.last_line.is_some_and(|last| now.saturating_duration_since(last) < LINE_EVERY);
        let untold = self.untold.get_mut(at)?;
        untold.count += 1;
        untold.time += wait;
        if untold.time < WORTH_A_LINE || recent {
            return None;
        }
        let (count, seconds) = (untold.count, untold.time.as_secs_f64());
        self.untold.swap_remove(at);
        self.last_line = Some(now);
        Some(format!("waited {count} times, {seconds:.0} s in all: {kind}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn long_waits_are_told_at_once_and_short_ones_when_they_add_up() {
        let (waits, start) = (Waits::default(), Instant::now());
        assert_eq!(
            waits.begin(start, 60_000 * MILLI, "limit", "limit (HTTP 429)").as_deref(),
            Some("waiting 60 s: limit (HTTP 429)")
        );
        // Two seconds before each request, for two minutes, and another kind now and then.
        let mut lines = Vec::new();
        for n in 0..60 {
            let now = start + 2_000 * MILLI * n;
            lines.extend(waits.begin(now, 1_800 * MILLI, "pace", "").map(|line| (n, line)));
            if n % 20 == 0 {
                lines.extend(waits.begin(now, 10 * MILLI, "other", "").map(|line| (n, line)));
            }
        }
        assert_eq!(lines[0], (2, "waited 3 times, 5 s in all: pace".to_owned()));
        assert_eq!(lines[1], (7, "waited 5 times, 9 s in all: pace".to_owned()));
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn what_is_waited_for_and_for_how_long() {
        let (waits, start) = (Waits::default(), Instant::now());
        let at = |milli: u32| start + milli * MILLI;
        assert_eq!((waits.current(start), waits.total(start)), (None, Duration::ZERO));
        waits.begin(at(0), 300 * MILLI, "a", "");
        waits.begin(at(100), 400 * MILLI, "b", "");
        assert_eq!(waits.current(at(200)), Some((300 * MILLI, "b")));
        waits.end(at(300), at(300), "a");
        assert_eq!(waits.total(at(400)), 400 * MILLI);
        waits.end(at(500), at(500), "b");
        assert_eq!((waits.current(at(900)), waits.total(at(900))), (None, 500 * MILLI));
    }
}
