//! Values and their ClickHouse types: how they compare (strings by bytes, uuids by their last eight bytes first) and how
//! PostHog prints them as JSON. Integers are kept wide, so a hash above 2^63 is exact.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::zone::Zone;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Uuid(u128),
    /// Days since 1970-01-01.
    Date(i64),
    /// Microseconds since 1970-01-01 UTC.
    Time(i64),
    /// A span of microseconds.
    Span(i64),
    List(Arc<[Value]>),
}

/// Lists of values are compared as tuples.
impl Value {
    pub(crate) fn text(text: &str) -> Value {
        Value::Text(Arc::from(text))
    }

    pub(crate) fn truth(yes: bool) -> Value {
        Value::Int(i128::from(yes))
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Bool(yes) => *yes,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            _ => false,
        }
    }

    /// The order of ClickHouse, `None` between values of types that do not compare.
    pub(crate) fn compare(&self, other: &Value) -> Option<Ordering> {
        use Value::{Bool, Date, Float, Int, List, Null, Text, Time, Uuid};
        Some(match (self, other) {
            (Null, Null) => Ordering::Equal,
            (Int(a), Int(b)) => a.cmp(b),
            (Bool(a), Bool(b)) => a.cmp(b),
            (Bool(a), Int(b)) => i128::from(*a).cmp(b),
            (Int(a), Bool(b)) => a.cmp(&i128::from(*b)),
            (Float(a), Float(b)) => a.total_cmp(b),
            (Int(a), Float(b)) => (*a as f64).total_cmp(b),
            (Float(a), Int(b)) => a.total_cmp(&(*b as f64)),
            (Text(a), Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Uuid(a), Uuid(b)) => a.rotate_left(64).cmp(&b.rotate_left(64)),
            (Date(a), Date(b)) | (Time(a), Time(b)) => a.cmp(b),
            (List(a), List(b)) => {
                for (x, y) in a.iter().zip(b.iter()) {
                    match x.compare(y)? {
                        Ordering::Equal => {}
                        unequal => return Some(unequal),
                    }
                }
                a.len().cmp(&b.len())
            }
            _ => return None,
        })
    }

    /// How ORDER BY and min/max see two values: nulls last, whatever the direction.
    pub(crate) fn sort_key_cmp(&self, other: &Value, descending: bool) -> Ordering {
        match (self, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => Ordering::Greater,
            (_, Value::Null) => Ordering::Less,
            _ => {
                let order = self.compare(other).unwrap_or(Ordering::Equal);
                if descending { order.reverse() } else { order }
            }
        }
    }

    /// Bytes that name this value among values of one type: the key of a group, a member of a distinct set.
    pub(crate) fn write_key(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(0),
            Value::Bool(yes) => out.extend([1, u8::from(*yes)]),
            Value::Int(number) => out.extend(number.to_le_bytes()),
            Value::Float(number) => out.extend(number.to_le_bytes()),
            Value::Text(text) => {
                out.extend((text.len() as u64).to_le_bytes());
                out.extend(text.as_bytes());
            }
            Value::Uuid(id) => out.extend(id.to_le_bytes()),
            Value::Date(number) | Value::Time(number) | Value::Span(number) => out.extend(number.to_le_bytes()),
            Value::List(items) => {
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.write_key(out));
            }
        }
    }

    /// Bytes that ClickHouse reads for this value in a column.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self {
            Value::Null | Value::Bool(_) => 1,
            Value::Text(text) => text.len() as u64 + 8,
            Value::Uuid(_) => 16,
            Value::Date(_) => 2,
            Value::List(items) => items.iter().map(Value::stored_bytes).sum::<u64>() + 8,
            Value::Int(_) | Value::Float(_) | Value::Time(_) | Value::Span(_) => 8,
        }
    }
}

/// A ClickHouse type, as far as the fake needs it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Nothing,
    Bool,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Int8,
    Int64,
    Float64,
    String,
    Uuid,
    Date,
    DateTime(Option<Zone>),
    DateTime64(u8, Zone),
    PersonMode,
    Span,
    Tuple(Vec<Type>),
    Nullable(Box<Type>),
}

impl Type {
    pub(crate) fn inner(&self) -> &Type {
        match self {
            Type::Nullable(inner) => inner,
            plain => plain,
        }
    }

    /// The zone in which a time of this type is read; UTC for types without one.
    pub(crate) fn zone(&self) -> Zone {
        match self.inner() {
            Type::DateTime(Some(zone)) | Type::DateTime64(_, zone) => *zone,
            _ => Zone::Utc,
        }
    }

    pub(crate) fn is_time(&self) -> bool {
        matches!(self.inner(), Type::DateTime(_) | Type::DateTime64(..))
    }

    pub(crate) fn is_integer(&self) -> bool {
        use Type::{Bool, Int8, Int64, UInt8, UInt16, UInt32, UInt64};
        matches!(self.inner(), Bool | UInt8 | UInt16 | UInt32 | UInt64 | Int8 | Int64)
    }

