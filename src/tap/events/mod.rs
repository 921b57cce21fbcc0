//! The loop of the `events` stream: closed set after closed set, slice after slice, row after row. Read [`sync_stream`] and
//! [`read_range`] first.
//!
//! | step | file |
//! |---|---|
//! | what runs go by: arrival, or `timestamp` | `replication_key.rs` |
//! | where the last run ended, and the run that is under way | `bookmark.rs` |
//! | the closed sets of this run, and the counts of arrivals that late events show in | `window.rs`, `arrivals.rs`, `count.rs` |
//! | names in the settings that no event has | `names.rs` |
//! | a closed set is cut into slices | `plan.rs` |
//! | two slices are fetched ahead, within a bound on memory | `prefetch.rs`, `buffers.rs` |
//! | a slice is read page by page, in parts where it is too much, and its count proved | `slice.rs`, `parts.rs`, `page.rs`, `verify.rs` |
//! | rows become records, and safe places become states | `emit.rs` |
//! | what the next run leaves out, because this one wrote it | `overlap.rs`, `form_1.rs` |
//!
//! Rows go out as they come in key order; the STATE follows them, and never passes a row whose slice is not proved. Whatever ends the run, the last STATE that left is a place from which the same closed set goes on.

mod arrivals;
pub mod bookmark;
mod buffers;
pub mod count;
mod emit;
mod names;
mod overlap;
mod page;
mod parts;
mod plan;
mod prefetch;
pub mod replication_key;
mod slice;
pub mod verify;
pub mod window;

use std::io::Write;
use std::sync::Mutex;

use crate::error::Result;
use crate::log;
use crate::singer::catalog::SelectedStream;

use super::context::Context;
use super::page_size::SizeModel;
use super::sink::Sink;
use bookmark::{Bookmark, ReadRange};
use emit::{EventWriter, columns_hash};
use page::Source;
use plan::Plan;
use prefetch::with_slices;
use replication_key::{CREATED_AT, with_replication_key};
use slice::SliceEvent;

/// Writes everything that is new since the bookmark, and keeps the state up to date.
pub fn sync_stream<W: Write>(context: &Context<'_>, stream: &SelectedStream, sink: &mut Sink<'_, W>) -> Result<()> {
    let (client, config) = (context.client, &context.config.events);
    let chosen = stream.replication_key.as_deref().unwrap_or(CREATED_AT);
    let mut bookmark = replication_key::bookmark(client, config, &stream.id, chosen, sink.state())?;
    let stream = &with_replication_key(client, stream.clone(), &bookmark, context.now)?;
    sink.write_schema(stream)?;
    bookmark::forget_older_form(sink.state(), &stream.id)?;
    // A closed set that an earlier run left half read comes first, then what arrived since.
    if bookmark.run.is_some() {
        log::info("going on with the run that was interrupted");
        read_run(context, stream, &mut bookmark, sink)?;
    }
    window::open(&mut bookmark, client, config, &columns_hash(stream))?;
    if let Some(start) = window::default_start(&bookmark, config) {
        log::info(start);
    }
    read_run(context, stream, &mut bookmark, sink)
}

/// Reads the run that the bookmark holds to its end.
fn read_run<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    bookmark: &mut Bookmark,
    sink: &mut Sink<'_, W>,
) -> Result<()> {
    let mut writer = EventWriter::new(context, stream, bookmark, sink)?;
    let size = Mutex::new(SizeModel::new(context.config.events.page_size));
    let mut outcome = Ok(());
    while let (Ok(()), Some(range)) = (&outcome, writer.range()) {
        outcome = read_range(context, &range, &size, &mut writer);
    }
    writer.end(outcome)
}

/// The loop: fetches slice after slice (`slices.next`, which also verifies their rows and proves their counts), writes them,
/// and says how far a later run need not go back.
fn read_range<W: Write>(
    context: &Context<'_>,
    range: &ReadRange,
    size: &Mutex<SizeModel>,
    writer: &mut EventWriter<'_, '_, W>,
) -> Result<()> {
    let config = &context.config.events;
    let asked = range.asked(config);
    if asked.since >= asked.until {
        return writer.end_range();
    }
    let plan = Plan::new(range.start(), &count::days(context.client, &asked, writer.horizon())?);
    writer.begin_range(plan.rows_left());
    let columns = writer.columns().to_vec();
    let source = Source {
        client: context.client,
        range: asked,
        columns: &columns,
        max_response_bytes: config.max_response_bytes,
        count_proof: config.count_proof,
        size,
        stop: context.stop,
    };
    with_slices(&source, plan, |slices| {
        let mut last_page = None;
        while let Some(event) = slices.next()? {
            match event {
                // Only with the end of its slice: that a row is missing shows there.
                SliceEvent::Page(page) if page.is_last => last_page = Some(page),
                SliceEvent::Page(page) => writer.write_page(*page)?,
                SliceEvent::Restart => last_page = None,
                SliceEvent::End { to, is_proved } => {
                    last_page.take().map_or(Ok(()), |page| writer.write_page(*page))?;
                    writer.end_slice(to, is_proved)?;
                }
                SliceEvent::Idle => writer.idle()?,
            }
        }
        Ok(())
    })?;
    writer.end_range()
}
