//! The parts in which a slice is asked for: smaller ones along the key where the server refuses, then fewer rows.

use crate::posthog::http::client::OnSplit;
use crate::posthog::query::hogql::MAX_LIMIT;
use crate::posthog::query::interval::{Interval, Key};
use crate::posthog::query::keyset::Place;

use super::plan::Slice;
use crate::tap::page_size::SizeModel;

/// How often one row alone is asked for before it is held to be too large: the server may have been busy.
const ONE_ROW_ATTEMPTS: u32 = 3;

/// The parts in which a slice is asked for: all of it at once, unless the server refuses.
pub(super) struct Parts<'a> {
    slice: &'a Slice,
    /// The units of the current part, and where it starts.
    first: usize,
    end: usize,
    start: Key,
    /// Where reading goes on inside it, and the rows that came of it.
    place: Place,
    came: u64,
    limit: u32,
    max_limit: u32,
    is_finished: bool,
}

impl<'a> Parts<'a> {
    /// All of `slice`, as far as one answer holds it.
    pub(super) fn new(slice: &'a Slice, size: &SizeModel) -> Self {
        let event = slice.units.first().map_or("", |unit| unit.from.event.as_str());
        // A slice of one unit may be over-full; one of several was packed to fit.
        let rows = if slice.units.len() <= 1 { slice.rows.min(size.rows_for(event)) } else { slice.rows };
        // Some room above the plan, so that a slice which grew a little is still one answer.
        let wanted = u32::try_from(rows + rows / 8 + 100).unwrap_or(MAX_LIMIT);
        let max_limit = wanted.min(size.most_rows()).clamp(1, MAX_LIMIT);
        Parts {
            slice,
            first: 0,
            end: slice.units.len(),
            start: slice.interval.from.clone(),
            place: Place::Start,
            came: 0,
            limit: max_limit,
            max_limit,
            is_finished: false,
        }
    }

    /// The next interval, the place in it, and the LIMIT; none at the end of the slice.
    pub(super) fn next(&self) -> Option<(Interval, Place, u32)> {
        let to = self.slice.units.get(self.end).map(|unit| unit.from.clone());
        let interval = Interval { from: self.start.clone(), to: to.or_else(|| self.slice.interval.to.clone()) };
        (!self.is_finished).then(|| (interval, self.place.clone(), self.limit))
    }

    /// True at the end of the slice.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Rows that the plan counted in the current part.
    pub(super) fn expected_rows(&self) -> u64 {
        self.slice.units.get(self.first..self.end).unwrap_or(&[]).iter().map(|unit| unit.rows).sum()
    }

    /// Goes on behind a page of so many rows; `behind` is the place behind its last one. A page with fewer rows than were
    /// asked for is the last of its part only if as much came as was counted: a server may give fewer.
    pub(super) fn done(&mut self, rows: u32, behind: Option<Place>) {
        self.came += u64::from(rows);
        let is_short = rows < self.limit;
        self.limit = self.limit.saturating_mul(2).min(self.max_limit);
        if let Some(behind) = behind.filter(|_| !is_short || self.came < self.expected_rows()) {
            self.place = behind;
            return;
        }
        (self.place, self.came) = (Place::Start, 0);
        let Some(unit) = self.slice.units.get(self.end) else {
            self.is_finished = true;
            return;
        };
        self.start = unit.from.clone();
        let width = self.end - self.first;
        self.first = self.end;
        self.end = (self.end + width * 2).min(self.slice.units.len());
    }

    /// One row alone cannot be made smaller, but the server may have been busy.
    pub(super) fn on_split(&self) -> OnSplit {
        let is_one_row = self.limit <= 1 && (self.end - self.first <= 1 || self.place != Place::Start);
        if is_one_row { OnSplit::Reword(ONE_ROW_ATTEMPTS) } else { OnSplit::Tell }
    }

    /// Asks for less: fewer units, unless some of their rows came, then fewer rows. False when one row is already too much.
    pub(super) fn shrink(&mut self) -> bool {
        if self.end - self.first > 1 && self.place == Place::Start {
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
