//! The grammar of JSON as steps: each takes a place in a text to the place behind what stands there. Places are passed and
//! returned, never kept in memory: a loop over millions of short values is as fast as this chain of additions.

use super::blocks::{digits_end, next_stop};
use super::escape::escape;
use super::token::{Escapes, Fault, MAX_DEPTH, Scan, Token};

/// A fault at this place.
#[cold]
fn fault<T>(at: usize, what: &'static str) -> Scan<T> {
    Err(Fault { at, what })
}

/// Over white space; also gives the byte behind it, 0 at the end.
#[inline]
pub(super) fn space(text: &[u8], mut at: usize) -> (usize, u8) {
    loop {
        match text.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
            Some(&byte) => return (at, byte),
            None => return (at, 0),
        }
    }
}

/// Over a string, from behind its first quote.
#[inline]
pub(super) fn string(text: &[u8], at: usize) -> Scan<(usize, Escapes)> {
    let stop = next_stop(text, at);
    if text.get(stop) == Some(&b'"') { Ok((stop + 1, Escapes::None)) } else { escaped_string(text, stop) }
}

/// Over the rest of a string that begins with a stop.
fn escaped_string(text: &[u8], mut at: usize) -> Scan<(usize, Escapes)> {
    let mut escapes = Escapes::None;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok((at + 1, escapes)),
            Some(b'\\') => {
                let Some((character, length)) = escape(text.get(at..).unwrap_or_default()) else {
                    return fault(at, "bad escape in a string");
                };
                escapes = escapes.max(if character.is_some() { Escapes::Some } else { Escapes::LoneSurrogate });
                at = next_stop(text, at + length);
            }
            Some(_) => return fault(at, "control character in a string"),
            None => return fault(at, "the text ends inside a string"),
        }
    }
}

/// Over a number.
#[inline]
pub(super) fn number(text: &[u8], at: usize) -> Scan<usize> {
    let mut at = decimal(text, at).or_else(|at| fault(at, "expected a digit"))?;
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        at = digits(text, at).or_else(|at| fault(at, "expected a digit"))?;
    }
    Ok(at)
}

/// Over a number up to its exponent; else where a digit is lacking.
#[inline(always)]
fn decimal(text: &[u8], at: usize) -> Result<usize, usize> {
    let start = at.wrapping_add(usize::from(text.get(at) == Some(&b'-')));
    let point = if text.get(start) == Some(&b'0') { start.wrapping_add(1) } else { digits(text, start)? };
    byte(text, point, b'.').map_or(Ok(point), |fraction| digits(text, fraction))
}

#[inline(always)]
fn digits(text: &[u8], start: usize) -> Result<usize, usize> {
    let end = digits_end(text, start);
    if end > start { Ok(end) } else { Err(start) }
}

/// Over `true`, `false` or `null`.
#[inline]
fn literal(text: &[u8], at: usize, literal: &'static [u8]) -> Scan<usize> {
    let end = at + literal.len();
    if text.get(at..end) == Some(literal) { Ok(end) } else { fault(at, "expected true, false or null") }
}

/// Over a value that starts with `first`.
#[inline]
pub(super) fn value(text: &[u8], at: usize, first: u8) -> Scan<(usize, Token)> {
    match first {
        b'{' | b'[' => nested(text, at, first).map(|at| (at, Token::Nested)),
        _ => scalar(text, at, first),
    }
}

/// Over a string, number or literal that starts with `first`.
#[inline]
fn scalar(text: &[u8], at: usize, first: u8) -> Scan<(usize, Token)> {
    match first {
        b'"' => string(text, at + 1).map(|(at, escapes)| (at, Token::Text(escapes))),
        b'-' | b'0'..=b'9' => number(text, at).map(|at| (at, Token::Number)),
        b't' => literal(text, at, b"true").map(|at| (at, Token::True)),
        b'f' => literal(text, at, b"false").map(|at| (at, Token::False)),
        b'n' => literal(text, at, b"null").map(|at| (at, Token::Null)),
        _ => fault(at, "expected a value"),
    }
}

