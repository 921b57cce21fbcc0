//! The fingerprint of a row: 128 bits over its stream, its version and its values. The same row has the same one in every
//! run, also when the SCHEMA got columns in between or an object's members come in another order.

use std::borrow::Cow;

use crate::json::escape::unescape;
use crate::json::scan::Scanner;
use crate::json::token::Escapes;
use crate::json::walker::{collected, items};
use crate::target::columns::metadata::is_metadata;
use crate::target::columns::schema::slot;

/// 128 bits of a BLAKE3 hash: event content is written by strangers, so it must be one that nobody can steer.
pub type Fingerprint = [u8; 16];

/// Hashes rows of one stream.
#[derive(Debug)]
pub struct Hasher {
    stream: String,
    version: Option<i64>,
    /// The stream and the version.
    key: [u8; 32],
    text: Vec<u8>,
}

impl Hasher {
    /// For rows of `stream`.
    pub fn new(stream: &str) -> Self {
        Hasher { stream: stream.to_owned(), version: None, key: key(stream, None), text: Vec::new() }
    }

    /// Starts a row of `version`.
    pub fn start(&mut self, version: Option<i64>) {
        if version != self.version {
            self.version = version;
            self.key = key(&self.stream, version);
        }
        self.text.clear();
    }

    /// Adds the JSON text of the row's next value. Values are added in the order of their slots.
    pub fn add(&mut self, slot: u64, value: &[u8]) {
        self.text.extend_from_slice(&slot.to_le_bytes());
        canonical(value, &mut self.text);
    }

    /// Adds a whole record: every member that is not null and not one of the target's own.
    pub fn add_record(&mut self, record: &[u8]) {
        let mut found: Vec<(u64, &[u8])> = collected(record)
            .into_iter()
            .filter(|(_, value)| *value != b"null")
            .filter_map(|(name, value)| Some((String::from_utf8(name).ok()?, value)))
            .filter(|(name, _)| !is_metadata(name))
            .map(|(name, value)| (slot(&name), value))
            .collect();
        found.sort_by_key(|(slot, _)| *slot);
        for (slot, value) in found {
            self.add(slot, value);
        }
    }

    /// The fingerprint of the row.
    pub fn finish(&self) -> Fingerprint {
        let hash = blake3::keyed_hash(&self.key, &self.text);
        hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default()
    }
}

fn key(stream: &str, version: Option<i64>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&version.map_or([0; 9], |version| {
        let mut bytes = [1; 9];
        bytes[1..].copy_from_slice(&version.to_le_bytes());
        bytes
    }));
    hasher.update(stream.as_bytes());
    *hasher.finalize().as_bytes()
}

/// Appends a form of `value`, well-formed JSON, that is the same however it was written: strings without escapes, members
/// in the order of their names, no white space. Numbers count as they are written. No two values have the same form, and
/// none is the beginning of another: each says how long it is.
fn canonical(value: &[u8], out: &mut Vec<u8>) {
    form(value, &|number| Cow::Borrowed(number), out);
}

/// A form of well-formed JSON that is the same for the same value, however its members are ordered and its strings and
/// numbers are written.
pub fn exact_form(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    form(value.trim_ascii(), &exact_number, &mut out);
    out
}

/// A number as its digits without zeros at either end, and the power of ten of the last one.
fn exact_number(text: &[u8]) -> Cow<'_, [u8]> {
    let is_exponent = |b: &u8| matches!(b, b'e' | b'E');
    let mut halves = text.splitn(2, is_exponent);
    let mantissa = halves.next().unwrap_or_default();
    let exponent = halves.next().map_or(Some(0), |half| std::str::from_utf8(half).ok()?.parse::<i64>().ok());
    let behind_point = mantissa.iter().rev().position(|b| *b == b'.').unwrap_or(0);
    let digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).skip_while(|b| *b == b'0').collect();
    let kept = digits.iter().rposition(|b| *b != b'0').map_or(0, |last| last + 1);
    // Words, and exponents beyond all reason, count as they are written.
    let shift = i64::try_from(digits.len() - kept).ok().zip(i64::try_from(behind_point).ok());
    let power = exponent.zip(shift).and_then(|(power, (up, down))| power.checked_add(up)?.checked_sub(down));
    let Some(power) = power.filter(|_| mantissa.iter().any(u8::is_ascii_digit)) else { return Cow::Borrowed(text) };
    if kept == 0 {
        return Cow::Borrowed(b"0");
    }
    let sign = if mantissa.starts_with(b"-") { "-" } else { "" };
    let digits = String::from_utf8_lossy(digits.get(..kept).unwrap_or_default()).into_owned();
    Cow::Owned(format!("{sign}{digits}e{power}").into_bytes())
}

