//! A plan in words: at most forty lines for a person, one object for a machine.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::time::Day;

/// The bytes of an event in an answer, as a guess. A project's own figure shows only once events are read.
pub(super) const BYTES_A_ROW: u64 = 2_000;
/// PostHog's hourly allowance of bytes, for free and for paying organizations.
const BUDGETS_GB: [(u64, &str); 2] = [(20, "free"), (200, "paid")];
const BAR_WIDTH: u64 = 50;
/// Lines for days, in all; and for ranges of time.
const DAY_LINES: usize = 10;
const PASSES: usize = 4;

/// What a run would read.
#[derive(Debug, Default)]
pub struct Plan {
    pub(super) has_events: bool,
    /// Where a first run begins, if that was not chosen.
    pub(super) start: Option<String>,
    pub(super) passes: Vec<Pass>,
    /// Rows of events, and those that no earlier run can have delivered.
    pub(super) rows: u64,
    pub(super) new: u64,
    pub(super) is_deduplicated: bool,
    pub(super) requests: u64,
    pub(super) read_mb: u64,
    pub(super) time: Duration,
    /// Queries a minute and an hour.
    pub(super) rates: (u64, u64),
    pub(super) others: Vec<Other>,
}

/// A range of events, read in one go.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) heading: String,
    pub(super) days: Vec<(Day, u64)>,
}

/// A stream besides events.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) name: &'static str,
    /// None where PostHog does not tell.
    pub(super) rows: Option<u64>,
    /// Why it does not, or what else is to say.
    pub(super) remark: Option<String>,
}

impl Plan {
    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.has_events {
            self.events(&mut out);
        } else {
            out += "the stream events is not selected\n";
        }
        for Other { name, rows, remark } in &self.others {
            let rows = rows.map_or_else(|| "rows: not told beforehand".to_owned(), |rows| format!("{rows} rows"));
            let remark = remark.as_ref().map_or_else(String::new, |remark| format!(" ({remark})"));
            let _ = writeln!(out, "{name}: {rows}{remark}");
        }
        out
    }

    fn events(&self, out: &mut String) {
        let shown = self.passes.len().min(PASSES);
        for pass in self.passes.iter().take(shown) {
            let _ = writeln!(out, "{}", pass.heading);
            chart(out, &pass.days, DAY_LINES / shown.max(1));
        }
        if self.passes.len() > shown {
            let _ = writeln!(out, "and {} more ranges", self.passes.len() - shown);
        }
        if let Some(start) = &self.start {
            let _ = writeln!(out, "{start}");
        }
        let _ = write!(out, "{} rows to read", self.rows);
        if self.new < self.rows {
            let printed = if self.is_deduplicated { "not printed again" } else { "printed again" };
            let _ = write!(
                out,
                ", about {} of them new; the others lie in the overlap with the last run and are {printed}",
                self.new
            );
        }
        let (per_minute, per_hour) = self.rates;
        let _ = writeln!(
            out,
            "\nat about {BYTES_A_ROW} bytes a row: about {} requests, {} MB read by PostHog\n\
             at least {} under {per_minute} queries a minute and {per_hour} an hour",
            self.requests,
            self.read_mb,
            time_text(self.time),
        );
        for (gigabytes, plan) in BUDGETS_GB {
            let time = time_text(self.budget_time(gigabytes));
            let _ = writeln!(out, "{time} of the byte budget of a {plan} organization ({gigabytes} GB an hour)");
        }
    }

    fn budget_time(&self, gigabytes: u64) -> Duration {
        Duration::from_secs(self.read_mb.saturating_mul(3600) / (gigabytes * 1000))
    }

    /// For a machine.
    pub fn to_value(&self) -> Value {
        let ranges = self.passes.iter().map(|pass| {
            let days = pass.days.iter().map(|(day, rows)| json!({"day": day.to_string(), "rows": rows}));
            json!({"what": pass.heading, "days": days.collect::<Vec<_>>()})
        });
        let others =
            self.others.iter().map(|other| json!({"stream": other.name, "rows": other.rows, "remark": other.remark}));
        let events = self.has_events.then(|| {
            json!({
                "ranges": ranges.collect::<Vec<_>>(), "rows": self.rows, "new_rows": self.new, "requests": self.requests,
                "read_mb": self.read_mb, "seconds": self.time.as_secs(), "default_start": self.start,
            })
        });
        json!({"events": events, "streams": others.collect::<Vec<_>>()})
    }
}

/// A line for each day; where these are too many, for some days together.
fn chart(out: &mut String, days: &[(Day, u64)], most_lines: usize) {
    let together = days.len().div_ceil(most_lines.max(1)).max(1);
    let lines: Vec<(String, u64)> = days
        .chunks(together)
        .filter_map(|some| {
            let (first, last) = (some.first()?.0, some.last()?.0);
            let name = if first == last { first.to_string() } else { format!("{first}..{last}") };
            Some((name, some.iter().fold(0, |sum: u64, (_, rows)| sum.saturating_add(*rows))))
        })
        .collect();
    let most = lines.iter().map(|(_, rows)| *rows).max().unwrap_or(0).max(1);
    for (name, rows) in lines {
        let width = (rows.saturating_mul(BAR_WIDTH) / most).max(1);
        let bar = "█".repeat(usize::try_from(width).unwrap_or(1));
        let _ = writeln!(out, "  {name} {rows:>12}  {bar}");
    }
}

fn time_text(time: Duration) -> String {
    match time.as_secs() {
        1 => "1 second".to_owned(),
        seconds @ ..120 => format!("{seconds} seconds"),
        seconds @ ..7_200 => format!("{} minutes", seconds / 60),
        seconds => format!("{} hours", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY_US;

    fn days(rows: &[u64]) -> Vec<(Day, u64)> {
        (0..).zip(rows).map(|(n, rows)| (Day::of(n * DAY_US), *rows)).collect()
    }

    #[test]
    fn the_longest_bar_is_the_fullest_day() {
        let mut out = String::new();
        chart(&mut out, &days(&[1, 1000]), 12);
        let widths: Vec<usize> = out.lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(widths, [1, 50]);
    }

    #[test]
    fn a_plan_of_all_streams_and_of_years_has_forty_lines() {
        let pass = || Pass { heading: "events".to_owned(), days: days(&[7; 1_000]) };
        let other = |n| Other { name: "s", rows: Some(n), remark: None };
        for passes in [1, 2, 4, 48] {
            let plan = Plan {
                has_events: true,
                start: Some("since".to_owned()),
                passes: (0..passes).map(|_| pass()).collect(),
                others: (0..18).map(other).collect(),
                ..Plan::default()
            };
            let text = plan.text();
            assert!(text.lines().count() <= 40, "{passes}: {text}");
            assert!(text.contains("1970-01-01.."), "{text}");
            assert!(plan.to_value()["streams"].as_array().is_some_and(|streams| streams.len() == 18));
        }
    }

    #[test]
    fn times_are_readable() {
        let text = |seconds| time_text(Duration::from_secs(seconds));
        assert_eq!([text(0), text(1), text(150), text(10_000)], ["0 seconds", "1 second", "2 minutes", "2 hours"]);
    }
}
