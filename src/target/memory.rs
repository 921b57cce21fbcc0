//! How `memory_limit_mb` is shared out. Found by measuring the process, not by adding up what the code asks for.

/// What the process takes apart from row groups: code, line buffer, the encoder's dictionaries, pages and compressors,
/// footers of open files.
const FIXED: usize = 44 << 20;
/// Row groups are never made smaller than this together.
const LEAST: usize = 8 << 20;

/// The bytes that open row groups may take: as much again is in the encoder's hands at the same time.
#[must_use]
pub fn row_groups(limit: usize, window: usize) -> usize {
    (limit.saturating_sub(FIXED + window) / 2).max(LEAST)
}
