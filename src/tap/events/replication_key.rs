//! What runs of `events` go by: when an event arrived (`created_at`), or when it says that it happened (`timestamp`).
//!
//! Arrival is the better key: it finds late events. `timestamp` is for projects that have no usable `created_at`, and for
//! those who choose it. Settled before the SCHEMA, which names it, and recorded in the state.

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::query::hogql;
use crate::posthog::query::hogql::Range;
use crate::posthog::query::text::Column;
use crate::singer::catalog::SelectedStream;
use crate::singer::state::State;
use crate::time::{DAY_US, Day, FAR_FUTURE, Micros};

use super::arrivals::ArrivalCounts;
use super::bookmark::{Bookmark, check_filters, filters};
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::query::ask::{ask, drop_missing_columns, is_column_refused, server_time};
use crate::tap::config::EventsConfig;
use crate::tap::replication::source;
use crate::tap::stream::fields;

/// The field that says when an event arrived.
pub const CREATED_AT: &str = "created_at";
/// The field that says when an event happened.
pub const TIMESTAMP: &str = "timestamp";

/// Above one in this many rows without a usable arrival time, arrival cannot be relied on.
const UNUSABLE_SHARE: u64 = 100;

/// The bookmark from which `stream` is read. `chosen` is the replication key of the catalog.
///
/// # Errors
/// [`Kind::Config`] for a state or settings that do not fit, and those of queries.
pub fn bookmark(client: &Client, config: &EventsConfig, stream: &str, chosen: &str, state: &State) -> Result<Bookmark> {
    let source = source(client.options());
    let Some(mut bookmark) = Bookmark::read(state, stream, &source)? else {
        let by_arrival = chosen == CREATED_AT && is_usable(client, config)?;
        return Ok(Bookmark::new(source, if by_arrival { CREATED_AT } else { TIMESTAMP }));
    };
    check_half_done(&bookmark, config, chosen)?;
    match (bookmark.replication_key.as_str(), chosen) {
        (CREATED_AT, TIMESTAMP) => go_by_timestamp(&mut bookmark),
        (TIMESTAMP, CREATED_AT) => {
            log::info(
                "runs go by `timestamp`, as the state says; start over without --state to look at created_at again",
            );
        }
        _ => {}
    }
    Ok(bookmark)
}

/// Checks what a run that is half done began with. `chosen` is the replication key of the catalog.
///
/// # Errors
/// [`Kind::Config`] where its filters or its replication key changed: its cursor would skip rows.
pub fn check_half_done(bookmark: &Bookmark, config: &EventsConfig, chosen: &str) -> Result<()> {
    if bookmark.run.is_some() && (bookmark.replication_key.as_str(), chosen) == (CREATED_AT, TIMESTAMP) {
        let text = "the replication-key of the catalog changed from created_at to timestamp while a run is half done; set it \
                    back until that run has finished, or start over without --state";
        return Err(Error::new(Kind::Config, text));
    }
    check_filters(bookmark, &filters(config))
}

/// Changes what a bookmark means. What it lists as delivered is named by arrival, so the overlap is delivered again.
fn go_by_timestamp(bookmark: &mut Bookmark) {
    log::warn(
        "the replication-key changed from created_at to timestamp: events of the last late_arrival_days come out again, and \
         events that arrive later than that are missed",
    );
    bookmark.replication_key = TIMESTAMP.to_owned();
    bookmark.overlap = None;
    bookmark.arrivals = ArrivalCounts::default();
}

/// The stream as a run from this bookmark can read it: the key is that of the run, and where it is `timestamp`,
/// `created_at` may be null, or is left out if this PostHog refuses it.
pub fn with_replication_key(
    client: &Client,
    mut stream: SelectedStream,
    bookmark: &Bookmark,
    now: Micros,
) -> Result<SelectedStream> {
    stream.replication_key = Some(bookmark.replication_key.clone());
    if bookmark.replication_key == CREATED_AT {
        return Ok(stream);
    }
    let Some(fields) = fields(&mut stream.schema) else { return Ok(stream) };
    fields.entry(TIMESTAMP).or_insert_with(|| json!({"type": "string", "format": "date-time"}));
    let Some(field) = fields.get_mut(CREATED_AT) else { return Ok(stream) };
    if is_present(client, now)? {
        field["type"] = json!(["null", "string"]);
        return Ok(stream);
    }
    fields.shift_remove(CREATED_AT);
    if let Some(required) = stream.schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != CREATED_AT);
    }
    Ok(stream)
}

/// Whether `created_at` was refused once and is refused again: only then a project is not read by arrival.
///
/// # Errors
/// Those of a query.
pub fn is_refused_again(client: &Client, retry_policy: &RetryPolicy, now: Micros) -> Result<bool, Fault> {
    let column = |name: &str| Column { expression: name.to_owned(), name: name.to_owned() };
    let select = |columns: &[Column]| hogql::probe(columns, Day::of(now));
    is_column_refused(client, retry_policy, &column(CREATED_AT), &[column(TIMESTAMP)], select)
}

/// Whether `created_at` can be asked for.
fn is_present(client: &Client, now: Micros) -> Result<bool> {
    let column = |name: &str| Column { expression: name.to_owned(), name: name.to_owned() };
    let mut columns = vec![column(TIMESTAMP), column(CREATED_AT)];
    let select = |columns: &[Column]| hogql::probe(columns, Day::of(now));
    let retry_policy = &client.options().retry_policy;
    drop_missing_columns(client, retry_policy, &mut columns, &[TIMESTAMP], select)?;
    Ok(columns.iter().any(|column| column.name == CREATED_AT))
}

/// Whether `created_at` says when events arrived. Looked at once, before the first run.
fn is_usable(client: &Client, config: &EventsConfig) -> Result<bool> {
    let now = server_time(client)?;
    let week = now - 7 * DAY_US;
    let range = Range {
        since: if config.since_is_default { week } else { config.since.max(week) },
        until: config.until.unwrap_or(FAR_FUTURE).min(now + DAY_US),
        created_from: None,
        created_until: None,
        event_types: Vec::new(),
        behind: None,
    };
    if range.since >= range.until {
        return Ok(true);
    }
    let sql = hogql::usable_arrivals(&range);
    let read = || {
        ask(client, &Query::new("check of created_at", &sql), &["rows", "usable"], |row| {
            Some((row.cell(0).count()?, row.cell(1).count()?))
        })
    };
    let is_refusal = |fault: &Fault| matches!(fault, Fault::Fatal(failure) if failure.cause.is_refusal());
    let mut counts = read();
    if counts.as_ref().is_err_and(is_refusal) {
        if is_refused_again(client, &client.options().retry_policy, now)? {
            warn();
            return Ok(false);
        }
        counts = read();
    }
    let usable = match counts {
        Ok(counts) => counts.iter().all(|(rows, usable)| rows - usable.min(rows) <= rows / UNUSABLE_SHARE),
        Err(Fault::Split(_)) => true,
        // It is the count that is refused, not the column.
        Err(fault) if is_refusal(&fault) => true,
        Err(fault) => return Err(fault.into()),
    };
    if !usable {
        warn();
    }
    Ok(usable)
}

/// Says what going by `timestamp` means to those who did not choose it.
pub fn warn() {
    log::warn(
        "created_at of this project does not say when events arrived; runs go by `timestamp`, and events that arrive later \
         than lookback_window_minutes or late_arrival_days are missed",
    );
}
