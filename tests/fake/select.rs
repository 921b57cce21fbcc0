//! One SELECT: read with PostHog's syntax, checked, run over the rows of a table.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use sqlparser::ast::{
    self, Distinct, GroupByExpr, LimitClause, OrderByKind, OrderBySort, SelectItem, SetExpr, TableFactor,
};
use sqlparser::dialect::{ClickHouseDialect, Dialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Tokenizer;

use super::compile::{Compiler, Typed};
use super::expression::{Expr, Scope};
use super::table::{Stored, Table};
use super::value::{Type, Value};
use super::zone::Zone;
use super::{Refusal, refuse};

/// Rows of an answer when the query gives no LIMIT.
pub(crate) const DEFAULT_LIMIT: usize = 100;

const OFFSET_REFUSED: &str = "OFFSET is not supported on queries made with a personal API key. For pagination, use keyset \
    pagination on the `timestamp` column, e.g. `WHERE timestamp > :last_seen_timestamp ORDER BY timestamp LIMIT N`. For \
    bulk data extraction, use batch exports: https://posthog.com/docs/cdp/batch-exports";

/// What a query sees beside its text.
pub(crate) struct Surroundings<'a> {
    pub(crate) tables: &'a dyn Fn(&str) -> Option<Cow<'a, Table>>,
    pub(crate) now: i64,
    /// The zone of times; the project's, unless the query asked for none.
    pub(crate) zone: Zone,
    /// A query that reads more bytes than this runs out of time.
    pub(crate) most_bytes_read: u64,
    /// The most rows that any LIMIT gives.
    pub(crate) most_rows: usize,
}

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<String>,
    pub(crate) types: Vec<Type>,
    pub(crate) rows: Vec<Vec<Value>>,
    /// Whether more rows followed; only known when the query had no LIMIT of its own.
    pub(crate) has_more: Option<bool>,
    pub(crate) bytes_read: u64,
    /// What the query does that a careful reader never does.
    pub(crate) faux_pas: Vec<String>,
    pub(crate) table: Option<&'static str>,
}

/// ClickHouse's words, with `$` in names.
#[derive(Debug)]
struct HogQl(ClickHouseDialect);

impl Dialect for HogQl {
    fn dialect(&self) -> std::any::TypeId {
        self.0.dialect()
    }
    fn is_identifier_start(&self, c: char) -> bool {
        c == '$' || self.0.is_identifier_start(c)
    }
    fn is_identifier_part(&self, c: char) -> bool {
        c == '$' || self.0.is_identifier_part(c)
    }
    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
}

/// Runs `sql`.
pub(crate) fn run(sql: &str, around: &Surroundings<'_>) -> Result<Answer, Refusal> {
    let dialect = HogQl(ClickHouseDialect {});
    let syntax = |e: &dyn std::fmt::Display| refuse(format!("mismatched input: {e}"));
    let tokens = Tokenizer::new(&dialect, sql).with_unescape(false).tokenize_with_location().map_err(|e| syntax(&e))?;
    let statements = Parser::new(&dialect)
        .with_recursion_limit(2_000)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|e| syntax(&e))?;
    let [ast::Statement::Query(query)] = statements.as_slice() else {
        return Err(refuse("mismatched input: one SELECT is expected"));
    };
    select(query, around)
}

