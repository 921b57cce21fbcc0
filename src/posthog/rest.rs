//! REST lists, page by page, whatever their envelope.
//!
//! PostHog's lists differ: `limit`/`offset`, cursors, `has_next` without an address, bare arrays (posthog-api.md 7.1). They
//! have in common that the server says whether there is more; a short page says nothing. The address in `next` is not
//! followed: behind a proxy its scheme and host may be anybody's. Only its query is taken, and asked of our own host and
//! path; a query that was asked before is a loop and ends the list with an error, and so do pages that bring nothing new.
//!
//! A page that is too large, or takes the server too long, is asked for in smaller ones, as events are.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::http::client::{Answer, Client, Get, RateClass};
use super::http::retry::RetryPolicy;
use crate::error::{Error, Kind};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault, Resource, TooMuch};

/// Pages without a new item that may follow one another before the list is held to be broken.
const STALE_PAGES: u32 = 20;
/// How much less is asked for when a page is too much.
const SMALLER: u64 = 10;
/// The router takes a project from these, in place of the one in the path (`routing.py`).
const NEVER_SENT: [&str; 3] = ["token", "api_key", "personal_api_key"];

const LIMIT: &str = "limit";
const OFFSET: &str = "offset";

type Pairs = Vec<(String, String)>;

/// A list that is being read.
#[derive(Debug)]
pub struct ListReader<'a> {
    client: &'a Client,
    path: String,
    class: RateClass,
    page_size: u64,
    /// How long to go on when answers are bad; none: as long as the client does.
    retry_policy: Option<RetryPolicy>,
    /// A page that is too much is asked for in smaller ones.
    can_split: bool,
    /// Where the stretches end that were too much for one page; the innermost is the last.
    too_much: Vec<u64>,
    /// What the next page is asked with; `None` at the end.
    next: Option<Pairs>,
    asked: HashSet<Pairs>,
    /// The marks of the items that came.
    seen: HashSet<u64>,
    stale: u32,
    counted: u64,
    server_date: Option<i64>,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListPage {
    body: String,
    /// Where the items are in it.
    items: Vec<Range<usize>>,
    next: Option<String>,
    has_next: Option<bool>,
    count: Option<u64>,
    server_date: Option<i64>,
}

impl ListPage {
    /// The items, each as it was written.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| self.body.get(item.clone()).unwrap_or_default())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    has_next: Option<bool>,
    /// Of all items, not of the page; some lists have it.
    #[serde(default)]
    count: Value,
}

impl<'a> ListReader<'a> {
    /// The list at `path`, asked with `query` and `page_size` items a page.
    pub fn new(client: &'a Client, path: String, query: &[(String, String)], class: RateClass, page_size: u32) -> Self {
        let mut first = query.to_vec();
        first.push((LIMIT.to_owned(), page_size.to_string()));
        first.sort();
        let (asked, seen, too_much) = (HashSet::new(), HashSet::new(), Vec::new());
        let page_size = u64::from(page_size);
        ListReader {
            client,
            path,
            class,
            page_size,
            retry_policy: None,
            can_split: true,
            too_much,
            next: Some(first),
            asked,
            seen,
            stale: 0,
            counted: 0,
            server_date: None,
        }
    }

    /// The same list for a caller that can do without it: with a retry policy of its own, and in pages as they are.
    pub fn dispensable(self, retry_policy: RetryPolicy) -> Self {
        ListReader { retry_policy: Some(retry_policy), can_split: false, ..self }
    }

    /// The most items that the server said there are, on any page so far; 0 where it did not say.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// The server's clock when it gave the first page, in Unix seconds; none where it does not tell.
    pub fn server_date(&self) -> Option<i64> {
        self.server_date
    }

    /// The next page; `None` behind the last one.
    ///
    /// # Errors
    /// As [`Client::get`]; a list that runs in a circle is [`Fault::Fatal`], and so is an item that is too large.
    pub fn next_page(&mut self) -> Result<Option<ListPage>, Fault> {
        let Some(mut query) = self.next.take() else { return Ok(None) };
        let page = loop {
            if !self.asked.insert(query.clone()) {
                return Err(self.broken("its pages run in a circle; try again later"));
            }
            let (retry_policy, can_split) = (self.retry_policy, self.can_split);
            let get = Get { query: &query, retry_policy, can_split, ..Get::new(&self.path, self.class) };
            match self.client.get(&get, parse) {
                Err(Fault::Split(why)) => query = self.smaller(query, &why)?,
                page => break page?,
            }
        };
        // Where the first one was asked for again, the last answer is the one that counts.
        if self.seen.is_empty() && self.server_date.is_none() {
            self.server_date = page.server_date;
        }
        self.counted = self.counted.max(page.count.unwrap_or(0));
        let before = self.seen.len();
        self.seen.extend(page.items().map(mark));
        self.stale = if self.seen.len() == before { self.stale + 1 } else { 0 };
        self.next = following(&page, &query).map(|next| self.sized(next, page.body.len()));
        if self.next.is_some() && self.stale > STALE_PAGES {
            return Err(self.broken("it goes on without new items; try again later"));
        }
        Ok(Some(page))
    }

