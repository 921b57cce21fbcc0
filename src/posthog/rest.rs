//! REST lists, page by page, whatever their envelope.
//!
//! PostHog's lists differ: `limit`/`offset`, cursors, `has_next` without an address, bare arrays (posthog-api.md 7.1). They
//! have in common that the server says whether there is more; a short page says nothing. The address in `next` is not
//! followed: behind a proxy its scheme and host may be anybody's. Only its query is taken, and asked of our own host and
//! path; a query that was asked before is a loop and ends the list with an error.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Kind};
use crate::posthog::client::{Client, Get, RateClass, Url};
use crate::posthog::fault::{Cause, Failure, Fault};

/// Pages without items that may follow one another before the list is held to be broken.
const EMPTY_PAGES: u32 = 20;
/// The router takes a project from these, in place of the one in the path (`routing.py`).
const NEVER_SENT: [&str; 3] = ["token", "api_key", "personal_api_key"];

type Pairs = Vec<(String, String)>;

/// A list that is being read.
#[derive(Debug)]
pub struct List<'a> {
    client: &'a Client,
    path: String,
    class: RateClass,
    page_size: u32,
    /// What the next page is asked with; `None` at the end.
    next: Option<Pairs>,
    asked: HashSet<Pairs>,
    empty: u32,
}

#[derive(Deserialize)]
struct Envelope {
    results: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    has_next: Option<bool>,
}

impl<'a> List<'a> {
    /// The list at `path`, asked with `query` and `page_size` items a page.
    #[must_use]
    pub fn new(client: &'a Client, path: String, query: &[(String, String)], class: RateClass, page_size: u32) -> Self {
        let mut first = query.to_vec();
        first.push(("limit".to_owned(), page_size.to_string()));
        first.sort();
        List { client, path, class, page_size, next: Some(first), asked: HashSet::new(), empty: 0 }
    }

    /// The items of the next page, each as it was written; `None` behind the last one.
    ///
    /// # Errors
    /// As [`Client::get`]; a list that runs in a circle is [`Fault::Fatal`].
    pub fn next_page(&mut self) -> Result<Option<Vec<Box<RawValue>>>, Fault> {
        let Some(query) = self.next.take() else { return Ok(None) };
        if !self.asked.insert(query.clone()) {
            return Err(self.broken("its pages run in a circle"));
        }
        let get = Get { path: &self.path, query: &query, class: self.class };
        let page = self.client.get(&get, |answer| parse(&answer.body).map_err(Fault::untrusted))?;
        self.empty = if page.results.is_empty() { self.empty + 1 } else { 0 };
        self.next = following(&page, &query, self.page_size);
        if self.next.is_some() && self.empty > EMPTY_PAGES {
            return Err(self.broken("it goes on without items"));
        }
        Ok(Some(page.results))
    }

    fn broken(&self, what: &str) -> Fault {
        let text = format!("the list {} cannot be read to its end: {what}; try again later", self.path);
        Fault::Fatal(Failure { cause: Cause::Untrusted, error: Error::new(Kind::Service, text) })
    }
}

/// GETs one object.
///
/// # Errors
/// As [`Client::get`].
pub fn object(client: &Client, path: &str, class: RateClass) -> Result<Box<RawValue>, Fault> {
    client.get(&Get { path, query: &[], class }, |answer| match answer.body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(&answer.body).map_err(|e| Fault::untrusted(misread(&e))),
        _ => Err(Fault::untrusted("the answer is not an object")),
    })
}

fn parse(body: &[u8]) -> Result<Envelope, String> {
    let wrong = |e: serde_json::Error| misread(&e);
    match body.trim_ascii_start().first() {
        Some(b'[') => {
            let results = serde_json::from_slice(body).map_err(wrong)?;
            Ok(Envelope { results, next: None, has_next: None })
        }
        _ => serde_json::from_slice(body).map_err(wrong),
    }
}

/// Where, and not what stands there: it may be personal data.
fn misread(error: &serde_json::Error) -> String {
    format!("the answer is not a list of PostHog (line {}, column {})", error.line(), error.column())
}

/// What the page after this one is asked with.
fn following(page: &Envelope, query: &[(String, String)], page_size: u32) -> Option<Pairs> {
    match (&page.next, page.has_next) {
        (Some(next), _) if !next.is_empty() => Some(query_of(next)),
        (_, Some(true)) => {
            let offset = query.iter().find(|(name, _)| name == "offset").and_then(|(_, value)| value.parse().ok());
            let offset = offset.unwrap_or(0u64) + u64::from(page_size);
            let mut pairs: Pairs = query.iter().filter(|(name, _)| name != "offset").cloned().collect();
            pairs.push(("offset".to_owned(), offset.to_string()));
            pairs.sort();
            Some(pairs)
        }
        _ => None,
    }
}

/// The query of an address, absolute or not. Sorted, so that a circle is seen in whatever order it comes.
fn query_of(address: &str) -> Pairs {
    let query = address.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let Ok(mut url) = Url::parse("http://localhost/") else { return Pairs::new() };
    url.set_query(Some(query));
    let mut pairs: Pairs = url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .filter(|(name, _)| !NEVER_SENT.contains(&name.as_str()))
        .collect();
    pairs.sort();
    pairs
}
