//! Properties as columns: one level of a JSON object spread over typed slots, and what does not fit kept aside.
//!
//! Nothing is lost and nothing is guessed. A slot takes a value only if its column holds exactly that value:
//! a string column takes strings (and nested values as JSON text), a number column numbers that survive a double, a
//! boolean column booleans. Everything else goes into the unmapped object as it was written. So that nested text can be
//! told from text, a *string* that begins like nested JSON is unmapped too. An explicit null is an absent property.

use std::collections::HashMap;

use ahash::RandomState;
use serde_json::Value;

use crate::json::escape::unescape;
use crate::json::label::Label;
use crate::json::scan::{Escapes, Scan, Scanner, Token};
use crate::singer::message::LineText;

use super::item;
use super::write::{write_invalid, write_on_one_line, write_text};

/// A double holds every number of so many digits.
const SURE_DIGITS: usize = 15;

/// Whose properties they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The event's own.
    Event,
    /// Those of its person, as they were when it was ingested.
    Person,
}

impl Family {
    /// A number for arrays of two.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Family::Person)
    }

    /// The expression and the name of the column that the document comes in. Not `person.properties`: that is a join.
    #[must_use]
    pub fn column(self) -> (&'static str, &'static str) {
        match self {
            Family::Event => ("properties", "properties"),
            Family::Person => ("poe.properties", "person_properties"),
        }
    }

    /// The family and the property that a column of this name holds.
    #[must_use]
    pub fn of_column(name: &str) -> Option<(Family, &str)> {
        if let Some(property) = name.strip_prefix("person_properties_") {
            return Some((Family::Person, property));
        }
        name.strip_prefix("properties_").map(|property| (Family::Event, property))
    }
}

/// What a slot takes.
#[derive(Debug)]
enum Kind {
    Text,
    Number,
    Boolean,
    /// What fits this schema, as it was written: a catalog may have given the column another type.
    Other(Box<Value>),
    /// Nothing, and what comes is passed on nowhere.
    Deselected,
}

/// A stretch of the document.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn of(self, document: &[u8]) -> &[u8] {
        document.get(self.start..self.end).unwrap_or(&[])
    }
}

/// A property with a column.
#[derive(Debug)]
struct Slot {
    /// The name as it stands in most documents, with quotes and colon.
    label: Label,
    kind: Kind,
    /// The number of the last document that had the name.
    named_in: u64,
    /// The value that this document has for the column.
    value: Option<(Token, Span)>,
    /// Usually comes after it, by last time: documents of one sender have one order.
    follower: usize,
}

/// A value of a slot, as it goes into its column.
#[derive(Clone, Copy, Debug)]
pub struct Property<'a> {
    token: Token,
    /// The document from the value on.
    text: &'a [u8],
    length: usize,
    is_text: bool,
}

impl Property<'_> {
    /// Writes it as JSON.
    #[inline(always)]
    pub fn write(self, out: &mut impl LineText) {
        match self.token {
            Token::Nested => self.write_nested(out),
            _ => out.start_of(self.text, self.length),
        }
    }

    #[inline(never)]
    fn write_nested(self, out: &mut impl LineText) {
        let text = self.text.get(..self.length).unwrap_or_default();
        if self.is_text { write_text(text, false, out) } else { write_on_one_line(text, out) }
    }
}

/// The slots of one family, filled from one document after another.
#[derive(Debug, Default)]
pub struct Flattener {
    by_name: HashMap<Vec<u8>, usize, RandomState>,
    slots: Vec<Slot>,
    /// The slot that documents usually begin with.
    first: usize,
    documents: u64,
    unmapped: Vec<(Span, Span)>,
    invalid: bool,
}

impl Flattener {
    /// Adds a column for `property`; gives its slot.
    pub fn add(&mut self, property: &str, schema: &Value) -> usize {
        let slot = self.slots.len();
        self.by_name.insert(property.as_bytes().to_vec(), slot);
        let (label, kind) = (Label::new(property), kind_of(schema));
        self.slots.push(Slot { label, kind, named_in: 0, value: None, follower: 0 });
        slot
    }

    /// Passes a property on nowhere, unless it has a column.
    pub fn leave_out(&mut self, property: &str) {
        if !self.by_name.contains_key(property.as_bytes()) {
            let slot = self.add(property, &Value::Null);
            self.slots[slot].kind = Kind::Deselected;
        }
    }

