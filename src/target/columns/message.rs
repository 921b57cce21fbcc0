//! A SCHEMA line, read without a tree: of a schema only names, types and a fingerprint are kept, so its lists of values
//! and descriptions may be as long as a line may be.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::property::{Property, property};
use crate::error::{Error, Kind, Result};
use crate::fingerprint;
use crate::json::escape::plain;
use crate::json::scan::Scanner;
use crate::json::token::{Fault, Token};
use crate::json::walker::{items, members};

/// More columns than this are refused, of a SCHEMA and of a folder: such a schema is a fault of the tap, and every one costs memory.
pub const MAX_COLUMNS: usize = 10_000;
/// Longer names of properties are refused.
const MAX_NAME_BYTES: usize = 1_024;

/// The message.
#[derive(Debug)]
pub struct SchemaMessage {
    /// The stream.
    pub stream: String,
    /// Its properties, in their order.
    pub properties: Vec<Declared>,
    /// A hash of its JSON Schema that does not depend on the order of members.
    pub fingerprint: String,
    /// Names of the properties that identify a row; none if the member is missing.
    pub key_properties: Option<Vec<String>>,
    /// Names of the properties that say when a row changed.
    pub bookmark_properties: Option<Vec<String>>,
}

/// A property as the schema declares it.
#[derive(Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its type.
    pub property: Property,
    /// Whether every record must have it.
    pub required: bool,
}

/// Where the members of the message begin in its line.
#[derive(Default)]
struct Places {
    stream: Option<String>,
    schema: Option<usize>,
    keys: Option<usize>,
    bookmarks: Option<usize>,
}

/// A refusal of the schema of `stream`.
pub fn refused(stream: &str, text: impl std::fmt::Display) -> Error {
    Error::new(Kind::NotSinger, format!("SCHEMA of stream {stream:?}: {text}"))
}

fn malformed(fault: Fault) -> Error {
    Error::new(
        Kind::NotSinger,
        format!(
            "its SCHEMA cannot be understood (column {}): {}; it needs stream and schema",
            fault.at + 1,
            fault.what
        ),
    )
}

impl SchemaMessage {
    /// Reads the line.
    ///
    /// # Errors
    /// [`Kind::NotSinger`] for a member that is missing, of another type or given twice, and for properties that are too many
    /// or too long.
    pub fn read(line: &[u8]) -> Result<Self> {
        let mut scanner = Scanner::new(line);
        let mut places = Places::default();
        members(&mut scanner, |name, scanner| places.note(name, scanner)).map_err(malformed)?;
        let missing = |what| malformed(Fault { at: 0, what });
        let stream = places.stream.ok_or_else(|| missing("no stream"))?;
        let at = |place: usize| {
            let mut scanner = Scanner::new(line);
            scanner.jump(place);
            scanner
        };
        let schema = at(places.schema.ok_or_else(|| missing("no schema"))?);
        let properties = properties(schema, &stream)?;
        let mut hasher = Sha256::new();
        digest(&mut schema.clone(), &mut hasher).map_err(malformed)?;
        Ok(SchemaMessage {
            properties,
            fingerprint: fingerprint::named(&hasher.finalize()),
            key_properties: places.keys.map(|place| names(at(place), &stream)).transpose()?,
            bookmark_properties: places.bookmarks.map(|place| names(at(place), &stream)).transpose()?,
            stream,
        })
    }
}

impl Places {
    fn note(&mut self, name: &[u8], scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        scanner.peek();
        let at = scanner.at();
        let again = match name {
            b"stream" => {
                let stream = String::from_utf8_lossy(&plain(scanner.string()?)).into_owned();
                return self.stream.replace(stream).map_or(Ok(()), |_| Err(twice(at)));
            }
            b"schema" => self.schema.replace(at).is_some(),
            b"key_properties" if scanner.peek() != b'n' => self.keys.replace(at).is_some(),
            b"bookmark_properties" if scanner.peek() != b'n' => self.bookmarks.replace(at).is_some(),
            _ => false,
        };
        scanner.value()?;
        if again { Err(twice(at)) } else { Ok(()) }
    }
}

