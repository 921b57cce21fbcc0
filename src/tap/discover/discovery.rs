//! One discovery: its requests, the most valuable first, and the entries that it makes of the answers.

use super::properties;
use super::properties::Properties;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::client::Client;
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::key::{covers, scopes_of_key};
use crate::singer::catalog::{SelectedStream, StreamEntry};
use crate::tap::config::Config;
use crate::tap::record::flatten::Family;
use crate::tap::stream::{STREAMS, Source, Stream, definitions, has_field};
use crate::time::Micros;

use super::columns::{Columns, try_list};
use super::left_out::{Unreadable, left_out_for};
use super::sample::sampled;

/// Requests that a discovery sends.
const MAX_REQUESTS: u64 = 20;
/// Requests for the scopes of the key; a discovery can do without them.
const FOR_SCOPES: u64 = 3;
/// Requests that are kept for properties: a page of definitions of events and one of persons, or a refusal and two samples.
const FOR_PROPERTIES: u64 = 3;
/// A run has one more: it may look at everything that it reads.
const FOR_PROPERTIES_OF_RUN: u64 = FOR_PROPERTIES + 1;

/// A discovery under way.
pub(super) struct Discovery<'a> {
    client: &'a Client,
    config: &'a Config,
    now: Micros,
    unreadable: Unreadable,
    /// The scopes of the key, where PostHog tells them.
    scopes: Option<Vec<String>>,
    /// Scopes that the key lacks, as a refusal said: no other stream that needs them is asked for.
    refused: Vec<String>,
    /// Asks for the columns of events and tables.
    pub(super) columns: Columns<'a>,
    /// Whether properties become fields of the entries.
    pub(super) describes_properties: bool,
    /// The beginning of their names, where a setting says it.
    pub(super) persons_prefix: &'a str,
    /// There may be more properties than fields: a comparison with a catalog would say nothing about changes.
    pub(super) properties_are_partial: bool,
    /// Property definitions were read, so the key may read them.
    definitions_were_read: bool,
    requests_before: u64,
    requests_for_properties: u64,
    /// One for each table that comes later.
    requests_for_tables: u64,
    /// Properties were made fields already, or are not wanted.
    is_flat: bool,
    /// Streams that no request was left for, or too few.
    untried: Vec<&'static str>,
}

