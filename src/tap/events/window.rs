//! What a run of `events` reads: the closed sets that follow from a bookmark, the settings and the server's clock.
//!
//! First run: everything that arrived before the horizon, from `initial_since` on. Later runs: what *arrived* since the last
//! run, however old its own timestamp is within `late_arrival_days`, and whole hours of arrival that grew since they were
//! counted. Pure but for the counts that it asks for.

use std::collections::BTreeMap;

use serde_json::json;

use crate::error::{Error, Kind, Result};
use crate::fingerprint;
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::{Client, Options, Query};
use crate::posthog::query::hogql;
use crate::posthog::query::hogql::{MAX_LIMIT, Range};
use crate::time::{DAY_US, Day, FAR_FUTURE, FAR_PAST, Micros, SECOND_US, to_rfc3339};

use super::arrivals::{Hours, Ledger, WATCHED_US, hour_end, hour_of};
use super::bookmark::{Bookmark, Filters, Pass, Run};
use super::replication_key::CREATED_AT;
use crate::posthog::query::ask::{TEXTS, ask, ask_one};
use crate::tap::config::EventsConfig;

/// How far back the default of `initial_since` goes.
const DEFAULT_DAYS: i64 = 30;

/// How deep the count of arrivals is cut in two.
const MAX_PARTS: usize = 12;

/// 2020-01-01.
const POSTHOG_BEGAN: Micros = 1_577_836_800 * SECOND_US;
/// How often the count of days is cut in two before the server is held to be broken.
const MAX_SPLITS: u32 = 4_000;

/// What a state belongs to: the installation and the project.
#[must_use]
pub fn source(options: &Options) -> String {
    let base = options.base.to_string();
    let place = base.split_once("://").map_or(base.as_str(), |(_, place)| place);
    // The old name of the US cloud.
    let place = if place == "app.posthog.com" { "us.posthog.com" } else { place };
    format!("{place}/{}", options.project_id)
}

/// The filters of the settings, in the form that the state keeps.
#[must_use]
pub fn filters(config: &EventsConfig) -> Filters {
    let mut names = config.event_types.clone();
    names.sort_unstable();
    Filters {
        initial_since: (!config.since_is_default).then(|| to_rfc3339(config.since)),
        until: config.until.map(to_rfc3339),
        event_types: (!names.is_empty()).then(|| fingerprint::of(&json!(names))),
    }
}

/// Checks a bookmark against the settings of this run.
///
/// # Errors
/// [`Kind::Config`] when a filter changed while a closed set is half read: its cursor would skip rows.
pub fn check_filters(bookmark: &Bookmark, filters: &Filters) -> Result<()> {
    let changed = bookmark.filters.differences(filters);
    // An upgraded state does not say what its filters were.
    let unknown = bookmark.since.is_none() && bookmark.filters == Filters::default();
    if changed.is_empty() || bookmark.run.is_none() && (unknown || bookmark.last_run().is_none()) {
        return Ok(());
    }
    let names = changed.join(", ");
    if bookmark.run.is_some() {
        return Err(Error::new(
            Kind::Config,
            format!(
                "{names} changed while a run is half done; set it back until that run has finished, or start over without --state"
            ),
        ));
    }
    log::warn(format!(
        "{names} changed since the last run: only events that arrived after {} follow the new setting",
        { bookmark.replication_key_value.as_deref().unwrap_or("it") }
    ));
    Ok(())
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

/// Opens a new closed set in the bookmark: fixes its horizon and what belongs to it.
///
/// # Errors
/// Those of queries.
pub fn open(bookmark: &mut Bookmark, client: &Client, config: &EventsConfig, columns: &str) -> Result<()> {
    // Never before the last one, also where horizon_lag_seconds grew: what that run delivered must stay in the overlap.
    let now = server_time(client)?;
    if let Some(last_run) = bookmark.last_run().filter(|last_run| *last_run > now) {
        log::warn(format!(
            "the state says that everything up to {} was read, but PostHog's clock says {}: nothing is read before then; start \
             over without --state if the state is wrong",
            to_rfc3339(last_run),
            to_rfc3339(now)
        ));
    }
    let horizon = (now - config.horizon_lag_us).max(bookmark.last_run().unwrap_or(Micros::MIN));
    let since = match bookmark.since {
        Some(since) if config.since_is_default => since,
        _ if config.since_is_default => horizon - DEFAULT_DAYS * DAY_US,
        _ => config.since,
    };
    let by_arrival = bookmark.replication_key == CREATED_AT;
    let set = ClosedSet { bookmark, config, since, horizon };
    let (main, mut ledger) = if by_arrival { set.by_arrival() } else { set.by_timestamp() };
    let mut passes = vec![main];
    if by_arrival {
        passes.extend(set.watch(client, &mut ledger)?);
    }
    bookmark.since = Some(since);
    bookmark.filters = filters(config);
    bookmark.run = Some(Run {
        horizon,
        columns: columns.to_owned(),
        passes,
        seen: String::new(),
        seen_arrivals: String::new(),
        seen_from: ledger.cut,
        ledger,
        rows: 0,
    });
    Ok(())
}

/// The range of a pass.
#[must_use]
pub fn range(pass: &Pass, config: &EventsConfig) -> Range {
    Range {
        since: pass.since,
        until: pass.until,
        created_from: pass.arrived_from,
        created_until: pass.arrived_until,
        event_types: config.event_types.clone(),
    }
}

struct ClosedSet<'a> {
    bookmark: &'a Bookmark,
    config: &'a EventsConfig,
    since: Micros,
    horizon: Micros,
}

