//! The columns that properties become: from the project's property definitions, or from a sample of events where the key
//! may not read definitions.
//!
//! Columns decide nothing about what is kept: a property without a column, or a value that its column cannot hold, goes
//! into the unmapped object. So a list that is cut, or a sample that missed something, costs convenience and never data.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::log;
use crate::posthog::body::BodyLimit;
use crate::posthog::client::{Client, Query, RateClass};
use crate::posthog::fault::Fault;
use crate::posthog::hogql;
use crate::posthog::page::Page;
use crate::posthog::rest::List;
use crate::posthog::time::{DAY_US, Day, Micros};

/// Definitions of one answer. Large, because discovery is to end within 20 requests.
const DEFINITIONS_A_PAGE: u32 = 1000;
/// Answers that are read for one kind of definitions.
const DEFINITION_PAGES: usize = 5;
const SAMPLE_DAYS: i64 = 3;
const SAMPLE_BYTES: usize = 64 * 1024 * 1024;

/// What a column of a property holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    /// Strings, times, and what is not known.
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
    #[must_use]
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

/// Reads the definitions of the properties of `kind` (`event`, `person`), at most `max` of them: the oldest, whose ids sort
/// first, so that a property that appears later never takes the column of another.
///
/// # Errors
/// The fault of a request.
pub fn defined(client: &Client, kind: &str, max: usize) -> Result<Properties, Fault> {
    let path = format!("api/projects/{}/property_definitions/", client.options().project_id);
    let query = [("type".to_owned(), kind.to_owned())];
    let mut list = List::new(client, path, &query, RateClass::Lists, DEFINITIONS_A_PAGE);
    let mut definitions: Vec<Definition> = Vec::new();
    for _ in 0..DEFINITION_PAGES {
        let Some(page) = list.next_page()? else { break };
        definitions.extend(page.iter().filter_map(|item| serde_json::from_str(item.get()).ok()));
    }
    definitions.sort_by(|a, b| a.id.cmp(&b.id));
    let mut properties = Properties::new();
    let count = definitions.len();
    for definition in definitions {
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
    Ok(properties)
}

/// Looks at the properties of a few events of each name in the days before `now`: those of the event, and those of its
/// person. Gives at most `max` of each.
///
/// # Errors
/// The fault of the query.
pub fn sampled(client: &Client, max: usize, now: Micros) -> Result<[Properties; 2], Fault> {
    // One part in 16 of the key's hash: whole days are cheap to prune to, and everybody's events look alike.
    let mut samples = sample(client, now, 1 << 60)?;
    if samples[0].documents == 0 {
        samples = sample(client, now, u64::MAX)?;
    }
    Ok(samples.map(|sample| sample.kinds.into_iter().take(max).map(|(name, seen)| (name, seen.kind())).collect()))
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

fn sample(client: &Client, now: Micros, below_hash: u64) -> Result<[Sample; 2], Fault> {
    // Whole days that are over: the answer is the same until the next day begins.
    let until = Day::of(now).start();
    let [since, until] = [until - SAMPLE_DAYS * DAY_US, until].map(hogql::datetime);
    let sql = format!(
        "SELECT properties AS properties, poe.properties AS person_properties FROM events WHERE timestamp >= {since} AND \
         timestamp < {until} AND cityHash64(distinct_id) <= {below_hash} ORDER BY toDate(timestamp), event, \
         cityHash64(distinct_id), timestamp, uuid LIMIT 20 BY event LIMIT 2000"
    );
    let mut on_growth = |_| Ok(());
    let body = BodyLimit { max_bytes: SAMPLE_BYTES, buffer: Vec::new(), on_growth: &mut on_growth };
    client.query(&Query { sql: &sql, name: "sample of properties" }, body, |answer| {
        let page = Page::parse(answer.body, &["properties", "person_properties"]).map_err(Fault::untrusted)?;
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
