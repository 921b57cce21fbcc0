//! The values of the metadata columns of the Singer SDK (`_sdc_...`) for one row.

use std::time::{SystemTime, UNIX_EPOCH};

use super::envelope::Envelope;
use super::time;

/// The values in the order of [`super::schema::METADATA`]. The deletion time is the record's own and not given here.
/// `started_ms`: when the run began, in Unix milliseconds.
#[must_use]
pub fn values(envelope: &Envelope<'_>, started_ms: i64) -> [Option<i64>; 7] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let extracted = envelope.time_extracted.and_then(|text| time::moment(text.raw)).map(|moment| moment.micros);
    [extracted, Some(now), Some(started_ms * 1000), None, Some(now / 1000), envelope.version, Some(started_ms)]
}
