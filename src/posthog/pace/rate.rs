//! How fast we may ask: requests per minute and per hour.
//!
//! Staying below a quota is cheaper than being refused: a refusal costs a round trip and, over several processes, gives
//! everybody else on the same project a bad hour. The server's 429 stays the last word; it is handled in the client.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};

use crate::clock;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Queries an hour on self-hosted installs and legacy teams (posthog-api.md section 3, HogQL query throttle).
const LEGACY_PER_HOUR: NonZeroU32 = at_least_one(120);

const fn at_least_one(count: u32) -> NonZeroU32 {
    match NonZeroU32::new(count) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

/// Requests that may be sent in any minute and in any hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// In any 60 seconds.
    pub per_minute: NonZeroU32,
    /// In any 3600 seconds.
    pub per_hour: NonZeroU32,
}

impl Rates {
    /// PostHog's limits for lists of its own objects: cohorts, flags, definitions (`rate_limit.py`, default class).
    pub const LISTS: Rates = Rates::of(480, 4800);
    /// PostHog's limits for lists that ClickHouse answers: persons, recordings, insights (`rate_limit.py`).
    pub const CLICKHOUSE_LISTS: Rates = Rates::of(240, 1200);

    const fn of(per_minute: u32, per_hour: u32) -> Rates {
        Rates { per_minute: at_least_one(per_minute), per_hour: at_least_one(per_hour) }
    }
}

/// What makes a request wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The quota of a minute.
    Minute,
    /// The quota of an hour.
    Hour,
    /// Another request like it was refused, and told when to come back.
    Refusal,
}

/// How much of the bursts is used up at a time, so that the next process goes on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaUsed {
    /// Unix time in seconds.
    pub at: i64,
    /// Requests of the minute's burst that have not come back yet.
    pub minute: u32,
    /// Requests of the hour's burst that have not come back yet.
    pub hour: u32,
}

/// The clock that all waits go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceClock;

impl Clock for PaceClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        clock::now()
    }
}

/// A pace that never passes its rates in any window, because its burst plus what refills in a window is the quota.
pub(crate) struct Limiter<C: Clock + Clone = PaceClock> {
    clock: C,
    minute: Gate<C>,
    hour: Mutex<Gate<C>>,
    held_until: Mutex<Option<C::Instant>>,
    taken: AtomicU64,
}

struct Gate<C: Clock + Clone> {
    quota: NonZeroU32,
    pace: Quota,
    spent: AtomicU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

impl<C: Clock + Clone> Gate<C> {
    fn new(quota: NonZeroU32, window: Duration, clock: &C) -> Self {
        // A sixth may go out at once (discovery, a plan), the rest comes evenly.
        let burst = NonZeroU32::new(quota.get() / 6).unwrap_or(NonZeroU32::MIN);
        let refill = (quota.get() - burst.get()).max(1);
        let pace = Quota::with_period(window / refill).unwrap_or(Quota::per_hour(NonZeroU32::MIN)).allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(pace, clock.clone()).with_middleware();
        Gate { quota, pace, spent: AtomicU32::new(0), limiter }
    }

    /// Takes one request out of the window, or says how long there is none.
    fn take(&self, clock: &C) -> Result<(), Duration> {
        let after = self.limiter.check().map_err(|refusal| refusal.wait_time_from(clock.now()))?;
        self.note(after.remaining_burst_capacity());
        Ok(())
    }

    /// How long it takes until so many more requests were let through.
    fn time_for(&self, requests: u64) -> Duration {
        let free = self.pace.burst_size().get().saturating_sub(self.spent.load(Ordering::Relaxed));
        let waiting = u32::try_from(requests.saturating_sub(u64::from(free))).unwrap_or(u32::MAX);
        self.pace.replenish_interval().saturating_mul(waiting)
    }

    fn note(&self, left: u32) {
        self.spent.store(self.pace.burst_size().get().saturating_sub(left), Ordering::Relaxed);
    }

    /// Takes what another process took `ago`, less what came back since.
    fn take_back(&self, spent: u32, ago: Duration) {
        let period = self.pace.replenish_interval().as_nanos().max(1);
        let back = u32::try_from(ago.as_nanos() / period).unwrap_or(u32::MAX);
        let free = self.pace.burst_size().get() - self.spent.load(Ordering::Relaxed);
        let left_over = spent.saturating_sub(back).min(free);
        if let Some(requests) = NonZeroU32::new(left_over)
            && let Ok(Ok(after)) = self.limiter.check_n(requests)
        {
            self.note(after.remaining_burst_capacity());
        }
    }
}

impl Limiter {
    pub(crate) fn new(rates: Rates) -> Self {
        Limiter::with_clock(rates, PaceClock)
    }
}

impl<C: Clock + Clone> Limiter<C> {
    pub(crate) fn with_clock(rates: Rates, clock: C) -> Self {
        let minute = Gate::new(rates.per_minute, MINUTE, &clock);
        let hour = Mutex::new(Gate::new(rates.per_hour, HOUR, &clock));
        Limiter { clock, minute, hour, held_until: Mutex::new(None), taken: AtomicU64::new(0) }
    }

