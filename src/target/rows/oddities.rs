//! What was odd about the values of a stream: changed to fit, taken on trust, or null against the SCHEMA. The report at the
//! end of a run says each once.

use std::collections::BTreeMap;

use crate::time::Changes;

/// The counts of a stream.
#[derive(Debug, Default)]
pub struct Oddities {
    /// Of its values.
    pub counts: Counts,
    /// Of its columns, by the names of their properties.
    pub columns: BTreeMap<String, ColumnCounts>,
    /// The counts before the row in work, and what was added to columns since.
    before: Counts,
    row: Vec<(String, Odd)>,
}

/// Values that were changed or taken on trust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Halves of surrogate pairs that became U+FFFD.
    pub lone_surrogates: u64,
    /// Times without an offset, taken as UTC.
    pub zoneless_times: u64,
    /// Times whose digits behind the microsecond were cut off.
    pub cut_times: u64,
    /// Moments outside the years 1 to 9999.
    pub held_years: u64,
    /// Leap seconds.
    pub leap_seconds: u64,
    /// Times of day whose offset was left out.
    pub time_offsets: u64,
    /// Decimals that lost the noise of doubles.
    pub noisy_decimals: u64,
    /// `time_extracted` that is no moment.
    pub odd_extraction_times: u64,
}

/// What can be odd about a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnCounts {
    /// Values that are null where the SCHEMA does not allow it.
    pub nulls: u64,
    /// Values that did not fit.
    pub misfits: u64,
}

/// One oddity of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// A null against the SCHEMA.
    Null,
    /// A value that does not fit.
    Misfit,
}

impl Counts {
    /// Counts what was changed about a time.
    #[inline]
    pub fn time(&mut self, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        for (change, count) in [
            (Changes::CUT, &mut self.cut_times),
            (Changes::HELD, &mut self.held_years),
            (Changes::LEAP, &mut self.leap_seconds),
            (Changes::ZONELESS, &mut self.zoneless_times),
            (Changes::OFFSET, &mut self.time_offsets),
        ] {
            *count += u64::from(changes.has(change));
        }
    }
}

impl Oddities {
    /// Begins a row.
    pub fn start_row(&mut self) {
        self.before = self.counts;
        self.row.clear();
    }

    /// Counts an oddity of the column of `property`.
    pub fn note(&mut self, property: &str, odd: Odd) {
        *self.count(property, odd) += 1;
        self.row.push((property.to_owned(), odd));
    }

    /// Forgets what was counted of the row in work.
    pub fn undo_row(&mut self) {
        self.counts = self.before;
        for (property, odd) in std::mem::take(&mut self.row) {
            *self.count(&property, odd) -= 1;
        }
        self.columns.retain(|_, counts| *counts != ColumnCounts::default());
    }

    fn count(&mut self, property: &str, odd: Odd) -> &mut u64 {
        if !self.columns.contains_key(property) {
            self.columns.insert(property.to_owned(), ColumnCounts::default());
        }
        let counts = self.columns.entry(property.to_owned()).or_default();
        match odd {
            Odd::Null => &mut counts.nulls,
            Odd::Misfit => &mut counts.misfits,
        }
    }

    /// What is to be said, in clauses; empty where nothing was odd.
    pub fn said(&self) -> Vec<String> {
        let Counts {
            lone_surrogates,
            zoneless_times,
            cut_times,
            held_years,
            leap_seconds,
            time_offsets,
            noisy_decimals,
            odd_extraction_times,
        } = self.counts;
        let mut said: Vec<String> = [
            (lone_surrogates, "halves of surrogate pairs were written as U+FFFD"),
            (zoneless_times, "date-times had no offset and were taken as UTC"),
            (cut_times, "times had more than six digits of a second, which were cut off"),
            (held_years, "moments lay outside the years 0001 to 9999 and were held inside"),
            (leap_seconds, "leap seconds became the last microsecond before them"),
            (time_offsets, "times of day had an offset, which was left out"),
            (noisy_decimals, "decimals had the noise of doubles, which was rounded off"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        if odd_extraction_times > 0 {
            said.push(format!(
                "time_extracted of {odd_extraction_times} records is no date-time: their _sdc_extracted_at is null"
            ));
        }
        let of_columns = |what: &str, count: fn(&ColumnCounts) -> u64| {
            let counts = self.columns.iter().map(|(property, counts)| (property, count(counts)));
            let named: Vec<_> = counts
                .filter(|(_, count)| *count > 0)
                .map(|(property, count)| format!("{property:?} {count}"))
                .collect();
            (!named.is_empty()).then(|| format!("{what}: {}", named.join(", ")))
        };
        said.extend(of_columns("values were null where the SCHEMA does not allow it", |counts| counts.nulls));
        said.extend(of_columns("values did not fit and are null", |counts| counts.misfits));
        said
    }
}
