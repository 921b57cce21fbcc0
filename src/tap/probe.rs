//! Which columns a PostHog has. Versions and installs differ, so a column is asked for with LIMIT 0 before anything
//! depends on it. A refusal names one column at a time (`Unable to resolve field`), and is asked again without it.

use crate::posthog::body::BodyLimit;
use crate::posthog::client::{Client, Query};
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::hogql::Column;
use crate::posthog::page::Page;

/// What the answer to a question without rows may weigh.
const PROBE_BYTES: usize = 4 * 1024 * 1024;
/// How often a question is asked that the server has no time or memory for.
const ATTEMPTS: u32 = 4;

/// The columns of a table, from a query for all of them with LIMIT 0.
///
/// # Errors
/// The fault; [`Cause::Request`] where there is no such table.
pub fn all(client: &Client, sql: &str) -> Result<Vec<String>, Fault> {
    #[derive(serde::Deserialize)]
    struct Answer {
        columns: Vec<String>,
    }
    ask(client, sql, |body| {
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| "the answer has no `columns`".to_owned())?;
        Ok(answer.columns)
    })
}

/// The columns of `columns` that the server has. `select` makes the query; the columns in `required` cannot be missing.
///
/// # Errors
/// The fault, when the query is refused for another reason than a column that is not required.
pub fn present(
    client: &Client,
    mut columns: Vec<Column>,
    required: &[&str],
    select: impl Fn(&[Column]) -> String,
) -> Result<Vec<Column>, Fault> {
    loop {
        let sql = select(&columns);
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let answer = ask(client, &sql, |body| Page::parse(body, &names).map(drop));
        let failure = match answer {
            Ok(()) => return Ok(columns),
            Err(Fault::Fatal(failure)) if failure.cause == Cause::Request => failure,
            Err(fault) => return Err(fault),
        };
        let is_optional = |column: &Column| !required.contains(&column.name.as_str());
        let before = columns.len();
        match refused(&failure.error.to_string()) {
            Some(name) => columns.retain(|column| !(is_optional(column) && is_meant(column, &name))),
            // The text of this version is not known: what cannot be missing is tried alone.
            None => columns.retain(|column| !is_optional(column)),
        }
        if columns.len() == before || columns.is_empty() {
            return Err(Fault::Fatal(failure));
        }
    }
}

fn ask<T>(client: &Client, sql: &str, read: impl Fn(Vec<u8>) -> Result<T, String>) -> Result<T, Fault> {
    let mut attempt = 1;
    loop {
        // A text that failed may be answered with its failure for minutes; another text is run.
        let text = format!("{sql}{}", if attempt > 1 { format!(" /* attempt {attempt} */") } else { String::new() });
        let mut on_growth = |_| Ok(());
        let body = BodyLimit { max_bytes: PROBE_BYTES, buffer: Vec::new(), on_growth: &mut on_growth };
        let query = Query { sql: &text, name: "columns" };
        match client.query(&query, body, |answer| read(answer.body).map_err(Fault::untrusted)) {
            // Without rows there is nothing to split: the server is busy.
            Err(Fault::Split(_)) if attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

/// The name in "Unable to resolve field: x" (`resolver.py`).
fn refused(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("resolve field")?;
    let name: String = rest
        .chars()
        .skip_while(|c| matches!(c, ':' | ' ' | '`' | '\'' | '"'))
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'))
        .collect();
    (!name.is_empty()).then_some(name)
}

fn is_meant(column: &Column, name: &str) -> bool {
    let expression = column.expression.replace('`', "");
    // Of `a.b` either part may be named.
    expression == name || expression.split('.').any(|part| part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_column() {
        let column = |expression: &str| Column { expression: expression.to_owned(), name: "x".to_owned() };
        let name = refused("POST https://h/query/ was answered with 400: Unable to resolve field: $group_0 - refused");
        assert_eq!(name.as_deref(), Some("$group_0"));
        assert!(is_meant(&column("`$group_0`"), "$group_0"));
        assert!(!is_meant(&column("`$group_0`"), "$group"));
        assert_eq!(refused("Unable to resolve field: `poe`").as_deref(), Some("poe"));
        assert!(is_meant(&column("poe.properties"), "poe") && is_meant(&column("poe.properties"), "properties"));
        assert_eq!(refused("Unknown table `x`."), None);
    }
}
