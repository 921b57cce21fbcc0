//! How much of a stream a run reads, for the streams that are not events: all of it, as a version that replaces the last
//! one, or what changed since the bookmark. And whose state a state is.

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::posthog::http::client::Options;
use crate::singer::catalog::{Method, SelectedStream};
use crate::singer::state::State;
use crate::time::{Micros, parse_rfc3339, to_rfc3339};

use super::context::Context;

/// How much of a stream is read.
#[derive(Clone, Copy, Debug)]
pub enum Replication {
    /// All of it. Its records have this version, which replaces the last one.
    Full {
        /// The version.
        version: i64,
    },
    /// What changed since the bookmark; all of it where there is none.
    Incremental {
        /// The bookmark.
        since: Option<Micros>,
    },
}

impl Replication {
    /// As the catalog says, else as is usual for the stream.
    ///
    /// # Errors
    /// [`Kind::Config`] when the bookmark is of another project: what is older than it there may be new here.
    pub fn of(context: &Context<'_>, stream: &SelectedStream, usual: Method, state: &State) -> Result<Replication> {
        if stream.replication_method.unwrap_or(usual) == Method::FullTable {
            return Ok(Replication::Full { version: context.now / 1000 });
        }
        check_source(state, stream)?;
        Ok(Replication::Incremental { since: bookmark(state, stream) })
    }

    /// The version of the records; none for an incremental reading.
    #[must_use]
    pub fn version(self) -> Option<i64> {
        match self {
            Replication::Full { version } => Some(version),
            Replication::Incremental { .. } => None,
        }
    }

    /// From when on changes are read; none for everything.
    #[must_use]
    pub fn since(self) -> Option<Micros> {
        match self {
            Replication::Full { .. } => None,
            Replication::Incremental { since } => since,
        }
    }
}

/// What a state belongs to: the installation and the project.
#[must_use]
pub fn source(options: &Options) -> String {
    let base = options.base.to_string();
    let place = base.split_once("://").map_or(base.as_str(), |(_, place)| place);
    // The old name of the US cloud.
    let place = if place == "app.posthog.com" { "us.posthog.com" } else { place };
    format!("{place}/{}", options.project_id)
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
