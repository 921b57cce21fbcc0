//! What the tap says, on the terminal of the run: its lines with its name, and one bar for both programs.
//!
//! A tap of this project knows that its lines are shown here, and writes them for that ([`log::SHOWN`]). Of other taps the
//! level is looked for in the usual places.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log::{self, Level};

/// A longer line is cut.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// How long the last lines of a tap that has ended are waited for: a process that it left behind may hold them open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the bar moves while nothing comes.
const TICK: Duration = Duration::from_millis(250);

/// What the tap remarked, by stream.
type Remarks = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// The display of a run.
pub(super) struct Display {
    bar: ProgressBar,
    /// The tap tells its progress itself.
    tells_progress: Arc<AtomicBool>,
    remarks: Remarks,
    ended: Receiver<()>,
}

impl Display {
    /// Begins to show what the tap called `name` says.
    pub(super) fn start(name: &str, said: ChildStderr) -> Display {
        let bar = if log::enabled(Level::Info) {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("waiting for {name}"));
        bar.enable_steady_tick(TICK);
        log::show_above(Some(bar.clone()));
        let (sender, ended) = channel();
        let (tells_progress, remarks) = (Arc::new(AtomicBool::new(false)), Remarks::default());
        let teller = Teller {
            name: name.to_owned(),
            bar: bar.clone(),
            tells_progress: Arc::clone(&tells_progress),
            remarks: Arc::clone(&remarks),
        };
        std::thread::spawn(move || {
            teller.tell(said);
            drop(sender);
        });
        Display { bar, tells_progress, remarks, ended }
    }

    /// So many messages came.
    pub(super) fn came(&self, messages: u64) {
        if !self.tells_progress.load(Ordering::Relaxed) {
            self.bar.set_message(format!("{messages} messages"));
        }
    }

    /// What the tap remarked on a stream.
    pub(super) fn remarks(&self, stream: &str) -> Vec<String> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).get(stream).cloned().unwrap_or_default()
    }

    /// Shows the last lines of a tap that has ended, and removes the bar.
    pub(super) fn end(&mut self) {
        let _ = self.ended.recv_timeout(LAST_WORDS);
        log::show_above(None);
        self.bar.finish_and_clear();
    }
}

/// The thread that reads what the tap says.
struct Teller {
    name: String,
    bar: ProgressBar,
    tells_progress: Arc<AtomicBool>,
    remarks: Remarks,
}

impl Teller {
    fn tell(&self, said: ChildStderr) {
        let mut said = BufReader::new(said);
        let mut line = Vec::new();
        while (&mut said).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            self.line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }

    fn line(&self, line: &str) {
        match Said::of(line, &self.name) {
            Said::Nothing => {}
            Said::Progress(text) => {
                self.tells_progress.store(true, Ordering::Relaxed);
                self.bar.set_message(text.to_owned());
            }
            Said::Remark { stream, text } => {
                let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
                remarks.entry(stream).or_default().push(text);
            }
            Said::Line(level, text) => log::line_of(&self.name, level, text),
        }
    }
}

/// A line of a tap.
#[derive(Debug, PartialEq)]
enum Said<'a> {
    /// An empty line, or a metric, which is for machines.
    Nothing,
    /// How far the tap is.
    Progress(&'a str),
    /// For the summary.
    Remark { stream: String, text: String },
    /// Words.
    Line(Level, &'a str),
}

impl<'a> Said<'a> {
    fn of(line: &'a str, name: &str) -> Said<'a> {
        if line.trim().is_empty() || line.contains("METRIC: {") {
            return Said::Nothing;
        }
        if let Some(text) = line.strip_prefix(log::PROGRESS) {
            return Said::Progress(text.trim());
        }
        if let Some(remark) = line.strip_prefix(log::REMARK)
            && let Ok((stream, text)) = serde_json::from_str(remark)
        {
            return Said::Remark { stream, text };
        }
        let (level, text) = level(line, name);
        Said::Line(level, text)
    }
}

/// The level of a line, and its text: behind the level, and behind the name that the terminal shows anyway. The forms are
/// those of Singer programs: `INFO text`, and `time | INFO | name | text` of the SDK.
fn level<'a>(line: &'a str, name: &str) -> (Level, &'a str) {
    let separates = |c: char| c.is_whitespace() || c == '|';
    let mut rest = line;
    // A time takes one word or two.
    for _ in 0..3 {
        let word = rest.split(separates).next().unwrap_or_default();
        let behind = rest.get(word.len()..).unwrap_or_default().trim_start_matches(separates);
        if let Some(level) = Level::parse(word.trim_matches([':', '[', ']'])) {
            let text = behind.strip_prefix(name).filter(|text| text.trim_start().starts_with('|'));
            return (level, text.unwrap_or(behind).trim_start_matches(separates));
        }
        rest = behind;
    }
    (Level::Info, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_taps_are_understood() {
        let line = |line| Said::of(line, "tap-x");
        let warning = Said::Line(Level::Warning, "it is late");
        assert_eq!(line("WARNING it is late"), warning);
        assert_eq!(line("2026-11-29T21:00:00.123Z WARNING it is late"), warning);
        assert_eq!(line("2026-11-29 21:00:00,123 | WARNING  | tap-x | it is late"), warning);
        assert_eq!(line("ERROR: no key"), Said::Line(Level::Critical, "no key"));
        assert_eq!(
            line("Traceback (most recent call last):"),
            Said::Line(Level::Info, "Traceback (most recent call last):")
        );
        assert_eq!(line("INFO METRIC: {\"type\": \"counter\"}"), Said::Nothing);
        assert_eq!(line("  "), Said::Nothing);
        assert_eq!(line("PROGRESS events: 5 rows"), Said::Progress("events: 5 rows"));
        let remark = Said::Remark { stream: "events".to_owned(), text: "proved 3 of 3 slices".to_owned() };
        assert_eq!(line("REMARK [\"events\",\"proved 3 of 3 slices\"]"), remark);
    }
}