fn twice(at: usize) -> Fault {
    Fault { at, what: "a member of the message comes twice" }
}

/// The properties of the schema at `scanner`; none where it does not say any.
fn properties(scanner: Scanner<'_>, stream: &str) -> Result<Vec<Declared>> {
    let (mut found, mut required) = (None, None);
    if scanner.clone().peek() != b'{' {
        return Err(refused(stream, "it is no object, so there is no properties object in it"));
    }
    members(&mut scanner.clone(), |name, scanner| {
        match name {
            b"properties" if scanner.peek() == b'{' => found = Some(*scanner),
            b"required" if scanner.peek() == b'[' => required = Some(*scanner),
            _ => {}
        }
        scanner.value().map(drop)
    })
    .map_err(malformed)?;
    let Some(mut found) = found else { return Ok(Vec::new()) };
    let mut properties: Vec<Declared> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let (mut count, mut bad_name, mut again) = (0, false, None);
    members(&mut found, |name, scanner| {
        count += 1;
        bad_name |= name.len() > MAX_NAME_BYTES;
        if bad_name || count > MAX_COLUMNS {
            return scanner.value().map(drop);
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if by_name.insert(name.clone(), properties.len()).is_some() {
            again.get_or_insert_with(|| name.clone());
        }
        properties.push(Declared { name, property: property(scanner)?, required: false });
        Ok(())
    })
    .map_err(malformed)?;
    if count > MAX_COLUMNS {
        return Err(refused(stream, format!("{count} properties; at most {MAX_COLUMNS} are possible")));
    }
    if bad_name {
        return Err(refused(stream, format!("a property's name is longer than {MAX_NAME_BYTES} bytes")));
    }
    if let Some(name) = again {
        return Err(refused(stream, format!("the property {name:?} is in it twice")));
    }
    if let Some(mut required) = required {
        items(&mut required, |scanner| {
            if scanner.peek() != b'"' {
                return scanner.value().map(drop);
            }
            let index = std::str::from_utf8(&plain(scanner.string()?)).ok().and_then(|name| by_name.get(name).copied());
            if let Some(declared) = index.and_then(|index| properties.get_mut(index)) {
                declared.required = true;
            }
            Ok(())
        })
        .map_err(malformed)?;
    }
    Ok(properties)
}

/// The strings of an array; null is none.
fn names(mut scanner: Scanner<'_>, stream: &str) -> Result<Vec<String>> {
    let (mut names, mut fit) = (Vec::new(), true);
    items(&mut scanner, |scanner| {
        if scanner.peek() == b'n' {
            return scanner.value().map(drop);
        }
        let name = plain(scanner.string()?);
        fit &= names.len() < MAX_COLUMNS && name.len() <= MAX_NAME_BYTES;
        if fit {
            names.push(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(())
    })
    .map_err(malformed)?;
    if fit { Ok(names) } else { Err(refused(stream, "too many or too long key or bookmark properties")) }
}

/// Hashes a value without keeping any of it: a schema may be as long as a line, and [`fingerprint::of`] needs the value
/// as a tree. The members of an object are hashed one by one and added up, so that their order makes no difference.
fn digest(scanner: &mut Scanner<'_>, hasher: &mut Sha256) -> Result<(), Fault> {
    match scanner.peek() {
        b'{' => {
            let mut sum = [0u64; 4];
            members(scanner, |name, scanner| {
                let mut member = Sha256::new();
                member.update((name.len() as u64).to_le_bytes());
                member.update(name);
                digest(scanner, &mut member)?;
                let hash = member.finalize();
                let (words, _) = hash.as_chunks::<8>();
                for (sum, word) in sum.iter_mut().zip(words) {
                    *sum = sum.wrapping_add(u64::from_le_bytes(*word));
                }
                Ok(())
            })?;
            hasher.update(b"{");
            sum.iter().for_each(|word| hasher.update(word.to_le_bytes()));
        }
        b'[' => {
            hasher.update(b"[");
            items(scanner, |scanner| digest(scanner, hasher))?;
            hasher.update(b"]");
        }
        b'"' => {
            let text = plain(scanner.string()?).into_owned();
            hasher.update(b"\"");
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(&text);
        }
        _ => {
            let start = scanner.at();
            let token: Token = scanner.value()?;
            hasher.update(if token == Token::Number { b"n" } else { b"w" });
            hasher.update(scanner.since(start));
            hasher.update(b",");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: &str) -> Result<SchemaMessage> {
        SchemaMessage::read(
            format!(r#"{{"schema":{schema},"key_properties":["a"],"type":"SCHEMA","stream":"s"}}"#).as_bytes(),
        )
    }

    #[test]
    fn names_types_and_keys() {
        let message = read(r#"{"required":["b",5,"x"],"properties":{"a":{"type":"integer"},"\u0062":{}}}"#).unwrap();
        let names: Vec<_> = message.properties.iter().map(|p| (p.name.as_str(), p.required)).collect();
        assert_eq!(names, [("a", false), ("b", true)]);
        assert_eq!(message.key_properties, Some(vec!["a".to_owned()]));
        assert_eq!(message.bookmark_properties, None);
    }

    #[test]
    fn the_fingerprint_knows_values_and_not_their_order() {
        let of = |schema: &str| read(schema).unwrap().fingerprint;
        let one = of(r#"{"properties":{"a":{"type":"integer","enum":[1,2]},"b":{}}}"#);
        assert_eq!(one, of(r#"{ "properties": {"b": {}, "a": {"enum": [1, 2], "\u0074ype": "integer"}} }"#));
        for other in [
            r#"{"properties":{"a":{"type":"integer","enum":[2,1]},"b":{}}}"#,
            r#"{"properties":{"a":{"type":"integer","enum":[12]},"b":{}}}"#,
            r#"{"properties":{"a":{"type":"integer","enum":[1,"2"]},"b":{}}}"#,
            r#"{"properties":{"a":{"type":"integer","enum":[1,2],"x":null},"b":{}}}"#,
            r#"{"properties":{"b":{"type":"integer","enum":[1,2]},"a":{}}}"#,
        ] {
            assert_ne!(one, of(other), "{other}");
        }
    }

    #[test]
    fn a_schema_may_have_no_properties() {
        for schema in ["{}", r#"{"properties":{}}"#, r#"{"properties":null}"#, r#"{"anyOf":[{"properties":{"a":{}}}]}"#]
        {
            assert!(read(schema).unwrap().properties.is_empty(), "{schema}");
        }
    }

    #[test]
    fn refusals_name_the_stream_or_the_column() {
        let many: Vec<String> = (0..=MAX_COLUMNS).map(|i| format!("\"c{i}\":{{}}")).collect();
        for (schema, said) in [
            (r#"{"properties":{"a":{},"\u0061":{"type":"string"}}}"#.to_owned(), "\"a\" is in it twice"),
            ("5".to_owned(), "no properties object"),
            (format!("{{\"properties\":{{\"{}\":{{}}}}}}", "n".repeat(1025)), "name is longer"),
            (format!("{{\"properties\":{{{}}}}}", many.join(",")), "10001 properties"),
        ] {
            let error = read(&schema).unwrap_err();
            assert!(error.to_string().contains(said) && error.to_string().contains("\"s\""), "{error}");
        }
        for line in [
            r#"{"type":"SCHEMA","schema":{"properties":{}}}"#,
            r#"{"type":"SCHEMA","stream":"s"}"#,
            r#"{"type":"SCHEMA","stream":"s","schema":{"properties":{}},"schema":{"properties":{}}}"#,
            r#"{"type":"SCHEMA","stream":"s","schema":{"properties":{}},"key_properties":[1]}"#,
        ] {
            assert!(SchemaMessage::read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
