//! From the parser's tree to [`Expr`]: names are resolved, types checked, constants folded. What is not understood here is
//! refused with the reason, so the fake never answers a query that it only half understood.

use std::sync::Arc;

use sqlparser::ast::{self, BinaryOperator, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::aggregate::Aggregate;
use super::expression::{Expr, Scope};
use super::function::Function;
use super::table::Table;
use super::value::{Type, Value};
use super::{Refusal, refuse};

/// An expression with its type and the name that HogQL gives to a column without an alias.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) expr: Expr,
    pub(crate) kind: Type,
    pub(crate) name: String,
}

/// What names mean in one SELECT.
pub(crate) struct Compiler<'a> {
    pub(crate) table: Option<&'a Table>,
    pub(crate) table_alias: Option<String>,
    pub(crate) aliases: Vec<Typed>,
    pub(crate) now: i64,
    pub(crate) zone: super::zone::Zone,
}

impl Compiler<'_> {
    pub(crate) fn compile(&self, tree: &ast::Expr) -> Result<Typed, Refusal> {
        use ast::Expr as Tree;
        match tree {
            Tree::Nested(inner) => self.compile(inner),
            Tree::Identifier(name) => self.field(&[&name.value]),
            Tree::CompoundIdentifier(names) => self.field(&names.iter().map(|n| n.value.as_str()).collect::<Vec<_>>()),
            Tree::Value(value) => constant(&value.value),
            Tree::BinaryOp { left, op, right } => self.binary(left, op, right),
            Tree::IsNull(inner) => self.call("isNull", &[inner]),
            Tree::InList { expr, list, negated: false } => self.in_list(expr, list),
            Tree::Tuple(items) => self.call("tuple", &items.iter().collect::<Vec<_>>()),
            Tree::Function(function) => self.function(function),
            other => Err(refuse(format!("the fake cannot evaluate: {other}"))),
        }
    }

    fn field(&self, chain: &[&str]) -> Result<Typed, Refusal> {
        if let [name] = chain
            && let Some(alias) = self.aliases.iter().find(|alias| alias.name == *name)
        {
            return Ok(alias.clone());
        }
        let table = self.table.ok_or_else(|| refuse(format!("Unable to resolve field: {}", chain[0])))?;
        let called = self.table_alias.as_deref().unwrap_or(table.name);
        let rest = if chain.len() > 1 && chain[0] == called { &chain[1..] } else { chain };
        let name = rest.join(".");
        let Some(at) = table.column(&name) else {
            let text = if table.column(rest[0]).is_some() {
                format!("the fake does not read single properties: {name}")
            } else {
                format!("Unable to resolve field: {}", rest[0])
            };
            return Err(refuse(text));
        };
        let kind = match &table.columns[at].1 {
            Type::DateTime64(scale, _) => Type::DateTime64(*scale, self.zone),
            other => other.clone(),
        };
        Ok(Typed { expr: Expr::Column(at), kind, name })
    }

    fn binary(&self, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Result<Typed, Refusal> {
        let name = match op {
            BinaryOperator::And => return Ok(logical("and", self.flat(op, [left, right])?, Expr::And)),
            BinaryOperator::Or => return Ok(logical("or", self.flat(op, [left, right])?, Expr::Or)),
            BinaryOperator::Eq => "equals",
            BinaryOperator::Lt => "less",
            BinaryOperator::LtEq => "lessOrEquals",
            BinaryOperator::Gt => "greater",
            BinaryOperator::GtEq => "greaterOrEquals",
            BinaryOperator::Minus => "minus",
            other => return Err(refuse(format!("the fake cannot evaluate the operator {other}"))),
        };
        self.call(name, &[left, right])
    }

    /// The operands of a chain of the same operator.
    fn flat(&self, op: &BinaryOperator, sides: [&ast::Expr; 2]) -> Result<Vec<Typed>, Refusal> {
        let mut out = Vec::new();
        for side in sides {
            match side {
                ast::Expr::BinaryOp { left, op: inner, right } if inner == op => {
                    out.extend(self.flat(op, [left, right])?);
                }
                _ => out.push(self.compile(side)?),
            }
        }
        Ok(out)
    }

    fn in_list(&self, expr: &ast::Expr, list: &[ast::Expr]) -> Result<Typed, Refusal> {
        let needle = self.compile(expr)?;
        let mut members = Vec::new();
        for item in list {
            let item = self.compile(item)?;
            Function::Equals.result_type(&[needle.kind.clone(), item.kind.clone()])?;
            let Expr::Constant(value) = item.expr else {
                return Err(refuse("the fake takes constants in IN lists only"));
            };
            members.push(value);
        }
        let name = format!("in({}, ...)", needle.name);
        Ok(Typed { expr: Expr::In { needle: Box::new(needle.expr), members }, kind: Type::UInt8, name })
    }

    fn function(&self, function: &ast::Function) -> Result<Typed, Refusal> {
        let name = function.name.to_string();
        let FunctionArguments::List(list) = &function.args else {
            return Err(refuse(format!("the fake cannot evaluate: {function}")));
        };
        if function.over.is_some() || function.filter.is_some() || !list.clauses.is_empty() {
            return Err(refuse(format!("the fake cannot evaluate: {function}")));
        }
        let mut arguments = Vec::new();
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(tree)) => arguments.push(tree),
                other => return Err(refuse(format!("Unable to resolve field: {other}"))),
            }
        }
        let Some((aggregate, conditional)) = Aggregate::by_name(&name, arguments.len())? else {
            return self.call(&name, &arguments);
        };
        let mut of: Vec<Typed> = arguments.iter().map(|tree| self.compile(tree)).collect::<Result<_, _>>()?;
        if of.iter().any(|part| part.expr.has_aggregate()) {
            return Err(refuse(format!("Aggregation '{name}' cannot be nested inside another aggregation")));
        }
        let written = called(&name, &of);
        let condition = if conditional { of.pop().map(|condition| Box::new(condition.expr)) } else { None };
        let kind = aggregate.kind(&of.iter().map(|part| part.kind.clone()).collect::<Vec<_>>());
        let arguments = of.into_iter().map(|part| part.expr).collect();
        Ok(Typed { expr: Expr::Aggregate { aggregate, condition, arguments }, kind, name: written })
    }

    fn call(&self, name: &str, arguments: &[&ast::Expr]) -> Result<Typed, Refusal> {
        let of: Vec<Typed> = arguments.iter().map(|tree| self.compile(tree)).collect::<Result<_, _>>()?;
        match (name, of.len()) {
            ("and", 2..) => return Ok(logical("and", of, Expr::And)),
            ("or", 2..) => return Ok(logical("or", of, Expr::Or)),
            ("now", 0) => {
                let kind = Type::DateTime64(6, self.zone);
                return Ok(Typed { expr: Expr::Constant(Value::Time(self.now)), kind, name: "now()".into() });
            }
            _ => {}
        }
        self.finish(Function::by_name(name, of.len())?, of)
    }

    fn finish(&self, function: Function, of: Vec<Typed>) -> Result<Typed, Refusal> {
        let name = called(function.name(), &of);
        let kinds: Vec<Type> = of.iter().map(|part| part.kind.clone()).collect();
        let mut kind = function.result_type(&kinds)?;
        if function == Function::ToDateTime64
            && let Expr::Constant(Value::Text(zone)) = &of[2].expr
        {
            kind = Type::DateTime64(6, super::zone::Zone::from_name(zone).unwrap_or(super::zone::Zone::Utc));
        }
        let arguments: Vec<Expr> = of.into_iter().map(|part| part.expr).collect();
        let constant = arguments.iter().all(|part| matches!(part, Expr::Constant(_)));
        let mut expr = Expr::Call { function, kind: kinds[0].clone(), arguments };
        if constant {
            expr = Expr::Constant(expr.eval(Scope::Row(&[]))?.into_owned());
        }
        Ok(Typed { expr, kind, name })
    }
}

