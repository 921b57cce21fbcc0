//! The form of a long value, in little memory: the same bytes as [`canonical`] appends, given out piece by
//! piece.
//!
//! A container says how long it is before its content comes, so a value is looked at twice: first the long containers in it
//! are measured, then the form is written. Short ones are made as a whole. Of the members of a long object only their places
//! are kept, four bytes each. The time is linear in the length, however deep the value nests.

use std::borrow::Cow;

use super::form::canonical;
use crate::json::escape::{plain, unescape};
use crate::json::scan::Scanner;
use crate::json::token::{Escapes, Scan};
use crate::json::walker::{items, members};

/// Containers of fewer bytes are short.
const SHORT: usize = 1 << 10;

/// A long container of the value.
#[derive(Debug)]
struct Long {
    start: usize,
    end: usize,
    /// The length of its form without its head.
    length: u64,
}

/// A long value, measured.
#[derive(Debug)]
pub struct LongForm<'a> {
    text: &'a [u8],
    /// In the order of their starts.
    long: Vec<Long>,
    scratch: Vec<u8>,
}

impl<'a> LongForm<'a> {
    /// Measures `text`, a well-formed value.
    pub fn new(text: &'a [u8]) -> Self {
        let mut long = LongForm { text, long: Vec::new(), scratch: Vec::new() };
        let measured = long.measure(&mut Scanner::new(text));
        debug_assert!(measured.is_ok(), "the line was checked");
        long
    }

    /// A scanner at `place`.
    pub fn at(&self, place: u32) -> Scanner<'a> {
        let mut scanner = Scanner::new(self.text);
        scanner.jump(place as usize);
        scanner
    }

    /// The length of the form of the value at `scanner`, with its head.
    fn measure(&mut self, scanner: &mut Scanner<'a>) -> Scan<u64> {
        let first = scanner.peek();
        let start = scanner.at();
        if !matches!(first, b'{' | b'[') {
            scanner.value()?;
            return Ok(self.short(scanner.since(start)));
        }
        let (index, mut length) = (self.long.len(), 0);
        self.long.push(Long { start, end: 0, length: 0 });
        if first == b'{' {
            members(scanner, |name, scanner| {
                length += HEAD + name.len() as u64 + self.measure(scanner)?;
                Ok(())
            })?;
        } else {
            items(scanner, |scanner| {
                length += self.measure(scanner)?;
                Ok(())
            })?;
        }
        let end = scanner.at();
        match self.long.get_mut(index).filter(|_| end - start >= SHORT) {
            Some(long) => *long = Long { start, end, length },
            // What lies in it is shorter still.
            None => self.long.truncate(index),
        }
        Ok(HEAD + length)
    }

    /// The length of the form of a value that is no container, or a short one.
    fn short(&mut self, value: &[u8]) -> u64 {
        self.scratch.clear();
        match value.first() {
            Some(b'"') => {
                let text = Scanner::new(value).string().ok();
                match text.filter(|text| text.escapes != Escapes::LoneSurrogate) {
                    Some(text) if !text.is_escaped() => return HEAD + text.raw.len() as u64,
                    Some(text) => drop(unescape(text, &mut self.scratch)),
                    None => return HEAD + value.len() as u64,
                }
            }
            _ => return HEAD + value.len() as u64,
        }
        HEAD + self.scratch.len() as u64
    }

    /// The long container that starts at `at`.
    fn long_at(&self, at: usize) -> Option<&Long> {
        let index = self.long.binary_search_by_key(&at, |long| long.start).ok()?;
        self.long.get(index)
    }

    /// Steps over a value.
    fn step(&self, scanner: &mut Scanner<'a>) -> Scan<()> {
        scanner.peek();
        match self.long_at(scanner.at()) {
            Some(long) => scanner.jump(long.end),
            None => drop(scanner.value()?),
        }
        Ok(())
    }

    /// Gives the form of the value at `scanner` to `out`, and steps over the value.
    pub fn write(&self, scanner: &mut Scanner<'a>, out: &mut dyn FnMut(&[u8])) -> Scan<()> {
        let first = scanner.peek();
        let Some(long) = self.long_at(scanner.at()) else { return short_form(scanner, out) };
        out(&head(first, long.length));
        if first == b'[' {
            return items(scanner, |scanner| self.write(scanner, out));
        }
        for place in self.sorted(scanner)? {
            let mut scanner = self.at(place);
            let name = plain(scanner.key()?);
            out(&head(b'"', name.len() as u64));
            out(&name);
            self.write(&mut scanner, out)?;
        }
        Ok(())
    }

    /// The places of the members of the object at `scanner`, in the order of their names.
    fn sorted(&self, scanner: &mut Scanner<'a>) -> Scan<Vec<u32>> {
        let mut places = Vec::new();
        self.places(scanner, |place| places.push(place))?;
        // Of equal names the first one comes first.
        places.sort_unstable_by(|a, b| self.name(*a).cmp(&self.name(*b)).then(a.cmp(b)));
        Ok(places)
    }

    /// The name of the member at `place`.
    pub fn name(&self, place: u32) -> Cow<'a, [u8]> {
        self.at(place).key().map(plain).unwrap_or_default()
    }

    /// Calls `each` with the place of each member of the object at `scanner`, which it steps over.
    pub fn places(&self, scanner: &mut Scanner<'a>, mut each: impl FnMut(u32)) -> Scan<()> {
        scanner.expect(b'{', "expected an object")?;
        let mut goes_on = !scanner.take(b'}');
        while goes_on {
            scanner.peek();
            // A line is far below 4 GB.
            each(u32::try_from(scanner.at()).unwrap_or(u32::MAX));
            scanner.key()?;
            self.step(scanner)?;
            goes_on = scanner.more(b'}')?;
        }
        Ok(())
    }
}

/// The bytes of a kind and a length.
const HEAD: u64 = 5;

fn head(kind: u8, length: u64) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [kind, a, b, c, d]
}

fn short_form(scanner: &mut Scanner<'_>, out: &mut dyn FnMut(&[u8])) -> Scan<()> {
    let value = scanner.next_text()?;
    let plain = Scanner::new(value).string().ok().filter(|text| !text.is_escaped());
    match (value.first(), plain) {
        // A long string is not copied.
        (Some(b'"'), Some(text)) => {
            out(&head(b'"', text.raw.len() as u64));
            out(text.raw);
        }
        _ => {
            let mut whole = Vec::new();
            canonical(value, &mut whole);
            out(&whole);
        }
    }
    Ok(())
}
