//! The cells of one column while its row group fills: values that are not null, packed, and a bit per row that says
//! which rows have one. Nulls cost nothing until the row group is encoded, so ten thousand mostly empty columns fit.
//!
//! A cell is read from the line straight into here. A value that the column's type cannot hold exactly is refused.

use std::borrow::Cow;

use super::oddities::Oddities;
use crate::json::escape::plain;
use crate::json::exact;
use crate::json::scan::Scanner;
use crate::json::surrogate::replace_lone_surrogates;
use crate::json::token::{Fault, Text};
use crate::target::columns::column_type::ColumnType;
use crate::target::columns::schema::{Field, Rules};
use crate::target::columns::values::{Column, PIECE_BYTES, Piece, Validity, Values};
use crate::time::{self, Moment};

/// Why a cell was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The line is not JSON.
    Syntax(Fault),
    /// The value is not one of this column's type; the text says what the column holds.
    Misfit(&'static str),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::Syntax(fault)
    }
}

/// One column of a row group that is being filled.
#[derive(Debug)]
pub struct Cells {
    kind: ColumnType,
    /// A text column takes every value.
    takes_all: bool,
    /// Halves of surrogate pairs stay in JSON text.
    keep_surrogates: bool,
    values: Values,
    /// How many values there are.
    count: usize,
    validity: Validity,
}

impl Cells {
    /// An empty column.
    pub fn new(kind: ColumnType) -> Self {
        let (takes_all, keep_surrogates) = (false, false);
        Cells { kind, takes_all, keep_surrogates, values: Values::new(kind), count: 0, validity: Validity::default() }
    }

    /// The column for values of a schema's field.
    pub fn of(self, field: &Field, rules: Rules) -> Self {
        Cells { takes_all: field.takes_all, keep_surrogates: rules.keep_surrogates, ..self }
    }

    /// The values and their rows.
    pub fn into_column(self) -> Column {
        Column { values: self.values, validity: self.validity }
    }

    /// The bytes that the column takes.
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.validity.bytes()
    }

    /// Cuts the column off behind the first `rows` rows, and gives the rest of it.
    pub fn split_off(&mut self, rows: usize) -> Cells {
        let kept = self.validity.count(rows, self.count);
        let validity = self.validity.split_off(rows, self.count);
        let rest = Cells { values: self.values.split_off(kept), count: self.count - kept, validity, ..*self };
        self.count = kept;
        rest
    }

    /// Forgets the value of `row`, the last one written, if it has one.
    pub fn undo(&mut self, row: usize) {
        if self.count > 0 && self.validity.is_set(row, self.count) {
            self.values.pop();
            self.count -= 1;
            self.validity.unset(row);
        }
    }

    /// Reads the value at `scanner` into `row`. Returns false for null.
    #[inline]
    pub fn read(&mut self, scanner: &mut Scanner<'_>, row: usize, odd: &mut Oddities) -> Result<bool, Refusal> {
        let first = scanner.peek();
        if first == b'n' && scanner.eat(b"null") {
            return Ok(false);
        }
        let before = self.count;
        match &mut self.values {
            Values::Bytes { full, open } => {
                if open.data.len() >= PIECE_BYTES {
                    let fresh = Piece::after(open);
                    full.push(std::mem::replace(open, fresh));
                }
                let Piece { data, ends } = open;
                if self.kind == ColumnType::Text && first == b'"' {
                    odd.counts.lone_surrogates += u64::from(scanner.string_into(data)?);
                } else if self.kind == ColumnType::Text && !self.takes_all {
                    return Err(other_type(scanner, "this column holds strings"));
                } else {
                    let start = scanner.at();
                    scanner.value()?;
                    let text = scanner.since(start);
                    if self.kind == ColumnType::Json {
                        let length = u32::try_from(text.len()).map_err(|_| Refusal::Misfit("a value is below 4 GB"))?;
                        data.extend_from_slice(&length.to_le_bytes());
                    }
                    let at = data.len();
                    data.extend_from_slice(text);
                    if !self.keep_surrogates {
                        odd.counts.lone_surrogates += replace_lone_surrogates(data.get_mut(at..).unwrap_or_default());
                    }
                }
                ends.push(u32::try_from(data.len()).map_err(|_| Refusal::Misfit("a value is below 4 GB"))?);
            }
            Values::Int(values) if self.kind == ColumnType::Int64 => {
                let text = any_number(scanner, first, "this column holds whole numbers")?;
                let fits = exact::int64(text);
                values.push(fits.ok_or(Refusal::Misfit("this column holds whole numbers of 64 bits"))?);
            }
            Values::Int(values) => values.push(moment(self.kind, scanner, first, odd)?),
            Values::Date(values) => {
                let misfit = "this column holds dates, YYYY-MM-DD, years 0001 to 9999";
                let text = string(scanner, first, misfit)?;
                values.push(time::date(&plain(text)).ok_or(Refusal::Misfit(misfit))?);
            }
            Values::Float(values) => {
                let text = any_number(scanner, first, "this column holds numbers")?;
                let fits = exact::float64(text);
                values.push(fits.ok_or(Refusal::Misfit("this column holds doubles, and the number is not one"))?);
            }
            Values::Bool(values) => values.push(boolean(scanner)?),
            Values::Decimal(values) => values.push(decimal(self.kind, scanner, first, odd)?),
        }
        self.validity.set(row, before);
        self.count += 1;
        Ok(true)
    }

    /// Writes `value` into `row` of a whole-number or date-time column: the target's own columns.
    pub fn push_int(&mut self, row: usize, value: i64) {
        if let Values::Int(values) = &mut self.values {
            values.push(value);
            self.validity.set(row, self.count);
            self.count += 1;
        }
    }
}

