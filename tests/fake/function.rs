//! The scalar functions that the fake can compute: their names and arities, the types they give, and what they do.

use std::cmp::Ordering;
use std::sync::Arc;

use chrono::Datelike;

use super::cityhash::cityhash64;
use super::value::{Type, Value, uuid_from_text, uuid_text};
use super::zone::{DAY_MICROS, HOUR_MICROS, Zone, civil, parse_day, parse_micros};
use super::{Refusal, refuse};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Equals,
    NotEquals,
    Less,
    LessOrEquals,
    Greater,
    GreaterOrEquals,
    Not,
    Plus,
    Minus,
    Multiply,
    IntDiv,
    Modulo,
    BitShiftRight,
    BitShiftLeft,
    BitAnd,
    Greatest,
    Least,
    CityHash64,
    ToUuid,
    ToText,
    ToInt,
    ToFloat,
    ToDate,
    ToDateTime64,
    ToUnixTimestamp,
    ToUnixTimestamp64Milli,
    ToStartOfHour,
    ToStartOfDay,
    ToStartOfMonth,
    ToYear,
    ToYyyymm,
    ToIntervalSecond,
    ToIntervalMinute,
    ToIntervalHour,
    ToIntervalDay,
    ToIntervalMonth,
    IsNull,
    IsNotNull,
    IfNull,
    Coalesce,
    If,
    Tuple,
    Length,
    Lower,
    Upper,
    Concat,
    StartsWith,
    Empty,
    NotEmpty,
    JsonExtractKeys,
}

