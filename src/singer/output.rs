//! Standard output, owned by one type. Whole lines go out in large writes. A reader that went away is an error of its own
//! kind, not a panic.

use std::io::{self, IsTerminal as _, Write};

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::json::without::without;

/// Lines are handed to the system in writes of at least this many bytes, and at every [`Output::flush`].
const WRITE_BYTES: usize = 64 * 1024;

/// A line that grows beyond this goes out in parts.
const LONG_BYTES: usize = 256 * 1024;

/// Short texts are appended in blocks of this size.
const BLOCK: usize = 32;

/// A buffer that the text of a line is appended to.
pub trait LineText {
    /// Appends a byte.
    fn push(&mut self, byte: u8);
    /// Appends bytes.
    fn extend_from_slice(&mut self, bytes: &[u8]);
    /// Appends the first `length` bytes of `text`. The bytes behind them may be read, too: a short text is copied as a block
    /// of fixed size, which takes no call.
    fn start_of(&mut self, text: &[u8], length: usize);
    /// Makes room. A caller that appends many single bytes calls this now and then.
    fn make_way(&mut self) {}
}

impl LineText for Vec<u8> {
    #[inline]
    fn push(&mut self, byte: u8) {
        Vec::push(self, byte);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        Vec::extend_from_slice(self, bytes);
    }

    #[inline(always)]
    fn start_of(&mut self, text: &[u8], length: usize) {
        let end = self.len().wrapping_add(length);
        match text.first_chunk::<BLOCK>() {
            Some(block) if length <= BLOCK => {
                Vec::extend_from_slice(self, block);
                self.truncate(end);
            }
            _ => start_of_long(self, text, length),
        }
    }
}

#[inline(never)]
fn start_of_long(out: &mut Vec<u8>, text: &[u8], length: usize) {
    match text.first_chunk::<{ 2 * BLOCK }>() {
        Some(blocks) if length <= 2 * BLOCK => {
            let end = out.len().saturating_add(length);
            out.extend_from_slice(blocks);
            out.truncate(end);
        }
        _ => out.extend_from_slice(text.get(..length).unwrap_or(text)),
    }
}

/// A line that is being written. A long one is never held as a whole, so it costs no memory of its own.
pub struct Line<'a> {
    pending: &'a mut Vec<u8>,
    inner: &'a mut dyn Write,
    /// The most bytes that `pending` holds.
    most: usize,
    outcome: io::Result<()>,
}

impl Line<'_> {
    #[cold]
    fn write_out(&mut self, piece: &[u8]) {
        if self.outcome.is_ok() {
            self.outcome = self.inner.write_all(self.pending).and_then(|()| self.inner.write_all(piece));
        }
        self.pending.clear();
    }
}

impl LineText for Line<'_> {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.pending.push(byte);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.pending.len().saturating_add(bytes.len()) > self.most {
            return self.write_out(bytes);
        }
        self.pending.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn start_of(&mut self, text: &[u8], length: usize) {
        if self.pending.len().saturating_add(length) > self.most {
            return self.write_out(text.get(..length).unwrap_or(text));
        }
        self.pending.start_of(text, length);
    }

    fn make_way(&mut self) {
        self.extend_from_slice(b"");
    }
}

/// Standard output (or, in tests, any writer), one whole Singer line after another.
#[derive(Debug)]
pub struct Output<W: Write> {
    inner: W,
    pending: Vec<u8>,
    /// The paths of the members that are left out of RECORD lines.
    hidden: Vec<Vec<String>>,
}

impl Output<Box<dyn Write>> {
    /// Standard output for lines that nobody reads on a terminal: there they go nowhere.
    pub fn for_machines() -> Self {
        match is_terminal() {
            true => Output::new(Box::new(io::sink())),
            false => Output::new(Box::new(io::stdout())),
        }
    }
}

