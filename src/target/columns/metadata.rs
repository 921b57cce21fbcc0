//! The values of the metadata columns of the Singer SDK (`_sdc_...`) for one row.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::target::input::message::Envelope;
use crate::target::rows::cells::{Oddities, plain};
use crate::time;

/// The values in the order of [`super::schema::METADATA`]. The deletion time is the record's own and not given here.
/// `started_ms`: when the run began, in Unix milliseconds. A time of extraction that is none is counted in `odd`.
#[must_use]
pub fn values(envelope: &Envelope<'_>, started_ms: i64, odd: &mut Oddities) -> [Option<i64>; 7] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let extracted = envelope.time_extracted.and_then(|text| time::moment(&plain(text))).map(|moment| moment.micros);
    odd.odd_extraction_times += u64::from(envelope.time_extracted.is_some() && extracted.is_none());
    [extracted, Some(now), Some(started_ms * 1000), None, Some(now / 1000), envelope.version, Some(started_ms)]
}
