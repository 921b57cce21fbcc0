//! The columns that properties become: from the project's property definitions, or from a sample of events where the key
//! may not read definitions.
//!
//! No data depends on columns: a property without a column, or a value that its column cannot hold, goes into the unmapped
//! object. So a list that is cut, or a sample that misses a property, costs convenience and never data.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::client::{Client, Query};
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::query::ask::answer;
use crate::posthog::query::hogql;
use crate::posthog::rest;
use crate::singer::catalog::StreamEntry;
use crate::tap::stream::{List, fields};
use crate::time::{DAY_US, Day, Micros};

/// Definitions of one answer. Large, because discovery is to end within 20 requests; a server may give fewer.
const DEFINITIONS_A_PAGE: u32 = 1000;
/// The size of a sample: a number of days, and the greatest hash of a key. At first one key in 16: ClickHouse finds whole
/// days at low cost, and everybody's events look alike.
const USUAL_SAMPLE: (i64, u64) = (3, 1 << 60);
/// All keys, where few events are stored.
const WHOLE_SAMPLE: (i64, u64) = (3, u64::MAX);
/// Smaller ones, where the server refuses the usual one as too much.
const SMALLER_SAMPLES: [(i64, u64); 2] = [(1, 1 << 60), (1, 1 << 56)];
/// Attempts at a page of definitions and at the usual sample. Smaller samples are asked for once.
const ATTEMPTS: u32 = 2;
const SAMPLE_BYTES: usize = 64 * 1024 * 1024;

/// The type of a column of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    /// Strings, times, and all that is not known.
    Text,
    /// Numbers.
    Number,
    /// true or false.
    Boolean,
}

impl PropertyType {
    /// PostHog's `property_type`; null where it was not detected.
    fn of_definition(name: Option<&str>) -> PropertyType {
        match name {
            Some("Numeric" | "Duration") => PropertyType::Number,
            Some("Boolean") => PropertyType::Boolean,
            _ => PropertyType::Text,
        }
    }

    /// The JSON Schema of the column.
    pub fn schema(self) -> Value {
        let name = match self {
            PropertyType::Text => "string",
            PropertyType::Number => "number",
            PropertyType::Boolean => "boolean",
        };
        json!({"type": ["null", name]})
    }
}

/// Properties by name, in the order of names.
pub type Properties = BTreeMap<String, PropertyType>;

#[derive(Deserialize)]
struct Definition {
    id: String,
    name: String,
    property_type: Option<String>,
}

/// The properties that definitions name.
#[derive(Debug, Default)]
pub struct Defined {
    /// Of each kind that was asked for.
    pub properties: Vec<Properties>,
    /// Not all definitions were read.
    pub is_cut: bool,
}

/// Reads the definitions of the properties of `kinds` (`event`, `person`), as many as the requests of `retry_policy` give.
/// Takes at most `max` of each kind: the oldest, whose ids sort first, so that a property that appears later never takes
/// the column of another.
///
/// # Errors
/// The fault of the first page of a kind. A later failure cuts the list, and so do requests that are used up.
pub fn defined(
    client: &Client,
    retry_policy: &RetryPolicy,
    list: &List,
    kinds: &[&'static str],
    max: usize,
) -> Result<Defined, Fault> {
    let mut lists: Vec<Definitions<'_>> =
        kinds.iter().map(|kind| Definitions::of(client, retry_policy, list, kind)).collect();
    // In turns, so that each kind has its first page before one has its second.
    let mut is_first = true;
    while lists.iter().any(|list| list.goes_on) {
        for list in lists.iter_mut().filter(|list| list.goes_on) {
            match list.read_page() {
                Err(Fault::Fatal(failure)) if list.items > 0 || !is_first && failure.cause == Cause::Allowance => {
                    log::debug(failure.error.to_string());
                    list.goes_on = false;
                }
                outcome => outcome?,
            }
            is_first = false;
        }
    }
    let is_cut = lists.iter().any(|list| !list.is_whole);
    Ok(Defined { properties: lists.into_iter().map(|list| list.chosen(max)).collect(), is_cut })
}

/// The definitions of one kind, page by page.
struct Definitions<'a> {
    kind: &'static str,
    list: rest::ListReader<'a>,
    /// The number of items that came, and the definitions among them.
    items: usize,
    read: Vec<Definition>,
    goes_on: bool,
    is_whole: bool,
}