    /// Takes a document apart.
    pub fn read(&mut self, document: &[u8]) {
        self.documents += 1;
        self.unmapped.clear();
        self.invalid = !document.is_empty() && self.members(document).is_err();
        if self.invalid {
            self.documents += 1;
            self.unmapped.clear();
        }
    }

    /// The value for a slot in the document of the last [`Flattener::read`], which is `document`.
    #[inline(always)]
    #[must_use]
    pub fn property<'a>(&self, slot: usize, document: &'a [u8]) -> Option<Property<'a>> {
        let slot = self.slots.get(slot).filter(|slot| slot.named_in == self.documents)?;
        let (token, span) = slot.value?;
        let text = document.get(span.start..)?;
        Some(Property { token, text, length: span.end - span.start, is_text: matches!(slot.kind, Kind::Text) })
    }

    /// True if the document of the last [`Flattener::read`] has something that no slot holds.
    #[must_use]
    pub fn has_unmapped(&self) -> bool {
        self.invalid || !self.unmapped.is_empty()
    }

    /// Writes the object of what has no column.
    pub fn write_unmapped(&self, document: &[u8], out: &mut impl LineText) {
        if self.invalid {
            return write_invalid(document, out);
        }
        out.push(b'{');
        for (i, (key, value)) in self.unmapped.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key.of(document));
            out.push(b':');
            write_on_one_line(value.of(document), out);
        }
        out.push(b'}');
    }

    fn members(&mut self, document: &[u8]) -> Scan<()> {
        let mut scanner = Scanner::new(document);
        scanner.expect(b'{', "expected an object")?;
        let mut more = !scanner.take(b'}');
        let (mut last, mut likely) = (None, self.first);
        while more {
            (last, likely) = self.plain_members(&mut scanner, document, (last, likely));
            let (key, slot) = self.key(&mut scanner, likely)?;
            scanner.peek();
            let start = scanner.at();
            let token = scanner.value()?;
            let value = Span { start, end: scanner.at() };
            match slot {
                Some(slot) => {
                    if slot != likely {
                        *last
                            .and_then(|last: usize| self.slots.get_mut(last))
                            .map_or(&mut self.first, |last| &mut last.follower) = slot;
                    }
                    self.take(document, key, slot, (token, value));
                    (last, likely) = (Some(slot), self.slots.get(slot).map_or(0, |slot| slot.follower));
                }
                None => self.unmapped.push((key, value)),
            }
            more = scanner.more(b'}')?;
        }
        scanner.end()
    }

    /// Takes the members that come in the usual order, as most writers put them, up to the start of another one.
    fn plain_members(
        &mut self,
        scanner: &mut Scanner<'_>,
        document: &[u8],
        (mut last, mut likely): (Option<usize>, usize),
    ) -> (Option<usize>, usize) {
        loop {
            let at = scanner.at();
            let Some(slot) = self.slots.get_mut(likely).filter(|slot| slot.named_in != self.documents) else { break };
            let Some((token, start, end)) = scanner.plain_member(&slot.label) else { break };
            slot.named_in = self.documents;
            let value = Span { start, end };
            let fits = match (&slot.kind, token) {
                (Kind::Text, Token::Text(Escapes::None)) => !begins_nested(document, start),
                (Kind::Number, Token::Number) if end.wrapping_sub(start) <= SURE_DIGITS => true,
                (Kind::Boolean, Token::True | Token::False) => true,
                (kind, token) => fits(kind, token, value.of(document)),
            };
            slot.value = fits.then_some((token, value));
            if !fits && token != Token::Null && !matches!(slot.kind, Kind::Deselected) {
                self.unmapped.push((Span { start: at, end: start.wrapping_sub(1) }, value));
            }
            (last, likely) = (Some(likely), slot.follower);
        }
        (last, likely)
    }

    /// Steps over a name and its colon; gives the name with its quotes, and its slot, which is `likely` most of the time.
    #[inline]
    fn key(&self, scanner: &mut Scanner<'_>, likely: usize) -> Scan<(Span, Option<usize>)> {
        scanner.peek();
        let start = scanner.at();
        if self.slots.get(likely).is_some_and(|slot| scanner.eat_label(&slot.label)) {
            return Ok((Span { start, end: scanner.at() - 1 }, Some(likely)));
        }
        self.other_key(scanner)
    }

    fn other_key(&self, scanner: &mut Scanner<'_>) -> Scan<(Span, Option<usize>)> {
        let start = scanner.at();
        let name = scanner.string()?;
        let key = Span { start, end: scanner.at() };
        scanner.expect(b':', "expected :")?;
        if !name.is_escaped() {
            return Ok((key, self.by_name.get(name.raw).copied()));
        }
        let mut plain = Vec::new();
        let slot = if unescape(name, &mut plain) == 0 { self.by_name.get(&plain).copied() } else { None };
        Ok((key, slot))
    }

    #[inline(never)]
    fn take(&mut self, document: &[u8], key: Span, slot: usize, (token, span): (Token, Span)) {
        let Some(slot) = self.slots.get_mut(slot) else { return };
        let before = std::mem::replace(&mut slot.named_in, self.documents);
        slot.value = None;
        // The same key twice: the last one counts, as everywhere in JSON.
        if before == self.documents && !self.unmapped.is_empty() {
            let name = key.of(document);
            self.unmapped.retain(|(other, _)| other.of(document) != name);
        }
        if token == Token::Null || matches!(slot.kind, Kind::Deselected) {
            return;
        }
        if fits(&slot.kind, token, span.of(document)) {
            slot.value = Some((token, span));
        } else {
            self.unmapped.push((key, span));
        }
    }
}

