//! `--doctor`: one JSON object that says within two seconds whether a run can work, and if not, how to mend it.
//!
//! The first request is a query that reads nothing, because a run lives on queries. All other requests explain. No request
//! is sent twice and no limit is waited for: a limit that would make a run wait is a finding. Questions without an answer in
//! time are a finding, too.

pub mod finding;
pub mod streams;
pub mod words;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Answer, Client, Get, Options, Query, RateClass};
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::query::hogql;
use crate::time::{Micros, to_rfc3339};

use crate::posthog::query::ask;
use crate::tap::config::Config;

use finding::{Category, Finding, Status, explain, millis};
use streams::{Chosen, Readable};

/// How far two clocks may be apart before it is worth a word.
const CLOCKS_SECONDS: i64 = 60;
/// What an answer may weigh. Several are read at the same time, and a tree of values is many times as large.
const ANSWER_BYTES: usize = 256 * 1024;
/// Nobody waits longer, and an instant after it can still be written.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The part of the time that is kept for the report.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// The hourly byte budget of a free organization (`api_queries_budget.py`); paid ones have ten times that.
const FREE_BYTES: u64 = 20_000_000_000;
/// A run of any size may use up less than this.
const LITTLE_BYTES: u64 = 1_000_000_000;

/// Looks whether a run with this configuration can work. Gives the report and the exit code; ends after `timeout`.
pub fn run(config: Result<Config>, timeout: Duration, now: Micros) -> (Value, u8) {
    let started = Instant::now();
    let timeout = timeout.min(LONGEST);
    let mut findings = Vec::new();
    match config.and_then(|config| Ok((client(&config, timeout)?, Chosen::of(&config)?))) {
        Ok((client, chosen)) => {
            findings.push(Finding::fine("config", format!("complete; {}", client.options().base), started));
            let (sender, receiver) = channel();
            // Before the time is over, so that there is time for the report.
            let deadline = started + timeout - (timeout / 10).min(LAST_WORDS);
            let examination = Examination { client: Arc::new(client), chosen, deadline, findings: sender };
            // Not joined: a thread that hangs is left behind when the time is over.
            thread::spawn(move || examination.make());
            loop {
                match receiver.recv_timeout(timeout.saturating_sub(started.elapsed())) {
                    Ok(finding) => findings.push(finding),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        let waited = findings.iter().any(|finding| finding.name == "query");
                        findings.push(unanswered(waited, timeout, started));
                        break;
                    }
                }
            }
        }
        Err(error) => {
            let category = if error.setting() == Some("api_key") { Category::Auth } else { Category::Config };
            findings.push(Finding::error("config", category, error.to_string(), started));
        }
    }
    report(&findings, started.elapsed(), now)
}

fn unanswered(query_answered: bool, timeout: Duration, started: Instant) -> Finding {
    let text = format!("not all answers came within {:.1} s", timeout.as_secs_f64());
    if query_answered {
        Finding::warning("time", text, started)
    } else {
        let text = format!("{text}: PostHog is slow or the network loses packets; try again, or give --doctor-timeout");
        Finding::error("time", Category::Timeout, text, started)
    }
}

fn report(findings: &[Finding], elapsed: Duration, now: Micros) -> (Value, u8) {
    let with = |status| findings.iter().filter(move |finding| finding.status == status);
    let category = with(Status::Error).next().map_or(Category::Ok, |finding| finding.category);
    let mut troubles: Vec<&str> =
        with(Status::Error).chain(with(Status::Warning)).map(|finding| finding.message.as_str()).collect();
    if category == Category::Ok {
        let all_well = "PostHog answers and what is on by default can be read";
        troubles.insert(0, if troubles.is_empty() { all_well } else { "PostHog answers" });
    }
    let message = troubles.join("; ");
    let report = json!({
        "status": if category == Category::Ok { "healthy" } else { "error" },
        "category": category.name(),
        "message": message,
        "timestamp": to_rfc3339(now),
        "latency_ms": millis(elapsed),
        "checks": findings.iter().map(Finding::to_value).collect::<Vec<_>>(),
    });
    (report, category.exit_code())
}

/// A client that tries once and never waits.
fn client(config: &Config, timeout: Duration) -> Result<Client> {
    let options = config.connection.clone();
    Client::new(Options {
        retry_policy: RetryPolicy::none(),
        request_timeout: timeout,
        max_list_bytes: ANSWER_BYTES,
        ..options
    })
}

/// All that needs the network; each finding is sent as it is made.
struct Examination {
    client: Arc<Client>,
    chosen: Chosen,
    deadline: Instant,
    findings: Sender<Finding>,
}

impl Examination {
    /// Sends a finding. The reader may be gone already.
    fn tell(&self, finding: Finding) {
        drop(self.findings.send(finding));
    }

    fn make(self) {
        let started = Instant::now();
        let fault = match query(&self.client) {
            Ok(facts) => {
                self.tell(Finding::fine("query", "the key can query the project", started));
                facts.tell(&self.client, &|finding| self.tell(finding));
                self.tell_version(facts.zone.as_deref());
                return self.explain_streams(true);
            }
            Err(fault) => fault,
        };
        let cause = if let Fault::Fatal(failure) = &fault { Some(failure.cause.clone()) } else { None };
        let finding = Finding::failed("query", fault, started);
        let is_scope = matches!(cause, Some(Cause::Scope(_)));
        self.tell(if is_scope && self.chosen.is_of_lists() { finding.into_warning() } else { finding });
        if is_scope {
            self.explain_streams(false);
        } else if cause == Some(Cause::Key) {
            self.look_elsewhere();
        }
    }

