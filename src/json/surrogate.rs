//! Halves of surrogate pairs in JSON text: escapes such as `\ud83d` without the other half. There is no such character, so
//! many readers refuse the whole document.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::escape::escape;

/// U+FFFD as an escape: as long as the half that it stands for, so that nothing behind it moves.
const REPLACEMENT: &[u8; 6] = b"\\ufffd";

static UNICODE_ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u"));

/// Replaces each half by U+FFFD, in place; gives how many there were. Text without `\u` is looked at once, at the speed of
/// memory.
pub fn replace_lone_surrogates(text: &mut [u8]) -> u64 {
    let (mut from, mut count) = (0, 0);
    while let Some(at) = next_half(text, from) {
        from = at + REPLACEMENT.len();
        if let Some(half) = text.get_mut(at..from) {
            half.copy_from_slice(REPLACEMENT);
            count += 1;
        }
    }
    count
}

/// The text with each half replaced, and how many there were: the text itself where there are none, else a copy in `buffer`.
#[inline]
pub fn without_lone_surrogates<'a>(text: &'a [u8], buffer: &'a mut Vec<u8>) -> (&'a [u8], u64) {
    match next_half(text, 0) {
        None => (text, 0),
        Some(at) => copied(text, at, buffer),
    }
}

#[cold]
fn copied<'a>(text: &[u8], first: usize, buffer: &'a mut Vec<u8>) -> (&'a [u8], u64) {
    buffer.clear();
    buffer.extend_from_slice(text);
    let count = replace_lone_surrogates(buffer.get_mut(first..).unwrap_or_default());
    (buffer, count)
}

/// Where from `from` on the first half lies.
#[inline]
fn next_half(text: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + UNICODE_ESCAPE.find(text.get(from..)?)?;
        let (before, rest) = text.split_at_checked(at)?;
        from = at + 2;
        // No other escape stands for a surrogate.
        if !matches!(rest.get(2), Some(b'd' | b'D')) || is_escaped(before) {
            continue;
        }
        match escape(rest) {
            Some((None, _)) => return Some(at),
            Some((Some(_), length)) => from = at + length,
            None => {}
        }
    }
}

/// Whether a backslash behind `before` is itself escaped.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replaced(text: &str) -> (String, u64) {
        let (mut in_place, mut buffer) = (text.as_bytes().to_vec(), b"old".to_vec());
        let count = replace_lone_surrogates(&mut in_place);
        assert_eq!(without_lone_surrogates(text.as_bytes(), &mut buffer), (&in_place[..], count));
        (String::from_utf8(in_place).unwrap(), count)
    }

    #[test]
    fn a_half_becomes_the_replacement_character_and_nothing_else_changes() {
        for (text, expected, count) in [
            (r#"{"a":"\ud83d"}"#, r#"{"a":"\ufffd"}"#, 1),
            (r#"{"\udE00":["\uD83D\uDE00"]}"#, r#"{"\ufffd":["\uD83D\uDE00"]}"#, 1),
            (r#"["\ud83d\ud83d\ude00\ude00"]"#, r#"["\ufffd\ud83d\ude00\ufffd"]"#, 2),
            (r#"["\\ud83d","\\\ud83d","\\\\ud83d"]"#, r#"["\\ud83d","\\\ufffd","\\\\ud83d"]"#, 1),
            (r#"["\ud83d\\ude00","\ud7ff\ue000\u00e9"]"#, r#"["\ufffd\\ude00","\ud7ff\ue000\u00e9"]"#, 1),
            (r#"["\ud83d","\ud83dx\n","\ud83d\n"#, r#"["\ufffd","\ufffdx\n","\ufffd\n"#, 3),
            // No JSON.
            (r"\ud8", r"\ud8", 0),
            (r"\u", r"\u", 0),
            ("", "", 0),
        ] {
            assert_eq!(replaced(text), (expected.to_owned(), count), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_reader_takes_what_is_left(parts in prop::collection::vec(r#"(\\\\|\\"|\\u[dD][89abcdefABCDEF3][0-9a-f]{2}|\\u00e9|[a-zé]|u|ud83d)"#, 0..20)) {
            let document = format!("[\"{}\"]", parts.concat());
            let (text, count) = replaced(&document);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            prop_assert_eq!(count > 0, serde_json::from_str::<serde_json::Value>(&document).is_err());
            prop_assert_eq!(replaced(&text), (text, 0));
        }
    }
}
