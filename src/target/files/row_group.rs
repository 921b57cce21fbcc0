//! One row group: packed cells in, encoded and compressed column chunks out, one column at a time.
//!
//! A row group is encoded by whoever is free: the encoder thread takes column after column, and the parser, when its
//! next row group is full before this one is done, takes columns too instead of waiting. Only the columns in work hold
//! an encoder and a compressor, so a table of ten thousand columns costs no more of them than one of two.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{Field, Schema};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::json_chunk::{JsonChunk, JsonColumn};
use super::layout::Layout;
use crate::error::{Error, Kind, Result};
use crate::target::columns::column_type::ColumnType;
use crate::target::columns::values::{Column, Piece, Validity, Values};

/// Values looked at to decide how a column is encoded.
const SAMPLE: usize = 1024;
/// Of so many sampled values, more distinct ones than this share mean: no dictionary.
const DICTIONARY_SHARE: f64 = 0.6;

/// A full row group on its way to its file.
#[derive(Debug)]
pub struct RowGroup {
    /// Where it goes.
    pub layout: Arc<Layout>,
    /// Its rows.
    pub rows: usize,
    /// How many STATEs came before its last row: the ones that came later cover it.
    pub states: u64,
    /// Columns that nobody has taken yet, the first one last.
    waiting: Mutex<Vec<(usize, Column)>>,
    done: Mutex<Done>,
    changed: Condvar,
}

/// An encoded column.
#[derive(Debug)]
pub enum Chunk {
    /// By the Parquet library.
    Library(ArrowColumnChunk),
    /// By us.
    Json(JsonChunk),
}

impl Chunk {
    /// Appends the chunk to a file's row group.
    pub fn append_to<W: std::io::Write + Send>(
        self,
        writer: &mut SerializedRowGroupWriter<'_, W>,
        layout: &Layout,
    ) -> parquet::errors::Result<()> {
        match self {
            Chunk::Library(chunk) => chunk.append_to_row_group(writer),
            Chunk::Json(chunk) => chunk.append_to(writer, !layout.wide()),
        }
    }
}

#[derive(Debug)]
struct Done {
    chunks: Vec<Option<Chunk>>,
    error: Option<Error>,
}

