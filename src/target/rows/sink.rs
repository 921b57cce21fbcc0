//! A sink: the row group that fills for one stream, version and partition. A record goes from its line straight into
//! the cells of its columns.
//!
//! A member that comes twice is refused. A member that the schema does not name is checked and left out.

mod values;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cells::Cells;
use super::fingerprint::{Fingerprint, Hasher};
use super::members::Members;
use super::oddities::{Odd, Oddities};
use crate::json::scan::Scanner;
use crate::json::token::Fault;
use crate::target::columns::column_type::LayoutColumn;
use crate::target::columns::metadata::METADATA;
use crate::target::columns::schema::{Field, Misfits, StreamSchema};
use crate::target::columns::values::Column;
use crate::target::files::layout::Layout;

/// The exact size is counted again after so many bytes of input.
const RECOUNT_BYTES: usize = 128 << 10;
/// The bytes of a sink without a row: itself, its layout, its place in the stream's map.
const IDLE_BYTES: usize = 1 << 10;
/// The bytes of a column of an open row group besides its values: its cells, and the least that their vectors take.
pub const COLUMN_BYTES: usize = size_of::<Cells>() + size_of::<u32>() + 48;

/// Why a record was not taken, and in which column.
#[derive(Debug)]
pub enum RowError {
    /// The line is not JSON.
    Syntax(Fault),
    /// A value does not fit its column.
    Misfit(String, &'static str),
    /// A value does not fit its column, and there is no column yet that keeps such values of this property.
    NoColumn(String),
    /// The value of a property, or the text behind it, is not JSON.
    BadValue(String, Fault),
}

impl From<Fault> for RowError {
    fn from(fault: Fault) -> Self {
        RowError::Syntax(fault)
    }
}

/// The open row group of a stream, a version and a partition.
#[derive(Debug)]
pub struct Sink {
    /// Where its rows go.
    pub layout: Arc<Layout>,
    schema: Arc<StreamSchema>,
    /// Where each column of the schema stands in the file.
    places: Arc<[usize]>,
    /// Empty until the first row comes: a sink without rows costs next to nothing.
    cells: Vec<Cells>,
    /// Columns of the file that an earlier schema had, at their places, while their row group lasts.
    rest: Vec<Option<Cells>>,
    /// For each column the number of the last row (counted from 1) whose record had it.
    seen: Vec<u32>,
    rows: u32,
    /// Rows of this layout, also of row groups that are gone.
    total_rows: u64,
    /// Of these, the rows up to the last file that was cut from here; the encoder cuts files, too, by their size.
    cut_rows: u64,
    /// Of `rows`, those that came before the STATE that came last when a row came, and which STATE that was.
    covered: u32,
    newest_state: u64,
    bytes: usize,
    uncounted: usize,
    /// Values that the row's fingerprint covers, as places in the line.
    marks: Vec<(u64, Range<usize>)>,
    /// The place of the record in the line.
    record: Range<usize>,
    hasher: Hasher,
}

impl Sink {
    /// An empty row group.
    pub fn new(schema: &Arc<StreamSchema>, places: &Arc<[usize]>, layout: Arc<Layout>) -> Self {
        let hasher = Hasher::new(&schema.stream);
        Sink {
            layout,
            schema: Arc::clone(schema),
            places: Arc::clone(places),
            cells: Vec::new(),
            rest: Vec::new(),
            seen: Vec::new(),
            rows: 0,
            total_rows: 0,
            cut_rows: 0,
            covered: 0,
            newest_state: 0,
            bytes: 0,
            uncounted: 0,
            marks: Vec::new(),
            record: 0..0,
            hasher,
        }
    }

    /// Rows in the row group.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Rows since the last file of this layout was cut.
    pub fn rows_in_file(&self) -> u64 {
        let cut = self.layout.rows_cut.load(Ordering::Relaxed).max(self.cut_rows);
        self.total_rows.saturating_sub(cut)
    }

    /// The rows of the row group begin a file of another layout.
    pub fn begin_file(&mut self, layout: Arc<Layout>) {
        self.cut_rows = self.total_rows - u64::from(self.rows);
        self.layout = layout;
    }

