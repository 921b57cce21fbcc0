//! REST lists, page by page, whatever their envelope.
//!
//! PostHog's lists differ: `limit`/`offset`, cursors, `has_next` without an address, bare arrays (posthog-api.md 7.1). They
//! have in common that the server says whether there is more; a short page says nothing. The address in `next` is not
//! followed: behind a proxy its scheme and host may be anybody's. Only its query is taken, and asked of our own host and
//! path; a query that was asked before is a loop and ends the list with an error, and so do pages that bring nothing new.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use crate::error::{Error, Kind};
use crate::posthog::client::{Client, Get, RateClass};
use crate::posthog::fault::{Cause, Failure, Fault};

/// Pages without a new item that may follow one another before the list is held to be broken.
const STALE_PAGES: u32 = 20;
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
    /// The marks of the items that came.
    seen: HashSet<u64>,
    stale: u32,
    counted: u64,
    server_date: Option<i64>,
}

#[derive(Deserialize)]
struct Envelope {
    results: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    has_next: Option<bool>,
    /// Of all items, not of the page; some lists have it.
    #[serde(default)]
    count: Value,
}

impl<'a> List<'a> {
    /// The list at `path`, asked with `query` and `page_size` items a page.
    #[must_use]
    pub fn new(client: &'a Client, path: String, query: &[(String, String)], class: RateClass, page_size: u32) -> Self {
        let mut first = query.to_vec();
        first.push(("limit".to_owned(), page_size.to_string()));
        first.sort();
        let (asked, seen) = (HashSet::new(), HashSet::new());
        List { client, path, class, page_size, next: Some(first), asked, seen, stale: 0, counted: 0, server_date: None }
    }

    /// The most items that the server said there are, on any page so far; 0 where it did not say.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// The server's clock when it gave the first page, in Unix seconds; none where it does not tell.
    #[must_use]
    pub fn server_date(&self) -> Option<i64> {
        self.server_date
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
        let (page, date) = self.client.get(&get, |answer| {
            Ok((parse(&answer.body).map_err(Fault::untrusted)?, answer.server_date))
        })?;
        if self.asked.len() == 1 {
            self.server_date = date;
        }
        self.counted = self.counted.max(page.count.as_u64().unwrap_or(0));
        let before = self.seen.len();
        self.seen.extend(page.results.iter().map(|item| mark(item)));
        self.stale = if self.seen.len() == before { self.stale + 1 } else { 0 };
        self.next = following(&page, &query, self.page_size);
        if self.next.is_some() && self.stale > STALE_PAGES {
            return Err(self.broken("it goes on without new items"));
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
            Ok(Envelope { results, next: None, has_next: None, count: Value::Null })
        }
        _ => serde_json::from_slice(body).map_err(wrong),
    }
}

/// Where, and not what stands there: it may be personal data.
fn misread(error: &serde_json::Error) -> String {
    format!("the answer is not a list of PostHog (line {}, column {})", error.line(), error.column())
}

/// What an item is known by again: a hash of its id, or of all of it where it has none.
fn mark(item: &RawValue) -> u64 {
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let known = serde_json::from_str::<Known<'_>>(item.get()).map_or(item, |known| known.id);
    BuildHasherDefault::<DefaultHasher>::default().hash_one(known.get())
}

