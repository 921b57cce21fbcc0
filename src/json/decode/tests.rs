//! The decoder against documents that arrive in parts of any length.

use super::*;
use proptest::prelude::*;
use std::io;

/// Gives a text in parts of these lengths, again and again.
struct Parts<'a>(&'a [u8], Vec<usize>);

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.rotate_left(1);
        let count = self.1[0].min(self.0.len()).min(buffer.len());
        let (now, rest) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = rest;
        Ok(count)
    }
}

/// The value of a document, and its decoded text.
fn read(document: &[u8], parts: Vec<usize>) -> Scan<(Token, Vec<u8>)> {
    let mut values = vec![b'x'; 10];
    let mut decoder = Decoder::new(Parts(document, parts), &mut values);
    let place = decoder.value()?;
    decoder.end()?;
    assert_eq!(decoder.offset(), document.len());
    decoder.close();
    assert_eq!(place.end, values.len());
    Ok((place.token, values[place.start..].to_vec()))
}

#[test]
fn a_fault_tells_its_place_in_the_whole_document() {
    for (document, at) in [("[\"abc\", tru]", 8), ("\"abc\\x\"", 4), ("\"ab", 3), ("1 2", 2), ("", 0)] {
        for part in 1..6 {
            assert_eq!(read(document.as_bytes(), vec![part]).unwrap_err().at, at, "{document} {part}");
        }
    }
    for document in [&b"\"a\xff\""[..], b"\"\xc3", b"\"\xe2\x82\"", b"\xf0\x9f\x98"] {
        assert_eq!(read(document, vec![1]).unwrap_err().what, "text that is not UTF-8");
    }
}

#[test]
fn values_longer_than_the_window_are_read_whole() {
    let text = "0123456789\\\"é\\u00e9".repeat(20_000);
    let (token, value) = read(format!("\"{text}\"").as_bytes(), vec![5_000, 1, 70_000]).unwrap();
    assert_eq!(token, Token::Text(Escapes::Some));
    assert!(value == "0123456789\"éé".repeat(20_000).as_bytes());
    let nested = format!("[\"{text}\", {}]", "9".repeat(100_000));
    assert!(read(nested.as_bytes(), vec![9_999]).unwrap().1 == nested.as_bytes());
}

#[test]
fn a_source_that_fails_is_a_fault() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    assert!(Decoder::new(Broken, &mut Vec::new()).value().is_err());
}

proptest! {
    #[test]
    fn texts_come_back_however_they_arrive(
        text in prop_oneof![any::<String>(), "[\"\\\\a-c\u{0}-\u{1f}é🎉]{0,200}", r#"(["\\:,]|["\\][:,é"\\]["\\]|[a-c]{1,70}){0,60}"#],
        escape: bool,
        parts in prop::collection::vec(1usize..80, 1..6),
    ) {
        let mut document = serde_json::to_string(&text).unwrap();
        if escape {
            let units = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect::<String>();
            document = document.chars().map(|c| if c.is_ascii() { c.to_string() } else { units(c) }).collect();
        }
        let (token, value) = read(document.as_bytes(), parts).unwrap();
        let is_plain = serde_json::to_string(&text).unwrap() == format!("\"{text}\"");
        prop_assert!(token == Token::Text(Escapes::Some) || is_plain && token == Token::Text(Escapes::None));
        prop_assert_eq!(value, text.into_bytes());
    }

    /// Brackets in texts, escapes, white space and depth, at any edge of what arrives.
    #[test]
    fn nested_values_are_read_as_they_were_written_however_they_arrive(
        parts in prop::collection::vec(1usize..80, 1..6),
        inside in prop::collection::vec(r#"(\[|\]|\{|\}|"a":|,|"([\]{}\[é ]|\\\\|\\"|\\u005b){0,9}"|1\.5|null|[ \n])"#, 0..30),
    ) {
        let document = format!("[{}]", inside.concat());
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&document);
        match read(document.as_bytes(), parts) {
            Ok((token, value)) => {
                prop_assert_eq!((token, &value[..]), (Token::Nested, document.as_bytes()));
                prop_assert!(theirs.is_ok());
            }
            Err(_) => prop_assert!(theirs.is_err(), "{}", document),
        }
    }

    #[test]
    fn no_prefix_is_a_document(text in "[\"\\\\a-cé🎉]{0,80}", part in 1usize..80) {
        let document = serde_json::to_string(&text).unwrap().into_bytes();
        for end in 0..document.len() {
            prop_assert!(read(&document[..end], vec![part]).is_err());
        }
    }
}
