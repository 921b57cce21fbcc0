//! A compiled SELECT: checked, and run over the rows of a table.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use super::compile::Typed;
use super::expression::{Expr, Scope};
use super::select::{Answer, Surroundings};
use super::table::{Stored, Table};
use super::value::Value;
use super::{Refusal, refuse};

/// A compiled SELECT.
pub(crate) struct Plan {
    pub(crate) shown: Vec<Typed>,
    pub(crate) filter: Option<Expr>,
    pub(crate) keys: Vec<Expr>,
    pub(crate) order: Vec<(Expr, bool)>,
    /// That order is the one of storage: reading stops at the LIMIT.
    pub(crate) walks_sort_key: bool,
    /// So many rows at most that are equal in these.
    pub(crate) limit_by: Option<(usize, Vec<Expr>)>,
}

impl Plan {
    /// What is computed after the grouping.
    fn outputs(&self) -> impl Iterator<Item = &Expr> {
        let shown = self.shown.iter().map(|typed| &typed.expr);
        shown.chain(self.order.iter().map(|(key, _)| key)).chain(self.limit_by.iter().flat_map(|(_, keys)| keys))
    }

    fn grouped(&self) -> bool {
        !self.keys.is_empty() || self.outputs().any(Expr::has_aggregate)
    }

    pub(crate) fn check(&self, table: Option<&Table>) -> Result<(), Refusal> {
        if self.filter.iter().chain(&self.keys).any(Expr::has_aggregate) {
            return Err(Refusal::new(400, "illegal_aggregation", "Aggregate function is found in WHERE or GROUP BY."));
        }
        if self.grouped()
            && let Some(at) = self.outputs().find_map(|output| output.ungrouped_column(&self.keys))
        {
            let name = table.map_or("", |table| table.columns[at].0.as_str());
            let text = format!("Column '{name}' is not under aggregate function and not in GROUP BY keys.");
            return Err(Refusal::new(400, "not_an_aggregate", &text));
        }
        Ok(())
    }

    /// The columns of which ClickHouse reads every matching row: all of them where rows are grouped; else those that
    /// choose and sort the rows, as reading in key order stops at the LIMIT.
    fn columns_read(&self) -> BTreeSet<usize> {
        let mut columns = BTreeSet::new();
        let shown = self.shown.iter().map(|typed| &typed.expr).filter(|_| self.grouped());
        let chosen = self.filter.iter().chain(&self.keys).chain(self.order.iter().map(|(key, _)| key));
        shown.chain(chosen).for_each(|expr| expr.columns(&mut columns));
        columns
    }

    /// The bytes of a simple model of what ClickHouse reads: the columns above of all matching rows, and of the rows that
    /// are returned the columns that are shown besides.
    fn bytes_read(&self, matching: &[&[Value]], returned: &[Vec<Value>]) -> u64 {
        let looked_at = if self.walks_sort_key { returned.len().min(matching.len()) } else { matching.len() };
        let matching = &matching[..looked_at];
        let read = self.columns_read();
        let besides = |typed: &Typed| matches!(&typed.expr, Expr::Column(at) if !read.contains(at));
        let wide: Vec<usize> =
            (0..self.shown.len()).filter(|&at| !self.grouped() && besides(&self.shown[at])).collect();
        let bytes =
            |cells: &[Value], at: &mut dyn Iterator<Item = usize>| at.map(|at| cells[at].stored_bytes()).sum::<u64>();
        let narrow: u64 = matching.iter().map(|cells| bytes(cells, &mut read.iter().copied())).sum();
        narrow + returned.iter().map(|row| bytes(row, &mut wide.iter().copied())).sum::<u64>()
    }

