//! Column chunks of JSON text, written here: in a nested stream nearly every byte is in one.
//!
//! The Parquet library's column writer moves such text four times between a cell and the compressor, and hands it over in
//! pages of one megabyte that know nothing of each other. Here a cell stands in its piece as the page has it, it is moved
//! once, and a page is larger than what it compresses against.

use std::io::Write;
use std::ops::Range;

use arrow_buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::{SchemaDescriptor, TypePtr};
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

use crate::target::columns::values::Piece;

/// A page takes pieces until it has so many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// How hard the text is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// By settings found for events: long matches only, looked for up to 2 MB back, where the session's last event is.
    /// Faster than level 1, and smaller than level 2.
    Events,
    /// By a level of zstd.
    Zstd(i32),
}

/// A column of JSON text.
#[derive(Debug)]
pub struct JsonColumn {
    /// The values, each behind its length.
    pub pieces: Vec<Piece>,
    /// The rows without a value, if there are any.
    pub nulls: Option<NullBuffer>,
    /// How many rows there are.
    pub rows: usize,
}

/// An encoded chunk, and its entry in the footer.
#[derive(Debug)]
pub struct JsonChunk {
    pages: Bytes,
    close: ColumnCloseResult,
}

impl JsonChunk {
    /// Encodes a column. `root` is the schema with this column alone.
    pub fn new(root: TypePtr, level: Level, column: JsonColumn) -> Result<Self> {
        let JsonColumn { pieces, nulls, rows } = column;
        let nulls = nulls.as_ref();
        let mut sink = TrackedWrite::new(Vec::new());
        let mut writer = SerializedPageWriter::new(&mut sink);
        let mut offsets = OffsetIndexBuilder::new();
        let (mut uncompressed, mut count, mut row) = (0, 0, 0);
        let mut pieces = pieces.into_iter().peekable();
        while row < rows {
            let page = take_page(&mut pieces);
            let values = page.iter().map(|piece| piece.ends.len()).sum();
            let end = if pieces.peek().is_none() { rows } else { row_behind(nulls, row, values) };
            let (data, size) = compress(levels(nulls, row..end), page, level)?;
            let written = writer.write_page(data_page(data, size, end - row))?;
            offsets.append_row_count(to_i64(end - row));
            offsets.append_offset_and_size(
                to_i64(written.offset),
                i32::try_from(written.compressed_size).unwrap_or(i32::MAX),
            );
            uncompressed += written.uncompressed_size;
            count += 1;
            row = end;
        }
        let bytes_written = sink.bytes_written() as u64;
        let pages = Bytes::from(sink.into_inner()?);
        let stats = PageEncodingStats { page_type: PageType::DATA_PAGE, encoding: Encoding::PLAIN, count };
        let metadata = ColumnChunkMetaData::builder(SchemaDescriptor::new(root).column(0))
            .set_compression(Compression::ZSTD(Default::default()))
            .set_encodings_mask(EncodingMask::new_from_encodings([Encoding::PLAIN, Encoding::RLE].iter()))
            .set_page_encoding_stats(vec![stats])
            .set_total_compressed_size(to_i64(pages.len()))
            .set_total_uncompressed_size(to_i64(uncompressed))
            .set_num_values(to_i64(rows))
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offsets.build()),
        };
        Ok(JsonChunk { pages, close })
    }

    /// Appends the chunk to a file's row group; `page_index` tells whether the footer lists the places of its pages.
    pub fn append_to<W: Write + Send>(
        mut self,
        file: &mut SerializedRowGroupWriter<'_, W>,
        page_index: bool,
    ) -> Result<()> {
        if !page_index {
            self.close.offset_index = None;
        }
        file.append_column(&self.pages, self.close)
    }
}

fn to_i64<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn take_page(pieces: &mut impl Iterator<Item = Piece>) -> Vec<Piece> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(piece) = pieces.next()
    {
        bytes += piece.data.len();
        page.push(piece);
    }
    page
}

/// The row behind the one that has the last of the next `values` values from `row` on.
fn row_behind(nulls: Option<&NullBuffer>, row: usize, values: usize) -> usize {
    let Some(nulls) = nulls else { return row + values };
    let left = nulls.inner().slice(row, nulls.len() - row);
    let last = values.checked_sub(1).and_then(|last| left.set_indices().nth(last));
    last.map_or(row, |last| row + last + 1)
}