/// Name, least and most arguments.
const NAMES: &[(&str, Function, usize, usize)] = &[
    ("equals", Function::Equals, 2, 2),
    ("notEquals", Function::NotEquals, 2, 2),
    ("less", Function::Less, 2, 2),
    ("lessOrEquals", Function::LessOrEquals, 2, 2),
    ("greater", Function::Greater, 2, 2),
    ("greaterOrEquals", Function::GreaterOrEquals, 2, 2),
    ("not", Function::Not, 1, 1),
    ("plus", Function::Plus, 2, 2),
    ("minus", Function::Minus, 2, 2),
    ("multiply", Function::Multiply, 2, 2),
    ("intDiv", Function::IntDiv, 2, 2),
    ("modulo", Function::Modulo, 2, 2),
    ("bitShiftRight", Function::BitShiftRight, 2, 2),
    ("bitShiftLeft", Function::BitShiftLeft, 2, 2),
    ("bitAnd", Function::BitAnd, 2, 2),
    ("greatest", Function::Greatest, 1, 9),
    ("least", Function::Least, 1, 9),
    ("cityHash64", Function::CityHash64, 1, 1),
    ("toUUID", Function::ToUuid, 1, 1),
    ("toString", Function::ToText, 1, 1),
    ("toInt", Function::ToInt, 1, 1),
    ("toFloat", Function::ToFloat, 1, 1),
    ("toDate", Function::ToDate, 1, 1),
    ("toDateTime64", Function::ToDateTime64, 3, 3),
    ("toUnixTimestamp", Function::ToUnixTimestamp, 1, 1),
    ("toUnixTimestamp64Milli", Function::ToUnixTimestamp64Milli, 1, 1),
    ("toStartOfHour", Function::ToStartOfHour, 1, 1),
    ("toStartOfDay", Function::ToStartOfDay, 1, 1),
    ("toStartOfMonth", Function::ToStartOfMonth, 1, 1),
    ("toYear", Function::ToYear, 1, 1),
    ("toYYYYMM", Function::ToYyyymm, 1, 1),
    ("toIntervalSecond", Function::ToIntervalSecond, 1, 1),
    ("toIntervalMinute", Function::ToIntervalMinute, 1, 1),
    ("toIntervalHour", Function::ToIntervalHour, 1, 1),
    ("toIntervalDay", Function::ToIntervalDay, 1, 1),
    ("toIntervalMonth", Function::ToIntervalMonth, 1, 1),
    ("isNull", Function::IsNull, 1, 1),
    ("isNotNull", Function::IsNotNull, 1, 1),
    ("ifNull", Function::IfNull, 2, 2),
    ("coalesce", Function::Coalesce, 1, 9),
    ("if", Function::If, 3, 3),
    ("tuple", Function::Tuple, 1, 99),
    ("length", Function::Length, 1, 1),
    ("lower", Function::Lower, 1, 1),
    ("upper", Function::Upper, 1, 1),
    ("concat", Function::Concat, 2, 9),
    ("startsWith", Function::StartsWith, 2, 2),
    ("empty", Function::Empty, 1, 1),
    ("notEmpty", Function::NotEmpty, 1, 1),
    ("JSONExtractKeys", Function::JsonExtractKeys, 1, 1),
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
        use Function::{Equals, Greater, GreaterOrEquals, Less, LessOrEquals, NotEquals};
        matches!(self, Equals | NotEquals | Less | LessOrEquals | Greater | GreaterOrEquals)
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
            Not | IsNull | IsNotNull | StartsWith | Empty | NotEmpty => Type::UInt8,
            Plus | Minus if first.is_time() && of[1] == Type::Span => of[0].clone(),
            Plus | Minus if *first == Type::Date && (of[1] == Type::Span || of[1].is_integer()) => Type::Date,
            Plus | Minus | Multiply | IntDiv | Modulo | BitShiftRight | BitShiftLeft | BitAnd => {
                if of.iter().any(|kind| !kind.is_integer()) {
                    return wrong();
                }
                if self == Minus { Type::Int64 } else { wide(first) }
            }
            Greatest | Least if of.iter().all(|kind| comparable(kind, &of[0])) => of[0].clone(),
            CityHash64 | Length if *first == Type::String => Type::UInt64,
            ToUuid if *first == Type::String => Type::Nullable(Box::new(Type::Uuid)),
            ToUuid if *first == Type::Uuid => Type::Uuid,
            ToText => Type::String,
            ToInt => Type::Int64,
            ToFloat => Type::Float64,
            ToDate if *first == Type::String => Type::Nullable(Box::new(Type::Date)),
            ToDate if *first == Type::Date || first.is_time() => Type::Date,
            ToDateTime64 if of[0] == Type::String => Type::DateTime64(6, Zone::Utc),
            ToUnixTimestamp if first.is_time() => Type::UInt32,
            ToUnixTimestamp64Milli if first.is_time() => Type::Int64,
            ToStartOfHour | ToStartOfDay if first.is_time() => Type::DateTime(Some(first.zone())),
            ToStartOfMonth if first.is_time() || *first == Type::Date => Type::Date,
            ToYear if first.is_time() || *first == Type::Date => Type::UInt16,
            ToYyyymm if first.is_time() || *first == Type::Date => Type::UInt32,
            ToIntervalSecond | ToIntervalMinute | ToIntervalHour | ToIntervalDay | ToIntervalMonth => Type::Span,
            IfNull | Coalesce => of.last().unwrap().clone(),
            If => of[1].clone(),
            Tuple => Type::Tuple(of.to_vec()),
            Lower | Upper | Concat if of.iter().all(|kind| *kind.inner() == Type::String) => Type::String,
            JsonExtractKeys if *first == Type::String => Type::Array(Box::new(Type::String)),
            _ => return wrong(),
        })
    }

    /// The value of the call. `kind` is the type of the first argument: it says in which zone a time is read.
    pub(crate) fn call(self, kind: &Type, of: &[Value]) -> Result<Value, Refusal> {
        use Function::*;
        if of[0] == Value::Null && !self.sees_nulls() {
            return Ok(Value::Null);
        }
        Ok(match self {
            Not => Value::truth(!of[0].is_true()),
            IsNull => Value::truth(of[0] == Value::Null),
            IsNotNull => Value::truth(of[0] != Value::Null),
            IfNull | Coalesce => of.iter().find(|value| **value != Value::Null).cloned().unwrap_or(Value::Null),
            If => of[if of[0].is_true() { 1 } else { 2 }].clone(),
            Tuple => Value::List(Arc::from(of)),
            Greatest => best(of, Ordering::Greater),
            Least => best(of, Ordering::Less),
            Plus | Minus | Multiply | IntDiv | Modulo | BitShiftRight | BitShiftLeft | BitAnd => {
                arithmetic(self, kind, &of[0], &of[1])?
            }
            ToIntervalSecond => span(&of[0], 1_000_000),
            ToIntervalMinute => span(&of[0], 60_000_000),
            ToIntervalHour => span(&of[0], HOUR_MICROS),
            ToIntervalDay => span(&of[0], DAY_MICROS),
            ToIntervalMonth => Value::Span { micros: 0, months: integer(&of[0]) as i64 },
            ToDateTime64 => date_time(of)?,
            ToUuid | ToText | ToInt | ToFloat | ToDate => convert(self, kind, &of[0]),
            CityHash64 | Length | Lower | Upper | Concat | StartsWith | Empty | NotEmpty | JsonExtractKeys => {
                textual(self, of)
            }
            _ if self.is_comparison() => {
                let order = compare(kind, &of[0], &of[1]);
                Value::truth(match self {
                    Equals => order == Some(Ordering::Equal),
                    NotEquals => order != Some(Ordering::Equal),
                    Less => order == Some(Ordering::Less),
                    LessOrEquals => order.is_some_and(Ordering::is_le),
                    Greater => order == Some(Ordering::Greater),
                    _ => order.is_some_and(Ordering::is_ge),
                })
            }
            _ => temporal(self, kind.zone(), &of[0]),
        })
    }

    fn sees_nulls(self) -> bool {
        use Function::{Coalesce, If, IfNull, IsNotNull, IsNull, Not, Tuple};
        matches!(self, Not | IsNull | IsNotNull | IfNull | Coalesce | If | Tuple) || self.is_comparison()
    }
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

