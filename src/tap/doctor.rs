//! `--doctor`: one JSON object that says whether a run can work, and what to do if not, within two seconds.
//!
//! It asks the real question first, a query that reads nothing, because that is what a run lives on; everything else is
//! explanation. Nothing is retried and nothing is waited for: a limit that would make a run wait is a finding here. What is
//! not answered when the time is over is said to be so.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::posthog::attempts::Patience;
use crate::posthog::body::BodyLimit;
use crate::posthog::client::{Answer, Client, Get, Options, Query, RateClass};
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::hogql;
use crate::posthog::time::{Micros, to_rfc3339};

use super::config::Config;
use super::discover::{covers, scopes_of_key, try_list};
use super::streams::{STREAMS, Source, Stream};

/// How far two clocks may be apart before it is worth a word.
const CLOCKS_SECONDS: i64 = 60;
const ANSWER_BYTES: usize = 1024 * 1024;

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Category {
    Ok,
    Auth,
    Permission,
    Network,
    Timeout,
    Config,
    RateLimit,
    Unknown,
}

impl Category {
    fn name(self) -> &'static str {
        match self {
            Category::Ok => "ok",
            Category::Auth => "auth",
            Category::Permission => "permission",
            Category::Network => "network",
            Category::Timeout => "timeout",
            Category::Config => "config",
            Category::RateLimit => "rate_limit",
            Category::Unknown => "unknown",
        }
    }

    /// 0 healthy; 3 to be settled by whoever holds the key and the settings; 4 by the network or PostHog.
    fn exit_code(self) -> u8 {
        match self {
            Category::Ok => 0,
            Category::Auth | Category::Permission | Category::Config => Kind::Config.exit_code(),
            Category::Network | Category::Timeout | Category::RateLimit | Category::Unknown => {
                Kind::Service.exit_code()
            }
        }
    }

    fn of(cause: &Cause) -> Category {
        match cause {
            Cause::Key => Category::Auth,
            Cause::Scope(_) | Cause::Access | Cause::Project => Category::Permission,
            Cause::Dns | Cause::Network | Cause::Tls => Category::Network,
            Cause::Timeout => Category::Timeout,
            Cause::Missing | Cause::Redirect => Category::Config,
            Cause::Quota => Category::RateLimit,
            Cause::Request | Cause::Server | Cause::Untrusted | Cause::Internal => Category::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Warning,
    Error,
}

/// One finding.
#[derive(Debug)]
struct Check {
    name: &'static str,
    status: Status,
    category: Category,
    message: String,
    latency: Duration,
}

impl Check {
    fn fine(name: &'static str, message: impl Into<String>, since: Instant) -> Check {
        let message = message.into();
        Check { name, status: Status::Ok, category: Category::Ok, message, latency: since.elapsed() }
    }

    fn warning(name: &'static str, message: impl Into<String>, since: Instant) -> Check {
        Check { status: Status::Warning, ..Check::fine(name, message, since) }
    }

    fn error(name: &'static str, category: Category, message: impl Into<String>, since: Instant) -> Check {
        Check { status: Status::Error, category, ..Check::fine(name, message, since) }
    }

    fn failed(name: &'static str, fault: Fault, since: Instant) -> Check {
        let (category, advice) = match &fault {
            Fault::Fatal(failure) => (Category::of(&failure.cause), advice(&failure.cause)),
            // Nobody stops a doctor but the limits: one attempt, no waits.
            Fault::Stopped(_) => (Category::RateLimit, ""),
            Fault::Split(_) => (Category::Timeout, ""),
            Fault::Untrusted(_) => (Category::Unknown, ""),
        };
        let text = Error::from(fault).to_string();
        let text = match text.strip_prefix("stopped because ") {
            // The error of a run; here nothing was stopped.
            Some(limit) => format!("a run would wait: {}", limit.split(" (see ").next().unwrap_or(limit)),
            None => format!("{text}{advice}"),
        };
        Check::error(name, category, text, since)
    }

    fn to_value(&self) -> Value {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Error => "error",
        };
        json!({"name": self.name, "status": status, "message": self.message, "latency_ms": millis(self.latency)})
    }
}

