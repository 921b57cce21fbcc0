//! The waits of the client: every one goes through [`Client::pause`].

use std::time::Duration;

use crate::clock;
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::pace::budget::{BudgetPermit, LEAST_MEASURE};

use super::Client;

impl Client {
    /// Waits before a query that the hourly byte budget would not cover.
    pub(super) fn spare_budget(&self) -> Result<BudgetPermit<'_>, Fault> {
        let pause = |wait| {
            // A short wait shows how fast the budget comes back; that is known before a run is stopped.
            if wait > LEAST_MEASURE {
                self.options.retry_policy.allows_budget_wait(wait)?;
            }
            let why = "the project's hourly byte budget is nearly used up";
            self.pause(wait, why, why)
        };
        self.budget.permit(|| clock::since(self.started), pause)
    }

    /// Every wait of the client: told, counted, ended by a stop. `why` is what is said of this one, `kind` of many.
    pub(super) fn pause(&self, wait: Duration, kind: &'static str, why: &str) -> Result<(), Fault> {
        // A stopped run does not announce what it does not wait for.
        self.stop.check().map_err(Fault::Stopped)?;
        let begun = clock::now();
        match self.waits.begin(begun, wait, kind, why) {
            Some(line) => log::info(line),
            None => log::debug(format!("waiting {:.3} s: {why}", wait.as_secs_f64())),
        }
        let ended = self.stop.sleep(wait).map_err(Fault::Stopped);
        self.waits.end(clock::now(), begun + wait, kind);
        self.counters.waited(clock::since(begun));
        ended
    }
}
