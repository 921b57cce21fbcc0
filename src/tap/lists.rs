//! REST lists as streams. A list is always read to its end: most of them do not come in the order of their change, so a
//! reading that stopped at the first old item would miss the old item that changed today. What an incremental stream saves
//! is the records, not the few requests.
//!
//! Lists change while they are read. An item that moved onto a later page is written once (by its key); one that moved onto
//! an earlier page, behind the reader's back, is missed, so where the server says how many items there are, they are
//! counted, and a list of which fewer came is read again. A bookmark never passes the time at which the reading began, by the
//! server's clock, so that what changed meanwhile comes in the next run.

mod items;
mod shapes;

use std::io::Write;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::rest;
use crate::singer::catalog::SelectedStream;
use crate::time::{Micros, SECOND_US};

use super::config::CountProof;
use super::context::Context;
use super::proof::{Shortfall, read_until_proved};
use super::record::exceptions::Exceptions;
use super::record::repair::Repair;
use super::replication::Replication;
use super::sink::Sink;
use super::stream::List;
use items::Items;

/// The usual page of PostHog's lists.
const ITEMS_A_PAGE: u32 = 100;
/// How often a list is read that seems to lack items, before that is held to be so.
const MAX_READINGS: u32 = 4;

type Pair = (String, String);

/// Reads a list and writes it.
///
/// # Errors
/// Whatever ended the reading early; then nothing is made current and the bookmark stays.
pub fn sync_stream<W: Write>(
    context: &Context<'_>,
    stream: &SelectedStream,
    list: &'static List,
    replication: Replication,
    sink: &mut Sink<'_, W>,
) -> Result<()> {
    let items = Items::new(stream, list, replication.since())?;
    let repair = Repair::new(context.config.keeps_lone_surrogates);
    let mut reading = Reading { context, list, items, repair, began: None, absent: None };
    sink.set_version(replication.version());
    sink.begin_progress(None);
    let outcome = reading.read(sink);
    sink.note_exceptions(reading.exceptions());
    outcome?;
    if let Some(error) = reading.absent.as_ref().filter(|_| !reading.items.has_schema()) {
        log::warn(format!("left out: {} ({error})", stream.name));
        return Ok(());
    }
    reading.items.tell_unseen();
    match replication {
        Replication::Full { version } => sink.activate_version(version)?,
        // This machine's clock where the server does not tell its own.
        Replication::Incremental { .. } => {
            reading.items.keep_bookmark(reading.began.unwrap_or(context.now), sink.state());
        }
    }
    sink.write_state()
}

struct Reading<'a> {
    context: &'a Context<'a>,
    list: &'static List,
    items: Items<'a>,
    repair: Repair,
    /// When the reading began, by the server's clock.
    began: Option<Micros>,
    /// This PostHog has no such list.
    absent: Option<Error>,
}

impl Reading<'_> {
    /// Reads one list until as many items came as the server counts. `added` are members that its items do not have
    /// themselves.
    fn pages<W: Write>(&mut self, query: &[Pair], added: &[(&str, String)], sink: &mut Sink<'_, W>) -> Result<()> {
        let fixed = self.list.query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let query: Vec<Pair> = query.iter().cloned().chain(fixed).collect();
        let proof = self.context.config.events.count_proof;
        read_until_proved(proof, MAX_READINGS, |_| {
            let (came, counted) = self.read_list(&query, added, sink)?;
            let text = || format!("{}: of {counted} items that PostHog counts {came} came", self.items.stream());
            Ok::<_, Error>((came < counted && proof != CountProof::Off).then(|| Shortfall(text())))
        })?;
        Ok(())
    }

    /// The loop of a list: reads it to its end once. How many items came, and how many there are as the server says.
    fn read_list<W: Write>(
        &mut self,
        query: &[Pair],
        added: &[(&str, String)],
        sink: &mut Sink<'_, W>,
    ) -> Result<(u64, u64)> {
        let path = self.list.full_path(self.context.client.options().project_id);
        let mut list = rest::ListReader::new(self.context.client, path, query, self.list.class, ITEMS_A_PAGE);
        self.items.begin_pass();
        let received_before = sink.received();
        loop {
            self.context.stop.check()?;
            let rows_before = sink.rows();
            let (items, repair) = (&mut self.items, &mut self.repair);
            let page = list.next_page(&mut |item| items.write(repair.repaired(item), added, sink));
            let received = page.as_ref().map_or(0, |came| came.unwrap_or(0));
            sink.count(received, sink.rows() - rows_before);
            match page {
                Err(Fault::Fatal(Failure { cause: Cause::Missing, error })) if !self.items.has_schema() => {
                    self.absent = Some(error);
                    return Ok((0, 0));
                }
                // The key and the address are good, for pages came before this one: it is a failure of this list alone.
                Err(Fault::Fatal(Failure { cause: Cause::Missing | Cause::Access, error }))
                    if self.items.has_schema() =>
                {
                    return Err(Error::new(Kind::Service, error.to_string()));
                }
                Err(fault) => return Err(fault.into()),
                Ok(None) => break,
                Ok(Some(_)) => self.items.write_schema(sink)?,
            }
            // That of the first way through: the others begin later.
            self.began = self.began.or(list.server_date().map(|seconds| seconds * SECOND_US));
            if list.counted() > 0 {
                sink.plan_progress(received_before.saturating_add(list.counted()));
            }
            sink.write_state_if_due()?;
        }
        Ok((self.items.came_in_pass(), list.counted()))
    }

    /// What the records that were written do not hold as it came.
    fn exceptions(&self) -> Exceptions {
        Exceptions { lone_surrogates: self.repair.replaced(), ..self.items.exceptions() }
    }
}

#[cfg(test)]
mod tests;
