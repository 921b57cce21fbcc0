//! The settings `compression` and `compression_level` as a codec.

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use serde_json::Value;

use super::json_chunk::Level;
use crate::error::Result;
use crate::target::settings::{Codec, refused};

/// The codec that these settings name.
pub fn compression(name: &str, level: Value) -> Result<Codec> {
    let is_default = level.is_null();
    let compression = codec(name, level)?;
    let json = match compression {
        Compression::ZSTD(_) if is_default => Some(Level::Events),
        Compression::ZSTD(level) => Some(Level::Zstd(level.compression_level())),
        _ => None,
    };
    Ok(Codec { compression, json })
}

fn codec(name: &str, level: Value) -> Result<Compression> {
    let level: Option<i32> = match &level {
        Value::Null => None,
        Value::String(text) => Some(text.parse().map_err(|_| refused("compression_level", "a whole number"))?),
        other => {
            let number = other.as_i64().and_then(|n| i32::try_from(n).ok());
            Some(number.ok_or_else(|| refused("compression_level", "a whole number"))?)
        }
    };
    let unsigned = |default: u32| level.map_or(Some(default), |level| u32::try_from(level).ok());
    let codec = match name.to_ascii_lowercase().as_str() {
        "zstd" => ZstdLevel::try_new(level.unwrap_or(1)).ok().map(Compression::ZSTD),
        "snappy" => Some(Compression::SNAPPY),
        "gzip" => unsigned(6).and_then(|level| GzipLevel::try_new(level).ok()).map(Compression::GZIP),
        "brotli" => unsigned(1).and_then(|level| BrotliLevel::try_new(level).ok()).map(Compression::BROTLI),
        "lz4" => Some(Compression::LZ4_RAW),
        "none" | "uncompressed" => Some(Compression::UNCOMPRESSED),
        _ => return Err(refused("compression", "zstd, snappy, gzip, brotli, lz4 or none")),
    };
    codec.ok_or_else(|| refused("compression_level", "1 to 22 for zstd, 0 to 9 for gzip, 0 to 11 for brotli"))
}
