//! The Singer state: one JSON object with a bookmark for each stream. Members that this program does not know are kept as
//! they are, because targets and runners replace the whole state.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// What a refused bookmark leaves to do.
pub const START_OVER: &str =
    "give the last complete state, or remove the bookmark to read the stream from the beginning";

/// A state: what was given, and the bookmarks that were set since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State(Map<String, Value>);

impl State {
    /// Reads a state file.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be read or is not one JSON object. A broken state never means "start over".
    pub fn read(path: &Path) -> Result<State> {
        let refuse = |what: String| {
            let path = path.display();
            Error::new(
                Kind::Config,
                format!("state file {path}: {what}; give the last complete state, or none to start from the beginning"),
            )
        };
        let text = super::read_text(path).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let value = serde_json::from_str(&text).map_err(|e| {
            let whole = if text.trim().is_empty() { "it is empty" } else { "it is not one whole JSON object" };
            refuse(format!("{whole} (line {}, column {})", e.line(), e.column()))
        })?;
        State::from_value(value).map_err(refuse)
    }

    /// A state from its JSON value. A STATE message, and what runners keep a state in, are taken for the state in them.
    ///
    /// # Errors
    /// Says what was found instead of an object with bookmarks.
    pub fn from_value(value: Value) -> std::result::Result<State, String> {
        let object = unwrap(value)?;
        match object.get("bookmarks") {
            None | Some(Value::Object(_)) => Ok(State(object)),
            Some(other) => Err(format!("its member bookmarks is {}, not an object", kind(other))),
        }
    }

    /// The state as a JSON value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// A member of the root.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Sets a member of the root.
    pub fn set_member(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Removes a member of the root.
    pub fn remove_member(&mut self, name: &str) {
        self.0.shift_remove(name);
    }

    /// The names of the members of the root.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The bookmark of a stream; `None` where there is none or an empty one.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is not an object.
    pub fn bookmark(&self, stream: &str) -> Result<Option<&Map<String, Value>>> {
        match self.0.get("bookmarks").and_then(|bookmarks| bookmarks.get(stream)) {
            None => Ok(None),
            Some(Value::Object(bookmark)) => Ok(Some(bookmark).filter(|bookmark| !bookmark.is_empty())),
            Some(other) => {
                let what = format!("its bookmark is {}, not an object; {START_OVER}", kind(other));
                Err(Error::new(Kind::Config, format!("state of stream {stream}: {what}")))
            }
        }
    }

    /// Sets the bookmark of a stream.
    pub fn set_bookmark(&mut self, stream: &str, bookmark: Value) {
        let bookmarks = self.0.entry("bookmarks").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(bookmarks) = bookmarks {
            bookmarks.insert(stream.to_owned(), bookmark);
        }
    }
}

/// The object that a state is, without what runners put around it.
fn unwrap(value: Value) -> std::result::Result<Map<String, Value>, String> {
    let Value::Object(mut object) = value else { return Err(format!("it is {}, not a JSON object", kind(&value))) };
    let wrapper = match object.get("type").and_then(Value::as_str) {
        Some("STATE") => Some("value"),
        _ if object.contains_key("bookmarks") => None,
        Some(_) => None,
        None => ["completed", "singer_state", "value"].into_iter().find(|name| object.contains_key(*name)),
    };
    let Some(name) = wrapper else { return Ok(object) };
    let inner = object.remove(name).unwrap_or_default();
    let (name, inner) = match inner {
        Value::Object(mut completed) if name == "completed" => {
            ("completed.singer_state", completed.remove("singer_state").unwrap_or_default())
        }
        inner => (name, inner),
    };
    unwrap(inner).map_err(|what| format!("its member {name}: {what}"))
}

/// What a JSON value is, for a person.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<State> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        std::fs::write(&path, text).unwrap();
        State::read(&path)
    }

    #[test]
    fn broken_states_are_refused() {
        for text in ["", "  ", "{", "[]", "null", "{\"bookmarks\":1}", "{}{}", "{\"type\":\"STATE\"}"] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{text}");
        }
        assert!(State::read(Path::new("/nonexistent/state")).is_err());
    }

    #[test]
    fn what_is_not_ours_is_carried_through_in_order() {
        let given = json!({"z": 1, "bookmarks": {"other": {"x": [1.50]}, "events": {}}, "a": null});
        let mut state = read(&given.to_string()).unwrap();
        assert_eq!(state.bookmark("events").unwrap(), None);
        state.set_bookmark("events", json!({"k": 1}));
        let expected = json!({"z": 1, "bookmarks": {"other": {"x": [1.50]}, "events": {"k": 1}}, "a": null});
        assert_eq!(state.to_value().to_string(), expected.to_string());
    }

    #[test]
    fn a_state_message_is_taken_for_its_value() {
        assert_eq!(
            read(r#"{"type":"STATE","value":{"bookmarks":{"s":{"a":1}}}}"#).unwrap().bookmark("s").unwrap().unwrap()["a"],
            1
        );
    }
}
