//! HogQL tables that are read in the order of their key. The loop is here ([`read`]). What is read with it is in `whole.rs`
//! and `sessions.rs`, a page and its rows in `reading.rs`, counts in `count.rs`.
//!
//! The raw tables are read where the key may: they are stored in the order of the walk, so every page costs its own rows,
//! while a page of the lazy tables makes ClickHouse aggregate all of them. In exchange the newest version of each key is
//! chosen here, and keys that were deleted or merged away are dropped here.

mod count;
mod reading;
pub mod sessions;
pub mod whole;

use std::io::Write;

use crate::error::{Error, Kind};
use crate::posthog::query::keyset::{Place, Walk};

use super::proof::Shortfall;
use super::sink::Sink;
use count::{Count, Refused};
use reading::Reading;

/// How often a table is read that seems to lack keys, before that is held to be so.
const MAX_READINGS: u32 = 3;

/// The loop of a table: from page to page of the rows that meet `condition`, in the order of the key. Says what is missing.
///
/// A page with fewer rows than were asked for is not the last one for that: a server may give fewer. The walk ends where
/// nothing follows, or where as much came as was counted.
///
/// # Errors
/// [`Refused::Table`] when the first page is refused as it stands, [`Refused::Split`] where the caller asks for less.
fn read<W: Write>(
    reading: &mut Reading<'_>,
    table: &str,
    condition: &str,
    sink: &mut Sink<'_, W>,
) -> Result<Option<Shortfall>, Refused> {
    let (columns, key) = (reading.columns().to_vec(), reading.key.clone());
    let walk = Walk { table, columns: &columns, key: &key, condition };
    let counted = reading.counter.count(&walk, reading.split)?;
    let (mut place, mut received, mut was_empty) = (Place::Start, Count::default(), false);
    // The rows of the page before, if it had fewer than were asked for.
    let mut short = None;
    loop {
        let (page, limit) = reading.page(&walk, &place)?;
        if page.is_empty() {
            // An answer may have lost its rows: a page that contradicts the count, or is not counted, is asked for twice.
            if was_empty || !reading.counter.doubts(counted, received) {
                break;
            }
            was_empty = true;
            continue;
        }
        was_empty = false;
        if let Some(rows) = short {
            reading.went_on_behind(rows);
        }
        short = (page.len() < limit as usize).then_some(page.len());
        let is_last = page.len() < limit as usize
            && counted.is_some_and(|counted| received.and(reading.count_of(&page)).covers(counted));
        let before = sink.rows();
        let next = reading.write_page(&walk, &page, is_last, &mut received, sink);
        let written = sink.rows() - before;
        sink.count(written, written);
        let Some(next) = next? else { break };
        if next == place {
            let text = format!("{table} does not go on behind a page of {limit} rows; try again");
            return Err(Error::new(Kind::Service, text).into());
        }
        place = next;
        sink.write_state_if_due()?;
    }
    reading.counter.shortfall(&walk, counted, received, reading.split)
}

#[cfg(test)]
pub(super) mod tests;