/// What the page after this one is asked with.
fn following(page: &Envelope, query: &[(String, String)], page_size: u32) -> Option<Pairs> {
    match (&page.next, page.has_next) {
        (Some(next), _) if !next.is_empty() => Some(query_of(next)),
        (_, Some(true)) => {
            let offset = query.iter().find(|(name, _)| name == "offset").and_then(|(_, value)| value.parse().ok());
            // By what came: the server may give fewer than were asked for. Behind a page without items, by what was asked.
            let came = u64::try_from(page.results.len()).ok().filter(|came| *came > 0).unwrap_or(u64::from(page_size));
            let offset = offset.unwrap_or(0u64) + came;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::client::tests::{Play, error_answer, json_answer, options, serve};
    use serde_json::json;

    /// Reads a list from a server that plays these answers; gives the items' texts and the request lines.
    fn read(script: Vec<Play>) -> (Result<Vec<String>, Fault>, Vec<String>) {
        let server = serve(script);
        let client = Client::new(options(&server.base)).unwrap();
        let query = [("type".to_owned(), "event".to_owned())];
        let mut list = List::new(&client, "api/projects/7/things/".to_owned(), &query, RateClass::Lists, 2);
        let mut items = Vec::new();
        let result = loop {
            match list.next_page() {
                Ok(Some(page)) => items.extend(page.iter().map(|item| item.get().to_owned())),
                Ok(None) => break Ok(items),
                Err(fault) => break Err(fault),
            }
        };
        let seen = server.seen.lock().unwrap();
        let lines = seen.iter().map(|(head, _)| head.split(' ').nth(1).unwrap().to_owned()).collect();
        (result, lines)
    }

    fn page(items: serde_json::Value, next: Option<&str>) -> Play {
        json_answer(200, "", &json!({"count": 9, "next": next, "previous": null, "results": items}).to_string())
    }

    #[test]
    fn next_is_asked_of_our_own_host_and_a_short_page_is_not_the_end() {
        let next = "http://internal.example:8000/other/?offset=2&limit=2&type=event&token=phc_x&personal_api_key=k";
        let (items, lines) = read(vec![
            page(json!([{"id": 1.50}]), Some(next)),
            page(json!([]), Some("?cursor=a%20b")),
            page(json!([2]), None),
        ]);
        assert_eq!(items.unwrap(), [r#"{"id":1.5}"#, "2"]);
        let path = "/api/projects/7/things/";
        let expected = [
            format!("{path}?limit=2&type=event"),
            format!("{path}?limit=2&offset=2&type=event"),
            format!("{path}?cursor=a+b"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn every_envelope_is_read() {
        assert_eq!(read(vec![json_answer(200, "", " [1, 2]")]).0.unwrap(), ["1", "2"]);
        let more = |items: serde_json::Value, more: bool| {
            json_answer(200, "", &json!({"results": items, "has_next": more}).to_string())
        };
        // A page may hold less than was asked for: what comes next begins behind what came.
        let (items, lines) = read(vec![more(json!([1]), true), more(json!([]), true), more(json!([3]), false)]);
        assert_eq!(items.unwrap().len(), 2);
        assert!(lines[1].contains("offset=1") && lines[2].contains("offset=3"), "{lines:?}");
        assert_eq!(read(vec![page(json!([]), Some(""))]).0.unwrap().len(), 0);
    }

    #[test]
    fn circles_and_endless_lists_are_refused() {
        let circle = || page(json!([1]), Some("/x?type=event&limit=2"));
        let (result, lines) = read(vec![circle(), circle()]);
        assert!(Error::from(result.unwrap_err()).to_string().contains("circle"));
        assert_eq!(lines.len(), 1);
        let endless = (0..60).map(|at| page(json!([]), Some(&format!("?offset={at}")))).collect();
        assert!(Error::from(read(endless).0.unwrap_err()).to_string().contains("without new items"));
        // A server that does not know `offset` gives the same page for ever.
        let same = |at: u32| json!([1, {"id": 2, "seen": at}]);
        let deaf: Vec<Play> = (0..60).map(|at| page(same(at), Some(&format!("?offset={at}")))).collect();
        let (result, lines) = read(deaf);
        assert!(Error::from(result.unwrap_err()).to_string().contains("without new items"));
        assert_eq!(lines.len(), 22);
    }

    #[test]
    fn what_is_no_list_is_asked_for_again_and_then_refused() {
        let nonsense = || json_answer(200, "", r#"{"detail": "x"}"#);
        let (items, lines) = read(vec![nonsense(), page(json!([3]), None)]);
        assert_eq!((items.unwrap().len(), lines.len()), (1, 2));
        let result = read((0..9).map(|_| nonsense()).collect()).0;
        assert!(matches!(result.unwrap_err(), Fault::Fatal(failure) if failure.cause == Cause::Untrusted));
        let denied = error_answer(403, "", "permission_denied", "API key missing required scope 'thing:read'");
        let result = read(vec![denied]).0;
        assert!(
            matches!(result.unwrap_err(), Fault::Fatal(failure) if failure.cause == Cause::Scope("thing:read".into()))
        );
    }
}
