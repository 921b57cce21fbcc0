//! A compiled expression: what a query computes per row or per group, and what the rules of good querying ask about it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::aggregate::Aggregate;
use super::function::Function;
use super::value::{Type, Value};
use super::{Refusal, refuse};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Constant(Value),
    Column(usize),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    In { needle: Box<Expr>, members: Vec<Value> },
    Call { function: Function, kind: Type, arguments: Vec<Expr> },
    Aggregate { aggregate: Aggregate, condition: Option<Box<Expr>>, arguments: Vec<Expr> },
}

/// What an expression is computed over.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    Row(&'a [Value]),
    Group(&'a [&'a [Value]]),
}

impl Expr {
    pub(crate) fn eval<'a>(&'a self, scope: Scope<'a>) -> Result<Cow<'a, Value>, Refusal> {
        Ok(match self {
            Expr::Constant(value) => Cow::Borrowed(value),
            Expr::Column(at) => match scope {
                Scope::Row(cells) => Cow::Borrowed(&cells[*at]),
                Scope::Group(rows) => rows.first().map_or(Cow::Owned(Value::Null), |cells| Cow::Borrowed(&cells[*at])),
            },
            Expr::And(parts) => {
                for part in parts {
                    if !part.eval(scope)?.is_true() {
                        return Ok(Cow::Owned(Value::truth(false)));
                    }
                }
                Cow::Owned(Value::truth(true))
            }
            Expr::Or(parts) => {
                for part in parts {
                    if part.eval(scope)?.is_true() {
                        return Ok(Cow::Owned(Value::truth(true)));
                    }
                }
                Cow::Owned(Value::truth(false))
            }
            Expr::In { needle, members } => Cow::Owned(Value::truth(members.contains(needle.eval(scope)?.as_ref()))),
            Expr::Call { function, kind, arguments } => {
                let values: Vec<Value> =
                    arguments.iter().map(|part| part.eval(scope).map(Cow::into_owned)).collect::<Result<_, _>>()?;
                Cow::Owned(function.call(kind, &values)?)
            }
            Expr::Aggregate { aggregate, condition, arguments } => {
                let Scope::Group(rows) = scope else {
                    return Err(refuse("aggregate function used where no rows are grouped"));
                };
                Cow::Owned(over_group(*aggregate, condition.as_deref(), arguments, rows)?)
            }
        })
    }

    pub(crate) fn has_aggregate(&self) -> bool {
        matches!(self, Expr::Aggregate { .. }) || self.parts().iter().any(|part| part.has_aggregate())
    }

    fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Constant(_) | Expr::Column(_) => Vec::new(),
            Expr::And(parts) | Expr::Or(parts) => parts.iter().collect(),
            Expr::In { needle, .. } => vec![needle],
            Expr::Call { arguments, .. } => arguments.iter().collect(),
            Expr::Aggregate { condition, arguments, .. } => {
                arguments.iter().chain(condition.iter().map(AsRef::as_ref)).collect()
            }
        }
    }

    /// The columns that are read for this expression.
    pub(crate) fn columns(&self, out: &mut BTreeSet<usize>) {
        if let Expr::Column(at) = self {
            out.insert(*at);
        }
        self.parts().iter().for_each(|part| part.columns(out));
    }

    /// A column that stands neither under an aggregate nor among the keys of the group.
    pub(crate) fn ungrouped_column(&self, keys: &[Expr]) -> Option<usize> {
        if keys.contains(self) {
            return None;
        }
        match self {
            Expr::Column(at) => Some(*at),
            Expr::Aggregate { .. } => None,
            _ => self.parts().iter().find_map(|part| part.ungrouped_column(keys)),
        }
    }

    /// Whether this condition bounds `column` (or its date) from below and from above, by constants.
    pub(crate) fn bounds(&self, column: usize) -> (bool, bool) {
        let both = |a: (bool, bool), b: (bool, bool)| (a.0 || b.0, a.1 || b.1);
        let either = |a: (bool, bool), b: (bool, bool)| (a.0 && b.0, a.1 && b.1);
        match self {
            Expr::And(parts) => parts.iter().map(|part| part.bounds(column)).fold((false, false), both),
            Expr::Or(parts) => parts.iter().map(|part| part.bounds(column)).fold((true, true), either),
            Expr::In { needle, .. } if needle.is_time_of(column) => (true, true),
            Expr::Call { function, arguments, .. } if function.is_comparison() => {
                let (less, greater) = match function {
                    Function::Less | Function::LessOrEquals => (true, false),
                    Function::Greater | Function::GreaterOrEquals => (false, true),
                    Function::Equals => (true, true),
                    _ => (false, false),
                };
                match (&arguments[0], &arguments[1]) {
                    (time, Expr::Constant(_)) if time.is_time_of(column) => (greater, less),
                    (Expr::Constant(_), time) if time.is_time_of(column) => (less, greater),
                    _ => (false, false),
                }
            }
            _ => (false, false),
        }
    }

    fn is_time_of(&self, column: usize) -> bool {
        match self {
            Expr::Column(at) => *at == column,
            Expr::Call { function: Function::ToDate, arguments, .. } => arguments[0].is_time_of(column),
            _ => false,
        }
    }
}

fn over_group(
    aggregate: Aggregate,
    condition: Option<&Expr>,
    arguments: &[Expr],
    rows: &[&[Value]],
) -> Result<Value, Refusal> {
    let mut taken = Vec::with_capacity(rows.len());
    for cells in rows {
        let scope = Scope::Row(cells);
        if condition.is_none_or(|condition| condition.eval(scope).is_ok_and(|value| value.is_true())) {
            taken.push(
                arguments.iter().map(|part| part.eval(scope).map(Cow::into_owned)).collect::<Result<Vec<_>, _>>()?,
            );
        }
    }
    Ok(aggregate.over(&taken))
}
