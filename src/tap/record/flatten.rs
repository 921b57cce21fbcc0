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
use crate::json::scan::Scanner;
use crate::json::token::{Escapes, Scan, Token};
use crate::posthog::query::page::Row;
use crate::singer::output::LineText;

use super::cell::{Object, document, write_invalid, write_on_one_line, write_text};
use super::exceptions::Exceptions;
use super::fits::{Kind, SURE_DIGITS, begins_nested, fits, kind_of};
use super::members::Members;
use super::repair::Repair;

/// Longer values are not copied before they are written.
const LONG_BYTES: usize = 256;

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
    pub fn index(self) -> usize {
        usize::from(self == Family::Person)
    }

    /// The expression and the name of the column that the document comes in. Not `person.properties`: that is a join.
    pub fn column(self) -> (&'static str, &'static str) {
        match self {
            Family::Event => ("properties", "properties"),
            Family::Person => ("poe.properties", "person_properties"),
        }
    }

    /// The family and the property that a column of this name holds.
    pub fn of_column(name: &str) -> Option<(Family, &str)> {
        if let Some(property) = name.strip_prefix("person_properties_") {
            return Some((Family::Person, property));
        }
        name.strip_prefix("properties_").map(|property| (Family::Event, property))
    }
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

    fn length(self) -> usize {
        self.end.wrapping_sub(self.start)
    }
}

/// A property with a column.
#[derive(Debug)]
struct Slot {
    /// The name as it stands in most documents.
    label: Label,
    /// The column's name.
    column: Label,
    kind: Kind,
    /// The number of the last document that had the name.
    named_in: u64,
    /// Where the name stands in that document, for the last time.
    named_at: usize,
    /// Values that the column could not hold.
    unfit: u64,
    /// Usually comes after it, by last time: documents of one sender have one order.
    follower: usize,
}

impl Slot {
    /// Writes a value of it as JSON.
    fn write(&self, token: Token, document: &[u8], value: Span, out: &mut impl LineText) {
        match token {
            Token::Nested => self.write_nested(value.of(document), out),
            _ => out.extend_from_slice(value.of(document)),
        }
    }

    #[inline(never)]
    fn write_nested(&self, value: &[u8], out: &mut impl LineText) {
        if matches!(self.kind, Kind::Text) { write_text(value, false, out) } else { write_on_one_line(value, out) }
    }
}

/// The fields that the properties in one column of a page are spread over.
#[derive(Debug)]
pub struct Properties {
    source: usize,
    flattener: Flattener,
    /// The name of the field with the properties that have no column.
    unmapped: Option<Label>,
}

impl Properties {
    /// No fields yet, for the documents in the column `source`.
    pub fn new(source: usize) -> Properties {
        Properties { source, flattener: Flattener::default(), unmapped: None }
    }

    /// Adds the field `name`, which holds `property`.
    pub fn add(&mut self, name: &str, property: &str, schema: &Value) {
        self.flattener.add(name, property, schema);
    }

    /// Adds the field `name`, which holds what no other one does.
    pub fn add_unmapped(&mut self, name: &str) {
        self.unmapped = Some(Label::new(name));
    }

    /// Adds what the columns could not hold.
    pub fn count_unfit(&self, exceptions: &mut Exceptions) {
        for slot in self.flattener.slots.iter().filter(|slot| slot.unfit > 0) {
            exceptions.add(slot.column.name(), slot.unfit, self.unmapped.as_ref().map(Label::name));
        }
    }

    /// Passes a property on nowhere, unless it has a field.
    pub fn leave_out(&mut self, property: &str) {
        self.flattener.leave_out(property);
    }

    /// Writes the fields that have a value, in the order of the document. One that is absent is left out: in a nullable
    /// column that means null.
    pub fn write<T: LineText>(&mut self, row: &Row<'_>, repair: &mut Repair, object: &mut Object<'_, T>) {
        let document = repair.repaired(document(row.cell(self.source)));
        self.flattener.read(document);
        self.flattener.write_members(document, object);
        if let Some(label) = self.unmapped.as_ref().filter(|_| self.flattener.has_unmapped()) {
            self.flattener.write_unmapped(document, object.begin(label));
        }
    }
}

/// The slots of one family, filled from one document after another.
#[derive(Debug, Default)]
struct Flattener {
    by_name: HashMap<Vec<u8>, usize, RandomState>,
    slots: Vec<Slot>,
    /// The slot that documents usually begin with.
    first: usize,
    documents: u64,
    /// The members of the record, in the order of the document, each with a comma before it.
    members: Members,
    /// Values that are too long to be copied more than once, and their slots.
    long: Vec<(usize, Token, Span)>,
    /// Names and values that go into no column, and the slot whose column does not hold them.
    unmapped: Vec<(Option<usize>, Span, Span)>,
    repeats: Repeats,
    invalid: bool,
}

/// Names that come more than once: the last value counts, as everywhere in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Repeats {
    /// None so far.
    #[default]
    None,
    /// There are some: the document has to be read again.
    Some,
    /// This is the second reading, and only the last values are taken.
    Last,
}