fn called(name: &str, of: &[Typed]) -> String {
    format!("{name}({})", of.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", "))
}

fn logical(name: &str, of: Vec<Typed>, make: fn(Vec<Expr>) -> Expr) -> Typed {
    let name = called(name, &of);
    Typed { expr: make(of.into_iter().map(|part| part.expr).collect()), kind: Type::UInt8, name }
}

fn constant(value: &ast::Value) -> Result<Typed, Refusal> {
    let (value, kind, name) = match value {
        ast::Value::Number(text, _) => match text.parse::<i128>() {
            Ok(number) if number > i128::from(i64::MAX) => (Value::Int(number), Type::UInt64, format!("'{text}'")),
            Ok(number) => (Value::Int(number), integer_type(number), text.clone()),
            Err(_) => match text.parse::<f64>() {
                Ok(number) => (Value::Float(number), Type::Float64, text.clone()),
                Err(_) => return Err(refuse(format!("not a number: {text}"))),
            },
        },
        ast::Value::SingleQuotedString(raw) => {
            (Value::Text(Arc::from(unescape(raw)?)), Type::String, format!("'{raw}'"))
        }
        ast::Value::Boolean(yes) => (Value::truth(*yes), Type::UInt8, yes.to_string()),
        ast::Value::Null => (Value::Null, Type::Nothing, "NULL".to_owned()),
        other => return Err(refuse(format!("the fake cannot evaluate: {other}"))),
    };
    Ok(Typed { expr: Expr::Constant(value), kind, name })
}

fn integer_type(number: i128) -> Type {
    match number {
        0..0x100 => Type::UInt8,
        0x100..0x1_0000 => Type::UInt16,
        0x1_0000..0x1_0000_0000 => Type::UInt32,
        _ => Type::UInt64,
    }
}

/// A string literal as PostHog's parser reads it: its own escapes only (another one is a syntax error), `\0` is dropped,
/// `\x` stays as it is, a doubled quote is one.
fn unescape(raw: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                chars.next_if_eq(&'\'');
                out.push('\'');
            }
            '\\' => match chars.next() {
                Some('a') => out.push('\u{7}'),
                Some('b') => out.push('\u{8}'),
                Some('f') => out.push('\u{c}'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('v') => out.push('\u{b}'),
                Some('0') => {}
                Some('x') => out.push_str("\\x"),
                Some(escaped @ ('\\' | '\'')) => out.push(escaped),
                _ => return Err(refuse(format!("no viable alternative at input '{raw}'"))),
            },
            plain => out.push(plain),
        }
    }
    Ok(out)
}
