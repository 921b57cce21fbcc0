//! How far a run is: a bar on a terminal (of this program, or of the one that shows its lines), otherwise a line every ten
//! seconds. Both go on while the run waits: they are written by a thread of their own.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock;
use crate::log::{self, Level};
use crate::metrics;
use crate::posthog::pace::waits::Waits;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the counters of the metrics are written.
const METRIC_EVERY: Duration = Duration::from_secs(60);
/// How often the bar shows the time that passed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Rows of one stream, against how many there are where that is known. Dropped, it ends its display and writes what its
/// counter has not said.
#[derive(Debug)]
pub struct Progress {
    stream: String,
    counts: Arc<Mutex<Counts>>,
    written: u64,
    last_metric: (Instant, u64),
    /// Ends the thread when it is dropped.
    show: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    /// None where PostHog does not tell.
    planned: Option<u64>,
    done: u64,
    started: Instant,
    waited_before: Duration,
}

impl Progress {
    /// Progress towards about `planned` rows, if that is known, with the waits on the way.
    pub fn new(stream: &str, planned: Option<u64>, waits: &Arc<Waits>) -> Progress {
        let now = clock::now();
        let counts = Counts { planned, done: 0, started: now, waited_before: waits.total(now) };
        let counts = Arc::new(Mutex::new(counts));
        let (sender, ended) = mpsc::channel();
        let (shown, waits, prefix) = (Arc::clone(&counts), Arc::clone(waits), stream.to_owned());
        let show = std::thread::Builder::new().name("progress".to_owned()).stack_size(256 * 1024).spawn(move || {
            let is_shown = log::is_terminal() && log::enabled(Level::Info);
            let mut display = Display::new(is_shown.then(ProgressDrawTarget::stderr));
            while ended.recv_timeout(clock::real(LOOK_EVERY)) == Err(RecvTimeoutError::Timeout) {
                let counts = *shown.lock().unwrap_or_else(PoisonError::into_inner);
                display.show(&counts, &waits, &prefix, clock::now());
            }
            display.end();
        });
        let stream = stream.to_owned();
        // Without a thread the run goes on unseen.
        let show = show.ok().map(|thread| (sender, thread));
        Progress { stream, counts, written: 0, last_metric: (now, 0), show }
    }

    /// Counts rows that were read, and those of them that were written.
    pub fn add(&mut self, rows: u64, written: u64) {
        self.counts().done += rows;
        self.written += written;
        let now = clock::now();
        if now - self.last_metric.0 >= METRIC_EVERY {
            self.write_metric(now);
        }
    }

    /// The rows that were read so far.
    pub fn done(&self) -> u64 {
        self.counts().done
    }

    /// Sets how many rows there are, the read ones among them.
    pub fn plan(&self, rows: u64) {
        self.counts().planned = Some(rows);
    }

    /// Ends the display.
    pub fn finish(&mut self) {
        self.end_display();
        self.write_metric(clock::now());
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_metric(&mut self, now: Instant) {
        metrics::counter("record_count", self.written - self.last_metric.1, Some(&self.stream));
        self.last_metric = (now, self.written);
    }

    fn end_display(&mut self) {
        if let Some((sender, thread)) = self.show.take() {
            drop(sender);
            // It has nothing to say but a panic, and that was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Where progress is shown: a bar, or lines.
#[derive(Debug)]
struct Display {
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Display {
    fn new(terminal: Option<ProgressDrawTarget>) -> Display {
        let bar = terminal.map(|terminal| {
            let bar = ProgressBar::with_draw_target(None, terminal);
            bar.set_style(style("{spinner} {msg}"));
            bar
        });
        log::show_above(bar.clone());
        Display { bar, last_line: clock::now() }
    }

    fn show(&mut self, counts: &Counts, waits: &Waits, stream: &str, now: Instant) {
        if let Some(bar) = &self.bar {
            if let Some(planned) = counts.planned {
                bar.set_style(style("{bar:20} {msg}"));
                bar.set_length(planned.max(counts.done));
            }
            bar.set_position(counts.done);
            bar.set_message(format!("{stream}: {}", counts.text(waits, now)));
        } else if log::is_shown() {
            log::progress(&format!("{stream}: {}", counts.text(waits, now)));
        } else if now - self.last_line >= LINE_EVERY {
            self.last_line = now;
            log::info(format!("{stream}: {}", counts.text(waits, now)));
        }
    }

    fn end(&self) {
        log::show_above(None);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Counts {
    /// Rows, rate and waits; share and time left where it is known how many rows there are.
    #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
    fn text(&self, waits: &Waits, now: Instant) -> String {
        let done = self.done;
        let seconds = (now - self.started).as_secs_f64().max(0.001);
        let rate = done as f64 / seconds;
        let mut text = match self.planned {
            None => format!("{done} rows, {rate:.0} rows/s"),
            Some(planned) => {
                let share = done as f64 * 100.0 / planned.max(done).max(1) as f64;
                format!("{done} of about {planned} rows ({share:.0} %), {rate:.0} rows/s")
            }
        };
        if let Some(planned) = self.planned.filter(|_| done > 0) {
            let left = planned.saturating_sub(done) as f64 / rate;
            text += &format!(", about {left:.0} s left");
        }
        let waited = waits.total(now).saturating_sub(self.waited_before).as_secs();
        if waited > 0 {
            text += &format!(", waited {waited} s");
        }
        if let Some((left, kind)) = waits.current(now).filter(|(left, _)| left.as_secs() > 0) {
            text += &format!(", waiting {} s more: {kind}", left.as_secs());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_rate_time_left_and_waits_are_told() {
        let (waits, start) = (Waits::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let counts = Counts { planned: Some(8_000), done: 2_000, started: start, waited_before: Duration::ZERO };
        assert_eq!(counts.text(&waits, at(10)), "2000 of about 8000 rows (25 %), 200 rows/s, about 30 s left");
        waits.begin(at(10), Duration::from_secs(300), "a limit", "");
        assert_eq!(
            counts.text(&waits, at(20)),
            "2000 of about 8000 rows (25 %), 100 rows/s, about 60 s left, waited 10 s, waiting 290 s more: a limit"
        );
        let nothing = Counts { done: 0, ..counts };
        assert!(nothing.text(&Waits::default(), at(10)).ends_with("(0 %), 0 rows/s"));
        let endless = Counts { planned: None, ..counts };
        assert_eq!(endless.text(&waits, at(10)), "2000 rows, 200 rows/s, waiting 300 s more: a limit");
    }
}