fn string<'a>(scanner: &mut Scanner<'a>, first: u8, misfit: &'static str) -> Result<Text<'a>, Refusal> {
    if first == b'"' { Ok(scanner.string()?) } else { Err(other_type(scanner, misfit)) }
}

fn any_number<'a>(scanner: &mut Scanner<'a>, first: u8, misfit: &'static str) -> Result<&'a [u8], Refusal> {
    if matches!(first, b'-' | b'0'..=b'9') { Ok(scanner.number()?) } else { Err(other_type(scanner, misfit)) }
}

/// A value of another type is a misfit only if it is a value at all.
fn other_type(scanner: &mut Scanner<'_>, misfit: &'static str) -> Refusal {
    scanner.value().map_or_else(Refusal::Syntax, |_| Refusal::Misfit(misfit))
}

fn boolean(scanner: &mut Scanner<'_>) -> Result<bool, Refusal> {
    if scanner.eat(b"true") {
        Ok(true)
    } else if scanner.eat(b"false") {
        Ok(false)
    } else {
        Err(other_type(scanner, "this column holds true and false"))
    }
}

fn moment(kind: ColumnType, scanner: &mut Scanner<'_>, first: u8, odd: &mut Oddities) -> Result<i64, Refusal> {
    let is_time = kind == ColumnType::Time;
    let misfit = if is_time {
        "this column holds times of day, hh:mm:ss"
    } else {
        "this column holds date-times (RFC 3339), years 0001 to 9999"
    };
    let text = plain(string(scanner, first, misfit)?);
    let read = if is_time { time::time(&text) } else { time::moment(&text) };
    let Moment { micros, changes } = read.ok_or(Refusal::Misfit(misfit))?;
    odd.counts.time(changes);
    Ok(micros)
}

/// A decimal comes as a number, or as a string that holds one (the Singer SDK's `x-singer.decimal`).
fn decimal(kind: ColumnType, scanner: &mut Scanner<'_>, first: u8, odd: &mut Oddities) -> Result<i128, Refusal> {
    let misfit =
        Refusal::Misfit("this column holds decimals, and the number has too many digits before or behind the point");
    let ColumnType::Decimal { precision, scale } = kind else { return Err(misfit) };
    let none = "this column holds decimals";
    let text = if first == b'"' { plain(scanner.string()?) } else { Cow::Borrowed(any_number(scanner, first, none)?) };
    let number = exact::loose(&text).ok_or(Refusal::Misfit(none))?;
    if let Some(exact) = exact::decimal(number, precision, scale) {
        return Ok(exact);
    }
    let meant = exact::without_noise(number, precision, scale).ok_or(misfit)?;
    odd.counts.noisy_decimals += 1;
    Ok(meant)
}

#[cfg(test)]
mod tests;
