//! A JSON document that is read while it arrives: a window of its text at a time, values decoded into one buffer.
//!
//! The window is small enough to stay in the processor's cache, so the text is touched once: it is checked for UTF-8, its
//! grammar is checked, and its strings lose their escapes on the way into the buffer, where values lie behind one another.

use std::io::Read;

use super::blocks::{is_stop, next_stop};
use super::escape::escape;
use super::stride::{REACH, stride_into};
use super::token::{Escapes, Fault, Scan, Token};
use super::walk;

/// The text that is looked at between two reads; a value that has to be seen whole makes the window grow.
const WINDOW_BYTES: usize = 64 * 1024;
/// The longest escape: a surrogate pair.
const ESCAPE_BYTES: usize = 12;
/// The buffer grows in steps of this size once it is as large, so that it never has to be twice as large as its values.
const STEP_BYTES: usize = 1024 * 1024;

/// Where a value lies in the buffer after it was read (of a string: the decoded text without quotes), and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last one.
    pub end: usize,
    /// What it is. [`Token::Text`] says what the string would need when it is written again: [`Escapes::None`] when it
    /// holds nothing that must be escaped, else [`Escapes::Some`].
    pub token: Token,
}

/// A position in a document that is read once from its start to its end. Faults tell the offset in the document.
#[derive(Debug)]
pub struct Decoder<'v, R> {
    source: R,
    /// `window[at..end]` is text that was not read yet: whole characters. Up to `filled` more bytes came.
    window: Vec<u8>,
    at: usize,
    end: usize,
    filled: usize,
    /// Bytes of the document that came before the window.
    before: usize,
    is_over: bool,
    values: &'v mut Vec<u8>,
    /// The values end here; what lies behind is room.
    values_end: usize,
}

impl<'v, R: Read> Decoder<'v, R> {
    /// A decoder at the start of what `source` gives. What `values` holds is written over.
    pub fn new(source: R, values: &'v mut Vec<u8>) -> Self {
        let window = vec![0; WINDOW_BYTES + REACH];
        Decoder { source, window, at: 0, end: 0, filled: 0, before: 0, is_over: false, values, values_end: 0 }
    }

    /// The values that were read.
    pub fn values(&self) -> &[u8] {
        self.values.get(..self.values_end).unwrap_or_default()
    }

    /// Forgets the values that lie at `end` and behind.
    pub fn forget(&mut self, end: usize) {
        self.values_end = self.values_end.min(end);
    }

    /// Bytes of the document that were read.
    pub fn offset(&self) -> usize {
        self.before + self.at
    }

    /// Ends the reading: the buffer holds the values and nothing else.
    pub fn close(self) {
        self.values.truncate(self.values_end);
    }

    /// The next byte that is not white space, without stepping over it; 0 at the end.
    #[inline]
    pub fn peek(&mut self) -> Scan<u8> {
        loop {
            let text = self.window.get(..self.end).unwrap_or_default();
            let (at, byte) = walk::space(text, self.at);
            self.at = at;
            if at < self.end || !self.fill()? {
                return Ok(byte);
            }
        }
    }

    /// Steps over `byte` if it is the next one after white space.
    #[inline]
    pub fn take(&mut self, byte: u8) -> Scan<bool> {
        let found = self.peek()? == byte && self.at < self.end;
        self.at += usize::from(found);
        Ok(found)
    }

