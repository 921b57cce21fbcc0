//! What the end of an interval, of a run, and of a run that failed means for the rows of all streams.

use super::partition;
use super::streams::Streams;
use crate::error::{Error, Kind, Result};
use crate::json::scan::Scanner;
use crate::log;
use crate::target::columns::schema::Misfits;
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::store::tree::is_empty;

/// A run that writes more files is warned of.
const MANY_FILES: usize = 1_000;

impl Streams {
    /// A STATE came: it covers every row so far.
    pub fn on_state(&mut self) {
        self.states += 1;
    }

    /// Forgets every row behind the newest STATE, and the row in work.
    pub fn forget_behind(&mut self) {
        self.only_covered = true;
        for stream in &mut self.all {
            let behind = if stream.newest_state == self.states { stream.rows_behind } else { 0 };
            stream.rows = stream.rows.saturating_sub(behind);
            stream.rows_in_run = stream.rows_in_run.saturating_sub(behind);
            stream.sinks.iter_mut().for_each(|slot| slot.sink.forget_behind(self.states));
        }
    }

    /// Waits until every row that was handed over is in a complete, synced file, and takes these files.
    pub fn finish(&mut self) -> Result<Vec<Staged>> {
        let staged = if self.only_covered {
            let why = "too many files hold rows of both sides of the last STATE";
            self.encoder.finish_covered(self.states)?.ok_or_else(|| Error::new(Kind::Internal, why))?
        } else {
            self.encoder.finish()?
        };
        let before = self.files;
        self.files += staged.len();
        if (before..self.files).contains(&MANY_FILES) {
            log::warn(format!(
                "more than {MANY_FILES} files were written in this run, and readers open each: partition_by columns with \
                 fewer values (:day or :month of moments), or commit less often (max_batch_age_minutes)"
            ));
        }
        Ok(staged)
    }

    /// Has a file without rows made for each stream that never had any, so that the first query finds its table. Not for
    /// folders that `skip` names.
    pub fn make_tables(&mut self, skip: impl Fn(&str) -> bool) -> Result<()> {
        for index in 0..self.all.len() {
            let Some(stream) = self.all.get(index) else { break };
            let is_none = stream.rows_in_run == 0 && stream.repeats == 0 && !stream.columns.has_rows();
            let has_columns = !stream.schema.whole && !stream.schema.fields.is_empty();
            if !(is_none && has_columns) || skip(&stream.folder) || !is_empty(&*self.fs, &stream.folder)? {
                continue;
            }
            if stream.columns.is_emptied() {
                log::warn(format!(
                    "stream {:?}: the files of earlier runs are gone from {}, and the tap sent none of their rows again, since \
                     its state says that they were read; docs/operations.md says how to load a stream again",
                    stream.name, stream.folder
                ));
            }
            let partition =
                partition::folder(&stream.partition_by, Misfits::Refuse, Scanner::new(b"{}")).unwrap_or_default();
            if let Some(layout) = self.layout(index, &(Place::Stream, partition), None) {
                self.encoder.empty(layout)?;
            }
        }
        Ok(())
    }
}