fn best(of: &[Value], wanted: Ordering) -> Value {
    let better = |a: &Value, b: &Value| a.compare(b) == Some(wanted);
    of.iter().fold(of[0].clone(), |best, value| if better(value, &best) { value.clone() } else { best })
}

fn integer(value: &Value) -> i128 {
    match value {
        Value::Int(number) => *number,
        Value::Bool(yes) => i128::from(*yes),
        Value::Float(number) => *number as i128,
        _ => 0,
    }
}

fn span(value: &Value, unit: i64) -> Value {
    Value::Span { micros: integer(value) as i64 * unit, months: 0 }
}

fn arithmetic(function: Function, kind: &Type, a: &Value, b: &Value) -> Result<Value, Refusal> {
    let sign = if function == Function::Minus { -1 } else { 1 };
    match (a, b) {
        (Value::Time(time), Value::Span { micros, months: 0 }) => return Ok(Value::Time(time + sign * micros)),
        (Value::Date(day), Value::Span { micros, months: 0 }) => {
            return Ok(Value::Date(day + sign * micros / DAY_MICROS));
        }
        (Value::Date(day), Value::Int(days)) => return Ok(Value::Date(day + sign * *days as i64)),
        (_, Value::Span { .. }) => return Err(refuse("the fake cannot add months")),
        _ => {}
    }
    let (x, y) = (integer(a), integer(b));
    let exact = match function {
        Function::Plus => x + y,
        Function::Minus => x - y,
        Function::Multiply => x.wrapping_mul(y),
        Function::IntDiv | Function::Modulo if y == 0 => {
            return Err(Refusal::new(400, "illegal_division", "Division by zero"));
        }
        Function::IntDiv => x / y,
        Function::Modulo => x % y,
        Function::BitShiftRight => x >> y.clamp(0, 127),
        Function::BitShiftLeft => x << y.clamp(0, 63),
        _ => x & y,
    };
    let signed = function == Function::Minus || wide(kind.inner()) == Type::Int64;
    Ok(Value::Int(if signed { i128::from(exact as i64) } else { i128::from(exact as u64) }))
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

fn convert(function: Function, kind: &Type, value: &Value) -> Value {
    match (function, value) {
        (Function::ToUuid, Value::Uuid(_)) | (Function::ToDate, Value::Date(_)) => value.clone(),
        // HogQL's conversions give null for what they cannot read.
        (Function::ToUuid, Value::Text(text)) => uuid_from_text(text).map_or(Value::Null, Value::Uuid),
        (Function::ToDate, Value::Text(text)) => parse_day(text).map_or(Value::Null, Value::Date),
        (Function::ToDate, Value::Time(micros)) => Value::Date(kind.zone().day(*micros)),
        (Function::ToText, value) => Value::text(&plain_text(kind, value)),
        (Function::ToInt, Value::Text(text)) => text.parse::<i64>().map_or(Value::Null, |n| Value::Int(n.into())),
        (Function::ToInt, value) => Value::Int(integer(value)),
        (_, Value::Text(text)) => text.parse().map_or(Value::Null, Value::Float),
        (_, Value::Float(_)) => value.clone(),
        (_, value) => Value::Float(integer(value) as f64),
    }
}

/// `toString`: dates with a space, hashes as digits.
fn plain_text(kind: &Type, value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Uuid(id) => uuid_text(*id),
        Value::Time(micros) => {
            let format = if matches!(kind.inner(), Type::DateTime(_)) { "%F %T" } else { "%F %T%.6f" };
            civil(kind.zone().local(*micros)).format(format).to_string()
        }
        other => {
            let mut out = Vec::new();
            kind.write_json(other, &mut out);
            String::from_utf8(out).unwrap().trim_matches('"').to_owned()
        }
    }
}

