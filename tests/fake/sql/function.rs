//! The scalar functions that the tap calls: their names and arities, the types they give, and what they do.

use std::cmp::Ordering;
use std::sync::Arc;

use super::cityhash::cityhash64;
use super::value::{Type, Value, uuid_from_text};
use super::zone::{DAY_MICROS, HOUR_MICROS, Zone, parse_day, parse_micros};
use super::{Refusal, refuse};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Equals,
    Less,
    LessOrEquals,
    Greater,
    GreaterOrEquals,
    Minus,
    BitShiftRight,
    CityHash64,
    ToUuid,
    ToDate,
    ToDateTime64,
    ToUnixTimestamp,
    ToUnixTimestamp64Milli,
    ToStartOfHour,
    ToIntervalDay,
    IsNull,
    Tuple,
}

/// Name, least and most arguments.
const NAMES: &[(&str, Function, usize, usize)] = &[
    ("equals", Function::Equals, 2, 2),
    ("less", Function::Less, 2, 2),
    ("lessOrEquals", Function::LessOrEquals, 2, 2),
    ("greater", Function::Greater, 2, 2),
    ("greaterOrEquals", Function::GreaterOrEquals, 2, 2),
    ("minus", Function::Minus, 2, 2),
    ("bitShiftRight", Function::BitShiftRight, 2, 2),
    ("cityHash64", Function::CityHash64, 1, 1),
    ("toUUID", Function::ToUuid, 1, 1),
    ("toDate", Function::ToDate, 1, 1),
    ("toDateTime64", Function::ToDateTime64, 3, 3),
    ("toUnixTimestamp", Function::ToUnixTimestamp, 1, 1),
    ("toUnixTimestamp64Milli", Function::ToUnixTimestamp64Milli, 1, 1),
    ("toStartOfHour", Function::ToStartOfHour, 1, 1),
    ("toIntervalDay", Function::ToIntervalDay, 1, 1),
    ("isNull", Function::IsNull, 1, 1),
    ("tuple", Function::Tuple, 1, 99),
];

impl Function {
    pub(crate) fn by_name(name: &str, arguments: usize) -> Result<Function, Refusal> {
        let Some((_, function, least, most)) = NAMES.iter().find(|(known, ..)| *known == name) else {
            return Err(refuse(format!("Unsupported function call '{name}(...)'")));
        };
        if (*least..=*most).contains(&arguments) {
            Ok(*function)
        } else {
            Err(refuse(format!("Function '{name}' expects {least} to {most} arguments, found {arguments}")))
        }
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, function, ..)| *function == self).unwrap().0
    }

    pub(crate) fn is_comparison(self) -> bool {
        use Function::{Equals, Greater, GreaterOrEquals, Less, LessOrEquals};
        matches!(self, Equals | Less | LessOrEquals | Greater | GreaterOrEquals)
    }

    /// The type of the call's value.
    pub(crate) fn result_type(self, of: &[Type]) -> Result<Type, Refusal> {
        use Function::*;
        let wrong = || Err(refuse(format!("the fake cannot compute {}({})", self.name(), Type::Tuple(of.to_vec()))));
        let first = of[0].inner();
        Ok(match self {
            _ if self.is_comparison() => {
                if !comparable(&of[0], &of[1]) {
                    return wrong();
                }
                Type::UInt8
            }
            IsNull => Type::UInt8,
            Minus if first.is_time() && of[1] == Type::Span => of[0].clone(),
            Minus if of.iter().all(Type::is_integer) => Type::Int64,
            BitShiftRight if of.iter().all(Type::is_integer) => wide(first),
            CityHash64 if matches!(first, Type::String | Type::Uuid) => Type::UInt64,
            ToUnixTimestamp64Milli if matches!(first, Type::DateTime64(..)) => Type::Int64,
            ToUuid if *first == Type::String => Type::Nullable(Box::new(Type::Uuid)),
            ToUuid if *first == Type::Uuid => Type::Uuid,
            ToDate if *first == Type::String => Type::Nullable(Box::new(Type::Date)),
            ToDate if *first == Type::Date || first.is_time() => Type::Date,
            ToDateTime64 if of[0] == Type::String => Type::DateTime64(6, Zone::Utc),
            ToUnixTimestamp if first.is_time() => Type::UInt32,
            ToStartOfHour if first.is_time() => Type::DateTime(Some(first.zone())),
            ToIntervalDay => Type::Span,
            Tuple => Type::Tuple(of.to_vec()),
            _ => return wrong(),
        })
    }

    /// The value of the call. `kind` is the type of the first argument: it says in which zone a time is read.
    pub(crate) fn call(self, kind: &Type, of: &[Value]) -> Result<Value, Refusal> {
        use Function::*;
        if of[0] == Value::Null && !matches!(self, IsNull | Tuple) && !self.is_comparison() {
            return Ok(Value::Null);
        }
        Ok(match (self, &of[0]) {
            (IsNull, value) => Value::truth(*value == Value::Null),
            (Tuple, _) => Value::List(Arc::from(of)),
            (Minus, Value::Time(time)) => match of[1] {
                Value::Span(micros) => Value::Time(time - micros),
                _ => Value::Null,
            },
            (Minus, Value::Int(number)) => Value::Int(number - integer(&of[1])),
            (BitShiftRight, value) => Value::Int(integer(value) >> integer(&of[1]).clamp(0, 127)),
            (ToIntervalDay, days) => Value::Span(integer(days) as i64 * DAY_MICROS),
            (ToDateTime64, _) => date_time(of)?,
            (CityHash64, Value::Text(text)) => Value::Int(cityhash64(text.as_bytes()).into()),
            (CityHash64, Value::Uuid(id)) => Value::Int(cityhash64(&uuid_in_memory(*id)).into()),
            (ToUuid, Value::Uuid(_)) | (ToDate, Value::Date(_)) => of[0].clone(),
            // HogQL's conversions give null for what they cannot read.
            (ToUuid, Value::Text(text)) => uuid_from_text(text).map_or(Value::Null, Value::Uuid),
            (ToDate, Value::Text(text)) => parse_day(text).map_or(Value::Null, Value::Date),
            (ToDate, Value::Time(micros)) => Value::Date(kind.zone().day(*micros)),
            (ToUnixTimestamp, Value::Time(micros)) => Value::Int(micros.div_euclid(1_000_000).into()),
            (ToUnixTimestamp64Milli, Value::Time(micros)) => Value::Int(micros.div_euclid(1_000).into()),
            (ToStartOfHour, Value::Time(micros)) => {
                Value::Time(micros - kind.zone().local(*micros).rem_euclid(HOUR_MICROS))
            }
            (function, first) if function.is_comparison() => {
                let order = compare(kind, first, &of[1]);
                Value::truth(match function {
                    Equals => order == Some(Ordering::Equal),
                    Less => order == Some(Ordering::Less),
                    LessOrEquals => order.is_some_and(Ordering::is_le),
                    Greater => order == Some(Ordering::Greater),
                    _ => order.is_some_and(Ordering::is_ge),
                })
            }
            _ => Value::Null,
        })
    }
}

