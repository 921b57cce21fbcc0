//! Which streams the key can read, by its own description. Where that is not the whole answer, small requests for lists add
//! to it.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Result;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::Client;
use crate::posthog::key::{covers, scopes_of_key};
use crate::tap::config::{Config, Streams};
use crate::tap::discover::columns::try_list;
use crate::tap::discover::left_out::Obstacle;
use crate::tap::discover::rows;
use crate::tap::stream::{STREAMS, Source, Stream};

use super::finding::{Category, Finding, explain};

/// A stream, and why it cannot be read, if it cannot.
struct Looked {
    stream: &'static Stream,
    hindered: Option<Hindrance>,
}

impl Looked {
    fn to_value(&self) -> Value {
        let scopes: Vec<&str> = self.stream.scopes().collect();
        let mut value = json!({"name": self.stream.name, "scope": scopes.join(", ")});
        if let Some(hindrance) = &self.hindered {
            value["why"] = json!(hindrance.words());
        }
        value
    }
}

/// Why a stream cannot be read, in the doctor's words.
struct Hindrance {
    obstacle: Obstacle,
    category: Category,
    text: String,
}

impl Hindrance {
    fn of(stream: &Stream, fault: Fault) -> Hindrance {
        let obstacle = Obstacle::of(stream, &fault);
        let (category, text) = explain(fault);
        Hindrance { obstacle, category, text }
    }

    fn words(&self) -> String {
        match &self.obstacle {
            Obstacle::Scope(scope) => format!("the key lacks the scope {scope}"),
            Obstacle::Access => "the key's user may not read it".to_owned(),
            Obstacle::Absent => "not in this PostHog".to_owned(),
            Obstacle::Failed => self.text.clone(),
        }
    }

    fn scope(scope: &str) -> Hindrance {
        let obstacle = Obstacle::Scope(scope.to_owned());
        Hindrance { obstacle, category: Category::Permission, text: String::new() }
    }

    fn no_answer() -> Hindrance {
        Hindrance { obstacle: Obstacle::Failed, category: Category::Timeout, text: "no answer in time".to_owned() }
    }
}

/// The streams that are to be read.
pub(super) struct Chosen {
    streams: Vec<&'static Stream>,
    /// The setting that names them; none where each that can be read will do.
    setting: Option<String>,
}

impl Chosen {
    pub(super) fn of(config: &Config) -> Result<Chosen> {
        let setting = match &config.streams {
            Streams::Named { setting, .. } => Some(setting.clone()),
            Streams::ByDefault | Streams::All => None,
        };
        Ok(Chosen { streams: rows(config)?, setting })
    }

    fn has(&self, stream: &Stream) -> bool {
        self.streams.iter().any(|chosen| chosen.name == stream.name)
    }

    /// The setting that names streams, where one does.
    fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    /// Lists are read without queries.
    pub(super) fn is_of_lists(&self) -> bool {
        self.streams.iter().all(|stream| stream.is_list())
    }
}

/// The facts that are known before the streams are looked at.
pub(super) struct Readable<'a> {
    pub(super) client: &'a Arc<Client>,
    /// A query was answered, not refused for want of its scope.
    pub(super) can_query: bool,
    pub(super) chosen: &'a Chosen,
    pub(super) deadline: Instant,
}

