//! The parts in which a slice is asked for: smaller ones along the key where the server refuses, then fewer rows.

use crate::posthog::http::client::OnSplit;
use crate::posthog::query::hogql::{Cursor, Interval, Key, MAX_LIMIT};

use super::plan::Slice;
use crate::tap::page_size::SizeModel;

/// How often one row alone is asked for before it is held to be too large: the server may have been busy.
const ONE_ROW_ATTEMPTS: u32 = 3;

/// The parts in which a slice is asked for: all of it at once, unless the server refuses.
pub(super) struct Parts<'a> {
    slice: &'a Slice,
    cursor: Cursor,
    /// The units of the current part.
    first: usize,
    end: usize,
    limit: u32,
    max_limit: u32,
    finished: bool,
}

impl<'a> Parts<'a> {
    /// All of `slice`, as far as one answer holds it. `page_size` is the user's bound on rows of an answer.
    pub(super) fn new(slice: &'a Slice, size: &SizeModel, page_size: Option<u32>) -> Self {
        let event = slice.units.first().map_or("", |unit| unit.from.event.as_str());
        // A slice of one unit may be over-full; one of several was packed to fit.
        let rows = if slice.units.len() <= 1 { slice.rows.min(size.rows_for(event)) } else { slice.rows };
        // Some room above the plan, so that a slice which grew a little is still one answer.
        let wanted = u32::try_from(rows + rows / 8 + 100).unwrap_or(MAX_LIMIT);
        let max_limit = wanted.min(page_size.unwrap_or(MAX_LIMIT)).clamp(1, MAX_LIMIT);
        let cursor = slice.interval.from.clone();
        Parts { slice, cursor, first: 0, end: slice.units.len(), limit: max_limit, max_limit, finished: false }
    }

    /// The next interval and its LIMIT; none at the end of the slice.
    pub(super) fn next(&self) -> Option<(Interval, u32)> {
        let interval = Interval { from: self.cursor.clone(), to: self.end_key() };
        (!self.finished).then_some((interval, self.limit))
    }

    fn end_key(&self) -> Option<Key> {
        match self.slice.units.get(self.end) {
            Some(unit) => Some(unit.from.clone()),
            None => self.slice.interval.to.clone(),
        }
    }

    /// Rows that the plan counted in it.
    pub(super) fn expected_rows(&self) -> u64 {
        self.slice.units.get(self.first..self.end).unwrap_or(&[]).iter().map(|unit| unit.rows).sum()
    }

    /// Goes on behind a page; `behind` is its last row if it was full.
    pub(super) fn done(&mut self, behind: Option<&Cursor>) {
        self.limit = self.limit.saturating_mul(2).min(self.max_limit);
        match (behind, self.slice.units.get(self.end)) {
            (Some(cursor), _) => {
                self.cursor = cursor.clone();
                // Units before the cursor are done: a later split must not go back behind it.
                let rest = self.slice.units.get(..self.end).unwrap_or(&[]);
                let current = rest.partition_point(|unit| unit.from <= *cursor.key()).saturating_sub(1);
                self.first = self.first.max(current);
            }
            (None, Some(unit)) => {
                self.cursor = Cursor::At(unit.from.clone());
                let width = self.end - self.first;
                self.first = self.end;
                self.end = (self.end + width * 2).min(self.slice.units.len());
            }
            (None, None) => self.finished = true,
        }
    }

    /// One row alone cannot be made smaller, but the server may have been busy.
    pub(super) fn on_split(&self) -> OnSplit {
        let is_one_row = self.limit <= 1 && self.end - self.first <= 1;
        if is_one_row { OnSplit::Reword(ONE_ROW_ATTEMPTS) } else { OnSplit::Tell }
    }

    /// Asks for less: fewer units, then fewer rows. False when one row is already too much.
    pub(super) fn shrink(&mut self) -> bool {
        if self.end - self.first > 1 {
            self.end = self.first + (self.end - self.first) / 2;
            return true;
        }
        let rows = u32::try_from(self.expected_rows().max(1)).unwrap_or(MAX_LIMIT);
        let less = self.limit.min(rows.max(2)) / 2;
        if self.limit <= 1 {
            return false;
        }
        self.limit = less.max(1);
        true
    }
}
