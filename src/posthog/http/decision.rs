//! What an answer of PostHog means, decided in one place: ask again, wait, ask for less, ask without an optional key, or give
//! up and say why. What PostHog's texts mean leaves it as a typed cause.
//!
//! By status first ([`meaning`]), because a proxy may put any page where PostHog would put its envelope; then by the
//! envelope's code and text. Nothing here waits or asks.

use std::time::Duration;

use super::envelope::{
    Envelope, OptionalKey, exhausted, missing_scope, refused_key, refused_name, shown, told_seconds,
};
use crate::error::{Error, Kind};
use crate::posthog::fault::{Cause, Failure, Fault, Resource, TooMuch};

/// What to do where a proxy does not get to PostHog.
pub(super) const CHECK_PROXY: &str = "check the setting proxy, and that this proxy may reach that address";

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

/// What one bad answer means for the loop that asks.
#[derive(Debug)]
pub(crate) enum RetryDecision {
    /// Ask again after a while, at least as long as told; counted.
    Again(Cause, Option<Duration>, String),
    /// Somebody else than PostHog answers where it never did: ask again after a while, a few times.
    Foreign(String),
    /// Nobody answered: ask again after a while; counted.
    Unanswered {
        cause: Cause,
        why: String,
        /// What to do if it goes on so.
        advice: String,
        /// There was a connection.
        is_connected: bool,
    },
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

/// Where a redirect points; the address is without its query.
#[derive(Debug)]
pub(crate) enum Location {
    /// To the address that was asked.
    Same,
    /// To another path of the same server.
    OtherPath(String),
    /// To another server, port or scheme.
    Elsewhere(String),
}

/// Names of settings, as they were written.
#[derive(Clone, Debug)]
pub struct Names {
    /// That of the address, or those that it comes from.
    pub address: String,
    /// That of the key.
    pub key: String,
}

/// An answer that is not the asked one.
#[derive(Debug)]
pub(crate) struct ErrorResponse<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) location: Option<Location>,
    /// How to prove who one is, by the answer: `Basic`, `Bearer`.
    pub(crate) challenges: &'a [String],
    pub(crate) body: &'a [u8],
    /// What was asked and where, for messages: `POST https://...`.
    pub(crate) asked: &'a str,
    pub(crate) project_id: u64,
    pub(crate) names: &'a Names,
    /// The proxy that passes requests on in clear text, and so may have answered itself.
    pub(crate) proxy: Option<&'a str>,
    /// What the key is, where it plainly is no personal API key.
    pub(crate) other_kind_of_key: Option<&'static str>,
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
            Meaning::Denied if self.is_of_a_gate(&envelope) => self.gate(&envelope),
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
        let address = &self.names.address;
        let (to, advice) = match &self.location {
            Some(Location::Same) => (
                "to the same address".to_owned(),
                "that would go on for ever. What stands before PostHog has to tell it by which scheme it was asked \
                 (X-Forwarded-Proto), and PostHog has to believe that (IS_BEHIND_PROXY)"
                    .to_owned(),
            ),
            Some(Location::OtherPath(to)) => (
                format!("to {}", shown(to)),
                format!("the key is not sent there. If that is no page to log in at, {address} has another path"),
            ),
            Some(Location::Elsewhere(to)) => (
                format!("to {}", shown(to)),
                format!("the key is not sent there. Set {address} to the address that PostHog itself uses"),
            ),
            None => ("elsewhere".to_owned(), format!("check {address}")),
        };
        let text = format!("{} was answered with a redirect ({}) {to}; {advice}", self.asked, self.status);
        RetryDecision::fatal(Cause::Redirect, Kind::Config, text)
    }

    /// PostHog refuses a key in JSON, and asks for no other proof than the key.
    fn is_of_a_gate(&self, envelope: &Envelope) -> bool {
        let asks_for_another = !self.challenges.is_empty()
            && !self.challenges.iter().any(|challenge| challenge.eq_ignore_ascii_case("bearer"));
        self.status == 401 && (asks_for_another || !envelope.json)
    }

    fn gate(&self, envelope: &Envelope) -> RetryDecision {
        let asks = match self.challenges {
            [] => "refuses whoever shows only a key".to_owned(),
            challenges => format!("asks for a user name ({})", shown(&challenges.join(", "))),
        };
        let advice = format!(
            "something in front of PostHog {asks}, and there is no setting for that; let requests to /api/ through, or set {} \
             to an address behind it",
            self.names.address
        );
        RetryDecision::fatal(Cause::Gate, Kind::Config, self.line(envelope, &advice))
    }

    fn bad_request(&self, envelope: &Envelope) -> RetryDecision {
        if envelope.code == "too_many_bytes" {
            return RetryDecision::split(Resource::ReadBytes, shown(&envelope.detail));
        }
        if let Some(key) = refused_key(envelope) {
            return RetryDecision::Without(key, shown(&envelope.detail));
        }
        if !envelope.json && envelope.says("SSL certificate") {
            let text = self.line(envelope, &wants_certificate("the server"));
            return RetryDecision::fatal(Cause::Tls, Kind::Service, text);
        }
        if !envelope.json && envelope.says("HTTPS port") {
            let text = self.line(envelope, &format!("write https:// in {}", self.names.address));
            return RetryDecision::fatal(Cause::Tls, Kind::Config, text);
        }
        self.refused(refused_name(&envelope.detail), envelope)
    }

    fn denied(&self, envelope: &Envelope) -> RetryDecision {
        let (id, key) = (self.project_id, &self.names.key);
        let (cause, advice) = if let Some(kind) = self.other_kind_of_key.filter(|_| self.status == 401) {
            let advice = format!(
                "the setting {key} holds {kind}; make a personal API key (phx_) in PostHog, Settings, Personal API keys"
            );
            (Cause::Key, advice)
        } else if self.status == 401 {
            let advice = match self.own_address() {
                Some(address) => format!("check {key}, and that {address} is the PostHog that the key was made in"),
                None => format!(
                    "check {key}, and that region is the one of this account: a key of PostHog Cloud US is unknown to \
                     PostHog Cloud EU, and the other way round"
                ),
            };
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

    /// The setting of the address, unless the address comes from the region.
    fn own_address(&self) -> Option<&str> {
        Some(self.names.address.as_str()).filter(|name| !name.starts_with("region"))
    }

    fn not_found(&self, envelope: &Envelope) -> RetryDecision {
        let (cause, advice) = if envelope.says("Project not found") {
            let advice = format!(
                "check project_id {} (PostHog, Settings, Project ID), and that {} is the one of this project",
                self.project_id,
                self.own_address().unwrap_or("region")
            );
            (Cause::Project, advice)
        } else if envelope.code.is_empty() {
            // Every error of PostHog has a code.
            let advice = format!("this is not the address of a PostHog; check {}", self.names.address);
            (Cause::Missing, advice)
        } else {
            (Cause::Missing, "this PostHog does not have it".to_owned())
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
                    let text = format!("{text} (from the proxy {proxy}, or from what is behind it; {CHECK_PROXY})");
                    RetryDecision::Again(Cause::Proxy, self.retry_after, text)
                }
                None => RetryDecision::Again(Cause::Server, self.retry_after, text),
            },
        }
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

/// What to say when a server wants to know by a certificate who we are.
pub(crate) fn wants_certificate(who: impl std::fmt::Display) -> String {
    format!(
        "{who} wants a client certificate, and there is no setting for one; let requests with a key through there, or have a \
         program on this machine add the certificate (stunnel, envoy) and give the tap the address of that"
    )
}

#[cfg(test)]
mod tests;
