//! Answers gone wrong on demand, under posthog-box's names. A fault either answers without doing the work, or spoils the
//! answer of work that was done.

use std::time::Duration;

use serde_json::Value as Json;

use super::Refusal;
use super::http::{Reply, Spoil, gzip};
use super::limits::{over_budget, throttled};

pub(crate) const TIMEOUT: &str = "Query has hit the max execution time before completing. See our docs for how to improve \
    your query performance. You may need to materialize.";
const BUSY: &str =
    "Queries are a little too busy right now. We're working to free up resources. Please try again later.";
const MEMORY: &str = "This query ran out of memory before it could finish, usually because it's scanning too much data. \
    Try a shorter date range or narrower filters, or see our docs for more ways to speed it up: \
    https://posthog.com/docs/product-analytics/troubleshooting#how-do-i-speed-up-my-insights-and-queries";
const NGINX: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1>\
    </center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const CLOUDFLARE: &str = "<!DOCTYPE html>\n<html lang=\"en-US\"><head><title>us.posthog.com | error</title></head><body>\
    <div id=\"cf-wrapper\">Cloudflare Ray ID: <strong>8f0b0x000000</strong></div></body></html>";
const ENVOY: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection failure";

/// Every fault, by posthog-box's name.
pub(crate) const NAMES: &[&str] = &[
    "status",
    "throttle_429",
    "budget_429",
    "concurrency_429",
    "server_500",
    "ch_error_500",
    "bad_gateway_502",
    "unavailable_503",
    "db_unavailable_503",
    "capacity_503",
    "timeout_504",
    "estimated_512",
    "memory_513",
    "too_many_bytes_400",
    "type_mismatch_400",
    "auth_401",
    "cloudflare_524",
    "cloudflare_502",
    "cloudflare_403",
    "redirect_302",
    "html_200",
    "empty_body",
    "reset",
    "hang",
    "reset_mid",
    "cut_body",
    "chunked_cut",
    "truncated_json",
    "slow",
    "gzip_corrupt",
    "wrong_type",
    "error_field",
    "null_results",
    "empty_results",
    "missing_results",
    "drop_last_row",
    "extra_column",
    "cached",
];
/// Faults that posthog-box does not play.
const OURS: &[&str] = &["absurd_counts", "reversed_rows"];

#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Next(usize),
    Every(usize),
    /// One in so many, from a seeded generator.
    OneIn(u64),
}

/// One rule: what goes wrong, when, and for which requests.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    when: When,
    skip: usize,
    path: &'static str,
    body: &'static str,
    /// `Retry-After`, seconds or a date.
    retry_after: Option<String>,
    pub(crate) status: u16,
    pub(crate) pause: Duration,
    /// Where redirects lead.
    pub(crate) location: String,
    random: u64,
    seen: usize,
    pub(crate) fired: usize,
}

impl Fault {
    /// Every request goes wrong this way.
    pub(crate) fn new(name: &str) -> Fault {
        let name =
            NAMES.iter().chain(OURS).find(|known| **known == name).unwrap_or_else(|| panic!("no fault named {name}"));
        Fault {
            name,
            when: When::Always,
            skip: 0,
            path: "",
            body: "",
            retry_after: None,
            status: 500,
            pause: Duration::from_secs(60),
            location: "/login?next=/api/".to_owned(),
            random: 1,
            seen: 0,
            fired: 0,
        }
    }

    /// Only the next `count` requests.
    pub(crate) fn next(self, count: usize) -> Fault {
        Fault { when: When::Next(count), ..self }
    }

    /// Every `count`-th request.
    pub(crate) fn every(self, count: usize) -> Fault {
        Fault { when: When::Every(count), ..self }
    }

    /// One request in `count` on average.
    pub(crate) fn one_in(self, count: u64, seed: u64) -> Fault {
        Fault { when: When::OneIn(count), random: seed | 1, ..self }
    }

    /// Not the first `count` requests.
    pub(crate) fn skip(self, count: usize) -> Fault {
        Fault { skip: count, ..self }
    }

