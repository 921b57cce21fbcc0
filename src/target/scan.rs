//! The JSON scanner of the record path: one pass over the bytes of a line, no tree, no copy.
//!
//! Every byte that it steps over is checked (grammar of strings, escapes, numbers, structure, depth), so text that is
//! taken from a line as it stands is valid JSON. It refuses what RFC 8259 refuses, and nesting deeper than
//! [`MAX_DEPTH`]. It does not look at UTF-8: a line is checked for that before.

/// How deep values may nest. One bit per level is kept on the stack, so this is also what the bit stack holds.
pub const MAX_DEPTH: u32 = 128;

/// What is wrong with a line, and where: byte offset and a fixed text, so that record data never gets into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the line.
    pub at: usize,
    /// What was expected there.
    pub what: &'static str,
}

type Scan<T> = Result<T, Fault>;

/// A string as it stands in the line, without its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The bytes between the quotes.
    pub raw: &'a [u8],
    /// True if there is a backslash in it.
    pub escaped: bool,
}

/// A position in a line.
#[derive(Clone, Copy, Debug)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bits set at bytes that are `"`, `\` or a control character. The lowest set bit is exact; those above it may be
/// echoes of the subtraction's borrow.
fn string_stops(x: u64) -> u64 {
    let quote = x ^ (ONES * 0x22);
    let backslash = x ^ (ONES * 0x5c);
    let hits = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (x.wrapping_sub(ONES * 0x20) & !x);
    hits & HIGHS
}

/// Sixteen bytes as two words.
#[inline]
fn halves(block: [u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(block);
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    let low = both as u64;
    [low, (both >> 64) as u64]
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of `text`.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Scanner { text, at: 0 }
    }

    /// The offset of the next byte.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Moves to the absolute offset `at`.
    pub fn jump(&mut self, at: usize) {
        self.at = at;
    }

    /// The bytes from offset `from` up to here.
    #[must_use]
    pub fn since(&self, from: usize) -> &'a [u8] {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Steps over `literal` if it comes next.
    #[inline]
    pub fn eat(&mut self, literal: &[u8]) -> bool {
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(literal));
        if found {
            self.at += literal.len();
        }
        found
    }

    /// The next byte that is not white space, without stepping over it. 0 at the end of the line.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Steps over `byte`, which must be the next one after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8, what: &'static str) -> Scan<()> {
        if self.peek() == byte && self.at < self.text.len() {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault(what))
        }
    }

    /// Only white space may follow.
    pub fn end(&mut self) -> Scan<()> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault("expected the end of the line")) }
    }

    /// The fault `what` at this place.
    #[must_use]
    pub fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at, what }
    }

    /// Steps over a string.
    #[inline]
    pub fn string(&mut self) -> Scan<Text<'a>> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = self.string_stop();
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    let raw = self.text.get(start..self.at - 1).unwrap_or_default();
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault("control character in a string")),
                None => return Err(self.fault("the line ends inside a string")),
            }
        }
    }

    /// Steps over the string that starts here, if there is no escape in it and nothing wrong with it.
    #[inline]
    fn plain_string(&mut self) -> bool {
        let before = self.at;
        self.at += 1;
        let stop = self.string_stop();
        let plain = self.text.get(stop) == Some(&b'"');
        self.at = if plain { stop + 1 } else { before };
        plain
    }

    /// Steps over a member's name and the colon.
    #[inline]
    fn skip_key(&mut self) -> Scan<()> {
        if !(self.peek() == b'"' && self.plain_string()) {
            self.string()?;
        }
        self.expect(b':', "expected :")
    }

    #[inline]
    fn string_stop(&self) -> usize {
        let mut at = self.at;
        while let Some(block) = self.text.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            let [low, high] = halves(*block).map(string_stops);
            if low != 0 {
                return at + (low.trailing_zeros() / 8) as usize;
            }
            if high != 0 {
                return at + 8 + (high.trailing_zeros() / 8) as usize;
            }
            at += 16;
        }
        while let Some(&byte) = self.text.get(at) {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                break;
            }
            at += 1;
        }
        at
    }

    fn escape(&mut self) -> Scan<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.fault("bad \\u escape in a string"));
                }
                self.at += 6;
            }
            _ => return Err(self.fault("bad escape in a string")),
        }
        Ok(())
    }

    /// Steps over a number and returns its text.
    #[inline]
    pub fn number(&mut self) -> Scan<&'a [u8]> {
        let start = self.at;
        if self.next_is(b'-') {
            self.at += 1;
        }
        if self.next_is(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            self.at += 1;
            if self.next_is(b'+') || self.next_is(b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    #[inline]
    fn next_is(&self, byte: u8) -> bool {
        self.text.get(self.at) == Some(&byte)
    }

    #[inline]
    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault("expected a digit")) }
    }

    fn literal(&mut self, literal: &'static [u8]) -> Scan<()> {
        if self.eat(literal) { Ok(()) } else { Err(self.fault("expected true, false or null")) }
    }

    /// Steps over one scalar, or opens a container and returns true.
    #[inline]
    fn scalar_or_open(&mut self) -> Scan<bool> {
        match self.peek() {
            b'"' if self.plain_string() => Ok(false),
            b'"' => self.string().map(|_| false),
            b'{' | b'[' => Ok(true),
            b'-' | b'0'..=b'9' => self.number().map(|_| false),
            b't' => self.literal(b"true").map(|()| false),
            b'f' => self.literal(b"false").map(|()| false),
            b'n' => self.literal(b"null").map(|()| false),
            _ => Err(self.fault("expected a value")),
        }
    }

    /// Steps over any value.
    pub fn value(&mut self) -> Scan<()> {
        // One bit per open container: 1 is an object.
        let mut objects: u128 = 0;
        let mut depth: u32 = 0;
        loop {
            if self.scalar_or_open()? {
                let object = self.next_is(b'{');
                self.at += 1;
                if self.peek() == if object { b'}' } else { b']' } {
                    self.at += 1;
                } else {
                    if depth == MAX_DEPTH {
                        return Err(self.fault("values nest deeper than 128 levels"));
                    }
                    depth += 1;
                    objects = (objects << 1) | u128::from(object);
                    if object {
                        self.skip_key()?;
                    }
                    continue;
                }
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match (self.peek(), object) {
                    (b',', true) => {
                        self.at += 1;
                        self.skip_key()?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        depth -= 1;
                        objects >>= 1;
                    }
                    (_, true) => return Err(self.fault("expected , or }")),
                    (_, false) => return Err(self.fault("expected , or ]")),
                }
            }
        }
    }

    /// Steps over a member's name and the colon, and returns the name.
    #[inline]
    pub fn key(&mut self) -> Scan<Text<'a>> {
        let name = self.string()?;
        self.expect(b':', "expected :")?;
        Ok(name)
    }
}

