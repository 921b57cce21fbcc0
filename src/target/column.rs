//! What becomes of a property: the one place that decides a column's type, and its mirror in Parquet's terms. The type
//! table of the README says the same.
//!
//! Refuses nothing: a property whose type cannot be told becomes JSON text, which holds every value as it was written.

use arrow_schema::DataType;
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use super::number::scale_of;
use crate::error::{Error, Kind, Result};

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

/// The JSON types that a schema allows, gathered over type lists and alternatives.
#[derive(Default)]
struct Allowed<'a> {
    types: Vec<&'a str>,
    formats: Vec<Option<&'a str>>,
    details: Option<&'a Map<String, Value>>,
    unknown: bool,
}

impl<'a> Allowed<'a> {
    fn gather(&mut self, schema: &'a Value, depth: u32) {
        let Some(object) = schema.as_object().filter(|_| depth < 32) else {
            self.unknown = true;
            return;
        };
        let alternatives: Vec<&Value> =
            ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| object.get(*key)?.as_array()).flatten().collect();
        let names: Vec<&str> = match object.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        self.unknown |= names.is_empty() && alternatives.is_empty();
        for name in names {
            if name != "null" {
                self.formats.push(object.get("format").and_then(Value::as_str));
                self.details = Some(object);
            }
            if !self.types.contains(&name) {
                self.types.push(name);
            }
        }
        for alternative in alternatives {
            self.gather(alternative, depth + 1);
        }
    }

    /// The format, when every alternative that is not null has the same one.
    fn format(&self) -> Option<&'a str> {
        let first = self.formats.first().copied().flatten()?;
        self.formats.iter().all(|format| *format == Some(first)).then_some(first)
    }
}

/// The type that the property schema `schema` gets.
#[must_use]
pub fn property(schema: &Value) -> Property {
    let mut allowed = Allowed::default();
    allowed.gather(schema, 0);
    let nullable = allowed.unknown || allowed.types.contains(&"null");
    let types: Vec<&str> = allowed.types.iter().copied().filter(|name| *name != "null").collect();
    let kind = match (types.as_slice(), allowed.format()) {
        _ if allowed.unknown => ColumnType::Json,
        (["string"], Some("date-time")) => ColumnType::Timestamp,
        (["string"], Some("date")) => ColumnType::Date,
        (["string"], Some("time")) => ColumnType::Time,
        (["string" | "number"], Some("x-singer.decimal" | "singer.decimal")) => given_decimal(allowed.details),
        (["string"], _) => ColumnType::Text,
        (["boolean"], _) => ColumnType::Bool,
        (["integer"], _) => integer(allowed.details),
        (["number"] | ["number", "integer"] | ["integer", "number"], _) => number(allowed.details),
        _ => ColumnType::Json,
    };
    Property { kind, nullable }
}

fn integer(details: Option<&Map<String, Value>>) -> ColumnType {
    let bound = |key: &str| details?.get(key)?.as_f64();
    let wide = |value: f64| value.abs() > 9.3e18;
    if bound("maximum").is_some_and(wide) || bound("minimum").is_some_and(wide) {
        ColumnType::Decimal { precision: 38, scale: 0 }
    } else {
        ColumnType::Int64
    }
}

fn number(details: Option<&Map<String, Value>>) -> ColumnType {
    let scale = details.and_then(|d| d.get("multipleOf")).and_then(|multiple| scale_of(&multiple.to_string()));
    scale.map_or(ColumnType::Float64, |scale| ColumnType::Decimal { precision: 38, scale })
}

/// `x-singer.decimal` with its `precision` and `scale`; 38 and 18 where they are not given.
fn given_decimal(details: Option<&Map<String, Value>>) -> ColumnType {
    let detail = |key: &str| details?.get(key)?.as_i64();
    let precision =
        detail("precision").and_then(|p| u8::try_from(p).ok()).filter(|p| (1..=38).contains(p)).unwrap_or(38);
    let scale = detail("scale").and_then(|s| i8::try_from(s).ok()).filter(|s| (0..=38).contains(s));
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_type_table() {
        let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
        for (schema, kind, nullable) in [
            (json!({"type": "integer"}), ColumnType::Int64, false),
            (json!({"type": ["null", "integer"]}), ColumnType::Int64, true),
            (json!({"type": "integer", "maximum": 18_446_744_073_709_551_615u64}), decimal(38, 0), false),
            (json!({"type": ["number", "null"]}), ColumnType::Float64, true),
            (json!({"type": ["integer", "number"]}), ColumnType::Float64, false),
            (json!({"type": "number", "multipleOf": 0.01}), decimal(38, 2), false),
            (json!({"type": "string", "format": "x-singer.decimal"}), decimal(38, 18), false),
            (
                json!({"type": "string", "format": "x-singer.decimal", "precision": 10, "scale": 4}),
                decimal(10, 4),
                false,
            ),
            (json!({"type": ["string", "null"], "format": "date-time"}), ColumnType::Timestamp, true),
            (
                json!({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
                ColumnType::Timestamp,
                true,
            ),
            (
                json!({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string"}]}),
                ColumnType::Text,
                false,
            ),
            (json!({"type": "string", "format": "date"}), ColumnType::Date, false),
            (json!({"type": "string", "format": "time"}), ColumnType::Time, false),
            (json!({"type": "string", "format": "uuid"}), ColumnType::Text, false),
            (json!({"type": "boolean"}), ColumnType::Bool, false),
            (json!({"type": ["null", "object"], "additionalProperties": true}), ColumnType::Json, true),
            (json!({"type": "array"}), ColumnType::Json, false),
            (json!({"type": ["integer", "string"]}), ColumnType::Json, false),
            (json!({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}), ColumnType::Json, true),
            (json!({}), ColumnType::Json, true),
            (json!({"$ref": "#/definitions/x"}), ColumnType::Json, true),
            (json!({"type": "null"}), ColumnType::Json, true),
            (json!(true), ColumnType::Json, true),
        ] {
            assert_eq!(property(&schema), Property { kind, nullable }, "{schema}");
        }
    }

    #[test]
    fn names_of_types_come_back() {
        for kind in [ColumnType::Int64, ColumnType::Json, ColumnType::Decimal { precision: 38, scale: 2 }] {
            assert_eq!(kind.to_string().parse::<ColumnType>().unwrap(), kind);
        }
        assert!("int65".parse::<ColumnType>().is_err());
    }

    #[test]
    fn a_schema_that_nests_for_ever_is_cut_off() {
        let deep = (0..100).fold(json!({"type": "integer"}), |inner, _| json!({"anyOf": [inner]}));
        assert_eq!(property(&deep).kind, ColumnType::Json);
    }
}
