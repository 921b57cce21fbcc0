//! The clock that waits go by, and the periods between two STATEs or two lines: the machine's.
//!
//! Tests make it run faster. A build with debug assertions reads `TAP_POSTHOG_TEST_CLOCK` once: with 20, twenty seconds of
//! this clock pass in one. All waits become shorter alike, so that each keeps its length against the others. How long the
//! network may take is not changed. It is no setting, and a release build does not read it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// When the clock was looked at first, and how many seconds of it pass in one.
static CLOCK: OnceLock<(Instant, u32)> = OnceLock::new();

fn clock() -> (Instant, u32) {
    *CLOCK.get_or_init(|| (Instant::now(), speed()))
}

fn speed() -> u32 {
    if !cfg!(debug_assertions) {
        return 1;
    }
    let given = std::env::var("TAP_POSTHOG_TEST_CLOCK").ok().and_then(|text| text.parse().ok());
    given.filter(|speed| (1..=1000).contains(speed)).unwrap_or(1)
}

/// What the clock shows.
pub fn now() -> Instant {
    let (start, speed) = clock();
    start.checked_add(start.elapsed().saturating_mul(speed)).unwrap_or_else(Instant::now)
}

/// The time that passed on the clock since it showed `then`.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// How long somebody has to sleep until `duration` has passed on the clock.
pub fn real(duration: Duration) -> Duration {
    duration / clock().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_made_the_clock_of_these_tests_faster() {
        let (before, ours) = (Instant::now(), now());
        assert!(before <= ours && ours <= Instant::now());
        assert_eq!(real(Duration::from_secs(5)), Duration::from_secs(5));
    }
}
