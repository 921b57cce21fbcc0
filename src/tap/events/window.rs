//! What a run of `events` reads: the closed sets that follow from a bookmark, the settings and the server's clock.
//!
//! First run: everything that arrived before the horizon, from `initial_since` on. Later runs: what *arrived* since the last
//! run, however old its own timestamp is within `late_arrival_days`, and whole hours of arrival that grew since they were
//! counted. Pure but for the counts that it asks for.

use crate::error::Result;
use crate::log;
use crate::posthog::http::client::Client;
use crate::posthog::query::ask::server_time;
use crate::posthog::query::hogql::Range;
use crate::time::{DAY_US, Day, FAR_FUTURE, Micros, to_rfc3339};

use super::arrivals::{ArrivalCounts, Hours, WATCHED_US, hour_end, hour_of};
use super::bookmark::{Bookmark, ReadRange, Run, filters};
use super::count::{self, Unit};
use super::names::warn_of_absent;
use super::overlap::Overlap;
use super::replication_key::CREATED_AT;
use crate::tap::config::{DEFAULT_DAYS, EventsConfig};

/// Opens a new closed set in the bookmark: fixes its horizon and what belongs to it.
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
    let (main, mut counts) = if by_arrival { set.by_arrival() } else { set.by_timestamp() };
    let mut ranges = vec![main];
    if by_arrival {
        ranges.extend(set.watch(client, &mut counts)?);
    }
    // Later runs read what arrived in a short time: most names have no event there.
    if bookmark.last_run().is_none() || bookmark.filters.event_types != filters(config).event_types {
        let until = config.until.unwrap_or(FAR_FUTURE).min(horizon + DAY_US);
        let event_types = config.event_types.clone();
        let range = Range { since, until, created_from: None, created_until: None, event_types, behind: None };
        warn_of_absent(client, &range)?;
    }
    bookmark.since = Some(since);
    bookmark.filters = filters(config);
    bookmark.run =
        Some(Run { horizon, columns: columns.to_owned(), ranges, overlap: Overlap::new(counts.cut), arrivals: counts });
    Ok(())
}

/// Where events begin, if nobody chose it and no run has ended: a person may expect everything.
pub fn default_start(bookmark: &Bookmark, config: &EventsConfig) -> Option<String> {
    let since = bookmark.since.filter(|_| config.since_is_default && bookmark.last_run().is_none())?;
    let day = Day::of(since);
    Some(format!("Events from {day} ({DEFAULT_DAYS} days; set initial_since for more)"))
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
        Some(self.bookmark.overlap.as_ref().map_or(last_run - self.config.lookback_us, |overlap| overlap.from))
    }

    fn by_arrival(&self) -> (ReadRange, ArrivalCounts) {
        let arrived_from = self.arrived_from();
        let since = match arrived_from {
            // A backfill may take long, and PostHog may store an old event anew meanwhile: look everywhere once.
            Some(from) if self.bookmark.runs > 1 => self.late_since(hour_of(from)),
            _ => self.since,
        };
        let range = ReadRange {
            since,
            until: self.until(),
            arrived_from,
            arrived_until: Some(self.horizon),
            cursor: None,
            behind: None,
        };
        // What this run does not read cannot be on the list of what it delivered.
        let cut = (self.horizon - self.config.lookback_us).max(arrived_from.unwrap_or(Micros::MIN));
        let late_days = self.config.late_arrival_days;
        (range, ArrivalCounts { from: hour_of(self.horizon - WATCHED_US), cut, late_days, hours: Vec::new() })
    }

    /// Without usable arrival times, late events are found only within the overlap: it is as long as both settings say, and
    /// reaches back to the start for events of any age.
    fn by_timestamp(&self) -> (ReadRange, ArrivalCounts) {
        let overlap = match self.config.late_arrival_days {
            0 => self.horizon - self.since.min(self.horizon),
            days => self.config.lookback_us.max(i64::from(days) * DAY_US),
        };
        let since = match self.bookmark.last_run() {
            Some(last) => self.since.max(self.bookmark.overlap.as_ref().map_or(last - overlap, |overlap| overlap.from)),
            None => self.since,
        };
        let until = self.until().min(self.horizon);
        let range = ReadRange { since, until, arrived_from: None, arrived_until: None, cursor: None, behind: None };
        let cut = (self.horizon - overlap).max(since);
        (range, ArrivalCounts { from: cut, cut, ..ArrivalCounts::default() })
    }

    /// Looks for hours that hold more than was delivered of them, and takes what is known of the others over into the counts
    /// of this run, which counts on from there.
    fn watch(&self, client: &Client, counts: &mut ArrivalCounts) -> Result<Vec<ReadRange>> {
        let last =
            ArrivalCounts { from: self.bookmark.arrivals.from.max(counts.from), ..self.bookmark.arrivals.clone() };
        let (before, now) = (last.late_days, counts.late_days);
        if before != now && before != 0 && (now == 0 || now > before) {
            log::warn(
                "late_arrival_days grew since the last run: events of the overlap that are older than it was may repeat in this run",
            );
        }
        // What was delivered under other filters says nothing about these.
        let is_same = self.bookmark.filters == filters(self.config) && last.late_days == counts.late_days;
        if last.from >= last.cut || !is_same {
            // Nothing is known of what arrived before; of the first run there is no before.
            let unknown_until = if last.cut > 0 { Some(last.cut) } else { self.arrived_from() };
            counts.from = last.from.max(unknown_until.unwrap_or(Micros::MIN));
            return Ok(Vec::new());
        }
        counts.from = last.from;
        counts.hours = last.hours.iter().filter(|(hour, _)| hour_end(*hour) > counts.from).copied().collect();
        let Some(rows) = self.count(client, last.from, last.cut, Unit::Rows)? else {
            log::warn(
                "PostHog did not count the events of the last two days by their arrival: this run does not notice what became \
                 visible later than lookback_window_minutes; the next one tries again",
            );
            return Ok(Vec::new());
        };
        counts.lower(&rows);
        let mut ranges = Vec::new();
        // More rows may also be the same versions twice: those are counted exactly.
        for (start, end) in last.grown(&rows) {
            let exact = self.count(client, start, end, Unit::Versions)?;
            let grown = exact.map_or_else(|| vec![(start, end)], |versions| last.grown(&versions));
            for (start, end) in grown {
                let (a, b) = (to_rfc3339(start), to_rfc3339(end));
                log::warn(format!(
                    "events that arrived between {a} and {b} became visible after the last run; that time is read again and \
                     its events may repeat"
                ));
                counts.forget((start, end));
                let since = self.late_since(hour_of(start));
                let (arrived_from, arrived_until) = (Some(start), Some(end));
                ranges.push(ReadRange {
                    since,
                    until: self.until(),
                    arrived_from,
                    arrived_until,
                    cursor: None,
                    behind: None,
                });
            }
        }
        Ok(ranges)
    }

    /// What arrived between two times, per hour; none where the server refuses to count even a day of it.
    fn count(&self, client: &Client, from: Micros, until: Micros, unit: Unit) -> Result<Option<Hours>> {
        let range = Range {
            since: self.late_since(hour_of(from)),
            until: self.until(),
            created_from: Some(from),
            created_until: Some(until),
            event_types: self.config.event_types.clone(),
            behind: None,
        };
        count::arrivals(client, &range, self.config.late_arrival_days, unit, self.horizon)
    }
}
