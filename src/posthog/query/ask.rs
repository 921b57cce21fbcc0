//! Questions with small answers: counts, the server's clock, which columns a table has. Pages of rows are read where they are
//! written.
//!
//! Versions and installs of PostHog differ, so a column is asked for with LIMIT 0 before anything depends on it. A refusal
//! names one column at a time, and the others are asked for again without it.

use super::hogql;
use super::page::{Page, Row};
use super::text::Column;
use crate::error::{Error, Kind, Result};
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::http::retry::RetryPolicy;
use crate::time::{FAR_FUTURE, Micros, SECOND_US};

/// What a small answer may weigh.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// What an answer without rows may weigh.
const COLUMNS_BYTES: usize = 4 * 1024 * 1024;
/// In how many texts a question is asked that cannot be made smaller, and how often one whose answer has lost its row.
pub const TEXTS: u32 = 4;

/// Columns that PostHog got in one version: what is said of one of them holds for all, so each refusal says more.
const ONE_VERSION: [&str; 5] = ["$group_0", "$group_1", "$group_2", "$group_3", "$group_4"];

/// Asks `query` and reads its answer, a page of `columns`.
///
/// # Errors
/// The fault; an answer that `read` cannot make sense of is asked for again.
pub fn answer<T>(
    client: &Client,
    query: &Query<'_>,
    max_bytes: usize,
    columns: &[&str],
    mut read: impl FnMut(&Page) -> Result<T, Fault>,
) -> Result<T, Fault> {
    client.query(query, BodyLimit::of(max_bytes), |incoming| {
        read(&Page::parse(&incoming.whole()?.body, columns).map_err(Fault::untrusted)?)
    })
}

