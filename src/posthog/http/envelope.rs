//! The text of an answer that is not the asked one. PostHog's own are JSON with a code and a text; the few texts that PostHog
//! has kept for years (posthog-api.md sections 1.5 and 2.8) say more than the status. This file and `decision.rs` are the only
//! ones that read them.

use std::time::Duration;

use serde_json::Value;

use crate::error::one_line;
use crate::log;
use crate::posthog::fault::{Cause, Resource};

/// Server texts are shown up to this many characters.
const SHOWN_CHARS: usize = 300;

/// Keys of a query's body that old servers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionalKey {
    Modifiers,
    Name,
    QueryId,
}

/// An error, as a server says it.
pub(super) struct Envelope {
    pub(super) code: String,
    pub(super) detail: String,
    /// It is one JSON object; a page of somebody in between is none.
    pub(super) json: bool,
}

impl Envelope {
    pub(super) fn read(body: &[u8]) -> Envelope {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let text = |name: &str| value.as_ref().and_then(|v| v.get(name)).and_then(Value::as_str).map(str::to_owned);
        let raw = || page_name(body).unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let detail = text("detail").or_else(|| text("message")).or_else(|| text("error")).unwrap_or_else(raw);
        Envelope { code: text("code").unwrap_or_default(), detail, json: value.as_ref().is_some_and(Value::is_object) }
    }

    /// Whether this part stands in its text.
    pub(super) fn says(&self, part: &str) -> bool {
        self.detail.contains(part)
    }
}

/// What to call a page that somebody else than PostHog answers with; none where it is none.
fn page_name(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if !text.trim_start_matches(['\u{feff}', ' ', '\r', '\n', '\t']).starts_with('<') {
        return None;
    }
    // ASCII alone is lowered, so places in both texts are the same.
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let from = at + lower.get(at..)?.find('>')? + 1;
        let to = from + lower.get(from..)?.find('<')?;
        text.get(from..to).map(str::trim).filter(|title| !title.is_empty())
    });
    Some(title.map_or_else(|| "an HTML page".to_owned(), |title| format!("the HTML page \"{title}\"")))
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

/// What a query ran out of, by the server's clock or its estimate.
pub(super) fn exhausted(envelope: &Envelope) -> Option<Resource> {
    if envelope.says("execution time") {
        Some(Resource::Time)
    } else if envelope.says("ran out of memory") {
        Some(Resource::Memory)
    } else {
        None
    }
}

/// The optional key that a 400 names. The texts are pydantic's ("Extra inputs are not permitted") over paths like
/// `query.HogQLQuery.modifiers.convertToProjectTimezone`, and a plain field error on very old servers.
pub(super) fn refused_key(envelope: &Envelope) -> Option<OptionalKey> {
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
pub(super) fn refused_name(detail: &str) -> Cause {
    match detail.split_once("resolve field") {
        Some((_, name)) => Cause::UnknownColumn(name.trim_start_matches([':', ' ', '`', '\'', '"']).to_owned()),
        None if detail.contains("nknown table") => Cause::UnknownTable,
        None => Cause::Request,
    }
}

/// The scope in "API key missing required scope 'query:read'" (`permissions.py`).
pub(super) fn missing_scope(detail: &str) -> Option<String> {
    let (_, rest) = detail.split_once("missing required scope")?;
    let scope: String = rest
        .chars()
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':')
        .collect();
    (!scope.is_empty()).then_some(scope)
}

/// The seconds in "Request was throttled. Expected available in 23 seconds." where no header says them.
pub(super) fn told_seconds(detail: &str) -> Option<Duration> {
    let (_, rest) = detail.split_once("available in ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_secs)
}