/// Whether a person reads standard output.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// True if standard output is /dev/null: so it is from the start of the process on where it was closed, and no write to it
/// ever fails.
pub fn is_nowhere() -> bool {
    let (output, null) = (rustix::fs::fstat(io::stdout()), rustix::fs::stat("/dev/null"));
    matches!((output, null), (Ok(output), Ok(null)) if (output.st_rdev, output.st_ino) == (null.st_rdev, null.st_ino))
}

impl<W: Write> Output<W> {
    /// An output over `inner`.
    pub fn new(inner: W) -> Self {
        Output { inner, pending: Vec::with_capacity(WRITE_BYTES * 2), hidden: Vec::new() }
    }

    /// Leaves the members at `paths` out of all later records; they lie inside the fields.
    pub fn hide(&mut self, paths: &[Vec<String>]) {
        let in_line = |path: &Vec<String>| [&["record".to_owned()], path.as_slice()].concat();
        self.hidden = paths.iter().map(in_line).collect();
    }

    /// The writer that the lines go to.
    pub fn inner(&self) -> &W {
        &self.inner
    }

    /// Appends one line. `write` puts its text, without the line end, into the buffer that goes to the system, so a record
    /// is written once. After an error of `write`, nothing of the line is kept.
    ///
    /// # Errors
    /// The error of `write`, or [`Kind::Pipe`] when the reader went away.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let start = self.pending.len();
        if let Err(error) = write(&mut self.pending) {
            self.pending.truncate(start);
            return Err(error);
        }
        self.pending.push(b'\n');
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    /// Appends a line of any length. Its beginning may go out before `write` ends, so `write` cannot fail.
    ///
    /// # Errors
    /// [`Kind::Pipe`] when the reader went away.
    pub fn long_line(&mut self, write: impl FnOnce(&mut Line<'_>)) -> Result<()> {
        if self.hidden.is_empty() {
            return self.in_parts(|line| {
                write(line);
                Ok(())
            });
        }
        // The whole line is needed to leave members out of it.
        let mut whole = Vec::new();
        write(&mut Line { pending: &mut whole, inner: &mut io::sink(), most: usize::MAX, outcome: Ok(()) });
        let hidden = std::mem::take(&mut self.hidden);
        let outcome = self.in_parts(|line| {
            without(&whole, &hidden, &mut |part| line.extend_from_slice(part))
                .map_err(|e| Error::new(Kind::Internal, format!("a record cannot be read again: {e}")))
        });
        self.hidden = hidden;
        outcome
    }

    /// Appends a line that goes out in parts.
    fn in_parts(&mut self, write: impl FnOnce(&mut Line<'_>) -> Result<()>) -> Result<()> {
        let mut line = Line { pending: &mut self.pending, inner: &mut self.inner, most: LONG_BYTES, outcome: Ok(()) };
        let written = write(&mut line);
        if let Err(error) = written.and(line.outcome.map_err(|error| output_error(&error))) {
            // Half of the line went out. The rest must not follow as if it were a line.
            self.pending.clear();
            return Err(error);
        }
        self.pending.push(b'\n');
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    /// Appends a JSON value as one line.
    pub fn value(&mut self, value: &Value) -> Result<()> {
        self.line(|out| {
            serde_json::to_writer(out, value)
                .map_err(|e| Error::new(Kind::Internal, format!("writing a message failed: {e}")))
        })
    }

    /// Appends a STATE message and flushes.
    pub fn state(&mut self, value: &Value) -> Result<()> {
        self.value(&serde_json::json!({"type": "STATE", "value": value}))?;
        self.flush()
    }

    /// Appends a SCHEMA message. `bookmark_properties` is left out when empty.
    pub fn schema(&mut self, stream: &str, schema: &Value, keys: &[String], bookmarks: &[String]) -> Result<()> {
        let mut message =
            serde_json::json!({"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": keys});
        if !bookmarks.is_empty() {
            message["bookmark_properties"] = serde_json::json!(bookmarks);
        }
        self.value(&message)
    }

    /// Appends an ACTIVATE_VERSION message: rows of this stream with another version are no longer part of it.
    pub fn activate_version(&mut self, stream: &str, version: i64) -> Result<()> {
        self.value(&serde_json::json!({"type": "ACTIVATE_VERSION", "stream": stream, "version": version}))
    }

    /// Writes a whole text (a catalog, a report) and flushes.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.line(|out| {
            out.extend_from_slice(text.trim_end().as_bytes());
            Ok(())
        })?;
        self.flush()
    }

