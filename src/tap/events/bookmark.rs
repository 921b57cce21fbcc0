//! The bookmark of `events`: where the last finished run ended, what it delivered of the coming overlap, and, while a run is
//! under way, the closed set that it reads and how far it came. A kill at any instant resumes the same closed set.

mod cursor;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::fingerprint;
use crate::log;
use crate::posthog::query::hogql::{Cursor, Key, Range};
use crate::singer::state::State;
use crate::time::{Day, Micros, parse_rfc3339, to_rfc3339};

use super::arrivals::ArrivalCounts;
use super::overlap::Overlap;
use super::overlap::form_1;
use crate::tap::config::EventsConfig;

/// The form of the bookmark that this program writes.
const FORM: u32 = 2;

/// What the rows of a run are chosen by. A change of it makes a cursor meaningless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// `initial_since` as configured; none for the default.
    pub initial_since: Option<String>,
    /// `until` as configured.
    pub until: Option<String>,
    /// A hash of the sorted `event_types`; none for all.
    pub event_types: Option<String>,
}

impl Filters {
    /// The settings in which two sets of filters differ.
    #[must_use]
    pub fn differences(&self, other: &Filters) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.initial_since != other.initial_since {
            names.push("initial_since");
        }
        if self.until != other.until {
            names.push("until");
        }
        if self.event_types != other.event_types {
            names.push("event_types");
        }
        names
    }
}

/// The filters of the settings, in the form that the state keeps.
#[must_use]
pub fn filters(config: &EventsConfig) -> Filters {
    let mut names = config.event_types.clone();
    names.sort_unstable();
    Filters {
        initial_since: (!config.since_is_default).then(|| to_rfc3339(config.since)),
        until: config.until.map(to_rfc3339),
        event_types: (!names.is_empty()).then(|| fingerprint::of(&json!(names))),
    }
}

/// What is read in one go: a closed set, or the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRange {
    /// First `timestamp`, microseconds.
    pub since: Micros,
    /// First `timestamp` behind the set.
    pub until: Micros,
    /// First arrival; none for any.
    pub arrived_from: Option<Micros>,
    /// First arrival behind the set: the horizon.
    pub arrived_until: Option<Micros>,
    /// Where reading goes on; none at the start.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "self::cursor")]
    pub cursor: Option<Cursor>,
}

impl ReadRange {
    /// Where reading starts or goes on.
    #[must_use]
    pub fn start(&self) -> Cursor {
        let first = || Cursor::At(Key::day_start(Day::of(self.since)));
        self.cursor.clone().unwrap_or_else(first)
    }

    /// The same as a query asks for it.
    #[must_use]
    pub fn asked(&self, config: &EventsConfig) -> Range {
        Range {
            since: self.since,
            until: self.until,
            created_from: self.arrived_from,
            created_until: self.arrived_until,
            event_types: config.event_types.clone(),
        }
    }
}

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The horizon, microseconds.
    pub horizon: Micros,
    /// Hash of the asked columns.
    pub columns: String,
    /// What is still to be read, the current range first.
    #[serde(rename = "passes")]
    pub ranges: Vec<ReadRange>,
    /// What was delivered of the coming overlap so far.
    pub overlap: Overlap,
    /// What this run counts by arrival.
    #[serde(rename = "ledger")]
    pub arrivals: ArrivalCounts,
}

/// Everything that is kept between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The form of this object.
    pub form: u32,
    /// Host and project that the rows came from.
    pub source: String,
    /// `created_at`, or `timestamp` where arrival times cannot be used.
    pub replication_key: String,
    /// The horizon of the last finished run, RFC 3339; the Singer name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_key_value: Option<String>,
    /// The first `timestamp` of the first run: the default of `initial_since` is relative to that run. Microseconds.
    pub since: Option<Micros>,
    /// The filters of the last run.
    pub filters: Filters,
    /// Finished runs. It makes each finished run end in a new state, so a target can tell them apart.
    pub runs: u64,
    /// What the last finished run delivered of the overlap, and where that starts; none before the first run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// uuids delivered of the overlap, from a state of the component that came before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_uuids: Vec<String>,
    /// Arrivals that the last finished run counted.
    #[serde(default, rename = "ledger")]
    pub arrivals: ArrivalCounts,
    /// The run that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

impl Bookmark {
    /// The bookmark before the first run.
    #[must_use]
    pub fn new(source: String, replication_key: &str) -> Bookmark {
        Bookmark {
            form: FORM,
            source,
            replication_key: replication_key.to_owned(),
            replication_key_value: None,
            since: None,
            filters: Filters::default(),
            runs: 0,
            overlap: None,
            seen_uuids: Vec::new(),
            arrivals: ArrivalCounts::default(),
            run: None,
        }
    }

