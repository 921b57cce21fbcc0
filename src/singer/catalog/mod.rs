//! The catalog: which streams there are, which fields their records have, and which of both a user selected.
//!
//! This tap writes a catalog, people and runners (Meltano) edit it, and old tools have forms of their own. So all forms are
//! read, and [`Catalog::selected`] resolves them once into [`SelectedStream`]s. Nobody looks at metadata later.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::fingerprint;
use crate::log;

use members::{member, metadata, name, properties};
use selection::{is_refused, prune_nested, pruned, say_overruled, stream_is_selected};

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// From the bookmark on.
    Incremental,
    /// From its beginning in every run.
    FullTable,
}

impl Method {
    /// The name in catalogs.
    pub fn name(self) -> &'static str {
        match self {
            Method::Incremental => "INCREMENTAL",
            Method::FullTable => "FULL_TABLE",
        }
    }

    /// Warns that a stream is always read with this method, and not with the `chosen` one.
    pub fn warn_that_always(self, stream: &str, chosen: &str) {
        let advice = match self {
            Method::Incremental => "; to read all of it again, start without its state",
            Method::FullTable => "",
        };
        let name = self.name();
        log::warn(format!("catalog, stream {stream}: it is always read {name}; {chosen} is not used{advice}"));
    }

    fn parse(text: &str) -> Option<Method> {
        [Method::Incremental, Method::FullTable].into_iter().find(|method| method.name().eq_ignore_ascii_case(text))
    }
}

/// A stream as discovery describes it.
#[derive(Clone, Debug)]
pub struct StreamEntry {
    /// Its name: `tap_stream_id` and `stream`.
    pub name: String,
    /// The JSON Schema of its records.
    pub schema: Value,
    /// The fields that identify a record.
    pub key_properties: Vec<String>,
    /// How it is read unless the user says otherwise.
    pub method: Method,
    /// The field that a bookmark of it holds.
    pub replication_key: Option<String>,
    /// The fields that a user may choose as replication key.
    pub valid_replication_keys: Vec<String>,
    /// False where the method is not the user's choice.
    pub method_is_choice: bool,
    /// Read without a catalog, and where a catalog says nothing.
    pub selected_by_default: bool,
    /// Fields that are not selected unless the user says so.
    pub fields_off: Vec<String>,
}

impl StreamEntry {
    fn to_value(&self) -> Value {
        let mut stream = json!({
            "inclusion": "available", "selected-by-default": self.selected_by_default,
            "table-key-properties": self.key_properties, "valid-replication-keys": self.valid_replication_keys,
        });
        if !self.method_is_choice {
            stream["forced-replication-method"] = json!(self.method.name());
        }
        let mut metadata = vec![json!({"breadcrumb": [], "metadata": stream})];
        let is_key = |name: &str| {
            self.key_properties.iter().any(|key| key == name) || self.replication_key.as_deref() == Some(name)
        };
        for name in properties(&self.schema).into_iter().flat_map(Map::keys) {
            let field = if is_key(name) {
                json!({"inclusion": "automatic"})
            } else {
                json!({"inclusion": "available", "selected-by-default": !self.fields_off.contains(name)})
            };
            metadata.push(json!({"breadcrumb": ["properties", name], "metadata": field}));
        }
        let mut value = json!({
            "tap_stream_id": self.name, "stream": self.name, "key_properties": self.key_properties,
            "replication_method": self.method.name(),
        });
        if let Some(key) = &self.replication_key {
            value["replication_key"] = json!(key);
        }
        value["schema"] = self.schema.clone();
        value["metadata"] = Value::Array(metadata);
        value
    }
}

/// A stream that is to be read, with everything that the user chose applied.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedStream {
    /// `tap_stream_id`: which stream it is, and its name in the state.
    pub id: String,
    /// Its name in messages.
    pub name: String,
    /// The JSON Schema without the deselected fields, in the catalog's order.
    pub schema: Value,
    /// The fields that identify a record.
    pub key_properties: Vec<String>,
    /// The field that a bookmark holds.
    pub replication_key: Option<String>,
    /// How it is read, where the catalog says so.
    pub replication_method: Option<Method>,
    /// The deselected fields. An object that holds the same values leaves them out, too.
    pub fields_off: Vec<String>,
    /// The deselected fields inside of fields, each as the names from the outermost field inwards.
    pub nested_off: Vec<Vec<String>>,
    /// The installation and the project that its bookmark belongs to, where they are known.
    pub source: Option<String>,
}