/// What to do about a cause whose error does not say it: those that a run answers by trying again.
fn advice(cause: &Cause) -> &'static str {
    match cause {
        Cause::Dns => " - check custom_base_url and this machine's name server",
        Cause::Network | Cause::Timeout => {
            " - check that this machine may reach that address; behind a proxy, give the setting proxy"
        }
        Cause::Tls => " - check ca_file, and that nothing in between replaces certificates",
        Cause::Untrusted => " - something else than PostHog answers there: a login page, a proxy, a firewall",
        Cause::Server => " - PostHog or what stands before it fails; try again, and look at its status page",
        _ => "",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Looks whether a run with this configuration can work. Gives the report and the exit code; ends after `timeout`.
#[must_use]
pub fn run(config: Result<Config>, timeout: Duration, now: Micros) -> (Value, u8) {
    let started = Instant::now();
    let mut checks = Vec::new();
    match config.and_then(|config| client(&config, timeout)) {
        Ok(client) => {
            checks.push(Check::fine("config", format!("complete; {}", client.options().base), started));
            let (sender, receiver) = channel();
            let examined = Arc::new(client);
            // Not joined: what hangs is left behind when the time is over.
            thread::spawn(move || examine(&examined, &sender));
            loop {
                match receiver.recv_timeout(timeout.saturating_sub(started.elapsed())) {
                    Ok(check) => checks.push(check),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        let waited = checks.iter().any(|check| check.name == "query");
                        checks.push(unanswered(waited, timeout, started));
                        break;
                    }
                }
            }
        }
        Err(error) => {
            let text = error.to_string();
            let wrong_key = text.starts_with("setting api_key:");
            let category = if wrong_key { Category::Auth } else { Category::Config };
            checks.push(Check::error("config", category, text, started));
        }
    }
    report(&checks, started.elapsed(), now)
}

fn unanswered(query_answered: bool, timeout: Duration, started: Instant) -> Check {
    let text = format!("not all answers came within {:.1} s", timeout.as_secs_f64());
    if query_answered {
        Check::warning("time", text, started)
    } else {
        let text = format!("{text}: PostHog is slow or the network loses packets; try again, or give --doctor-timeout");
        Check::error("time", Category::Timeout, text, started)
    }
}

fn report(checks: &[Check], elapsed: Duration, now: Micros) -> (Value, u8) {
    let worst = checks.iter().find(|check| check.status == Status::Error);
    let category = worst.map_or(Category::Ok, |check| check.category);
    let message = match worst {
        Some(check) => check.message.clone(),
        None => {
            let warnings = checks.iter().filter(|check| check.status == Status::Warning);
            let warnings: Vec<&str> = warnings.map(|check| check.message.as_str()).collect();
            if warnings.is_empty() {
                "PostHog answers and everything can be read".to_owned()
            } else {
                format!("PostHog answers; {}", warnings.join("; "))
            }
        }
    };
    let report = json!({
        "status": if category == Category::Ok { "healthy" } else { "error" },
        "category": category.name(),
        "message": message,
        "timestamp": to_rfc3339(now),
        "latency_ms": millis(elapsed),
        "checks": checks.iter().map(Check::to_value).collect::<Vec<_>>(),
    });
    (report, category.exit_code())
}

/// A client that tries once and never waits.
fn client(config: &Config, timeout: Duration) -> Result<Client> {
    let options = config.connection.clone();
    Client::new(Options { patience: Patience::none(), request_timeout: timeout, ..options })
}

/// All checks that need the network; each finding is sent as it is made.
fn examine(client: &Client, findings: &Sender<Check>) {
    // Whoever waited may be gone already.
    let tell = |check| drop(findings.send(check));
    let started = Instant::now();
    match query(client) {
        Ok(facts) => {
            tell(Check::fine("query", "the key can query the project", started));
            facts.tell(client, &tell);
            thread::scope(|scope| {
                scope.spawn(|| tell(project(client)));
                scope.spawn(|| tell(streams(client)));
            });
        }
        Err(Fault::Fatal(failure)) if failure.cause == Cause::Key => {
            let text = match elsewhere(client) {
                Some(region) => {
                    format!("the key is unknown here but known in the other region; set region to {region}")
                }
                None => failure.error.to_string(),
            };
            tell(Check::error("query", Category::Auth, text, started));
        }
        Err(fault) => tell(Check::failed("query", fault, started)),
    }
}

/// What the answer to a query says besides its rows.
struct Facts {
    /// The server's clock less ours.
    clock_seconds: Option<i64>,
    budget_left: Option<u64>,
}

fn query(client: &Client) -> Result<Facts, Fault> {
    let mut on_growth = |_| Ok(());
    let body = BodyLimit { max_bytes: ANSWER_BYTES, buffer: Vec::new(), on_growth: &mut on_growth };
    client.query(&Query { sql: &hogql::server_time(1), name: "doctor" }, body, |answer: Answer| {
        let here = chrono::Utc::now().timestamp();
        let valid = serde_json::from_slice::<Value>(&answer.body).is_ok_and(|value| value["results"][0][0].is_u64());
        if !valid {
            return Err(Fault::untrusted("the answer to a query is not one of PostHog"));
        }
        let clock_seconds = answer.server_date.map(|there| there - here);
        Ok(Facts { clock_seconds, budget_left: answer.budget_left })
    })
}

