//! Which values a column holds exactly.

use serde_json::Value;

use super::item;
use crate::json::token::{Escapes, Token};

/// A double holds every number of so many digits.
pub(super) const SURE_DIGITS: usize = 15;

/// What a slot takes.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
    /// What fits this schema, as it was written: a catalog may have given the column another type.
    Other(Box<Value>),
    /// Nothing, and what comes is passed on nowhere.
    Deselected,
}

/// What a column of this schema takes.
pub(super) fn kind_of(schema: &Value) -> Kind {
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
pub(super) fn begins_nested(text: &[u8], quote: usize) -> bool {
    matches!(text.get(quote.wrapping_add(1)), Some(b'{' | b'['))
}

/// True if a column of this kind holds exactly this value.
#[inline(never)]
pub(super) fn fits(kind: &Kind, token: Token, text: &[u8]) -> bool {
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
pub(in crate::tap) fn survives_a_double(text: &[u8]) -> bool {
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