    /// What an aggregate over no rows gives.
    pub(crate) fn default_value(&self) -> Value {
        match self {
            Type::Nullable(_) | Type::Nothing => Value::Null,
            Type::Bool => Value::Bool(false),
            Type::Float64 => Value::Float(0.0),
            Type::String => Value::text(""),
            Type::PersonMode => Value::text("full"),
            Type::Uuid => Value::Uuid(0),
            Type::Date => Value::Date(0),
            Type::DateTime(_) | Type::DateTime64(..) => Value::Time(0),
            Type::Tuple(parts) => Value::List(parts.iter().map(Type::default_value).collect()),
            _ => Value::Int(0),
        }
    }

    /// `value`, of this type, as PostHog prints it.
    pub(crate) fn write_json(&self, value: &Value, out: &mut Vec<u8>) {
        match (self, value) {
            (_, Value::Null) => out.extend(b"null"),
            (Type::Nullable(inner), value) => inner.write_json(value, out),
            (Type::Bool, value) => out.extend(if value.is_true() { "true" } else { "false" }.bytes()),
            (_, Value::Bool(yes)) => out.push(b'0' + u8::from(*yes)),
            (_, Value::Int(number)) => out.extend(number.to_string().bytes()),
            (_, Value::Float(number)) if !number.is_finite() => out.extend(b"null"),
            (_, Value::Float(number)) => out.extend(format!("{number:?}").bytes()),
            (_, Value::Text(text)) => serde_json::to_writer(out, text.as_ref()).unwrap(),
            (_, Value::Uuid(id)) => out.extend(format!("\"{}\"", uuid_text(*id)).bytes()),
            (_, Value::Date(day)) => out.extend(format!("\"{}\"", Zone::date_text(*day)).bytes()),
            (Type::DateTime(None), Value::Time(micros)) => {
                out.extend(format!("\"{}\"", Zone::Utc.rfc3339(*micros).trim_end_matches('Z')).bytes());
            }
            (_, Value::Time(micros)) => out.extend(format!("\"{}\"", self.zone().rfc3339(*micros)).bytes()),
            (_, Value::Span(micros)) => out.extend((micros / 1_000_000).to_string().bytes()),
            (_, Value::List(items)) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    match self {
                        Type::Tuple(parts) => parts[at].write_json(item, out),
                        _ => Type::Nothing.write_json(item, out),
                    }
                }
                out.push(b']');
            }
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Uuid => f.write_str("UUID"),
            Type::DateTime(Some(zone)) => write!(f, "DateTime('{}')", zone.name()),
            Type::DateTime(None) => f.write_str("DateTime"),
            Type::DateTime64(scale, zone) => write!(f, "DateTime64({scale}, '{}')", zone.name()),
            Type::PersonMode => f.write_str("Enum8('full' = 0, 'propertyless' = 1, 'force_upgrade' = 2)"),
            Type::Span => f.write_str("IntervalSecond"),
            Type::Nullable(inner) => write!(f, "Nullable({inner})"),
            Type::Tuple(parts) => {
                f.write_str("Tuple(")?;
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            plain => write!(f, "{plain:?}"),
        }
    }
}

pub(crate) fn uuid_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub(crate) fn uuid_from_text(text: &str) -> Option<u128> {
    let dashes_stand_right = text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-');
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if dashes_stand_right && hex.len() == 32 { u128::from_str_radix(&hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_order_by_their_last_eight_bytes_first() {
        let ordered: Vec<&str> = include_str!("../vectors/uuid_order.txt").lines().collect();
        let mut sorted = ordered.clone();
        sorted.sort_unstable();
        assert_ne!(sorted, ordered, "the vectors would not tell the two orders apart");
        sorted.sort_by(|a, b| {
            let value = |text| Value::Uuid(uuid_from_text(text).unwrap());
            value(a).compare(&value(b)).unwrap()
        });
        assert_eq!(sorted, ordered);
    }

    #[test]
    fn times_print_as_posthog_prints_them() {
        let print = |kind: Type, value: Value| {
            let mut out = Vec::new();
            kind.write_json(&value, &mut out);
            String::from_utf8(out).unwrap()
        };
        let utc = Type::DateTime64(6, Zone::Utc);
        assert_eq!(print(utc.clone(), Value::Time(1_785_575_620_290_618)), "\"2026-08-01T09:13:40.290618Z\"");
        assert_eq!(print(utc.clone(), Value::Time(1_785_575_620_290_000)), "\"2026-08-01T09:13:40.290000Z\"");
        assert_eq!(print(utc, Value::Time(1_785_575_620_000_000)), "\"2026-08-01T09:13:40Z\"");
        let pacific = Type::DateTime64(6, Zone::LosAngeles);
        assert_eq!(print(pacific, Value::Time(1_785_575_620_290_618)), "\"2026-08-01T02:13:40.290618-07:00\"");
        assert_eq!(print(Type::DateTime(None), Value::Time(1_706_745_600_000_000)), "\"2024-02-01T00:00:00\"");
        assert_eq!(print(Type::Float64, Value::Float(f64::NAN)), "null");
        assert_eq!(print(Type::Float64, Value::Float(2024.0)), "2024.0");
        assert_eq!(print(Type::UInt64, Value::Int(i128::from(u64::MAX))), "18446744073709551615");
    }
}
