//! The members of a stream in a catalog. People and old tools write them in several forms, and all of them are read.

use serde_json::{Map, Value};

/// The name of a stream: its `tap_stream_id`, else its `stream`.
pub(super) fn name(stream: &Value) -> Option<&str> {
    member(stream, "tap_stream_id").or_else(|| member(stream, "stream"))?.as_str().filter(|name| !name.is_empty())
}

/// The fields of a schema.
pub(super) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// A member by its name with underscores or with dashes.
pub(super) fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.get(name.replace('_', "-"))).filter(|value| !value.is_null())
}

/// A flag, also as the text that some hand-made catalogs hold.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The entries of its metadata.
pub(super) fn entries(stream: &Value) -> impl Iterator<Item = &Value> {
    stream.get("metadata").and_then(Value::as_array).into_iter().flatten()
}

/// The path of the stream or field that an entry is about; the stream's is empty.
pub(super) fn breadcrumb(entry: &Value) -> &[Value] {
    entry.get("breadcrumb").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The metadata of a breadcrumb, of two entries the last; `None` where there is no entry for it.
pub(super) fn metadata<'a>(stream: &'a Value, breadcrumb: &[&str]) -> Option<&'a Value> {
    let is_meant = |entry: &&Value| {
        self::breadcrumb(entry).iter().map(Value::as_str).eq(breadcrumb.iter().map(|part| Some(*part)))
    };
    entries(stream).filter(is_meant).last()?.get("metadata")
}