impl RowGroup {
    /// A row group of `rows` rows for `layout`, with one [`Column`] per column of the layout.
    pub fn new(layout: Arc<Layout>, rows: usize, states: u64, columns: Vec<Column>) -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with(columns.len(), || None);
        let mut waiting: Vec<(usize, Column)> = columns.into_iter().enumerate().collect();
        waiting.reverse();
        let done = Mutex::new(Done { chunks, error: None });
        RowGroup { layout, rows, states, waiting: Mutex::new(waiting), done, changed: Condvar::new() }
    }

    /// Encodes columns until none is waiting.
    pub fn encode_waiting(&self) {
        while self.encode_next() {}
    }

    /// Encodes one waiting column. False if there was none.
    pub fn encode_next(&self) -> bool {
        let Some((index, column)) = lock(&self.waiting).pop() else { return false };
        let encoded = self.told(|| encode(&self.layout, index, column, self.rows));
        let mut done = lock(&self.done);
        match encoded {
            Ok(chunk) => {
                if let Some(slot) = done.chunks.get_mut(index) {
                    *slot = Some(chunk);
                }
            }
            Err(error) => done.error = Some(error),
        }
        self.changed.notify_all();
        true
    }

    /// Does a part of the work. A panic in it is told to the thread that waits for the result: nobody else would wake it.
    fn told<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Tell<'a>(&'a RowGroup);
        impl Drop for Tell<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    let error = Error::new(Kind::Internal, "another thread ended unexpectedly");
                    lock(&self.0.done).error = Some(error);
                    self.0.changed.notify_all();
                }
            }
        }
        let _tell = Tell(self);
        work()
    }

    /// The chunk of column `index`, once it is encoded.
    pub fn chunk(&self, index: usize) -> Result<Chunk> {
        while self.encode_next_before(index) {}
        let mut done = lock(&self.done);
        loop {
            if let Some(error) = done.error.take() {
                return Err(error);
            }
            if let Some(chunk) = done.chunks.get_mut(index).and_then(Option::take) {
                return Ok(chunk);
            }
            done = self.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Encodes the next waiting column unless column `index` is done already.
    fn encode_next_before(&self, index: usize) -> bool {
        let ready = {
            let done = lock(&self.done);
            done.error.is_some() || done.chunks.get(index).is_some_and(Option::is_some)
        };
        !ready && self.encode_next()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encode(layout: &Layout, index: usize, filled: Column, rows: usize) -> Result<Chunk> {
    let Some(column) = layout.columns.get(index) else {
        return Err(Error::new(Kind::Internal, "a row group has more columns than its file"));
    };
    let failed = |e: parquet::errors::ParquetError| {
        Error::new(
            Kind::Internal,
            format!("encoding column {:?} of stream {:?} failed: {e}", column.name, layout.stream),
        )
    };
    let Column { mut values, validity } = filled;
    let root = Type::group_type_builder("schema").with_fields(vec![Arc::clone(&column.parquet)]).build();
    let root = TypePtr::new(root.map_err(failed)?);
    if column.kind == ColumnType::Json {
        let count = values.len();
        values = match (layout.compression.json, values) {
            (Some(level), Values::Bytes { mut full, open }) => {
                full.push(open);
                let column = JsonColumn { pieces: full, nulls: nulls(&validity, count, rows), rows };
                return JsonChunk::new(root, level, column).map(Chunk::Json).map_err(failed);
            }
            (_, values) => without_lengths(values),
        };
    }
    let properties = properties(layout, column.kind, &column.parquet, &values);
    let field = Field::new(column.name.as_str(), column.kind.arrow(), true);

    // A file of one column that is never written: the way to one column encoder with settings of its own.
    let file = SerializedFileWriter::new(std::io::sink(), root, Arc::new(properties)).map_err(failed)?;
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    let writers = ArrowRowGroupWriterFactory::new(&file, schema).create_column_writers(0).map_err(failed)?;
    let Some(mut writer) = writers.into_iter().next() else {
        return Err(Error::new(Kind::Internal, "the Parquet library made no column encoder"));
    };
    arrays(column.kind, Column { values, validity }, rows, &mut |array| {
        compute_leaves(&field, &array)
            .and_then(|leaves| leaves.iter().try_for_each(|leaf| writer.write(leaf)))
            .map_err(failed)
    })?;
    writer.close().map(Chunk::Library).map_err(failed)
}

/// How this column chunk is written: dictionary only where values repeat, deltas for numbers that do not.
fn properties(layout: &Layout, kind: ColumnType, column: &TypePtr, values: &Values) -> WriterProperties {
    let path = ColumnPath::new(vec![column.name().to_owned()]);
    let dictionary = dictionary_pays(values);
    let builder = WriterProperties::builder()
        .set_compression(layout.compression.compression)
        .set_column_dictionary_enabled(path.clone(), dictionary)
        .set_offset_index_disabled(layout.wide())
        .set_statistics_enabled(match kind {
            // The least JSON text says nothing about the values in it.
            ColumnType::Json => EnabledStatistics::None,
            _ => EnabledStatistics::Chunk,
        });
    if !dictionary && matches!(values, Values::Int(_) | Values::Date(_)) {
        return builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED).build();
    }
    builder.build()
}

fn dictionary_pays(values: &Values) -> bool {
    let distinct = match values {
        Values::Bool(_) => return false,
        Values::Int(v) => distinct(v.iter().take(SAMPLE).map(|v| v.cast_unsigned())),
        Values::Date(v) => distinct(v.iter().take(SAMPLE).map(|v| u64::from(v.cast_unsigned()))),
        Values::Float(v) => distinct(v.iter().take(SAMPLE).map(|v| v.to_bits())),
        #[expect(clippy::cast_possible_truncation, reason = "the low half is hash enough")]
        Values::Decimal(v) => distinct(v.iter().take(SAMPLE).map(|v| *v as u64)),
        Values::Bytes { .. } => distinct(texts(values).take(SAMPLE).map(hash)),
    };
    let sampled = values.len().min(SAMPLE);
    #[expect(clippy::cast_precision_loss, reason = "at most SAMPLE")]
    let share = distinct as f64 / sampled.max(1) as f64;
    share <= DICTIONARY_SHARE
}

/// The values of a column of bytes.
fn texts(values: &Values) -> impl Iterator<Item = &[u8]> {
    let pieces = match values {
        Values::Bytes { full, open } => Some(full.iter().chain([open])),
        _ => None,
    };
    pieces.into_iter().flatten().flat_map(|piece| {
        let mut start = 0;
        piece.ends.iter().map(move |end| {
            let text = piece.data.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            text
        })
    })
}

fn distinct(hashes: impl Iterator<Item = u64>) -> usize {
    let mut hashes: Vec<u64> = hashes.collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.len()
}

/// A quick hash, for counting distinct values only: a collision costs nothing but a less apt encoding.
fn hash(value: &[u8]) -> u64 {
    let mut hash = value.len() as u64;
    let mut blocks = value.chunks_exact(8);
    for block in &mut blocks {
        let word = block.first_chunk::<8>().map_or(0, |block| u64::from_le_bytes(*block));
        hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    for byte in blocks.remainder() {
        hash = (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash
}

/// Makes Arrow arrays of a column and gives each to `write`, piece by piece, so that written pieces can go.
fn arrays(kind: ColumnType, column: Column, rows: usize, write: &mut dyn FnMut(ArrayRef) -> Result<()>) -> Result<()> {
    let Column { values, validity } = column;
    let nulls = nulls(&validity, values.len(), rows);
    let places = nulls.as_ref();
    let array: ArrayRef = match values {
        Values::Int(v) => Arc::new(Int64Array::new(spread(v, places, rows).into(), nulls)),
        Values::Date(v) => Arc::new(Int32Array::new(spread(v, places, rows).into(), nulls)),
        Values::Float(v) => Arc::new(Float64Array::new(spread(v, places, rows).into(), nulls)),
        Values::Bool(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(spread(v, places, rows)), nulls)),
        Values::Decimal(v) => {
            Arc::new(Decimal128Array::new(spread(v, places, rows).into(), nulls).with_data_type(kind.arrow()))
        }
        Values::Bytes { full, open } => {
            let mut row = 0;
            for piece in full {
                let (array, end) = bytes(piece, places, row..rows, false);
                write(array)?;
                row = end;
            }
            bytes(open, places, row..rows, true).0
        }
    };
    write(array)
}

/// The array of one piece, and the row behind it. `last`: the rows without a value at the end belong to it, too.
fn bytes(piece: Piece, nulls: Option<&NullBuffer>, rows: Range<usize>, last: bool) -> (ArrayRef, usize) {
    let Piece { data, ends } = piece;
    let mut offsets = Vec::with_capacity(nulls.map_or(ends.len(), |_| rows.len()) + 1);
    // A piece has at most one line's bytes more than its capacity: far below 2 GB.
    let offset = |end: &u32| i32::try_from(*end).unwrap_or(i32::MAX);
    offsets.push(0);
    let end = match nulls {
        None => {
            offsets.extend(ends.iter().map(offset));
            rows.start + ends.len()
        }
        Some(nulls) => {
            let rows_left = nulls.slice(rows.start, rows.len());
            let mut count = 0;
            // A row without a value ends where the one before it does.
            offsets.extend(rows_left.inner().iter().map_while(|valid| {
                let wanted = last || count < ends.len();
                count += usize::from(valid);
                wanted.then(|| ends.get(count.wrapping_sub(1)).map_or(0, offset))
            }));
            rows.start + offsets.len() - 1
        }
    };
    let nulls = nulls.map(|nulls| nulls.slice(rows.start, end - rows.start));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    (Arc::new(BinaryArray::new(offsets, Buffer::from_vec(data), nulls)), end)
}

/// The rows without a value, if there are any.
fn nulls(validity: &Validity, count: usize, rows: usize) -> Option<NullBuffer> {
    if count == rows {
        return None;
    }
    let words = rows.div_ceil(64);
    let mut bits = validity.bits().map_or_else(|| vec![u64::MAX; count / 64], <[u64]>::to_vec);
    if validity.bits().is_none() {
        bits.push((1u64 << (count % 64)) - 1);
    }
    bits.resize(words, 0);
    Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows)))
}

/// JSON text as the Parquet library takes it.
fn without_lengths(values: Values) -> Values {
    let Values::Bytes { full, open } = values else { return values };
    let strip = |piece: Piece| {
        let mut data = Vec::with_capacity(piece.data.len());
        let mut start = 0;
        let ends = piece.ends.iter().map(|end| {
            data.extend_from_slice(piece.data.get(start + 4..*end as usize).unwrap_or_default());
            start = *end as usize;
            u32::try_from(data.len()).unwrap_or(u32::MAX)
        });
        let ends = ends.collect();
        Piece { data, ends }
    };
    Values::Bytes { full: full.into_iter().map(strip).collect(), open: strip(open) }
}

/// `values` put at their rows, with defaults where a row has none.
fn spread<T: Copy + Default>(values: Vec<T>, nulls: Option<&NullBuffer>, rows: usize) -> Vec<T> {
    let Some(nulls) = nulls else { return values };
    let mut out = vec![T::default(); rows];
    for (row, value) in nulls.inner().set_indices().zip(values) {
        if let Some(slot) = out.get_mut(row) {
            *slot = value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::columns::column_type::LayoutColumn;
    use crate::target::files::codec;
    use crate::target::files::layout::Place;

    /// The thread that waits for a column hears that the other one, which took it, is gone.
    #[test]
    fn a_panic_is_told_to_the_thread_that_waits() {
        let kind = ColumnType::Bool;
        let column = LayoutColumn { name: "a".to_owned(), kind, parquet: kind.parquet("a").unwrap() };
        let layout = Layout {
            id: 1,
            sink: 1,
            stream: "s".to_owned(),
            place: Place::Stream,
            folder: "s".to_owned(),
            columns: Arc::new([column]),
            compression: codec::compression("none", None).unwrap(),
            footer: Arc::new([]),
            max_file_bytes: 1,
            rows_cut: 0.into(),
        };
        let column = Column { values: Values::Bool(vec![true]), validity: Validity::default() };
        let group = RowGroup::new(Arc::new(layout), 1, 0, vec![column]);
        assert!(lock(&group.waiting).pop().is_some());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| group.told(|| panic!("a fault of the test")));
            assert!(group.chunk(0).is_err());
            assert!(other.join().is_err());
        });
    }
}
