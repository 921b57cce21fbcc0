//! One answer of the query endpoint: its body scanned once, while it arrives, its strings decoded on the way.
//!
//! A [`Page`] is one buffer of decoded cells and the places where they end: a `properties` cell *is* the JSON document that
//! PostHog stored, ready to be copied out. The body is not believed before it was read to its end: shape, columns, width of
//! every row, `error` and `is_cached` are checked (keys may come in any order). This module refuses to guess: what does not
//! fit is an error with its place.

use std::io::Read;

use crate::json::decode::{Decoder, Place};
use crate::json::token::{Escapes, Token};
use crate::log::without_secrets;

/// Most characters of a server's text in a message.
const SHOWN_CHARS: usize = 300;

/// One cell of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// `null`.
    Null,
    /// A string, decoded; valid UTF-8. `plain` means that it needs no escaping when it is written as JSON again.
    Text {
        /// The decoded bytes.
        text: &'a [u8],
        /// True if the text holds neither quotes, backslashes nor control characters.
        plain: bool,
    },
    /// A number, as it was written.
    Number(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// An array or object, as it was written.
    Json(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// The text of a string cell.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Cell::Text { text, .. } => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The value of a cell that holds a whole number from 0 to 2^64 - 1.
    pub fn u64(self) -> Option<u64> {
        match self {
            Cell::Number(digits) => digits.iter().try_fold(0u64, |value, b| {
                value.checked_mul(10)?.checked_add(u64::from(b.is_ascii_digit().then(|| b - b'0')?))
            }),
            _ => None,
        }
    }

    /// The value of a cell that counts rows. None beyond what any table can hold: counts are added, and must not overflow.
    pub fn count(self) -> Option<u64> {
        const MOST: u64 = 1 << 48;
        self.u64().filter(|count| *count <= MOST)
    }
}

/// Where a cell ends in the buffer, and what it is; it starts where the one before it ends. Values above 4 GiB are refused.
#[derive(Clone, Copy, Debug)]
struct CellEnd {
    end: u32,
    token: Token,
}

/// An answer whose shape was checked.
#[derive(Debug)]
pub struct Page {
    values: Vec<u8>,
    body_bytes: usize,
    timezone: Option<String>,
    ends: Vec<CellEnd>,
    width: usize,
}

impl Page {
    /// Reads a whole body that lies in memory. `columns` are the names that were asked for, in order.
    ///
    /// # Errors
    /// What is wrong with the body, and at which byte: it is to be asked for again, not believed.
    pub fn parse<S: AsRef<str>>(body: &[u8], columns: &[S]) -> Result<Page, String> {
        Page::read(body, Vec::with_capacity(body.len()), columns, |_| Ok(()))
    }

    /// Reads a body while it arrives. Cells are kept in `buffer`, whose content is written over. `on_row` sees each row once
    /// its cells were read, before the rest of the body is known.
    ///
    /// # Errors
    /// As [`Page::parse`], and what `on_row` returns.
    pub fn read<S: AsRef<str>>(
        source: impl Read,
        mut buffer: Vec<u8>,
        columns: &[S],
        on_row: impl FnMut(&Row<'_>) -> Result<(), String>,
    ) -> Result<Page, String> {
        let width = columns.len();
        let mut reader = Reader { decoder: Decoder::new(source, &mut buffer), ends: Vec::new(), width, on_row };
        let found = reader.answer()?;
        let Some(named) = found.columns else { return Err("the answer has no `columns`".to_owned()) };
        if !named.iter().map(String::as_str).eq(columns.iter().map(AsRef::as_ref)) {
            return Err(format!("the answer has the columns {}", cut(&format!("{named:?}"))));
        }
        if !found.results {
            return Err("the answer has no `results`".to_owned());
        }
        let (body_bytes, ends) = (reader.decoder.offset(), reader.ends);
        reader.decoder.close();
        Ok(Page { values: buffer, body_bytes, timezone: found.timezone, ends, width })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.width).unwrap_or(0)
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes the body had.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The project's time zone, where the answer names it.
    pub fn timezone(&self) -> Option<&str> {
        self.timezone.as_deref()
    }

    /// The row number `row`, counted from zero; empty when there is none.
    pub fn row(&self, row: usize) -> Row<'_> {
        Row::of(&self.values, &self.ends, row * self.width, self.width)
    }

    /// All rows in order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// The buffer, to be used for the next body.
    pub fn into_buffer(self) -> Vec<u8> {
        self.values
    }
}

/// A row of a page.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    values: &'a [u8],
    /// Where its first cell starts.
    start: u32,
    ends: &'a [CellEnd],
}

