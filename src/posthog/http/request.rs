//! What a client is made from, what it is asked, and what it answers. No network here, and no meaning of answers.

use std::path::PathBuf;
use std::time::Duration;

use super::body::Body;
use super::decision::Names;
use super::envelope::shown;
use super::retry::{RequestTimer, RetryPolicy};
use crate::posthog::address::BaseUrl;
use crate::posthog::fault::Fault;
use crate::posthog::pace::rate::Rates;
use crate::posthog::secret::Secret;

/// What to say of an answer that is not PostHog's.
pub(super) const SOMEBODY_ELSE: &str = "something else than PostHog answers there: a login page, a proxy, a firewall";
/// So much of a body that is none of PostHog's is shown.
const SHOWN_BYTES: usize = 40;

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where PostHog is.
    pub base: BaseUrl,
    /// The project whose paths and queries are asked.
    pub project_id: u64,
    /// The personal API key.
    pub key: Secret,
    /// More certificate authorities to trust, as a PEM file.
    pub ca_file: Option<PathBuf>,
    /// A proxy's address, perhaps with a password.
    pub proxy: Option<Secret>,
    /// Who we are.
    pub user_agent: String,
    /// The longest silence of a server: until the answer begins, and between two parts of it.
    pub request_timeout: Duration,
    /// How fast queries are sent.
    pub query_rates: Rates,
    /// Most bytes of an answer to a GET.
    pub max_list_bytes: usize,
    /// How long to go on when answers are bad.
    pub retry_policy: RetryPolicy,
    /// What the settings are called, for messages.
    pub names: Names,
}

impl Options {
    /// The proxy's host and port, for messages: never its user or password.
    pub(crate) fn proxy_name(&self) -> Option<String> {
        let url = url::Url::parse(self.proxy.as_ref()?.expose()).ok()?;
        let port = url.port_or_known_default().map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{}{port}", url.host_str()?))
    }

    /// No connection is made over TLS.
    pub(super) fn is_without_tls(&self) -> bool {
        let proxy = self.proxy.as_ref().and_then(|proxy| url::Url::parse(proxy.expose()).ok());
        self.base.is_clear_text() && proxy.is_none_or(|proxy| proxy.scheme() != "https")
    }

    /// What the key is when it begins like one of PostHog's that are no personal API keys. Only for explaining a refusal:
    /// which scopes these have is not the same everywhere.
    pub(crate) fn other_kind_of_key(&self) -> Option<&'static str> {
        match self.key.expose().get(..4)? {
            "phs_" => Some("a project secret key (phs_), which is for feature flags and endpoints"),
            "phr_" => Some("a refresh token (phr_), which only gets access tokens"),
            "pha_" => Some("an access token (pha_), which ends after hours"),
            _ => None,
        }
    }
}

/// What follows where a query is too much for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSplit {
    /// The caller is told, and asks for less.
    Tell,
    /// The query cannot be made smaller: it is sent in so many texts that mean the same. A server that is busy may have time
    /// for the next one, and a text that failed may be answered with its failure for minutes.
    Reword(u32),
}

/// A HogQL query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// A label for PostHog's query log and for our messages, like `events page`.
    pub name: &'a str,
    /// The text. Bounded, ordered and limited by the caller.
    pub sql: &'a str,
    /// How long to go on when answers are bad; none: as long as the client does.
    pub retry_policy: Option<RetryPolicy>,
    /// What follows where it is too much for the server.
    pub on_split: OnSplit,
}

impl<'a> Query<'a> {
    /// A query that goes on as long as its client, and tells its caller when it is too much.
    pub fn new(name: &'a str, sql: &'a str) -> Query<'a> {
        Query { name, sql, retry_policy: None, on_split: OnSplit::Tell }
    }

    /// The same with a retry policy of its own.
    pub fn with_retry_policy(self, retry_policy: RetryPolicy) -> Query<'a> {
        Query { retry_policy: Some(retry_policy), ..self }
    }

    /// The same in so many texts.
    pub fn reworded(self, texts: u32) -> Query<'a> {
        Query { on_split: OnSplit::Reword(texts), ..self }
    }
}

/// A GET of a REST path.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// The path below the base address, like `api/projects/1/cohorts/`.
    pub path: &'a str,
    /// Query pairs.
    pub query: &'a [(String, String)],
    /// Which of PostHog's limits counts it.
    pub class: RateClass,
    /// How long to go on when answers are bad; none: as long as the client does.
    pub retry_policy: Option<RetryPolicy>,
    /// The caller can ask for less, and is told when the answer is too much. Else that is a failure like any other.
    pub can_split: bool,
    /// Most bytes of the answer; none: as many as of any list.
    pub max_bytes: Option<usize>,
}

impl<'a> Get<'a> {
    /// A GET without query pairs that goes on as long as its client.
    pub fn new(path: &'a str, class: RateClass) -> Get<'a> {
        Get { path, query: &[], class, retry_policy: None, can_split: false, max_bytes: None }
    }
}

/// PostHog's throttle classes for REST (posthog-api.md section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateClass {
    /// Objects kept in PostgreSQL.
    Lists,
    /// Lists that ClickHouse answers.
    ClickHouse,
}

/// An answer whose body is still to be read: HTTP 200, content type JSON.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The body.
    pub body: Body<'a>,
    /// The request, on its way.
    pub timer: &'a RequestTimer,
    /// Bytes that ClickHouse read for the answer, where the server says so.
    pub bytes_read: Option<u64>,
    /// Bytes left in the project's hourly budget, where the server says so.
    pub budget_left: Option<u64>,
    /// The server's clock when it answered, in Unix seconds.
    pub server_date: Option<i64>,
}

/// Reads an answer's body while it arrives, and checks it.
pub(super) type ReadBody<'a, T> = &'a mut dyn FnMut(&mut Incoming<'_>) -> Result<T, Fault>;

impl Incoming<'_> {
    /// The answer with its whole body.
    ///
    /// # Errors
    /// [`Fault::Untrusted`] when the body is not read to its end, or plainly is not one JSON array or object.
    pub(crate) fn whole(&mut self) -> Result<Answer, Fault> {
        let body = self.body.whole().map_err(|e| Fault::untrusted(e.to_string()))?;
        Incoming::refuse_no_json(&body)?;
        Ok(Answer { body, budget_left: self.budget_left, server_date: self.server_date })
    }

    /// Refuses a body that plainly is not one JSON array or object.
    ///
    /// # Errors
    /// [`Fault::Untrusted`] with how the body begins.
    pub(crate) fn refuse_no_json(body: &[u8]) -> Result<(), Fault> {
        match body.trim_ascii() {
            [b'{', .., b'}'] | [b'[', .., b']'] => Ok(()),
            [] | [b'{' | b'[', ..] => Err(Fault::untrusted(format!("the body of {} bytes is cut", body.len()))),
            begin => {
                let begin = String::from_utf8_lossy(begin.get(..SHOWN_BYTES).unwrap_or(begin)).into_owned();
                let why = format!("the body is no JSON, it begins with {}; {SOMEBODY_ELSE}", shown(&begin));
                Err(Fault::untrusted(why))
            }
        }
    }
}

/// A complete answer: HTTP 200, content type JSON, body read to its end and unpacked.
#[derive(Debug)]
pub struct Answer {
    /// The decoded body.
    pub body: Vec<u8>,
    /// Bytes left in the project's hourly budget, where the server says so.
    pub budget_left: Option<u64>,
    /// The server's clock when it answered, in Unix seconds.
    pub server_date: Option<i64>,
}