    /// Steps over `byte`, which must be the next one after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8, what: &'static str) -> Scan<()> {
        if self.take(byte)? { Ok(()) } else { self.fault(what) }
    }

    /// Steps over the start of an array or object; true unless it is empty, and over.
    #[inline]
    pub fn open(&mut self, open: u8, close: u8) -> Scan<bool> {
        self.expect(open, "expected an array or object")?;
        Ok(!self.take(close)?)
    }

    /// Behind a member: true when another one follows, false when `close` ends its container.
    #[inline(always)]
    pub fn more(&mut self, close: u8) -> Scan<bool> {
        if self.window.get(..self.end).and_then(|text| text.get(self.at)) == Some(&b',') {
            self.at += 1;
            return Ok(true);
        }
        self.more_slowly(close)
    }

    #[inline(never)]
    fn more_slowly(&mut self, close: u8) -> Scan<bool> {
        let what = "expected , or the end of an array or object";
        if self.take(b',')? { Ok(true) } else { self.expect(close, what).map(|()| false) }
    }

    /// Only white space may follow, up to the end of the source.
    pub fn end(&mut self) -> Scan<()> {
        self.peek()?;
        if self.at == self.end { Ok(()) } else { self.fault("expected the end") }
    }

    /// Reads a value into the buffer.
    #[inline]
    pub fn value(&mut self) -> Scan<Place> {
        // Most cells that are no strings.
        let text = self.window.get(self.at..self.end).unwrap_or_default();
        if text.first_chunk() == Some(b"null") {
            self.at += 4;
            return Ok(Place { start: self.values_end, end: self.values_end, token: Token::Null });
        }
        if text.first() == Some(&b'"') || self.peek()? == b'"' {
            self.at += 1;
            return self.string();
        }
        self.other_value()
    }

    /// Reads a value that is no string into the buffer.
    #[inline(never)]
    fn other_value(&mut self) -> Scan<Place> {
        let start = self.values_end;
        if matches!(self.peek()?, b'{' | b'[') {
            self.nested()?;
            return Ok(Place { start, end: self.values_end, token: Token::Nested });
        }
        let (to, token) = self.whole()?;
        if token == Token::Number {
            self.keep(to);
        }
        self.at = to;
        Ok(Place { start, end: self.values_end, token })
    }

    /// Reads the array or object that starts here into the buffer, as it was written: its end is found while it arrives, and
    /// its grammar is checked there.
    fn nested(&mut self) -> Scan<()> {
        let (start, before) = (self.values_end, self.offset());
        let mut brackets = Brackets::default();
        loop {
            let end = brackets.end(self.window.get(self.at..self.end).unwrap_or_default());
            let to = end.map_or(self.end, |length| self.at + length);
            self.keep(to);
            self.at = to;
            if end.is_some() || !self.fill()? {
                break;
            }
        }
        let text = self.values.get(start..self.values_end).unwrap_or_default();
        let first = text.first().copied().unwrap_or(0);
        // Where a bracket is missing, too, the walk says so.
        walk::value(text, 0, first).map(drop).map_err(|fault| Fault { at: before + fault.at, ..fault })
    }

    /// Copies the text up to `to` into the buffer.
    fn keep(&mut self, to: usize) {
        let text = self.window.get(self.at..to).unwrap_or_default();
        let end = self.values_end + text.len();
        if self.values.len() < end {
            let length = end + end.min(STEP_BYTES);
            self.values.reserve_exact(length.saturating_sub(self.values.len()));
            self.values.resize(length, 0);
        }
        if let Some(target) = self.values.get_mut(self.values_end..end) {
            target.copy_from_slice(text);
        }
        self.values_end = end;
    }

    /// Reads a value and forgets it.
    pub fn skip(&mut self) -> Scan<()> {
        let start = self.value()?.start;
        self.forget(start);
        Ok(())
    }

    /// Reads a string as an owned value.
    pub fn text(&mut self) -> Scan<String> {
        let place = self.value()?;
        if !matches!(place.token, Token::Text(_)) {
            return self.fault("expected a string");
        }
        let text = String::from_utf8_lossy(self.values.get(place.start..place.end).unwrap_or_default()).into_owned();
        self.forget(place.start);
        Ok(text)
    }

    fn fault<T>(&self, what: &'static str) -> Scan<T> {
        Err(Fault { at: self.offset(), what })
    }

    /// Where the value that starts here ends, once the window holds all of it.
    fn whole(&mut self) -> Scan<(usize, Token)> {
        loop {
            let text = self.window.get(..self.end).unwrap_or_default();
            let found = walk::value(text, self.at, text.get(self.at).copied().unwrap_or(0));
            let may_go_on = match &found {
                Ok((to, token)) => *token == Token::Number && *to == self.end,
                Err(fault) => fault.at + ESCAPE_BYTES > self.end,
            };
            if !may_go_on || self.is_over {
                return found.map_err(|fault| Fault { at: self.before + fault.at, ..fault });
            }
            // Twice as much before the next look, so that a long number is not looked at again and again.
            let twice = (self.end - self.at) * 2;
            while self.fill()? && self.end < twice {}
        }
    }

    /// Reads the string whose text starts here.
    fn string(&mut self) -> Scan<Place> {
        let start = self.values_end;
        let mut escapes = Escapes::None;
        loop {
            self.make_room();
            self.run(&mut escapes);
            let left = self.end - self.at;
            match self.window.get(self.at).copied().filter(|_| left > 0) {
                Some(b'"') => break,
                // An escape is looked at whole.
                Some(b'\\') if left >= ESCAPE_BYTES || !self.fill()? => self.escape(&mut escapes)?,
                Some(byte) if byte < 0x20 => return self.fault("control character in a string"),
                Some(_) => {}
                None if self.fill()? => {}
                None => return self.fault("the text ends inside a string"),
            }
        }
        self.at += 1;
        Ok(Place { start, end: self.values_end, token: Token::Text(escapes) })
    }

    /// Copies what follows, and the escapes `\"` and `\\` that JSON inside a string is full of, without their
    /// backslash. Ends at any other stop, at the end of the window, and where there is no room left.
    fn run(&mut self, escapes: &mut Escapes) {
        let (mut at, mut to) = (self.at, self.values_end);
        while at < self.end
            && let Some(input) = self.window.get(at..).and_then(|rest| rest.first_chunk::<REACH>())
            && let Some(output) = self.values.get_mut(to..).and_then(|rest| rest.first_chunk_mut::<REACH>())
        {
            let (read, written, is_stopped) = stride_into(input, self.end - at, output, escapes);
            (at, to) = (at + read, to + written);
            if is_stopped {
                break;
            }
        }
        (self.at, self.values_end) = (at, to);
    }

    /// Decodes the escape that stands here. Half of a surrogate pair becomes U+FFFD: there is no such character.
    fn escape(&mut self, escapes: &mut Escapes) -> Scan<()> {
        let rest = self.window.get(self.at..self.end).unwrap_or_default();
        let Some((character, length)) = escape(rest) else { return self.fault("bad escape in a string") };
        let mut encoded = [0; 4];
        let text = character.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut encoded).as_bytes();
        if text.iter().any(|byte| is_stop(*byte)) {
            *escapes = Escapes::Some;
        }
        let end = self.values_end + text.len();
        if let Some(target) = self.values.get_mut(self.values_end..end) {
            target.copy_from_slice(text);
        }
        (self.at, self.values_end) = (self.at + length, end);
        Ok(())
    }

    /// Room for at least one stride of a string.
    #[inline]
    fn make_room(&mut self) {
        if self.values.len() < self.values_end + REACH {
            let length = self.values_end + self.values_end.clamp(WINDOW_BYTES, STEP_BYTES);
            self.values.reserve_exact(length.saturating_sub(self.values.len()));
            self.values.resize(length, 0);
        }
    }

    /// Reads more text behind what was not read yet. False at the end.
    #[cold]
    fn fill(&mut self) -> Scan<bool> {
        self.window.copy_within(self.at..self.filled, 0);
        self.before += self.at;
        (self.end, self.filled) = (self.end - self.at, self.filled - self.at);
        self.at = 0;
        if self.filled * 2 > self.window.len() {
            self.window.resize(self.window.len() * 2, 0);
        }
        let known = self.end;
        while self.end == known && !self.is_over {
            let room = self.window.len().saturating_sub(REACH);
            let Some(Ok(count)) = self.window.get_mut(self.filled..room).map(|room| self.source.read(room)) else {
                return self.fault("the text cannot be read on");
            };
            self.filled += count;
            self.is_over = count == 0;
            let Some(whole) = self.window.get(self.end..self.filled).and_then(whole_characters) else {
                return self.fault("text that is not UTF-8");
            };
            self.end += whole;
        }
        // What lies behind the end is no part of an escape: this, or the start of a character of several bytes.
        if let Some(behind) = self.window.get_mut(self.filled) {
            *behind = 0;
        }
        if self.is_over && self.end < self.filled { self.fault("text that is not UTF-8") } else { Ok(self.end > known) }
    }
}