    /// Waits, by `pause`, until one more request is within both windows, and nothing holds it.
    pub(crate) fn acquire<E>(&self, mut pause: impl FnMut(Duration, WaitReason) -> Result<(), E>) -> Result<(), E> {
        while let Err(wait) = self.minute.take(&self.clock) {
            pause(wait, WaitReason::Minute)?;
        }
        loop {
            let taken = lock(&self.hour).take(&self.clock);
            match taken {
                Ok(()) => break,
                Err(wait) => pause(wait, WaitReason::Hour)?,
            }
        }
        while let Some(wait) = self.held() {
            pause(wait, WaitReason::Refusal)?;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The server refused a request and said to come back after `wait`: none is sent before.
    pub(crate) fn hold(&self, wait: Duration) {
        let until = self.clock.now() + wait.into();
        let mut held = lock(&self.held_until);
        *held = Some(held.map_or(until, |held| held.max(until)));
    }

    fn held(&self) -> Option<Duration> {
        let until = (*lock(&self.held_until))?;
        let wait = Duration::from(until.duration_since(self.clock.now()));
        (!wait.is_zero()).then_some(wait)
    }

    /// What is used up at `at`, Unix time in seconds.
    pub(crate) fn spent(&self, at: i64) -> QuotaUsed {
        let hour = lock(&self.hour).spent.load(Ordering::Relaxed);
        QuotaUsed { at, minute: self.minute.spent.load(Ordering::Relaxed), hour }
    }

    /// Goes on from what another process had used up; `now` is Unix time in seconds. A time to come means that one of two
    /// clocks is wrong: then nothing has come back.
    pub(crate) fn resume(&self, spent: QuotaUsed, now: i64) {
        let ago = Duration::from_secs(u64::try_from(now.saturating_sub(spent.at)).unwrap_or(0));
        self.minute.take_back(spent.minute, ago);
        lock(&self.hour).take_back(spent.hour, ago);
    }

    /// The least time in which so many more requests fit both windows.
    pub(crate) fn time_for(&self, requests: u64) -> Duration {
        self.minute.time_for(requests).max(lock(&self.hour).time_for(requests))
    }

    /// The requests an hour that this limiter keeps to.
    pub(crate) fn per_hour(&self) -> u32 {
        lock(&self.hour).quota.get()
    }

    /// The server said to wait for `wait`. A wait of minutes after about as many requests as the legacy tier allows in an
    /// hour means that this is the legacy tier: from now on we keep to it. Returns the new quota, if it changed.
    pub(crate) fn learn(&self, wait: Duration) -> Option<u32> {
        let taken = self.taken.load(Ordering::Relaxed);
        let legacy = u64::from(LEGACY_PER_HOUR.get());
        let mut hour = lock(&self.hour);
        if wait <= MINUTE || hour.quota <= LEGACY_PER_HOUR || !(legacy / 2..=legacy + 5).contains(&taken) {
            return None;
        }
        *hour = Gate::new(LEGACY_PER_HOUR, HOUR, &self.clock);
        Some(LEGACY_PER_HOUR.get())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    /// The instants, in milliseconds, at which a caller that asks without pause is let through.
    fn instants(rates: Rates, count: usize) -> Vec<u128> {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(rates, clock.clone());
        let mut now = Duration::ZERO;
        let mut instants = Vec::new();
        for _ in 0..count {
            limiter
                .acquire(|wait, _| {
                    // The fake clock is whole nanoseconds; a wait of none would never end.
                    let wait = wait.max(Duration::from_nanos(1));
                    clock.advance(wait);
                    now += wait;
                    Ok::<(), ()>(())
                })
                .unwrap();
            instants.push(now.as_millis());
        }
        instants
    }

    fn most_in_any(window_ms: u128, instants: &[u128]) -> usize {
        let within = |i: usize| instants[i..].iter().take_while(|t| **t < instants[i] + window_ms).count();
        (0..instants.len()).map(within).max().unwrap_or(0)
    }

    #[test]
    fn no_window_ever_passes_its_quota_and_most_of_it_is_used() {
        for (per_minute, per_hour) in [(240, 2400), (1, 30), (480, 4800), (5, 7), (1, 1), (60, 120)] {
            let instants = instants(Rates::of(per_minute, per_hour), 2 * per_hour as usize + 3);
            let minute = most_in_any(60_000, &instants);
            let hour = most_in_any(3_600_000, &instants);
            assert!(minute <= per_minute as usize, "{minute} in a minute of {per_minute}");
            assert!(hour <= per_hour as usize, "{hour} in an hour of {per_hour}");
            assert!(hour * 10 >= per_hour as usize * 8, "only {hour} of {per_hour} used");
        }
    }

    #[test]
    fn the_time_for_requests_is_told_beforehand() {
        for (per_minute, per_hour, count) in [(240, 2400, 635), (5, 2400, 30), (240, 2400, 40), (60, 120, 200)] {
            let rates = Rates::of(per_minute, per_hour);
            let told = Limiter::with_clock(rates, FakeRelativeClock::default()).time_for(count as u64).as_millis();
            let last = instants(rates, count).pop().unwrap();
            assert!(told.abs_diff(last) < 100, "{count} requests: told {told} ms, taken {last} ms");
        }
    }

    #[test]
    fn a_process_that_starts_anew_goes_on_within_the_same_hour() {
        for (per_minute, per_hour) in [(240, 2400), (1000, 30), (60, 120), (5, 7)] {
            let clock = FakeRelativeClock::default();
            let (mut now, mut spent, mut instants) = (Duration::ZERO, None, Vec::new());
            for run in 0..40 {
                let limiter = Limiter::with_clock(Rates::of(per_minute, per_hour), clock.clone());
                if let Some(spent) = spent {
                    limiter.resume(spent, now.as_secs().cast_signed());
                }
                for _ in 0..per_hour / 9 + 1 {
                    limiter
                        .acquire(|wait, _| {
                            clock.advance(wait.max(Duration::from_nanos(1)));
                            now += wait.max(Duration::from_nanos(1));
                            Ok::<(), ()>(())
                        })
                        .unwrap();
                    instants.push(now.as_millis());
                }
                // A state names whole seconds, rounded down.
                spent = Some(limiter.spent(now.as_secs().cast_signed()));
                let idle = Duration::from_millis(1700 * (run % 3));
                clock.advance(idle);
                now += idle;
            }
            let hour = most_in_any(3_600_000, &instants);
            assert!(hour <= per_hour as usize, "{hour} in an hour of {per_hour}");
            assert!(most_in_any(60_000, &instants) <= per_minute as usize, "{per_minute} a minute");
        }
    }

    #[test]
    fn a_clock_that_went_back_and_a_day_later() {
        let rates = Rates::of(240, 2400);
        let spent = QuotaUsed { at: 1_000_000, minute: 40, hour: 400 };
        let resumed = |now| {
            let limiter = Limiter::with_clock(rates, FakeRelativeClock::default());
            limiter.resume(spent, now);
            let after = limiter.spent(now);
            (after.minute, after.hour)
        };
        assert_eq!(resumed(999_000), (40, 400));
        assert_eq!(resumed(1_000_018), (0, 390), "a request comes back in 0.3 s, and in 1.8 s");
        assert_eq!(resumed(1_086_400), (0, 0));
        assert_eq!(resumed(i64::MIN), (40, 400));
    }

    #[test]
    fn a_refusal_holds_the_requests_behind_it() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(Rates::of(240, 2400), clock.clone());
        let waits = || {
            let mut waits = Vec::new();
            let pause = |wait, hold| {
                clock.advance(wait);
                waits.push((hold, wait.as_secs()));
                Ok::<(), ()>(())
            };
            limiter.acquire(pause).unwrap();
            waits
        };
        assert_eq!(waits(), []);
        limiter.hold(Duration::from_secs(20));
        limiter.hold(Duration::from_secs(3));
        assert_eq!(waits(), [(WaitReason::Refusal, 20)]);
        assert_eq!(waits(), []);
    }

    #[test]
    fn the_legacy_tier_is_learned_from_a_long_refusal_only() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(Rates::of(240, 2400), clock.clone());
        let take = |count: usize| {
            for _ in 0..count {
                limiter
                    .acquire(|wait, _| {
                        clock.advance(wait);
                        Ok::<(), ()>(())
                    })
                    .unwrap();
            }
        };
        take(30);
        assert_eq!(limiter.learn(Duration::from_secs(3000)), None, "30 requests: somebody else used the quota");
        take(90);
        assert_eq!(limiter.learn(Duration::from_secs(20)), None, "the minute's quota");
        assert_eq!(limiter.learn(Duration::from_secs(3000)), Some(120));
        assert_eq!((limiter.per_hour(), limiter.learn(Duration::from_secs(3000))), (120, None));
    }
}
