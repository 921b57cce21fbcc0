//! A JSON document that is taken apart inside its own buffer: values move to its front, their strings decoded.
//!
//! Decoding never makes a string longer, and what lies between values is never wanted again. So the values that were read
//! are packed from the start of the buffer on, and the free space behind them soon lets text move in whole blocks.

use super::blocks::{is_stop, next_stop, stops64};
use super::escape::escape;
use super::scan::{Escapes, Fault, Scan, Scanner, Token};

/// The bytes that are copied at once; a move must reach at least this far.
const BLOCK: usize = 16;

/// The bytes whose stops are looked for at once.
const WINDOW: usize = 64;

/// Where a value lies after it was read (of a string: the decoded text without quotes), and what it is.
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

/// A position in a document, valid UTF-8, that is read once from its start to its end.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    at: usize,
    /// The values read so far lie before this byte.
    packed: usize,
}

impl Decoder {
    /// A decoder at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Decoder { bytes, at: 0, packed: 0 }
    }

    /// The buffer, cut behind the last value that was read.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.packed);
        self.bytes
    }

    /// The bytes of a value that was read.
    #[must_use]
    pub fn bytes(&self, place: Place) -> &[u8] {
        self.bytes.get(place.start..place.end).unwrap_or_default()
    }

    /// Takes a step over what is no value: punctuation, or something that is not wanted.
    ///
    /// # Errors
    /// Those of the step.
    #[inline]
    pub fn step<T>(&mut self, step: impl FnOnce(&mut Scanner<'_>) -> Scan<T>) -> Scan<T> {
        let mut scanner = Scanner::new(&self.bytes);
        scanner.jump(self.at);
        let result = step(&mut scanner);
        self.at = scanner.at();
        result
    }

    /// Reads a value.
    ///
    /// # Errors
    /// When no well-formed value stands there.
    #[inline]
    pub fn value(&mut self) -> Scan<Place> {
        let mut scanner = Scanner::new(&self.bytes);
        scanner.jump(self.at);
        if scanner.peek() == b'"' {
            self.at = scanner.at() + 1;
            return self.string();
        }
        let from = scanner.at();
        let token = scanner.value()?;
        self.at = scanner.at();
        let start = self.packed;
        if matches!(token, Token::Number | Token::Nested) {
            self.packed = move_down(&mut self.bytes, from, start, self.at - from);
        }
        Ok(Place { start, end: self.packed, token })
    }

    /// Reads a string as an owned value.
    ///
    /// # Errors
    /// When no well-formed string stands there.
    pub fn text(&mut self) -> Scan<String> {
        let place = self.value()?;
        match place.token {
            Token::Text(_) => Ok(String::from_utf8_lossy(self.bytes(place)).into_owned()),
            _ => Err(self.fault("expected a string")),
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at, what }
    }

    /// Reads the string whose text starts here.
    #[inline]
    fn string(&mut self) -> Scan<Place> {
        let start = self.packed;
        let stop = next_stop(&self.bytes, self.at);
        let mut end = move_down(&mut self.bytes, self.at, start, stop - self.at);
        self.at = stop;
        let mut escapes = Escapes::None;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => end = self.escape(end, &mut escapes)?,
                Some(_) => return Err(self.fault("control character in a string")),
                None => return Err(self.fault("the text ends inside a string")),
            }
            end = self.run(end, &mut escapes);
        }
        self.at += 1;
        self.packed = end;
        Ok(Place { start, end, token: Token::Text(escapes) })
    }

    /// Decodes the escape that stands here to `to`; gives the end of what it wrote. Half of a surrogate pair becomes
    /// U+FFFD: there is no such character.
    fn escape(&mut self, to: usize, escapes: &mut Escapes) -> Scan<usize> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (character, length) = escape(rest).ok_or(self.fault("bad escape in a string"))?;
        let mut encoded = [0; 4];
        let text = character.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut encoded).as_bytes();
        if text.iter().any(|byte| is_stop(*byte)) {
            *escapes = Escapes::Some;
        }
        if let Some(target) = self.bytes.get_mut(to..to + text.len()) {
            target.copy_from_slice(text);
        }
        self.at += length;
        Ok(to + text.len())
    }

    /// Moves what follows down to `to`: ordinary bytes, and the escapes `\"` and `\\` that JSON inside a string is full of.
    /// Ends at any other stop; gives the end of what it wrote.
    fn run(&mut self, mut to: usize, escapes: &mut Escapes) -> usize {
        let (bytes, mut at) = (self.bytes.as_mut_slice(), self.at);
        // Whole blocks are read up to one block behind the window.
        while let Some(window) = bytes.get(at..).and_then(|rest| rest.first_chunk::<{ WINDOW + BLOCK }>())
            && at >= to + BLOCK
            && let Some(window) = window.first_chunk::<WINDOW>()
        {
            let mut stops = stops64(window);
            let end = at + WINDOW;
            while stops != 0 {
                let stop = end - WINDOW + stops.trailing_zeros() as usize;
                to = move_blocks(bytes, at, to, stop - at);
                at = stop;
                let Some([b'\\', escaped @ (b'"' | b'\\')]) = bytes.get(at..).and_then(|b| b.first_chunk().copied())
                else {
                    self.at = at;
                    return to;
                };
                *escapes = Escapes::Some;
                to = write_byte(bytes, to, escaped);
                at += 2;
                // The escaped byte is a stop, too, unless it lies behind the window.
                stops &= stops - 1;
                if at <= end {
                    stops &= stops - 1;
                }
            }
            if at < end {
                to = move_blocks(bytes, at, to, end - at);
                at = end;
            }
        }
        // Near the start and the end of the document: byte by byte, as far as blocks can not be copied.
        while let Some(&byte) = bytes.get(at).filter(|byte| !is_stop(**byte)) {
            to = write_byte(bytes, to, byte);
            at += 1;
        }
        self.at = at;
        to
    }
}

/// Moves `length` bytes at `from` down by at least a block, in whole blocks; gives the end of what it wrote.
#[inline(always)]
fn move_blocks(bytes: &mut [u8], from: usize, to: usize, length: usize) -> usize {
    let mut moved = 0;
    while moved < length {
        let block = bytes.get(from + moved..).and_then(|rest| rest.first_chunk::<BLOCK>()).copied();
        let target = bytes.get_mut(to + moved..).and_then(|rest| rest.first_chunk_mut::<BLOCK>());
        let (Some(block), Some(target)) = (block, target) else { break };
        *target = block;
        moved += BLOCK;
    }
    to + length
}

/// Moves `length` bytes at `from` down to `to`; gives the end of what it wrote. Blocks are copied whole where what they
/// spill over is free; the bytes behind the moved ones stay as they are.
#[inline]
fn move_down(bytes: &mut [u8], from: usize, to: usize, length: usize) -> usize {
    if from >= to + BLOCK && from + length + BLOCK <= bytes.len() {
        return move_blocks(bytes, from, to, length);
    }
    bytes.copy_within(from..from + length, to);
    to + length
}

#[inline]
fn write_byte(bytes: &mut [u8], to: usize, byte: u8) -> usize {
    if let Some(target) = bytes.get_mut(to) {
        *target = byte;
    }
    to + 1
}
