//! The bytes that PostHog lets its queries read in an hour, as far as the headers of answers tell: what is left, and, from
//! two answers on, how fast it comes back.
//!
//! Two queries at once blur that: what one of them reads is taken off before or after the other one is told what is left.
//! So only a query that had the server to itself is measured by; and where the budget is short, queries go one by one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The refill that PostHog's code gives to free organizations: 20 GB an hour (`api_queries_budget.py`). Assumed until it
/// is measured.
const DEFAULT_REFILL_BYTES_PER_SECOND: f64 = 20e9 / 3600.0;
/// Shorter waits are none.
const NO_WAIT: Duration = Duration::from_millis(10);
/// Less time between two answers says little of the refill. Where it is not known, so much is waited to learn it.
pub(crate) const LEAST_MEASURE: Duration = Duration::from_secs(1);
/// After this time a measure begins anew: others may read from the same budget.
const MOST_MEASURE: Duration = Duration::from_secs(600);

/// What is known of the hourly byte budget. `now` is the time since any fixed instant.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    known: Mutex<Known>,
    /// Held by the query that is sent while the budget is short.
    alone: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    seen: Option<Seen>,
    in_flight: u32,
    begun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Duration,
    left: f64,
    /// What the next query will about read: the last one, or more if larger ones were seen before it.
    expected: f64,
    /// Measured; none before two answers have shown it.
    refill_per_second: Option<f64>,
    /// When the measure began, and what was left.
    measured_from: Option<(Duration, f64)>,
    read_since: f64,
}

/// A query that is under way, from before it is sent until its headers are there.
#[derive(Debug)]
pub(crate) struct Turn<'b> {
    budget: &'b Budget,
    number: u64,
    began_alone: bool,
    _alone: Option<MutexGuard<'b, ()>>,
}

impl Budget {
    /// Takes the turn for a query, after waiting, by `pause`, until the budget covers it. While it has to wait, and until
    /// its headers are there, no other query is sent.
    pub(crate) fn turn<E>(
        &self,
        now: impl Fn() -> Duration,
        mut pause: impl FnMut(Duration) -> Result<(), E>,
    ) -> Result<Turn<'_>, E> {
        let mut alone = None;
        loop {
            let wait = self.wait(now());
            if wait < NO_WAIT {
                break;
            }
            match alone {
                None => alone = Some(lock(&self.alone)),
                Some(_) => pause(wait)?,
            }
        }
        let mut known = lock(&self.known);
        known.in_flight += 1;
        known.begun += 1;
        let (number, began_alone) = (known.begun, known.in_flight == 1);
        Ok(Turn { budget: self, number, began_alone, _alone: alone })
    }

    /// How long to wait so that two more queries like the last ones find their bytes; zero where there is enough, or where
    /// the server has no budget.
    fn wait(&self, now: Duration) -> Duration {
        let Some(seen) = lock(&self.known).seen else { return Duration::ZERO };
        let refill = seen.refill_per_second.unwrap_or(DEFAULT_REFILL_BYTES_PER_SECOND);
        let passed = now.saturating_sub(seen.at);
        let missing = 2.0 * seen.expected - seen.left;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let wait = Duration::from_secs_f64((missing / refill).min(86_400.0));
        let least = if seen.refill_per_second.is_none() { LEAST_MEASURE } else { NO_WAIT };
        wait.max(least).saturating_sub(passed)
    }
}

impl Turn<'_> {
    /// Ends the turn with what the headers of the answer say, if they do.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn end(self, now: Duration, left: Option<u64>, read: Option<u64>) {
        let (Some(left), Some(read)) = (left, read) else { return };
        let mut known = lock(&self.budget.known);
        let was_alone = self.began_alone && known.begun == self.number;
        let (left, read) = (left as f64, read as f64);
        match &mut known.seen {
            Some(seen) => seen.update(now, left, read, was_alone),
            None => {
                known.seen = Some(Seen {
                    at: now,
                    left,
                    expected: read,
                    refill_per_second: None,
                    measured_from: was_alone.then_some((now, left)),
                    read_since: 0.0,
                });
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.budget.known).in_flight -= 1;
    }
}