    /// Reads the bookmark of `stream` out of a state; `None` when there is none.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is of a newer form, damaged, or of another project: it is refused, never ignored.
    pub fn read(state: &State, stream: &str, source: &str) -> Result<Option<Bookmark>> {
        let refuse = |what: String| Error::new(Kind::Config, format!("state of stream {stream}: {what}"));
        let Some(object) = state.bookmark(stream) else {
            return seed_form(state, stream).map(|seed| upgrade(&seed, source)).transpose();
        };
        if object.contains_key("last_run") {
            return upgrade(object, source).map(Some);
        }
        let damaged = |what: &str| refuse(format!("it is damaged ({what}); give the last complete state"));
        let object = match object.get("form").and_then(Value::as_u64) {
            Some(1) => form_1::upgrade(object.clone()).ok_or_else(|| damaged("its list of delivered events"))?,
            Some(form) if form == u64::from(FORM) => object.clone(),
            Some(form) if form > u64::from(FORM) => {
                return Err(refuse(format!("it was written by a newer version (form {form}); use that version")));
            }
            _ => return Err(refuse("it is not a bookmark of this program; remove it to start over".to_owned())),
        };
        let bookmark: Bookmark = serde_json::from_value(Value::Object(object)).map_err(|e| damaged(&e.to_string()))?;
        if bookmark.source != source {
            let (theirs, ours) = (&bookmark.source, source);
            return Err(refuse(format!(
                "it belongs to {theirs}, and the settings name {ours}; use that project's state"
            )));
        }
        if bookmark.last_run().is_none() && bookmark.replication_key_value.is_some() {
            return Err(refuse("its `replication_key_value` is not a time".to_owned()));
        }
        Ok(Some(bookmark))
    }

    /// The horizon of the last finished run.
    #[must_use]
    pub fn last_run(&self) -> Option<Micros> {
        self.replication_key_value.as_deref().and_then(parse_rfc3339)
    }

    /// The bookmark as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// Ends the run that is under way: its horizon becomes the bookmark.
    pub fn finish(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.replication_key_value = Some(to_rfc3339(run.horizon));
        self.runs += 1;
        self.overlap = Some(run.overlap);
        self.seen_uuids.clear();
        self.arrivals = run.arrivals;
    }
}

/// Checks a bookmark against the settings of this run.
///
/// # Errors
/// [`Kind::Config`] when a filter changed while a closed set is half read: its cursor would skip rows.
pub fn check_filters(bookmark: &Bookmark, filters: &Filters) -> Result<()> {
    let changed = bookmark.filters.differences(filters);
    // An upgraded state does not say what its filters were.
    let unknown = bookmark.since.is_none() && bookmark.filters == Filters::default();
    if changed.is_empty() || bookmark.run.is_none() && (unknown || bookmark.last_run().is_none()) {
        return Ok(());
    }
    let names = changed.join(", ");
    if bookmark.run.is_some() {
        return Err(Error::new(
            Kind::Config,
            format!(
                "{names} changed while a run is half done; set it back until that run has finished, or start over without --state"
            ),
        ));
    }
    log::warn(format!(
        "{names} changed since the last run: only events that arrived after {} follow the new setting",
        { bookmark.replication_key_value.as_deref().unwrap_or("it") }
    ));
    Ok(())
}

/// The forms that the component wrote which this program re-creates: `{"last_run", "seen_uuids"}` at the root, or under
/// `<stream>_state`.
fn seed_form<'a>(state: &'a State, stream: &str) -> Option<Map<String, Value>> {
    let nested = |state: &'a State| state.member(&format!("{stream}_state"))?.as_object().cloned();
    nested(state).or_else(|| {
        let mut root = Map::new();
        root.insert("last_run".to_owned(), state.member("last_run")?.clone());
        root.insert("seen_uuids".to_owned(), state.member("seen_uuids").cloned().unwrap_or_else(|| json!([])));
        Some(root)
    })
}

/// Removes what [`Bookmark::read`] takes from the forms of the component before this one; it stands in the bookmark now.
pub fn forget_seed_form(state: &mut State, stream: &str) {
    if state.bookmark(stream).is_none() && seed_form(state, stream).is_some() {
        for member in [&format!("{stream}_state"), "last_run", "seen_uuids"] {
            state.remove_member(member);
        }
    }
}