fn textual(function: Function, of: &[Value]) -> Value {
    let text = |at: usize| match &of[at] {
        Value::Text(text) => text.as_ref(),
        _ => "",
    };
    match function {
        Function::CityHash64 => Value::Int(cityhash64(text(0).as_bytes()).into()),
        Function::Length => Value::Int(text(0).len() as i128),
        Function::Lower => Value::text(&text(0).to_ascii_lowercase()),
        Function::Upper => Value::text(&text(0).to_ascii_uppercase()),
        Function::Concat => Value::text(&(0..of.len()).map(text).collect::<String>()),
        Function::StartsWith => Value::truth(text(0).starts_with(text(1))),
        Function::Empty => Value::truth(text(0).is_empty()),
        Function::NotEmpty => Value::truth(!text(0).is_empty()),
        _ => match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text(0)) {
            Ok(object) => Value::List(object.keys().map(|key| Value::text(key)).collect()),
            Err(_) => Value::List(Arc::from([])),
        },
    }
}

fn temporal(function: Function, zone: Zone, value: &Value) -> Value {
    let (micros, local) = match value {
        Value::Date(day) => (day * DAY_MICROS, day * DAY_MICROS),
        Value::Time(micros) => (*micros, zone.local(*micros)),
        _ => (0, 0),
    };
    let date = civil(local).date();
    match function {
        Function::ToUnixTimestamp => Value::Int(micros.div_euclid(1_000_000).into()),
        Function::ToUnixTimestamp64Milli => Value::Int(micros.div_euclid(1_000).into()),
        Function::ToStartOfHour => Value::Time(micros - local.rem_euclid(HOUR_MICROS)),
        Function::ToStartOfDay => Value::Time(zone.instant(local - local.rem_euclid(DAY_MICROS))),
        Function::ToStartOfMonth => Value::Date(local.div_euclid(DAY_MICROS) - i64::from(date.day0())),
        Function::ToYear => Value::Int(date.year().into()),
        _ => Value::Int(i128::from(date.year()) * 100 + i128::from(date.month())),
    }
}
