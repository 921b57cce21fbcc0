//! Which streams and fields a catalog selects, by the rules that Singer taps have in common, and the schema without the
//! deselected fields.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::log;

use super::members::{breadcrumb, entries, flag, member, metadata, properties};

/// Whether an entry selects; `None` where it does not say.
fn decision(entry: &Value) -> Option<bool> {
    let chosen = member(entry, "selected").and_then(flag);
    match member(entry, "inclusion").and_then(Value::as_str) {
        Some("unsupported") => Some(false),
        Some("automatic") => Some(true),
        _ => chosen.or_else(|| member(entry, "selected_by_default").and_then(flag)),
    }
}

/// Whether an entry selects what it calls unsupported.
pub(super) fn is_refused(entry: &Value) -> bool {
    let selected = member(entry, "selected").and_then(flag) == Some(true);
    selected && member(entry, "inclusion").and_then(Value::as_str) == Some("unsupported")
}

/// Warns of choices that do not count, because the catalog does not leave them to the user.
pub(super) fn say_overruled(id: &str, stream: &Value, is_key: impl Fn(&str) -> bool) {
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for entry in entries(stream) {
        let path: Vec<&str> = breadcrumb(entry).iter().filter_map(Value::as_str).collect();
        let Some(metadata) = entry.get("metadata") else { continue };
        let what = || match path.as_slice() {
            [] => "the stream".to_owned(),
            [_, name @ ..] => name.join("."),
        };
        let is_automatic = member(metadata, "inclusion").and_then(Value::as_str) == Some("automatic");
        let is_key = matches!(path.as_slice(), ["properties", name] if is_key(name));
        if is_refused(metadata) {
            refused.push(what());
        } else if member(metadata, "selected").and_then(flag) == Some(false) && (is_automatic || is_key) {
            kept.push(what());
        }
    }
    if !kept.is_empty() {
        let kept = kept.join(", ");
        log::warn(format!(
            "catalog, stream {id}: {kept} cannot be deselected (inclusion automatic, or a key), and is read"
        ));
    }
    if !refused.is_empty() {
        let refused = refused.join(", ");
        log::warn(format!(
            "catalog, stream {id}: {refused} cannot be selected (inclusion unsupported), and is not read"
        ));
    }
}

pub(super) fn stream_is_selected(stream: &Value) -> bool {
    // Old taps and Meltano write it on the stream itself; what stands in the metadata wins.
    let on_stream = member(stream, "selected").and_then(flag);
    let Some(entry) = metadata(stream, &[]) else {
        let any = stream.get("metadata").and_then(Value::as_array).is_some_and(|entries| !entries.is_empty());
        return on_stream.unwrap_or(!any);
    };
    let in_metadata = member(entry, "selected").and_then(flag);
    let unsupported = member(entry, "inclusion").and_then(Value::as_str) == Some("unsupported");
    if let Some(selected) = on_stream.filter(|_| in_metadata.is_none() && !unsupported) {
        return selected;
    }
    decision(entry).unwrap_or(false)
}

/// What the metadata says of each field.
fn decisions(stream: &Value) -> HashMap<&str, Option<bool>> {
    let mut decisions = HashMap::new();
    for entry in entries(stream) {
        if let [of, Value::String(field)] = breadcrumb(entry)
            && of == "properties"
        {
            decisions.entry(field.as_str()).or_insert_with(|| entry.get("metadata").and_then(decision));
        }
    }
    decisions
}

/// The schema without the deselected fields. Keys and the replication key stay whatever the catalog says.
pub(super) fn pruned(stream: &Value, keys: &[String], replication_key: Option<&str>) -> Result<Value> {
    let mut schema = stream.get("schema").cloned().unwrap_or_default();
    let needed: Vec<&str> = keys.iter().map(String::as_str).chain(replication_key).collect();
    let known = properties(&schema).cloned().unwrap_or_default();
    if let Some(missing) = needed.iter().find(|name| !known.contains_key(**name)) {
        return Err(Error::new(Kind::Config, format!("the key {missing} is not a field of its schema")));
    }
    let decisions = decisions(stream);
    let selected = |name: &str| needed.contains(&name) || decisions.get(name).copied().flatten().unwrap_or(true);
    let kept: Map<String, Value> = known.into_iter().filter(|(name, _)| selected(name)).collect();
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name.as_str().is_some_and(|name| kept.contains_key(name)));
    }
    schema["properties"] = Value::Object(kept);
    Ok(schema)
}

