//! What becomes of a property: the one place that decides a column's type. The type table of `docs/files.md` says the same.
//!
//! Refuses nothing: a property whose type cannot be told becomes JSON text, which holds every value as it was written.

use super::column_type::ColumnType;
use crate::json::escape::plain;
use crate::json::exact::{int64, scale_of};
use crate::json::scan::Scanner;
use crate::json::token::{Fault, Token};
use crate::json::walker::{items, members};

/// The column that a property becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// The column's type.
    pub kind: ColumnType,
    /// Whether null is allowed.
    pub nullable: bool,
}

/// The JSON types that schemas name, one bit each.
const NULL: u8 = 1;
const STRING: u8 = 2;
const NUMBER: u8 = 4;
const INTEGER: u8 = 8;
const BOOLEAN: u8 = 16;
/// object, array, and what is no type.
const OTHER: u8 = 32;

/// The formats that make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    DateTime,
    Date,
    Time,
    Decimal,
}

/// The bounds and digits that a schema gives its numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Details {
    /// A bound lies beyond 64 bits.
    wide: bool,
    /// The scale that `multipleOf` asks for.
    multiple: Option<i8>,
    precision: Option<i64>,
    scale: Option<i64>,
}

/// The types that a schema allows, gathered over type lists and alternatives. Nothing else of the schema is kept: its
/// examples, descriptions and lists of values may be as long as they like.
#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    types: u8,
    /// The format of the first alternative that is not null, and whether another one has another.
    format: Option<Option<Format>>,
    mixed_formats: bool,
    details: Option<Details>,
    unknown: bool,
}

impl Allowed {
    /// Reads the schema at `scanner`.
    fn read(scanner: &mut Scanner<'_>, depth: u32) -> Result<Self, Fault> {
        let mut allowed = Allowed::default();
        if scanner.peek() != b'{' || depth >= 32 {
            scanner.value()?;
            allowed.unknown = true;
            return Ok(allowed);
        }
        let (mut types, mut format, mut details) = (0, None, Details::default());
        let mut alternatives: Option<Allowed> = None;
        members(scanner, |name, scanner| {
            match name {
                b"type" => types = type_names(scanner)?,
                b"format" => format = format_name(scanner)?,
                b"anyOf" | b"oneOf" | b"allOf" => items(scanner, |scanner| {
                    let one = Allowed::read(scanner, depth + 1)?;
                    alternatives.get_or_insert_default().unite(one);
                    Ok(())
                })?,
                _ => details.read(name, scanner)?,
            }
            Ok(())
        })?;
        allowed.unknown = types == 0 && alternatives.is_none();
        allowed.types = types;
        if types & !NULL != 0 {
            (allowed.format, allowed.details) = (Some(format), Some(details));
        }
        allowed.unite(alternatives.unwrap_or_default());
        Ok(allowed)
    }

    fn unite(&mut self, other: Allowed) {
        self.types |= other.types;
        self.unknown |= other.unknown;
        self.details = other.details.or(self.details);
        self.mixed_formats |=
            other.mixed_formats || matches!((self.format, other.format), (Some(one), Some(other)) if one != other);
        self.format = self.format.or(other.format);
    }

    /// The format, when every alternative that is not null has the same one.
    fn format(&self) -> Option<Format> {
        self.format.flatten().filter(|_| !self.mixed_formats)
    }
}

impl Details {
    fn read(&mut self, name: &[u8], scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        scanner.peek();
        let start = scanner.at();
        if scanner.value()? != Token::Number {
            return Ok(());
        }
        let number = scanner.since(start);
        let wide = || std::str::from_utf8(number).ok()?.parse::<f64>().ok().map(|bound| bound.abs() > 9.3e18);
        match name {
            b"maximum" | b"minimum" => self.wide |= wide().unwrap_or_default(),
            b"multipleOf" => self.multiple = std::str::from_utf8(number).ok().and_then(scale_of),
            b"precision" => self.precision = int64(number),
            b"scale" => self.scale = int64(number),
            _ => {}
        }
        Ok(())
    }
}

fn type_names(scanner: &mut Scanner<'_>) -> Result<u8, Fault> {
    let bit = |name: &[u8]| match name {
        b"null" => NULL,
        b"string" => STRING,
        b"number" => NUMBER,
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

/// The type that the property schema at `scanner` gets.
pub fn property(scanner: &mut Scanner<'_>) -> Result<Property, Fault> {
    let allowed = Allowed::read(scanner, 0)?;
    let nullable = allowed.unknown || allowed.types & NULL != 0;
    let details = allowed.details.unwrap_or_default();
    let kind = match (allowed.types & !NULL, allowed.format()) {
        _ if allowed.unknown => ColumnType::Json,
        (STRING, Some(Format::DateTime)) => ColumnType::Timestamp,
        (STRING, Some(Format::Date)) => ColumnType::Date,
        (STRING, Some(Format::Time)) => ColumnType::Time,
        (STRING | NUMBER, Some(Format::Decimal)) => given_decimal(details),
        (STRING, _) => ColumnType::Text,
        (BOOLEAN, _) => ColumnType::Bool,
        (INTEGER, _) if details.wide => ColumnType::Decimal { precision: 38, scale: 0 },
        (INTEGER, _) => ColumnType::Int64,
        (types, _) if types & NUMBER != 0 && types & !(NUMBER | INTEGER) == 0 => {
            details.multiple.map_or(ColumnType::Float64, |scale| ColumnType::Decimal { precision: 38, scale })
        }
        _ => ColumnType::Json,
    };
    Ok(Property { kind, nullable })
}

/// `x-singer.decimal` with its `precision` and `scale`; 38 and 18 where they are not given.
fn given_decimal(details: Details) -> ColumnType {
    let precision = details.precision.and_then(|p| u8::try_from(p).ok()).filter(|p| (1..=38).contains(p)).unwrap_or(38);
    let scale = details.scale.and_then(|s| i8::try_from(s).ok()).filter(|s| (0..=38).contains(s));
    let scale = scale.unwrap_or(if precision == 38 { 18 } else { 0 });
    ColumnType::Decimal { precision, scale: scale.min(i8::try_from(precision).unwrap_or(38)) }
}

#[cfg(test)]
mod tests;
