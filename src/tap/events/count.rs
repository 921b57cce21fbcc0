//! What the events engine counts on the server before and beside its pages: rows per day and per bucket for the plan, rows of
//! a slice for its proof, and rows per hour of arrival.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::posthog::fault::Fault;
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::query::ask::{TEXTS, ask, ask_in_order, ask_one};
use crate::posthog::query::hogql;
use crate::posthog::query::hogql::{MAX_LIMIT, Range};
use crate::posthog::query::interval::{Buckets, Interval, Key, Storage};
use crate::posthog::query::page::{Page, Row};
use crate::time::{DAY_US, Day, FAR_PAST, Micros, SECOND_US};

use super::arrivals::Hours;
use super::plan;

/// How deep the count of arrivals is cut in two.
const MAX_PARTS: usize = 12;
/// What the answer with one uuid may weigh.
const FIRST_ROW_BYTES: usize = 1024 * 1024;
/// 2020-01-01.
const POSTHOG_BEGAN: Micros = 1_577_836_800 * SECOND_US;
/// How often the count of days is cut in two before the server is held to be broken.
const MAX_SPLITS: u32 = 4_000;

/// How much of an interval is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// Rows.
    pub(super) rows: u64,
    /// Stored versions: rows that a merge would not make one.
    pub(super) versions: u64,
}

/// Counts an interval exactly.
pub(super) fn stored(client: &Client, range: &Range, interval: &Interval) -> Result<Stored> {
    let sql = hogql::recount(range, interval);
    let query = Query::new("count of a slice", &sql).reworded(TEXTS);
    let counted = ask_one(client, &query, &["rows", "versions"], |row| {
        Some(Stored { rows: row.cell(0).count()?, versions: row.cell(1).count()? })
    });
    Ok(counted?)
}

/// Rows per day, event and bucket of an interval, in key order.
pub fn buckets(
    client: &Client,
    range: &Range,
    interval: &Interval,
    buckets: &Buckets,
) -> Result<Vec<plan::Count>, Fault> {
    let sql = hogql::rows_per_bucket(range, interval, buckets);
    let read = |row: &Row<'_>| {
        let (day, event) = (Day::parse(row.text(0)?)?, row.text(1)?.to_owned());
        let numbers = (row.cell(2).u64()?, row.cell(3).u64()?);
        Some(plan::Count { day, event, numbers, rows: row.cell(4).count()? })
    };
    let place = |count: &plan::Count, number| {
        let mut key = Key { day: count.day, event: count.event.clone(), ..interval.from };
        key.numbers[buckets.depth] = number;
        key
    };
    let query = Query::new("plan of a day", &sql);
    ask_in_order(client, &query, &["day", "event", "least", "most", "rows"], read, |before, count| {
        let (least, most) = (place(count, count.numbers.0), place(count, count.numbers.1));
        let follows = before.is_none_or(|before| place(before, before.numbers.1) < least);
        follows && least <= most && interval.from <= most && interval.to.as_ref().is_none_or(|to| least < *to)
    })
}

/// How the server stores events, by what the first row of an interval costs in either order: `rows` rows of one (day, event,
/// hash). Without the costs, the classic way.
pub(super) fn storage(client: &Client, range: &Range, interval: &Interval, rows: u64) -> Result<Storage> {
    /// What a row weighs at the least: its time.
    const LEAST_BYTES: u64 = 8;
    let cost = |storage| {
        let sql = hogql::first_row(range, interval, storage);
        let query = Query::new("first of many events", &sql);
        match client.query(&query, BodyLimit::of(FIRST_ROW_BYTES), |incoming| {
            let bytes = incoming.bytes_read;
            Page::parse(&incoming.whole()?.body, &["uuid"]).map_err(Fault::untrusted).map(|_| bytes)
        }) {
            Ok(bytes) => Ok(bytes),
            Err(Fault::Split(_)) => Ok(Some(u64::MAX)),
            Err(fault) => Err(fault),
        }
    };
    let Some(classic) = cost(Storage::Classic)? else { return Ok(Storage::Classic) };
    // Less than all of the rows were looked at.
    if classic < rows.saturating_mul(LEAST_BYTES) {
        return Ok(Storage::Classic);
    }
    let new = cost(Storage::New)?.unwrap_or(u64::MAX);
    Ok(if new < classic / 2 { Storage::New } else { Storage::Classic })
}