fn form(value: &[u8], number: &dyn Fn(&[u8]) -> Cow<'_, [u8]>, out: &mut Vec<u8>) {
    match value.first() {
        Some(b'"') => {
            let text = Scanner::new(value).string().ok();
            match text.filter(|text| text.escapes != Escapes::LoneSurrogate) {
                Some(text) => sized(b'"', out, |out| {
                    unescape(text, out);
                }),
                // It has no other form than its own.
                None => sized(b'?', out, |out| out.extend_from_slice(value)),
            }
        }
        Some(b'{') => sized(b'{', out, |out| {
            let mut members = collected(value);
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in members {
                sized(b'"', out, |out| out.extend_from_slice(&name));
                form(value, number, out);
            }
        }),
        Some(b'[') => sized(b'[', out, |out| {
            let read = items(&mut Scanner::new(value), |scanner| {
                form(scanner.next_text()?, number, out);
                Ok(())
            });
            debug_assert!(read.is_ok(), "the line was checked");
        }),
        _ => sized(b'0', out, |out| out.extend_from_slice(&number(value))),
    }
}

/// Appends a kind, a length, and what `write` appends, which is so long.
fn sized(kind: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    let start = out.len();
    write(out);
    // A line is far below 4 GB.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(head) = out.get_mut(start - 4..start) {
        head.copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn hash(values: &[(u64, &str)]) -> Fingerprint {
        let mut hasher = Hasher::new("s");
        hasher.start(None);
        for (slot, value) in values {
            hasher.add(*slot, value.as_bytes());
        }
        hasher.finish()
    }

    #[test]
    fn equal_rows_are_equal_and_others_are_not() {
        assert_eq!(hash(&[(0, r#""a\u00e9""#)]), hash(&[(0, "\"aé\"")]));
        assert_eq!(hash(&[(0, r#"{"a":[1, "\u00e9"],"b":{}}"#)]), hash(&[(0, r#"{ "b" : {}, "a":[1,"é"]}"#)]));
        let all = [
            hash(&[(0, "\"1\"")]),
            hash(&[(0, "1")]),
            hash(&[(1, "1")]),
            hash(&[(0, "\"a\""), (1, "\"b\"")]),
            hash(&[(0, "\"ab\""), (1, "\"\"")]),
            hash(&[]),
            hash(&[(0, "1.0")]),
            hash(&[(0, "[1,2]")]),
            hash(&[(0, "[12]")]),
            hash(&[(0, "[[1],2]")]),
            hash(&[(0, "[[1,2]]")]),
            hash(&[(0, "{\"a\":1}")]),
            hash(&[(0, "{\"a\":\"1\"}")]),
            hash(&[(0, "[\"a\",1]")]),
            hash(&[(0, "\"\\ud800\"")]),
            hash(&[(0, "\"\\udc01\"")]),
            hash(&[(0, "\"\u{fffd}\"")]),
        ];
        let distinct: HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_record_counts_without_nulls_and_order() {
        let of = |record: &str| {
            let mut hasher = Hasher::new("s");
            hasher.start(None);
            hasher.add_record(record.as_bytes());
            hasher.finish()
        };
        let plain = of(r#"{"id":1,"v":{"a":1,"b":2}}"#);
        assert_eq!(
            plain,
            of(r#" { "v" : {"b":2, "a":1}, "x": null, "_sdc_extracted_at": "now", "\u0069d": 1 }"#.trim())
        );
        assert_ne!(plain, of(r#"{"id":1,"w":{"a":1,"b":2}}"#));
    }

    #[test]
    fn versions_and_streams_count() {
        let of = |stream, version| {
            let mut hasher = Hasher::new(stream);
            hasher.start(Some(7));
            hasher.start(version);
            hasher.finish()
        };
        let all = [of("s", None), of("s", Some(0)), of("s", Some(1)), of("t", None)];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
        assert_eq!(of("s", Some(7)), of("s", Some(7)));
    }
}
