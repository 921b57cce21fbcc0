//! What an answer of PostHog means, decided in one place: ask again, wait, ask for less, ask without an optional key, or give
//! up and say why. This is the only file that reads PostHog's texts; what they mean leaves it as a typed cause.
//!
//! By status first ([`meaning`]), because a proxy may put any page where PostHog would put its envelope; then by the
//! envelope's code, then by the few texts that PostHog has kept for years (posthog-api.md sections 1.5 and 2.8). Nothing
//! here waits or asks.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Kind, one_line};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault, Resource, TooMuch};

/// Server texts are shown up to this many characters.
const SHOWN_CHARS: usize = 300;

/// What a status means, before any text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The server sends us elsewhere.
    Redirect,
    /// The query or the form of the request is wrong.
    BadRequest,
    /// The key may not do this. Without an envelope it was somebody in between: asked again.
    Denied,
    /// A billing limit.
    Quota,
    /// There is no such thing here.
    NotFound,
    /// A proxy wants a password.
    ProxyPassword,
    /// Refused as it stands, whatever it was.
    Refused,
    /// One of PostHog's limits: wait.
    ForNow,
    /// ClickHouse had no time or memory for it: ask for less.
    Overload,
    /// Too slow for somebody in between: once more, then less.
    Slow,
    /// The server, or what stands before it, fails: asked again.
    Again,
    /// Nobody thought of it: asked again like a failure, and said to be so.
    Unforeseen,
}

/// The table of statuses.
fn meaning(status: u16) -> Meaning {
    match status {
        300..=399 => Meaning::Redirect,
        400 => Meaning::BadRequest,
        401 | 403 => Meaning::Denied,
        402 => Meaning::Quota,
        404 => Meaning::NotFound,
        407 => Meaning::ProxyPassword,
        405 | 406 | 410 | 411 | 413 | 414 | 415 | 431 => Meaning::Refused,
        429 => Meaning::ForNow,
        504 | 512 | 513 => Meaning::Overload,
        524 => Meaning::Slow,
        // An answer that is not ready; a conflict; failures of PostHog, and of what stands before it (520 to 530: Cloudflare).
        202 | 408 | 409 | 425 | 500 | 502 | 503 | 520..=523 | 525..=527 | 530 => Meaning::Again,
        _ => Meaning::Unforeseen,
    }
}

/// Which of PostHog's three limits refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Requests per minute or hour.
    Throttle,
    /// Queries at the same time.
    Concurrency,
    /// Bytes read per hour.
    Budget,
}

/// Keys of a query's body that old servers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionalKey {
    Modifiers,
    Name,
    QueryId,
}

/// What one bad answer means for the loop that asks.
#[derive(Debug)]
pub(crate) enum RetryDecision {
    /// Ask again after a while, at least as long as told; counted.
    Again(Cause, Option<Duration>, String),
    /// Took too long for somebody in between: once more as it is, then less.
    Slow(String),
    /// Refused for now; waits are not counted as failures.
    Wait(Refusal, Option<Duration>, String),
    /// Ask again without this key, and never send it again.
    Without(OptionalKey, String),
    /// Over.
    Final(Fault),
}

impl RetryDecision {
    pub(crate) fn fatal(cause: Cause, kind: Kind, text: impl Into<String>) -> RetryDecision {
        RetryDecision::Final(Fault::Fatal(Failure { cause, error: Error::new(kind, text) }))
    }

    pub(crate) fn split(of: Resource, said: impl Into<String>) -> RetryDecision {
        RetryDecision::Final(Fault::Split(TooMuch::new(of, said)))
    }
}

/// An answer that is not the asked one.
#[derive(Debug)]
pub(crate) struct ErrorResponse<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// Where a redirect points, as a host.
    pub(crate) location: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// What was asked and where, for messages: `POST https://...`.
    pub(crate) asked: &'a str,
    pub(crate) project_id: u64,
    /// The proxy that passes requests on in clear text, and so may have answered itself.
    pub(crate) proxy: Option<&'a str>,
    /// What the key is, where it plainly is no personal API key.
    pub(crate) other_kind_of_key: Option<&'static str>,
}

struct Envelope {
    code: String,
    detail: String,
    json: bool,
}

impl Envelope {
    fn read(body: &[u8]) -> Envelope {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let text = |name: &str| value.as_ref().and_then(|v| v.get(name)).and_then(Value::as_str).map(str::to_owned);
        let raw = || String::from_utf8_lossy(body).into_owned();
        let detail = text("detail").or_else(|| text("message")).or_else(|| text("error")).unwrap_or_else(raw);
        Envelope { code: text("code").unwrap_or_default(), detail, json: value.as_ref().is_some_and(Value::is_object) }
    }

    fn says(&self, part: &str) -> bool {
        self.detail.contains(part)
    }
}

