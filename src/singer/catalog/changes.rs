//! How a given catalog differs from a fresh discovery.

use serde_json::{Map, Value};

use super::members::{member, name, properties};
use super::selection::stream_is_selected;

/// The differences between the selected streams of the `given` catalog and a `fresh` discovery.
pub(super) fn changes(
    given: &[Value],
    fresh: &[Value],
    is_compared: impl Fn(&str, Option<&str>) -> bool,
) -> Vec<String> {
    let mut changes = Vec::new();
    for stream in given.iter().filter(|stream| stream_is_selected(stream)) {
        let Some(id) = name(stream).filter(|id| is_compared(id, None)) else { continue };
        let is_compared = |field: &str| is_compared(id, Some(field));
        match fresh.iter().find(|other| name(other) == Some(id)) {
            None => changes.push(format!("{id} cannot be read any more")),
            Some(other) => {
                changes.extend(changed_fields(stream, other, is_compared).map(|what| format!("{id}: {what}")))
            }
        }
    }
    let known: Vec<&str> = given.iter().filter_map(name).collect();
    changes.extend(fresh.iter().filter_map(name).filter(|id| !known.contains(id)).map(|id| format!("{id} is new")));
    changes
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