/// A uuid as ClickHouse holds it: the low bytes of each half first.
fn uuid_in_memory(id: u128) -> [u8; 16] {
    id.rotate_left(64).to_le_bytes()
}

fn wide(kind: &Type) -> Type {
    if matches!(kind, Type::Int8 | Type::Int64) { Type::Int64 } else { Type::UInt64 }
}

fn comparable(a: &Type, b: &Type) -> bool {
    let number = |kind: &Type| kind.is_integer() || *kind.inner() == Type::Float64;
    let day = |kind: &Type| kind.is_time() || *kind.inner() == Type::Date;
    let text = |kind: &Type| matches!(kind.inner(), Type::String | Type::PersonMode);
    match (a.inner(), b.inner()) {
        (Type::Nothing, _) | (_, Type::Nothing) => true,
        (Type::Tuple(x), Type::Tuple(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| comparable(x, y)),
        (Type::Uuid, Type::String) => true,
        (x, y) => x == y || number(a) && number(b) || day(a) && day(b) || text(a) && text(b),
    }
}

/// A date beside a time counts as the midnight at which it starts, a text beside a UUID as the one that it writes out.
fn compare(kind: &Type, a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Date(day), Value::Time(time)) => Some(Zone::Utc.instant(day * DAY_MICROS).cmp(time)),
        (Value::Uuid(id), Value::Text(text)) => Value::Uuid(*id).compare(&Value::Uuid(uuid_from_text(text)?)),
        (Value::Time(time), Value::Date(day)) => Some(time.cmp(&kind.zone().instant(day * DAY_MICROS))),
        _ => a.compare(b),
    }
}

fn integer(value: &Value) -> i128 {
    match value {
        Value::Int(number) => *number,
        Value::Bool(yes) => i128::from(*yes),
        _ => 0,
    }
}

fn date_time(of: &[Value]) -> Result<Value, Refusal> {
    let (Value::Text(text), Value::Int(6), Value::Text(zone)) = (&of[0], &of[1], &of[2]) else {
        return Err(refuse("the fake takes toDateTime64('YYYY-MM-DD HH:MM:SS.ffffff', 6, 'zone') only"));
    };
    let zone = Zone::from_name(zone).ok_or_else(|| refuse(format!("Unknown time zone: {zone}")))?;
    match parse_micros(text) {
        Some(local) if !text.contains(['T', 'Z']) => Ok(Value::Time(zone.instant(local))),
        _ => Err(Refusal::new(
            400,
            "cannot_parse_datetime",
            "Cannot parse a date and time. Check your datetime values and their format.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_uuid_is_clickhouses() {
        for (uuid, hash) in [
            ("e66aada0-e758-4f6a-8018-73a016367044", 18_042_347_080_920_588_427),
            ("259beef7-ebde-43e3-8061-bccd8d09c2e4", 6_502_931_189_993_230_394),
            ("01a1342a-50c0-7b03-80a2-1ddd47eddfcd", 17_159_400_494_908_648_400),
        ] {
            assert_eq!(cityhash64(&uuid_in_memory(uuid_from_text(uuid).unwrap())), hash, "{uuid}");
        }
    }
}
