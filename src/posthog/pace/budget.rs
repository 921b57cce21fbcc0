//! The bytes that PostHog lets its queries read in an hour, as far as the headers of answers tell: what is left, and, from
//! two answers on, how fast it comes back.
//!
//! Two queries at once blur that: what one of them reads is taken off before or after the other one is told what is left.
//! So only a query that had the server to itself is measured by; and where the budget is short, queries go one by one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The refill that PostHog's code gives to free organizations: 20 GB an hour (`api_queries_budget.py`). Assumed until it
/// is measured.
const DEFAULT_REFILL_BYTES_PER_SECOND: f64 = 20e9 / 3600.0;
/// The budget is short when it covers fewer queries than this: two of them show the refill, and two are to be left.
const SHORT_QUERIES: f64 = 4.0;
/// So many are to be left before a query is sent: PostHog refuses at zero, and headers do not go below it.
const SPARE_QUERIES: f64 = 2.0;
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
    /// Told when a query is no longer under way.
    ended: Condvar,
    /// Passed by every query before it is sent; held, while the budget is short, until its headers are there.
    gate: Mutex<()>,
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
    /// Never more than there is, but for what others read.
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
pub(crate) struct BudgetPermit<'b> {
    budget: &'b Budget,
    number: u64,
    began_alone: bool,
    is_told: bool,
    _gate: Option<MutexGuard<'b, ()>>,
}

impl Budget {
    /// Takes the permit for a query. While the budget is short, that is after the queries under way have been answered, and
    /// after waiting, by `pause`, until the budget covers it; and no other query is sent until its headers are there.
    pub(crate) fn permit<E>(
        &self,
        now: impl Fn() -> Duration,
        mut pause: impl FnMut(Duration) -> Result<(), E>,
    ) -> Result<BudgetPermit<'_>, E> {
        let gate = lock(&self.gate);
        let mut known = lock(&self.known);
        if !known.is_short(now()) {
            return Ok(self.begin(known, None));
        }
        loop {
            while known.in_flight > 0 {
                known = self.ended.wait(known).unwrap_or_else(PoisonError::into_inner);
            }
            let wait = known.wait(now());
            if wait < NO_WAIT {
                return Ok(self.begin(known, Some(gate)));
            }
            drop(known);
            pause(wait)?;
            known = lock(&self.known);
        }
    }

    fn begin<'b>(&'b self, mut known: MutexGuard<'_, Known>, gate: Option<MutexGuard<'b, ()>>) -> BudgetPermit<'b> {
        known.in_flight += 1;
        known.begun += 1;
        BudgetPermit {
            budget: self,
            number: known.begun,
            began_alone: known.in_flight == 1,
            is_told: false,
            _gate: gate,
        }
    }
}

impl Known {
    /// Whether the next queries have to go one by one.
    fn is_short(&self, now: Duration) -> bool {
        let Some(seen) = self.seen else { return false };
        seen.left_at(now) < (SHORT_QUERIES + f64::from(self.in_flight)) * seen.expected
    }

    /// How long to wait before the next query; zero where there is enough, or where the server has no budget.
    fn wait(&self, now: Duration) -> Duration {
        let Some(seen) = self.seen else { return Duration::ZERO };
        let refill = seen.refill_per_second.unwrap_or(DEFAULT_REFILL_BYTES_PER_SECOND);
        let missing = (SPARE_QUERIES * seen.expected - seen.left).max(0.0);
        let mut wait = Duration::from_secs_f64((missing / refill).min(86_400.0));
        if seen.refill_per_second.is_none() && seen.measured_from.is_some() && self.is_short(now) {
            wait = wait.max(LEAST_MEASURE);
        }
        wait.saturating_sub(now.saturating_sub(seen.at))
    }
}

impl BudgetPermit<'_> {
    /// Ends the permit with what the headers of the answer say, if they do: a refusal tells only what is left.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn end(mut self, now: Duration, left: Option<u64>, read: Option<u64>) {
        let Some(left) = left else { return };
        self.is_told = true;
        let mut known = lock(&self.budget.known);
        let was_alone = self.began_alone && known.begun == self.number;
        let (left, read) = (left as f64, read.map(|read| read as f64));
        match &mut known.seen {
            Some(seen) => seen.update(now, left, read, was_alone),
            None => {
                known.seen = Some(Seen {
                    at: now,
                    left,
                    expected: read.unwrap_or(0.0),
                    refill_per_second: None,
                    measured_from: was_alone.then_some((now, left)),
                    read_since: 0.0,
                });
            }
        }
    }
}

impl Drop for BudgetPermit<'_> {
    fn drop(&mut self) {
        let mut known = lock(&self.budget.known);
        known.in_flight -= 1;
        // A query that tells nothing may have read.
        if let Some(seen) = &mut known.seen
            && !self.is_told
        {
            seen.measured_from = None;
        }
        drop(known);
        self.budget.ended.notify_all();
    }
}

impl Seen {
    /// What is left, as far as it is known how fast it comes back.
    fn left_at(&self, now: Duration) -> f64 {
        self.left + self.refill_per_second.unwrap_or(0.0) * now.saturating_sub(self.at).as_secs_f64()
    }

    fn update(&mut self, now: Duration, left: f64, read: Option<f64>, was_alone: bool) {
        let before = self.left_at(now);
        self.at = now;
        // The header of a query beside others may not know yet what they read; and none goes below zero.
        self.left = match (was_alone, left > 0.0) {
            (true, true) => left,
            (true, false) => left.min(before - read.unwrap_or(0.0)),
            (false, _) => left.min(before),
        };
        // How much came back is not known where it is not told what was read.
        let Some(read) = read else { return self.measured_from = None };
        self.expected = read.max(self.expected * 0.7);
        self.read_since += read;
        if was_alone && left > 0.0 {
            self.measure(now, left);
        }
    }

    fn measure(&mut self, now: Duration, left: f64) {
        let (from, left_then) = *self.measured_from.get_or_insert((now, left));
        let time = now.saturating_sub(from);
        let mut is_over = time.is_zero() || time >= MOST_MEASURE;
        if time >= LEAST_MEASURE {
            let back = left - left_then + self.read_since;
            // Less than nothing: others read from the same budget, and how fast it comes back does not show.
            is_over |= back < 0.0;
            if back >= 0.0 {
                self.refill_per_second = Some((back / time.as_secs_f64()).max(1.0));
            }
        }
        if is_over {
            self.measured_from = Some((now, left));
            self.read_since = 0.0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