/// Takes deselected fields that lie inside other fields out of the schema, and gives their paths. No schema of ours
/// declares such fields, but people write them. Where objects stand in an array, a path goes through all of them.
///
/// # Errors
/// [`Kind::Config`] for a deselected breadcrumb that names no field: its values would be passed on.
pub(super) fn prune_nested(stream: &Value, schema: &mut Value) -> Result<Vec<Vec<String>>> {
    let mut paths = Vec::new();
    for entry in entries(stream) {
        let breadcrumb = breadcrumb(entry);
        if breadcrumb.len() <= 2 || entry.get("metadata").and_then(decision) != Some(false) {
            continue;
        }
        let Some(path) = nested_path(breadcrumb) else {
            let text = format!("the breadcrumb {} cannot be deselected: it is no field", Value::from(breadcrumb));
            return Err(Error::new(Kind::Config, text));
        };
        // A field that is deselected as a whole has nothing inside.
        if path.first().is_some_and(|field| schema["properties"].get(field).is_some()) {
            remove(schema, &path);
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The names in `properties`, name, `properties`, name, with `items` between where there is an array.
fn nested_path(breadcrumb: &[Value]) -> Option<Vec<String>> {
    let mut words = breadcrumb.iter();
    let mut path = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str()? {
            "properties" => path.push(words.next()?.as_str()?.to_owned()),
            "items" => {}
            _ => return None,
        }
    }
    (path.len() > 1).then_some(path)
}

fn remove(schema: &mut Value, path: &[String]) {
    let mut schema = schema;
    while schema.get("items").is_some_and(Value::is_object) {
        schema = &mut schema["items"];
    }
    let Some((field, inside)) = path.split_first() else { return };
    if inside.is_empty() {
        schema
            .get_mut("properties")
            .and_then(Value::as_object_mut)
            .and_then(|fields: &mut Map<_, _>| fields.shift_remove(field));
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != field);
        }
    } else if let Some(schema) = schema.get_mut("properties").and_then(|fields| fields.get_mut(field)) {
        remove(schema, inside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pruned(breadcrumb: Value, entry: Value) -> (Result<Vec<Vec<String>>>, Value) {
        let of = |fields: Value| json!({"type": "object", "required": ["email"], "properties": fields});
        let people = json!({"type": "array", "items": of(json!({"id": {}, "email": {}}))});
        let mut schema = of(json!({"id": {}, "by": of(json!({"id": {}, "email": {}})), "people": people}));
        let stream = json!({"metadata": [{"breadcrumb": breadcrumb, "metadata": entry}]});
        (prune_nested(&stream, &mut schema), schema["properties"].take())
    }

    #[test]
    fn deselected_fields_leave_the_schema_and_are_told() {
        let off = json!({"inclusion": "available", "selected": false});
        let (paths, schema) = pruned(json!(["properties", "by", "properties", "email"]), off.clone());
        assert_eq!(paths.unwrap(), [["by", "email"]]);
        assert_eq!(schema["by"], json!({"type": "object", "required": [], "properties": {"id": {}}}));
        let (paths, schema) = pruned(json!(["properties", "people", "items", "properties", "email"]), off.clone());
        assert_eq!(paths.unwrap(), [["people", "email"]]);
        assert_eq!(schema["people"]["items"]["properties"], json!({"id": {}}));
        // What the schema does not declare is left out all the same.
        let (paths, _) = pruned(json!(["properties", "id", "properties", "x"]), off.clone());
        assert_eq!(paths.unwrap(), [["id", "x"]]);
        let (paths, _) = pruned(json!(["properties", "gone", "properties", "x"]), off.clone());
        assert!(paths.unwrap().is_empty());
        let (paths, _) = pruned(json!(["properties", "by", "properties", "email"]), json!({"selected": true}));
        assert!(paths.unwrap().is_empty());
        for wrong in [json!(["properties", "by", "email"]), json!(["properties", "by", "items"])] {
            assert_eq!(pruned(wrong, off.clone()).0.unwrap_err().kind(), Kind::Config);
        }
    }
}