    /// The same place with fewer items.
    fn smaller(&mut self, mut query: Pairs, why: &TooMuch) -> Result<Pairs, Fault> {
        let (limit, offset) = (number(&query, LIMIT), number(&query, OFFSET));
        // A page that is neither the first nor at an offset ends elsewhere with another limit.
        let is_first = self.seen.is_empty() && self.counted == 0;
        match limit {
            Some(limit) if limit > 1 && (offset.is_some() || is_first) => {
                let less = (limit / SMALLER).max(1);
                log::debug(format!("{}: asking for {less} items instead of {limit}: {why}", self.path));
                self.too_much.push(offset.unwrap_or(0) + limit);
                set(&mut query, LIMIT, less);
                Ok(query)
            }
            limit => {
                let what = match limit {
                    Some(1) => format!("one item, number {}", offset.unwrap_or(0) + 1),
                    _ => "a page of it, which cannot be asked for in parts".to_owned(),
                };
                let advice = if why.of == Resource::AnswerBytes { "raise it" } else { "try again later" };
                Err(self.broken(&format!("{what}, is too much ({why}); {advice}, or deselect the stream")))
            }
        }
    }

    /// The next page, with as many items as its stretch allows. `bytes` are those of the page before it: where ten times as
    /// many would be too large again, it stays with what works.
    fn sized(&mut self, mut query: Pairs, bytes: usize) -> Pairs {
        let (Some(offset), Some(_)) = (number(&query, OFFSET), number(&query, LIMIT)) else { return query };
        let most = self.client.options().max_list_bytes;
        while self.too_much.last().is_some_and(|end| offset >= *end) && bytes.saturating_mul(SMALLER as usize) <= most {
            self.too_much.pop();
        }
        let limit = self.too_much.iter().fold(self.page_size, |limit, _| (limit / SMALLER).max(1));
        set(&mut query, LIMIT, limit);
        query
    }

    fn broken(&self, what: &str) -> Fault {
        let text = format!("the list {} cannot be read to its end: {what}", self.path);
        Fault::Fatal(Failure { cause: Cause::Untrusted, error: Error::new(Kind::Service, text) })
    }
}

/// GETs one object.
///
/// # Errors
/// As [`Client::get`].
pub fn object(client: &Client, path: &str, class: RateClass) -> Result<Box<RawValue>, Fault> {
    client.get(&Get::new(path, class), |answer| match answer.body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(&answer.body).map_err(|e| Fault::untrusted(misread(&e))),
        _ => Err(Fault::untrusted("the answer is not an object")),
    })
}

fn parse(answer: Answer) -> Result<ListPage, Fault> {
    let body = String::from_utf8(answer.body).map_err(|_| Fault::untrusted("the answer is not UTF-8"))?;
    let wrong = |e: serde_json::Error| Fault::untrusted(misread(&e));
    let Envelope { results, next, has_next, count } = match body.trim_ascii_start().starts_with('[') {
        true => {
            let results = serde_json::from_str(&body).map_err(wrong)?;
            Envelope { results, next: None, has_next: None, count: Value::Null }
        }
        false => serde_json::from_str(&body).map_err(wrong)?,
    };
    // By their places, so that a page is held once.
    let place = |item: &&RawValue| {
        let start = item.get().as_ptr() as usize - body.as_ptr() as usize;
        start..start + item.get().len()
    };
    let (items, count) = (results.iter().map(place).collect(), count.as_u64());
    Ok(ListPage { items, next, has_next, count, server_date: answer.server_date, body })
}

/// Where, and not what stands there: it may be personal data.
fn misread(error: &serde_json::Error) -> String {
    format!("the answer is not a list of PostHog (line {}, column {})", error.line(), error.column())
}

/// What an item is known by again: a hash of its id, or of all of it where it has none.
fn mark(item: &str) -> u64 {
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let known = serde_json::from_str::<Known<'_>>(item).map_or(item, |known| known.id.get());
    BuildHasherDefault::<DefaultHasher>::default().hash_one(known)
}

/// What the page after this one is asked with.
fn following(page: &ListPage, query: &[(String, String)]) -> Option<Pairs> {
    match (&page.next, page.has_next) {
        (Some(next), _) if !next.is_empty() => Some(query_of(next)),
        (_, Some(true)) => {
            // By what came: the server may give fewer than were asked for. Behind a page without items, by what was asked.
            let came = u64::try_from(page.len()).ok().filter(|came| *came > 0);
            let came = came.or_else(|| number(query, LIMIT)).unwrap_or(1);
            let mut pairs = query.to_vec();
            set(&mut pairs, OFFSET, number(query, OFFSET).unwrap_or(0) + came);
            Some(pairs)
        }
        _ => None,
    }
}

fn number(query: &[(String, String)], wanted: &str) -> Option<u64> {
    query.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.parse().ok())
}

/// Sets one pair, and keeps the order.
fn set(query: &mut Pairs, name: &str, value: u64) {
    query.retain(|(known, _)| known != name);
    query.push((name.to_owned(), value.to_string()));
    query.sort();
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

#[cfg(test)]
mod tests;
