//! Column chunks of JSON text, written here: in a nested stream nearly every byte is in one.
//!
//! The Parquet library's column writer moves such text four times between a cell and the compressor, and hands it over in
//! pages of one megabyte that know nothing of each other. Here a cell stands in its piece as the page has it, it is moved
//! once, and a page is larger than what it compresses against.

use std::ops::Range;

use arrow_buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{SchemaDescriptor, TypePtr};
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

use super::cells::{Piece, give_back};

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

/// An encoded chunk, and what the footer says of it.
#[derive(Debug)]
pub struct JsonChunk {
    pages: Bytes,
    close: ColumnCloseResult,
}

impl JsonChunk {
    /// The chunk of a column whose values are `pieces` (as [`super::cells`] makes them), in `rows` rows of which those of
    /// `nulls` have none. `root` is the schema with this column alone.
    ///
    /// # Errors
    /// When the compressor fails, or the library refuses what it is given.
    pub fn new(
        root: TypePtr,
        level: Level,
        pieces: Vec<Piece>,
        nulls: Option<&NullBuffer>,
        rows: usize,
    ) -> Result<Self> {
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

    /// The encoded pages.
    #[must_use]
    pub fn pages(&self) -> &Bytes {
        &self.pages
    }

    /// What the footer says of them; `page_index` tells whether it lists their places.
    #[must_use]
    pub fn close(mut self, page_index: bool) -> ColumnCloseResult {
        if !page_index {
            self.close.offset_index = None;
        }
        self.close
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
        give_back(piece.data);
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
