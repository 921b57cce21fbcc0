//! How rows leave their sink: as row groups of one side of the newest STATE, so that a run that fails can commit what the
//! STATE covers.

use std::sync::Arc;

use super::sink::Sink;
use crate::error::Result;
use crate::target::files::row_group::RowGroup;
use crate::target::files::thread::Encoder;

/// Hands the rows of a sink over and completes its file: no more rows will come.
pub(super) fn complete(mut sink: Sink, encoder: &mut Encoder, states: u64) -> Result<()> {
    if sink.rows() == 0 {
        return encoder.close(sink.layout.id);
    }
    hand_over(&mut sink, encoder, states, true)
}

/// Hands the rows of a sink over; `last` cuts its file. A row group has rows of one side of the newest STATE only, of which
/// there were `states`, so that a run that fails can commit what the STATE covers. Rows behind the STATE stay where the
/// file goes on.
pub(super) fn hand_over(sink: &mut Sink, encoder: &mut Encoder, states: u64, last: bool) -> Result<()> {
    let covered = sink.covered(states);
    if covered == 0 || covered == sink.rows() {
        return hand_over_all(sink, encoder, if covered == 0 { states } else { states - 1 }, last);
    }
    let columns = sink.take_first(covered);
    encoder.append(RowGroup::new(Arc::clone(&sink.layout), covered, states - 1, columns), false)?;
    if last { hand_over_all(sink, encoder, states, true) } else { Ok(()) }
}

/// Hands the rows of a sink over as one row group, behind so many STATEs.
pub(super) fn hand_over_all(sink: &mut Sink, encoder: &mut Encoder, states: u64, last: bool) -> Result<()> {
    if sink.rows() == 0 {
        return Ok(());
    }
    let rows = sink.rows();
    if last {
        sink.cut();
    }
    encoder.append(RowGroup::new(Arc::clone(&sink.layout), rows, states, sink.take()), last)
}
