//! The values that a schema allows, gathered over type lists, alternatives, and lists of values. Nothing else of the schema is
//! kept: its examples, descriptions and lists may be as long as they like.

use crate::json::escape::plain;
use crate::json::exact::{int64, scale_of};
use crate::json::scan::Scanner;
use crate::json::token::{Fault, Token};
use crate::json::walker::{items, members};

/// The JSON types that schemas name, one bit each. A number may be an integer too.
pub const NULL: u8 = 1;
/// string.
pub const STRING: u8 = 2;
/// number, always with [`INTEGER`].
pub const NUMBER: u8 = 4;
/// integer.
pub const INTEGER: u8 = 8;
/// boolean.
pub const BOOLEAN: u8 = 16;
/// object, array, and what is no type.
pub const OTHER: u8 = 32;

/// So deep alternatives are looked at, and so many that differ.
const MAX_DEPTH: u32 = 32;
const MAX_ALTERNATIVES: usize = 64;
/// The scale of a number that has more digits behind the point than any decimal of ours.
const BEYOND: i8 = i8::MAX;

/// The formats that make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `date-time`
    DateTime,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `x-singer.decimal`
    Decimal,
}

/// The format of all alternatives together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Formats {
    None,
    One(Format),
    Several,
}

/// The bounds and digits that a schema gives its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digits {
    /// A bound lies beyond 64 bits.
    pub wide: bool,
    /// A bound lies beyond 38 digits.
    pub huge: bool,
    /// The scale that `multipleOf` asks for; none where any number is allowed.
    pub scale: Option<i8>,
    /// `precision` of an `x-singer.decimal`.
    pub precision: Option<i64>,
    /// Its `scale`.
    pub places: Option<i64>,
}

/// What a schema allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The types, where any are known.
    pub types: u8,
    /// Something says which types are allowed.
    pub known: bool,
    /// More than a list of types says so.
    pub composed: bool,
    /// Of its numbers.
    pub digits: Digits,
    formats: Formats,
}

impl Allowed {
    /// A schema that says nothing.
    const ALL: Allowed = Allowed {
        types: 0,
        known: false,
        composed: false,
        digits: Digits { wide: false, huge: false, scale: None, precision: None, places: None },
        formats: Formats::None,
    };

    fn of(types: u8) -> Allowed {
        Allowed { types, known: types != 0, ..Allowed::ALL }
    }

    /// The format, when every alternative has the same one.
    pub fn format(&self) -> Option<Format> {
        if let Formats::One(format) = self.formats { Some(format) } else { None }
    }

    /// Reads the schema at `scanner`.
    pub fn read(scanner: &mut Scanner<'_>, depth: u32) -> Result<Self, Fault> {
        if scanner.peek() != b'{' || depth >= MAX_DEPTH {
            scanner.value()?;
            return Ok(Allowed::ALL);
        }
        let mut own = Allowed::ALL;
        // Members come in any order, and alternatives inherit from all of them.
        let (mut nullable, mut listed, mut all) = (false, Allowed::ALL, Allowed::ALL);
        let mut alternatives: Vec<Allowed> = Vec::new();
        let mut too_many = false;
        members(scanner, |name, scanner| {
            match name {
                b"type" => {
                    own = Allowed { formats: own.formats, digits: own.digits, ..Allowed::of(type_names(scanner)?) }
                }
                b"format" => own.formats = format_name(scanner)?.map_or(Formats::None, Formats::One),
                b"nullable" => nullable = scanner.value()? == Token::True,
                b"enum" => items(scanner, |scanner| {
                    listed.types |= type_of(scanner)?;
                    Ok(())
                })?,
                b"const" => listed.types |= type_of(scanner)?,
                b"allOf" => items(scanner, |scanner| {
                    all = all.narrowed(Allowed::read(scanner, depth + 1)?);
                    Ok(())
                })?,
                b"anyOf" | b"oneOf" => items(scanner, |scanner| {
                    let one = Allowed::read(scanner, depth + 1)?;
                    let is_new = !alternatives.contains(&one);
                    if is_new && alternatives.len() < MAX_ALTERNATIVES {
                        alternatives.push(one);
                    }
                    too_many |= is_new && alternatives.len() == MAX_ALTERNATIVES;
                    Ok(())
                })?,
                _ => own.digits.read(name, scanner)?,
            }
            Ok(())
        })?;
        listed.known = listed.types != 0;
        let composed = listed.known || all != Allowed::ALL || !alternatives.is_empty();
        own = own.narrowed(listed).narrowed(all);
        let mut found = alternatives.iter().map(|one| own.narrowed(*one)).reduce(Allowed::united).unwrap_or(own);
        found.known &= !too_many;
        found.composed |= composed;
        found.types |= if nullable { NULL } else { 0 };
        Ok(found)
    }