impl<'a> Discovery<'a> {
    pub(super) fn new(
        client: &'a Client,
        config: &'a Config,
        now: Micros,
        unreadable: Unreadable,
    ) -> Result<Discovery<'a>> {
        let requests_before = client.usage().requests;
        let retry_policy = client.options().retry_policy.until_sent(requests_before + FOR_SCOPES);
        let scopes = match scopes_of_key(client, &retry_policy) {
            // A discovery can do without: then it tries each stream.
            Err(Fault::Fatal(Failure { cause: Cause::Server | Cause::Timeout | Cause::Allowance, .. })) => None,
            other => other?,
        };
        Ok(Discovery {
            client,
            config,
            now,
            unreadable,
            scopes,
            refused: Vec::new(),
            columns: Columns::new(client, config.events.person_ids, now),
            describes_properties: true,
            persons_prefix: &config.properties.persons_prefix,
            properties_are_partial: false,
            definitions_were_read: false,
            requests_before,
            requests_for_properties: FOR_PROPERTIES,
            requests_for_tables: 0,
            is_flat: false,
            untried: Vec::new(),
        })
    }

    /// The same for the streams of a given catalog.
    pub(super) fn chosen(mut self, chosen: &'a [SelectedStream]) -> Discovery<'a> {
        self.columns.chosen = chosen;
        self
    }

    /// The entries of the streams that are `wanted` and can be read, by name.
    pub(super) fn entries(&mut self, wanted: impl Fn(&Stream) -> bool) -> Result<Vec<StreamEntry>> {
        if !self.describes_properties || !self.config.properties.flatten {
            self.requests_for_properties = 0;
        }
        let mut streams: Vec<&'static Stream> = STREAMS.iter().filter(|stream| wanted(stream)).collect();
        streams.sort_by_key(|stream| rank(stream));
        let (mut entries, mut left_out) = (Vec::new(), Vec::new());
        self.requests_for_tables = streams.iter().map(|stream| u64::from(is_probed_table(stream))).sum();
        for stream in streams {
            self.requests_for_tables -= u64::from(is_probed_table(stream));
            if stream.defines_properties {
                self.flatten_properties(&mut entries)?;
            }
            match self.entry(stream) {
                Ok(entry) => entries.push(entry),
                Err(fault) => {
                    self.note_refusal(&fault);
                    match left_out_for(stream, fault, self.unreadable)? {
                        Some(reason) => left_out.push(format!("{} ({reason})", stream.name)),
                        None => entries.push(stream.entry()?),
                    }
                }
            }
        }
        self.flatten_properties(&mut entries)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        // A run tries them itself.
        if !self.untried.is_empty() && self.unreadable == Unreadable::LeaveOut {
            log::warn(format!(
                "not tried, or not to the end, to end within {MAX_REQUESTS} requests: {}; a run shows whether they can be read",
                self.untried.join(", ")
            ));
        }
        if left_out.is_empty() {
            return Ok(entries);
        }
        let left_out = left_out.join("; ");
        if entries.is_empty() {
            let text = format!(
                "none of the streams can be read: {left_out}. Scopes are added to a key in PostHog, Settings, Personal API keys; \
                 most streams take query:read"
            );
            return Err(Error::new(Kind::Config, text));
        }
        log::warn(format!("left out: {left_out}"));
        Ok(entries)
    }

    /// How long to go on with a request. A run goes on as long as usual with a request that it `needs`. Any other request
    /// ends where the rest of the allowance is kept for more valuable ones.
    fn retry_policy(&self, needs: bool) -> RetryPolicy {
        let retry_policy = self.client.options().retry_policy;
        if needs && self.unreadable != Unreadable::LeaveOut {
            return retry_policy;
        }
        let kept = self.requests_for_properties + self.requests_for_tables;
        retry_policy.until_sent(self.requests_before + MAX_REQUESTS.saturating_sub(kept))
    }

    fn entry(&mut self, stream: &'static Stream) -> Result<StreamEntry, Fault> {
        if let Some(scope) = stream.scopes().find(|scope| !self.may(scope).unwrap_or(true)) {
            let text = format!("the key lacks the scope {scope}; add it in PostHog, Settings, Personal API keys");
            let error = Error::new(Kind::Config, text);
            return Err(Fault::Fatal(Failure { cause: Cause::Scope(scope.to_owned()), error }));
        }
        let mut entry = stream.entry().map_err(Fault::internal)?;
        let retry_policy = self.retry_policy(!stream.is_list());
        let outcome = match stream.source {
            Source::Events => self.columns.events(stream, &mut entry, &retry_policy),
            Source::Table(table) | Source::Sessions(table) => {
                self.columns.table(stream, table, &mut entry, &retry_policy)
            }
            // Its items were read already.
            Source::List(_) if stream.defines_properties && self.definitions_were_read => Ok(()),
            // The scope says it all.
            Source::List(_) if self.scopes.is_some() && !stream.varies => Ok(()),
            Source::List(list) => try_list(self.client, list, &retry_policy),
        };
        match outcome {
            Err(Fault::Fatal(Failure { cause: Cause::Allowance, .. })) => self.untried.push(stream.name),
            outcome => outcome?,
        }
        Ok(entry)
    }

    fn note_refusal(&mut self, fault: &Fault) {
        if let Fault::Fatal(Failure { cause: Cause::Scope(scope), .. }) = fault {
            self.refused.push(scope.clone());
        }
    }

    /// Whether the key has a scope, where that is known.
    fn may(&self, scope: &str) -> Option<bool> {
        if self.refused.iter().any(|refused| refused == scope) {
            return Some(false);
        }
        self.scopes.as_ref().map(|scopes| covers(scopes, scope))
    }

    /// Gives the entries a field for each property. This is done once, behind all other requests: as many definitions are
    /// read as requests are left.
    fn flatten_properties(&mut self, entries: &mut [StreamEntry]) -> Result<()> {
        self.requests_for_properties = 0;
        let is_done = std::mem::replace(&mut self.is_flat, true);
        if is_done || !self.describes_properties || !self.config.properties.flatten {
            return Ok(());
        }
        let is_there = |stream: &str, object: &str| {
            entries.iter().any(|entry| entry.name == stream && has_field(&entry.schema, object))
        };
        let all = STREAMS.iter().flat_map(|row| row.properties.iter().map(|object| (row.name, object)));
        let objects: Vec<_> = all.filter(|(stream, object)| is_there(stream, object.field)).collect();
        let families = [Family::Event, Family::Person];
        let families =
            families.into_iter().filter(|wanted| objects.iter().any(|(_, object)| object.family == *wanted)).collect();
        let properties = self.properties(families)?;
        for (stream, object) in objects {
            let Some(defined) = properties.get(object.family.index()) else { continue };
            let prefix = if object.prefix_is_a_setting() { self.persons_prefix } else { object.field };
            let of_stream = entries.iter_mut().filter(|entry| entry.name == stream);
            of_stream.for_each(|entry| properties::flatten(entry, object.field, prefix, defined));
        }
        Ok(())
    }

    /// The properties of these families, by the number of the family.
    fn properties(&mut self, families: Vec<Family>) -> Result<[Properties; 2], Fault> {
        let max = self.config.properties.max_columns;
        let Some((definitions, list)) = definitions().filter(|_| max > 0 && !families.is_empty()) else {
            return Ok(Default::default());
        };
        let mut retry_policy = self.retry_policy(false);
        if self.unreadable != Unreadable::LeaveOut {
            // However many requests a run sent before: without columns, every schema would change because a server was slow.
            retry_policy.max_sent = retry_policy.max_sent.max(self.client.usage().requests + FOR_PROPERTIES_OF_RUN);
        }
        let scope = definitions.scope;
        if self.may(scope) == Some(false) {
            return self.sample(&format!("the key lacks the scope {scope}"), &retry_policy);
        }
        let kinds: Vec<&str> = families.iter().map(|family| KINDS[family.index()]).collect();
        let defined = match properties::defined(self.client, &retry_policy, list, &kinds, max) {
            Err(fault) if is_no_definitions(&fault) => {
                self.note_refusal(&fault);
                return self
                    .sample(&format!("property definitions cannot be read: {}", Error::from(fault)), &retry_policy);
            }
            defined => defined?,
        };
        self.definitions_were_read = true;
        self.properties_are_partial = defined.is_cut;
        if defined.properties.iter().all(Properties::is_empty) {
            log::warn(
                "the project defines no properties yet: those that come are all in the unmapped object of this run",
            );
        }
        let mut properties = <[Properties; 2]>::default();
        for (family, defined) in families.into_iter().zip(defined.properties) {
            properties[family.index()] = defined;
        }
        Ok(properties)
    }

    fn sample(&mut self, why: &str, retry_policy: &RetryPolicy) -> Result<[Properties; 2], Fault> {
        log::info(format!(
            "{why}; columns of properties are taken from a sample of events and may differ between runs"
        ));
        self.properties_are_partial = true;
        let max = self.config.properties.max_columns;
        sampled(self.client, retry_policy, &self.config.events, max, self.now)
    }
}

