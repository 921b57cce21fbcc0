//! The messages of a run: at its end, and about a line that it cannot take.

use std::io::Write;

use indicatif::HumanCount;

use super::commit::commits::Written;
use super::load::Load;
use crate::error::{Error, Kind};
use crate::json::token::Fault;
use crate::log;
use crate::target::rows::sink::RowError;

impl<W: Write> Load<'_, W> {
    pub(super) fn report(&self) {
        self.commits.versions.report();
        for stream in self.streams.iter() {
            if stream.rows_in_run == 0 && stream.repeats > 0 {
                log::warn(format!(
                    "stream {:?}: all {} rows were left out as repeats of rows that earlier runs committed; to load the stream \
                     again, move its folder {} away and run from an empty state, or run with load_method: overwrite, or use \
                     a new destination_path",
                    stream.name, stream.repeats, stream.folder
                ));
            }
            let (values, names) = stream.members.left_out();
            if values > 0 {
                let lost = stream.members.lost_deletions();
                let deletions = if lost { "; _sdc_deleted_at among them, which add_record_metadata keeps" } else { "" };
                let stream = &stream.name;
                log::warn(format!(
                    "stream {stream:?}: {values} values were left out because their properties ({names} names, counted \
                     up to 1000) are not in its SCHEMA{deletions}"
                ));
            }
        }
        for stream in self.streams.iter() {
            let said = stream.odd.said();
            if !said.is_empty() {
                log::warn(format!("stream {:?}: {}", stream.name, said.join("; ")));
            }
        }
        for column in self.streams.idle_partition_columns() {
            log::warn(format!("partition_by: no stream of this run has a property {column:?}; it made no folders"));
        }
        if log::is_terminal() {
            return self.summary();
        }
        let rows: u64 = self.streams.iter().map(|stream| stream.rows_in_run).sum();
        log::info(format!(
            "{} messages, {rows} records, skipped_repeats {}",
            self.messages,
            self.commits.replay.skipped()
        ));
    }

    /// For a person: a line for each stream, where the state is, and a query to try.
    fn summary(&self) {
        let destination = self.settings.destination.display();
        let mut first = None;
        for stream in self.streams.iter() {
            let Written { files, rows, bytes } = self.commits.written.get(&stream.name).copied().unwrap_or_default();
            let mut parts = vec![format!("{} rows", HumanCount(rows))];
            if stream.repeats > 0 {
                parts.push(format!("{} repeats left out", HumanCount(stream.repeats)));
            }
            if files > 0 {
                parts.push(format!("{files} {}, {}", if files == 1 { "file" } else { "files" }, size(bytes)));
                first.get_or_insert(stream);
            }
            parts.extend(self.upstream.iter().flat_map(|upstream| upstream.remarks(&stream.name)));
            log::info(format!("{}: {}, in {destination}/{}/", stream.name, parts.join(", "), stream.folder));
        }
        if self.streams.iter().next().is_none() {
            return log::info("no stream came");
        }
        log::info(format!("state kept in {destination}/_target"));
        if let Some(stream) = first {
            let files = format!("{destination}/{}/**/*.parquet", stream.folder).replace('\'', "''");
            log::info(format!(
                "try: duckdb -c \"SELECT * FROM read_parquet('{files}', union_by_name = true, hive_partitioning = false) LIMIT 5\""
            ));
        }
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
                let is_value = what.starts_with("this column holds");
                let hint = if is_value { "; on_misfit can have such values left out, or kept beside" } else { "" };
                Error::new(
                    Kind::Misfit,
                    format!("line {}: stream {stream:?}, column {column:?}: {what}{hint}", self.line),
                )
            }
            RowError::NoColumn(column) => {
                Error::new(Kind::Internal, format!("stream {stream:?}: column {column:?} has none for its misfits"))
            }
        }
    }
}

/// Bytes in the unit that a person reads.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(|count| HumanCount(count).to_string()),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([999, 12_345, 1_260_000, 7_500_000_000].map(size), ["999 bytes", "12 kB", "1.2 MB", "7.5 GB"]);
    }
}
