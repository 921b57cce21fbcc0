//! Rows of `events` as they arrive: each is checked before anything depends on it, and what names it is noted.

use crate::posthog::query::interval::{Interval, Key};
use crate::posthog::query::page::{Cell, Row};
use crate::posthog::query::version::Version;
use crate::time::{Day, Micros};

use crate::tap::record::cell::time;
use crate::tap::record::projection::column;

/// Checks the rows of a page one after another: each must lie in the interval, in the order of the key.
#[derive(Debug)]
pub struct Check<'a> {
    interval: &'a Interval,
    by_arrival: bool,
    limit: u32,
    /// The key of the last row; before the first one, the start of the interval.
    day: Day,
    event: Vec<u8>,
    hash: u64,
    timestamp: Micros,
    notes: Vec<(u64, Micros)>,
    version: Vec<u8>,
}

impl<'a> Check<'a> {
    /// For at most `limit` rows of `interval`. Where runs do not go `by_arrival`, a row's `timestamp` stands for its arrival.
    pub fn new(interval: &'a Interval, by_arrival: bool, limit: u32) -> Check<'a> {
        let Key { day, event, numbers: [hash, ..], .. } = &interval.from;
        let event = event.as_bytes().to_vec();
        Check {
            interval,
            by_arrival,
            limit,
            day: *day,
            event,
            hash: *hash,
            timestamp: Micros::MIN,
            notes: Vec::new(),
            version: Vec::new(),
        }
    }

    /// Takes the next row, and notes its version and its arrival.
    ///
    /// # Errors
    /// What is wrong with it: the page is not to be believed.
    pub fn row(&mut self, row: &Row<'_>) -> Result<(), String> {
        let wrong = |what: &str| format!("row {} {what}", self.notes.len());
        let timestamp = time(row.cell(column::TIMESTAMP)).ok_or_else(|| wrong("has no timestamp"))?;
        let created_at = match self.by_arrival {
            true => time(row.cell(column::CREATED_AT)).ok_or_else(|| wrong("has no created_at"))?,
            false => timestamp,
        };
        let text = |column| match row.cell(column) {
            Cell::Text { text, .. } => Some(text),
            _ => None,
        };
        let (Some(uuid), Some(event), Some(distinct_id)) =
            (text(column::UUID), text(column::EVENT), text(column::DISTINCT_ID))
        else {
            return Err(wrong("lacks a part of its identity"));
        };
        let hash = row.cell(column::HASH).u64().ok_or_else(|| wrong("has no hash"))?;
        let day = Day::of(timestamp);
        if (day, event, hash, timestamp) < (self.day, self.event.as_slice(), self.hash, self.timestamp) {
            return Err(wrong("is out of order"));
        }
        if self.notes.len() >= self.limit as usize {
            return Err(format!("more rows came than the {} that were asked for", self.limit));
        }
        (self.day, self.hash, self.timestamp) = (day, hash, timestamp);
        if event != self.event {
            self.event.clear();
            self.event.extend_from_slice(event);
        }
        let version = Version { timestamp, created_at, event, distinct_id, uuid };
        self.notes.push((version.hash(&mut self.version), created_at));
        Ok(())
    }

    /// Of each row: its version's hash, and its arrival.
    ///
    /// # Errors
    /// When the last row lies behind the interval.
    pub fn end(self) -> Result<Vec<(u64, Micros)>, String> {
        let is_behind = |to: &Key| {
            let [hash, inner @ ..] = to.numbers;
            let (last, to) = ((self.day, self.event.as_slice(), self.hash), (to.day, to.event.as_bytes(), hash));
            // The numbers inside of one hash are not in the page.
            if inner == [0, 0] { last >= to } else { last > to }
        };
        let beyond = !self.notes.is_empty() && self.interval.to.as_ref().is_some_and(is_behind);
        if beyond { Err("a row lies behind the asked interval".to_owned()) } else { Ok(self.notes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::page::Page;

    /// Puts rows of (day of January, event, hash) through the check of at most three rows of the 2nd and 3rd.
    fn checked(rows: &[(u32, &str, u64)]) -> Result<usize, String> {
        let key = |day: u32| Key::day_start(Day::parse(&format!("2026-01-{day:02}")).unwrap());
        let interval = Interval { from: key(2), to: Some(key(4)) };
        let names = ["uuid", "event", "distinct_id", "timestamp", "key_hash", "created_at"];
        let rows =
            rows.iter().map(|(day, event, hash)| serde_json::json!(["u", event, "d", stamp(*day), hash, stamp(9)]));
        let body = serde_json::json!({"columns": names, "results": rows.collect::<Vec<_>>()}).to_string();
        let page = Page::parse(body.as_bytes(), &names).unwrap();
        let mut check = Check::new(&interval, true, 3);
        page.rows().try_for_each(|row| check.row(&row))?;
        check.end().map(|notes| notes.len())
    }

    fn stamp(day: u32) -> String {
        format!("2026-01-{day:02}T12:00:00Z")
    }

    #[test]
    fn rows_that_cannot_be_the_asked_ones_are_refused() {
        assert_eq!(checked(&[]), Ok(0));
        assert_eq!(checked(&[(2, "a", 7), (2, "a", 7), (3, "Z", u64::MAX)]), Ok(3));
        for (rows, wrong) in [
            (&[(1, "a", 1)][..], "row 0 is out of order"),
            (&[(3, "a", 1), (2, "b", 2)], "row 1 is out of order"),
            (&[(2, "b", 1), (2, "a", 2)], "row 1 is out of order"),
            (&[(2, "a", 2), (2, "a", 1)], "row 1 is out of order"),
            (&[(2, "a", 1); 4], "more rows came than the 3 that were asked for"),
            (&[(2, "a", 1), (4, "", 0)], "a row lies behind the asked interval"),
        ] {
            assert_eq!(checked(rows), Err(wrong.to_owned()));
        }
    }
}
