//! How much of a stream a run reads, for the streams that are not events: all of it, as a version that replaces the last
//! one, or what changed since the bookmark. And whose state a state is.

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::posthog::http::client::Options;
use crate::singer::catalog::{Method, SelectedStream};
use crate::singer::state::{START_OVER, State, kind};
use crate::time::{FAR_FUTURE, FAR_PAST, Micros, parse_rfc3339, to_rfc3339};

use super::context::Context;

/// The member of the state's root, and of each bookmark, that names the project.
pub const SOURCE: &str = "source";

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
        Ok(Replication::Incremental { since: bookmark_of(state, stream)? })
    }

    /// The version of the records; none for an incremental reading.
    pub fn version(self) -> Option<i64> {
        match self {
            Replication::Full { version } => Some(version),
            Replication::Incremental { .. } => None,
        }
    }

    /// From when on changes are read; none for everything.
    pub fn since(self) -> Option<Micros> {
        match self {
            Replication::Full { .. } => None,
            Replication::Incremental { since } => since,
        }
    }
}

/// What a state belongs to: the installation and the project.
pub fn source(options: &Options) -> String {
    let base = options.base.to_string();
    let place = base.split_once("://").map_or(base.as_str(), |(_, place)| place);
    // The old name of the US cloud.
    let place = if place == "app.posthog.com" { "us.posthog.com" } else { place };
    format!("{place}/{}", options.project_id)
}

/// Refuses what belongs to another project than that of the settings.
///
/// # Errors
/// Says whose it is, and how it is kept where the project moved to another address.
pub fn refuse_foreign(theirs: &str, ours: &str) -> std::result::Result<(), String> {
    if theirs == ours {
        return Ok(());
    }
    Err(format!(
        "it belongs to {theirs}, and the settings name {ours}; use that project's state. If the project only moved to another \
         address, write {ours} for {theirs} everywhere in the state"
    ))
}

/// The bookmark of a stream that is about to be read incrementally.
///
/// # Errors
/// Those of [`bookmark`].
pub fn bookmark_of(state: &State, stream: &SelectedStream) -> Result<Option<Micros>> {
    bookmark(state, &stream.id, stream.replication_key.as_deref(), stream.source.as_deref())
}

/// The bookmark of a stream other than `events`. Without a replication key the stream is read whole: its bookmark is only
/// looked at.
///
/// # Errors
/// [`Kind::Config`] for a bookmark that this program did not write, of another replication key, or of another project than
/// `source`. A bookmark that does not say which project it is of is taken.
pub fn bookmark(
    state: &State,
    stream: &str,
    replication_key: Option<&str>,
    source: Option<&str>,
) -> Result<Option<Micros>> {
    let Some(bookmark) = state.bookmark(stream)? else { return Ok(None) };
    let refuse = |what: String| Error::new(Kind::Config, format!("state of stream {stream}: {what}"));
    let text = |name: &str| match bookmark.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(refuse(format!("its member {name} is {}, not a text; {START_OVER}", kind(other)))),
    };
    if let (Some(theirs), Some(ours)) = (text(SOURCE)?, source) {
        refuse_foreign(theirs, ours).map_err(refuse)?;
    }
    let lacks = |name: &str| refuse(format!("its bookmark has no member {name}; {START_OVER}"));
    let key = text("replication_key")?.ok_or_else(|| lacks("replication_key"))?;
    let value = text("replication_key_value")?.ok_or_else(|| lacks("replication_key_value"))?;
    let value = parse_rfc3339(value).filter(|time| (FAR_PAST..=FAR_FUTURE).contains(time));
    let value = value.ok_or_else(|| {
        let years = "a time of the years 1970 to 2149";
        refuse(format!("its member replication_key_value is not {years}; {START_OVER}"))
    })?;
    match replication_key {
        Some(ours) if key != ours => Err(refuse(format!(
            "its member replication_key is not {ours}, by which this run reads; set the replication-key back in the catalog, \
             or remove the bookmark to read the stream from the beginning"
        ))),
        _ => Ok(Some(value)),
    }
}

/// Sets the bookmark of a stream: everything before `until` was read.
pub fn set_bookmark(state: &mut State, stream: &SelectedStream, until: Micros) {
    let key = stream.replication_key.as_deref().unwrap_or_default();
    let mut value =
        json!({"replication_key": key, "replication_key_value": to_rfc3339(until.clamp(FAR_PAST, FAR_FUTURE))});
    if let Some(source) = &stream.source {
        value[SOURCE] = json!(source);
    }
    state.set_bookmark(&stream.id, value);
}
