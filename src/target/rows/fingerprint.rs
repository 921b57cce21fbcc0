//! The fingerprint of a row: 128 bits over its stream, its version and its values. The same row has the same one in every
//! run, also when the SCHEMA got columns in between or an object's members come in another order.

use super::form::canonical;
use super::long_form::LongForm;
use crate::json::scan::Scanner;
use crate::json::walker::collected;
use crate::target::columns::metadata::is_own;
use crate::target::columns::schema::slot;

/// 128 bits of a BLAKE3 hash: event content is written by strangers, so it must be one that nobody can steer.
pub type Fingerprint = [u8; 16];

/// Hashes rows of one stream.
#[derive(Debug)]
pub struct Hasher {
    stream: String,
    version: Option<i64>,
    feed: Feed,
}

/// Rows, and values of rows, of so many bytes are long: no copy of them is made.
const LONG: usize = 1 << 16;

/// What is hashed.
#[derive(Debug)]
struct Feed {
    /// The stream and the version.
    key: [u8; 32],
    text: Vec<u8>,
    /// What came before `text`, of a row that is long.
    before: Option<blake3::Hasher>,
}

impl Feed {
    fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        self.spill();
    }

    fn spill(&mut self) {
        if self.text.len() >= LONG {
            self.before.get_or_insert_with(|| blake3::Hasher::new_keyed(&self.key)).update(&self.text);
            self.text = Vec::new();
        }
    }
}

impl Hasher {
    /// For rows of `stream`.
    pub fn new(stream: &str) -> Self {
        let feed = Feed { key: key(stream, None), text: Vec::new(), before: None };
        Hasher { stream: stream.to_owned(), version: None, feed }
    }

    /// Starts a row of `version`.
    pub fn start(&mut self, version: Option<i64>) {
        if version != self.version {
            self.version = version;
            self.feed.key = key(&self.stream, version);
        }
        self.feed.text.clear();
        self.feed.before = None;
    }

    /// Adds the JSON text of the row's next value. Values are added in the order of their slots.
    pub fn add(&mut self, slot: u64, value: &[u8]) {
        self.feed.text.extend_from_slice(&slot.to_le_bytes());
        if value.len() < LONG {
            canonical(value, &mut self.feed.text);
            self.feed.spill();
        } else {
            self.add_long(&LongForm::new(value), &mut Scanner::new(value));
        }
    }

    fn add_long<'a>(&mut self, form: &LongForm<'a>, value: &mut Scanner<'a>) {
        let written = form.write(value, &mut |bytes| self.feed.push(bytes));
        debug_assert!(written.is_ok(), "the line was checked");
    }

    /// Adds a whole record: every member that is not null and not one of the target's own.
    pub fn add_record(&mut self, record: &[u8]) {
        if record.len() >= LONG {
            return self.add_long_record(record);
        }
        let mut found: Vec<(u64, &[u8])> = collected(record)
            .into_iter()
            .filter(|(_, value)| *value != b"null")
            .filter_map(|(name, value)| Some((String::from_utf8(name).ok()?, value)))
            .filter(|(name, _)| !is_own(name))
            .map(|(name, value)| (slot(&name), value))
            .collect();
        found.sort_by_key(|(slot, _)| *slot);
        for (slot, value) in found {
            self.add(slot, value);
        }
    }

    /// The same of a record that may have millions of members: eight bytes are kept of each.
    fn add_long_record(&mut self, record: &[u8]) {
        let form = LongForm::new(record);
        let slot_at = |place: u32| std::str::from_utf8(&form.name(place)).ok().filter(|name| !is_own(name)).map(slot);
        let mut found: Vec<(u32, u32)> = Vec::new();
        let read = form.places(&mut Scanner::new(record), |place| {
            let mut value = form.at(place);
            let is_null = value.key().is_err() || value.peek() == b'n';
            if let Some(slot) = slot_at(place).filter(|_| !is_null) {
                // The upper half of the slot; where two are equal, the whole of it is looked up.
                found.push(((slot >> 32) as u32, place));
            }
        });
        debug_assert!(read.is_ok(), "the line was checked");
        let order = |(upper, place): &(u32, u32), (other, place_2): &(u32, u32)| {
            let whole = || slot_at(*place).cmp(&slot_at(*place_2)).then(place.cmp(place_2));
            upper.cmp(other).then_with(whole)
        };
        found.sort_unstable_by(order);
        for (_, place) in found {
            let mut value = form.at(place);
            if let (Some(slot), Ok(_)) = (slot_at(place), value.key()) {
                self.feed.push(&slot.to_le_bytes());
                self.add_long(&form, &mut value);
            }
        }
    }

    /// The fingerprint of the row.
    pub fn finish(&self) -> Fingerprint {
        let Feed { key, text, before } = &self.feed;
        let hash = match before {
            None => blake3::keyed_hash(key, text),
            Some(before) => before.clone().update(text).finalize(),
        };
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

    /// The fingerprint as it is made of a short row, of a row of any length.
    fn short(parts: &[(u64, &str)]) -> Fingerprint {
        let mut text = Vec::new();
        for (slot, value) in parts {
            text.extend_from_slice(&slot.to_le_bytes());
            canonical(value.as_bytes(), &mut text);
        }
        *blake3::keyed_hash(&key("s", None), &text).as_bytes().first_chunk::<16>().unwrap()
    }

    #[test]
    fn a_long_value_has_the_fingerprint_that_it_had_when_it_was_copied() {
        let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(" , ");
        let object = format!(
            "{{{}}}",
            many(20_000, &|n| format!("\"{:x}\" : [1, {{\"b\":\"\\u00e9\",\"a\":null}}]", n * 7919 % 20_011))
        );
        let twice = format!("{{{}}}", many(9_000, &|n| format!("\"k{}\": \"x{n}\"", n % 4_000)));
        let deep = format!("{}{object}{}", "[{\"b\":1,\"\\u0061\":".repeat(50), "}]".repeat(50));
        let string = format!("\"{}\\n\"", "é".repeat(50_000));
        let half = format!("[\"\\ud83d{}\",\"{}\"]", "x".repeat(70_000), "y".repeat(70_000));
        let numbers = format!("[{}]", many(100_000, &|n| n.to_string()));
        let empty = format!("[{}]", many(50_000, &|n| if n % 2 == 0 { "[]".to_owned() } else { "{ }".to_owned() }));
        for value in [&object, &twice, &deep, &string, &half, &numbers, &empty] {
            assert!(value.len() > LONG);
            let parts = [(1, "1"), (2, value), (3, "\"x\"")];
            assert_eq!(hash(&parts), short(&parts), "{}", &value[..20]);
        }
        let rows: Vec<String> = (0..3_000).map(|n| format!("\"k{n}\": {{\"a\": \"{}\"}}", "z".repeat(30))).collect();
        let record = format!("{{\"n\":null, {}, \"_sdc_sequence\": 5, \"o\": {object}}}", rows.join(","));
        let mut hasher = Hasher::new("s");
        hasher.start(None);
        hasher.add_record(record.as_bytes());
        let mut parts: Vec<(u64, &str)> = rows
            .iter()
            .map(|row| row.split_once(": ").unwrap())
            .map(|(name, value)| (slot(name.trim_matches('"')), value))
            .chain([(slot("o"), object.as_str())])
            .collect();
        parts.sort_unstable();
        assert_eq!(hasher.finish(), short(&parts));
        // The next row is not touched by it.
        hasher.start(None);
        hasher.add(7, b"1");
        assert_eq!(hasher.finish(), short(&[(7, "1")]));
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