    /// Gives everything to the system.
    ///
    /// # Errors
    /// [`Kind::Pipe`] when the reader went away, [`Kind::Disk`] for any other failure.
    pub fn flush(&mut self) -> Result<()> {
        self.write_pending()?;
        self.inner.flush().map_err(|e| output_error(&e))
    }

    fn write_pending(&mut self) -> Result<()> {
        let written = self.inner.write_all(&self.pending).map_err(|e| output_error(&e));
        // After a failure, too: half a line went out, and the rest must not follow as if it were a line.
        self.pending.clear();
        self.pending.shrink_to(WRITE_BYTES * 32);
        written
    }
}

fn output_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::new(Kind::Pipe, "standard output was closed by its reader; look for that program's own message")
    } else {
        Error::new(Kind::Disk, format!("writing to standard output failed: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_whole_lines_in_order() {
        let mut out = Output::new(Vec::new());
        out.schema("s", &json!({"type": "object"}), &["id".into()], &[]).unwrap();
        out.line(|b| {
            b.extend_from_slice(b"{\"type\":\"RECORD\"}");
            Ok(())
        })
        .unwrap();
        out.activate_version("s", 7).unwrap();
        out.state(&json!({"a": 1})).unwrap();
        let text = String::from_utf8(out.inner).unwrap();
        let kinds: Vec<String> = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap()["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["SCHEMA", "RECORD", "ACTIVATE_VERSION", "STATE"]);
    }

    proptest::proptest! {
        #[test]
        fn the_start_of_a_text_is_appended(before in 0usize..5, text in proptest::collection::vec(0u8.., 0..150), at: proptest::sample::Index) {
            let length = at.index(text.len() + 1);
            let mut out = vec![b'x'; before];
            out.start_of(&text, length);
            assert_eq!(out, [&vec![b'x'; before], &text[..length]].concat());
            let mut line = Output::new(Vec::new());
            line.long_line(|line| line.start_of(&text, length)).unwrap();
            line.flush().unwrap();
            assert_eq!(line.inner, [&text[..length], b"\n"].concat());
        }
    }

    #[test]
    fn a_line_that_fails_leaves_nothing_behind() {
        let mut out = Output::new(Vec::new());
        let failed = out.line(|b| {
            b.extend_from_slice(b"{\"half");
            Err(Error::new(Kind::Internal, "no"))
        });
        assert!(failed.is_err());
        out.flush().unwrap();
        assert!(out.inner.is_empty());
    }

    #[test]
    fn a_long_line_goes_out_in_parts_and_whole_where_something_is_left_out() {
        let record = format!(r#"{{"type":"RECORD","record":{{"o":{{"a":1,"b":"{}"}}}}}}"#, "x".repeat(LONG_BYTES * 2));
        for hide in [false, true] {
            let mut out = Output::new(Vec::new());
            if hide {
                out.hide(&[vec!["o".to_owned(), "a".to_owned()]]);
            }
            for piece in [1, 1000, record.len()] {
                out.long_line(|line| record.as_bytes().chunks(piece).for_each(|part| line.extend_from_slice(part)))
                    .unwrap();
            }
            out.long_line(|line| {
                for byte in record.bytes() {
                    line.push(byte);
                    line.make_way();
                }
            })
            .unwrap();
            out.flush().unwrap();
            assert!(out.pending.capacity() < LONG_BYTES * 8);
            let expected = if hide { record.replace("\"a\":1,", "") } else { record.clone() };
            assert!(String::from_utf8(out.inner).unwrap() == format!("{expected}\n").repeat(4));
        }
    }

    #[test]
    fn a_closed_reader_is_its_own_kind_of_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Output::new(Closed);
        assert_eq!(out.state(&json!({})).unwrap_err().kind(), Kind::Pipe);
    }
}
