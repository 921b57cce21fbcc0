//! Queries whose answers are small: counts, the server's clock, probes. Pages of rows are read by [`crate::tap::events::slice`].

use super::page::{Page, Row};
use crate::error::{Error, Kind, Result};
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Query};

/// What a small query may answer: counts, never rows.
const COUNT_BYTES: usize = 64 * 1024 * 1024;

/// Runs a query whose answer is small, and reads each row with `read`.
///
/// # Errors
/// The fault; an answer with a row that `read` cannot make sense of is asked for again.
pub fn ask<T>(
    client: &Client,
    name: &str,
    sql: &str,
    columns: &[&str],
    read: impl Fn(&Row<'_>) -> Option<T>,
) -> Result<Vec<T>, Fault> {
    let mut on_growth = |_| Ok(());
    let body = BodyLimit { max_bytes: COUNT_BYTES, on_growth: &mut on_growth };
    let answer = client.query(&Query { sql, name }, body, |answer| {
        let page = Page::parse(&answer.body, columns).map_err(Fault::untrusted)?;
        check_days(client, &page)?;
        let rows: Option<Vec<T>> = page.rows().map(|row| read(&row)).collect();
        rows.ok_or_else(|| Fault::untrusted("a row has a cell of another type than was asked for"))
    });
    answer.map_err(|fault| match fault {
        Fault::Split(why) => Fault::Split(format!("{name}: {why}")),
        other => other,
    })
}

fn check_days(client: &Client, page: &Page) -> Result<(), Fault> {
    days_of(client, page.timezone()).map_err(|error| Fault::Fatal(Failure { cause: Cause::Request, error }))
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

/// Runs a query that has one row and cannot be made smaller. Where the row is missing, or the server refuses it as too much,
/// it is asked again with another text (a failing text may be answered without being run): `sql` takes a LIMIT, which changes nothing else.
///
/// # Errors
/// As [`ask`].
pub fn ask_one<T>(
    client: &Client,
    name: &str,
    sql: impl Fn(u32) -> String,
    columns: &[&str],
    read: impl Fn(&Row<'_>) -> Option<T>,
) -> Result<T> {
    let mut limit = 1;
    loop {
        match ask(client, name, &sql(limit), columns, &read) {
            Ok(rows) => match rows.into_iter().next() {
                Some(row) => return Ok(row),
                None if limit < 4 => limit += 1,
                None => return Err(Error::new(Kind::Service, format!("the answer to the {name} query has no row"))),
            },
            Err(Fault::Split(_)) if limit < 4 => limit += 1,
            Err(fault) => return Err(fault.into()),
        }
    }
}
