//! The settings `compression` and `compression_level` as a codec.

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};

use super::json_chunk::Level;

/// How columns are compressed. JSON text gains by a level that other columns only pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Of every column, with its level.
    pub compression: Compression,
    /// The level for JSON text, where the codec is zstd.
    pub json: Option<Level>,
}

/// The codec of this name; none where it has no such level.
pub fn compression(name: &str, level: Option<u64>) -> Option<Codec> {
    let compression = codec(name, level)?;
    let json = match compression {
        Compression::ZSTD(_) if level.is_none() => Some(Level::Events),
        Compression::ZSTD(level) => Some(Level::Zstd(level.compression_level())),
        _ => None,
    };
    Some(Codec { compression, json })
}

fn codec(name: &str, level: Option<u64>) -> Option<Compression> {
    let level = |default: u32| level.map_or(Some(default), |level| u32::try_from(level).ok());
    match name {
        "snappy" => Some(Compression::SNAPPY),
        "gzip" => GzipLevel::try_new(level(6)?).ok().map(Compression::GZIP),
        "brotli" => BrotliLevel::try_new(level(1)?).ok().map(Compression::BROTLI),
        "lz4" => Some(Compression::LZ4_RAW),
        "none" => Some(Compression::UNCOMPRESSED),
        _ => ZstdLevel::try_new(i32::try_from(level(1)?).ok()?).ok().map(Compression::ZSTD),
    }
}