    /// Only requests whose path contains `path`.
    pub(crate) fn path(self, path: &'static str) -> Fault {
        Fault { path, ..self }
    }

    /// Only requests whose body contains `body`.
    pub(crate) fn body(self, body: &'static str) -> Fault {
        Fault { body, ..self }
    }

    pub(crate) fn retry_after(self, text: impl Into<String>) -> Fault {
        Fault { retry_after: Some(text.into()), ..self }
    }

    /// The status of the fault named `status`.
    pub(crate) fn status(self, status: u16) -> Fault {
        Fault { status, ..self }
    }

    /// How long `hang` hangs, and `slow` waits between two parts of the body.
    pub(crate) fn pause(self, pause: Duration) -> Fault {
        Fault { pause, ..self }
    }

    pub(crate) fn location(self, location: impl Into<String>) -> Fault {
        Fault { location: location.into(), ..self }
    }

    fn fires(&mut self, path: &str, body: &str) -> bool {
        if !path.contains(self.path) || !body.contains(self.body) {
            return false;
        }
        self.seen += 1;
        let fires = self.seen > self.skip
            && match &mut self.when {
                When::Always => true,
                When::Next(0) => false,
                When::Next(left) => {
                    *left -= 1;
                    true
                }
                When::Every(count) => self.seen.is_multiple_of(*count),
                When::OneIn(count) => {
                    let count = *count;
                    self.random ^= self.random << 13;
                    self.random ^= self.random >> 7;
                    self.random ^= self.random << 17;
                    self.random.is_multiple_of(count)
                }
            };
        self.fired += usize::from(fires);
        fires
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How often each rule fired.
    pub(crate) fn fired(&self) -> Vec<(&'static str, usize)> {
        self.0.iter().map(|fault| (fault.name, fault.fired)).collect()
    }

    pub(crate) fn pick(&mut self, path: &str, body: &str) -> Option<Fault> {
        self.0.iter_mut().find_map(|fault| if fault.fires(path, body) { Some(fault.clone()) } else { None })
    }
}

/// The answer of a fault that does no work; `None` for one that spoils an answer.
pub(crate) fn instead(fault: &Fault) -> Option<Reply> {
    let seconds = fault.retry_after.as_ref().and_then(|text| text.parse().ok()).unwrap_or(1);
    let said = |status, code, detail: &str| Some(Refusal::new(status, code, detail));
    let refusal = match fault.name {
        "throttle_429" => Some(throttled(seconds, fault.retry_after.as_deref() != Some(""))),
        "budget_429" => Some(over_budget(seconds)),
        "concurrency_429" => said(
            429,
            "throttled",
            "Exceeded maximum concurrency limit: 3 for key: api:query:per-org:0190b0c5 and task: AbCd1234",
        ),
        "server_500" => said(500, "error", "A server error occurred."),
        "ch_error_500" => said(500, "error", "ClickHouse error while executing query."),
        "capacity_503" => said(503, "error", BUSY),
        "db_unavailable_503" => {
            said(503, "database_unavailable", "We couldn't reach the database just now. Please try again in a moment.")
        }
        "timeout_504" => Some(Refusal::timeout()),
        "estimated_512" => said(
            512,
            "error",
            "Estimated query execution time (12.5 seconds) is too long. Try reducing its scope by changing the time range.",
        ),
        "memory_513" => said(513, "clickhouse_memory_limit_exceeded", MEMORY),
        "too_many_bytes_400" => {
            said(400, "too_many_bytes", "Limit for (uncompressed) bytes to read exceeded: 1.00 TiB, maximum: 1.00 TiB")
        }
        "type_mismatch_400" => {
            said(400, "type_mismatch", "Cannot convert string '2024-01-01T00:00:00Z' to type DateTime64(6, 'UTC')")
        }
        "auth_401" => said(401, "authentication_failed", super::api::BAD_KEY),
        _ => None,
    };
    let mut reply = match (refusal, fault.name) {
        (Some(refusal), _) => Reply::refused(&refusal),
        (None, "status") => Reply::text(fault.status, "text/plain", ""),
        (None, "bad_gateway_502") => Reply::text(502, "text/html", NGINX),
        (None, "unavailable_503") => Reply::text(503, "text/plain", ENVOY),
        (None, "cloudflare_524") => Reply::text(524, "text/html; charset=UTF-8", CLOUDFLARE),
        (None, "cloudflare_502") => Reply::text(502, "text/html; charset=UTF-8", CLOUDFLARE),
        (None, "cloudflare_403") => Reply::text(403, "text/html; charset=UTF-8", CLOUDFLARE),
        (None, "redirect_302") => Reply::text(302, "text/html", "").header("Location", &fault.location),
        (None, "html_200") => Reply::text(200, "text/html; charset=utf-8", "<!DOCTYPE html><html></html>"),
        (None, "empty_body") => Reply::text(200, "application/json", ""),
        (None, "reset") => Reply { spoil: Spoil::Reset, ..Reply::text(200, "application/json", "") },
        (None, "hang") => Reply { spoil: Spoil::Hang(fault.pause), ..Reply::text(200, "application/json", "") },
        _ => return None,
    };
    if let Some(text) = fault.retry_after.as_ref().filter(|text| !text.is_empty()) {
        reply.headers.retain(|(name, _)| *name != "Retry-After");
        reply = reply.header("Retry-After", text);
    }
    if fault.name == "db_unavailable_503" && fault.retry_after.is_none() {
        reply = reply.header("Retry-After", "1");
    }
    Some(reply)
}

/// Whether PostHog remembers this failure and repeats it for the same query.
pub(crate) fn is_remembered(status: u16, code: &str) -> bool {
    matches!(status, 504 | 512 | 513) || code == "too_many_bytes"
}

/// Spoils an answer that is otherwise right.
pub(crate) fn spoil(fault: &Fault, mut reply: Reply) -> Reply {
    match fault.name {
        "reset_mid" => reply.spoil = Spoil::ResetMid,
        "cut_body" => reply.spoil = Spoil::Cut,
        "chunked_cut" => reply.spoil = Spoil::ChunkedCut,
        "slow" => reply.spoil = Spoil::Slow(fault.pause),
        "truncated_json" => reply.body.truncate(reply.body.len() / 2),
        "wrong_type" => reply.content_type = "text/html; charset=utf-8",
        "gzip_corrupt" => {
            reply.body = gzip(&reply.body);
            let middle = reply.body.len() / 2;
            reply.body[middle] ^= 0xff;
            reply = reply.header("Content-Encoding", "gzip");
        }
        _ => {
            if reply.status == 200
                && let Ok(mut json) = serde_json::from_slice::<Json>(&reply.body)
                && json.get("results").is_some()
            {
                distort(fault.name, &mut json);
                reply.body = json.to_string().into_bytes();
            }
        }
    }
    reply
}

fn distort(name: &str, answer: &mut Json) {
    match name {
        "error_field" => {
            answer["error"] = "Query timed out".into();
            answer["results"] = Json::Array(Vec::new());
        }
        "null_results" => answer["results"] = Json::Null,
        "empty_results" => answer["results"] = Json::Array(Vec::new()),
        "missing_results" => {
            answer.as_object_mut().unwrap().shift_remove("results");
        }
        "cached" => answer["is_cached"] = true.into(),
        "absurd_counts" => {
            for row in answer["results"].as_array_mut().into_iter().flatten() {
                if let Some(count) = row.as_array_mut().and_then(|cells| cells.last_mut()) {
                    *count = u64::MAX.into();
                }
            }
        }
        "reversed_rows" => {
            if let Some(rows) = answer["results"].as_array_mut() {
                rows.reverse();
            }
        }
        "drop_last_row" => {
            if let Some(rows) = answer["results"].as_array_mut() {
                rows.pop();
            }
        }
        "extra_column" => {
            for row in answer["results"].as_array_mut().into_iter().flatten() {
                if let Some(cells) = row.as_array_mut() {
                    cells.push("surprise".into());
                }
            }
            if let Some(columns) = answer["columns"].as_array_mut() {
                columns.push("new_column".into());
            }
        }
        _ => {}
    }
}
