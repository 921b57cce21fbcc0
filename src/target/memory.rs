//! How `memory_limit_mb` is shared out. Found by measuring the process, not by adding up what the code asks for.

/// What the process takes apart from row groups: code, line buffer, the encoder's dictionaries, pages and compressors,
/// footers of open files.
const FIXED: usize = 42 << 20;
/// Row groups are never made smaller than this together.
const LEAST: usize = 8 << 20;

/// What a column costs outside its row group, from a few hundred of them on.
const PER_COLUMN: usize = 1536;

/// The budget of row groups when the streams together have so many columns.
#[must_use]
pub fn less_columns(budget: usize, columns: usize) -> usize {
    budget.saturating_sub(columns * PER_COLUMN).max(LEAST / 2)
}

/// The bytes that open row groups may take: as much again is in the encoder's hands at the same time.
#[must_use]
pub fn row_groups(limit: usize, window: usize) -> usize {
    (limit.saturating_sub(FIXED + window) / 2).max(LEAST)
}
