//! What becomes of a property: the one place that decides a column's type, and its mirror in Parquet's terms. The type
//! table of the README says the same.
//!
//! Refuses nothing: a property whose type cannot be told becomes JSON text, which holds every value as it was written.

use arrow_schema::DataType;
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{Type, TypePtr};

use super::message::{items, members};
use crate::error::{Error, Kind, Result};
use crate::json::exact::{int64, scale_of};
use crate::json::scan::{Fault, Scanner, Token};
use crate::target::rows::cells::plain;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// Whole numbers of 64 bits.
    Int64,
    /// Exact decimals: at most `precision` digits, `scale` of them behind the point.
    Decimal {
        /// Digits in all, at most 38.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
    },
    /// Doubles.
    Float64,
    /// True and false.
    Bool,
    /// Strings.
    Text,
    /// Any value, as the JSON text that came in.
    Json,
    /// Moments in microseconds since 1970 UTC.
    Timestamp,
    /// Days since 1970.
    Date,
    /// Microseconds since midnight.
    Time,
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ColumnType::Int64 => f.write_str("int64"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal_{precision}_{scale}"),
            ColumnType::Float64 => f.write_str("float64"),
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Json => f.write_str("json"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Time => f.write_str("time"),
        }
    }
}

impl std::str::FromStr for ColumnType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let decimal = || {
            let (precision, scale) = name.strip_prefix("decimal_")?.split_once('_')?;
            Some(ColumnType::Decimal { precision: precision.parse().ok()?, scale: scale.parse().ok()? })
        };
        Ok(match name {
            "int64" => ColumnType::Int64,
            "float64" => ColumnType::Float64,
            "bool" => ColumnType::Bool,
            "text" => ColumnType::Text,
            "json" => ColumnType::Json,
            "timestamp" => ColumnType::Timestamp,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            _ => decimal().ok_or_else(|| {
                Error::new(Kind::Disk, format!("unknown column type {name:?}; written by a newer version?"))
            })?,
        })
    }
}

/// What a property's schema says.
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

/// What a schema says of its numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Details {
    /// A bound lies beyond 64 bits.
    wide: bool,
    /// The scale that `multipleOf` asks for.
    multiple: Option<i8>,
    precision: Option<i64>,
    scale: Option<i64>,
}

/// What a schema allows, gathered over type lists and alternatives. Nothing else of the schema is kept: its examples,
/// descriptions and lists of values may be as long as they like.
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
    /// What the schema at `scanner` allows.
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
///
/// # Errors
/// When it is not JSON.
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

impl ColumnType {
    /// The Arrow type of the arrays that the encoder is given. Text is handed over as bytes: a line was checked for
    /// UTF-8 once, as a whole.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Int64 | ColumnType::Timestamp | ColumnType::Time => DataType::Int64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Text | ColumnType::Json => DataType::Binary,
            ColumnType::Date => DataType::Int32,
        }
    }

    /// The Arrow type that the footer tells readers who ask for one; for them JSON text is plain text.
    #[must_use]
    pub fn described(self) -> DataType {
        match self {
            ColumnType::Text | ColumnType::Json => DataType::Utf8,
            ColumnType::Timestamp => DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(arrow_schema::TimeUnit::Microsecond),
            other => other.arrow(),
        }
    }

    /// The Parquet type of a column of this type. Every column is optional, so that files of one stream unite.
    ///
    /// # Errors
    /// When the Parquet library refuses the type, which would be a fault of ours.
    pub fn parquet(self, name: &str) -> Result<TypePtr> {
        let (physical, logical) = match self {
            ColumnType::Int64 => (Physical::INT64, None),
            ColumnType::Decimal { precision, scale } => {
                return decimal_type(name, precision, scale);
            }
            ColumnType::Float64 => (Physical::DOUBLE, None),
            ColumnType::Bool => (Physical::BOOLEAN, None),
            ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            ColumnType::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            ColumnType::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            ColumnType::Date => (Physical::INT32, Some(LogicalType::Date)),
            ColumnType::Time => (Physical::INT64, Some(LogicalType::time(false, TimeUnit::MICROS))),
        };
        let builder = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        built(name, builder.with_repetition(Repetition::OPTIONAL).build())
    }
}

fn decimal_type(name: &str, precision: u8, scale: i8) -> Result<TypePtr> {
    let (precision, scale) = (i32::from(precision), i32::from(scale));
    // The smallest physical type that holds the precision, as the Arrow writer expects it.
    let (physical, length) = match precision {
        ..=9 => (Physical::INT32, -1),
        10..=18 => (Physical::INT64, -1),
        _ => (Physical::FIXED_LEN_BYTE_ARRAY, decimal_bytes(precision)),
    };
    let builder = Type::primitive_type_builder(name, physical)
        .with_length(length)
        .with_precision(precision)
        .with_scale(scale)
        .with_logical_type(Some(LogicalType::decimal(scale, precision)));
    built(name, builder.with_repetition(Repetition::OPTIONAL).build())
}

/// Bytes of a two's complement number of so many decimal digits.
fn decimal_bytes(precision: i32) -> i32 {
    let bits = f64::from(precision) * std::f64::consts::LOG2_10 + 1.0;
    #[expect(clippy::cast_possible_truncation, reason = "at most 17")]
    let bytes = (bits / 8.0).ceil() as i32;
    bytes
}

fn built(name: &str, built: Result<Type, parquet::errors::ParquetError>) -> Result<TypePtr> {
    built.map(TypePtr::new).map_err(|e| Error::new(Kind::Internal, format!("declaring column {name:?} failed: {e}")))
}

#[cfg(test)]
mod tests;
