//! `--test`: connects and writes at most one record of each stream, to show that settings, key and catalog work.

use std::io::{self, Write};

use crate::error::{Kind, Result};
use crate::singer::catalog::SelectedStream;
use crate::singer::output::Output;
use crate::singer::state::State;

use crate::tap::context::Context;
use crate::tap::sync::sync;

/// Tries the streams one after another; with `schema_only`, none of their records.
///
/// # Errors
/// The first failure of a stream.
pub fn trial(context: &Context<'_>, streams: &[SelectedStream], schema_only: bool) -> Result<()> {
    if schema_only {
        let mut output = Output::new(io::stdout());
        for stream in streams {
            output.schema(&stream.name, &stream.schema, &stream.key_properties, &[])?;
        }
        return output.flush();
    }
    streams.iter().try_for_each(|stream| try_one(context, stream, io::stdout).map(drop))
}

/// As [`trial`], in a line for each stream, also behind one that fails.
///
/// # Errors
/// The first failure of a stream.
pub fn try_in_words<W: Write>(
    context: &Context<'_>,
    streams: &[SelectedStream],
    schema_only: bool,
    output: &mut Output<W>,
) -> Result<()> {
    let mut first = Ok(());
    for stream in streams {
        let (name, columns) = (&stream.name, stream.schema["properties"].as_object().map_or(0, serde_json::Map::len));
        let tried = if schema_only { None } else { Some(try_one(context, stream, io::sink)) };
        output.text(&match tried {
            None => format!("ok      {name}: {columns} columns"),
            Some(Ok(true)) => format!("ok      {name}: a record of {columns} columns came"),
            Some(Ok(false)) => format!("ok      {name}: it can be read, and has no record"),
            Some(Err(error)) => {
                let line = format!("failed  {name}: {error}");
                first = first.and(Err(error));
                line
            }
        })?;
    }
    first
}

/// Reads a stream until its first record came, if one comes. True if one did.
fn try_one<O: Write>(context: &Context<'_>, stream: &SelectedStream, out: impl FnOnce() -> O) -> Result<bool> {
    let mut output = Output::new(OneRecord { inner: out(), line: Vec::new(), done: false });
    match sync(context, std::slice::from_ref(stream), State::default(), &mut output) {
        // One record is enough: the stream was stopped by us.
        Err(error) if error.kind() == Kind::Pipe && output.inner().done => Ok(true),
        outcome => outcome.map(|()| output.inner().done),
    }
}

/// Passes lines on until the first record went out; then the pipe is closed.
struct OneRecord<W: Write> {
    inner: W,
    line: Vec<u8>,
    done: bool,
}

impl<W: Write> Write for OneRecord<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.done {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.inner.write_all(&self.line)?;
                self.done = self.line.starts_with(b"{\"type\":\"RECORD\"");
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipe_closes_behind_the_first_record() {
        let mut out = OneRecord { inner: Vec::new(), line: Vec::new(), done: false };
        out.write_all(b"{\"type\":\"SCHEMA\"}\n{\"type\":").unwrap();
        let error = out.write_all(b"\"RECORD\",\"record\":1}\n{\"type\":\"RECORD\"}\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(out.inner, b"{\"type\":\"SCHEMA\"}\n{\"type\":\"RECORD\",\"record\":1}\n");
    }
}