    /// Notes that the file ends with the rows so far.
    pub fn cut(&mut self) {
        self.cut_rows = self.total_rows;
    }

    /// The bytes that the row group takes: exact now and then, and about right in between.
    pub fn bytes(&self) -> usize {
        self.bytes + self.uncounted
    }

    /// The bytes of the whole sink, with its row group.
    pub fn footprint(&self) -> usize {
        IDLE_BYTES + self.layout.folder.len() * 2 + (self.cells.len() + self.rest.len()) * COLUMN_BYTES + self.bytes()
    }

    /// Rows of the row group that came before the newest STATE, of which there were `states`.
    pub fn covered(&self, states: u64) -> usize {
        if self.newest_state == states { self.covered as usize } else { self.rows() }
    }

    /// Takes the first `rows` rows out of the row group; the others stay.
    pub fn take_first(&mut self, rows: usize) -> Vec<Column> {
        self.put_down();
        let mut taken = Vec::new();
        for (column, slot) in self.layout.columns.iter().zip(&mut self.rest) {
            let first = slot.take().map(|mut cells| {
                *slot = Some(cells.split_off(rows));
                cells
            });
            taken.push(first.unwrap_or_else(|| Cells::new(column.kind)).into_column());
        }
        self.open();
        self.rows -= u32::try_from(rows).unwrap_or(self.rows);
        (self.covered, self.uncounted) = (0, 0);
        self.bytes = self.count_bytes();
        taken
    }

    /// Forgets the row in work and the rows behind the newest STATE, of which there were `states`.
    pub fn forget_behind(&mut self, states: u64) {
        self.undo();
        let rows = self.covered(states);
        self.cells.iter_mut().chain(self.rest.iter_mut().flatten()).for_each(|cells| drop(cells.split_off(rows)));
        self.rows = u32::try_from(rows).unwrap_or(self.rows);
    }

    /// Takes the columns of the row group, which is empty afterwards.
    pub fn take(&mut self) -> Vec<Column> {
        self.seen = Vec::new();
        (self.rows, self.covered, self.bytes, self.uncounted) = (0, 0, 0, 0);
        self.put_down();
        let mut cells = std::mem::take(&mut self.rest).into_iter();
        let of_file = |column: &LayoutColumn| cells.next().flatten().unwrap_or_else(|| Cells::new(column.kind));
        self.layout.columns.iter().map(of_file).map(Cells::into_column).collect()
    }

    /// Puts the cells at the places that they have in the file.
    fn put_down(&mut self) {
        let columns = self.layout.columns.len();
        self.rest.resize_with(columns, || None);
        for (place, cells) in self.places.iter().zip(self.cells.drain(..)) {
            if let Some(slot) = self.rest.get_mut(*place) {
                *slot = Some(cells);
            }
        }
    }

    /// The rows to come are those of another schema, whose columns stand at these places in the file. Nothing happens if
    /// they are.
    pub fn turn(&mut self, schema: &Arc<StreamSchema>, places: &Arc<[usize]>) {
        if Arc::ptr_eq(&self.schema, schema) {
            return;
        }
        let is_open = !self.cells.is_empty();
        if is_open {
            self.put_down();
        }
        (self.schema, self.places) = (Arc::clone(schema), Arc::clone(places));
        if is_open {
            self.open();
        }
    }

    fn open(&mut self) {
        let mut cells = |(field, place): (&Field, &usize)| {
            let there = self.rest.get_mut(*place).and_then(Option::take);
            there.unwrap_or_else(|| Cells::new(field.kind)).of(field, self.schema.rules)
        };
        self.cells = self.schema.fields.iter().zip(&*self.places).map(&mut cells).collect();
        self.seen = vec![0; self.cells.len()];
    }

