//! Forms of JSON values: the same bytes for the same value, however it was written.

use std::borrow::Cow;

use crate::json::escape::unescape;
use crate::json::scan::Scanner;
use crate::json::token::Escapes;
use crate::json::walker::{collected, items};

/// Appends a form of `value`, well-formed JSON, that is the same however it was written: strings without escapes, members
/// in the order of their names, no white space. Numbers count as they are written. No two values have the same form, and
/// none is the beginning of another: each says how long it is.
pub fn canonical(value: &[u8], out: &mut Vec<u8>) {
    form(value, &|number| Cow::Borrowed(number), out);
}

/// A form of well-formed JSON that is the same for the same value, however its members are ordered and its strings and
/// numbers are written.
pub fn exact_form(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    form(value.trim_ascii(), &exact_number, &mut out);
    out
}

/// A number as its digits without zeros at either end, and the power of ten of the last one.
fn exact_number(text: &[u8]) -> Cow<'_, [u8]> {
    let is_exponent = |b: &u8| matches!(b, b'e' | b'E');
    let mut halves = text.splitn(2, is_exponent);
    let mantissa = halves.next().unwrap_or_default();
    let exponent = halves.next().map_or(Some(0), |half| std::str::from_utf8(half).ok()?.parse::<i64>().ok());
    let behind_point = mantissa.iter().rev().position(|b| *b == b'.').unwrap_or(0);
    let digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).skip_while(|b| *b == b'0').collect();
    let kept = digits.iter().rposition(|b| *b != b'0').map_or(0, |last| last + 1);
    // Words, and exponents beyond all reason, count as they are written.
    let shift = i64::try_from(digits.len() - kept).ok().zip(i64::try_from(behind_point).ok());
    let power = exponent.zip(shift).and_then(|(power, (up, down))| power.checked_add(up)?.checked_sub(down));
    let Some(power) = power.filter(|_| mantissa.iter().any(u8::is_ascii_digit)) else { return Cow::Borrowed(text) };
    if kept == 0 {
        return Cow::Borrowed(b"0");
    }
    let sign = if mantissa.starts_with(b"-") { "-" } else { "" };
    let digits = String::from_utf8_lossy(digits.get(..kept).unwrap_or_default()).into_owned();
    Cow::Owned(format!("{sign}{digits}e{power}").into_bytes())
}

/// Appends the form; numbers count as `number` gives them.
pub fn form(value: &[u8], number: &dyn Fn(&[u8]) -> Cow<'_, [u8]>, out: &mut Vec<u8>) {
    match value.first() {
        Some(b'"') => {
            let text = Scanner::new(value).string().ok();
            match text.filter(|text| text.escapes != Escapes::LoneSurrogate) {
                Some(text) => sized(b'"', out, |out| {
                    unescape(text, out);
                }),
                // It has no other form than its own.
                None => sized(b'?', out, |out| out.extend_from_slice(value)),
            }
        }
        Some(b'{') => sized(b'{', out, |out| {
            let mut members = collected(value);
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in members {
                sized(b'"', out, |out| out.extend_from_slice(&name));
                form(value, number, out);
            }
        }),
        Some(b'[') => sized(b'[', out, |out| {
            let read = items(&mut Scanner::new(value), |scanner| {
                form(scanner.next_text()?, number, out);
                Ok(())
            });
            debug_assert!(read.is_ok(), "the line was checked");
        }),
        _ => sized(b'0', out, |out| out.extend_from_slice(&number(value))),
    }
}

/// Appends a kind, a length, and what `write` appends, which is so long.
pub fn sized(kind: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    let start = out.len();
    write(out);
    // A line is far below 4 GB.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(head) = out.get_mut(start - 4..start) {
        head.copy_from_slice(&length.to_le_bytes());
    }
}