    pub(crate) fn faux_pas(&self, table: Option<&Table>, limit: Option<usize>) -> Vec<String> {
        let Some(table) = table else { return Vec::new() };
        let mut found = Vec::new();
        if limit.is_none() {
            found.push("no LIMIT".to_owned());
        }
        if table.name == "events" && limit != Some(0) {
            let at = table.column("timestamp").unwrap_or(usize::MAX);
            match self.filter.as_ref().map_or((false, false), |filter| filter.bounds(at)) {
                (true, true) => {}
                (below, _) => found.push(format!("timestamp has no {} bound", if below { "upper" } else { "lower" })),
            }
        }
        found
    }

    pub(crate) fn run(&self, table: Option<&Table>, around: &Surroundings<'_>, most: usize) -> Result<Answer, Refusal> {
        let mut answer = Answer {
            columns: self.shown.iter().map(|typed| typed.name.clone()).collect(),
            types: self.shown.iter().map(|typed| typed.kind.clone()).collect(),
            table: table.map(|table| table.name),
            ..Answer::default()
        };
        let nothing = [Stored { cells: Vec::new(), visible_from: i64::MIN }];
        let stored = table.map_or(nothing.as_slice(), |table| &table.rows);
        let mut rows: Vec<&[Value]> = Vec::new();
        for row in stored.iter().filter(|row| row.visible_from <= around.now) {
            let matches = match &self.filter {
                None => true,
                Some(filter) => filter.eval(Scope::Row(&row.cells))?.is_true(),
            };
            if matches {
                rows.push(&row.cells);
            }
        }
        answer.rows = if self.grouped() {
            self.over_groups(&rows, most)?
        } else {
            self.sorted(rows.iter().map(|cells| Scope::Row(cells)), most)?
        };
        answer.bytes_read = self.bytes_read(&rows, &answer.rows);
        if answer.bytes_read > around.most_bytes_read {
            return Err(Refusal::timeout());
        }
        Ok(answer)
    }

    fn over_groups(&self, rows: &[&[Value]], most: usize) -> Result<Vec<Vec<Value>>, Refusal> {
        let mut groups: indexmap::IndexMap<Vec<u8>, Vec<&[Value]>> = indexmap::IndexMap::new();
        if self.keys.is_empty() {
            groups.insert(Vec::new(), rows.to_vec());
        } else {
            for cells in rows {
                let mut name = Vec::new();
                for key in &self.keys {
                    key.eval(Scope::Row(cells))?.write_key(&mut name);
                }
                groups.entry(name).or_default().push(cells);
            }
        }
        self.sorted(groups.values().map(|group| Scope::Group(group)), most)
    }

    /// The shown values of the first `most` scopes in the order asked for; ties keep the order of storage.
    fn sorted<'a>(&'a self, scopes: impl Iterator<Item = Scope<'a>>, most: usize) -> Result<Vec<Vec<Value>>, Refusal> {
        let mut keyed = Vec::new();
        for scope in scopes {
            let keys: Vec<Value> =
                self.order.iter().map(|(key, _)| Ok(key.eval(scope)?.into_owned())).collect::<Result<_, Refusal>>()?;
            keyed.push((keys, scope));
        }
        keyed.sort_by(|(a, _), (b, _)| {
            let compared = a.iter().zip(b).zip(&self.order).map(|((a, b), (_, down))| a.sort_key_cmp(b, *down));
            compared.fold(Ordering::Equal, Ordering::then)
        });
        let mut out = Vec::new();
        let mut equal: HashMap<Vec<u8>, usize> = HashMap::new();
        for (_, scope) in keyed {
            if out.len() == most {
                break;
            }
            if let Some((most_equal, keys)) = &self.limit_by {
                let mut name = Vec::new();
                for key in keys {
                    key.eval(scope)?.write_key(&mut name);
                }
                let count = equal.entry(name).or_default();
                *count += 1;
                if *count > *most_equal {
                    continue;
                }
            }
            let row = self
                .shown
                .iter()
                .map(|typed| Ok(typed.expr.eval(scope)?.into_owned()))
                .collect::<Result<_, Refusal>>()?;
            out.push(row);
        }
        Ok(out)
    }
}
