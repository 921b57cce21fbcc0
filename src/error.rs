//! One error for both programs: what class of failure it is (and so which exit code the process ends with), and one
//! line that says what was tried, on what, and what to do. Variants are named after what the caller does about them.

use std::fmt;

/// What class of failure an [`Error`] is. Each class has its own exit code, so a shell script can tell
/// "fix the key" from "try later" from "the disk is full".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fault of ours: something held to be impossible was seen.
    Internal,
    /// The command line cannot be understood.
    Usage,
    /// Settings, credentials, state or catalog are wrong.
    Config,
    /// PostHog refused, is unreachable, or failed for good.
    Service,
    /// The disk or store failed; nothing after the last commit is promised.
    Disk,
    /// The input is not Singer.
    NotSinger,
    /// A record does not fit the schema of its stream.
    Misfit,
    /// The reader of our standard output went away.
    Pipe,
    /// Rows are missing: a count proof failed.
    Incomplete,
    /// Stopped early by a limit; the state is saved and the next run continues.
    Stopped,
    /// A signal ended the run; the number is the signal's.
    Signal(u8),
    /// The tap that this run started failed with this exit code.
    Tap(u8),
}

impl Kind {
    /// The exit code of the process for this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Config => 3,
            Kind::Service => 4,
            Kind::Disk => 5,
            Kind::NotSinger => 6,
            Kind::Misfit => 7,
            Kind::Pipe => 8,
            Kind::Incomplete => 9,
            Kind::Stopped => 75,
            Kind::Signal(number) => 128u8.saturating_add(number),
            Kind::Tap(code) => code,
        }
    }
}

/// A failure: a [`Kind`] and one line of text. Cheap to pass around (one pointer).
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    setting: Option<&'static str>,
}

/// The result type of both programs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`. `message` says what was tried, on what, and what to do; it never holds a secret or a record.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), setting: None }))
    }

    /// The same failure with `what:` in front of its text.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// The same failure, about the value of this setting.
    pub fn about(mut self, setting: &'static str) -> Self {
        self.0.setting = Some(setting);
        self
    }

    /// The setting whose value is wrong, by its own name.
    pub fn setting(&self) -> Option<&'static str> {
        self.0.setting
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// `text` on one line: control characters (server texts, stream names) are escaped so that they can neither forge a
/// log line nor drive a terminal.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || c == '\u{2028}' || c == '\u{2029}' {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [
            Kind::Internal,
            Kind::Usage,
            Kind::Config,
            Kind::Service,
            Kind::Disk,
            Kind::NotSinger,
            Kind::Misfit,
            Kind::Pipe,
            Kind::Incomplete,
            Kind::Stopped,
            Kind::Signal(15),
        ]
        .map(Kind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 75, 143]);
    }

    #[test]
    fn context_goes_in_front() {
        let e = Error::new(Kind::Disk, "no space left").context("writing events");
        assert_eq!(e.to_string(), "writing events: no space left");
        assert_eq!(e.kind(), Kind::Disk);
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(one_line("a\nCRITICAL b\u{1b}[2J"), "a\\u{a}CRITICAL b\\u{1b}[2J");
        assert_eq!(one_line("naïve 🎉"), "naïve 🎉");
    }
}
