//! `--plan`: what a run would read and cost, from counts alone: rows per day, requests, bytes, minutes. How it is said is in
//! `words.rs`.

mod others;
mod words;

use crate::error::Result;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::Client;
use crate::posthog::query::hogql::Range;
use crate::posthog::query::interval::{Buckets, Interval, Key};
use crate::singer::state::State;
use crate::time::{Day, FAR_PAST, Micros, to_rfc3339};

use crate::tap::config::Config;
use crate::tap::discover::{Choice, rows, wanted};
use crate::tap::events::bookmark::{Bookmark, ReadRange};
use crate::tap::events::count;
use crate::tap::events::replication_key;
use crate::tap::events::replication_key::CREATED_AT;
use crate::tap::events::window;
use crate::tap::page_size::TARGET_BYTES;
use crate::tap::stream::{Stream, find};

use words::{BYTES_A_ROW, Pass, Plan};

/// ClickHouse reads this part of the bytes of answers, and for each request so many rows that are not asked for (its slice
/// starts and ends inside a granule). As measured with pages of 100 to 40,000 rows.
const READ_PER_BODY_PERCENT: u64 = 85;
const EXTRA_ROWS_A_REQUEST: u64 = 3_000;
/// Slices are not quite full: so many requests for a hundred full ones. As measured.
const REQUESTS_PER_FULL_PERCENT: u64 = 125;
/// Requests that do not depend on the number of rows: the clock, columns, counts.
const REQUESTS_A_RUN: u64 = 6;

/// What a run that starts from this state would read.
pub fn plan(client: &Client, config: &Config, choice: Option<&Choice>, state: &State) -> Result<Plan> {
    let mut report = Report { client, config, plan: Plan::default() };
    if let Some((stream, key)) = chosen(config, choice)? {
        report.plan.has_events = true;
        report.events(&stream, &key, state)?;
    }
    report.plan.others = others::others(client, &wanted(config, choice)?);
    Ok(report.finish())
}

/// The id and the replication key of the stream `events`; none where it is not selected.
fn chosen(config: &Config, choice: Option<&Choice>) -> Result<Option<(String, String)>> {
    if let Some(choice) = choice {
        let stream = choice.selected.iter().find(|stream| find(&stream.id).is_ok_and(Stream::is_of_events));
        return Ok(stream.map(|stream| {
            (stream.id.clone(), stream.replication_key.clone().unwrap_or_else(|| CREATED_AT.to_owned()))
        }));
    }
    let row = rows(config)?.into_iter().find(|row| row.is_of_events());
    Ok(row.map(|row| (row.name.to_owned(), CREATED_AT.to_owned())))
}

struct Report<'a> {
    client: &'a Client,
    config: &'a Config,
    plan: Plan,
}

impl Report<'_> {
    fn events(&mut self, stream: &str, key: &str, state: &State) -> Result<()> {
        let mut bookmark = replication_key::bookmark(self.client, &self.config.events, stream, key, state)?;
        // As a run does: the rest of an interrupted run comes first, then the events that arrived since.
        if bookmark.run.is_some() {
            self.passes(&bookmark, "the rest of the run that was interrupted: ")?;
            bookmark.finish();
            // The rows of that run are not counted yet, so no hour can have grown since.
            bookmark.arrivals.from = bookmark.arrivals.cut;
        }
        window::open(&mut bookmark, self.client, &self.config.events, "")?;
        self.plan.start = window::default_start(&bookmark, &self.config.events);
        self.passes(&bookmark, "")
    }

    fn passes(&mut self, bookmark: &Bookmark, what: &str) -> Result<()> {
        let Some(run) = &bookmark.run else { return Ok(()) };
        for pass in &run.ranges {
            let range = pass.asked(&self.config.events);
            let heading = format!("{what}{}", heading(pass));
            let is_empty = range.since >= range.until;
            let days = if is_empty { Vec::new() } else { self.count(&range, pass.cursor.as_ref(), run.horizon)? };
            let new = match without_overlap(&range, bookmark.last_run()).filter(|_| !is_empty) {
                Some(range) => sum(&self.count(&range, pass.cursor.as_ref(), run.horizon)?),
                None => sum(&days),
            };
            self.plan.new = self.plan.new.saturating_add(new);
            self.plan.passes.push(Pass { heading, days });
        }
        Ok(())
    }

    /// Rows per day behind a cursor; of the day that it lies in, only the rest.
    fn count(&self, range: &Range, cursor: Option<&Key>, horizon: Micros) -> Result<Vec<(Day, u64)>> {
        let Some(cursor) = cursor else { return count::days(self.client, range, horizon) };
        let day = cursor.day;
        let rest = Interval { from: cursor.clone(), to: day.next().map(Key::day_start) };
        let (mut days, since) = match count::buckets(self.client, range, &rest, &Buckets::NAMES) {
            Ok(counts) => (vec![(day, counts.iter().map(|count| count.rows).sum())], day.end()),
            // Too much to be counted by name: the whole day has to do.
            Err(Fault::Split(_)) => (Vec::new(), day.start()),
            Err(fault) => return Err(fault.into()),
        };
        let later = Range { since: range.since.max(since), ..range.clone() };
        if later.since < later.until {
            days.extend(count::days(self.client, &later, horizon)?);
        }
        days.retain(|(_, rows)| *rows > 0);
        Ok(days)
    }

    /// Adds what all of this costs.
    fn finish(mut self) -> Plan {
        let days: Vec<_> = self.plan.passes.iter().flat_map(|pass| pass.days.iter().copied()).collect();
        self.plan.rows = sum(&days);
        self.plan.is_deduplicated = self.config.events.deduplicate;
        let costs = costs(&days, self.config.events.page_size);
        let queries = self.client.queries();
        let rates = self.client.options().query_rates;
        self.plan.requests = costs.requests;
        self.plan.read_mb = costs.read_mb;
        self.plan.time = queries.time_for(costs.requests);
        self.plan.rates = (rates.per_minute.get().into(), queries.per_hour().into());
        self.plan
    }
}