/// The names of the families in definitions, by their number.
const KINDS: [&str; 2] = ["event", "person"];

/// The order in which streams are looked at. Events come first: their probe says whether the key may query at all. Then
/// come tables and lists that differ between versions, then the lists that a run reads anyway, and at the end the
/// definitions that columns are made of.
fn rank(stream: &Stream) -> u8 {
    match stream.source {
        Source::Events => 0,
        Source::Table(_) | Source::Sessions(_) => 1,
        Source::List(_) if stream.defines_properties => 5,
        Source::List(_) if stream.varies => 2,
        Source::List(_) if stream.selected_by_default => 3,
        Source::List(_) => 4,
    }
}

/// Whether a stream is a table that is asked for its columns.
fn is_probed_table(stream: &Stream) -> bool {
    stream.varies && stream.table().is_some()
}

/// Whether a fault means that there are no definitions for us: the key lacks the scope, there is no such path, or the list
/// takes the server too long (it has a time limit of its own).
fn is_no_definitions(fault: &Fault) -> bool {
    let Fault::Fatal(Failure { cause, .. }) = fault else { return false };
    matches!(
        cause,
        Cause::Scope(_)
            | Cause::Access
            | Cause::Missing
            | Cause::Server
            | Cause::Timeout
            | Cause::Untrusted
            | Cause::Allowance
    )
}
