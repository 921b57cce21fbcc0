//! Query rates and the read budget. Windows are counted on the real clock, as the tap waits on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Refusal;

#[derive(Debug)]
pub(crate) struct Limits {
    rates: Vec<(usize, Duration)>,
    asked: VecDeque<Instant>,
    /// Bytes left to read; `None` where there is no budget.
    budget: Option<i64>,
    /// Bytes that come back in a second.
    refill: i64,
    refilled: Instant,
}

impl Limits {
    pub(crate) fn new(rates: Option<(usize, usize)>, budget: Option<i64>, refill: i64) -> Limits {
        let rates = rates.map_or_else(Vec::new, |(minute, hour)| {
            vec![(minute, Duration::from_secs(60)), (hour, Duration::from_secs(3600))]
        });
        Limits { rates, asked: VecDeque::new(), budget, refill, refilled: Instant::now() }
    }

    /// Takes a query in, or says how long to wait. A refused query does not count.
    pub(crate) fn admit(&mut self) -> Result<(), Refusal> {
        let now = Instant::now();
        for (most, window) in &self.rates {
            let inside: Vec<&Instant> = self.asked.iter().filter(|at| now.duration_since(**at) < *window).collect();
            if inside.len() >= *most {
                let wait = *window - now.duration_since(*inside[0]);
                return Err(throttled(wait.as_secs() + 1, true));
            }
        }
        self.asked.push_back(now);
        Ok(())
    }

    /// Refuses when nothing is left of the budget.
    pub(crate) fn afford(&mut self) -> Result<(), Refusal> {
        if self.left().is_some_and(|left| left <= 0) { Err(over_budget(1)) } else { Ok(()) }
    }

    /// What is left of the budget.
    pub(crate) fn left(&mut self) -> Option<i64> {
        let millis = i64::try_from(self.refilled.elapsed().as_millis()).unwrap_or(0);
        self.refilled += Duration::from_millis(millis.unsigned_abs());
        self.budget = self.budget.map(|left| left + self.refill * millis / 1000);
        self.budget
    }

    /// Puts bytes into the budget.
    pub(crate) fn pay(&mut self, bytes: i64) {
        self.budget = self.budget.map(|left| left + bytes);
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        self.budget = self.budget.map(|left| left.saturating_sub_unsigned(bytes));
    }
}

pub(crate) fn throttled(seconds: u64, with_header: bool) -> Refusal {
    let plural = if seconds == 1 { "" } else { "s" };
    let text = format!("Request was throttled. Expected available in {seconds} second{plural}.");
    let mut refusal = Refusal::new(429, "throttled", &text);
    if with_header {
        refusal.headers.push(("Retry-After", seconds.to_string()));
    }
    refusal
}

pub(crate) fn over_budget(seconds: u64) -> Refusal {
    let text = format!(
        "This project has used up its hourly read budget for API queries. Expected available in {seconds} seconds."
    );
    let mut refusal = Refusal::new(429, "api_queries_budget_exceeded", &text);
    refusal.headers.push(("Retry-After", seconds.to_string()));
    refusal.headers.push(("X-PostHog-Query-Budget-Remaining-Bytes", "0".to_owned()));
    refusal
}