impl<'a> Row<'a> {
    fn of(values: &'a [u8], ends: &'a [CellEnd], first: usize, width: usize) -> Row<'a> {
        let start = first.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |before| before.end);
        Row { values, start, ends: ends.get(first..first + width).unwrap_or(&[]) }
    }

    /// The cell in column `column`, counted from zero; [`Cell::Null`] when there is none.
    pub fn cell(&self, column: usize) -> Cell<'a> {
        let Some(cell) = self.ends.get(column) else { return Cell::Null };
        let before = column.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.map_or(self.start, |before| before.end);
        let bytes = self.values.get(start as usize..cell.end as usize).unwrap_or(&[]);
        match cell.token {
            Token::Null => Cell::Null,
            Token::True => Cell::Bool(true),
            Token::False => Cell::Bool(false),
            Token::Number => Cell::Number(bytes),
            Token::Text(escapes) => Cell::Text { text: bytes, plain: escapes == Escapes::None },
            Token::Nested => Cell::Json(bytes),
        }
    }

    /// The decoded text in `column`, where it is a string.
    pub fn text(&self, column: usize) -> Option<&'a str> {
        self.cell(column).text()
    }
}

struct Reader<'v, R, F> {
    decoder: Decoder<'v, R>,
    ends: Vec<CellEnd>,
    width: usize,
    on_row: F,
}

#[derive(Default)]
struct Found {
    columns: Option<Vec<String>>,
    results: bool,
    timezone: Option<String>,
}

impl<R: Read, F: FnMut(&Row<'_>) -> Result<(), String>> Reader<'_, R, F> {
    fn answer(&mut self) -> Result<Found, String> {
        let mut found = Found::default();
        let mut more = self.decoder.open(b'{', b'}')?;
        while more {
            let key = self.decoder.text()?;
            self.decoder.expect(b':', "expected :")?;
            self.member(&key, &mut found)?;
            more = self.decoder.more(b'}')?;
        }
        self.decoder.end()?;
        Ok(found)
    }

    fn member(&mut self, key: &str, found: &mut Found) -> Result<(), String> {
        match key {
            "results" => {
                self.ends.clear();
                self.decoder.forget(0);
                self.results()?;
                found.results = true;
            }
            "columns" => found.columns = Some(self.names()?),
            "error" => {
                let place = self.decoder.value()?;
                if place.token != Token::Null {
                    return Err(format!("the answer carries an error: {}", cut(&self.shown(place))));
                }
            }
            "timezone" => {
                let place = self.decoder.value()?;
                found.timezone = matches!(place.token, Token::Text(_)).then(|| self.shown(place));
                self.decoder.forget(place.start);
            }
            "is_cached" => {
                if self.decoder.value()?.token == Token::True {
                    return Err("the answer comes from a cache although a fresh one was asked for".to_owned());
                }
            }
            _ => self.decoder.skip()?,
        }
        Ok(())
    }

    fn shown(&self, place: Place) -> String {
        String::from_utf8_lossy(self.decoder.values().get(place.start..place.end).unwrap_or(&[])).into_owned()
    }

    fn names(&mut self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut more = self.decoder.open(b'[', b']')?;
        while more {
            names.push(self.decoder.text()?);
            more = self.decoder.more(b']')?;
        }
        Ok(names)
    }

    fn results(&mut self) -> Result<(), String> {
        let mut more = self.decoder.open(b'[', b']')?;
        while more {
            self.row()?;
            more = self.decoder.more(b']')?;
        }
        Ok(())
    }

    fn row(&mut self) -> Result<(), String> {
        let first = self.ends.len();
        let mut more = self.decoder.open(b'[', b']')?;
        while more {
            let place = self.decoder.value()?;
            let end = u32::try_from(place.end).map_err(|_| "the answer is larger than 4 GiB")?;
            self.ends.push(CellEnd { end, token: place.token });
            more = self.decoder.more(b']')?;
        }
        let width = self.ends.len() - first;
        if width != self.width {
            return Err(format!("a row has {width} cells instead of {}", self.width));
        }
        (self.on_row)(&Row::of(self.decoder.values(), &self.ends, first, width))
    }
}

/// The beginning of a server's text. Secrets go first: half of one would not be known again.
fn cut(text: &str) -> String {
    without_secrets(text).chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
