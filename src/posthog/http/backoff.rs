//! How long to wait before asking again: pure arithmetic. Time and randomness are arguments, so tests need neither.

use std::time::Duration;

/// Exponential backoff with full jitter: the n-th wait is drawn from `[base, base * 3^n]`, never above `limit`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The shortest wait.
    pub base: Duration,
    /// The longest wait.
    pub limit: Duration,
}

impl Backoff {
    /// The wait before attempt number `attempt` (1 = the first retry). `random` is drawn from `[0, 1)`.
    pub fn wait(&self, attempt: u32, random: f64) -> Duration {
        let ceiling = self.base.as_secs_f64() * 3f64.powi(i32::try_from(attempt.min(16)).unwrap_or(16));
        let ceiling = ceiling.min(self.limit.as_secs_f64());
        let floor = self.base.as_secs_f64().min(ceiling);
        Duration::from_secs_f64(floor + (ceiling - floor) * random.clamp(0.0, 1.0))
    }
}

/// The wait that a `Retry-After` header asks for: whole seconds, or an HTTP date (RFC 9110 section 10.2.3) counted from
/// `now` in Unix seconds. `None` where it is neither.
pub fn retry_after(header: &str, now: i64) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(header).ok()?;
    Some(Duration::from_secs(u64::try_from(date.timestamp() - now).unwrap_or(0)))
}

/// A number in `[0, 1)` for jitter. Not for secrets: it comes from the seed that the standard library draws for hash maps.
pub fn random_unit() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_between_the_bounds() {
        let backoff = Backoff { base: Duration::from_secs(1), limit: Duration::from_secs(30) };
        assert_eq!(backoff.wait(1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff.wait(1, 1.0), Duration::from_secs(3));
        assert_eq!(backoff.wait(2, 1.0), Duration::from_secs(9));
        assert_eq!(backoff.wait(40, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn retry_after_in_both_forms() {
        assert_eq!(retry_after(" 23 ", 0), Some(Duration::from_secs(23)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", 0), None);
    }

    #[test]
    fn the_random_number_is_in_its_range() {
        for _ in 0..100 {
            assert!((0.0..1.0).contains(&random_unit()));
        }
    }
}