/// Over a member's name and the colon.
#[inline]
fn key(text: &[u8], at: usize) -> Scan<usize> {
    let (at, first) = space(text, at);
    if first != b'"' {
        return fault(at, "expected a string");
    }
    let (at, colon) = space(text, string(text, at + 1)?.0);
    if colon == b':' { Ok(at + 1) } else { fault(at, "expected :") }
}

/// From the start of a member to the value, with its first byte, of it or of one behind it.
#[inline]
fn member(text: &[u8], at: usize) -> Scan<(usize, u8)> {
    Ok(space(text, key(text, plain_members(text, at))?))
}

/// Over the members of an object that are a name and a string, number or literal, without escapes and white space, each
/// with the comma behind it: nearly all. From the start of a member to the start of the first one that may be anything
/// else.
#[inline]
fn plain_members(text: &[u8], mut at: usize) -> usize {
    while let Some(next) = plain_member(text, at) {
        at = next;
    }
    at
}

#[inline(always)]
fn plain_member(text: &[u8], at: usize) -> Option<usize> {
    let value = byte(text, plain_string(text, at)?, b':')?;
    byte(text, plain_scalar(text, value)?.0, b',')
}

/// Over a string without escapes, a number without an exponent, or a literal.
#[inline(always)]
pub(super) fn plain_scalar(text: &[u8], at: usize) -> Option<(usize, Token)> {
    Some(match text.get(at)? {
        b'"' => (plain_string(text, at)?, Token::Text(Escapes::None)),
        b't' => (literal(text, at, b"true").ok()?, Token::True),
        b'f' => (literal(text, at, b"false").ok()?, Token::False),
        b'n' => (literal(text, at, b"null").ok()?, Token::Null),
        _ => (decimal(text, at).ok()?, Token::Number),
    })
}

/// Over a string with its quotes, if it has no escapes.
#[inline(always)]
fn plain_string(text: &[u8], at: usize) -> Option<usize> {
    byte(text, next_stop(text, byte(text, at, b'"')?), b'"')
}

/// Over this byte.
#[inline(always)]
pub(super) fn byte(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*text.get(at)? == byte).then(|| at.wrapping_add(1))
}

/// Over the array or object that starts with `first`, without recursion.
fn nested(text: &[u8], mut at: usize, mut first: u8) -> Scan<usize> {
    // One bit per open container: 1 is an object.
    let mut objects: u128 = 0;
    let mut depth: u32 = 0;
    loop {
        let mut behind;
        if first == b'{' || first == b'[' {
            let object = first == b'{';
            behind = space(text, at + 1);
            if behind.1 == if object { b'}' } else { b']' } {
                if depth == 0 {
                    return Ok(behind.0 + 1);
                }
                behind = space(text, behind.0 + 1);
            } else {
                if depth == MAX_DEPTH {
                    return fault(at, "values nest deeper than 128 levels");
                }
                depth += 1;
                objects = (objects << 1) | u128::from(object);
                (at, first) = if object { member(text, behind.0)? } else { behind };
                continue;
            }
        } else {
            behind = space(text, scalar(text, at, first)?.0);
        }
        // A value ended: close what closes here, or go on with the next member.
        loop {
            let object = objects & 1 == 1;
            let (comma, byte) = behind;
            if byte == b',' {
                (at, first) = if object { member(text, comma + 1)? } else { space(text, comma + 1) };
                break;
            }
            if byte != if object { b'}' } else { b']' } {
                return fault(comma, if object { "expected , or }" } else { "expected , or ]" });
            }
            depth -= 1;
            objects >>= 1;
            if depth == 0 {
                return Ok(comma + 1);
            }
            behind = space(text, comma + 1);
        }
    }
}
