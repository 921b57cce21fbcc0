//! Fields inside of fields that a catalog deselects. No schema of ours declares such fields, but people write them.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

use super::catalog::decision;

/// Takes the deselected fields inside of the fields of `schema` out of it, and gives their paths. Where objects stand in
/// an array, a path goes through all of them.
///
/// # Errors
/// [`Kind::Config`] for a deselected breadcrumb that names no field: what it means would be passed on.
pub(super) fn prune(stream: &Value, schema: &mut Value) -> Result<Vec<Vec<String>>> {
    let mut paths = Vec::new();
    for entry in stream.get("metadata").and_then(Value::as_array).into_iter().flatten() {
        let breadcrumb = entry.get("breadcrumb").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if breadcrumb.len() <= 2 || entry.get("metadata").and_then(decision) != Some(false) {
            continue;
        }
        let Some(path) = path(breadcrumb) else {
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
fn path(breadcrumb: &[Value]) -> Option<Vec<String>> {
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
        (prune(&stream, &mut schema), schema["properties"].take())
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
