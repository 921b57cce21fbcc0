//! How `memory_limit_mb` is shared out. Found by measuring the process, not by adding up sizes.

use parquet::basic::Compression;

/// The bytes of the process apart from row groups: code, line buffer, the encoder's dictionaries, pages and compressors,
/// footers of open files.
const FIXED: usize = 42 << 20;
/// Row groups are never made smaller than this together.
const LEAST: usize = 8 << 20;

/// The bytes of a column outside its row group, from a few hundred columns on.
const PER_COLUMN: usize = 1536;

/// The budget of row groups when the streams together have so many columns.
pub fn less_columns(budget: usize, columns: usize) -> usize {
    budget.saturating_sub(columns * PER_COLUMN).max(LEAST / 2)
}

/// The bytes that open row groups may take: as much again is in the encoder's hands at the same time. `window`: what the
/// fingerprints of rows take.
pub fn row_groups(limit: usize, compression: Compression, window: usize) -> usize {
    (limit.saturating_sub(FIXED + window + compressors(compression)) / 2).max(LEAST)
}

/// The bytes of two compressors at work, above the default levels.
fn compressors(compression: Compression) -> usize {
    let megabytes = match compression {
        Compression::ZSTD(level) => match level.compression_level() {
            ..=3 => 0,
            4..=9 => 20,
            10..=11 => 40,
            12 => 56,
            13..=15 => 96,
            16..=19 => 112,
            _ => 160,
        },
        Compression::BROTLI(level) => match level.compression_level() {
            ..=3 => 14,
            4 => 22,
            5..=8 => 80,
            _ => 136,
        },
        _ => 0,
    };
    megabytes << 20
}

/// The least limit that a codec's compressors leave room in, if it is above `limit`.
pub fn least_limit(compression: Compression, limit: usize) -> Option<usize> {
    let least = compressors(compression) + FIXED + 2 * LEAST;
    Some(least).filter(|least| *least > limit && compressors(compression) > LEAST * 2)
}
