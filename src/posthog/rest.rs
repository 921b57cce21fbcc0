//! REST lists, page by page, whatever their envelope.
//!
//! PostHog's lists differ: `limit`/`offset`, cursors, `has_next` without an address, bare arrays (posthog-api.md 7.1). They
//! have in common that the server says whether there is more; a short page says nothing. The address in `next` is not
//! followed: behind a proxy its scheme and host may be anybody's. Only its query is taken, and asked of our own host and
//! path; a query that was asked before is a loop and ends the list with an error, and so do pages that bring nothing new.
//!
//! A page that is too large, takes the server too long, or makes it fail, is asked for in smaller ones, as events are.
//! Items are passed on one by one: how much memory a page takes depends on its longest item. What a page is, is in `page.rs`.

mod page;

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use serde_json::value::RawValue;
use url::Url;

use super::http::client::{Client, Get, RateClass};
use super::http::retry::RetryPolicy;
use crate::error::{Error, Kind};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault, Resource, TooMuch};
use page::{ListPage, OnItem};

/// Pages without a new item that may follow one another before the list is held to be broken.
const STALE_PAGES: u32 = 20;
/// How much less is asked for when a page is too much.
const SMALLER: u64 = 10;
/// Attempts at a page that makes the server fail, before a smaller one is asked for.
const ATTEMPTS: u32 = 2;
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
    /// Hashes of what was asked for.
    asked: HashSet<u64>,
    is_begun: bool,
    stale: u32,
    counted: u64,
    server_date: Option<i64>,
}

