//! How much of a stream a run reads, for the streams that are not events: all of it, as a version that replaces the last
//! one, or what changed since the bookmark.

use serde_json::{Value, json};

use crate::posthog::time::{Micros, parse_rfc3339, to_rfc3339};
use crate::singer::catalog::{Method, SelectedStream};
use crate::singer::state::State;

use super::context::Context;

/// How much of a stream is read.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The version that the records of a whole reading have; none for an incremental one.
    pub version: Option<i64>,
    /// The bookmark of an incremental reading.
    pub since: Option<Micros>,
}

impl Extent {
    /// As the catalog says, else as is usual for the stream.
    #[must_use]
    pub fn of(context: &Context<'_>, stream: &SelectedStream, usual: Method, state: &State) -> Extent {
        match stream.replication_method.unwrap_or(usual) {
            Method::Incremental => Extent { version: None, since: bookmark(state, stream) },
            Method::FullTable => Extent { version: Some(context.now / 1000), since: None },
        }
    }
}

/// The bookmark of a stream, if it is of the replication key of this run.
#[must_use]
pub fn bookmark(state: &State, stream: &SelectedStream) -> Option<Micros> {
    let bookmark = state.bookmark(&stream.id)?;
    let same = bookmark.get("replication_key").and_then(Value::as_str) == stream.replication_key.as_deref();
    parse_rfc3339(bookmark.get("replication_key_value")?.as_str()?).filter(|_| same)
}

/// Sets the bookmark of a stream: everything before `until` was read.
pub fn set_bookmark(state: &mut State, stream: &SelectedStream, until: Micros) {
    let key = stream.replication_key.as_deref().unwrap_or_default();
    let value = json!({"replication_key": key, "replication_key_value": to_rfc3339(until)});
    state.set_bookmark(&stream.id, value);
}