impl Flattener {
    /// Adds a column for `property`.
    fn add(&mut self, column: &str, property: &str, schema: &Value) {
        self.by_name.insert(property.as_bytes().to_vec(), self.slots.len());
        let (label, column) = (Label::new(property), Label::new(column));
        let kind = kind_of(schema);
        self.slots.push(Slot { label, column, kind, named_in: 0, named_at: 0, unfit: 0, follower: 0 });
    }

    /// Passes a property on nowhere, unless it has a column.
    fn leave_out(&mut self, property: &str) {
        if !self.by_name.contains_key(property.as_bytes()) {
            self.add("", property, &Value::Null);
            self.slots.iter_mut().last().into_iter().for_each(|slot| slot.kind = Kind::Deselected);
        }
    }

    /// Takes a document apart.
    fn read(&mut self, document: &[u8]) {
        self.documents += 1;
        self.clear();
        self.repeats = Repeats::None;
        self.invalid = !document.is_empty() && self.take_apart(document).is_err();
        if self.repeats == Repeats::Some && !self.invalid {
            self.clear();
            self.repeats = Repeats::Last;
            self.invalid = self.take_apart(document).is_err();
        }
        if self.invalid {
            self.clear();
        }
        for slot in self.unmapped.iter().filter_map(|(slot, ..)| *slot) {
            self.slots.get_mut(slot).into_iter().for_each(|slot| slot.unfit += 1);
        }
    }

    fn clear(&mut self) {
        self.members.clear();
        self.long.clear();
        self.unmapped.clear();
    }

    /// Writes the members that the document of the last [`Flattener::read`], which is `document`, has values for.
    fn write_members<T: LineText>(&self, document: &[u8], object: &mut Object<'_, T>) {
        object.extend(self.members.text());
        for (slot, token, value) in &self.long {
            if let Some(slot) = self.slots.get(*slot) {
                slot.write(*token, document, *value, object.begin(&slot.column));
            }
        }
    }

    /// True if the document of the last [`Flattener::read`] has something that no slot holds.
    fn has_unmapped(&self) -> bool {
        self.invalid || !self.unmapped.is_empty()
    }

    /// Writes the object of what has no column.
    fn write_unmapped(&self, document: &[u8], out: &mut impl LineText) {
        if self.invalid {
            return write_invalid(document, out);
        }
        out.push(b'{');
        for (i, (_, key, value)) in self.unmapped.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key.of(document));
            out.push(b':');
            write_on_one_line(value.of(document), out);
        }
        out.push(b'}');
    }

    fn take_apart(&mut self, document: &[u8]) -> Scan<()> {
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
                None => self.unmapped.push((None, key, value)),
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
            let Some(slot) = self.slots.get(likely).filter(|slot| slot.named_in != self.documents) else { break };
            let follower = slot.follower;
            let Some((token, start, end)) = scanner.plain_member(&slot.label) else { break };
            let (key, value) = (Span { start: at, end: start.wrapping_sub(1) }, Span { start, end });
            self.keep(document, key, likely, (token, value), |kind| match (kind, token) {
                (Kind::Text, Token::Text(Escapes::None)) => !begins_nested(document, start),
                // Without an exponent.
                (Kind::Number, Token::Number) if value.length() <= SURE_DIGITS => true,
                (Kind::Boolean, Token::True | Token::False) => true,
                (kind, token) => fits(kind, token, value.of(document)),
            });
            (last, likely) = (Some(likely), follower);
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

    fn take(&mut self, document: &[u8], key: Span, index: usize, (token, value): (Token, Span)) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match self.repeats {
            Repeats::Last if slot.named_at != key.start => {}
            Repeats::None | Repeats::Some if slot.named_in == self.documents => {
                slot.named_at = key.start;
                self.repeats = Repeats::Some;
            }
            _ => self.keep(document, key, index, (token, value), |kind| fits(kind, token, value.of(document))),
        }
    }

    /// Keeps the value of a slot for its column, or among the unmapped ones.
    #[inline(always)]
    fn keep(
        &mut self,
        document: &[u8],
        key: Span,
        index: usize,
        (token, value): (Token, Span),
        fits: impl FnOnce(&Kind) -> bool,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        (slot.named_in, slot.named_at) = (self.documents, key.start);
        if token == Token::Null || matches!(slot.kind, Kind::Deselected) {
            return;
        }
        if !fits(&slot.kind) {
            self.unmapped.push((Some(index), key, value));
        } else if value.length() > LONG_BYTES {
            self.long.push((index, token, value));
        } else {
            write_member(slot, token, document, value, &mut self.members);
        }
    }
}

/// Writes a member of the record.
#[inline(always)]
fn write_member(slot: &Slot, token: Token, document: &[u8], value: Span, members: &mut Members) {
    match token {
        Token::Nested => members.append(&slot.column, |out| slot.write_nested(value.of(document), out)),
        _ => members.add(&slot.column, document.get(value.start..).unwrap_or_default(), value.length()),
    }
}

#[cfg(test)]
mod tests;