    /// What both allow; what one does not say is inherited from the other. Null is allowed where one says so, and all that
    /// either allows where they contradict each other: no value is refused for what a schema says twice.
    fn narrowed(self, inner: Allowed) -> Allowed {
        let both = self.types & inner.types & !NULL;
        let either = self.types | inner.types;
        Allowed {
            types: if self.known && inner.known && both != 0 { both | either & NULL } else { either },
            known: self.known || inner.known,
            composed: self.composed || inner.composed,
            digits: self.digits.narrowed(inner.digits),
            formats: match (self.formats, inner.formats) {
                (one, Formats::None) | (Formats::None, one) => one,
                (one, other) if one == other => one,
                _ => Formats::Several,
            },
        }
    }

    /// What either allows.
    fn united(self, other: Allowed) -> Allowed {
        let has = |allowed: Allowed, types| !allowed.known || allowed.types & types != 0;
        let pick = |types| (has(self, types), has(other, types));
        Allowed {
            types: self.types | other.types,
            known: self.known && other.known,
            composed: true,
            // Decimals come as strings, too.
            digits: match pick(STRING | NUMBER | INTEGER) {
                (true, true) => self.digits_of_union().widest(other.digits_of_union()),
                (true, false) => self.digits,
                (false, _) => other.digits,
            },
            formats: match pick(STRING | NUMBER | INTEGER) {
                (true, true) if self.formats != other.formats => Formats::Several,
                (true, _) => self.formats,
                (false, _) => other.formats,
            },
        }
    }

    /// Integers beside numbers are numbers without digits behind the point.
    fn digits_of_union(self) -> Digits {
        let is_whole = self.known && self.types & NUMBER == 0;
        Digits { scale: if is_whole { Some(0) } else { self.digits.scale }, ..self.digits }
    }
}

impl Digits {
    fn narrowed(self, inner: Digits) -> Digits {
        Digits {
            wide: self.wide || inner.wide,
            huge: self.huge || inner.huge,
            scale: inner.scale.or(self.scale),
            precision: inner.precision.or(self.precision),
            places: inner.places.or(self.places),
        }
    }

    fn widest(self, other: Digits) -> Digits {
        let places = self.places.unwrap_or(0).max(other.places.unwrap_or(0));
        let whole = |digits: Digits| Some(digits.precision?.saturating_sub(digits.places.unwrap_or(0)));
        let precision = whole(self).zip(whole(other)).map(|(one, other)| one.max(other).saturating_add(places));
        Digits {
            wide: self.wide || other.wide,
            huge: self.huge || other.huge,
            scale: self.scale.zip(other.scale).map(|(one, other)| one.max(other)),
            precision,
            places: Some(places),
        }
    }

    fn read(&mut self, name: &[u8], scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        scanner.peek();
        let start = scanner.at();
        if scanner.value()? != Token::Number {
            return Ok(());
        }
        let text = scanner.since(start);
        let number = std::str::from_utf8(text).unwrap_or_default();
        let value = number.parse::<f64>().unwrap_or_default();
        match name {
            b"maximum" | b"minimum" => {
                self.wide |= value.abs() > 9.3e18;
                self.huge |= value.abs() > 1.1e38;
            }
            b"multipleOf" => self.scale = scale_of(number).or((value > 0.0 && value < 5e-19).then_some(BEYOND)),
            b"precision" => self.precision = int64(text),
            b"scale" => self.places = int64(text),
            _ => {}
        }
        Ok(())
    }
}

fn type_names(scanner: &mut Scanner<'_>) -> Result<u8, Fault> {
    let bit = |name: &[u8]| match name {
        b"null" => NULL,
        b"string" => STRING,
        b"number" => NUMBER | INTEGER,
        b"integer" => INTEGER,
        b"boolean" => BOOLEAN,
        _ => OTHER,
    };
    let mut types = 0;
    match scanner.peek() {
        b'"' => types = bit(&plain(scanner.string()?)),
        b'[' => items(scanner, |scanner| {
            if scanner.peek() == b'"' {
                types |= bit(&plain(scanner.string()?));
            } else {
                scanner.value()?;
            }
            Ok(())
        })?,
        _ => drop(scanner.value()?),
    }
    Ok(types)
}

/// The type of a value in a list.
fn type_of(scanner: &mut Scanner<'_>) -> Result<u8, Fault> {
    scanner.peek();
    let start = scanner.at();
    Ok(match scanner.value()? {
        Token::Null => NULL,
        Token::Text(_) => STRING,
        Token::Number if int64(scanner.since(start)).is_some() => INTEGER,
        Token::Number => NUMBER | INTEGER,
        Token::True | Token::False => BOOLEAN,
        Token::Nested => OTHER,
    })
}

fn format_name(scanner: &mut Scanner<'_>) -> Result<Option<Format>, Fault> {
    if scanner.peek() != b'"' {
        scanner.value()?;
        return Ok(None);
    }
    Ok(match &*plain(scanner.string()?) {
        b"date-time" => Some(Format::DateTime),
        b"date" => Some(Format::Date),
        b"time" => Some(Format::Time),
        b"x-singer.decimal" | b"singer.decimal" => Some(Format::Decimal),
        _ => None,
    })
}
