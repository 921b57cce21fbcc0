//! One SELECT, read with PostHog's syntax.

use std::borrow::Cow;

use sqlparser::ast::{
    self, Distinct, GroupByExpr, LimitClause, OrderByKind, OrderBySort, SelectItem, SetExpr, TableFactor,
};
use sqlparser::dialect::{ClickHouseDialect, Dialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::compile::{Compiler, Typed};
use super::expression::Expr;
use super::plan::Plan;
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
    /// The order in which events are stored.
    pub(crate) sort_key: &'a [&'a str],
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
    fn supports_limit_by(&self) -> bool {
        true
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
    let mut parser = Parser::new(&dialect).with_recursion_limit(2_000).with_tokens_with_locations(tokens);
    let query = parser.parse_query().map_err(|e| syntax(&e))?;
    // A LIMIT may follow a LIMIT BY, which the parser does not know.
    let limit =
        if parser.parse_keyword(Keyword::LIMIT) { Some(parser.parse_expr().map_err(|e| syntax(&e))?) } else { None };
    if parser.peek_token().token != Token::EOF {
        return Err(refuse("mismatched input: one SELECT is expected"));
    }
    select(&query, limit.as_ref(), around)
}

/// `after` is the LIMIT behind a LIMIT BY.
fn select(query: &ast::Query, after: Option<&ast::Expr>, around: &Surroundings<'_>) -> Result<Answer, Refusal> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Err(refuse("the fake cannot evaluate set operations"));
    };
    let has_more = query.with.is_some() || select.prewhere.is_some() || select.qualify.is_some();
    if has_more || select.having.is_some() || select.distinct.is_some() {
        return Err(refuse("the fake cannot evaluate WITH, DISTINCT, PREWHERE, HAVING or QUALIFY"));
    }
    if query.settings.is_some() || query.format_clause.is_some() {
        return Err(refuse("mismatched input: SETTINGS and FORMAT are not part of HogQL"));
    }
    let (limit, limit_by) = limits(query.limit_clause.as_ref(), after)?;
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
        order: order(query.order_by.as_ref(), &compiler)?,
        walks_sort_key: walks(query.order_by.as_ref(), around.sort_key),
        limit_by: match limit_by {
            Some((most, trees)) => {
                Some((most, trees.iter().map(|tree| Ok(compiler.compile(tree)?.expr)).collect::<Result<_, Refusal>>()?))
            }
            None => None,
        },
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

/// The rows of an answer, and how many of them may be equal in some expressions.
type Limits<'q> = (Option<usize>, Option<(usize, &'q [ast::Expr])>);

fn limits<'q>(clause: Option<&'q LimitClause>, after: Option<&ast::Expr>) -> Result<Limits<'q>, Refusal> {
    let number = |tree: &ast::Expr| {
        let text = tree.to_string();
        text.parse().map_err(|_| refuse(format!("the fake takes LIMIT <number>, not {text}")))
    };
    match (clause, after) {
        (None, None) => Ok((None, None)),
        (Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }), None)
            if limit_by.is_empty() =>
        {
            Ok((Some(number(limit)?), None))
        }
        (Some(LimitClause::LimitOffset { limit: Some(most), offset: None, limit_by }), after)
            if !limit_by.is_empty() =>
        {
            Ok((after.map(number).transpose()?, Some((number(most)?, limit_by))))
        }
        (_, Some(_)) => Err(refuse("mismatched input 'LIMIT'")),
        (Some(_), None) => Err(refuse(OFFSET_REFUSED)),
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

/// Whether rows are asked for in the order in which they are stored.
fn walks(clause: Option<&ast::OrderBy>, sort_key: &[&str]) -> bool {
    let Some(OrderByKind::Expressions(keys)) = clause.map(|clause| &clause.kind) else { return false };
    keys.len() <= sort_key.len() && keys.iter().zip(sort_key).all(|(key, part)| key.expr.to_string() == *part)
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
