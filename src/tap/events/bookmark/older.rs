//! States of the component that this program re-creates. By its description they are `{"last_run", "seen_uuids"}`; its
//! driver writes `{"last_timestamp", "last_uuid"}` and `recent_uuids`. Both stand at the root or under `<stream>_state`.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::singer::state::{State, kind};
use crate::time::{FAR_FUTURE, FAR_PAST, Micros, parse_rfc3339};

const TIMES: [&str; 2] = ["last_run", "last_timestamp"];
const LISTS: [&str; 2] = ["seen_uuids", "recent_uuids"];
const LAST_UUID: &str = "last_uuid";
/// Where the older component kept persons. They are read whole here.
const PERSONS: &str = "persons_state";

/// What such a state says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Older {
    /// Up to when events were read.
    pub(super) last_run: Micros,
    /// The last of them, sorted.
    pub(super) seen_uuids: Vec<String>,
}

/// Whether an object has one of the times.
pub(super) fn has_time(object: &Map<String, Value>) -> bool {
    TIMES.iter().any(|name| object.contains_key(*name))
}

/// Whether the root of a state without bookmarks has such a form.
pub(super) fn is_root(state: &State, stream: &str) -> bool {
    let is_object = |name: &str| state.member(name).is_some_and(Value::is_object);
    TIMES.iter().any(|name| state.member(name).is_some()) || is_object(&nested(stream)) || is_object(PERSONS)
}

/// Reads it at the root of a state; none where the root says nothing of this stream, or that nothing was read yet.
pub(super) fn of_root(state: &State, stream: &str) -> Result<Option<Older>> {
    let name = nested(stream);
    let own = match state.member(&name) {
        Some(Value::Object(inner)) => Some(inner),
        Some(other) => return Err(refuse(&name, &format!("is {}, not an object", kind(other)))),
        None => None,
    };
    let (mut object, at_root) = match own {
        Some(inner) => (inner.clone(), &LISTS[..]),
        None => (Map::new(), &[TIMES[0], TIMES[1], LISTS[0], LISTS[1], LAST_UUID][..]),
    };
    for name in at_root {
        if let Some(value) = state.member(name) {
            object.entry(*name).or_insert_with(|| value.clone());
        }
    }
    match own {
        Some(own) if !own.is_empty() && !has_time(own) => Err(refuse(&name, "has no last_run and no last_timestamp")),
        _ if has_time(&object) => of_object(&object),
        _ => Ok(None),
    }
}

/// Reads it from the object that has the time; none where the time says that nothing was read yet.
pub(super) fn of_object(object: &Map<String, Value>) -> Result<Option<Older>> {
    let mut seen_uuids = Vec::new();
    for name in LISTS {
        match object.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(uuids)) => {
                for uuid in uuids {
                    seen_uuids
                        .push(uuid.as_str().ok_or_else(|| refuse(name, "is not a list of texts"))?.to_lowercase());
                }
            }
            Some(other) => return Err(refuse(name, &format!("is {}, not a list of texts", kind(other)))),
        }
    }
    match object.get(LAST_UUID) {
        None | Some(Value::Null) => {}
        Some(Value::String(uuid)) => seen_uuids.push(uuid.to_lowercase()),
        Some(other) => return Err(refuse(LAST_UUID, &format!("is {}, not a text", kind(other)))),
    }
    seen_uuids.sort_unstable();
    seen_uuids.dedup();
    let Some((name, given)) = TIMES.iter().find_map(|name| Some((*name, object.get(*name)?))) else { return Ok(None) };
    if given.is_null() && name == "last_timestamp" && seen_uuids.is_empty() {
        return Ok(None);
    }
    let text = given.as_str().ok_or_else(|| refuse(name, &format!("is {}, not a text", kind(given))))?;
    // The times have no offset; they are UTC.
    let last_run = parse_rfc3339(text).or_else(|| parse_rfc3339(format!("{}Z", text.replace(' ', "T"))));
    let last_run = last_run.filter(|time| (FAR_PAST..=FAR_FUTURE).contains(time));
    let last_run = last_run.ok_or_else(|| refuse(name, "is not a time"))?;
    Ok(Some(Older { last_run, seen_uuids }))
}

/// Removes it from the root, once it stands in a bookmark.
pub(super) fn forget(state: &mut State, stream: &str) {
    log::info("the state has the form of an older component; it is upgraded with this run");
    for name in TIMES.into_iter().chain(LISTS).chain([nested(stream).as_str(), LAST_UUID, PERSONS]) {
        state.remove_member(name);
    }
}

fn nested(stream: &str) -> String {
    format!("{stream}_state")
}

fn refuse(member: &str, what: &str) -> Error {
    Error::new(Kind::Config, format!("state of an older component: `{member}` {what}"))
}
