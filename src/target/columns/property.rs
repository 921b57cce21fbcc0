//! What becomes of a property: the one place that decides a column's type. The type table of `docs/files.md` says the same.
//!
//! Refuses nothing: a property whose type cannot be told becomes JSON text, which holds every value as it was written.

mod allowed;

use self::allowed::{Allowed, BOOLEAN, Digits, Format, INTEGER, NULL, NUMBER, OTHER, STRING};
use super::column_type::ColumnType;
use crate::json::scan::Scanner;
use crate::json::token::Fault;

/// The column that a property becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// The column's type.
    pub kind: ColumnType,
    /// Whether null is allowed.
    pub nullable: bool,
    /// Which values a text column takes.
    pub takes: Takes,
    /// Which column of another type may stay in its place.
    pub stays: Stays,
}

/// Which values a text column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Strings.
    Strings,
    /// Numbers too, as they are written: the schema allows numbers that no decimal holds.
    Numbers,
    /// Every value: strings as they are, others as JSON writes them. The schema names several scalar types.
    Scalars,
}

/// Versions before this one read some schemas as another type. A folder that they wrote keeps its column, where that holds
/// what comes: two columns of one property are worse for readers than one of a wider type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// None: another type is a change.
    None,
    /// A column of JSON text.
    Json,
    /// JSON text, or doubles in place of decimals.
    Doubles,
    /// JSON text, doubles or decimals in place of text.
    Numbers,
}

impl Stays {
    /// True if a column of this type stays.
    pub fn keeps(self, kind: ColumnType) -> bool {
        match kind {
            ColumnType::Json => self != Stays::None,
            ColumnType::Float64 => matches!(self, Stays::Doubles | Stays::Numbers),
            ColumnType::Decimal { .. } => self == Stays::Numbers,
            _ => false,
        }
    }
}

/// The type that the property schema at `scanner` gets.
pub fn property(scanner: &mut Scanner<'_>) -> Result<Property, Fault> {
    let allowed = Allowed::read(scanner, 0)?;
    let (kind, takes) = column(allowed);
    let stays = match (kind, takes) {
        (ColumnType::Text, Takes::Numbers) => Stays::Numbers,
        (ColumnType::Decimal { .. }, _) if allowed.composed => Stays::Doubles,
        _ if allowed.composed || takes == Takes::Scalars => Stays::Json,
        _ => Stays::None,
    };
    Ok(Property { kind, nullable: !allowed.known || allowed.types & NULL != 0, takes, stays })
}

fn column(allowed: Allowed) -> (ColumnType, Takes) {
    let types = allowed.types & !NULL;
    if !allowed.known || types & OTHER != 0 || types == 0 {
        return (ColumnType::Json, Takes::Strings);
    }
    let numbers = NUMBER | INTEGER;
    if allowed.format() == Some(Format::Decimal) && types & BOOLEAN == 0 && types & (STRING | NUMBER) != 0 {
        return exact(given_decimal(allowed.digits));
    }
    if types == STRING {
        let kind = match allowed.format() {
            Some(Format::DateTime) => ColumnType::Timestamp,
            Some(Format::Date) => ColumnType::Date,
            Some(Format::Time) => ColumnType::Time,
            _ => ColumnType::Text,
        };
        return (kind, Takes::Strings);
    }
    if types == BOOLEAN {
        return (ColumnType::Bool, Takes::Strings);
    }
    if types == INTEGER {
        let wide = ColumnType::Decimal { precision: 38, scale: 0 };
        return (if allowed.digits.wide { wide } else { ColumnType::Int64 }, Takes::Strings);
    }
    if types & !numbers != 0 {
        return (ColumnType::Text, Takes::Scalars);
    }
    match allowed.digits.scale {
        None => (ColumnType::Float64, Takes::Strings),
        Some(_) if allowed.digits.huge => exact(None),
        Some(scale) => exact((scale <= 18).then_some(ColumnType::Decimal { precision: 38, scale })),
    }
}

/// A decimal, or text where no decimal holds what the schema allows.
fn exact(decimal: Option<ColumnType>) -> (ColumnType, Takes) {
    decimal.map_or((ColumnType::Text, Takes::Numbers), |kind| (kind, Takes::Strings))
}

/// `x-singer.decimal` with its `precision` and `scale`. Without a precision, or beyond 38 digits, no decimal is wide enough.
fn given_decimal(digits: Digits) -> Option<ColumnType> {
    let precision = digits.precision.and_then(|p| u8::try_from(p).ok()).filter(|p| (1..=38).contains(p))?;
    let scale = i8::try_from(digits.places.unwrap_or(0)).ok().filter(|s| (0..=38).contains(s))?;
    (u8::try_from(scale).ok()? <= precision).then_some(ColumnType::Decimal { precision, scale })
}

#[cfg(test)]
mod tests;
