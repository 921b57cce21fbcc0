//! Which columns a PostHog has. Versions and installs differ, so a column is asked for with LIMIT 0 before anything
//! depends on it. A refusal names one column at a time (`Unable to resolve field`), and is asked again without it.

use crate::posthog::fault::{Cause, Fault};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::http::retry::Patience;
use crate::posthog::query::hogql::Column;
use crate::posthog::query::page::Page;

/// What the answer to a question without rows may weigh.
const PROBE_BYTES: usize = 4 * 1024 * 1024;
/// How often a question is asked that the server has no time or memory for.
const ATTEMPTS: u32 = 4;

/// Columns that PostHog got in one version: what is said of one of them holds for all, so each refusal says more.
const ONE_VERSION: [&str; 5] = ["$group_0", "$group_1", "$group_2", "$group_3", "$group_4"];

/// The columns of a table, from a query for all of them with LIMIT 0.
///
/// # Errors
/// The fault; [`Cause::Request`] where there is no such table.
pub fn all(client: &Client, patience: &Patience, sql: &str) -> Result<Vec<String>, Fault> {
    #[derive(serde::Deserialize)]
    struct Answer {
        columns: Vec<String>,
    }
    ask(client, patience, sql, |body| {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "the answer has no `columns`".to_owned())?;
        Ok(answer.columns)
    })
}

/// Takes out of `columns` those that the server has not. `select` makes the query; the columns in `required` cannot be
/// missing.
///
/// # Errors
/// The fault, when the query is refused for another reason than a column that is not required; `columns` are then without
/// those that were refused until then.
pub fn narrow(
    client: &Client,
    patience: &Patience,
    columns: &mut Vec<Column>,
    required: &[&str],
    select: impl Fn(&[Column]) -> String,
) -> Result<(), Fault> {
    let try_these = |columns: &[Column]| {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        ask(client, patience, &select(columns), |body| Page::parse(body, &names).map(drop))
    };
    loop {
        let failure = match try_these(columns) {
            Err(Fault::Fatal(failure)) if failure.cause == Cause::Request => failure,
            outcome => return outcome,
        };
        let is_needed = |column: &Column| required.contains(&column.name.as_str());
        let (needed, optional): (Vec<Column>, Vec<Column>) = columns.iter().cloned().partition(is_needed);
        match refused(&failure.error.to_string(), &optional) {
            Some(gone) if !gone.is_empty() && gone.len() < columns.len() => {
                columns.retain(|column| !gone.contains(column));
            }
            // The text of this version is not known: what cannot be missing is tried alone.
            None if !optional.is_empty() && !needed.is_empty() => {
                try_these(&needed)?;
                *columns = needed;
                return Ok(());
            }
            _ => return Err(Fault::Fatal(failure)),
        }
    }
}

fn ask<T>(
    client: &Client,
    patience: &Patience,
    sql: &str,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, Fault> {
    let mut attempt = 1;
    loop {
        // A text that failed may be answered with its failure for minutes; another text is run.
        let text = format!("{sql}{}", if attempt > 1 { format!(" /* attempt {attempt} */") } else { String::new() });
        let mut on_growth = |_| Ok(());
        let body = BodyLimit { max_bytes: PROBE_BYTES, on_growth: &mut on_growth };
        let query = Query { sql: &text, name: "columns" };
        match client.query_within(patience, &query, body, |answer| read(&answer.body).map_err(Fault::untrusted)) {
            // Without rows there is nothing to split: the server is busy.
            Err(Fault::Split(_)) if attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

/// The columns that "Unable to resolve field: x" (`resolver.py`) means; `None` where the text says something else.
fn refused(text: &str, columns: &[Column]) -> Option<Vec<Column>> {
    let (_, rest) = text.split_once("resolve field")?;
    let rest = rest.trim_start_matches([':', ' ', '`', '\'', '"']);
    let plain = |column: &Column| column.expression.replace('`', "");
    // A name may hold anything, so the names that were asked for are looked for in the text, and the longest counts.
    let exact = columns.iter().filter(|column| begins_with_name(rest, &plain(column)));
    let gone: Vec<Column> = match exact.max_by_key(|column| column.expression.len()) {
        Some(column) if ONE_VERSION.contains(&column.name.as_str()) => {
            columns.iter().filter(|column| ONE_VERSION.contains(&column.name.as_str())).cloned().collect()
        }
        Some(column) => vec![column.clone()],
        // Of `a.b` either part may be named.
        None => {
            let has_part = |column: &&Column| plain(column).split('.').any(|part| begins_with_name(rest, part));
            columns.iter().filter(has_part).cloned().collect()
        }
    };
    Some(gone)
}

fn begins_with_name(text: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    !name.is_empty() && text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::hogql::identifier;

    #[test]
    fn a_refusal_names_its_column() {
        let expressions = ["properties", "poe.properties", "$group_0", "$group_1", "$group", "my own", "my"];
        let columns = expressions.map(|expression| {
            let asked = if expression.contains('.') { expression.to_owned() } else { identifier(expression) };
            Column { expression: asked, name: expression.to_owned() }
        });
        let gone = |text: &str| -> Option<Vec<String>> {
            Some(refused(text, &columns)?.into_iter().map(|column| column.name).collect())
        };
        let named = |name: &str| {
            gone(&format!("POST https://h/query/ was answered with 400: Unable to resolve field: {name} - refused"))
                .unwrap()
        };
        assert_eq!(named("$group"), ["$group"]);
        assert_eq!(named("$group_1"), ["$group_0", "$group_1"]);
        assert_eq!(named("`poe`"), ["poe.properties"]);
        assert_eq!(named("poe.properties"), ["poe.properties"]);
        assert_eq!(named("properties"), ["properties"]);
        assert_eq!(named("my own"), ["my own"]);
        assert_eq!(named("other"), [""; 0]);
        assert_eq!(gone("Unknown table `x`."), None);
    }
}