impl Readable<'_> {
    /// One finding about all streams.
    pub(super) fn finding(&self) -> Finding {
        let started = Instant::now();
        let (sender, receiver) = channel();
        let client = Arc::clone(self.client);
        thread::spawn(move || drop(sender.send(scopes_of_key(&client, &client.options().retry_policy))));
        let Ok(scopes) = receiver.recv_timeout(self.time_left()) else {
            let text = "which streams the key can read was not told in time; try again, or give --doctor-timeout";
            return Finding::warning("streams", text, started);
        };
        let (scopes, untold) = match scopes {
            Ok(scopes) => (scopes, None),
            // The query was refused for want of a scope or answered: this is about the key's description alone.
            Err(fault) => match explain(fault) {
                (category @ (Category::Auth | Category::Permission), text) => {
                    return Finding::error("streams", category, text, started);
                }
                // More requests would be refused as well.
                (Category::RateLimit, text) => {
                    let text = format!("which streams the key can read was not told: {text}");
                    return Finding::warning("streams", text, started);
                }
                (_, text) => (None, Some(format!("PostHog did not tell what the key may do: {text}"))),
            },
        };
        let looked = self.look(scopes.as_deref());
        let mut parts: Vec<String> = untold.into_iter().collect();
        let is_told = parts.is_empty();
        parts.extend(describe(&looked, self.can_query));
        let hindered = || looked.iter().filter_map(|looked| Some((looked.stream, looked.hindered.as_ref()?)));
        let text = if parts.is_empty() { "all can be read".to_owned() } else { parts.join("; ") };
        let needed = self.chosen.setting().and_then(|setting| {
            hindered().find(|(stream, _)| self.chosen.has(stream)).map(|(stream, why)| (setting, stream, why))
        });
        let streams = looked.iter().map(Looked::to_value).collect();
        if let Some((setting, stream, hindrance)) = needed {
            let text = format!("{}, the stream of {setting}, cannot be read: {text}", stream.name);
            return Finding::error("streams", hindrance.category, text, started).about(streams);
        }
        let is_notable = |(stream, hindrance): (&Stream, &Hindrance)| {
            self.chosen.has(stream) || hindrance.obstacle == Obstacle::Failed
        };
        let make = if !is_told || hindered().any(is_notable) { Finding::warning } else { Finding::fine };
        make("streams", text, started).about(streams)
    }

    /// Looks at each stream. Lists are asked side by side; one that does not answer in time failed.
    fn look(&self, scopes: Option<&[String]>) -> Vec<Looked> {
        let (sender, receiver) = channel();
        let mut all: Vec<Looked> = Vec::new();
        for stream in STREAMS {
            let lacks = scopes.and_then(|scopes| stream.scopes().find(|scope| !covers(scopes, scope)));
            let hindered = match stream.source {
                _ if lacks.is_some() => lacks.map(Hindrance::scope),
                Source::Events | Source::Table(_) | Source::Sessions(_) => {
                    (!self.can_query).then(|| Hindrance::scope(stream.scope))
                }
                // The scope says nearly all; a few requests are enough to see whether lists answer.
                Source::List(_) if scopes.is_some() && !self.is_worth_a_request(stream) => None,
                Source::List(list) => {
                    let (client, sender) = (Arc::clone(self.client), sender.clone());
                    // Not joined: a thread that hangs is left behind.
                    thread::spawn(move || {
                        let outcome = try_list(&client, list, &client.options().retry_policy);
                        drop(sender.send((stream.name, outcome.err())));
                    });
                    Some(Hindrance::no_answer())
                }
            };
            all.push(Looked { stream, hindered });
        }
        drop(sender);
        while let Ok((name, fault)) = receiver.recv_timeout(self.time_left()) {
            if let Some(looked) = all.iter_mut().find(|looked| looked.stream.name == name) {
                looked.hindered = fault.map(|fault| Hindrance::of(looked.stream, fault));
            }
        }
        all
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn is_worth_a_request(&self, stream: &Stream) -> bool {
        self.chosen.has(stream) || self.chosen.setting().is_none() && stream.varies
    }
}

/// The findings in words, a part for each kind of obstacle.
fn describe(all: &[Looked], can_query: bool) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            parts.push(format!("{what}: {}", names.join(", ")));
        }
    };
    let name = |stream: &Stream| stream.name.to_owned();
    let with_scopes = |stream: &Stream| format!("{} ({})", stream.name, stream.scopes().collect::<Vec<_>>().join(", "));
    let hindered = |is_it: fn(&Obstacle) -> bool, name: &dyn Fn(&Stream) -> String| -> Vec<String> {
        let found = all.iter().filter(|looked| looked.hindered.as_ref().is_some_and(|why| is_it(&why.obstacle)));
        found.map(|looked| name(looked.stream)).collect()
    };
    let lack_scope = hindered(|found| matches!(found, Obstacle::Scope(_)), &with_scopes);
    part("these streams need a scope that the key has not", lack_scope);
    part("the key's user may not read", hindered(|found| *found == Obstacle::Access, &name));
    part("not in this PostHog", hindered(|found| *found == Obstacle::Absent, &name));
    // One text is enough: all of them fail alike.
    let mut failed = hindered(|found| *found == Obstacle::Failed, &name);
    let mut failures = all.iter().filter_map(|looked| looked.hindered.as_ref());
    if let Some(failure) = failures.find(|why| why.obstacle == Obstacle::Failed) {
        failed.last_mut().into_iter().for_each(|last| last.push_str(&format!(" ({})", failure.text)));
        part("failed", failed);
    }
    if !can_query {
        let readable = all.iter().filter(|looked| looked.hindered.is_none());
        part("can be read", readable.map(|looked| name(looked.stream)).collect());
    }
    parts
}