impl<'a> Definitions<'a> {
    fn of(client: &'a Client, retry_policy: &RetryPolicy, list: &List, kind: &'static str) -> Definitions<'a> {
        let path = list.full_path(client.options().project_id);
        let query = [("type".to_owned(), kind.to_owned())];
        let list = rest::ListReader::new(client, path, &query, list.class, DEFINITIONS_A_PAGE);
        let list = list.dispensable(retry_policy.at_most(ATTEMPTS));
        Definitions { kind, list, items: 0, read: Vec::new(), goes_on: true, is_whole: false }
    }

    fn read_page(&mut self) -> Result<(), Fault> {
        let Some(page) = self.list.next_page()? else {
            (self.goes_on, self.is_whole) = (false, true);
            return Ok(());
        };
        self.items += page.len();
        self.read.extend(page.items().filter_map(|item| serde_json::from_str(item).ok()));
        Ok(())
    }

    /// The columns of at most `max` properties.
    fn chosen(mut self, max: usize) -> Properties {
        let kind = self.kind;
        if !self.is_whole {
            let of = Some(self.list.counted()).filter(|count| *count > 0);
            let of = of.map_or_else(String::new, |count| format!(" of {count}"));
            log::warn(format!(
                "only {}{of} {kind} property definitions were read, to keep discovery short; the other properties have no \
                 column and are in the unmapped object",
                self.items
            ));
        }
        self.read.sort_by(|a, b| a.id.cmp(&b.id));
        let mut properties = Properties::new();
        let count = self.read.len();
        for definition in self.read {
            if properties.len() == max {
                log::info(format!(
                    "{max} of {count} {kind} properties have columns (max_property_columns); the others are in the unmapped \
                     object"
                ));
                break;
            }
            let kind = PropertyType::of_definition(definition.property_type.as_deref());
            properties.entry(definition.name).or_insert(kind);
        }
        properties
    }
}

/// Puts a column for each property in the place of the field `object`, and behind them the object of properties without a
/// column. Their names begin with `prefix`.
pub(super) fn flatten(entry: &mut StreamEntry, object: &str, prefix: &str, defined: &Properties) {
    let Some(fields) = fields(&mut entry.schema) else { return };
    let mut flat = Map::new();
    for (name, schema) in std::mem::take(fields) {
        if name != object {
            flat.insert(name, schema);
            continue;
        }
        flat.extend(defined.iter().map(|(property, kind)| (format!("{prefix}_{property}"), kind.schema())));
        flat.insert(format!("unmapped_{prefix}"), json!({"type": ["null", "object"]}));
    }
    *fields = flat;
}

/// Looks at a few events of each name in the days before `now`, and gives at most `max` properties of events and as many of
/// persons; none where the server does not answer within the requests of `retry_policy`.
///
/// # Errors
/// The fault of a query that says more than that there is no sample: the key, the project, the network's address.
pub fn sampled(client: &Client, retry_policy: &RetryPolicy, max: usize, now: Micros) -> Result<[Properties; 2], Fault> {
    let mut too_much = None;
    for size in std::iter::once(USUAL_SAMPLE).chain(SMALLER_SAMPLES) {
        match sample(client, retry_policy, now, size) {
            Ok(samples)
                if samples[0].documents == 0 && size == USUAL_SAMPLE && client.requests_left(retry_policy) > 0 =>
            {
                return match sample(client, retry_policy, now, WHOLE_SAMPLE) {
                    Ok(samples) => Ok(chosen(samples, max)),
                    Err(fault) => without_columns(fault),
                };
            }
            Ok(samples) => return Ok(chosen(samples, max)),
            Err(Fault::Split(why)) => too_much = Some(why),
            Err(fault) => return without_columns(fault),
        }
    }
    too_much.map_or_else(|| Ok(Default::default()), |why| without_columns(Fault::Split(why)))
}

fn chosen(samples: [Sample; 2], max: usize) -> [Properties; 2] {
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
    now: Micros,
    (days, below_hash): (i64, u64),
) -> Result<[Sample; 2], Fault> {
    // Whole days that are over: the answer is the same until the next day begins.
    let until = Day::of(now).start();
    let [since, until] = [until - days * DAY_US, until].map(hogql::datetime);
    let sql = format!(
        "SELECT properties AS properties, poe.properties AS person_properties FROM events WHERE timestamp >= {since} AND \
         timestamp < {until} AND cityHash64(distinct_id) <= {below_hash} ORDER BY toDate(timestamp), event, \
         cityHash64(distinct_id), timestamp, uuid LIMIT 20 BY event LIMIT 2000"
    );
    let attempts = if (days, below_hash) == USUAL_SAMPLE { ATTEMPTS } else { 1 };
    let query = Query::new("sample of properties", &sql).with_retry_policy(retry_policy.at_most(attempts));
    answer(client, &query, SAMPLE_BYTES, &["properties", "person_properties"], |page| {
        let mut samples = [Sample::default(), Sample::default()];
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
    fn types_of_definitions_and_of_samples() {
        let of = |name| PropertyType::of_definition(name);
        assert_eq!([of(Some("String")), of(Some("DateTime")), of(None), of(Some("new"))], [PropertyType::Text; 4]);
        assert_eq!([of(Some("Numeric")), of(Some("Boolean"))], [PropertyType::Number, PropertyType::Boolean]);
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