fn sum(days: &[(Day, u64)]) -> u64 {
    days.iter().fold(0, |sum: u64, (_, rows)| sum.saturating_add(*rows))
}

fn heading(pass: &ReadRange) -> String {
    match pass.arrived_until {
        Some(until) => {
            let from = pass.arrived_from.map_or_else(String::new, |from| format!(" from {}", to_rfc3339(from)));
            let since =
                if pass.since > FAR_PAST { format!(", of {} or later", to_rfc3339(pass.since)) } else { String::new() };
            format!("events that arrived{from} until {}{since}", to_rfc3339(until))
        }
        None => format!("events with a timestamp from {} until {}", to_rfc3339(pass.since), to_rfc3339(pass.until)),
    }
}

/// The part of a range that begins where the last run ended; none where nothing of the range was read by then, and for
/// hours that are read again because they grew.
fn without_overlap(range: &Range, last_run: Option<Micros>) -> Option<Range> {
    let last_run = last_run?;
    match (range.created_from, range.created_until) {
        (from, Some(until)) if from.is_some_and(|from| from < last_run) && until > last_run => {
            Some(Range { created_from: Some(last_run), ..range.clone() })
        }
        (_, None) if range.since < last_run && range.until > last_run => {
            Some(Range { since: last_run, ..range.clone() })
        }
        _ => None,
    }
}

struct Costs {
    requests: u64,
    read_mb: u64,
}

fn costs(days: &[(Day, u64)], page_size: Option<u32>) -> Costs {
    let rows = sum(days);
    let adapted = TARGET_BYTES / BYTES_A_ROW;
    let rows_a_page = page_size.map_or(adapted, |most| u64::from(most).min(adapted)).max(1);
    let pages = rows.saturating_mul(REQUESTS_PER_FULL_PERCENT).div_ceil(rows_a_page * 100);
    // A day that is large against a page is counted more closely before it is read.
    let details = days.iter().filter(|(_, rows)| *rows > rows_a_page / 4).count() as u64;
    let of_rows = rows.saturating_mul(BYTES_A_ROW) / 100 * READ_PER_BODY_PERCENT;
    let read = of_rows.saturating_add(pages.saturating_mul(EXTRA_ROWS_A_REQUEST * BYTES_A_ROW));
    Costs { requests: pages + details + REQUESTS_A_RUN, read_mb: read / 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY_US, FAR_FUTURE};

    fn days(rows: &[u64]) -> Vec<(Day, u64)> {
        (0..).zip(rows).map(|(n, rows)| (Day::of(n * DAY_US), *rows)).collect()
    }

    /// What posthog-box showed for 49,930 rows in six days: the requests and the MB that it read.
    #[test]
    fn costs_are_near_what_was_measured() {
        let measured = [(None, 18, 100), (Some(5_000), 26, 140), (Some(1_000), 73, 391), (Some(300), 225, 1_129)];
        for (page_size, requests, read_mb) in measured {
            let costs = costs(&days(&[8_300; 6]), page_size);
            let near = |got: u64, wanted: u64| got * 10 > wanted * 8 && got * 10 < wanted * 13;
            assert!(near(costs.requests, requests), "{page_size:?}: {} requests", costs.requests);
            assert!(near(costs.read_mb, read_mb), "{page_size:?}: {} MB", costs.read_mb);
        }
        assert_eq!(costs(&[], None).requests, REQUESTS_A_RUN);
    }

    /// A page believes so many rows of a day, and an answer has so many days.
    #[test]
    fn counts_that_no_table_has_are_added_up_without_a_fault() {
        let most = days(&[1 << 48; 50_000]);
        assert!(costs(&[most.as_slice(), most.as_slice()].concat(), Some(1)).read_mb > 1 << 40);
    }

    /// A first run reads what arrived at any time, but not from the beginning of the project.
    #[test]
    fn a_heading_says_which_events_are_read() {
        let pass = |arrived_from| ReadRange {
            since: DAY_US,
            until: FAR_FUTURE,
            arrived_from,
            arrived_until: Some(2 * DAY_US),
            cursor: None,
            behind: None,
        };
        let since = "until 1970-01-03T00:00:00.000000Z, of 1970-01-02T00:00:00.000000Z or later";
        assert_eq!(heading(&pass(None)), format!("events that arrived {since}"));
        let from = format!("events that arrived from 1970-01-01T00:00:00.000000Z {since}");
        assert_eq!(heading(&pass(Some(0))), from);
    }
}
