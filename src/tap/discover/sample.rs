//! Columns of properties from a sample of events, where the key may not read the definitions of properties.
//!
//! A few events of each name are looked at, among the newest that the run reads. Where there are none, older ones are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::properties::{Properties, PropertyType};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::body::BodyLimit;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::query::page::Page;
use crate::posthog::query::text;
use crate::tap::config::EventsConfig;
use crate::time::{DAY_US, Day, Micros};

/// The size of a sample: how many of the newest days, and the greatest hash of a key. At first one key in 16: ClickHouse
/// finds whole days at low cost, and everybody's events look alike.
type Size = (i64, u64);

/// The samples that are asked for until one has an event; the last one is of everything that the run reads.
const SIZES: [Size; 3] = [(3, SIXTEENTH), (30, u64::MAX), (i64::MAX, u64::MAX)];
const SIXTEENTH: u64 = 1 << 60;
/// Even fewer keys.
const FEW: u64 = 1 << 56;
/// Attempts at the first sample. The others are asked for once.
const ATTEMPTS: u32 = 2;
const SAMPLE_BYTES: usize = 32 * 1024 * 1024;

/// Looks at a few events of each name among the newest that a run reads, and gives at most `max` properties of events and as
/// many of persons; none where the server does not answer within the requests of `retry_policy`.
///
/// # Errors
/// The fault of a query that says more than that there is no sample: the key, the project, the network's address.
pub(super) fn sampled(
    client: &Client,
    retry_policy: &RetryPolicy,
    events: &EventsConfig,
    max: usize,
    now: Micros,
) -> Result<[Properties; 2], Fault> {
    let mut sizes = SIZES.to_vec();
    sizes.reverse();
    let mut too_much = None;
    while let Some(size) = sizes.pop() {
        let attempts = if size == SIZES[0] { ATTEMPTS } else { 1 };
        match sample(client, &retry_policy.at_most(attempts), events, now, size) {
            Ok([of_events, _]) if of_events.documents == 0 && client.requests_left(retry_policy) > 0 => {}
            Ok(samples) => return Ok(chosen(samples, max)),
            Err(Fault::Split(why)) => {
                if too_much.replace(why).is_none() {
                    let days = if size == SIZES[0] { 1 } else { size.0 };
                    sizes = vec![(days, FEW), (days, SIXTEENTH)];
                }
            }
            Err(fault) => return without_columns(fault),
        }
    }
    match too_much {
        Some(why) => without_columns(Fault::Split(why)),
        None => Ok(chosen(Default::default(), max)),
    }
}

fn chosen(samples: [Sample; 2], max: usize) -> [Properties; 2] {
    if samples.iter().all(|sample| sample.kinds.is_empty()) {
        log::warn(
            "no event of the range that is read has properties: they have no columns in this run, and those that come are \
             all in the unmapped object; the scope property_definition:read makes columns without a sample",
        );
    }
    samples.map(|sample| sample.kinds.into_iter().take(max).map(|(name, seen)| (name, seen.kind())).collect())
}

/// A missing sample costs columns and never data, so it ends the run only for a reason that would end the run anyway.
fn without_columns(fault: Fault) -> Result<[Properties; 2], Fault> {
    let why = match fault {
        Fault::Split(why) => why.to_string(),
        Fault::Fatal(Failure {
            cause:
                Cause::Server
                | Cause::Timeout
                | Cause::Untrusted
                | Cause::Network
                | Cause::Request
                | Cause::UnknownColumn(_)
                | Cause::UnknownTable
                | Cause::Allowance,
            error,
        }) => error.to_string(),
        fault => return Err(fault),
    };
    log::warn(format!(
        "no sample of events could be read ({why}): properties have no columns in this run and are all in the unmapped \
         object; the scope property_definition:read makes columns without a sample"
    ));
    Ok(Default::default())
}

#[derive(Debug, Default)]
struct Sample {
    documents: usize,
    kinds: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    number: bool,
    boolean: bool,
    other: bool,
}

impl Seen {
    fn kind(self) -> PropertyType {
        match (self.number, self.boolean, self.other) {
            (true, false, false) => PropertyType::Number,
            (false, true, false) => PropertyType::Boolean,
            _ => PropertyType::Text,
        }
    }
}

impl Sample {
    fn add(&mut self, document: &str) {
        let Ok(properties) = serde_json::from_str::<Map<String, Value>>(document) else { return };
        self.documents += 1;
        for (name, value) in properties {
            let seen = self.kinds.entry(name).or_default();
            match value {
                Value::Null => {}
                Value::Number(_) => seen.number = true,
                Value::Bool(_) => seen.boolean = true,
                _ => seen.other = true,
            }
        }
    }
}

fn sample(
    client: &Client,
    retry_policy: &RetryPolicy,
    events: &EventsConfig,
    now: Micros,
    (days, below_hash): Size,
) -> Result<[Sample; 2], Fault> {
    // Today is a whole day, too: events of its rest are not there yet.
    let until = events.until.unwrap_or(Micros::MAX).min(Day::of(now).end());
    let since = events.since.max(until.saturating_sub(days.saturating_mul(DAY_US)));
    let [since, until] = [since, until].map(text::datetime);
    let names: Vec<String> = events.event_types.iter().map(|name| text::string(name)).collect();
    let names = if names.is_empty() { String::new() } else { format!("event IN ({}) AND ", names.join(", ")) };
    let sql = format!(
        "SELECT properties AS properties, poe.properties AS person_properties FROM events WHERE timestamp >= {since} AND \
         timestamp < {until} AND {names}cityHash64(distinct_id) <= {below_hash} ORDER BY toDate(timestamp), event, \
         cityHash64(distinct_id), timestamp, uuid LIMIT 20 BY event LIMIT 2000"
    );
    let query = Query::new("sample of properties", &sql).with_retry_policy(*retry_policy);
    client.query(&query, BodyLimit::of(SAMPLE_BYTES), |incoming| {
        let mut samples = [Sample::default(), Sample::default()];
        let columns = ["properties", "person_properties"];
        let page = Page::read(&mut incoming.body, Vec::new(), &columns, |_| Ok(())).map_err(Fault::untrusted)?;
        for row in page.rows() {
            for (column, sample) in samples.iter_mut().enumerate() {
                sample.add(row.text(column).unwrap_or_default());
            }
        }
        Ok(samples)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_samples() {
        let mut sample = Sample::default();
        sample.add(r#"{"n": 1, "b": null, "s": "x", "mixed": 1, "null": null}"#);
        sample.add(r#"{"n": 2.5, "b": true, "mixed": "x", "o": {}}"#);
        sample.add("not JSON");
        let kinds: Vec<(&str, PropertyType)> = sample.kinds.iter().map(|(n, s)| (n.as_str(), s.kind())).collect();
        let text = PropertyType::Text;
        let expected = [
            ("b", PropertyType::Boolean),
            ("mixed", text),
            ("n", PropertyType::Number),
            ("null", text),
            ("o", text),
            ("s", text),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(sample.documents, 2);
    }
}