fn select(query: &ast::Query, around: &Surroundings<'_>) -> Result<Answer, Refusal> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Err(refuse("the fake cannot evaluate set operations"));
    };
    if query.with.is_some() || select.prewhere.is_some() || select.qualify.is_some() {
        return Err(refuse("the fake cannot evaluate WITH, PREWHERE or QUALIFY"));
    }
    if query.settings.is_some() || query.format_clause.is_some() {
        return Err(refuse("mismatched input: SETTINGS and FORMAT are not part of HogQL"));
    }
    let limit = limit(query.limit_clause.as_ref())?;
    let (table, table_alias) = source(&select.from, around)?;
    let table = table.as_deref();
    let mut compiler = Compiler { table, table_alias, aliases: Vec::new(), now: around.now, zone: around.zone };
    let shown = projection(&select.projection, &mut compiler)?;
    let filter = select.selection.as_ref().map(|tree| compiler.compile(tree)).transpose()?;
    let plan = Plan {
        keys: match &select.group_by {
            GroupByExpr::Expressions(trees, modifiers) if modifiers.is_empty() => {
                trees.iter().map(|tree| Ok(compiler.compile(tree)?.expr)).collect::<Result<_, Refusal>>()?
            }
            _ => return Err(refuse("the fake cannot evaluate GROUP BY ALL or its modifiers")),
        },
        filter: filter.map(|filter| filter.expr),
        having: select.having.as_ref().map(|tree| compiler.compile(tree)).transpose()?.map(|having| having.expr),
        order: order(query.order_by.as_ref(), &compiler)?,
        distinct: matches!(select.distinct, Some(Distinct::Distinct)),
        shown,
    };
    plan.check(table)?;
    let most = limit.unwrap_or(DEFAULT_LIMIT).min(around.most_rows);
    let mut answer = plan.run(table, around, most + 1)?;
    answer.faux_pas = plan.faux_pas(table, limit);
    answer.has_more = if limit.is_none() { Some(answer.rows.len() > most) } else { None };
    answer.rows.truncate(most);
    Ok(answer)
}

fn limit(clause: Option<&LimitClause>) -> Result<Option<usize>, Refusal> {
    match clause {
        None => Ok(None),
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) if limit_by.is_empty() => {
            let text = limit.to_string();
            text.parse().map(Some).map_err(|_| refuse(format!("the fake takes LIMIT <number>, not {text}")))
        }
        Some(LimitClause::LimitOffset { offset: None, .. }) => Err(refuse("the fake cannot evaluate LIMIT BY")),
        Some(_) => Err(refuse(OFFSET_REFUSED)),
    }
}

type Source<'a> = (Option<Cow<'a, Table>>, Option<String>);

fn source<'a>(from: &[ast::TableWithJoins], around: &Surroundings<'a>) -> Result<Source<'a>, Refusal> {
    let [one] = from else {
        return if from.is_empty() { Ok((None, None)) } else { Err(refuse("the fake reads one table per query")) };
    };
    if !one.joins.is_empty() {
        return Err(refuse("the fake cannot join"));
    }
    match &one.relation {
        TableFactor::Table { name, alias, args: None, sample: None, .. } => {
            let alias = alias.as_ref().map(|alias| alias.name.value.clone());
            if alias.as_deref().is_some_and(|alias| alias.eq_ignore_ascii_case("final")) {
                return Err(refuse("The FINAL keyword is not supported in HogQL as it causes slow queries"));
            }
            let table = (around.tables)(&name.to_string());
            Ok((Some(table.ok_or_else(|| refuse(format!("Unknown table `{name}`.")))?), alias))
        }
        TableFactor::Derived { subquery, alias, .. } => {
            let inner = select(subquery, around)?;
            let columns = inner.columns.into_iter().zip(inner.types).collect();
            let rows = inner.rows.into_iter().map(|cells| Stored { cells, visible_from: i64::MIN }).collect();
            let alias = alias.as_ref().map(|alias| alias.name.value.clone());
            Ok((Some(Cow::Owned(Table { name: "(subquery)", columns, rows })), alias))
        }
        other => Err(refuse(format!("the fake cannot read from {other}"))),
    }
}

fn projection(items: &[SelectItem], compiler: &mut Compiler<'_>) -> Result<Vec<Typed>, Refusal> {
    let mut shown = Vec::new();
    for item in items {
        match item {
            SelectItem::UnnamedExpr(tree) => shown.push(compiler.compile(tree)?),
            SelectItem::Wildcard(_) => {
                let columns = compiler.table.map_or(&[][..], |table| &table.columns);
                // What is asked for as `a.b` belongs to a virtual table, which `*` leaves out.
                for (name, _) in columns.iter().filter(|(name, _)| !name.contains('.')) {
                    shown.push(compiler.compile(&ast::Expr::Identifier(ast::Ident::new(name)))?);
                }
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let name = alias.value.clone();
                if compiler.aliases.iter().any(|known| known.name == name) {
                    return Err(refuse(format!("Cannot redefine an alias with the name: {name}")));
                }
                let named = Typed { name, ..compiler.compile(expr)? };
                compiler.aliases.push(named.clone());
                shown.push(named);
            }
            other => return Err(refuse(format!("the fake wants columns by name, not {other}"))),
        }
    }
    Ok(shown)
}