impl ClosedSet<'_> {
    fn until(&self) -> Micros {
        self.config.until.unwrap_or(FAR_FUTURE)
    }

    /// The first `timestamp` that is looked for `before` some arrival: late events of this age are found.
    fn late_since(&self, before: Micros) -> Micros {
        match self.config.late_arrival_days {
            0 => self.since,
            days => self.since.max(before - i64::from(days) * DAY_US),
        }
    }

    /// Where this run begins to read arrivals: where the last run's list of delivered events starts. A changed lookback
    /// counts from now on.
    fn arrived_from(&self) -> Option<Micros> {
        let last_run = self.bookmark.last_run()?;
        Some(self.bookmark.seen_from.unwrap_or(last_run - self.config.lookback_us))
    }

    fn by_arrival(&self) -> (Pass, Ledger) {
        let arrived_from = self.arrived_from();
        let since = match arrived_from {
            // A backfill may take long, and PostHog may store an old event anew meanwhile: look everywhere once.
            Some(from) if self.bookmark.runs > 1 => self.late_since(hour_of(from)),
            _ => self.since,
        };
        let pass = Pass { since, until: self.until(), arrived_from, arrived_until: Some(self.horizon), cursor: None };
        // What this run does not read cannot be on the list of what it delivered.
        let cut = (self.horizon - self.config.lookback_us).max(arrived_from.unwrap_or(Micros::MIN));
        let late_days = self.config.late_arrival_days;
        (pass, Ledger { from: hour_of(self.horizon - WATCHED_US), cut, late_days, hours: Vec::new() })
    }

    /// Without usable arrival times, late events are found only within the overlap: it is as long as both settings say, and
    /// reaches back to the start for events of any age.
    fn by_timestamp(&self) -> (Pass, Ledger) {
        let overlap = match self.config.late_arrival_days {
            0 => self.horizon - self.since.min(self.horizon),
            days => self.config.lookback_us.max(i64::from(days) * DAY_US),
        };
        let since = match self.bookmark.last_run() {
            Some(last) => self.since.max(self.bookmark.seen_from.unwrap_or(last - overlap)),
            None => self.since,
        };
        let until = self.until().min(self.horizon);
        let pass = Pass { since, until, arrived_from: None, arrived_until: None, cursor: None };
        let cut = (self.horizon - overlap).max(since);
        (pass, Ledger { from: cut, cut, ..Ledger::default() })
    }

    /// Looks for hours that hold more than was delivered of them, and takes what is known of the others over into the ledger
    /// of this run, which counts on from there.
    fn watch(&self, client: &Client, ledger: &mut Ledger) -> Result<Vec<Pass>> {
        let last = Ledger { from: self.bookmark.ledger.from.max(ledger.from), ..self.bookmark.ledger.clone() };
        let (before, now) = (last.late_days, ledger.late_days);
        if before != now && before != 0 && (now == 0 || now > before) {
            log::warn(
                "late_arrival_days grew since the last run: events of the overlap that are older than it was may repeat in this run",
            );
        }
        // What was delivered under other filters says nothing about these.
        let is_same = self.bookmark.filters == filters(self.config) && last.late_days == ledger.late_days;
        if last.from >= last.cut || !is_same {
            // Nothing is known of what arrived before; of the first run there is no before.
            let unknown_until = if last.cut > 0 { Some(last.cut) } else { self.arrived_from() };
            ledger.from = last.from.max(unknown_until.unwrap_or(Micros::MIN));
            return Ok(Vec::new());
        }
        ledger.from = last.from;
        ledger.hours = last.hours.iter().filter(|(hour, _)| hour_end(*hour) > ledger.from).copied().collect();
        let Some(rows) = self.arrivals(client, (last.from, last.cut), false)? else {
            log::warn(
                "PostHog did not count the events of the last two days by their arrival: this run does not notice what became \
                 visible later than lookback_window_minutes; the next one tries again",
            );
            return Ok(Vec::new());
        };
        ledger.lower(&rows);
        let mut passes = Vec::new();
        // More rows may also be the same versions twice: those are counted exactly.
        for (start, end) in last.grown(&rows) {
            let exact = self.arrivals(client, (start, end), true)?;
            let grown = exact.map_or_else(|| vec![(start, end)], |versions| last.grown(&versions));
            for (start, end) in grown {
                let (a, b) = (to_rfc3339(start), to_rfc3339(end));
                log::warn(format!(
                    "events that arrived between {a} and {b} became visible after the last run; that time is read again and \
                     its events may repeat"
                ));
                ledger.forget((start, end));
                let since = self.late_since(hour_of(start));
                let (arrived_from, arrived_until) = (Some(start), Some(end));
                passes.push(Pass { since, until: self.until(), arrived_from, arrived_until, cursor: None });
            }
        }
        Ok(passes)
    }

    /// Rows or versions per hour of arrival; none where the server refuses to count even a day's.
    fn arrivals(&self, client: &Client, (from, until): (Micros, Micros), exactly: bool) -> Result<Option<Hours>> {
        let mut hours = BTreeMap::new();
        let mut stack = vec![(self.late_since(hour_of(from)), self.until())];
        while let Some((since, end)) = stack.pop() {
            let range = Range {
                since,
                until: end,
                created_from: Some(from),
                created_until: Some(until),
                event_types: self.config.event_types.clone(),
            };
            let sql = hogql::arrivals_per_hour(&range, self.config.late_arrival_days, exactly);
            let counts = ask(client, &Query::new("arrivals per hour", &sql), &["hour", "rows"], |row| {
                Some((i64::try_from(row.cell(0).u64()?).ok()?, row.cell(1).u64()?))
            });
            match counts {
                Ok(counts) => counts.into_iter().for_each(|(hour, rows)| *hours.entry(hour).or_default() += rows),
                Err(Fault::Split(_)) => match halves(since, end, self.horizon).filter(|_| stack.len() < MAX_PARTS) {
                    Some(middle) => stack.extend([(middle, end), (since, middle)]),
                    None => return Ok(None),
                },
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(Some(hours.into_iter().collect()))
    }
}

/// Rows per UTC day of a range: the first level of a plan. Asked by year, and in halves where the server refuses.
///
/// # Errors
/// Those of queries.
pub fn count_days(client: &Client, range: &Range, now: Micros) -> Result<Vec<(Day, u64)>> {
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
        let counted = ask(client, &Query::new("plan", &sql), &["day", "rows"], |row| {
            Some((Day::parse(row.text(0)?)?, row.cell(1).u64()?))
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
