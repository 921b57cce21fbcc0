//! How much of a stream a run reads, for the streams that are not events: all of it, as a version that replaces the last
//! one, or what changed since the bookmark.

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::singer::catalog::{Method, SelectedStream};
use crate::singer::state::State;
use crate::time::{Micros, parse_rfc3339, to_rfc3339};

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
    ///
    /// # Errors
    /// [`Kind::Config`] when the bookmark is of another project: what is older than it there may be new here.
    pub fn of(context: &Context<'_>, stream: &SelectedStream, usual: Method, state: &State) -> Result<Extent> {
        if stream.replication_method.unwrap_or(usual) == Method::FullTable {
            return Ok(Extent { version: Some(context.now / 1000), since: None });
        }
        check_source(state, stream)?;
        Ok(Extent { version: None, since: bookmark(state, stream) })
    }
}

/// The bookmark of a stream, if it is of the replication key of this run.
#[must_use]
pub fn bookmark(state: &State, stream: &SelectedStream) -> Option<Micros> {
    let bookmark = state.bookmark(&stream.id)?;
    let same = bookmark.get("replication_key").and_then(Value::as_str) == stream.replication_key.as_deref();
    parse_rfc3339(bookmark.get("replication_key_value")?.as_str()?).filter(|_| same)
}

/// A bookmark that does not say which project it is of is taken.
fn check_source(state: &State, stream: &SelectedStream) -> Result<()> {
    let theirs = state.bookmark(&stream.id).and_then(|bookmark| bookmark.get("source")?.as_str());
    match (theirs, stream.source.as_deref()) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            let what = format!("it belongs to {theirs}, and the settings name {ours}; use that project's state");
            Err(Error::new(Kind::Config, format!("state of stream {}: {what}", stream.id)))
        }
        _ => Ok(()),
    }
}

/// Sets the bookmark of a stream: everything before `until` was read.
pub fn set_bookmark(state: &mut State, stream: &SelectedStream, until: Micros) {
    let key = stream.replication_key.as_deref().unwrap_or_default();
    let mut value = json!({"replication_key": key, "replication_key_value": to_rfc3339(until)});
    if let Some(source) = &stream.source {
        value["source"] = json!(source);
    }
    state.set_bookmark(&stream.id, value);
}
