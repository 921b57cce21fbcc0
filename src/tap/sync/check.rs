//! The state that a run is given, checked as a whole before the first request and before anything is printed: for every
//! selected stream, also for those that are read whole. Bookmarks of streams that are not selected are carried along.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::singer::state::{State, kind};

use crate::tap::context::Context;
use crate::tap::events::bookmark::{Bookmark, is_of_the_older_component};
use crate::tap::events::replication_key::check_half_done;
use crate::tap::replication::{SOURCE, bookmark, refuse_foreign, source};
use crate::tap::sink::REQUESTS;
use crate::tap::stream::{STREAMS, Source, Stream};

/// Most members of a state that is refused are named.
const NAMED: usize = 5;
const LONGEST_NAME: usize = 40;

/// Checks a state. Of each selected stream, the replication key is given; none where the stream is read whole.
///
/// # Errors
/// [`Kind::Config`] for a state that this program did not write, that is of another project, or whose half done run began
/// with other settings.
pub fn check(context: &Context<'_>, state: &State, streams: &[(&'static Stream, Option<String>)]) -> Result<()> {
    check_root(state)?;
    let ours = source(context.client.options());
    for (stream, replication_key) in streams {
        match stream.source {
            Source::Events => {
                let half_done = Bookmark::read(state, stream.name, &ours)?.filter(|bookmark| bookmark.run.is_some());
                let chosen = replication_key.as_deref().unwrap_or_default();
                half_done.map_or(Ok(()), |bookmark| check_half_done(&bookmark, &context.config.events, chosen))?;
            }
            _ => drop(bookmark(state, stream.name, replication_key.as_deref(), Some(&ours))?),
        }
    }
    check_project(state, &ours)
}

fn refuse(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Config, format!("state: {what}"))
}

/// A root without bookmarks is empty, or has what older programs and runs without a bookmark leave there.
fn check_root(state: &State) -> Result<()> {
    let is_ours = |name: &&str| [SOURCE, REQUESTS].contains(name);
    let others: Vec<&str> = state.members().filter(|name| !is_ours(name)).collect();
    if others.is_empty() || others.contains(&"bookmarks") || is_of_the_older_component(state) {
        return Ok(());
    }
    let names = others.iter().take(NAMED).map(|name| name.chars().take(LONGEST_NAME).collect());
    let names = names.collect::<Vec<String>>().join(", ");
    let more = if others.len() > NAMED { " and more" } else { "" };
    Err(refuse(format!(
        "no bookmarks; it has {names}{more}. Give the last complete state, or none to start from the beginning"
    )))
}

/// The project stands at the root. A state from before that is known by its bookmarks.
fn check_project(state: &State, ours: &str) -> Result<()> {
    match state.member(SOURCE) {
        Some(Value::String(theirs)) => refuse_foreign(theirs, ours).map_err(refuse),
        Some(other) => Err(refuse(format!("its member {SOURCE} is {}, not a text", kind(other)))),
        None => {
            let bookmarks = STREAMS.iter().filter_map(|stream| state.bookmark(stream.name).ok()?);
            let mut sources = bookmarks.filter_map(|bookmark| bookmark.get(SOURCE)?.as_str());
            sources.try_for_each(|theirs| refuse_foreign(theirs, ours).map_err(refuse))
        }
    }
}
