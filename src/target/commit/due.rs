//! When a commit is due: at a STATE, before files outgrow their limits, or when the last one is long ago.

use std::sync::Arc;
use std::time::Instant;

use crate::target::settings::Settings;

/// Rows and bytes since the last commit and since the last STATE.
#[derive(Debug)]
pub struct Due {
    settings: Arc<Settings>,
    /// Rows since the newest STATE.
    pub rows_behind_state: u64,
    /// Rows and bytes between the last two STATEs, to foresee whether another interval fits into the file.
    interval_rows: u64,
    interval_bytes: u64,
    bytes_at_state: u64,
    last_commit: Instant,
}

impl Due {
    /// At the start of a run.
    pub fn new(settings: Arc<Settings>) -> Self {
        let last_commit = Instant::now();
        Due { settings, rows_behind_state: 0, interval_rows: 0, interval_bytes: 0, bytes_at_state: 0, last_commit }
    }

    /// A STATE came, when so many bytes had been written.
    pub fn on_state(&mut self, bytes_written: u64) {
        self.interval_rows = std::mem::take(&mut self.rows_behind_state);
        self.interval_bytes = bytes_written.saturating_sub(self.bytes_at_state);
        self.bytes_at_state = bytes_written;
    }

    /// True if a file of so many rows or bytes would grow beyond its limits in another interval as long as the last one,
    /// or is old enough.
    pub fn is_due(&self, rows: u64, bytes: u64) -> bool {
        rows + self.interval_rows > self.settings.batch_size_rows
            || bytes + self.interval_bytes > self.settings.file_size_bytes
            || self.last_commit.elapsed() >= self.settings.max_batch_age
    }

    /// When rows have waited long enough, if nothing more comes.
    pub fn deadline(&self) -> Instant {
        self.last_commit + self.settings.max_batch_age
    }

    /// A commit was made.
    pub fn committed(&mut self) {
        (self.interval_rows, self.interval_bytes, self.bytes_at_state) = (0, 0, 0);
        self.last_commit = Instant::now();
    }
}