/// Which of these rows have a value, as a page of format 1 begins: a length, and a run of ones or of bits.
fn levels(nulls: Option<&NullBuffer>, rows: Range<usize>) -> Vec<u8> {
    let count = rows.len();
    let mut run = Vec::new();
    match nulls.map(|nulls| nulls.inner().slice(rows.start, count)).filter(|bits| bits.count_set_bits() < count) {
        None => {
            varint(count << 1, &mut run);
            run.push(1);
        }
        Some(bits) => {
            let bytes = count.div_ceil(8);
            varint(bytes << 1 | 1, &mut run);
            run.extend_from_slice(bits.sliced().get(..bytes).unwrap_or_default());
        }
    }
    let length = u32::try_from(run.len()).unwrap_or(u32::MAX).to_le_bytes();
    [length.as_slice(), &run].concat()
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The compressed page, and its size before.
fn compress(mut page: Vec<u8>, pieces: Vec<Piece>, level: Level) -> Result<(Vec<u8>, usize)> {
    // The compressor is quickest on a page that lies in one piece.
    page.reserve_exact(pieces.iter().map(|piece| piece.data.len()).sum());
    for piece in pieces {
        page.extend_from_slice(&piece.data);
    }
    let number = if let Level::Zstd(level) = level { level } else { 1 };
    let mut compressor = zstd::bulk::Compressor::new(number)?;
    if level == Level::Events {
        compressor.set_parameter(CParameter::Strategy(Strategy::ZSTD_fast))?;
        compressor.set_parameter(CParameter::WindowLog(21))?;
        compressor.set_parameter(CParameter::HashLog(15))?;
        compressor.set_parameter(CParameter::MinMatch(7))?;
    }
    let mut compressed = Vec::with_capacity(compress_bound(page.len()));
    compressor.compress_to_buffer(&page, &mut compressed)?;
    Ok((compressed, page.len()))
}

fn data_page(data: Vec<u8>, uncompressed: usize, rows: usize) -> CompressedPage {
    let page = Page::DataPage {
        buf: Bytes::from(data),
        num_values: u32::try_from(rows).unwrap_or(u32::MAX),
        encoding: Encoding::PLAIN,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    };
    CompressedPage::new(page, uncompressed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::properties::WriterProperties;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::record::RowAccessor as _;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    fn piece(values: &[String]) -> Piece {
        let mut piece = Piece::default();
        for value in values {
            piece.data.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
            piece.data.extend_from_slice(value.as_bytes());
            piece.ends.push(u32::try_from(piece.data.len()).unwrap());
        }
        piece
    }

    /// Writes a column, reads it back with the library's reader, and gives its values and how many pages it has.
    fn written(
        pieces: Vec<Piece>,
        present: Option<&[bool]>,
        rows: usize,
        level: Level,
    ) -> (Vec<Option<String>>, usize) {
        let root = Arc::new(parse_message_type("message schema { optional binary j (JSON); }").unwrap());
        let nulls = present.map(|present| NullBuffer::from(present.to_vec()));
        let column = JsonColumn { pieces, nulls, rows };
        let chunk = JsonChunk::new(Arc::clone(&root), level, column).unwrap();
        let mut file = SerializedFileWriter::new(Vec::new(), root, Arc::new(WriterProperties::new())).unwrap();
        let mut group = file.next_row_group().unwrap();
        let pages = chunk.close.offset_index.as_ref().unwrap().page_locations().len();
        group.append_column(&chunk.pages, chunk.close).unwrap();
        group.close().unwrap();
        let reader = SerializedFileReader::new(Bytes::from(file.into_inner().unwrap())).unwrap();
        let values = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_string(0).ok().cloned()).collect();
        (values, pages)
    }

    #[test]
    fn pages_end_where_their_rows_do() {
        let large = |n: usize| format!("[{n},\"{}\"]", "é".repeat(500_000));
        let values: Vec<String> = (0..12).map(large).collect();
        let pieces = || values.chunks(5).map(piece).collect();
        let whole = values.iter().cloned().map(Some).collect();
        assert!(written(pieces(), None, 12, Level::Events) == (whole, 3));
        // Two rows without a value before each, and some behind the last one.
        let rows: Vec<Option<String>> =
            values.iter().flat_map(|v| [None, None, Some(v.clone())]).chain([const { None }; 5]).collect();
        let present: Vec<bool> = rows.iter().map(Option::is_some).collect();
        assert!(written(pieces(), Some(&present), rows.len(), Level::Zstd(3)) == (rows, 3));
    }

    #[test]
    fn few_rows_and_none_with_a_value() {
        for level in [Level::Events, Level::Zstd(1), Level::Zstd(19)] {
            let one = vec![Some("{}".to_owned())];
            assert_eq!(written(vec![piece(&["{}".to_owned()])], None, 1, level), (one, 1));
            assert_eq!(written(vec![Piece::default()], Some(&[false; 9]), 9, level), (vec![None; 9], 1));
        }
    }
}
