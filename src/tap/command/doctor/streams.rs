//! Which streams the key can read: what it may do by its own description, and small requests for the lists where that is
//! not the whole answer.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::posthog::fault::{Cause, Fault};
use crate::posthog::http::client::Client;
use crate::tap::discover::{covers, scopes_of_key, try_list};
use crate::tap::stream::{STREAMS, Source, Stream};

use super::finding::{Category, Check, explain};

/// What stands between the key and a stream.
#[derive(Debug)]
enum Obstacle {
    Scope,
    /// The key's user has no access.
    Access,
    /// This PostHog has no such list.
    Absent,
    Failed(Category, String),
}

impl Obstacle {
    fn of(fault: Fault) -> Obstacle {
        match fault {
            Fault::Fatal(failure) if matches!(failure.cause, Cause::Scope(_)) => Obstacle::Scope,
            Fault::Fatal(failure) if failure.cause == Cause::Access => Obstacle::Access,
            Fault::Fatal(failure) if failure.cause == Cause::Missing => Obstacle::Absent,
            other => {
                let (category, text) = explain(other);
                Obstacle::Failed(category, text)
            }
        }
    }

    fn category(&self) -> Category {
        match self {
            Obstacle::Scope | Obstacle::Access => Category::Permission,
            Obstacle::Absent => Category::Config,
            Obstacle::Failed(category, _) => *category,
        }
    }
}

type Finding = (&'static Stream, Option<Obstacle>);

/// What is known before the streams are looked at.
pub(super) struct Readable<'a> {
    pub(super) client: &'a Arc<Client>,
    /// A query was answered, not refused for want of its scope.
    pub(super) can_query: bool,
    pub(super) only_stream: Option<&'static Stream>,
    pub(super) deadline: Instant,
}

impl Readable<'_> {
    /// The check of all streams.
    pub(super) fn check(&self) -> Check {
        let started = Instant::now();
        let (sender, receiver) = channel();
        let client = Arc::clone(self.client);
        thread::spawn(move || drop(sender.send(scopes_of_key(&client, &client.options().patience))));
        let Ok(scopes) = receiver.recv_timeout(self.time_left()) else {
            let text = "which streams the key can read was not told in time; try again, or give --doctor-timeout";
            return Check::warning("streams", text, started);
        };
        let (scopes, untold) = match scopes {
            Ok(scopes) => (scopes, None),
            // The query was refused for want of a scope or answered: this is about the key's description alone.
            Err(fault) => match explain(fault) {
                (category @ (Category::Auth | Category::Permission), text) => {
                    return Check::error("streams", category, text, started);
                }
                // More requests would be refused as well.
                (Category::RateLimit, text) => {
                    let text = format!("which streams the key can read was not told: {text}");
                    return Check::warning("streams", text, started);
                }
                (_, text) => (None, Some(format!("PostHog did not tell what the key may do: {text}"))),
            },
        };
        let findings = self.findings(scopes.as_deref());
        let mut parts: Vec<String> = untold.into_iter().collect();
        let is_told = parts.is_empty();
        parts.extend(describe(&findings, self.can_query));
        let obstacles = || findings.iter().filter_map(|(stream, obstacle)| Some((stream, obstacle.as_ref()?)));
        let text = if parts.is_empty() { "all can be read".to_owned() } else { parts.join("; ") };
        let only = obstacles().find(|(stream, _)| self.only_stream.is_some_and(|only| only.name == stream.name));
        if let Some((stream, obstacle)) = only {
            let text = format!("{}, the stream of data_type, cannot be read: {text}", stream.name);
            return Check::error("streams", obstacle.category(), text, started);
        }
        let is_notable = |(stream, obstacle): (&&Stream, &Obstacle)| {
            self.only_stream.is_none() && stream.selected_by_default || matches!(obstacle, Obstacle::Failed(..))
        };
        if !is_told || obstacles().any(is_notable) {
            Check::warning("streams", text, started)
        } else {
            Check::fine("streams", text, started)
        }
    }

    /// Each stream with what stands in its way. Lists are asked side by side; one that does not answer in time failed.
    fn findings(&self, scopes: Option<&[String]>) -> Vec<Finding> {
        let (sender, receiver) = channel();
        let mut findings: Vec<Finding> = Vec::new();
        for stream in STREAMS {
            let lacks_scope = scopes.is_some_and(|scopes| !stream.scopes().all(|scope| covers(scopes, scope)));
            let obstacle = match stream.source {
                _ if lacks_scope => Some(Obstacle::Scope),
                Source::Events | Source::Table(_) | Source::Sessions(_) => (!self.can_query).then_some(Obstacle::Scope),
                // The scope says nearly all; a few requests are enough to see whether lists answer.
                Source::List(_) if scopes.is_some() && !self.is_worth_a_request(stream) => None,
                Source::List(list) => {
                    let (client, sender) = (Arc::clone(self.client), sender.clone());
                    // Not joined: what hangs is left behind.
                    thread::spawn(move || {
                        let outcome = try_list(&client, list, &client.options().patience);
                        drop(sender.send((stream.name, outcome.err())));
                    });
                    Some(Obstacle::Failed(Category::Timeout, "no answer in time".to_owned()))
                }
            };
            findings.push((stream, obstacle));
        }
        drop(sender);
        while let Ok((name, fault)) = receiver.recv_timeout(self.time_left()) {
            if let Some(finding) = findings.iter_mut().find(|(stream, _)| stream.name == name) {
                finding.1 = fault.map(Obstacle::of);
            }
        }
        findings
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn is_worth_a_request(&self, stream: &Stream) -> bool {
        match self.only_stream {
            Some(only) => only.name == stream.name,
            None => stream.selected_by_default || stream.varies,
        }
    }
}

/// What was found, a part for each kind of obstacle.
fn describe(findings: &[Finding], can_query: bool) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            parts.push(format!("{what}: {}", names.join(", ")));
        }
    };
    let named = |is_it: &dyn Fn(&Obstacle) -> bool| -> Vec<&Stream> {
        findings.iter().filter(|(_, found)| found.as_ref().is_some_and(is_it)).map(|(stream, _)| *stream).collect()
    };
    let names = |streams: Vec<&Stream>| streams.iter().map(|stream| stream.name.to_owned()).collect();
    let with_scope = |stream: &&Stream| format!("{} ({})", stream.name, stream.scopes().collect::<Vec<_>>().join(", "));
    let missing = named(&|found| matches!(found, Obstacle::Scope));
    part("these streams need a scope that the key has not", missing.iter().map(with_scope).collect());
    part("the key's user may not read", names(named(&|found| matches!(found, Obstacle::Access))));
    part("not in this PostHog", names(named(&|found| matches!(found, Obstacle::Absent))));
    // One text is enough: what fails, fails alike.
    let failure = findings.iter().find_map(|(_, found)| match found {
        Some(Obstacle::Failed(_, text)) => Some(text.as_str()),
        _ => None,
    });
    if let Some(text) = failure {
        let mut failed: Vec<String> = names(named(&|found| matches!(found, Obstacle::Failed(..))));
        failed.last_mut().into_iter().for_each(|last| last.push_str(&format!(" ({text})")));
        part("failed", failed);
    }
    if !can_query {
        let readable = findings.iter().filter(|(_, found)| found.is_none());
        part("can be read", readable.map(|(stream, _)| stream.name.to_owned()).collect());
    }
    parts
}