fn upgrade(seed: &Map<String, Value>, source: &str) -> Result<Bookmark> {
    let refuse = |what: &str| Error::new(Kind::Config, format!("state with `last_run`: {what}"));
    let time = seed.get("last_run").and_then(Value::as_str).ok_or_else(|| refuse("`last_run` is not a text"))?;
    // The seed wrote times without an offset; they were UTC.
    let last_run = parse_rfc3339(time).or_else(|| parse_rfc3339(format!("{}Z", time.replace(' ', "T"))));
    let last_run = last_run.ok_or_else(|| refuse("`last_run` is not a time"))?;
    let mut bookmark = Bookmark::new(source.to_owned(), "created_at");
    bookmark.replication_key_value = Some(to_rfc3339(last_run));
    bookmark.runs = 2; // its backfill is over: late arrivals are looked for in the usual window
    if let Some(uuids) = seed.get("seen_uuids").and_then(Value::as_array) {
        bookmark.seen_uuids = uuids.iter().filter_map(Value::as_str).map(str::to_lowercase).collect();
        bookmark.seen_uuids.sort_unstable();
    }
    log::info("the state has the form of an older component; it is upgraded with this run");
    Ok(bookmark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::hogql::RowKey;

    fn bookmark() -> Bookmark {
        let key = Key { day: Day::parse("2026-08-01").unwrap(), event: "naïve 'x'".into(), hash: u64::MAX };
        let uuid = "019fbc99-bec2-7afe-a3d9-f07224cdf735".to_owned();
        let cursor = Cursor::After(RowKey { key, timestamp: 5, uuid, created_at: 6 });
        let range = ReadRange { since: 1, until: 2, arrived_from: None, arrived_until: Some(9), cursor: Some(cursor) };
        let mut bookmark = Bookmark::new("us.posthog.com/1".into(), "created_at");
        bookmark.run = Some(Run {
            horizon: 9,
            columns: "c".into(),
            ranges: vec![range.clone(), ReadRange { cursor: None, ..range }],
            overlap: Overlap::new(3),
            arrivals: ArrivalCounts { from: 0, cut: 3, late_days: 7, hours: vec![(1, 2)] },
        });
        bookmark
    }

    fn state(bookmark: Value) -> State {
        State::from_value(json!({"bookmarks": {"events": bookmark}})).unwrap()
    }

    #[test]
    fn a_bookmark_survives_its_text() {
        let text = bookmark().to_value().to_string();
        let state = state(serde_json::from_str(&text).unwrap());
        assert_eq!(Bookmark::read(&state, "events", "us.posthog.com/1").unwrap(), Some(bookmark()));
    }

    #[test]
    fn finishing_moves_the_run_into_the_bookmark() {
        let mut bookmark = bookmark();
        bookmark.finish();
        assert_eq!((bookmark.last_run(), bookmark.runs, bookmark.overlap.as_ref().unwrap().from), (Some(9), 1, 3));
        assert_eq!(bookmark.run, None);
    }

    #[test]
    fn states_that_are_not_ours_are_refused() {
        let change = |name: &str, value: Value| {
            let mut changed = bookmark().to_value();
            changed[name] = value;
            Bookmark::read(&state(changed), "events", "us.posthog.com/1").unwrap_err().to_string()
        };
        assert!(change("form", json!(3)).contains("newer version"));
        assert!(change("form", json!(null)).contains("not a bookmark"));
        assert!(change("source", json!("us.posthog.com/2")).contains("belongs to us.posthog.com/2"));
        assert!(change("runs", json!("x")).contains("damaged"));
        assert!(change("replication_key_value", json!("soon")).contains("not a time"));
        let mut injected = bookmark().to_value();
        injected["run"]["passes"][0]["cursor"]["row"][1] = json!("') OR 1=1 --                         ");
        assert!(Bookmark::read(&state(injected), "events", "us.posthog.com/1").is_err());
    }

    #[test]
    fn the_seeds_forms_are_upgraded() {
        let seed = json!({"last_run": "2026-08-01T00:00:00", "seen_uuids": ["B", "a"]});
        for given in [seed.clone(), json!({"events_state": seed.clone()}), json!({"bookmarks": {"events": seed}})] {
            let state = State::from_value(given).unwrap();
            let bookmark = Bookmark::read(&state, "events", "x/1").unwrap().unwrap();
            assert_eq!(bookmark.replication_key_value.as_deref(), Some("2026-08-01T00:00:00.000000Z"));
            assert_eq!(bookmark.seen_uuids, ["a", "b"]);
        }
        let broken = State::from_value(json!({"last_run": 5})).unwrap();
        assert_eq!(Bookmark::read(&broken, "events", "x/1").unwrap_err().kind(), Kind::Config);
        assert_eq!(Bookmark::read(&State::default(), "events", "x/1").unwrap(), None);
    }
}