impl<'a> ListReader<'a> {
    /// The list at `path`, asked with `query` and `page_size` items a page.
    pub fn new(client: &'a Client, path: String, query: &[(String, String)], class: RateClass, page_size: u32) -> Self {
        let mut first = query.to_vec();
        first.push((LIMIT.to_owned(), page_size.to_string()));
        first.sort();
        ListReader {
            client,
            path,
            class,
            page_size: u64::from(page_size),
            retry_policy: None,
            can_split: true,
            too_much: Vec::new(),
            next: Some(first),
            asked: HashSet::new(),
            is_begun: false,
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

    /// Reads the next page and passes its items on; gives how many came, `None` behind the last page. Items of an answer that
    /// breaks off come again with the next attempt.
    ///
    /// # Errors
    /// As [`Client::get`]; a list that runs in a circle is [`Fault::Fatal`], and so is an item that is too large. A failure
    /// of `on_item` is [`Fault::Stopped`].
    pub fn next_page(&mut self, on_item: &mut OnItem<'_>) -> Result<Option<u64>, Fault> {
        let Some(mut query) = self.next.take() else { return Ok(None) };
        let mut has_new = false;
        let mut on_item = |item: &[u8]| {
            has_new |= on_item(item)?;
            Ok(true)
        };
        let page = loop {
            if !self.asked.insert(BuildHasherDefault::<DefaultHasher>::default().hash_one(&query)) {
                return Err(self.broken(Cause::Untrusted, "its pages run in a circle; try again later"));
            }
            match self.ask(&query, &mut on_item) {
                Err(Fault::Split(why)) => query = self.smaller(query, &why)?,
                Err(Fault::Fatal(Failure { cause: Cause::Server, error }))
                    if self.can_split && number(&query, LIMIT) == Some(1) =>
                {
                    let what =
                        format!("one item, number {}: {error}", number(&query, OFFSET).unwrap_or(0).saturating_add(1));
                    return Err(self.broken(Cause::Server, &what));
                }
                page => break page?,
            }
        };
        // Where the first one was asked for again, the last answer is the one that counts.
        if !self.is_begun {
            (self.is_begun, self.server_date) = (true, page.server_date);
        }
        self.counted = self.counted.max(page.count.unwrap_or(0));
        self.stale = if has_new { 0 } else { self.stale + 1 };
        self.next = following(&page, &query).map(|next| self.sized(next, page.bytes));
        if self.next.is_some() && self.stale > STALE_PAGES {
            return Err(self.broken(Cause::Untrusted, "it goes on without new items; try again later"));
        }
        Ok(Some(page.items))
    }

    fn ask(&self, query: &[(String, String)], on_item: &mut OnItem<'_>) -> Result<ListPage, Fault> {
        let options = self.client.options();
        let mut ask = |retry_policy| {
            let get = Get { query, retry_policy, can_split: self.can_split, ..Get::new(&self.path, self.class) };
            self.client.get_arriving(&get, |incoming| page::read(incoming, on_item))
        };
        if !self.can_split || self.less(query).is_none() {
            return ask(self.retry_policy);
        }
        match ask(Some(self.retry_policy.unwrap_or(options.retry_policy).at_most(ATTEMPTS))) {
            Err(Fault::Fatal(Failure { cause: Cause::Server, error })) => {
                Err(Fault::Split(TooMuch::new(Resource::Unsaid, error.to_string())))
            }
            // These say nothing about the size of the page.
            Err(Fault::Fatal(Failure { cause: Cause::Untrusted | Cause::Network | Cause::Timeout, .. })) => {
                ask(self.retry_policy)
            }
            outcome => outcome,
        }
    }

    /// How many items to ask for instead, if the page can be made smaller. One that is neither the first nor at an offset
    /// ends elsewhere with another limit.
    fn less(&self, query: &[(String, String)]) -> Option<u64> {
        let limit = number(query, LIMIT).filter(|limit| *limit > 1)?;
        (number(query, OFFSET).is_some() || !self.is_begun).then_some((limit / SMALLER).max(1))
    }

    /// The same place with fewer items.
    fn smaller(&mut self, mut query: Pairs, why: &TooMuch) -> Result<Pairs, Fault> {
        let (limit, offset) = (number(&query, LIMIT), number(&query, OFFSET).unwrap_or(0));
        if let (Some(limit), Some(less)) = (limit, self.less(&query)) {
            log::debug(format!("{}: asking for {less} items instead of {limit}: {why}", self.path));
            self.too_much.push(offset.saturating_add(limit));
            set(&mut query, LIMIT, less);
            return Ok(query);
        }
        let what = match limit {
            Some(1) => format!("one item, number {}", offset.saturating_add(1)),
            _ => "a page of it, which cannot be asked for in parts".to_owned(),
        };
        let advice = if why.of == Resource::AnswerBytes { "raise it" } else { "try again later" };
        Err(self.broken(Cause::Untrusted, &format!("{what}, is too much ({why}); {advice}, or deselect the stream")))
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

    fn broken(&self, cause: Cause, what: &str) -> Fault {
        let text = format!("the list {} cannot be read to its end: {what}", self.path);
        Fault::Fatal(Failure { cause, error: Error::new(Kind::Service, text) })
    }
}

/// GETs one object.
///
/// # Errors
/// As [`Client::get`].
pub fn object(client: &Client, path: &str, class: RateClass) -> Result<Box<RawValue>, Fault> {
    client.get(&Get::new(path, class), |answer| match answer.body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(&answer.body).map_err(|e| {
            // Where, and not what stands there: it may be personal data.
            Fault::untrusted(format!("the answer is not an object (line {}, column {})", e.line(), e.column()))
        }),
        _ => Err(Fault::untrusted("the answer is not an object")),
    })
}

/// What the page after this one is asked with.
fn following(page: &ListPage, query: &[(String, String)]) -> Option<Pairs> {
    match (&page.next, page.has_next) {
        (Some(next), _) if !next.is_empty() => Some(query_of(next)),
        (_, Some(true)) => {
            // By what came: the server may give fewer than were asked for. Behind a page without items, by what was asked.
            let came = Some(page.items).filter(|came| *came > 0).or_else(|| number(query, LIMIT)).unwrap_or(1);
            let mut pairs = query.to_vec();
            set(&mut pairs, OFFSET, number(query, OFFSET).unwrap_or(0).saturating_add(came));
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
