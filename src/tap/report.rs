//! What a run would do, in text, from counts alone: rows per day, requests, bytes, minutes.

use std::fmt::Write as _;

use crate::error::Result;
use crate::posthog::client::Client;
use crate::posthog::time::{Day, to_rfc3339};
use crate::singer::state::State;

use super::bookmark::Bookmark;
use super::config::Config;
use super::run;

/// What an event is held to weigh in an answer. A project's own figure shows only once events are read.
const BYTES_A_ROW: u64 = 2_000;
/// Bytes of answers per request, and bytes that ClickHouse reads per byte of answer: as measured.
const BYTES_A_REQUEST: u64 = 19_000_000;
const READ_PER_BODY_PERCENT: u64 = 123;
/// PostHog's hourly allowance of bytes, for free and for paying organizations.
const BUDGETS_GB: [(u64, &str); 2] = [(20, "free"), (200, "paid")];
const BAR_WIDTH: u64 = 50;

/// The report for `events`, from a state.
///
/// # Errors
/// Those of a run's start, and of the counting queries.
pub fn plan(client: &Client, config: &Config, state: &State) -> Result<String> {
    let source = run::source(client.options());
    let mut bookmark = Bookmark::read(state, "events", &source)?.unwrap_or_else(|| Bookmark::new(source, "created_at"));
    run::check_filters(&bookmark, &run::filters(&config.events))?;
    if bookmark.run.is_none() {
        run::open(&mut bookmark, client, &config.events, "")?;
    }
    let mut out = String::new();
    let mut rows = 0;
    let Some(run) = &bookmark.run else { return Ok(out) };
    for pass in &run.passes {
        let range = run::range(pass, &config.events);
        let from = pass.arrived_from.map_or_else(|| "the beginning".to_owned(), to_rfc3339);
        let _ = writeln!(out, "events that arrived from {from} until {}", to_rfc3339(run.horizon));
        let first = pass.cursor.as_ref().map_or(Day::FIRST, |cursor| cursor.key().day);
        let mut days = run::count_days(client, &range, run.horizon)?;
        days.retain(|(day, _)| *day >= first);
        rows += days.iter().map(|(_, count)| count).sum::<u64>();
        chart(&mut out, &days);
    }
    out += &costs(rows, client.queries().per_hour());
    Ok(out)
}

fn chart(out: &mut String, days: &[(Day, u64)]) {
    let most = days.iter().map(|(_, rows)| *rows).max().unwrap_or(0).max(1);
    for (day, rows) in days {
        let width = (rows.saturating_mul(BAR_WIDTH) / most).max(1);
        let bar = "█".repeat(usize::try_from(width).unwrap_or(1));
        let _ = writeln!(out, "  {day} {rows:>12}  {bar}");
    }
}

fn costs(rows: u64, queries_an_hour: u32) -> String {
    let body = rows.saturating_mul(BYTES_A_ROW);
    let requests = body / BYTES_A_REQUEST + 10;
    let read_mb = body / 100 * READ_PER_BODY_PERCENT / 1_000_000;
    let minutes = requests * 60 / u64::from(queries_an_hour.max(1));
    let mut out = format!(
        "{rows} rows; at about {BYTES_A_ROW} bytes each: {requests} requests, {read_mb} MB read by PostHog\n\
         at least {minutes} minutes under {queries_an_hour} queries an hour\n"
    );
    for (gigabytes, plan) in BUDGETS_GB {
        let minutes = read_mb * 60 / (gigabytes * 1000);
        let _ = writeln!(
            out,
            "{minutes} minutes' worth of the byte budget of a {plan} organization ({gigabytes} GB an hour)"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_the_rows() {
        let text = costs(10_000_000, 2_400);
        assert!(text.contains("1062 requests") && text.contains("24600 MB"), "{text}");
        assert!(text.contains("at least 26 minutes") && text.contains("73 minutes' worth"), "{text}");
    }

    #[test]
    fn the_longest_bar_is_the_fullest_day() {
        let mut out = String::new();
        chart(&mut out, &[(Day::of(0), 1), (Day::of(1 << 40), 1000)]);
        let widths: Vec<usize> = out.lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(widths, [1, 50]);
    }
}
