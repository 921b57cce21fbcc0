//! What the loop does with a RECORD: its row is read into the sink of its stream, known again or kept.

use std::io::Write;

use super::{EMPTY, Load};
use crate::error::Result;
use crate::json::scan::Scanner;
use crate::target::columns::metadata::{self, Origin};
use crate::target::input::message::Envelope;
use crate::target::rows::sink::RowError;

impl<W: Write> Load<'_, W> {
    pub(super) fn any_record(&mut self, line: &[u8], envelope: Envelope<'_>) -> Result<()> {
        let at = envelope.record.ok_or_else(|| self.not_singer("it has no record"))?;
        self.begin()?;
        let index = self.stream_of(&envelope)?;
        let mut record = Scanner::new(line);
        record.jump(at);
        self.last_stream = index;
        self.record_of(index, line, record, &envelope)
    }

    /// A record whose envelope in front of it was read; the members behind it are still to come.
    pub(super) fn record(
        &mut self,
        index: usize,
        line: &[u8],
        record: Scanner<'_>,
        front: Option<Envelope<'_>>,
    ) -> Result<()> {
        let front = front.unwrap_or_default();
        let Some(stream) = self.streams.get(index) else { return Ok(()) };
        let version = front.version.or(stream.last_version);
        stream.last_version = version;
        let mut scanner = record;
        self.read_row(index, version, &mut scanner)?;
        let seen = Envelope { kind: Some(EMPTY), stream: Some(EMPTY), record: Some(0), ..front };
        let envelope = seen.behind_record(&mut scanner).map_err(|fault| self.syntax(fault))?;
        if envelope.version == version {
            return self.keep_row(index, line, &envelope);
        }
        // Another version than the last record's, said behind the record: read it again, into the right sink.
        self.forget_row(index);
        self.record_of(index, line, record, &envelope)
    }

    fn record_of(&mut self, index: usize, line: &[u8], mut record: Scanner<'_>, envelope: &Envelope<'_>) -> Result<()> {
        if let Some(stream) = self.streams.get(index) {
            stream.last_version = envelope.version;
        }
        self.read_row(index, envelope.version, &mut record)?;
        self.keep_row(index, line, envelope)
    }

    fn read_row(&mut self, index: usize, version: Option<i64>, record: &mut Scanner<'_>) -> Result<()> {
        let Some(stream) = self.streams.get(index) else { return Ok(()) };
        stream.odd.start_row();
        self.left_out = stream.members.left_out().0;
        let place = self.commits.versions.place(stream, version)?;
        loop {
            let start = *record;
            let routed = self.streams.route(index, place, *record);
            match routed.and_then(|()| self.streams.read(index, record)) {
                Ok(()) => return Ok(()),
                // A value does not fit, and becomes the first one of a column of its own.
                Err(RowError::NoColumn(property)) => {
                    self.forget_row(index);
                    self.streams.keep_misfits_of(index, &property)?;
                    *record = start;
                }
                Err(error) => return Err(self.misfit(index, error)),
            }
        }
    }

    /// Forgets the record that was read last, with what was counted of it.
    fn forget_row(&mut self, index: usize) {
        if let Some(sink) = self.streams.current(index) {
            sink.undo();
        }
        if let Some(stream) = self.streams.get(index) {
            stream.odd.undo_row();
            stream.members.set_left_out(self.left_out);
        }
    }

    /// The row was read: leave it out if it was written before, else count it.
    fn keep_row(&mut self, index: usize, line: &[u8], envelope: &Envelope<'_>) -> Result<()> {
        let Some(stream) = self.streams.get(index) else { return Ok(()) };
        stream.without_version |= envelope.version.is_none();
        let is_keyed = stream.schema.keyed;
        let Some(sink) = self.streams.current(index) else { return Ok(()) };
        if is_keyed
            && !self.commits.replay.is_off()
            && self.commits.is_repeat(sink.layout.sink, sink.fingerprint(line, envelope.version))?
        {
            self.forget_row(index);
            if let Some(stream) = self.streams.get(index) {
                stream.repeats += 1;
            }
            return Ok(());
        }
        self.begin_version(index, line, envelope)?;
        let Some(sink) = self.streams.current(index) else { return Ok(()) };
        if self.settings.columns.metadata {
            let extracted = envelope.extracted();
            let origin = Origin { extracted, version: envelope.version, started_ms: self.started_ms };
            sink.metadata(metadata::values(origin));
            if let Some(stream) = self.streams.get(index).filter(|_| extracted.is_none()) {
                stream.odd.counts.odd_extraction_times += u64::from(envelope.time_extracted.is_some());
            }
        }
        self.due.rows_behind_state += 1;
        self.streams.keep(index, line.len())
    }

    /// The row is the first one of its version that is kept: what earlier runs held of the version may go.
    fn begin_version(&mut self, index: usize, line: &[u8], envelope: &Envelope<'_>) -> Result<()> {
        let (Some(stream), Some(version)) = (self.streams.get(index), envelope.version) else { return Ok(()) };
        if !self.commits.versions.is_to_begin(&stream.name, version) {
            return Ok(());
        }
        let is_keyed = stream.schema.keyed;
        let sink = self.streams.current(index).filter(|_| is_keyed);
        let first = sink.map(|sink| sink.fingerprint(line, envelope.version));
        let Some(stream) = self.streams.get(index) else { return Ok(()) };
        self.commits.begin_version(stream, version, first)
    }
}