    /// An old PostHog can be read if its days are those of UTC. Lists have no days.
    fn tell_version(&self, zone: Option<&str>) {
        let now = Instant::now();
        match ask::days_of(&self.client, zone) {
            Err(error) => {
                let finding = Finding::error("version", Category::Config, error.to_string(), now);
                self.tell(if self.chosen.is_of_lists() { finding.into_warning() } else { finding });
            }
            Ok(()) if self.client.modifiers_refused() => {
                let text = "an old PostHog: it does not take convertToProjectTimezone, times follow the project's zone";
                self.tell(Finding::warning("version", text, now));
            }
            Ok(()) => {}
        }
    }

    /// The project and the streams, side by side.
    fn explain_streams(&self, can_query: bool) {
        thread::scope(|scope| {
            scope.spawn(|| self.tell(project(&self.client)));
            let (client, chosen, deadline) = (&self.client, &self.chosen, self.deadline);
            self.tell(Readable { client, can_query, chosen, deadline }.finding());
        });
    }

    /// Whether the other region of PostHog Cloud knows the key. Both are PostHog's own.
    fn look_elsewhere(&self) {
        let started = Instant::now();
        let options = self.client.options();
        let Some(other) = options.base.other_region().filter(|_| options.other_kind_of_key().is_none()) else { return };
        let region = if other.host().starts_with("eu") { "eu" } else { "us" };
        let Ok(there) = Client::new(Options { base: other, ..options.clone() }) else { return };
        let get = Get::new("api/users/@me/", RateClass::Lists);
        self.tell(match there.get(&get, |_| Ok(())) {
            Err(Fault::Fatal(failure)) if failure.cause == Cause::Key => {
                Finding::fine("region", format!("the key is unknown in the region {region} as well"), started)
            }
            // A key that lacks a scope is a known key.
            Err(Fault::Fatal(Failure { cause: Cause::Scope(_) | Cause::Access, .. })) | Ok(()) => {
                let text = format!("the key is known in the other region; set region to {region}");
                Finding::error("region", Category::Auth, text, started)
            }
            Err(fault) => {
                let text = format!("the region {region} did not tell whether it knows the key: {}", Error::from(fault));
                Finding::fine("region", text, started)
            }
        });
    }
}

/// The facts that come with the answer to a query.
struct Facts {
    /// The server's clock less ours.
    clock_seconds: Option<i64>,
    budget_left: Option<u64>,
    /// The project's time zone, as the answer names it.
    zone: Option<String>,
}

fn query(client: &Client) -> Result<Facts, Fault> {
    client.query(&Query::new("doctor", hogql::server_time()), BodyLimit::of(ANSWER_BYTES), |incoming| {
        let answer = incoming.whole()?;
        let here = chrono::Utc::now().timestamp();
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !value["results"][0][0].is_u64() {
            return Err(Fault::untrusted("the answer to a query is not one of PostHog"));
        }
        let zone = value["timezone"].as_str().map(str::to_owned);
        let clock_seconds = answer.server_date.map(|there| there - here);
        Ok(Facts { clock_seconds, budget_left: answer.budget_left, zone })
    })
}

impl Facts {
    fn tell(&self, client: &Client, tell: &impl Fn(Finding)) {
        let now = Instant::now();
        let tier = format!(
            "the tap keeps to {} queries an hour (requests_per_hour), PostHog tells its own limit only when it refuses",
            client.queries().per_hour()
        );
        match self.budget_left {
            Some(0) => {
                let text = "the project's hourly byte budget is used up; a run would wait for it to refill";
                tell(Finding::error("limits", Category::RateLimit, text, now));
            }
            Some(left) if left < LITTLE_BYTES => {
                let text = format!(
                    "only {left} bytes are left of the project's hourly byte budget; a run may wait for it to refill, or stop \
                     (budget)"
                );
                tell(Finding::warning("limits", text, now));
            }
            Some(left) => {
                let paid = if left > FREE_BYTES { ", more than the 20 GB of a free organization" } else { "" };
                let text = format!("{tier}; {} MB left of the project's hourly byte budget{paid}", left / 1_000_000);
                tell(Finding::fine("limits", text, now));
            }
            None => tell(Finding::fine("limits", format!("{tier}; this PostHog tells no byte budget"), now)),
        }
        match self.clock_seconds {
            Some(ahead) if ahead.abs() > CLOCKS_SECONDS => {
                let side = if ahead > 0 { "behind" } else { "ahead of" };
                let text = format!("this machine's clock is {} s {side} PostHog's; set it", ahead.abs());
                tell(Finding::warning("clock", text, now));
            }
            _ => tell(Finding::fine("clock", "agrees with PostHog's", now)),
        }
    }
}

/// The project by name; nice to know, not needed.
fn project(client: &Client) -> Finding {
    let started = Instant::now();
    let id = client.options().project_id;
    let path = format!("api/projects/{id}/");
    let get = Get::new(&path, RateClass::Lists);
    let read =
        |answer: Answer| serde_json::from_slice::<Value>(&answer.body).map_err(|e| Fault::untrusted(e.to_string()));
    match client.get(&get, read) {
        Ok(project) => {
            let zone = project["timezone"].as_str().unwrap_or("unknown");
            Finding::fine("project", format!("project {id}, time zone {zone}"), started)
        }
        Err(Fault::Fatal(Failure { cause: Cause::Scope(_) | Cause::Access, .. })) => {
            Finding::fine("project", format!("project {id}; its time zone takes the scope project:read"), started)
        }
        Err(fault) => {
            let text = format!("project {id}; its time zone was not told: {}", explain(fault).1);
            Finding::fine("project", text, started)
        }
    }
}

#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod tests;
