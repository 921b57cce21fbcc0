//! A scanner over borrowed JSON: one pass over the bytes, no tree, no copy.
//!
//! Every byte that it steps over is checked (grammar of strings, escapes, numbers, structure, depth), so text that is
//! taken from a document as it stands is valid JSON. It refuses what RFC 8259 refuses, and nesting deeper than
//! [`MAX_DEPTH`](super::token::MAX_DEPTH). It does not look at UTF-8: a document is checked for that before.

use super::blocks::stops;
use super::escape::unescape;
use super::label::Label;
use super::token::{Fault, Scan, Text, Token};
use super::{same, walk};

/// A position in a document.
#[derive(Clone, Copy, Debug)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Scanner { text, at: 0 }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Moves to the absolute offset `at`.
    pub fn jump(&mut self, at: usize) {
        self.at = at;
    }

    /// The bytes from offset `from` up to here.
    pub fn since(&self, from: usize) -> &'a [u8] {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Steps over `literal` if it comes next.
    #[inline]
    pub fn eat(&mut self, literal: &[u8]) -> bool {
        let found = self.text.get(self.at..self.at + literal.len()).is_some_and(|next| same(next, literal));
        if found {
            self.at += literal.len();
        }
        found
    }

    /// Steps over `label` if it comes next.
    #[inline]
    pub fn eat_label(&mut self, label: &Label) -> bool {
        let found = self.text.get(self.at..).is_some_and(|next| label.begins(next));
        if found {
            self.at += label.length();
        }
        found
    }

    /// Steps over a member with this label and the comma behind it, if its value is a string, number or literal without
    /// escapes and nothing in it is white space: most are like that. Gives the value, and where it starts and ends.
    #[inline(always)]
    pub fn plain_member(&mut self, label: &Label) -> Option<(Token, usize, usize)> {
        if !label.begins(self.text.get(self.at..)?) {
            return None;
        }
        let start = self.at.wrapping_add(label.length());
        let (end, token) = walk::plain_scalar(self.text, start)?;
        self.at = walk::byte(self.text, end, b',')?;
        Some((token, start, end))
    }

    /// The next byte that is not white space, without stepping over it. 0 at the end.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        let (at, byte) = walk::space(self.text, self.at);
        self.at = at;
        byte
    }

    /// Steps over `byte`, which must be the next one after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8, what: &'static str) -> Scan<()> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(what)) }
    }

    /// Steps over `byte` if it is the next one after white space.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte && self.at < self.text.len();
        self.at += usize::from(found);
        found
    }

    /// Behind a member: true when another one follows, false when `end` closes its container.
    #[inline]
    pub fn more(&mut self, end: u8) -> Scan<bool> {
        let what = "expected , or the end of an array or object";
        if self.take(b',') { Ok(true) } else { self.expect(end, what).map(|()| false) }
    }

    /// Only white space may follow.
    pub fn end(&mut self) -> Scan<()> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault("expected the end")) }
    }

    /// The fault `what` at this place.
    pub fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at, what }
    }

    /// Steps over a string.
    #[inline]
    pub fn string(&mut self) -> Scan<Text<'a>> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let (at, escapes) = walk::string(self.text, start)?;
        self.at = at;
        Ok(Text { raw: self.text.get(start..at - 1).unwrap_or_default(), escapes })
    }

    /// Steps over a string and appends it to `out` without its escapes. Returns how many halves of surrogate pairs became
    /// U+FFFD.
    #[inline]
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Scan<u32> {
        // Copied while it is looked at: most strings have no escapes and are a block or two.
        let before = out.len();
        let mut at = self.at + 1;
        while let Some(block) = self.text.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            out.extend_from_slice(block);
            let hits = stops(*block);
            if hits == 0 {
                at += 16;
                continue;
            }
            let plain = hits.trailing_zeros() as usize;
            if self.text.get(self.at) == Some(&b'"') && block.get(plain) == Some(&b'"') {
                out.truncate(out.len() - 16 + plain);
                self.at = at + plain + 1;
                return Ok(0);
            }
            break;
        }
        out.truncate(before);
        Ok(unescape(self.string()?, out))
    }

    /// Steps over a number and returns its text.
    #[inline]
    pub fn number(&mut self) -> Scan<&'a [u8]> {
        let start = self.at;
        self.at = walk::number(self.text, start)?;
        Ok(self.since(start))
    }

    /// Steps over a value and says what it is.
    #[inline]
    pub fn value(&mut self) -> Scan<Token> {
        let first = self.peek();
        let (at, token) = walk::value(self.text, self.at, first)?;
        self.at = at;
        Ok(token)
    }

    /// Steps over a value and returns its text.
    #[inline]
    pub fn next_text(&mut self) -> Scan<&'a [u8]> {
        self.peek();
        let start = self.at;
        self.value()?;
        Ok(self.since(start))
    }

    /// Steps over a member's name and the colon, and returns the name.
    #[inline]
    pub fn key(&mut self) -> Scan<Text<'a>> {
        let name = self.string()?;
        self.expect(b':', "expected :")?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.value().and_then(|_| scanner.end()).is_ok()
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
        fn strings_are_copied_as_they_are_stepped_over(text in ".{0,70}", behind in ".{0,40}", cut in 0usize..400) {
            let mut line = serde_json::to_string(&text).unwrap();
            line.push_str(&behind.replace('\n', " "));
            let line = line.as_bytes().get(..cut).unwrap_or(line.as_bytes());
            let (mut one, mut other) = (Scanner::new(line), Scanner::new(line));
            let (mut copied, mut plain) = (b"x".to_vec(), b"x".to_vec());
            let stepped = other.string().map(|text| unescape(text, &mut plain));
            prop_assert_eq!(one.string_into(&mut copied), stepped);
            prop_assert_eq!((one.at(), copied), (other.at(), plain));
        }

        #[test]
        fn what_serde_writes_is_accepted(value in json()) {
            prop_assert!(accepts(&value.to_string()));
        }

        #[test]
        fn members_are_accepted_as_serde_accepts_them(
            members in prop::collection::vec("\"[a-c:é]{0,40}\"[: ]?:?(\"[^\"]{0,40}\"|-?[0-9]{0,17}[.e]?[0-9]{0,3}|true|fals|null|[a-z\\[{]?)", 0..6),
            end in prop::sample::select(vec!["}", ",}", "", "]"]),
        ) {
            let text = format!("{{{}{end}", members.join(","));
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(accepts(&text), theirs, "{}", text);
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
    }
}