fn order(clause: Option<&ast::OrderBy>, compiler: &Compiler<'_>) -> Result<Vec<(Expr, bool)>, Refusal> {
    let Some(clause) = clause else { return Ok(Vec::new()) };
    let OrderByKind::Expressions(keys) = &clause.kind else {
        return Err(refuse("the fake cannot evaluate ORDER BY ALL"));
    };
    keys.iter()
        .map(|key| Ok((compiler.compile(&key.expr)?.expr, matches!(key.options.sort, Some(OrderBySort::Desc)))))
        .collect()
}

/// A compiled SELECT.
struct Plan {
    shown: Vec<Typed>,
    filter: Option<Expr>,
    keys: Vec<Expr>,
    having: Option<Expr>,
    order: Vec<(Expr, bool)>,
    distinct: bool,
}

impl Plan {
    /// What is computed after the grouping.
    fn outputs(&self) -> impl Iterator<Item = &Expr> {
        self.shown.iter().map(|typed| &typed.expr).chain(&self.having).chain(self.order.iter().map(|(key, _)| key))
    }

    fn grouped(&self) -> bool {
        !self.keys.is_empty() || self.outputs().any(Expr::has_aggregate)
    }

    fn check(&self, table: Option<&Table>) -> Result<(), Refusal> {
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
        let chosen =
            self.filter.iter().chain(&self.keys).chain(&self.having).chain(self.order.iter().map(|(key, _)| key));
        shown.chain(chosen).for_each(|expr| expr.columns(&mut columns));
        columns
    }

    /// The bytes of a simple model of what ClickHouse reads: the columns above of all matching rows, and of the rows that
    /// are returned the columns that are shown besides.
    fn bytes_read(&self, matching: &[&[Value]], returned: &[Vec<Value>]) -> u64 {
        let read = self.columns_read();
        let besides = |typed: &Typed| matches!(&typed.expr, Expr::Column(at) if !read.contains(at));
        let wide: Vec<usize> =
            (0..self.shown.len()).filter(|&at| !self.grouped() && besides(&self.shown[at])).collect();
        let bytes =
            |cells: &[Value], at: &mut dyn Iterator<Item = usize>| at.map(|at| cells[at].stored_bytes()).sum::<u64>();
        let narrow: u64 = matching.iter().map(|cells| bytes(cells, &mut read.iter().copied())).sum();
        narrow + returned.iter().map(|row| bytes(row, &mut wide.iter().copied())).sum::<u64>()
    }

    fn faux_pas(&self, table: Option<&Table>, limit: Option<usize>) -> Vec<String> {
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

    fn run(&self, table: Option<&Table>, around: &Surroundings<'_>, most: usize) -> Result<Answer, Refusal> {
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
        let mut kept = Vec::new();
        for group in groups.values() {
            let scope = Scope::Group(group);
            let keep = match &self.having {
                None => true,
                Some(having) => having.eval(scope)?.is_true(),
            };
            if keep {
                kept.push(scope);
            }
        }
        self.sorted(kept.into_iter(), most)
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
        let mut seen = std::collections::HashSet::new();
        for (_, scope) in keyed {
            if out.len() == most {
                break;
            }
            let row: Vec<Value> = self
                .shown
                .iter()
                .map(|typed| Ok(typed.expr.eval(scope)?.into_owned()))
                .collect::<Result<_, Refusal>>()?;
            let mut name = Vec::new();
            if self.distinct {
                row.iter().for_each(|value| value.write_key(&mut name));
            }
            if !self.distinct || seen.insert(name) {
                out.push(row);
            }
        }
        Ok(out)
    }
}