/// Appends `text` without its escapes to `out`; returns how many lone surrogates became U+FFFD.
pub fn unescape(text: Text<'_>, out: &mut Vec<u8>) -> u32 {
    if !text.escaped {
        out.extend_from_slice(text.raw);
        return 0;
    }
    let mut rest = text.raw;
    let mut lone = 0;
    while let Some(stop) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(stop);
        out.extend_from_slice(plain);
        let (c, used) = one_escape(escape);
        lone += u32::from(c.is_none());
        let mut utf8 = [0; 4];
        out.extend_from_slice(c.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8).as_bytes());
        rest = escape.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    lone
}

/// The character that the escape at the start of `text` stands for (`None`: half a surrogate pair) and its length.
fn one_escape(text: &[u8]) -> (Option<char>, usize) {
    let simple = match text.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(text),
        Some(&other) => char::from(other),
        None => return (None, 1),
    };
    (Some(simple), 2)
}

fn unicode_escape(text: &[u8]) -> (Option<char>, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = unit(2) else { return (None, text.len()) };
    if (0xd800..0xdc00).contains(&first)
        && text.get(6..8) == Some(b"\\u")
        && let Some(second @ 0xdc00..0xe000) = unit(8)
    {
        return (char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)), 12);
    }
    (char::from_u32(first), 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.value().and_then(|()| scanner.end()).is_ok()
    }

    #[test]
    fn accepts_and_refuses_what_the_grammar_says() {
        for good in [
            "0",
            "-0.5e+10",
            "[]",
            "{}",
            " [ 1 , {\"a\" : [true,false,null]} ] ",
            "\"\\u00e9\\ud800\\n\"",
            "\"é🎉\"",
            "{\"a\":{},\"b\":[[],[]]}",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            "",
            "01",
            "-",
            "1.",
            "1e",
            ".5",
            "+1",
            "NaN",
            "Infinity",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "\"open",
            "[}",
            "{]",
            "tru",
            "nul",
            "1 1",
            "]",
            "{\"a\":1]",
            "'a'",
            "\u{feff}1",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded_and_the_stack_is_not_used() {
        let nest = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(accepts(&nest(128)));
        assert!(!accepts(&nest(129)));
        assert!(!accepts(&"[".repeat(1_000_000)));
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character_and_is_counted() {
        let mut out = Vec::new();
        let raw = br"a\ud83d\ude00b\ud800c\udc00\ud800\u0041\ud800\\";
        assert_eq!(unescape(Text { raw, escaped: true }, &mut out), 4);
        assert_eq!(String::from_utf8(out).unwrap(), "a😀b\u{fffd}c\u{fffd}\u{fffd}A\u{fffd}\\");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_accepted(value in json()) {
            prop_assert!(accepts(&value.to_string()));
        }

        #[test]
        fn what_is_accepted_after_a_change_serde_accepts_too(value in json(), at in 0usize..200, with in any::<u8>()) {
            let mut bytes = value.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = with;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
                prop_assert_eq!(accepts(text), theirs, "{}", text);
            }
        }

        #[test]
        fn strings_come_back(text in any::<String>()) {
            let line = serde_json::to_string(&text).unwrap();
            let mut out = Vec::new();
            unescape(Scanner::new(line.as_bytes()).string().unwrap(), &mut out);
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