impl Facts {
    fn tell(&self, client: &Client, tell: &impl Fn(Check)) {
        let now = Instant::now();
        let tier = format!("up to {} queries an hour", client.queries().per_hour());
        match self.budget_left {
            Some(0) => {
                let text = "the project's hourly byte budget is used up; a run would wait for it to refill";
                tell(Check::error("limits", Category::RateLimit, text, now));
            }
            Some(left) => {
                let text = format!("{tier}; {} MB left of the project's byte budget", left / 1_000_000);
                tell(Check::fine("limits", text, now));
            }
            None => tell(Check::fine("limits", format!("{tier}; this PostHog tells no byte budget"), now)),
        }
        match self.clock_seconds {
            Some(ahead) if ahead.abs() > CLOCKS_SECONDS => {
                let side = if ahead > 0 { "behind" } else { "ahead of" };
                let text = format!("this machine's clock is {} s {side} PostHog's; set it", ahead.abs());
                tell(Check::warning("clock", text, now));
            }
            _ => tell(Check::fine("clock", "agrees with PostHog's", now)),
        }
        if client.modifiers_refused() {
            let text = "an old PostHog: it does not take convertToProjectTimezone, times follow the project's zone";
            tell(Check::warning("version", text, now));
        }
    }
}

/// The project by name; nice to know, not needed.
fn project(client: &Client) -> Check {
    let started = Instant::now();
    let id = client.options().project_id;
    let path = format!("api/projects/{id}/");
    let get = Get { path: &path, query: &[], class: RateClass::Lists };
    let read =
        |answer: Answer| serde_json::from_slice::<Value>(&answer.body).map_err(|e| Fault::untrusted(e.to_string()));
    match client.get(&get, read) {
        Ok(project) => {
            let zone = project["timezone"].as_str().unwrap_or("unknown");
            Check::fine("project", format!("project {id}, time zone {zone}"), started)
        }
        Err(_) => Check::fine("project", format!("project {id}; its name takes the scope project:read"), started),
    }
}

/// Which streams the key can read.
fn streams(client: &Client) -> Check {
    let started = Instant::now();
    let missing: Vec<&Stream> = match scopes_of_key(client) {
        Ok(Some(scopes)) => STREAMS.iter().filter(|stream| !covers(&scopes, stream.scope)).collect(),
        // Older servers do not tell: one small request a list, all at once.
        Ok(None) => thread::scope(|scope| {
            let tries: Vec<_> =
                STREAMS.iter().map(|stream| scope.spawn(move || (stream, may_read(client, stream)))).collect();
            let answers = tries.into_iter().filter_map(|one| one.join().ok());
            answers.filter(|(_, readable)| !readable).map(|(stream, _)| stream).collect()
        }),
        Err(error) => return Check::error("streams", Category::Permission, error.to_string(), started),
    };
    let describe = |stream: &&Stream| format!("{} ({})", stream.name, stream.scope);
    let names = missing.iter().map(describe).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        Check::fine("streams", "all can be read", started)
    } else if missing.iter().any(|stream| stream.selected_by_default) {
        Check::warning("streams", format!("these streams need a scope that the key has not: {names}"), started)
    } else {
        Check::fine("streams", format!("all that are on by default; not {names}"), started)
    }
}

fn may_read(client: &Client, stream: &Stream) -> bool {
    match stream.source {
        // The query that every other check depends on was answered.
        Source::Events | Source::Table(_) => true,
        Source::List(list) => try_list(client, list).is_ok(),
    }
}

/// The region in which this key is known, when it is not the configured one. Both are PostHog's own.
fn elsewhere(client: &Client) -> Option<&'static str> {
    let other = client.options().base.other_region()?;
    let region = if other.host().starts_with("eu") { "eu" } else { "us" };
    let there = Client::new(Options { base: other, ..client.options().clone() }).ok()?;
    let get = Get { path: "api/users/@me/", query: &[], class: RateClass::Lists };
    match there.get(&get, |_| Ok(())) {
        Ok(()) => Some(region),
        // A key that lacks a scope is a known key.
        Err(Fault::Fatal(failure)) if matches!(failure.cause, Cause::Scope(_) | Cause::Access) => Some(region),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
