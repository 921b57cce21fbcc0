//! The metadata columns of the Singer SDK (`_sdc_...`): their names, types and values.

use std::time::{SystemTime, UNIX_EPOCH};

use super::column_type::ColumnType;

/// The names of the metadata columns of the Singer SDK, with their types.
pub const METADATA: [(&str, ColumnType); 7] = [
    ("_sdc_extracted_at", ColumnType::Timestamp),
    ("_sdc_received_at", ColumnType::Timestamp),
    ("_sdc_batched_at", ColumnType::Timestamp),
    (DELETED_AT, ColumnType::Timestamp),
    ("_sdc_sequence", ColumnType::Int64),
    ("_sdc_table_version", ColumnType::Int64),
    ("_sdc_sync_started_at", ColumnType::Int64),
];
/// The one metadata column whose value comes from the record.
pub const DELETED_AT: &str = "_sdc_deleted_at";

/// True for the target's own columns.
pub fn is_metadata(name: &str) -> bool {
    METADATA.iter().any(|(metadata, _)| *metadata == name)
}

/// True for those whose values the target makes: they tell no rows apart.
pub fn is_own(name: &str) -> bool {
    is_metadata(name) && name != DELETED_AT
}

/// Where a row comes from: its message and its run.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// `time_extracted`, in microseconds.
    pub extracted: Option<i64>,
    /// `version`.
    pub version: Option<i64>,
    /// When the run began, in Unix milliseconds.
    pub started_ms: i64,
}

/// The values for one row, in the order of [`METADATA`]. The deletion time is the record's own and not given here.
pub fn values(origin: Origin) -> [Option<i64>; METADATA.len()] {
    let Origin { extracted, version, started_ms } = origin;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    [extracted, Some(now), Some(started_ms * 1000), None, Some(now / 1000), version, Some(started_ms)]
}