impl SelectedStream {
    /// Keeps the fields for which `is_kept` holds, and gives the names of the others.
    pub fn keep_fields(&mut self, is_kept: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(fields) = self.schema.get_mut("properties").and_then(Value::as_object_mut) else { return Vec::new() };
        let gone: Vec<String> = fields.keys().filter(|name| !is_kept(name)).cloned().collect();
        fields.retain(|name, _| is_kept(name));
        if let Some(Value::Array(required)) = self.schema.get_mut("required") {
            required.retain(|name| name.as_str().is_some_and(&is_kept));
        }
        gone
    }
}

/// A catalog as it was discovered or given.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog(Map<String, Value>);

impl Catalog {
    /// The catalog of these streams. `discovered_at` is the only part that differs between two discoveries of a project
    /// that did not change.
    pub fn discovered(streams: &[StreamEntry], discovered_at: Option<&str>) -> Catalog {
        let streams: Value = streams.iter().map(StreamEntry::to_value).collect();
        let mut root = Map::new();
        if let Some(at) = discovered_at {
            root.insert("discovered_at".to_owned(), json!(at));
            root.insert("fingerprint".to_owned(), json!(fingerprint::of(&streams)));
        }
        root.insert("streams".to_owned(), streams);
        Catalog(root)
    }

    /// Reads a catalog file.
    ///
    /// # Errors
    /// [`Kind::Config`] when the file cannot be read, is cut, or holds no catalog.
    pub fn read(path: &Path) -> Result<Catalog> {
        let refuse = |what: &str| {
            let advice = "make one with --discover";
            Error::new(Kind::Config, format!("catalog file {}: {what}; {advice}", path.display()))
        };
        let text = super::read_text(path).map_err(|e| refuse(&format!("cannot be read: {e}")))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| {
            let whole = if text.trim().is_empty() { "it is empty" } else { "it is not one whole JSON object" };
            refuse(&format!("{whole} (line {}, column {})", e.line(), e.column()))
        })?;
        let Value::Object(root) = value else { return Err(refuse("it is not a JSON object")) };
        let Some(streams) = root.get("streams").and_then(Value::as_array) else {
            return Err(refuse("it has no list `streams`"));
        };
        for (at, stream) in streams.iter().enumerate() {
            if name(stream).is_none() {
                return Err(refuse(&format!("stream number {} has no tap_stream_id", at + 1)));
            }
            if properties(stream.get("schema").unwrap_or(&Value::Null)).is_none() {
                let name = name(stream).unwrap_or_default();
                return Err(refuse(&format!("stream {name} has no schema with properties")));
            }
        }
        Ok(Catalog(root))
    }

    /// The catalog as a JSON value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The fingerprint that was written when it was discovered.
    pub fn fingerprint(&self) -> Option<&str> {
        self.0.get("fingerprint")?.as_str()
    }

    fn streams(&self) -> &[Value] {
        self.0.get("streams").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The names of all fields of a stream, selected or not.
    pub fn fields(&self, stream: &str) -> impl Iterator<Item = &str> {
        let given = self.streams().iter().filter(move |value| name(value) == Some(stream));
        given.filter_map(|value| properties(value.get("schema")?)).flat_map(Map::keys).map(String::as_str)
    }

    /// The same catalog with these streams selected and no other; `None` when one of them is not there.
    pub fn only(&self, streams: &[impl AsRef<str>]) -> Option<Catalog> {
        let mut root = self.0.clone();
        let kept = streams.iter().map(|stream| {
            let found = self.streams().iter().find(|value| name(value) == Some(stream.as_ref()))?;
            Some(selection::select(found.clone()))
        });
        root.insert("streams".to_owned(), Value::Array(kept.collect::<Option<_>>()?));
        Some(Catalog(root))
    }

    /// The differences between this catalog and a fresh discovery of its selected streams: one line for each stream. The
    /// choices of the user (fields, methods) are no differences, and streams and fields for which `is_compared` does not
    /// hold are not looked at.
    pub fn changes(&self, fresh: &Catalog, is_compared: impl Fn(&str, Option<&str>) -> bool) -> Vec<String> {
        changes::changes(self.streams(), fresh.streams(), is_compared)
    }

    /// The selected streams in the catalog's order.
    ///
    /// # Errors
    /// [`Kind::Config`] for a selected stream whose keys or replication method cannot be, or that is selected twice: one
    /// bookmark cannot serve both. So for two of one name: a new version of one would replace the records of the other.
    pub fn selected(&self) -> Result<Vec<SelectedStream>> {
        let mut selected: Vec<SelectedStream> = Vec::new();
        for stream in self.streams() {
            let Some(id) = name(stream) else { continue };
            if stream_is_selected(stream) {
                if selected.iter().any(|known| known.id == id) {
                    let text = format!("catalog: the stream {id} stands there twice; deselect one of the two");
                    return Err(Error::new(Kind::Config, text));
                }
                let wrong = |e: Error| e.context(format!("catalog, stream {id}"));
                let stream = resolve(id, stream).map_err(wrong)?;
                if let Some(other) = selected.iter().find(|known| known.name == stream.name) {
                    let text =
                        format!("catalog: the streams {} and {id} have one name, their member `stream`", other.id);
                    return Err(Error::new(Kind::Config, text));
                }
                selected.push(stream);
            } else if metadata(stream, &[]).is_some_and(is_refused) {
                log::warn(format!(
                    "catalog, stream {id}: it cannot be selected (inclusion unsupported), and is not read"
                ));
            }
        }
        Ok(selected)
    }
}

