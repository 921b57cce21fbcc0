//! Cells written as JSON: straight from a page's buffer into the output line. What is not what it should be is kept under a
//! name of our own, so that a line stays a line and nothing is lost.

use crate::json::label::Label;
use crate::json::scan::Scanner;
use crate::posthog::query::page::Cell;
use crate::singer::output::LineText;
use crate::time::{Micros, parse_rfc3339, to_rfc3339};

use super::fits::exact_moment;
use super::repair::Repair;

/// Text with escapes is written in parts of this size.
const PART_BYTES: usize = 64 * 1024;

/// The JSON document in a cell; empty where there is none.
pub fn document<'a>(cell: Cell<'a>) -> &'a [u8] {
    match cell {
        Cell::Text { text, .. } | Cell::Json(text) => text,
        _ => b"",
    }
}

/// An object that is written member by member.
pub struct Object<'a, T> {
    out: &'a mut T,
    is_empty: bool,
}

impl<'a, T: LineText> Object<'a, T> {
    /// Begins an object.
    pub fn open(out: &'a mut T) -> Self {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    /// Writes what stands before a value; gives what the value is to be written to.
    #[inline]
    pub fn begin(&mut self, label: &Label) -> &mut T {
        // With the comma that parts it from the one before it.
        let without = usize::from(std::mem::take(&mut self.is_empty));
        let length = label.text().len().wrapping_sub(without);
        match label.head().get(without..) {
            Some(head) if length < head.len() => self.out.start_of(head, length),
            _ => self.out.extend_from_slice(label.text().get(without..).unwrap_or_default()),
        }
        self.out
    }

    /// The same for a name that is written once.
    pub fn begin_name(&mut self, name: &str) -> &mut T {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        write_text(name.as_bytes(), false, self.out);
        self.out.push(b':');
        self.out
    }

    /// Writes members, each with a comma before it.
    pub fn extend(&mut self, members: &[u8]) {
        if !members.is_empty() {
            let without = usize::from(std::mem::take(&mut self.is_empty));
            self.out.extend_from_slice(members.get(without..).unwrap_or_default());
        }
    }

    /// Ends it.
    pub fn close(self) {
        self.out.push(b'}');
    }
}

/// Writes a cell as it is.
pub fn write_cell(cell: Cell<'_>, out: &mut impl LineText) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(true) => out.extend_from_slice(b"true"),
        Cell::Bool(false) => out.extend_from_slice(b"false"),
        Cell::Number(text) => out.extend_from_slice(text),
        Cell::Json(text) => write_on_one_line(text, out),
        Cell::Text { text, plain } => write_text(text, plain, out),
    }
}

/// Writes text as a JSON string.
pub fn write_text(text: &[u8], plain: bool, out: &mut impl LineText) {
    out.push(b'"');
    if plain {
        out.extend_from_slice(text);
    } else {
        for part in text.chunks(PART_BYTES) {
            out.make_way();
            part.iter().for_each(|byte| write_byte(*byte, out));
        }
    }
    out.push(b'"');
}

#[inline]
fn write_byte(byte: u8, out: &mut impl LineText) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        other => out.push(other),
    }
}

/// Writes a time as UTC with six digits; what is no time is `null`.
pub fn write_time(cell: Cell<'_>, out: &mut impl LineText) {
    match cell {
        Cell::Text { text, .. } if text.len() == 27 && text.ends_with(b"Z") => write_text(text, true, out),
        cell => match time(cell) {
            Some(time) => write_text(to_rfc3339(time).as_bytes(), true, out),
            None => out.extend_from_slice(b"null"),
        },
    }
}

/// The time in a cell.
pub fn time(cell: Cell<'_>) -> Option<Micros> {
    match cell {
        Cell::Text { text, .. } => parse_rfc3339(text),
        _ => None,
    }
}

/// The time in a cell of a table. Columns without a zone come without an offset; they are UTC because the conversion to the project's
/// zone is switched off.
pub fn time_of(cell: Cell<'_>) -> Option<Micros> {
    let text = cell.text()?;
    parse_rfc3339(text).or_else(|| parse_rfc3339(format!("{}Z", text.replacen(' ', "T", 1))))
}

/// The time in a cell of a table, if six digits hold it: neither a date alone nor a leap second.
pub fn exact_time(cell: Cell<'_>) -> Option<Micros> {
    match cell {
        Cell::Text { text, .. } => exact_moment(text),
        _ => None,
    }
}

/// Writes the time in a cell, with or without a zone, as UTC; what is no time is `null`.
pub fn write_utc(cell: Cell<'_>, out: &mut impl LineText) {
    match exact_time(cell) {
        Some(time) => write_text(to_rfc3339(time).as_bytes(), true, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Writes a number or a boolean as its text.
pub fn write_as_text(cell: Cell<'_>, out: &mut impl LineText) {
    match cell {
        Cell::Number(text) => write_text(text, true, out),
        Cell::Bool(is) => write_text(is.to_string().as_bytes(), true, out),
        other => write_cell(other, out),
    }
}

/// Writes true or false, which ClickHouse may print as 1 or 0.
pub fn write_boolean(cell: Cell<'_>, out: &mut impl LineText) {
    match cell {
        Cell::Number(b"0") => write_cell(Cell::Bool(false), out),
        Cell::Number(_) => write_cell(Cell::Bool(true), out),
        other => write_cell(other, out),
    }
}

/// Writes an object that the server sent as text. What is not an object (never seen, but nothing forbids it) is kept as
/// text under a name of our own, so that the line stays a line and nothing is lost.
pub fn write_document(cell: Cell<'_>, repair: &mut Repair, out: &mut impl LineText) {
    let text = document(cell);
    if text.is_empty() {
        out.extend_from_slice(b"null");
    } else if is_object(text) {
        out.extend_from_slice(repair.repaired(text));
    } else {
        write_invalid(text, out);
    }
}

/// Writes JSON as it is, but without the white space between its parts if that holds line breaks.
pub fn write_on_one_line(value: &[u8], out: &mut impl LineText) {
    if memchr::memchr2(b'\n', b'\r', value).is_none() {
        return out.extend_from_slice(value);
    }
    let (mut in_text, mut escaped) = (false, false);
    for &byte in value {
        if !in_text && byte.is_ascii_whitespace() {
            continue;
        }
        in_text ^= byte == b'"' && !escaped;
        escaped = in_text && byte == b'\\' && !escaped;
        out.push(byte);
    }
}

/// An object that holds a text which should have been one.
pub fn write_invalid(text: &[u8], out: &mut impl LineText) {
    out.extend_from_slice(b"{\"$invalid_json\":");
    write_text(text, false, out);
    out.push(b'}');
}

fn is_object(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text);
    text.first() == Some(&b'{')
        && memchr::memchr2(b'\n', b'\r', text).is_none()
        && scanner.value().is_ok()
        && scanner.end().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_written_as_a_json_library_would(text: String) {
            let mut out = Vec::new();
            write_text(text.as_bytes(), false, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
