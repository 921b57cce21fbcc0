//! The types of columns, their names in the files of the target, and their mirror in the terms of Arrow and Parquet.

use arrow_schema::DataType;
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{Type, TypePtr};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The type of a column.
///
/// A new one is named here, and then in four places: `property` of `property.rs` (which schemas mean it), `Values` of
/// `values.rs` (its values in memory), `Cells::read` of `rows/cells.rs` (JSON in), `arrays` of `files/row_group.rs`
/// (Parquet out). The type table of `docs/files.md` says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
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

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> String {
        kind.to_string()
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let decimal = || {
            let (precision, scale) = name.strip_prefix("decimal_")?.split_once('_')?;
            Some(ColumnType::Decimal { precision: precision.parse().ok()?, scale: scale.parse().ok()? })
        };
        Ok(match name.as_str() {
            "int64" => ColumnType::Int64,
            "float64" => ColumnType::Float64,
            "bool" => ColumnType::Bool,
            "text" => ColumnType::Text,
            "json" => ColumnType::Json,
            "timestamp" => ColumnType::Timestamp,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            _ => decimal().ok_or_else(|| format!("unknown column type {name:?}; written by a newer version?"))?,
        })
    }
}

/// A column as the file declares it.
#[derive(Clone, Debug)]
pub struct LayoutColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Its declaration.
    pub parquet: TypePtr,
}

impl ColumnType {
    /// The Arrow type of the arrays that the encoder is given. Text is handed over as bytes: a line was checked for
    /// UTF-8 once, as a whole.
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
mod tests {
    use super::*;

    #[test]
    fn names_of_types_come_back() {
        for kind in [ColumnType::Int64, ColumnType::Json, ColumnType::Decimal { precision: 38, scale: 2 }] {
            assert_eq!(ColumnType::try_from(kind.to_string()), Ok(kind));
        }
        assert!(ColumnType::try_from("int65".to_owned()).is_err());
    }
}