fn resolve(id: &str, stream: &Value) -> Result<SelectedStream> {
    let nothing = Value::Null;
    let entry = metadata(stream, &[]).unwrap_or(&nothing);
    let key_properties = key_properties(id, stream, entry)?;
    let chosen = |name: &str| member(entry, name).or_else(|| member(stream, name)).and_then(Value::as_str);
    let replication_key = chosen("replication_key").map(str::to_owned);
    let is_key = |name: &str| key_properties.iter().any(|key| key == name) || replication_key.as_deref() == Some(name);
    say_overruled(id, stream, is_key);
    let mut schema = pruned(stream, &key_properties, replication_key.as_deref())?;
    let nested_off = prune_nested(stream, &mut schema)?;
    let is_off = |name: &&String| schema["properties"].get(name.as_str()).is_none();
    let all = stream.get("schema").and_then(properties).into_iter().flat_map(Map::keys);
    let fields_off = all.filter(is_off).cloned().collect();
    let forced = member(entry, "forced_replication_method").and_then(Value::as_str);
    let replication_method = method(id, forced, chosen("replication_method"))?;
    let name = stream.get("stream").and_then(Value::as_str).unwrap_or(id).to_owned();
    let id = id.to_owned();
    Ok(SelectedStream {
        id,
        name,
        schema,
        key_properties,
        replication_key,
        replication_method,
        fields_off,
        nested_off,
        source: None,
    })
}

/// The method of a stream. A forced one wins over the user's choice.
fn method(id: &str, forced: Option<&str>, chosen: Option<&str>) -> Result<Option<Method>> {
    let Some(text) = forced.or(chosen) else { return Ok(None) };
    if text.eq_ignore_ascii_case("LOG_BASED") {
        log::warn(format!(
            "catalog, stream {id}: replication-method LOG_BASED is not used; no stream of PostHog has it"
        ));
        return Ok(None);
    }
    let Some(method) = Method::parse(text) else {
        let text = format!("replication-method {text} is not INCREMENTAL or FULL_TABLE");
        return Err(Error::new(Kind::Config, text));
    };
    if let Some(chosen) = chosen.filter(|chosen| !chosen.eq_ignore_ascii_case(text)) {
        method.warn_that_always(id, chosen);
    }
    Ok(Some(method))
}

/// The key properties. `table-key-properties` of the metadata win, because a runner's configuration can set them.
fn key_properties(id: &str, stream: &Value, entry: &Value) -> Result<Vec<String>> {
    let list = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let read = |value: Option<&Value>| match value {
        None => Ok(None),
        Some(value) => list(value)
            .map(Some)
            .ok_or_else(|| Error::new(Kind::Config, "its key properties are not a list of field names")),
    };
    let on_stream = read(member(stream, "key_properties"))?;
    let in_metadata = read(member(entry, "table_key_properties"))?;
    if let (Some(stream), Some(metadata)) = (&on_stream, &in_metadata)
        && stream != metadata
    {
        log::warn(format!("catalog, stream {id}: table-key-properties {metadata:?} are used, key_properties are not"));
    }
    Ok(in_metadata.or(on_stream).unwrap_or_default())
}

mod changes;
mod members;
mod selection;

#[cfg(test)]
mod tests;
