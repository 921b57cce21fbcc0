//! The Singer state: one JSON object with a bookmark for each stream. Members that this program does not know are kept as
//! they are, because targets and runners replace the whole state.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

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
        State::from_value(value).ok_or_else(|| refuse("it is not a JSON object".to_owned()))
    }

    /// A state from its JSON value. Of a whole STATE message, the value is taken. `None` if it is not an object.
    #[must_use]
    pub fn from_value(value: Value) -> Option<State> {
        let Value::Object(mut object) = value else { return None };
        if object.get("type").and_then(Value::as_str) == Some("STATE") {
            let Some(Value::Object(inner)) = object.remove("value") else { return None };
            object = inner;
        }
        object.get("bookmarks").is_none_or(Value::is_object).then_some(State(object))
    }

    /// The state as a JSON value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// A member of the root.
    #[must_use]
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

    /// The bookmark of a stream; `None` where there is none or an empty one.
    #[must_use]
    pub fn bookmark(&self, stream: &str) -> Option<&Map<String, Value>> {
        self.0.get("bookmarks")?.get(stream)?.as_object().filter(|bookmark| !bookmark.is_empty())
    }

    /// Sets the bookmark of a stream.
    pub fn set_bookmark(&mut self, stream: &str, bookmark: Value) {
        let bookmarks = self.0.entry("bookmarks").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(bookmarks) = bookmarks {
            bookmarks.insert(stream.to_owned(), bookmark);
        }
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
        assert_eq!(state.bookmark("events"), None);
        state.set_bookmark("events", json!({"k": 1}));
        let expected = json!({"z": 1, "bookmarks": {"other": {"x": [1.50]}, "events": {"k": 1}}, "a": null});
        assert_eq!(state.to_value().to_string(), expected.to_string());
    }

    #[test]
    fn a_state_message_is_taken_for_its_value() {
        assert_eq!(
            read(r#"{"type":"STATE","value":{"bookmarks":{"s":{"a":1}}}}"#).unwrap().bookmark("s").unwrap()["a"],
            1
        );
    }
}