/// A server's text for a message: without secrets, on one line, cut.
pub(crate) fn shown(text: &str) -> String {
    let text = log::without_secrets(text);
    let mut cut: String = text.trim().chars().take(SHOWN_CHARS).collect();
    if cut.len() < text.trim().len() {
        cut.push_str("...");
    }
    if cut.is_empty() { "(no text)".to_owned() } else { one_line(&cut) }
}

impl ErrorResponse<'_> {
    /// The decision on this answer.
    pub(crate) fn decision(&self) -> RetryDecision {
        let envelope = Envelope::read(self.body);
        // Any status: the server has stored the failure of this very text (`query_failure_handling.py`).
        if envelope.says("failed the same way") {
            return RetryDecision::split(Resource::Unsaid, shown(&envelope.detail));
        }
        match meaning(self.status) {
            Meaning::Redirect => self.redirect(),
            Meaning::BadRequest => self.bad_request(&envelope),
            Meaning::Denied if envelope.json => self.denied(&envelope),
            Meaning::Quota => {
                let advice = "a billing limit of the organization is used up; see Billing in PostHog";
                RetryDecision::fatal(Cause::Quota, Kind::Service, self.line(&envelope, advice))
            }
            Meaning::NotFound => self.not_found(&envelope),
            Meaning::ProxyPassword => {
                RetryDecision::fatal(Cause::Proxy, Kind::Service, wants_password(self.asked, self.proxy))
            }
            Meaning::Refused => self.refused(Cause::Request, &envelope),
            Meaning::ForNow => self.refused_for_now(&envelope),
            Meaning::Overload => self.overload(&envelope),
            Meaning::Slow => RetryDecision::Slow(self.status_line(&envelope)),
            Meaning::Denied | Meaning::Again | Meaning::Unforeseen => self.server_fault(&envelope),
        }
    }

    /// The status and the server's text.
    fn status_line(&self, envelope: &Envelope) -> String {
        let unforeseen =
            if meaning(self.status) == Meaning::Unforeseen { " (a status that was not foreseen)" } else { "" };
        format!("HTTP {}{unforeseen}: {}", self.status, shown(&envelope.detail))
    }

    fn refused(&self, cause: Cause, envelope: &Envelope) -> RetryDecision {
        RetryDecision::fatal(cause, Kind::Service, self.line(envelope, "the request is refused as it stands"))
    }

    fn line(&self, envelope: &Envelope, advice: &str) -> String {
        format!("{} was answered with {}: {} - {advice}", self.asked, self.status, shown(&envelope.detail))
    }

    fn redirect(&self) -> RetryDecision {
        let to = self.location.map_or_else(|| "elsewhere".to_owned(), |host| format!("to {}", one_line(host)));
        let text = format!(
            "{} was answered with a redirect ({}) {to}; the key is not sent there. Set region or custom_base_url to the \
             address that PostHog itself uses",
            self.asked, self.status
        );
        RetryDecision::fatal(Cause::Redirect, Kind::Config, text)
    }

    fn bad_request(&self, envelope: &Envelope) -> RetryDecision {
        if envelope.code == "too_many_bytes" {
            return RetryDecision::split(Resource::ReadBytes, shown(&envelope.detail));
        }
        if let Some(key) = refused_key(envelope) {
            return RetryDecision::Without(key, shown(&envelope.detail));
        }
        self.refused(refused_name(&envelope.detail), envelope)
    }

    fn denied(&self, envelope: &Envelope) -> RetryDecision {
        let id = self.project_id;
        let (cause, advice) = if let Some(kind) = self.other_kind_of_key.filter(|_| self.status == 401) {
            let advice = format!(
                "the setting api_key holds {kind}; make a personal API key (phx_) in PostHog, Settings, Personal API keys"
            );
            (Cause::Key, advice)
        } else if self.status == 401 {
            let advice =
                "check api_key, and that region is the one of this account: a key of PostHog Cloud US is unknown \
                          to PostHog Cloud EU and the other way round"
                    .to_owned();
            (Cause::Key, advice)
        } else if let Some(scope) = missing_scope(&envelope.detail) {
            let advice = format!("add the scope {scope} to the key (PostHog, Settings, Personal API keys)");
            (Cause::Scope(scope), advice)
        } else if envelope.says("does not have access to the requested") {
            (Cause::Access, format!("the key is restricted to other projects; add project {id} to it"))
        } else if envelope.says("have access to the project") {
            (Cause::Access, format!("the key's user is not a member of project {id}; check project_id"))
        } else {
            (Cause::Access, "the key or its user may not do this; an admin of the organization can tell why".to_owned())
        };
        RetryDecision::fatal(cause, Kind::Config, self.line(envelope, &advice))
    }

    fn not_found(&self, envelope: &Envelope) -> RetryDecision {
        let (cause, advice) = if envelope.says("Project not found") {
            let advice = format!(
                "check project_id {} (PostHog, Settings, Project ID) and that region is the one of this project",
                self.project_id
            );
            (Cause::Project, advice)
        } else if envelope.json {
            (Cause::Missing, "this PostHog does not have it".to_owned())
        } else {
            (Cause::Missing, "this is not the address of a PostHog; check region and custom_base_url".to_owned())
        };
        RetryDecision::fatal(cause, Kind::Config, self.line(envelope, &advice))
    }

    fn refused_for_now(&self, envelope: &Envelope) -> RetryDecision {
        let refusal = if envelope.code == "api_queries_budget_exceeded" {
            Refusal::Budget
        } else if envelope.says("concurrency limit") || envelope.says("Too many queries are running") {
            Refusal::Concurrency
        } else {
            Refusal::Throttle
        };
        let told = self.retry_after.or_else(|| told_seconds(&envelope.detail));
        RetryDecision::Wait(refusal, told, shown(&envelope.detail))
    }

    /// ClickHouse had no time or memory; or, without an envelope, somebody in between no patience.
    fn overload(&self, envelope: &Envelope) -> RetryDecision {
        match exhausted(envelope) {
            Some(of) => RetryDecision::split(of, self.status_line(envelope)),
            // The cluster's own trouble is told apart by its text.
            None if envelope.json && !envelope.says("heavy load") => {
                RetryDecision::split(Resource::Unsaid, self.status_line(envelope))
            }
            None if self.status == 504 => RetryDecision::Slow(self.status_line(envelope)),
            None => self.server_fault(envelope),
        }
    }

    fn server_fault(&self, envelope: &Envelope) -> RetryDecision {
        let text = self.status_line(envelope);
        match self.status {
            500 if envelope.says("Query size exceeded") => {
                let text = self.line(envelope, "the query's text is too long");
                RetryDecision::fatal(Cause::Request, Kind::Service, text)
            }
            // Memory has been 503, 504, 512 and 513 within a year.
            503 if exhausted(envelope) == Some(Resource::Memory) => RetryDecision::split(Resource::Memory, text),
            _ => match self.proxy.filter(|_| !envelope.json) {
                Some(proxy) => {
                    let text = format!("{text} (from the proxy {proxy}, or from what is behind it)");
                    RetryDecision::Again(Cause::Proxy, self.retry_after, text)
                }
                None => RetryDecision::Again(Cause::Server, self.retry_after, text),
            },
        }
    }
}

