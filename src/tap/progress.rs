//! How far a run is: a bar on a terminal, otherwise a line every ten seconds.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log;
use crate::metrics;

/// How often a line is written where there is no terminal.
pub(super) const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the counters of the metrics are written.
const METRIC_EVERY: Duration = Duration::from_secs(60);

/// Rows of one stream, against what was planned.
#[derive(Debug)]
pub struct Progress {
    stream: String,
    planned: u64,
    done: u64,
    printed: u64,
    started: Instant,
    last_line: Instant,
    last_metric: (Instant, u64),
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress towards about `planned` rows.
    #[must_use]
    pub fn new(stream: &str, planned: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(planned), ProgressDrawTarget::stderr_with_hz(5));
            let style = "{prefix} {wide_bar} {human_pos}/{human_len} rows {per_sec} {eta}";
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(stream.to_owned());
            bar
        });
        let now = Instant::now();
        let stream = stream.to_owned();
        Progress { stream, planned, done: 0, printed: 0, started: now, last_line: now, last_metric: (now, 0), bar }
    }

    /// Counts rows that were read, and those of them that were printed.
    pub fn add(&mut self, rows: u64, printed: u64) {
        self.done += rows;
        self.printed += printed;
        let now = Instant::now();
        if let Some(bar) = &self.bar {
            bar.set_length(self.planned.max(self.done));
            bar.set_position(self.done);
        } else if now - self.last_line >= LINE_EVERY {
            self.last_line = now;
            log::info(self.text(now));
        }
        if now - self.last_metric.0 >= METRIC_EVERY {
            self.write_metric(now);
        }
    }

    /// Ends the display.
    pub fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.write_metric(Instant::now());
    }

    fn write_metric(&mut self, now: Instant) {
        metrics::counter("record_count", self.printed - self.last_metric.1, Some(&self.stream));
        self.last_metric = (now, self.printed);
    }

    #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
    fn text(&self, now: Instant) -> String {
        let seconds = (now - self.started).as_secs_f64().max(0.001);
        let rate = self.done as f64 / seconds;
        let left = self.planned.saturating_sub(self.done) as f64 / rate.max(0.001);
        let share = self.done as f64 * 100.0 / self.planned.max(self.done).max(1) as f64;
        format!(
            "{}: {} of about {} rows ({share:.0} %), {rate:.0} rows/s, about {left:.0} s left",
            self.stream, self.done, self.planned
        )
    }
}
