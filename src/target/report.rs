//! The messages of a run: at its end, and about a line that it cannot take.

use std::io::Write;

use super::load::Load;
use crate::error::{Error, Kind};
use crate::json::token::Fault;
use crate::log;
use crate::target::rows::cells::Oddities;
use crate::target::rows::sink::RowError;

impl<W: Write> Load<W> {
    pub(super) fn report(&self) {
        self.commits.versions.report();
        for stream in self.streams.iter() {
            if stream.rows_in_run == 0 && stream.repeats > 0 {
                log::warn(format!(
                    "stream {:?}: all {} rows were left out as repeats of rows that earlier runs committed; to load the stream \
                     again, run with load_method: overwrite, or use a new destination_path",
                    stream.name, stream.repeats
                ));
            }
            let (values, names) = stream.members.left_out();
            if values > 0 {
                let stream = &stream.name;
                log::warn(format!(
                    "stream {stream:?}: {values} values were left out because their properties ({names} names, counted \
                     up to 1000) are not in its SCHEMA"
                ));
            }
        }
        for column in self.streams.idle_partition_columns() {
            log::warn(format!("partition_by: no stream of this run has a property {column:?}; it made no folders"));
        }
        let Oddities { lone_surrogates, zoneless_times, odd_extraction_times } = self.odd;
        if lone_surrogates > 0 {
            log::warn(format!("{lone_surrogates} halves of surrogate pairs in strings were written as U+FFFD"));
        }
        if zoneless_times > 0 {
            log::warn(format!("{zoneless_times} date-times had no offset and were taken as UTC"));
        }
        if odd_extraction_times > 0 {
            log::warn(format!(
                "time_extracted of {odd_extraction_times} records is no date-time in whole microseconds: their \
                 _sdc_extracted_at is null"
            ));
        }
        let rows: u64 = self.streams.iter().map(|stream| stream.rows_in_run).sum();
        log::info(format!(
            "{} messages, {rows} records, skipped_repeats {}",
            self.messages,
            self.commits.replay.skipped()
        ));
    }

    pub(super) fn not_singer(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::NotSinger, format!("line {}: {what}", self.line))
    }

    pub(super) fn syntax(&self, fault: Fault) -> Error {
        self.not_singer(format!("{} (column {})", fault.what, fault.at + 1))
    }

    pub(super) fn misfit(&mut self, index: usize, error: RowError) -> Error {
        let stream = self.streams.get(index).map_or_else(String::new, |stream| stream.name.clone());
        match error {
            RowError::Syntax(fault) => self.syntax(fault).context(format!("stream {stream:?}")),
            RowError::BadValue(column, fault) => {
                self.syntax(fault).context(format!("stream {stream:?}, column {column:?}"))
            }
            RowError::Misfit(column, what) => {
                Error::new(Kind::Misfit, format!("line {}: stream {stream:?}, column {column:?}: {what}", self.line))
            }
        }
    }
}
