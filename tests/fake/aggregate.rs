//! The aggregate functions that the fake can compute over the rows of a group. Each also exists with `If` behind its name
//! and a condition as its last argument, as in ClickHouse.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::value::{Type, Value};
use super::{Refusal, refuse};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Count,
    UniqExact,
    Min,
    Max,
    Sum,
    Avg,
    Any,
    ArgMin,
    ArgMax,
    GroupArray,
}

/// Name, least and most arguments.
const NAMES: &[(&str, Aggregate, usize, usize)] = &[
    ("count", Aggregate::Count, 0, 1),
    ("uniqExact", Aggregate::UniqExact, 1, 9),
    ("uniq", Aggregate::UniqExact, 1, 9),
    ("min", Aggregate::Min, 1, 1),
    ("max", Aggregate::Max, 1, 1),
    ("sum", Aggregate::Sum, 1, 1),
    ("avg", Aggregate::Avg, 1, 1),
    ("any", Aggregate::Any, 1, 1),
    ("argMin", Aggregate::ArgMin, 2, 2),
    ("argMax", Aggregate::ArgMax, 2, 2),
    ("groupArray", Aggregate::GroupArray, 1, 1),
];

impl Aggregate {
    /// The aggregate of this name and whether it ends in `If`; `None` when the name is no aggregate.
    pub(crate) fn by_name(name: &str, arguments: usize) -> Result<Option<(Aggregate, bool)>, Refusal> {
        let named = |name: &str| NAMES.iter().find(|(known, ..)| *known == name);
        let (row, conditional) = match (named(name), name.strip_suffix("If").and_then(named)) {
            (Some(row), _) => (row, false),
            (None, Some(row)) => (row, true),
            (None, None) => return Ok(None),
        };
        let given = arguments.saturating_sub(usize::from(conditional));
        if (row.2..=row.3).contains(&given) {
            Ok(Some((row.1, conditional)))
        } else {
            Err(refuse(format!("Aggregation '{name}' expects {} to {} arguments, found {given}", row.2, row.3)))
        }
    }

    pub(crate) fn result_type(self, of: &[Type]) -> Type {
        match self {
            Aggregate::Count | Aggregate::UniqExact => Type::UInt64,
            Aggregate::Avg => Type::Float64,
            Aggregate::Sum if *of[0].inner() == Type::Float64 => Type::Float64,
            Aggregate::Sum if matches!(of[0].inner(), Type::Int8 | Type::Int64) => Type::Int64,
            Aggregate::Sum => Type::UInt64,
            Aggregate::GroupArray => Type::Array(Box::new(of[0].inner().clone())),
            _ => of[0].clone(),
        }
    }

    /// The value over `rows`, each the values of the arguments. Rows with a null in front do not count.
    pub(crate) fn over(self, kind: &Type, rows: Vec<Vec<Value>>) -> Value {
        let rows: Vec<Vec<Value>> = rows.into_iter().filter(|row| row.first() != Some(&Value::Null)).collect();
        let number = |value: &Value| match value {
            Value::Int(number) => *number as f64,
            Value::Float(number) => *number,
            _ => 0.0,
        };
        let total = || rows.iter().map(|row| number(&row[0])).sum::<f64>();
        match self {
            Aggregate::Count => Value::Int(rows.len() as i128),
            Aggregate::UniqExact => {
                let mut seen = HashSet::new();
                for row in &rows {
                    let mut key = Vec::new();
                    row.iter().for_each(|value| value.write_key(&mut key));
                    seen.insert(key);
                }
                Value::Int(seen.len() as i128)
            }
            Aggregate::Sum if *kind == Type::Float64 => Value::Float(total()),
            Aggregate::Sum => Value::Int(
                rows.iter().map(|row| if let Value::Int(number) = row[0] { number } else { 0 }).sum::<i128>(),
            ),
            Aggregate::Avg if rows.is_empty() => Value::Float(f64::NAN),
            Aggregate::Avg => Value::Float(total() / rows.len() as f64),
            Aggregate::GroupArray => Value::List(rows.into_iter().map(|mut row| row.swap_remove(0)).collect()),
            Aggregate::Any => rows.first().map_or_else(|| kind.default_value(), |row| row[0].clone()),
            Aggregate::Min | Aggregate::ArgMin => pick(kind, &rows, Ordering::Less),
            Aggregate::Max | Aggregate::ArgMax => pick(kind, &rows, Ordering::Greater),
        }
    }
}

/// The first value of the row whose last value is the least or the greatest.
fn pick(kind: &Type, rows: &[Vec<Value>], wanted: Ordering) -> Value {
    let mut best: Option<&Vec<Value>> = None;
    for row in rows {
        if best.is_none_or(|best| row.last().unwrap().compare(best.last().unwrap()) == Some(wanted)) {
            best = Some(row);
        }
    }
    best.map_or_else(|| kind.default_value(), |row| row[0].clone())
}
