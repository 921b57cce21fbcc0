//! Standard output, owned by one type: whole lines go out, in large writes, and a reader that went away is an error with
//! its own class instead of a panic.

use std::io::{self, Write};

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::json::without::without;

/// Lines are handed to the system in writes of at least this many bytes, and at every [`Output::flush`].
const WRITE_BYTES: usize = 64 * 1024;

/// Standard output (or, in tests, any writer), one whole Singer line after another.
#[derive(Debug)]
pub struct Output<W: Write> {
    inner: W,
    pending: Vec<u8>,
    /// Where in a RECORD line the members are that do not go out.
    hidden: Vec<Vec<String>>,
}

/// How RECORD lines begin.
const RECORD: &[u8] = b"{\"type\":\"RECORD\"";

impl<W: Write> Output<W> {
    /// An output over `inner`.
    pub fn new(inner: W) -> Self {
        Output { inner, pending: Vec::with_capacity(WRITE_BYTES * 2), hidden: Vec::new() }
    }

    /// From now on, records go out without the members at `paths`, which lie inside their fields.
    pub fn hide(&mut self, paths: &[Vec<String>]) {
        let in_line = |path: &Vec<String>| [&["record".to_owned()], path.as_slice()].concat();
        self.hidden = paths.iter().map(in_line).collect();
    }

    /// What the lines go to.
    pub fn inner(&self) -> &W {
        &self.inner
    }

    /// Appends one line: `write` puts its text (without the line end) into the buffer. The record path uses this, so a
    /// record is written once, straight into the buffer that the system is handed.
    ///
    /// # Errors
    /// What `write` returns (then nothing of the line is kept), or [`Kind::Pipe`] when the reader went away.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let start = self.pending.len();
        if let Err(error) = write(&mut self.pending) {
            self.pending.truncate(start);
            return Err(error);
        }
        if !self.hidden.is_empty() && self.pending.get(start..).is_some_and(|line| line.starts_with(RECORD)) {
            let line = self.pending.split_off(start);
            without(&line, &self.hidden, &mut self.pending)
                .map_err(|e| Error::new(Kind::Internal, format!("a record cannot be read again: {e}")))?;
        }
        self.pending.push(b'\n');
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    /// Makes room for a line of up to `bytes`, where it is known to be a long one: a buffer that grows by doubling would take
    /// twice the memory. What is not written to is not taken.
    pub fn reserve(&mut self, bytes: usize) {
        self.pending.reserve_exact(bytes);
    }

    /// Appends a JSON value as one line.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn value(&mut self, value: &Value) -> Result<()> {
        self.line(|out| {
            serde_json::to_writer(out, value)
                .map_err(|e| Error::new(Kind::Internal, format!("writing a message failed: {e}")))
        })
    }

    /// Appends a STATE message.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn state(&mut self, value: &Value) -> Result<()> {
        self.value(&serde_json::json!({"type": "STATE", "value": value}))?;
        self.flush()
    }

    /// Appends a SCHEMA message. `bookmark_properties` is left out when empty.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn schema(&mut self, stream: &str, schema: &Value, keys: &[String], bookmarks: &[String]) -> Result<()> {
        let mut message =
            serde_json::json!({"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": keys});
        if !bookmarks.is_empty() {
            message["bookmark_properties"] = serde_json::json!(bookmarks);
        }
        self.value(&message)
    }

    /// Appends an ACTIVATE_VERSION message: rows of this stream with another version are no longer part of it.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn activate_version(&mut self, stream: &str, version: i64) -> Result<()> {
        self.value(&serde_json::json!({"type": "ACTIVATE_VERSION", "stream": stream, "version": version}))
    }

    /// Writes a whole text (a catalog, a report) and flushes it.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.line(|out| {
            out.extend_from_slice(text.trim_end().as_bytes());
            Ok(())
        })?;
        self.flush()
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// [`Kind::Pipe`] when the reader went away, [`Kind::Disk`] for any other failure.
    pub fn flush(&mut self) -> Result<()> {
        self.write_pending()?;
        self.inner.flush().map_err(|e| output_error(&e))
    }

    fn write_pending(&mut self) -> Result<()> {
        let written = self.inner.write_all(&self.pending).map_err(|e| output_error(&e));
        // Also after a failure: half a line went out, and the rest must not follow as if it were a line.
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
