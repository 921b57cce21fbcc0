//! Escapes in JSON strings, and strings without them.

use std::borrow::Cow;

use super::token::Text;

/// The escape that `text` starts with, a backslash: the character that it stands for (none for half of a surrogate pair)
/// and its length. None when it is no escape.
pub(super) fn escape(text: &[u8]) -> Option<(Option<char>, usize)> {
    let simple = match text.get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(text),
        same @ (b'"' | b'\\' | b'/') => char::from(*same),
        _ => return None,
    };
    Some((Some(simple), 2))
}

fn unicode(text: &[u8]) -> Option<(Option<char>, usize)> {
    let unit = |at: usize| {
        let hex = text.get(at..at + 4).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let first = unit(2)?;
    if (0xd800..0xdc00).contains(&first)
        && text.get(6..8) == Some(b"\\u")
        && let Some(second @ 0xdc00..0xe000) = unit(8)
    {
        return Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)), 12));
    }
    Some((char::from_u32(first), 6))
}

/// Appends `text` without its escapes to `out`; returns how many halves of surrogate pairs became U+FFFD.
pub fn unescape(text: Text<'_>, out: &mut Vec<u8>) -> u32 {
    if !text.is_escaped() {
        out.extend_from_slice(text.raw);
        return 0;
    }
    let mut rest = text.raw;
    let mut lone = 0;
    while let Some(stop) = memchr::memchr(b'\\', rest) {
        let (plain, escaped) = rest.split_at(stop);
        out.extend_from_slice(plain);
        if let Some(same @ (b'"' | b'\\' | b'/')) = escaped.get(1) {
            out.push(*same);
            rest = escaped.get(2..).unwrap_or_default();
            continue;
        }
        let (character, length) = escape(escaped).unwrap_or((None, escaped.len()));
        lone += u32::from(character.is_none());
        let mut utf8 = [0; 4];
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        rest = escaped.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    lone
}

/// The string without its escapes. Writers of JSON may escape what they like, such as the + of an offset.
#[inline]
pub fn plain(text: Text<'_>) -> Cow<'_, [u8]> {
    if !text.is_escaped() {
        return Cow::Borrowed(text.raw);
    }
    let mut plain = Vec::new();
    unescape(text, &mut plain);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::scan::Scanner;
    use crate::json::token::Escapes;
    use proptest::prelude::*;

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character_and_is_counted() {
        let mut out = Vec::new();
        let raw = br"a\ud83d\ude00b\ud800c\udc00\ud800\u0041\ud800\\";
        assert_eq!(unescape(Text { raw, escapes: Escapes::LoneSurrogate }, &mut out), 4);
        assert_eq!(String::from_utf8(out).unwrap(), "a😀b\u{fffd}c\u{fffd}\u{fffd}A\u{fffd}\\");
    }

    proptest! {
        #[test]
        fn strings_come_back(text in any::<String>()) {
            let line = serde_json::to_string(&text).unwrap();
            let mut out = Vec::new();
            unescape(Scanner::new(line.as_bytes()).string().unwrap(), &mut out);
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
