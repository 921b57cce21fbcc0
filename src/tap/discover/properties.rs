//! The columns that properties become: from the project's property definitions, or from a sample of events (`sample.rs`)
//! where the key may not read definitions.
//!
//! No data depends on columns: a property without a column, or a value that its column cannot hold, goes into the unmapped
//! object. So a list that is cut, or a sample that misses a property, costs convenience and never data.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::log;
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::http::client::Client;
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::rest;
use crate::singer::catalog::StreamEntry;
use crate::tap::stream::{List, fields};

/// Definitions of one answer. Large, because discovery is to end within 20 requests; a server may give fewer.
const DEFINITIONS_A_PAGE: u32 = 1000;
/// Attempts at a page of definitions.
const ATTEMPTS: u32 = 2;

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
    /// The number of items that came, and the definitions among them by id.
    items: u64,
    read: BTreeMap<String, (String, PropertyType)>,
    goes_on: bool,
    is_whole: bool,
}

impl<'a> Definitions<'a> {
    fn of(client: &'a Client, retry_policy: &RetryPolicy, list: &List, kind: &'static str) -> Definitions<'a> {
        let path = list.full_path(client.options().project_id);
        let query = [("type".to_owned(), kind.to_owned())];
        let list = rest::ListReader::new(client, path, &query, list.class, DEFINITIONS_A_PAGE);
        let list = list.dispensable(retry_policy.at_most(ATTEMPTS));
        Definitions { kind, list, items: 0, read: BTreeMap::new(), goes_on: true, is_whole: false }
    }

    fn read_page(&mut self) -> Result<(), Fault> {
        let read = &mut self.read;
        let page = self.list.next_page(&mut |item| {
            let Ok(Definition { id, name, property_type }) = serde_json::from_slice(item) else { return Ok(false) };
            Ok(read.insert(id, (name, PropertyType::of_definition(property_type.as_deref()))).is_none())
        })?;
        match page {
            Some(came) => self.items += came,
            None => (self.goes_on, self.is_whole) = (false, true),
        }
        Ok(())
    }

    /// The columns of at most `max` properties.
    fn chosen(self, max: usize) -> Properties {
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
        let mut properties = Properties::new();
        let count = self.read.len();
        for (name, kind) in self.read.into_values() {
            if properties.len() == max {
                let of = self.kind;
                log::info(format!(
                    "{max} of {count} {of} properties have columns (max_property_columns); the others are in the unmapped \
                     object"
                ));
                break;
            }
            properties.entry(name).or_insert(kind);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_definitions() {
        let of = |name| PropertyType::of_definition(name);
        assert_eq!([of(Some("String")), of(Some("DateTime")), of(None), of(Some("new"))], [PropertyType::Text; 4]);
        assert_eq!([of(Some("Numeric")), of(Some("Boolean"))], [PropertyType::Number, PropertyType::Boolean]);
    }
}