fn kind_of(schema: &Value) -> Kind {
    let is = |name: &str| match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(types) => types.iter().any(|t| t == name),
        _ => false,
    };
    match () {
        () if is("string") && schema["format"].is_null() => Kind::Text,
        () if is("number") => Kind::Number,
        () if is("boolean") => Kind::Boolean,
        () if schema["type"].is_null() => Kind::Text,
        () => Kind::Other(Box::new(schema.clone())),
    }
}

/// True for the quote of a string that begins like nested JSON.
#[inline(always)]
fn begins_nested(text: &[u8], quote: usize) -> bool {
    matches!(text.get(quote.wrapping_add(1)), Some(b'{' | b'['))
}

/// True if a column of this kind holds exactly this value.
#[inline(never)]
fn fits(kind: &Kind, token: Token, text: &[u8]) -> bool {
    match (kind, token) {
        (Kind::Text, Token::Text(escapes)) => escapes != Escapes::LoneSurrogate && !begins_nested(text, 0),
        // As text only while it has no escape that text could not hold.
        (Kind::Text, Token::Nested) => !holds_surrogate_escape(text),
        (Kind::Number, Token::Number) => survives_a_double(text),
        (Kind::Boolean, Token::True | Token::False) => true,
        (Kind::Other(schema), token) => {
            token != Token::Text(Escapes::LoneSurrogate)
                && std::str::from_utf8(text).is_ok_and(|text| item::fits(schema, text))
        }
        _ => false,
    }
}

fn holds_surrogate_escape(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"\\u")
        .any(|at| matches!(text.get(at + 2..at + 4), Some([b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])))
}

/// True if the number as written is the number that a double holds: up to 15 digits always are.
pub(super) fn survives_a_double(text: &[u8]) -> bool {
    let mantissa = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let digits = text[..mantissa].iter().filter(|b| b.is_ascii_digit()).count();
    if digits <= SURE_DIGITS && mantissa == text.len() {
        return true;
    }
    let Some(value) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) else { return false };
    if mantissa == text.len() && !text.contains(&b'.') {
        return value.abs() <= 9_007_199_254_740_992.0 && format!("{value}").as_bytes() == text;
    }
    (value.is_normal() || value == 0.0) && decimal(text) == decimal(format!("{value:e}").as_bytes())
}

/// A number as (digits without zeros at either end, power of ten of the first digit), for comparison of decimal texts.
fn decimal(text: &[u8]) -> Option<(bool, Vec<u8>, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    let first = i64::try_from(whole.len()).ok()? - i64::try_from(zeros).ok()? + exponent;
    let kept: Vec<u8> = digits[zeros..].to_vec();
    let end = kept.iter().rposition(|d| *d != b'0').map_or(0, |at| at + 1);
    if end == 0 { Some((negative, Vec::new(), 0)) } else { Some((negative, kept[..end].to_vec(), first)) }
}

#[cfg(test)]
mod tests;
