//! The `METRIC:` lines of Singer programs (names and tags of the Singer SDK): counters are deltas, written now and then
//! and at the end; consumers add them up. They are for machines: none on a terminal.

use serde_json::json;

use crate::log;

/// Writes a counter, for example `record_count` of a stream. A delta of zero is not written.
pub fn counter(metric: &str, delta: u64, stream: Option<&str>) {
    if delta > 0 && is_wanted() {
        let tags = stream.map_or_else(|| json!({}), |stream| json!({"stream": stream}));
        log::info(format!("METRIC: {}", json!({"type": "counter", "metric": metric, "value": delta, "tags": tags})));
    }
}

/// Writes a timer in seconds, for example `sync_duration`, with `status` succeeded or failed.
pub fn timer(metric: &str, seconds: f64, succeeded: bool, stream: Option<&str>) {
    if !is_wanted() {
        return;
    }
    let status = if succeeded { "succeeded" } else { "failed" };
    let mut tags = json!({"status": status});
    if let Some(stream) = stream {
        tags["stream"] = json!(stream);
    }
    let seconds = (seconds * 1e6).round() / 1e6;
    log::info(format!("METRIC: {}", json!({"type": "timer", "metric": metric, "value": seconds, "tags": tags})));
}

fn is_wanted() -> bool {
    !log::is_terminal() && !log::is_shown()
}
