//! Which values a column holds exactly.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::token::{Escapes, Token};
use crate::time::{Changes, Micros, Moment, moment, parse_rfc3339};

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

/// True for the quote of a string without escapes that begins like nested JSON.
#[inline(always)]
pub(super) fn begins_nested(text: &[u8], quote: usize) -> bool {
    matches!(text.get(quote.wrapping_add(1)), Some(b'{' | b'['))
}

/// True for a string that begins like nested JSON, escaped or not.
fn begins_nested_or_escaped(text: &[u8]) -> bool {
    let escape = || text.get(1..7).unwrap_or_default();
    begins_nested(text, 0) || [b"\\u005b", b"\\u007b"].iter().any(|begin| escape().eq_ignore_ascii_case(*begin))
}

/// True if a column of this kind holds exactly this value.
#[inline(never)]
pub(super) fn fits(kind: &Kind, token: Token, text: &[u8]) -> bool {
    match (kind, token) {
        (Kind::Text, Token::Text(escapes)) => escapes != Escapes::LoneSurrogate && !begins_nested_or_escaped(text),
        // As text only while it has no escape that text could not hold.
        (Kind::Text, Token::Nested) => !holds_surrogate_escape(text),
        (Kind::Number, Token::Number) => survives_a_double(text),
        (Kind::Boolean, Token::True | Token::False) => true,
        (Kind::Other(schema), token) => {
            token != Token::Text(Escapes::LoneSurrogate)
                && std::str::from_utf8(text).is_ok_and(|text| fits_schema(schema, text))
        }
        _ => false,
    }
}

fn holds_surrogate_escape(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"\\u")
        .any(|at| matches!(text.get(at + 2..at + 4), Some([b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])))
}

/// True if the number as written is the number that a double holds: up to 15 digits always are.
fn survives_a_double(text: &[u8]) -> bool {
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

/// Whether a field of this schema takes text and nothing else, but for null. A number or a boolean goes into it as its text,
/// to the last digit: a catalog may ask for that, for keys that are compared with texts elsewhere.
pub fn is_text(schema: &Value) -> bool {
    let has_type = match &schema["type"] {
        Value::Array(several) => {
            several.iter().any(|one| one == "string") && several.iter().all(|one| one == "string" || one == "null")
        }
        one => one == "string",
    };
    has_type && schema["format"].is_null()
}

/// A number or a boolean as a text; none for any other value.
pub fn as_text(value: &RawValue) -> Option<Box<RawValue>> {
    let has_text = matches!(value.get().as_bytes().first(), Some(b'-' | b'0'..=b'9' | b't' | b'f'));
    has_text.then(|| RawValue::from_string(format!("\"{}\"", value.get())).ok())?
}

/// Whether a field of this schema holds exactly this value: it is of a type that the schema allows, no number that a
/// column of 64 bits would change, and a time where it has to be one.
pub fn fits_schema(schema: &Value, value: &str) -> bool {
    let allowed = |kind: &str| match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => true,
    };
    let is_time = || serde_json::from_str::<String>(value).is_ok_and(|text| is_exact_time(&text));
    match value.as_bytes().first() {
        Some(b'"') => allowed("string") && (schema["format"] != "date-time" || is_time()),
        Some(b'{') => allowed("object"),
        Some(b'[') => allowed("array"),
        Some(b't' | b'f') => allowed("boolean"),
        Some(b'n') => allowed("null"),
        _ => {
            let is_whole = || value.parse::<i64>().is_ok();
            allowed("integer") && is_whole() || allowed("number") && survives_a_double(value.as_bytes())
        }
    }
}

/// A time with its offset that a column of times holds.
fn is_exact_time(text: &str) -> bool {
    parse_rfc3339(text).is_some() && exact_moment(text.as_bytes()).is_some()
}

/// The moment that a text tells, if a column holds it: nothing is cut or moved, and it is more than a date.
pub(super) fn exact_moment(text: &[u8]) -> Option<Micros> {
    let is_exact = |found: &Moment| {
        ![Changes::CUT, Changes::HELD, Changes::LEAP].into_iter().any(|change| found.changes.has(change))
    };
    let found = if text.len() > "2026-01-01".len() { moment(text) } else { None };
    Some(found.filter(is_exact)?.micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_judged_by_their_schema() {
        let of = |kind: &str| json!({"type": ["null", kind]});
        let time = json!({"type": ["null", "string"], "format": "date-time"});
        for (schema, value) in [
            (of("integer"), "7"),
            (of("integer"), "-9223372036854775808"),
            (of("number"), "7"),
            (of("number"), "-7.5e3"),
            (of("string"), "null"),
            (of("object"), "{}"),
            (of("array"), "[1]"),
            (of("boolean"), "false"),
            (time.clone(), "\"2026-01-01T00:00:00.5+02:00\""),
            (json!({}), "1"),
        ] {
            assert!(fits_schema(&schema, value), "{schema} {value}");
        }
        for (schema, value) in [
            (of("integer"), "7.5"),
            (of("integer"), "9223372036854775808"),
            (of("number"), "9007199254740993"),
            (of("number"), "1e400"),
            (of("string"), "7"),
            (of("object"), "[]"),
            (json!({"type": "string"}), "null"),
            (time, "\"yesterday\""),
        ] {
            assert!(!fits_schema(&schema, value), "{schema} {value}");
        }
    }

    #[test]
    fn numbers_and_booleans_become_their_text() {
        for (schema, is) in [
            (json!({"type": "string"}), true),
            (json!({"type": ["string", "null"]}), true),
            (json!({"type": ["null", "integer", "string"]}), false),
            (json!({"type": "string", "format": "date-time"}), false),
            (json!({"type": "null"}), false),
            (json!({}), false),
        ] {
            assert_eq!(is_text(&schema), is, "{schema}");
        }
        let text = |value: &str| Some(as_text(&RawValue::from_string(value.to_owned()).unwrap())?.get().to_owned());
        for value in ["7", "-1.50e400", "123456789012345678901", "true", "false"] {
            assert_eq!(text(value), Some(format!("\"{value}\"")));
        }
        for value in ["null", "\"7\"", "[7]", "{\"a\":7}"] {
            assert_eq!(text(value), None, "{value}");
        }
    }

    #[test]
    fn numbers_are_judged_by_what_a_double_keeps() {
        for good in [
            "0",
            "-1",
            "1.10",
            "9007199254740992",
            "123456789012345",
            "0.1",
            "1785575620.290",
            "1e308",
            "1.0E+2",
            "-0.0",
            "0.30000000000000004",
        ] {
            assert!(survives_a_double(good.as_bytes()), "{good}");
        }
        for bad in [
            "9007199254740993",
            "18446744073709551616",
            "1e400",
            "0.1234567890123456789",
            "12345678901234567.5",
            "1e-320",
        ] {
            assert!(!survives_a_double(bad.as_bytes()), "{bad}");
        }
    }
}
