//! The bookmark of `events`: where the last finished run ended, what it delivered of the coming overlap, and, while a run is
//! under way, the closed set that it reads and how far it came. A kill at any instant resumes the same closed set.

mod cursor;
mod members;
mod older;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::fingerprint;
use crate::log;
use crate::posthog::query::hogql::Range;
use crate::posthog::query::interval::Key;
use crate::singer::state::{START_OVER, State};
use crate::time::{Day, Micros, parse_rfc3339, to_rfc3339};

use super::arrivals::ArrivalCounts;
use super::overlap::Overlap;
use super::overlap::form_1;
use crate::tap::config::EventsConfig;
use crate::tap::replication::refuse_foreign;
use cursor::BehindRow;
use older::Older;

/// The form of the bookmark that this program writes.
const FORM: u32 = 3;

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
    pub cursor: Option<Key>,
    /// The row behind which an older version went on; none of the rows before it is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<BehindRow>,
}

impl ReadRange {
    /// Where reading starts or goes on.
    pub fn start(&self) -> Key {
        let first = || Key::day_start(Day::of(self.since));
        self.cursor.clone().unwrap_or_else(first)
    }

    /// The same as a query asks for it.
    pub fn asked(&self, config: &EventsConfig) -> Range {
        Range {
            since: self.since,
            until: self.until,
            created_from: self.arrived_from,
            created_until: self.arrived_until,
            event_types: config.event_types.clone(),
            behind: self.behind.as_ref().map(BehindRow::literals),
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
        let upgraded = |older| Bookmark::upgraded(older, source);
        let Some(object) = state.bookmark(stream)? else {
            return Ok(older::of_root(state, stream)?.map(upgraded));
        };
        if older::has_time(object) {
            return Ok(older::of_object(object)?.map(upgraded));
        }
        let damaged = |what: &str| refuse(format!("it is damaged ({what}); {START_OVER}"));
        let form = match object.get("form").and_then(Value::as_u64) {
            Some(form @ 1..) if form <= u64::from(FORM) => form,
            Some(form @ 1..) => {
                return Err(refuse(format!("it was written by a newer version (form {form}); use that version")));
            }
            _ => return Err(refuse(format!("it is not a bookmark of this program, by its member form; {START_OVER}"))),
        };
        if let Some(member) = members::first_wrong(object) {
            return Err(damaged(&format!("its member {member}")));
        }
        let mut object = match form {
            1 => form_1::upgrade(object.clone()).ok_or_else(|| damaged("its list of delivered events"))?,
            _ => object.clone(),
        };
        if form < 3 {
            cursor::upgrade(&mut object);
        }
        let bookmark: Bookmark = serde_json::from_value(Value::Object(object)).map_err(|e| damaged(&e.to_string()))?;
        refuse_foreign(&bookmark.source, source).map_err(refuse)?;
        // Only the first run has none, and it is half done.
        if bookmark.replication_key_value.is_none() && (bookmark.runs > 0 || bookmark.run.is_none()) {
            return Err(damaged("its member replication_key_value"));
        }
        let overlaps = bookmark.overlap.iter().chain(bookmark.run.as_ref().map(|run| &run.overlap));
        for overlap in overlaps {
            overlap.hashes().map_err(|_| damaged("its list of delivered events, overlap"))?;
        }
        Ok(Some(bookmark))
    }

    fn upgraded(older: Older, source: &str) -> Bookmark {
        let mut bookmark = Bookmark::new(source.to_owned(), "created_at");
        bookmark.replication_key_value = Some(to_rfc3339(older.last_run));
        bookmark.runs = 2; // its backfill is over: late arrivals are looked for in the usual window
        bookmark.seen_uuids = older.seen_uuids;
        bookmark
    }

    /// The horizon of the last finished run.
    pub fn last_run(&self) -> Option<Micros> {
        self.replication_key_value.as_deref().and_then(parse_rfc3339)
    }

    /// The bookmark as JSON.
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
        "{names} changed since the last run: only events that arrived after {} follow the new setting; a run without --state \
         reads the past, too (with `target-parquet run`: a run into a new destination_path)",
        { bookmark.replication_key_value.as_deref().unwrap_or("it") }
    ));
    Ok(())
}

/// Whether a state without bookmarks is one of the component before this one.
pub fn is_of_the_older_component(state: &State) -> bool {
    older::is_root(state, "events")
}

/// Removes what [`Bookmark::read`] takes from the forms of the component before this one; it stands in the bookmark now.
///
/// # Errors
/// Those of [`Bookmark::read`].
pub fn forget_older_form(state: &mut State, stream: &str) -> Result<()> {
    if state.bookmark(stream)?.is_none() && older::of_root(state, stream)?.is_some() {
        older::forget(state, stream);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::interval::Storage;

    fn bookmark() -> Bookmark {
        let (day, event, numbers) = (Day::parse("2026-08-01").unwrap(), "naïve 'x'".into(), [u64::MAX, 7, 0]);
        let cursor = Some(Key { day, event, numbers, storage: Storage::New });
        let behind = None;
        let range = ReadRange { since: 1, until: 2, arrived_from: None, arrived_until: Some(9), cursor, behind };
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
        assert!(change("form", json!(4)).contains("newer version"));
        assert!(change("form", json!(null)).contains("not a bookmark"));
        assert!(change("source", json!("us.posthog.com/2")).contains("belongs to us.posthog.com/2"));
        assert!(change("runs", json!("x")).contains("damaged"));
        assert!(change("replication_key_value", json!("soon")).contains("member replication_key_value"));
        for wrong in ["') OR 1=1 --                         ", "019fbc99"] {
            assert!(Bookmark::read(&state(form_2(wrong)), "events", "us.posthog.com/1").is_err());
        }
    }

    /// A bookmark of form 2 whose cursor lies behind a row.
    fn form_2(uuid: &str) -> Value {
        let mut bookmark = bookmark().to_value();
        bookmark["form"] = json!(2);
        let row = json!([1_785_542_400_000_000i64, uuid, 6]);
        bookmark["run"]["passes"][0]["cursor"] = json!({"day": "2026-08-01", "event": "a", "hash": "5", "row": row});
        bookmark["run"]["passes"][1].as_object_mut().unwrap().remove("cursor");
        bookmark
    }

    /// The row stays a bound until the range has been read, however often that is interrupted.
    #[test]
    fn a_cursor_behind_a_row_becomes_a_bound_of_its_range() {
        let uuid = "019fbc99-bec2-7afe-a3d9-f07224cdf735";
        let upgraded = Bookmark::read(&state(form_2(uuid)), "events", "us.posthog.com/1").unwrap().unwrap();
        let read_again = Bookmark::read(&state(upgraded.to_value()), "events", "us.posthog.com/1").unwrap();
        assert_eq!(read_again.as_ref(), Some(&upgraded));
        let ranges = upgraded.run.unwrap().ranges;
        assert_eq!(
            ranges[0].start(),
            Key { numbers: [5, 0, 0], event: "a".into(), ..Key::day_start(Day::parse("2026-08-01").unwrap()) }
        );
        let literals = ["toDate('2026-08-01')", "'a'", "5", "toDateTime64('2026-08-01 00:00:00.000000', 6, 'UTC')"];
        assert_eq!(ranges[0].behind.as_ref().unwrap().literals()[..4], literals);
        assert_eq!(ranges[1].behind, None);
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