impl Seen {
    fn update(&mut self, now: Duration, left: f64, read: f64, was_alone: bool) {
        (self.at, self.left) = (now, left);
        self.expected = read.max(self.expected * 0.7);
        self.read_since += read;
        if !was_alone {
            return;
        }
        let (from, left_then) = *self.measured_from.get_or_insert((now, left));
        let time = now.saturating_sub(from);
        if time >= LEAST_MEASURE {
            // Others may read more than comes back: then there is nothing to wait for.
            let back = left - left_then + self.read_since;
            self.refill_per_second = Some((back / time.as_secs_f64()).max(1.0));
        }
        if time.is_zero() || time >= MOST_MEASURE {
            self.measured_from = Some((now, left));
            self.read_since = 0.0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const SECOND: Duration = Duration::from_secs(1);

    /// PostHog's budget: a bucket that refills, and refuses queries while it is empty.
    struct Bucket {
        now: Cell<Duration>,
        left: Cell<f64>,
        per_second: f64,
    }

    impl Bucket {
        fn pass(&self, time: Duration) {
            self.now.set(self.now.get() + time);
            self.left.set(self.left.get() + self.per_second * time.as_secs_f64());
        }

        /// One query that takes `time`; gives how long it waited.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes")]
        fn query(&self, budget: &Budget, read: u64, time: Duration) -> Duration {
            let mut waited = Duration::ZERO;
            let turn = budget.turn(
                || self.now.get(),
                |wait| {
                    waited += wait;
                    self.pass(wait);
                    Ok::<(), ()>(())
                },
            );
            assert!(self.left.get() > 0.0, "refused");
            self.pass(time);
            self.left.set(self.left.get() - read as f64);
            turn.unwrap().end(self.now.get(), Some(self.left.get().max(0.0) as u64), Some(read));
            waited
        }
    }

    fn bucket(left: f64, per_hour: f64) -> Bucket {
        Bucket { now: Cell::default(), left: Cell::new(left), per_second: per_hour / 3600.0 }
    }

    #[test]
    fn no_budget_is_so_small_that_the_run_is_refused() {
        for (per_hour, read) in [(20e6, 5_000_000), (2e6, 100_000), (20e9, 24_000_000), (200e9, 3_000_000_000)] {
            let (budget, bucket) = (Budget::default(), bucket(20.0 * read as f64, per_hour));
            let waited: Duration = (0..60).map(|_| bucket.query(&budget, read, SECOND / 2)).sum();
            // All but what was there had to come back meanwhile.
            let needed = (40.0 * read as f64 / bucket.per_second - 30.0).max(0.0);
            assert!(waited.as_secs_f64() >= needed * 0.9, "{waited:?} of {needed} s");
            assert!(waited.as_secs_f64() <= needed * 1.1 + 10.0, "{waited:?} of {needed} s");
        }
    }

    #[test]
    fn there_is_no_wait_without_a_budget_or_with_enough_of_it() {
        let budget = Budget::default();
        budget.turn(|| SECOND, |_| Err("wait")).unwrap().end(SECOND, None, None);
        budget.turn(|| SECOND, |_| Err("wait")).unwrap().end(SECOND, Some(10_000_000_000), Some(1_000_000_000));
        budget.turn(|| SECOND, |_| Err("wait")).unwrap().end(SECOND, Some(900_000_000), Some(1_000_000_000));
        assert_eq!(budget.wait(SECOND).as_secs(), 198, "1.1 GB are missing at 5.6 MB a second");
        assert_eq!(budget.turn(|| SECOND, |_| Err("wait")).unwrap_err(), "wait");
        assert_eq!(budget.wait(SECOND * 200), Duration::ZERO);
    }

    /// Of two queries at once, what the second is told may lack what the first reads: 200 MB too much in one second.
    #[test]
    fn queries_at_the_same_time_are_not_measured_by() {
        let budget = Budget::default();
        let turn = || budget.turn(|| SECOND, |_| Err("wait")).unwrap();
        turn().end(SECOND, Some(1_000_000_000), Some(200_000_000));
        let (first, second) = (turn(), turn());
        second.end(SECOND * 2, Some(800_000_000), Some(200_000_000));
        first.end(SECOND * 2, Some(610_000_000), Some(200_000_000));
        let third = budget.turn(|| SECOND * 3, |_| Err("wait")).unwrap();
        third.end(SECOND * 3, Some(420_000_000), Some(200_000_000));
        assert_eq!(lock(&budget.known).seen.unwrap().refill_per_second, Some(10e6), "20 MB came back in two seconds");
    }
}
