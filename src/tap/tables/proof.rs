//! Whether all of a table came.
//!
//! The server counts the keys before the walk. Unlike events, a table is no closed set: rows come while it is read, so as
//! many as were counted have to come, or more; and rows go, so where fewer came it is counted afresh, and as many as there
//! are now will do. What still lacks is read again, as a new version where the reading has one: the version that is made
//! current then holds each key once. Keys are counted and not stored rows, because ClickHouse merges versions of a key at
//! any time.

use std::io::Write;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::Query;
use crate::posthog::query::keyset::Walk;
use crate::posthog::query::page::Page;

use super::{Reading, Refused, Sink};
use crate::posthog::query::ask::ask_one;
use crate::tap::config::CountProof;
use crate::tap::record::table::Envelope;

/// How often a table is read of which something lacks, before that is held to be so.
const MAX_READINGS: u32 = 3;
/// In how many texts a count is asked for that the server has no time or memory for.
const MAX_COUNTS: u32 = 3;

/// What lacks, as a sentence; none where all came, or nothing is counted.
pub struct Lack(pub Option<String>);

/// How much of a table there is, or came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    rows: u64,
    keys: u64,
}

impl Count {
    /// Adds the rows of one key.
    pub(super) fn add(&mut self, rows: usize) {
        *self = self.and(Count { rows: rows as u64, keys: 1 });
    }

    /// Both together.
    pub(super) fn and(self, other: Count) -> Count {
        Count { rows: self.rows + other.rows, keys: self.keys + other.keys }
    }

    /// True if nothing of `other` lacks.
    pub(super) fn covers(self, other: Count) -> bool {
        self.rows >= other.rows && self.keys >= other.keys
    }
}

impl Reading<'_> {
    /// Reads with `read` until nothing lacks. What `read` writes in its last turn is the whole; what it wrote before has an
    /// older version, or comes again.
    ///
    /// # Errors
    /// [`Kind::Incomplete`] if something lacks each time, unless `count_proof` says otherwise; what `read` fails with.
    pub fn proved<W: Write>(
        &mut self,
        sink: &mut Sink<'_, W>,
        mut read: impl FnMut(&mut Self, &mut Sink<'_, W>) -> Result<Lack, Refused>,
    ) -> Result<(), Refused> {
        let mut text = String::new();
        for reading in 0..MAX_READINGS {
            if reading > 0 {
                log::warn(format!("{text}; reading again"));
                self.version = self.version.map(|version| version + 1);
                self.envelope = Envelope::new(&self.stream, self.version, self.context.now);
            }
            match read(self, sink)?.0 {
                None => return Ok(()),
                Some(lack) => text = lack,
            }
        }
        if self.context.config.events.count_proof == CountProof::Strict {
            let advice = "run again; count_proof: warn goes on without the others";
            let text = format!("{text}, in the last of {MAX_READINGS} readings; {advice}");
            return Err(Error::new(Kind::Incomplete, text).into());
        }
        log::warn(text);
        Ok(())
    }

    /// Counts what a walk reads; none where that is not wanted, or the server does not do it.
    pub(super) fn count(&mut self, walk: &Walk<'_>) -> Result<Option<Count>, Refused> {
        if self.context.config.events.count_proof == CountProof::Off || self.uncounted.is_some() {
            return Ok(None);
        }
        let name = format!("count of {}", walk.table);
        let sql = walk.count();
        let query = Query::new(&name, &sql);
        let query = if self.narrows { query } else { query.reworded(MAX_COUNTS) };
        let counted = ask_one(self.context.client, &query, &["rows", "keys"], |row| {
            Some(Count { rows: row.cell(0).u64()?, keys: row.cell(1).u64()? })
        });
        match counted {
            Ok(counted) => return Ok(Some(counted)),
            Err(Fault::Split(why)) if self.narrows => return Err(Refused::Split(why)),
            Err(Fault::Split(why)) => self.uncounted = Some(why.to_string()),
            Err(Fault::Fatal(failure)) if failure.cause.is_refusal() => {
                self.uncounted = Some(failure.error.to_string());
            }
            Err(fault) => return Err(Error::from(fault).context(name).into()),
        }
        Ok(None)
    }

    /// The rows and keys of a page.
    pub(super) fn count_of(&self, page: &Page) -> Count {
        let (mut count, mut start) = (Count::default(), 0);
        while start < page.len() {
            let end = self.key_end(page, start);
            count.add(end - start);
            start = end;
        }
        count
    }

    /// True where an answer without rows is not believed at once.
    pub(super) fn doubts(&self, counted: Option<Count>, received: Count) -> bool {
        counted.map_or(self.uncounted.is_some(), |counted| received.keys < counted.keys)
    }

    /// Compares what came with what was counted before the walk and, if that is more, with what there is now.
    pub(super) fn prove(&mut self, walk: &Walk<'_>, counted: Option<Count>, received: Count) -> Result<Lack, Refused> {
        let Some(counted) = counted else {
            self.tell_uncounted(walk.table);
            return Ok(Lack(None));
        };
        if received.keys >= counted.keys {
            return Ok(Lack(None));
        }
        // Gone meanwhile?
        let now = self.count(walk)?.unwrap_or(counted);
        let text = || {
            let (stream, keys, table) = (&self.stream, received.keys, walk.table);
            format!("{stream}: of {} keys that PostHog counts in {table} {keys} came", now.keys)
        };
        Ok(Lack((received.keys < now.keys).then(text)))
    }

    fn tell_uncounted(&mut self, table: &str) {
        let Some(why) = self.uncounted.as_ref().filter(|_| !self.told_uncounted) else { return };
        log::warn(format!(
            "{}: PostHog does not count {table}, so nothing proves that all of it came: {why}",
            self.stream
        ));
        self.told_uncounted = true;
    }
}
