//! A page of a list: its items are passed on while it is read, and nothing of them is kept.

use std::io::Read;
use std::time::Instant;

use crate::error::Result;
use crate::json::decode::Decoder;
use crate::json::scan::Scanner;
use crate::json::token;
use crate::json::token::Token;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::Incoming;

/// A page up to this size is received and checked as a whole before its first item is passed on, so that a slow target
/// holds no connection. Of a larger one, no more than this and an item is in memory.
const WHOLE_BYTES: u64 = 4 * 1024 * 1024;
/// The longest address of a next page.
const NEXT_BYTES: usize = 4096;

/// Takes an item as it was written; true if this reading of the list has not brought it before.
pub type OnItem<'a> = dyn FnMut(&[u8]) -> Result<bool> + 'a;

/// What a page says besides its items.
#[derive(Debug, Default)]
pub(super) struct ListPage {
    /// How many items it has.
    pub(super) items: u64,
    /// The length of its body.
    pub(super) bytes: usize,
    pub(super) next: Option<String>,
    pub(super) has_next: Option<bool>,
    /// Of all items, not of the page; some lists have it.
    pub(super) count: Option<u64>,
    pub(super) server_date: Option<i64>,
}

impl From<token::Fault> for Fault {
    fn from(fault: token::Fault) -> Fault {
        Fault::untrusted(format!("the answer is not a list of PostHog ({fault})"))
    }
}

/// Reads a page.
pub(super) fn read(incoming: &mut Incoming<'_>, on_item: &mut OnItem<'_>) -> Result<ListPage, Fault> {
    let mut begin = Vec::new();
    let received = (&mut incoming.body).take(WHOLE_BYTES).read_to_end(&mut begin);
    received.map_err(|e| Fault::untrusted(e.to_string()))?;
    if incoming.body.is_ended() {
        Incoming::refuse_no_json(&begin)?;
        std::str::from_utf8(&begin).map_err(|_| Fault::untrusted("the answer is not UTF-8"))?;
        let mut scanner = Scanner::new(&begin);
        scanner.value()?;
        scanner.end()?;
    }
    let timer = incoming.timer;
    let mut values = Vec::new();
    let decoder = Decoder::new((&begin[..]).chain(&mut incoming.body), &mut values);
    // The time in which an item cannot be taken is not the server's.
    let on_item = &mut |item: &[u8]| {
        let begun = Instant::now();
        let outcome = on_item(item).map_err(Fault::Stopped);
        timer.was_held(begun);
        outcome.map(drop)
    };
    let page = Reader { decoder, on_item, page: ListPage::default() }.read()?;
    Ok(ListPage { bytes: incoming.body.length(), server_date: incoming.server_date, ..page })
}

struct Reader<'a, 'v, R> {
    decoder: Decoder<'v, R>,
    on_item: &'a mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    page: ListPage,
}

impl<R: Read> Reader<'_, '_, R> {
    fn read(mut self) -> Result<ListPage, Fault> {
        if self.decoder.peek()? == b'[' {
            self.items()?;
            self.decoder.end()?;
            return Ok(self.page);
        }
        let mut has_results = false;
        let mut more = self.decoder.open(b'{', b'}')?;
        while more {
            let name = self.decoder.text()?;
            self.decoder.expect(b':', "expected :")?;
            has_results |= name == "results";
            self.member(&name)?;
            more = self.decoder.more(b'}')?;
        }
        self.decoder.end()?;
        if has_results { Ok(self.page) } else { Err(Fault::untrusted("the answer is not a list of PostHog")) }
    }

    fn member(&mut self, name: &str) -> Result<(), Fault> {
        if name == "results" {
            return self.items();
        }
        let place = self.decoder.value()?;
        let value = self.decoder.values().get(place.start..place.end).unwrap_or_default();
        let text = String::from_utf8_lossy(value.get(..NEXT_BYTES).unwrap_or(value));
        match (name, place.token) {
            ("next", Token::Text(_)) if value.len() > NEXT_BYTES => {
                let length = value.len();
                return Err(Fault::untrusted(format!("the address of the next page has {length} bytes")));
            }
            ("next", Token::Text(_)) => self.page.next = Some(text.into_owned()),
            ("has_next", Token::True | Token::False) => self.page.has_next = Some(place.token == Token::True),
            ("count", Token::Number) => self.page.count = text.parse().ok(),
            _ => {}
        }
        self.decoder.forget(place.start);
        Ok(())
    }

    fn items(&mut self) -> Result<(), Fault> {
        let mut more = self.decoder.open(b'[', b']')?;
        while more {
            let place = self.decoder.value()?;
            (self.on_item)(self.decoder.values().get(place.start..place.end).unwrap_or_default())?;
            self.decoder.forget(place.start);
            self.page.items += 1;
            more = self.decoder.more(b']')?;
        }
        Ok(())
    }
}
