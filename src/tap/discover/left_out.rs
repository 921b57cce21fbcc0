//! Streams that cannot be read and columns that this PostHog does not have, and how a run goes on without them.

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Fault};
use crate::singer::catalog::SelectedStream;
use crate::tap::record::flatten::Family;
use crate::tap::stream::{Stream, find};

/// Why a stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The key lacks this scope.
    Scope(String),
    /// The key's user may not read it.
    Access,
    /// This PostHog has no such list or table.
    Absent,
    /// Something that says nothing about this stream: a server that fails, a network, a key that is unknown.
    Failed,
}

impl Obstacle {
    /// The obstacle that a fault shows for a stream.
    pub fn of(stream: &Stream, fault: &Fault) -> Obstacle {
        let Fault::Fatal(failure) = fault else { return Obstacle::Failed };
        match &failure.cause {
            Cause::Scope(scope) => Obstacle::Scope(scope.clone()),
            // Every PostHog has events, and every project that can be queried.
            _ if stream.is_of_events() => Obstacle::Failed,
            Cause::Access if stream.is_list() => Obstacle::Access,
            Cause::Missing if stream.is_list() => Obstacle::Absent,
            Cause::Request | Cause::UnknownColumn(_) | Cause::UnknownTable => Obstacle::Absent,
            _ => Obstacle::Failed,
        }
    }
}

/// How to go on when a stream cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is left out, even where its list fails only at the moment.
    LeaveOut,
    /// It is left out where this PostHog does not have it or this key may not read it. Where it fails at the moment, the run
    /// tries again, harder, and ends with an error rather than without the stream.
    LeaveOutForGood,
    /// As before, but where the key may not read it the run ends: somebody chose the stream.
    Refuse,
}

/// Why a stream is left out; `None` where the run is to try it.
///
/// # Errors
/// The fault, where it is the whole run's or somebody chose the stream.
pub(super) fn left_out_for(stream: &Stream, fault: Fault, unreadable: Unreadable) -> Result<Option<String>> {
    let reason = match Obstacle::of(stream, &fault) {
        Obstacle::Absent => return Ok(Some("this PostHog does not have it".to_owned())),
        Obstacle::Scope(scope) => format!("needs the scope {scope}"),
        Obstacle::Access => "the key's user may not read it".to_owned(),
        Obstacle::Failed => {
            let why = failing_now(stream, fault)?;
            return Ok((unreadable == Unreadable::LeaveOut).then(|| format!("cannot be read now: {why}")));
        }
    };
    match unreadable {
        Unreadable::Refuse => Err(Error::from(fault).context(format!("stream {} cannot be read", stream.name))),
        Unreadable::LeaveOut | Unreadable::LeaveOutForGood => Ok(Some(reason)),
    }
}

/// The words for a stream that fails at the moment.
///
/// # Errors
/// The fault, where the other streams would fail as well.
fn failing_now(stream: &Stream, fault: Fault) -> Result<String> {
    match fault {
        fault if stream.is_of_events() => Err(fault.into()),
        Fault::Split(why) => Ok(why.to_string()),
        Fault::Fatal(failure) if matches!(failure.cause, Cause::Server | Cause::Timeout | Cause::Untrusted) => {
            Ok(failure.error.to_string())
        }
        fault => Err(fault.into()),
    }
}

/// Columns that were asked for and are not there, by stream.
#[derive(Debug, Default)]
pub(super) struct MissingColumns(Vec<(&'static str, Vec<String>)>);

impl MissingColumns {
    pub(super) fn add(&mut self, stream: &'static str, columns: impl IntoIterator<Item = String>) {
        self.0.push((stream, columns.into_iter().collect()));
    }

    pub(super) fn has(&self, stream: &str, column: &str) -> bool {
        self.0.iter().any(|(of, columns)| *of == stream && columns.iter().any(|name| name == column))
    }

    /// Whether the column of a field is among them.
    pub(super) fn has_field(&self, stream: &str, field: &str) -> bool {
        find(stream).is_ok_and(|row| self.has(row.name, column_of(row, field)))
    }

    /// Leaves the fields of these columns out of the streams, and says so once.
    ///
    /// # Errors
    /// [`Kind::Config`] where a key or the replication key is among them.
    pub(super) fn drop_fields(&self, streams: &mut [SelectedStream]) -> Result<()> {
        let mut dropped = Vec::new();
        for stream in streams {
            let row = find(&stream.id)?;
            let is_gone = |field: &str| self.has_field(row.name, field);
            if let Some(key) = stream.key_properties.iter().find(|key| is_gone(key)) {
                return Err(missing_key(&stream.id, key, "a key of it; deselect the stream"));
            }
            if let Some(key) = stream.replication_key.as_ref().filter(|key| is_gone(key)) {
                let advice =
                    "its replication-key; choose another one, replication-method FULL_TABLE, or deselect the stream";
                return Err(missing_key(&stream.id, key, advice));
            }
            let mut columns: Vec<String> = Vec::new();
            for field in stream.keep_fields(|field| !is_gone(field)) {
                let column = column_of(row, &field);
                if !columns.iter().any(|known| known == column) {
                    columns.push(column.to_owned());
                }
            }
            if !columns.is_empty() {
                dropped.push(format!("{} of {}", columns.join(", "), stream.id));
            }
        }
        if !dropped.is_empty() {
            log::warn(format!(
                "this PostHog has not every column that the catalog selects: {} are left out of SCHEMA and RECORD",
                dropped.join("; ")
            ));
        }
        Ok(())
    }
}

fn missing_key(stream: &str, key: &str, what: &str) -> Error {
    Error::new(Kind::Config, format!("catalog, stream {stream}: this PostHog has no column {key}, which is {what}"))
}

/// The column that a field is made of.
fn column_of<'a>(stream: &Stream, field: &'a str) -> &'a str {
    match object_of(field) {
        // A table has its properties in one column, whichever names their fields go by.
        Some(object) if !stream.has_properties(object) => Family::Event.column().1,
        object => object.unwrap_or(field),
    }
}

/// The object of properties that a field is a part of, by the field's name: `properties` or `person_properties`.
pub(super) fn object_of(field: &str) -> Option<&'static str> {
    let family = match field {
        "unmapped_properties" => Family::Event,
        "unmapped_person_properties" => Family::Person,
        _ => Family::of_column(field)?.0,
    };
    Some(family.column().1)
}
