//! The columns that a PostHog lacks, and what follows for the streams of a given catalog.

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::singer::catalog::SelectedStream;
use crate::tap::record::flatten::Family;
use crate::tap::stream::{Stream, find};

/// Columns that were asked for and are not there, by stream.
#[derive(Debug, Default)]
pub(super) struct Lacking(Vec<(&'static str, Vec<String>)>);

impl Lacking {
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
