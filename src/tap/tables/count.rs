//! Whether all of a table came.
//!
//! The server counts the keys before the walk. Unlike events, a table is no closed set: rows come while it is read, so as
//! many as were counted have to come, or more; and rows go, so where fewer came the server counts again, and as many as
//! there are now are enough. Keys are counted and not stored rows, because ClickHouse merges versions of a key at any time.

use crate::error::Error;
use crate::log;
use crate::posthog::fault::{Failure, Fault, TooMuch};
use crate::posthog::http::client::Query;
use crate::posthog::query::ask::ask_one;
use crate::posthog::query::keyset::Walk;
use crate::tap::config::CountProof;
use crate::tap::context::Context;
use crate::tap::proof::Shortfall;

/// In how many texts a count is asked for that the server has no time or memory for.
const MAX_COUNTS: u32 = 3;

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

    /// True if nothing of `other` is missing.
    pub(super) fn covers(self, other: Count) -> bool {
        self.rows >= other.rows && self.keys >= other.keys
    }
}

/// Asks the server how much there is, for one reading of a stream.
pub(super) struct Counter<'a> {
    context: &'a Context<'a>,
    stream: String,
    /// Why the server does not count, and whether that was said.
    refusal: Option<String>,
    is_refusal_told: bool,
}

impl<'a> Counter<'a> {
    pub(super) fn new(context: &'a Context<'a>, stream: &str) -> Counter<'a> {
        Counter { context, stream: stream.to_owned(), refusal: None, is_refusal_told: false }
    }

    /// Forgets that the server did not count: another table is asked for.
    pub(super) fn forget_refusal(&mut self) {
        self.refusal = None;
    }

    /// Counts what a walk reads; none where that is not wanted, or the server does not do it.
    pub(super) fn count(&mut self, walk: &Walk<'_>, split: SplitBy) -> Result<Option<Count>, Refused> {
        if self.context.config.events.count_proof == CountProof::Off || self.refusal.is_some() {
            return Ok(None);
        }
        let name = format!("count of {}", walk.table);
        let sql = walk.count();
        let query = Query::new(&name, &sql);
        let query = if split == SplitBy::Caller { query } else { query.reworded(MAX_COUNTS) };
        let counted = ask_one(self.context.client, &query, &["rows", "keys"], |row| {
            Some(Count { rows: row.cell(0).count()?, keys: row.cell(1).count()? })
        });
        match counted {
            Ok(counted) => return Ok(Some(counted)),
            Err(Fault::Split(why)) if split == SplitBy::Caller => return Err(Refused::Split(why)),
            Err(Fault::Split(why)) => self.refusal = Some(why.to_string()),
            Err(Fault::Fatal(failure)) if failure.cause.is_refusal() => {
                self.refusal = Some(failure.error.to_string());
            }
            Err(fault) => return Err(Error::from(fault).context(name).into()),
        }
        Ok(None)
    }

    /// True where an answer without rows is not believed at once.
    pub(super) fn doubts(&self, counted: Option<Count>, received: Count) -> bool {
        counted.map_or(self.refusal.is_some(), |counted| received.keys < counted.keys)
    }

    /// Compares what came with what was counted before the walk and, if that is more, with what there is now.
    pub(super) fn shortfall(
        &mut self,
        walk: &Walk<'_>,
        counted: Option<Count>,
        received: Count,
        split: SplitBy,
    ) -> Result<Option<Shortfall>, Refused> {
        let Some(counted) = counted else {
            self.tell_refusal(walk.table);
            return Ok(None);
        };
        if received.keys >= counted.keys {
            return Ok(None);
        }
        // Gone meanwhile?
        let now = self.count(walk, split)?.unwrap_or(counted);
        let (stream, keys, table) = (&self.stream, received.keys, walk.table);
        let text = format!("{stream}: of {} keys that PostHog counts in {table} {keys} came", now.keys);
        Ok((received.keys < now.keys).then_some(Shortfall(text)))
    }

    fn tell_refusal(&mut self, table: &str) {
        let Some(why) = self.refusal.as_ref().filter(|_| !self.is_refusal_told) else { return };
        log::warn(format!(
            "{}: PostHog does not count {table}, so nothing proves that all of it came: {why}",
            self.stream
        ));
        self.is_refusal_told = true;
    }
}

/// What is made smaller where the server finds a query too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SplitBy {
    /// Pages get fewer rows.
    Rows,
    /// The caller asks for less: fewer days.
    Caller,
}

/// Why a table was not read to its end.
pub(super) enum Refused {
    /// The server does not take the query: it has no such table, or the key may not read it.
    Table(Failure),
    /// It is too much for the server, and the caller can ask for less.
    Split(TooMuch),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Failed(error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        match refused {
            Refused::Table(failure) => failure.error,
            Refused::Split(why) => Fault::Split(why).into(),
            Refused::Failed(error) => error,
        }
    }
}
