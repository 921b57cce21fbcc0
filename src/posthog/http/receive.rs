//! Answers on their way in: what they are by status and type, then their body, which the caller's reader reads and checks.

use std::io::{self, Read as _};
use std::time::Instant;

use reqwest::blocking::Response;

use super::backoff;
use super::body::{Body, BodyLimit, Cut};
use super::connection::Connection;
use super::decision::{ErrorResponse, RetryDecision};
use super::envelope::shown;
use super::request::{Incoming, ReadBody, SOMEBODY_ELSE};
use super::retry::RequestTimer;
use super::usage::Counters;
use super::wire::{broken, challenges, is_gzip, location, number, other_encoding, text, unix_seconds};
use crate::log;
use crate::posthog::fault::{Cause, Fault};

/// A body that trickles is given up after this many times the request timeout.
const TOTAL_TIMEOUTS: u32 = 5;
/// What is read of an answer that is not the asked one.
const REFUSAL_BYTES: usize = 64 * 1024;
/// The header with the bytes that ClickHouse read for a query.
pub(super) const BYTES_READ: &str = "x-posthog-query-bytes-read";
/// The header with the bytes that are left in the project's hourly budget.
pub(super) const BUDGET_LEFT: &str = "x-posthog-query-budget-remaining-bytes";

/// Whether an answer of this type is read. What its body is shows when it is read; some proxies call everything text.
fn may_be_json(content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(name.as_str(), "" | "application/json" | "text/json" | "text/plain") || name.ends_with("+json")
}

/// One request whose answer is received.
pub(super) struct Receiver<'a> {
    pub(super) connection: &'a Connection,
    pub(super) counters: &'a Counters,
    /// What the request is called in the log, and in errors.
    pub(super) label: &'a str,
    pub(super) asked: &'a str,
    pub(super) timer: &'a RequestTimer,
}

impl Receiver<'_> {
    /// Reads an answer, or says what is wrong with it.
    pub(super) fn receive<T>(
        &self,
        mut response: Response,
        limit: &mut BodyLimit<'_>,
        read: ReadBody<'_, T>,
    ) -> Result<T, RetryDecision> {
        let headers = response.headers().clone();
        let gzip = is_gzip(&headers);
        let server_date = text(&headers, "date").and_then(unix_seconds);
        let (bytes_read, budget_left) = (number(&headers, BYTES_READ), number(&headers, BUDGET_LEFT));
        self.counters.read(bytes_read.unwrap_or(0));
        if response.status().as_u16() != 200 {
            return Err(self.refused(response, gzip.ok()));
        }
        let gzip = gzip.map_err(|encoding| other_encoding(self.asked, &encoding))?;
        let content_type = text(&headers, "content-type").unwrap_or_default();
        if !may_be_json(content_type) {
            let why =
                format!("HTTP 200 with content type \"{}\" instead of JSON; {SOMEBODY_ELSE}", shown(content_type));
            return Err(match self.counters.snapshot().body_bytes {
                0 => RetryDecision::Foreign(why),
                // What stands before PostHog may have a bad minute.
                _ => RetryDecision::Again(Cause::Untrusted, None, why),
            });
        }
        let mut check = || self.look();
        let mut on_growth = |bytes| {
            let begun = Instant::now();
            let outcome = limit.on_growth.as_mut().map_or(Ok(()), |on_growth| on_growth(bytes));
            self.timer.was_held(begun);
            outcome
        };
        let mut limit = BodyLimit { max_bytes: limit.max_bytes, on_growth: Some(&mut on_growth) };
        let body = Body::new(&mut response, gzip, &mut limit, &mut check);
        let mut incoming = Incoming { body, timer: self.timer, bytes_read, budget_left, server_date };
        let outcome = read(&mut incoming);
        let (body, seconds) = (incoming.body, self.timer.elapsed());
        if body.is_ended() {
            self.counters.body(&body, seconds);
        }
        let shown = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
        log::debug(format!(
            "{}: {:.3} s, {} bytes ({} on the wire), read {}, budget left {}",
            self.label,
            seconds.as_secs_f64(),
            body.length(),
            body.wire_bytes(),
            shown(bytes_read),
            shown(budget_left),
        ));
        let is_ended = body.is_ended();
        match (body.into_cut(), outcome) {
            // Whatever its reader made of it.
            (Some(cut), _) => Err(broken(cut, self.asked)),
            (None, Ok(value)) if is_ended => Ok(value),
            (None, Ok(_)) => {
                Err(RetryDecision::Again(Cause::Internal, None, "the body was not read to its end".to_owned()))
            }
            (None, Err(Fault::Untrusted(why))) => Err(RetryDecision::Again(Cause::Untrusted, None, why)),
            (None, Err(fault)) => Err(RetryDecision::Final(fault)),
        }
    }

    /// What an answer that is not the asked one means. Whether its body is gzip is not known where it has another encoding.
    fn refused(&self, mut response: Response, gzip: Option<bool>) -> RetryDecision {
        let headers = response.headers().clone();
        let mut small = BodyLimit::of(REFUSAL_BYTES);
        let mut body = Vec::new();
        // What came of it before it broke off, or became too long, says enough.
        if let Some(gzip) = gzip {
            let _ = Body::new(&mut response, gzip, &mut small, &mut || self.look()).read_to_end(&mut body);
        }
        let now = text(&headers, "date").and_then(unix_seconds).unwrap_or_else(|| chrono::Utc::now().timestamp());
        // Through TLS a proxy cannot answer in the server's name.
        let proxy = self.connection.options.proxy_name().filter(|_| response.url().scheme() == "http");
        let refused = ErrorResponse {
            status: response.status().as_u16(),
            retry_after: text(&headers, "retry-after").and_then(|header| backoff::retry_after(header, now)),
            location: text(&headers, "location").and_then(|to| location(to, response.url())),
            challenges: &challenges(&headers),
            body: &body,
            asked: self.asked,
            project_id: self.connection.options.project_id,
            names: &self.connection.options.names,
            proxy: proxy.as_deref(),
            other_kind_of_key: self.connection.options.other_kind_of_key(),
        };
        refused.decision()
    }

    /// Between two reads of a body: should the run end, has this taken too long?
    fn look(&self) -> Result<(), Cut> {
        self.connection.stop.check().map_err(Cut::Stopped)?;
        if self.timer.elapsed() > self.connection.options.request_timeout * TOTAL_TIMEOUTS {
            return Err(Cut::Broken(io::ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}