/// What a query ran out of, by the server's clock or its estimate.
fn exhausted(envelope: &Envelope) -> Option<Resource> {
    if envelope.says("execution time") {
        Some(Resource::Time)
    } else if envelope.says("ran out of memory") {
        Some(Resource::Memory)
    } else {
        None
    }
}

/// What to say when a proxy asks who we are.
pub(crate) fn wants_password(asked: impl std::fmt::Display, proxy: Option<&str>) -> String {
    let name = proxy.map_or_else(|| "a proxy on the way".to_owned(), |proxy| format!("the proxy {proxy}"));
    format!(
        "{asked} was not passed on: {name} wants a user name and password (407), or other ones; write the setting proxy like \
         http://user:password@proxy.example.com:3128"
    )
}

/// The optional key that a 400 names. The texts are pydantic's ("Extra inputs are not permitted") over paths like
/// `query.HogQLQuery.modifiers.convertToProjectTimezone`, and a plain field error on very old servers.
fn refused_key(envelope: &Envelope) -> Option<OptionalKey> {
    if envelope.says("convertToProjectTimezone") {
        return Some(OptionalKey::Modifiers);
    }
    if !(envelope.code == "parse_error" || envelope.says("validation error") || envelope.says("not permitted")) {
        return None;
    }
    if envelope.says("modifiers") {
        return Some(OptionalKey::Modifiers);
    }
    // The path of the refused key stands on a line of its own.
    let named = |key: &str| envelope.detail.lines().any(|line| line.trim().rsplit('.').next() == Some(key));
    if named("client_query_id") {
        Some(OptionalKey::QueryId)
    } else if named("name") {
        Some(OptionalKey::Name)
    } else {
        None
    }
}

/// What a query names that is not there (`resolver.py`): "Unable to resolve field: x", "Unknown table `x`".
fn refused_name(detail: &str) -> Cause {
    match detail.split_once("resolve field") {
        Some((_, name)) => Cause::UnknownColumn(name.trim_start_matches([':', ' ', '`', '\'', '"']).to_owned()),
        None if detail.contains("nknown table") => Cause::UnknownTable,
        None => Cause::Request,
    }
}

/// The scope in "API key missing required scope 'query:read'" (`permissions.py`).
fn missing_scope(detail: &str) -> Option<String> {
    let (_, rest) = detail.split_once("missing required scope")?;
    let scope: String = rest
        .chars()
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':')
        .collect();
    (!scope.is_empty()).then_some(scope)
}

/// The seconds in "Request was throttled. Expected available in 23 seconds." where no header says them.
fn told_seconds(detail: &str) -> Option<Duration> {
    let (_, rest) = detail.split_once("available in ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