/// Asks `query` and reads each row of its answer. Days in it are those of UTC.
///
/// # Errors
/// As [`answer`], and where days are not those of UTC.
pub fn ask<T>(
    client: &Client,
    query: &Query<'_>,
    columns: &[&str],
    read: impl Fn(&Row<'_>) -> Option<T>,
) -> Result<Vec<T>, Fault> {
    ask_in_order(client, query, columns, read, |_, _| true)
}

/// As [`ask`], for rows that have an order, or bounds: `fits` sees each row, and the one before it. An answer of which a row
/// does not fit is asked for again.
///
/// # Errors
/// As [`ask`].
pub fn ask_in_order<T>(
    client: &Client,
    query: &Query<'_>,
    columns: &[&str],
    read: impl Fn(&Row<'_>) -> Option<T>,
    fits: impl Fn(Option<&T>, &T) -> bool,
) -> Result<Vec<T>, Fault> {
    let rows = answer(client, query, ANSWER_BYTES, columns, |page| {
        let day_fault = |error| Fault::Fatal(Failure { cause: Cause::Request, error });
        days_of(client, page.timezone()).map_err(day_fault)?;
        let rows: Option<Vec<T>> = page.rows().map(|row| read(&row)).collect();
        let rows = rows.ok_or_else(|| Fault::untrusted("a row has a cell of another type than was asked for"))?;
        let mut before = None;
        match rows.iter().all(|row| fits(before.replace(row), row)) {
            true => Ok(rows),
            false => Err(Fault::untrusted("its rows are out of order, or out of their bounds")),
        }
    });
    rows.map_err(|fault| match fault {
        Fault::Split(why) => Fault::Split(why.context(query.name)),
        other => other,
    })
}

/// As [`ask`], for a query whose answer has one row. An answer that lost the row is asked for again.
///
/// # Errors
/// As [`ask`], and where the row does not come.
pub fn ask_one<T>(
    client: &Client,
    query: &Query<'_>,
    columns: &[&str],
    read: impl Fn(&Row<'_>) -> Option<T>,
) -> Result<T, Fault> {
    for _ in 0..TEXTS {
        if let Some(row) = ask(client, query, columns, &read)?.into_iter().next() {
            return Ok(row);
        }
    }
    let text = format!("the answer to the {} query has no row; try again", query.name);
    Err(Fault::Fatal(Failure { cause: Cause::Untrusted, error: Error::new(Kind::Service, text) }))
}

/// Checks that days are those of UTC. Without the modifier that an old PostHog refuses, a day is the project's, and no query
/// could be bounded by days. `zone` is the time zone that an answer names.
pub fn days_of(client: &Client, zone: Option<&str>) -> Result<()> {
    match zone {
        Some(zone) if client.modifiers_refused() && !matches!(zone, "UTC" | "GMT" | "Etc/UTC" | "Etc/GMT") => {
            let text = format!(
                "this PostHog is too old for a project in the time zone {zone}: it refuses the query modifier \
                 convertToProjectTimezone; update it, or set the project's time zone to UTC"
            );
            Err(Error::new(Kind::Config, text))
        }
        _ => Ok(()),
    }
}

/// The server's clock, microseconds.
///
/// # Errors
/// Those of a query.
pub fn server_time(client: &Client) -> Result<Micros> {
    let query = Query::new("server time", hogql::server_time()).reworded(TEXTS);
    let seconds = ask_one(client, &query, &["now"], |row| row.cell(0).u64())?;
    let seconds = i64::try_from(seconds).ok().filter(|s| *s < FAR_FUTURE / SECOND_US);
    seconds.map(|s| s * SECOND_US).ok_or_else(|| Error::new(Kind::Service, "the server did not tell its time"))
}

fn columns_query<'a>(sql: &'a str, retry_policy: &RetryPolicy) -> Query<'a> {
    // Without rows there is nothing to split: the server is busy.
    Query::new("columns", sql).with_retry_policy(*retry_policy).reworded(TEXTS)
}

/// The columns of a table, from a query for all of them with LIMIT 0.
///
/// # Errors
/// The fault; [`Cause::UnknownTable`] where there is no such table.
pub fn all_columns(client: &Client, retry_policy: &RetryPolicy, sql: &str) -> Result<Vec<String>, Fault> {
    #[derive(serde::Deserialize)]
    struct Answer {
        columns: Vec<String>,
    }
    client.query(&columns_query(sql, retry_policy), BodyLimit::of(COLUMNS_BYTES), |incoming| {
        let answer = serde_json::from_slice(&incoming.whole()?.body);
        answer.map(|Answer { columns }| columns).map_err(|_| Fault::untrusted("the answer has no `columns`"))
    })
}

/// Takes out of `columns` those that the server has not. `select` makes the query; the columns in `required` cannot be
/// missing. A refusal that names a column is believed. One that names none may pass: the same is asked once more, and then,
/// where the required columns alone are answered, each of the others beside them.
///
/// # Errors
/// The fault, when the query is refused for another reason than a column that is not required; `columns` are then without
/// those that were refused until then.
pub fn drop_missing_columns(
    client: &Client,
    retry_policy: &RetryPolicy,
    columns: &mut Vec<Column>,
    required: &[&str],
    select: impl Fn(&[Column]) -> String,
) -> Result<(), Fault> {
    let try_these = |columns: &[Column]| try_columns(client, retry_policy, columns, select(columns));
    let mut was_refused = false;
    loop {
        let failure = match try_these(columns) {
            Err(Fault::Fatal(failure)) if failure.cause.is_refusal() => failure,
            outcome => return outcome,
        };
        let is_needed = |column: &Column| required.contains(&column.name.as_str());
        let (needed, optional): (Vec<Column>, Vec<Column>) = columns.iter().cloned().partition(is_needed);
        if let Cause::UnknownColumn(name) = &failure.cause {
            let gone = named(name, &optional);
            if gone.is_empty() || gone.len() >= columns.len() {
                return Err(Fault::Fatal(failure));
            }
            columns.retain(|column| !gone.contains(column));
        } else if optional.is_empty() || needed.is_empty() {
            return Err(Fault::Fatal(failure));
        } else if std::mem::replace(&mut was_refused, true) {
            try_these(&needed)?;
            for column in optional {
                match try_these(&[needed.as_slice(), std::slice::from_ref(&column)].concat()) {
                    Err(Fault::Fatal(failure)) if failure.cause.is_refusal() => columns.retain(|kept| *kept != column),
                    outcome => outcome?,
                }
            }
            return Ok(());
        }
    }
}

/// Whether the server says of this column, by its name, that it is not there, and answers the same query without the column.
/// For what would hold for long: a single refusal may have been a mishap.
///
/// # Errors
/// Those of a query, but for a refusal.
pub fn is_column_refused(
    client: &Client,
    retry_policy: &RetryPolicy,
    column: &Column,
    others: &[Column],
    select: impl Fn(&[Column]) -> String,
) -> Result<bool, Fault> {
    let with = [others, std::slice::from_ref(column)].concat();
    match try_columns(client, retry_policy, &with, select(&with)) {
        Err(Fault::Fatal(Failure { cause: Cause::UnknownColumn(name), .. }))
            if !named(&name, std::slice::from_ref(column)).is_empty() => {}
        Err(Fault::Fatal(failure)) if failure.cause.is_refusal() => return Ok(false),
        outcome => return outcome.map(|()| false),
    }
    match try_columns(client, retry_policy, others, select(others)) {
        Err(Fault::Fatal(failure)) if failure.cause.is_refusal() => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// Asks for columns without rows.
fn try_columns(client: &Client, retry_policy: &RetryPolicy, columns: &[Column], sql: String) -> Result<(), Fault> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    answer(client, &columns_query(&sql, retry_policy), COLUMNS_BYTES, &names, |_| Ok(()))
}

/// The columns that `text` begins with the name of, or with a part of the name.
fn named(text: &str, columns: &[Column]) -> Vec<Column> {
    let plain = |column: &Column| column.expression.replace('`', "");
    // A name may hold anything, so the names that were asked for are looked for in the text, and the longest counts.
    let exact = columns.iter().filter(|column| begins_with_name(text, &plain(column)));
    match exact.max_by_key(|column| column.expression.len()) {
        Some(column) if ONE_VERSION.contains(&column.name.as_str()) => {
            columns.iter().filter(|column| ONE_VERSION.contains(&column.name.as_str())).cloned().collect()
        }
        Some(column) => vec![column.clone()],
        // Of `a.b` either part may be named.
        None => {
            let has_part = |column: &&Column| plain(column).split('.').any(|part| begins_with_name(text, part));
            columns.iter().filter(has_part).cloned().collect()
        }
    }
}

fn begins_with_name(text: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    !name.is_empty() && text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::text::identifier;

    #[test]
    fn a_refusal_names_its_column() {
        let expressions = ["properties", "poe.properties", "$group_0", "$group_1", "$group", "my own", "my"];
        let columns = expressions.map(|expression| {
            let asked = if expression.contains('.') { expression.to_owned() } else { identifier(expression) };
            Column { expression: asked, name: expression.to_owned() }
        });
        let named = |name: &str| -> Vec<String> {
            let text = format!("{name} (in a version to come)");
            super::named(&text, &columns).into_iter().map(|column| column.name).collect()
        };
        assert_eq!(named("$group"), ["$group"]);
        assert_eq!(named("$group_1"), ["$group_0", "$group_1"]);
        assert_eq!(named("poe`"), ["poe.properties"]);
        assert_eq!(named("poe.properties"), ["poe.properties"]);
        assert_eq!(named("properties"), ["properties"]);
        assert_eq!(named("my own"), ["my own"]);
        assert_eq!(named("other"), [""; 0]);
    }
}