/// The brackets of an array or object that are open so far.
#[derive(Default)]
struct Brackets {
    open: u64,
    is_in_text: bool,
    is_escaped: bool,
}

impl Brackets {
    /// Where the array or object ends in the next part of its text, if it does.
    fn end(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            at += 1;
            match byte {
                _ if std::mem::take(&mut self.is_escaped) => {}
                b'\\' => self.is_escaped = self.is_in_text,
                b'"' => self.is_in_text = !self.is_in_text,
                _ if self.is_in_text => at = next_stop(text, at),
                b'{' | b'[' => self.open += 1,
                b'}' | b']' => {
                    self.open -= 1;
                    if self.open == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// How many bytes of `text` are whole characters: all but the start of one at its end. None when it is no UTF-8.
fn whole_characters(text: &[u8]) -> Option<usize> {
    let begun = (1..4).find_map(|back| {
        let byte = text.get(text.len().checked_sub(back)?)?;
        let length = match byte {
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            0x80..0xc0 => return None,
            _ => 1,
        };
        Some(if length > back { back } else { 0 })
    });
    let (whole, _) = text.split_at_checked(text.len() - begun.unwrap_or(0))?;
    simdutf8::basic::from_utf8(whole).is_ok().then_some(whole.len())
}

#[cfg(test)]
mod tests;