/// What is counted by the hour of its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Rows: what the server counts fast.
    Rows,
    /// Stored versions: exact where some are not merged yet.
    Versions,
}

/// What arrived in a range per hour of arrival, as far as it was at most `late_days` old then (0: any age); none where the
/// server refuses to count even a day of it. `now` is where rows end.
pub(super) fn arrivals(
    client: &Client,
    range: &Range,
    late_days: u32,
    unit: Unit,
    now: Micros,
) -> Result<Option<Hours>> {
    let mut hours = BTreeMap::new();
    let mut stack = vec![(range.since, range.until)];
    while let Some((since, until)) = stack.pop() {
        let part = Range { since, until, ..range.clone() };
        let sql = hogql::arrivals_per_hour(&part, late_days, unit == Unit::Versions);
        let counts = ask(client, &Query::new("arrivals per hour", &sql), &["hour", "rows"], |row| {
            Some((i64::try_from(row.cell(0).u64()?).ok()?, row.cell(1).count()?))
        });
        match counts {
            Ok(counts) => counts.into_iter().for_each(|(hour, rows)| *hours.entry(hour).or_default() += rows),
            Err(Fault::Split(_)) => match halves(since, until, now).filter(|_| stack.len() < MAX_PARTS) {
                Some(middle) => stack.extend([(middle, until), (since, middle)]),
                None => return Ok(None),
            },
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(Some(hours.into_iter().collect()))
}

/// Rows per UTC day of a range: the first level of a plan. Asked by year, and in halves where the server refuses.
pub fn days(client: &Client, range: &Range, now: Micros) -> Result<Vec<(Day, u64)>> {
    const YEAR_US: Micros = 365 * DAY_US;
    let mut days = Vec::new();
    let mut stack = Vec::new();
    let mut start = range.since.max(FAR_PAST);
    // What claims to be older than PostHog itself is little.
    let mut end = start.saturating_add(YEAR_US).max(POSTHOG_BEGAN);
    while end < now.min(range.until) {
        let day = Day::of(end).start();
        stack.push((start, day));
        start = day;
        end = day + YEAR_US;
    }
    stack.push((start, range.until));
    stack.reverse();
    let mut splits = MAX_SPLITS;
    while let Some((since, until)) = stack.pop() {
        let part = Range { since, until, ..range.clone() };
        let sql = hogql::rows_per_day(&part);
        let read = |row: &Row<'_>| Some((Day::parse(row.text(0)?)?, row.cell(1).count()?));
        let (first, end) = (Day::of(since), until);
        let counted = ask_in_order(client, &Query::new("plan", &sql), &["day", "rows"], read, |before, (day, _)| {
            before.is_none_or(|(before, _)| before < day) && first <= *day && day.start() < end
        });
        match counted {
            Ok(rows) => rows.into_iter().for_each(|row| merge_day(&mut days, row)),
            Err(Fault::Split(why)) => match halves(since, until, now) {
                Some(middle) if splits > 0 => {
                    splits -= 1;
                    stack.push((middle, until));
                    stack.push((since, middle));
                }
                // A day that cannot be counted as a whole is held to be large: it is counted by name and hash.
                None if until <= Day::of(since).end() => merge_day(&mut days, (Day::of(since), u64::from(MAX_LIMIT))),
                _ => return Err(Fault::Split(why).into()),
            },
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(days)
}

/// Where a range of time is cut in two: between days, and in the past, where the rows are.
fn halves(since: Micros, until: Micros, now: Micros) -> Option<Micros> {
    let end = until.min(now.max(since.saturating_add(2 * DAY_US)));
    let middle = Day::of(since.max(0).midpoint(end)).start();
    let middle = if middle <= since { Day::of(since).end() } else { middle };
    (middle > since && middle < until).then_some(middle)
}

/// A day that lies in two parts is one day of the plan.
fn merge_day(days: &mut Vec<(Day, u64)>, (day, rows): (Day, u64)) {
    match days.last_mut() {
        Some((last, count)) if *last == day => *count += rows,
        _ => days.push((day, rows)),
    }
}
