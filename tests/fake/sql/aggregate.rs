//! The aggregate functions that the tap calls, over the rows of a group. Each also exists with `If` behind its name and a
//! condition as its last argument, as in ClickHouse.

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
}

/// Name, least and most arguments.
const NAMES: &[(&str, Aggregate, usize, usize)] = &[
    ("count", Aggregate::Count, 0, 1),
    ("uniqExact", Aggregate::UniqExact, 1, 9),
    ("min", Aggregate::Min, 1, 1),
    ("max", Aggregate::Max, 1, 1),
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

    /// The type of its value.
    pub(crate) fn kind(self, of: &[Type]) -> Type {
        match (self, of) {
            (Aggregate::Min | Aggregate::Max, [kind]) => kind.clone(),
            _ => Type::UInt64,
        }
    }

    /// How many, or which, over `rows`, each the values of the arguments. Rows with a null in front do not count.
    pub(crate) fn over(self, rows: &[Vec<Value>]) -> Value {
        let rows = rows.iter().filter(|row| row.first() != Some(&Value::Null));
        let order = |a: &&Value, b: &&Value| a.compare(b).unwrap_or(Ordering::Equal);
        let values = rows.clone().filter_map(|row| row.first());
        let count = match self {
            Aggregate::Min => return values.min_by(order).cloned().unwrap_or(Value::Int(0)),
            Aggregate::Max => return values.max_by(order).cloned().unwrap_or(Value::Int(0)),
            Aggregate::Count => rows.count(),
            Aggregate::UniqExact => {
                let key = |row: &Vec<Value>| {
                    let mut key = Vec::new();
                    row.iter().for_each(|value| value.write_key(&mut key));
                    key
                };
                rows.map(key).collect::<HashSet<_>>().len()
            }
        };
        Value::Int(count as i128)
    }
}
