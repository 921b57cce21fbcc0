//! How much of a stream a run reads, for the streams that are not events: all of it, as a version that replaces the last
//! one, or what changed since the bookmark.

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::log;
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

/// The bookmark of a stream, if it is of the replication key of this run, and not of another project.
#[must_use]
pub fn bookmark(state: &State, stream: &SelectedStream) -> Option<Micros> {
    let bookmark = state.bookmark(&stream.id)?;
    let same = bookmark.get("replication_key").and_then(Value::as_str) == stream.replication_key.as_deref();
    let same = same && foreign(state, stream).is_none();
    parse_rfc3339(bookmark.get("replication_key_value")?.as_str()?).filter(|_| same)
}

/// Checks that the bookmark of a stream is of the project that is read; one that does not say is taken.
///
/// # Errors
/// [`Kind::Config`] when it is of another one: what is older than it there may be new here.
pub fn check_source(state: &State, stream: &SelectedStream) -> Result<()> {
    let Some((theirs, ours)) = foreign(state, stream) else { return Ok(()) };
    let what = format!("it belongs to {theirs}, and the settings name {ours}; use that project's state");
    Err(Error::new(Kind::Config, format!("state of stream {}: {what}", stream.id)))
}

/// What the bookmark of a stream belongs to and what is read, where these differ.
fn foreign<'a>(state: &'a State, stream: &'a SelectedStream) -> Option<(&'a str, &'a str)> {
    let theirs = state.bookmark(&stream.id)?.get("source")?.as_str()?;
    let ours = stream.source.as_deref()?;
    (theirs != ours).then_some((theirs, ours))
}

/// Sets the bookmark of a stream: everything before `until` was read.
pub fn set_bookmark(state: &mut State, stream: &SelectedStream, until: Micros) {
    if let Some((theirs, ours)) = foreign(state, stream) {
        let name = &stream.id;
        log::warn(format!("state of stream {name}: its bookmark belongs to {theirs}; {ours} was read from the start"));
    }
    let key = stream.replication_key.as_deref().unwrap_or_default();
    let mut value = json!({"replication_key": key, "replication_key_value": to_rfc3339(until)});
    if let Some(source) = &stream.source {
        value["source"] = json!(source);
    }
    state.set_bookmark(&stream.id, value);
}
