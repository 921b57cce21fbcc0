//! The members around a record: which stream, which version, when extracted. Any order, any white space; a member that
//! comes twice is refused, because two readers would disagree on it.

use crate::json::escape::plain;
use crate::json::exact;
use crate::json::scan::Scanner;
use crate::json::token::{Fault, Text};
use crate::time::{self, Micros};

/// A message, as places in its line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// `type`.
    pub kind: Option<Text<'a>>,
    /// `stream`.
    pub stream: Option<Text<'a>>,
    /// Where the value of `record` starts.
    pub record: Option<usize>,
    /// The text of `value` (of a STATE).
    pub value: Option<&'a [u8]>,
    /// `version`.
    pub version: Option<i64>,
    /// `time_extracted`.
    pub time_extracted: Option<Text<'a>>,
}

impl<'a> Envelope<'a> {
    /// Reads a whole line.
    ///
    /// # Errors
    /// Where the line is not one JSON object, or a member comes twice or has the wrong type.
    pub fn read(line: &'a [u8]) -> Result<Self, Fault> {
        let mut scanner = Scanner::new(line);
        let mut envelope = Envelope::default();
        scanner.expect(b'{', "expected an object")?;
        if scanner.peek() == b'}' {
            scanner.expect(b'}', "expected }")?;
        } else {
            envelope.member(&mut scanner)?;
            envelope.rest(&mut scanner)?;
        }
        scanner.end()?;
        Ok(envelope)
    }

    /// Reads the members behind a record that was read already, up to the end of the line.
    pub fn behind_record(mut self, scanner: &mut Scanner<'a>) -> Result<Self, Fault> {
        self.rest(scanner)?;
        scanner.end()?;
        Ok(self)
    }

    /// `time_extracted` in microseconds; `None` also where it is no date-time.
    pub fn extracted(&self) -> Option<Micros> {
        time::moment(&plain(self.time_extracted?)).map(|moment| moment.micros)
    }

    fn rest(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        while scanner.peek() == b',' {
            scanner.expect(b',', "expected ,")?;
            self.member(scanner)?;
        }
        scanner.expect(b'}', "expected , or }")
    }

    fn member(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        let name = scanner.key()?;
        scanner.peek();
        let start = scanner.at();
        let again = match &*plain(name) {
            b"type" => self.kind.replace(scanner.string()?).is_some(),
            b"stream" => self.stream.replace(scanner.string()?).is_some(),
            b"record" => {
                scanner.value()?;
                self.record.replace(start).is_some()
            }
            b"value" => self.value.replace(scanner.next_text()?).is_some(),
            b"version" if scanner.peek() != b'n' => {
                let number = scanner.number()?;
                let version = exact::int64(number).ok_or(Fault { at: start, what: "version is not an integer" })?;
                self.version.replace(version).is_some()
            }
            b"time_extracted" if scanner.peek() != b'n' => self.time_extracted.replace(scanner.string()?).is_some(),
            _ => {
                scanner.value()?;
                false
            }
        };
        if again { Err(Fault { at: start, what: "a member of the message comes twice" }) } else { Ok(()) }
    }
}

/// The start of a RECORD line of one stream, up to its record, in the two ways that writers of JSON space it.
#[derive(Debug)]
pub struct UsualHead {
    compact: Vec<u8>,
    spaced: Vec<u8>,
}

impl UsualHead {
    /// For `stream`.
    pub fn new(stream: &str) -> Self {
        let name = serde_json::Value::from(stream).to_string();
        UsualHead {
            compact: format!("{{\"type\":\"RECORD\",\"stream\":{name},").into_bytes(),
            spaced: format!("{{\"type\": \"RECORD\", \"stream\": {name}, ").into_bytes(),
        }
    }

    /// The version (if it stands in front of the record) and a scanner at the record, if the line starts this way.
    #[inline]
    pub fn find<'a>(&self, line: &'a [u8]) -> Option<(Option<i64>, Scanner<'a>)> {
        let mut scanner = Scanner::new(line);
        if scanner.eat(&self.compact) {
            let version = if scanner.eat(b"\"version\":") { Some(version(&mut scanner)?) } else { None };
            return scanner.eat(b"\"record\":").then_some((version, scanner));
        }
        (scanner.eat(&self.spaced) && scanner.eat(b"\"record\": ")).then_some((None, scanner))
    }
}

/// An integer and the comma behind it.
fn version(scanner: &mut Scanner<'_>) -> Option<i64> {
    let version = exact::int64(scanner.number().ok()?)?;
    scanner.eat(b",").then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_in_any_order() {
        let line = br#" { "record" : {"a":1} , "version":7,"other":[1], "stream":"s", "type" : "RECORD","time_extracted":null}"#;
        let e = Envelope::read(line).unwrap();
        assert_eq!((e.kind.unwrap().raw, e.stream.unwrap().raw, e.version), (&b"RECORD"[..], &b"s"[..], Some(7)));
        assert_eq!(&line[e.record.unwrap()..][..7], br#"{"a":1}"#);
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "[]",
            "{",
            "{}x",
            "{\"type\":1}",
            "{\"type\":\"A\",\"type\":\"A\"}",
            "{\"version\":1.5}",
            "null",
            "{\"record\":{},\"\\u0072ecord\":{}}",
            "{\"type\":\"STATE\",\"value\":}",
        ] {
            assert!(Envelope::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_usual_heads() {
        let head = UsualHead::new("é\"");
        for (line, version) in [
            (r#"{"type":"RECORD","stream":"é\"","record":{}}"#, None),
            (r#"{"type":"RECORD","stream":"é\"","version":12,"record":{}}"#, Some(12)),
            (r#"{"type": "RECORD", "stream": "é\"", "record": {}}"#, None),
        ] {
            let (found, scanner) = head.find(line.as_bytes()).unwrap();
            assert_eq!((found, &line[scanner.at()..]), (version, "{}}"));
        }
        assert!(head.find(br#"{"type":"RECORD","stream":"e","record":{}}"#).is_none());
    }
}