    /// Reads the record at `scanner` as the next row. The row counts only after [`Sink::keep`].
    pub fn read(
        &mut self,
        scanner: &mut Scanner<'_>,
        members: &mut Members,
        odd: &mut Oddities,
    ) -> Result<(), RowError> {
        if self.cells.is_empty() {
            self.open();
        }
        self.marks.clear();
        scanner.peek();
        let start = scanner.at();
        if self.schema.whole {
            return self.read_whole(scanner, start, odd);
        }
        let mut last = self.schema.fields.len();
        scanner.expect(b'{', "expected an object as record")?;
        if scanner.peek() != b'}' {
            loop {
                match members.find(scanner, last)? {
                    Some(index) => {
                        self.cell(index, scanner, odd)?;
                        last = index;
                    }
                    None => {
                        scanner.value()?;
                    }
                }
                if scanner.peek() != b',' {
                    break;
                }
                scanner.expect(b',', "expected ,")?;
            }
        }
        scanner.expect(b'}', "expected , or }").map_err(|fault| match self.schema.fields.get(last) {
            Some(field) => RowError::BadValue(field.property.clone(), fault),
            None => RowError::Syntax(fault),
        })?;
        self.record = start..scanner.at();
        // Keys first: these are never left out.
        let is_missing = |index: &&usize| self.seen.get(**index) != Some(&(self.rows + 1));
        let missing = members.required.iter().filter(is_missing);
        let is_key = |index: &&usize| self.schema.fields.get(**index).is_some_and(|field| field.key);
        let missing = missing.clone().find(is_key).or_else(|| missing.clone().next());
        match missing.and_then(|index| self.schema.fields.get(*index)) {
            None => Ok(()),
            Some(field) if field.key || self.schema.rules.misfits == Misfits::Refuse => {
                Err(RowError::Misfit(field.property.clone(), "the record must have this property"))
            }
            Some(_) => {
                for index in &members.required {
                    let is_missing = self.seen.get(*index) != Some(&(self.rows + 1));
                    if let Some(field) = self.schema.fields.get(*index).filter(|_| is_missing) {
                        odd.note(&field.property, Odd::Misfit);
                    }
                }
                Ok(())
            }
        }
    }

    /// The fingerprint of the row that was read last, out of its line. Not of the key alone: a row without a bookmark may
    /// have changed.
    pub fn fingerprint(&mut self, line: &[u8], version: Option<i64>) -> Fingerprint {
        self.hasher.start(version);
        if self.schema.covered.is_some_and(|covered| self.marks.len() < covered) {
            self.hasher.add_record(line.get(self.record.clone()).unwrap_or_default());
            return self.hasher.finish();
        }
        self.marks.sort_unstable_by_key(|(slot, _)| *slot);
        for (slot, range) in &self.marks {
            self.hasher.add(*slot, line.get(range.clone()).unwrap_or_default());
        }
        self.hasher.finish()
    }

    /// Counts the row that was read last, which came from `line_bytes` bytes of input, behind so many STATEs.
    pub fn keep(&mut self, line_bytes: usize, states: u64) {
        if self.newest_state != states {
            (self.newest_state, self.covered) = (states, self.rows);
        }
        self.rows += 1;
        self.total_rows += 1;
        // Above all that one row can add: its text, and eight bytes for each value.
        self.uncounted += line_bytes + 64;
        if self.uncounted >= RECOUNT_BYTES {
            self.bytes = self.count_bytes();
            self.uncounted = 0;
        }
    }

    fn count_bytes(&self) -> usize {
        self.cells.iter().chain(self.rest.iter().flatten()).map(Cells::bytes).sum()
    }

    /// Forgets the row that was read last.
    pub fn undo(&mut self) {
        let row = self.rows + 1;
        for (cells, seen) in self.cells.iter_mut().zip(&mut self.seen) {
            if *seen == row {
                cells.undo(self.rows as usize);
                *seen = 0;
            }
        }
    }

    /// Writes the metadata columns of the row that was read last; one value for each of [`METADATA`].
    pub fn metadata(&mut self, values: [Option<i64>; METADATA.len()]) {
        let own = self.cells.iter_mut().skip(self.schema.metadata_from);
        for (cells, value) in own.zip(values) {
            if let Some(value) = value {
                cells.push_int(self.rows as usize, value);
            }
        }
    }
}
