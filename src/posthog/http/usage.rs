//! What the client sent and received: the figures of the closing summary and of `METRIC` lines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::body::Body;

/// Figures since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Requests sent, retries included.
    pub requests: u64,
    /// Attempts that had to be repeated, for whatever reason.
    pub retries: u64,
    /// Bytes that ClickHouse read for our queries, as far as the server said.
    pub bytes_read: u64,
    /// Bytes of the bodies, unpacked.
    pub body_bytes: u64,
    /// Bytes of the bodies on the wire.
    pub wire_bytes: u64,
    /// Seconds spent in waits: limits, refusals, backoff.
    pub waited_seconds: f64,
    /// Seconds from sending to the last byte, summed over requests (which may overlap).
    pub request_seconds: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    bytes_read: AtomicU64,
    body_bytes: AtomicU64,
    wire_bytes: AtomicU64,
    waited_micros: AtomicU64,
    request_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn request(&self) {
        add(&self.requests, 1);
    }

    pub(crate) fn retry(&self) {
        add(&self.retries, 1);
    }

    pub(crate) fn waited(&self, time: Duration) {
        add(&self.waited_micros, micros(time));
    }

    /// Also for an answer that is refused or breaks later: the project paid for it.
    pub(crate) fn read(&self, bytes: u64) {
        add(&self.bytes_read, bytes);
    }

    pub(crate) fn body(&self, body: &Body<'_>, time: Duration) {
        add(&self.body_bytes, body.length() as u64);
        add(&self.wire_bytes, body.wire_bytes());
        add(&self.request_micros, micros(time));
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    pub(crate) fn snapshot(&self) -> Usage {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            requests: get(&self.requests),
            retries: get(&self.retries),
            bytes_read: get(&self.bytes_read),
            body_bytes: get(&self.body_bytes),
            wire_bytes: get(&self.wire_bytes),
            waited_seconds: get(&self.waited_micros) as f64 / 1e6,
            request_seconds: get(&self.request_micros) as f64 / 1e6,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A server may say any number. A sum that wrapped would be less than before.
fn add(counter: &AtomicU64, count: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| Some(sum.saturating_add(count)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_to_have_read_never_becomes_less() {
        let counters = Counters::default();
        counters.read(12);
        counters.read(u64::MAX);
        counters.read(7);
        assert_eq!(counters.snapshot().bytes_read, u64::MAX);
    }
}
