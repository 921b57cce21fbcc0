//! How a given catalog differs from a fresh discovery.

use serde_json::{Map, Value};

use super::selection::stream_is_selected;
use super::{Catalog, member, name, properties};

impl Catalog {
    /// What a fresh discovery of the selected streams has that this catalog has not, and the other way round: one line a
    /// stream, empty when nothing differs. What the user chose (fields, methods) does not count, nor a stream or a field for
    /// which `is_compared` does not hold.
    #[must_use]
    pub fn changes(&self, fresh: &Catalog, is_compared: impl Fn(&str, Option<&str>) -> bool) -> Vec<String> {
        let mut changes = Vec::new();
        for stream in self.streams().iter().filter(|stream| stream_is_selected(stream)) {
            let Some(name) = name(stream).filter(|name| is_compared(name, None)) else { continue };
            let is_compared = |field: &str| is_compared(name, Some(field));
            match fresh.streams().iter().find(|other| super::name(other) == Some(name)) {
                None => changes.push(format!("{name} cannot be read any more")),
                Some(other) => {
                    changes.extend(changed_fields(stream, other, is_compared).map(|what| format!("{name}: {what}")))
                }
            }
        }
        let known: Vec<&str> = self.names().collect();
        changes.extend(fresh.names().filter(|name| !known.contains(name)).map(|name| format!("{name} is new")));
        changes
    }
}

/// How many names a warning lists.
const NAMES_SHOWN: usize = 5;

fn changed_fields(given: &Value, fresh: &Value, is_compared: impl Fn(&str) -> bool) -> Option<String> {
    let empty = Map::new();
    let fields = |stream| -> Map<String, Value> {
        let fields = properties(member(stream, "schema").unwrap_or(&Value::Null)).unwrap_or(&empty);
        fields
            .iter()
            .filter(|(name, _)| is_compared(name))
            .map(|(name, schema)| (name.clone(), schema.clone()))
            .collect()
    };
    let (given, fresh) = (fields(given), fields(fresh));
    let missing = |from: &Map<String, Value>, other: &Map<String, Value>| -> Vec<String> {
        other.keys().filter(|name| !from.contains_key(*name)).cloned().collect()
    };
    let retyped = given.iter().filter(|(name, schema)| fresh.get(*name).is_some_and(|other| other != *schema));
    let parts = [
        ("new", missing(&given, &fresh)),
        ("gone", missing(&fresh, &given)),
        ("of another type", retyped.map(|(name, _)| name.clone()).collect()),
    ];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
        let shown = names.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
        format!("{} {what} ({shown}{more})", names.len())
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
