//! Which streams and fields a catalog selects, by the rules that Singer taps have in common, and the schema without the
//! deselected fields.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::log;

use super::members::{breadcrumb, entries, flag, member, metadata, properties};

/// Whether an entry selects; `None` where it does not say. `elsewhere` is the user's choice outside of the metadata, in an
/// older form: on the stream or in a schema.
fn decision(entry: &Value, elsewhere: Option<bool>) -> Option<bool> {
    match member(entry, "inclusion").and_then(Value::as_str) {
        Some("unsupported") => Some(false),
        Some("automatic") => Some(true),
        _ => selected(entry).or(elsewhere).or_else(|| member(entry, "selected_by_default").and_then(flag)),
    }
}

/// The member `selected` of a stream, an entry or a schema.
fn selected(object: &Value) -> Option<bool> {
    member(object, "selected").and_then(flag)
}

/// Whether an entry is selected and unsupported at the same time.
pub(super) fn is_refused(entry: &Value) -> bool {
    selected(entry) == Some(true) && member(entry, "inclusion").and_then(Value::as_str) == Some("unsupported")
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
        } else if selected(metadata) == Some(false) && (is_automatic || is_key) {
            kept.push(what());
        }
    }
    let is_automatic = |name: &str| {
        let entry = metadata(stream, &["properties", name]).unwrap_or(&Value::Null);
        member(entry, "inclusion").and_then(Value::as_str) == Some("automatic")
    };
    let fields = stream.get("schema").and_then(properties).into_iter().flatten();
    let off = fields.filter(|(_, field)| selected(field) == Some(false)).map(|(name, _)| name);
    let off: Vec<&String> = off.filter(|name| !kept.contains(name) && (is_key(name) || is_automatic(name))).collect();
    kept.extend(off.into_iter().cloned());
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
    // Meltano and old taps write it on the stream, older ones in its schema; the metadata win.
    let elsewhere = selected(stream).or_else(|| selected(&stream["schema"]));
    let Some(entry) = metadata(stream, &[]) else {
        return elsewhere.unwrap_or(entries(stream).next().is_none());
    };
    let unsupported = member(entry, "inclusion").and_then(Value::as_str) == Some("unsupported");
    match elsewhere.filter(|_| selected(entry).is_none() && !unsupported) {
        Some(selected) => selected,
        None => decision(entry, None).unwrap_or(false),
    }
}

/// The metadata of each field, of two entries the last.
fn metadata_of_fields(stream: &Value) -> HashMap<&str, &Value> {
    let fields = entries(stream).filter_map(|entry| match breadcrumb(entry) {
        [of, Value::String(field)] if of == "properties" => Some((field.as_str(), entry.get("metadata")?)),
        _ => None,
    });
    fields.collect()
}

/// The schema without the deselected fields. Keys and the replication key stay whatever the catalog says.
pub(super) fn pruned(stream: &Value, keys: &[String], replication_key: Option<&str>) -> Result<Value> {
    let mut schema = stream.get("schema").cloned().unwrap_or_default();
    let needed: Vec<&str> = keys.iter().map(String::as_str).chain(replication_key).collect();
    let known = properties(&schema).cloned().unwrap_or_default();
    if let Some(missing) = needed.iter().find(|name| !known.contains_key(**name)) {
        return Err(Error::new(Kind::Config, format!("the key {missing} is not a field of its schema")));
    }
    let metadata = metadata_of_fields(stream);
    let is_kept = |name: &str, field: &Value| {
        let entry = metadata.get(name).copied().unwrap_or(&Value::Null);
        needed.contains(&name) || decision(entry, selected(field)).unwrap_or(true)
    };
    let kept: Map<String, Value> = known.into_iter().filter(|(name, field)| is_kept(name, field)).collect();
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
    let mut in_schema = BTreeMap::new();
    deselected_inside(schema, &mut Vec::new(), &mut in_schema);
    let mut decided = in_schema.clone();
    for entry in entries(stream) {
        let (breadcrumb, path) = (breadcrumb(entry), nested_path(breadcrumb(entry)));
        let elsewhere = path.as_ref().and_then(|path| in_schema.get(path)).copied();
        let decision = entry.get("metadata").and_then(|entry| decision(entry, elsewhere));
        let Some(is_on) = decision.filter(|_| breadcrumb.len() > 2) else { continue };
        match path {
            Some(path) => drop(decided.insert(path, is_on)),
            None if is_on => {}
            None => {
                let text = format!("the breadcrumb {} cannot be deselected: it is no field", Value::from(breadcrumb));
                return Err(Error::new(Kind::Config, text));
            }
        }
    }
    // A field that is deselected as a whole has nothing inside.
    let is_there = |path: &Vec<String>| path.first().is_some_and(|field| schema["properties"].get(field).is_some());
    let off = decided.into_iter().filter(|(path, is_on)| !is_on && is_there(path));
    let paths: Vec<Vec<String>> = off.map(|(path, _)| path).collect();
    paths.iter().for_each(|path| remove(schema, path));
    Ok(paths)
}

/// The stream as one that is selected, wherever it says so.
pub(super) fn select(mut stream: Value) -> Value {
    for entry in stream["metadata"].as_array_mut().into_iter().flatten() {
        if entry["breadcrumb"].as_array().is_some_and(Vec::is_empty) {
            entry["metadata"]["selected"] = Value::Bool(true);
        }
    }
    stream["selected"] = Value::Bool(true);
    stream
}

/// Notes the fields inside other fields that the schema itself deselects. `path` leads to the schema.
fn deselected_inside(schema: &Value, path: &mut Vec<String>, found: &mut BTreeMap<Vec<String>, bool>) {
    let mut schema = schema;
    while let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        schema = items;
    }
    for (name, field) in properties(schema).into_iter().flatten() {
        path.push(name.clone());
        match selected(field) {
            Some(false) if path.len() > 1 => drop(found.insert(path.clone(), false)),
            _ => deselected_inside(field, path, found),
        }
        path.pop();
    }
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
