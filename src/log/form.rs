//! How a line is written: for a machine, for a person on a terminal, or for another program that shows it.

use std::time::{SystemTime, UNIX_EPOCH};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every request.
    Debug,
    /// What a person wants to know while it runs.
    Info,
    /// Something to look at; the run goes on.
    Warning,
    /// The run ends; printed once, last.
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
        }
    }

    /// The level that a word names, in any case.
    pub fn parse(text: &str) -> Option<Level> {
        match text.trim().to_ascii_uppercase().as_str() {
            "DEBUG" | "TRACE" => Some(Level::Debug),
            "INFO" => Some(Level::Info),
            "WARNING" | "WARN" => Some(Level::Warning),
            "ERROR" | "CRITICAL" | "FATAL" => Some(Level::Critical),
            _ => None,
        }
    }
}

/// Begins a line, and clears what a bar of another program may have left on it.
const CLEAR: &str = "\r\u{1b}[2K";

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Time, level and text.
    Plain,
    /// A JSON object, as Meltano parses it.
    Structured,
    /// The program and the text, on a terminal; with colours or without.
    Terminal { colours: bool },
    /// Level and text, for the program that started this one and shows its lines.
    Shown,
}

impl Form {
    /// A whole line of this form, with its end. `text` has no control characters.
    pub(super) fn line(self, program: &str, level: Level, text: &str) -> String {
        match self {
            Form::Plain => {
                format!("{} {} {text}\n", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ"), level.name())
            }
            Form::Structured => structured(program, level, text),
            Form::Terminal { colours } => format!("{CLEAR}{}\n", terminal(program, level, text, colours)),
            Form::Shown => format!("{} {text}\n", level.name()),
        }
    }
}

fn structured(program: &str, level: Level, text: &str) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let object = serde_json::json!({
        "level": level.name().to_ascii_lowercase(), "pid": std::process::id(), "logger_name": program, "ts": seconds,
        "thread_name": "main", "app_name": program, "stream_name": null, "message": text, "extra": {},
    });
    format!("{object}\n")
}

fn terminal(program: &str, level: Level, text: &str, colours: bool) -> String {
    let (colour, word) = match level {
        Level::Debug => ("2", ""),
        Level::Info => ("0", ""),
        Level::Warning => ("33", "warning: "),
        Level::Critical => ("31", "failed: "),
    };
    if !colours {
        return format!("{program}: {word}{text}");
    }
    format!("\u{1b}[2m{program}:\u{1b}[0m \u{1b}[{colour}m{word}\u{1b}[0m{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structured_line_has_the_keys_that_meltano_looks_for() {
        let value: serde_json::Value =
            serde_json::from_str(&Form::Structured.line("tap-posthog", Level::Info, "hello")).unwrap();
        for key in ["level", "pid", "logger_name", "ts", "thread_name", "app_name", "message"] {
            assert!(!value[key].is_null(), "{key}");
        }
        assert_eq!(value["level"], "info");
    }

    #[test]
    fn a_line_on_a_terminal_says_who_speaks_and_stands_alone() {
        let line = |level| Form::Terminal { colours: false }.line("tap", level, "hello");
        assert_eq!(line(Level::Info), "\r\u{1b}[2Ktap: hello\n");
        assert_eq!(line(Level::Warning), "\r\u{1b}[2Ktap: warning: hello\n");
        assert_eq!(line(Level::Critical), "\r\u{1b}[2Ktap: failed: hello\n");
        assert_eq!(Form::Shown.line("tap", Level::Info, "hello"), "INFO hello\n");
    }

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(Level::parse("warning"), Some(Level::Warning));
        assert_eq!(Level::parse("nonsense"), None);
        assert!(Level::Critical > Level::Debug);
    }
}
