//! Lines of the input, one at a time, borrowed from one buffer: bounded while reading, woken by signals, and aware of
//! silence, so that a slow tap's last STATE does not wait for its next row.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Kind, Result};
use crate::stop::Stop;

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;

/// A line, silence, or the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// Nothing came until the time given.
    Silence,
    /// The end of the input, in the middle of a line.
    Torn,
    /// The end of the input.
    End,
}

enum Filled {
    Some,
    Silence,
    End,
}

/// The input.
#[derive(Debug)]
pub struct Lines {
    input: File,
    /// Hangs up when a signal comes.
    wake: PipeReader,
    stop: Stop,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes from `start` on that are known to hold no line end.
    searched: usize,
    number: u64,
}

impl Lines {
    /// Lines of `input`, each at most `max_line_bytes` long.
    pub fn new(input: File, stop: Stop, max_line_bytes: usize) -> Result<Self> {
        Ok(Lines {
            input,
            wake: stop.wake()?,
            stop,
            max_line_bytes,
            buffer: vec![0; READ_BYTES * 2],
            start: 0,
            end: 0,
            searched: 0,
            number: 0,
        })
    }

    /// The next line; [`Next::Silence`] if none came by `until`.
    ///
    /// # Errors
    /// The [`Stop`]'s error when a signal came; [`Kind::NotSinger`] for a line that is too long; [`Kind::Disk`] when reading fails.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Next<'_>> {
        loop {
            let waiting = self.buffer.get(self.start + self.searched..self.end).unwrap_or_default();
            if let Some(found) = memchr::memchr(b'\n', waiting) {
                let (from, to) = (self.start, self.start + self.searched + found);
                if to - from > self.max_line_bytes {
                    return Err(self.too_long());
                }
                self.start = to + 1;
                self.searched = 0;
                self.number += 1;
                return Ok(Next::Line(self.buffer.get(from..to).unwrap_or_default()));
            }
            self.searched = self.end - self.start;
            if self.searched > self.max_line_bytes {
                return Err(self.too_long());
            }
            match self.fill(until)? {
                Filled::Some => {}
                Filled::Silence => return Ok(Next::Silence),
                Filled::End => return self.last_line(),
            }
        }
    }

    fn too_long(&self) -> Error {
        let limit = self.max_line_bytes >> 20;
        Error::new(Kind::NotSinger, format!("line {} is longer than max_line_mb ({limit})", self.number + 1))
    }

    /// The text behind the last line end. A complete message there is a line; half of one means that the tap died.
    fn last_line(&mut self) -> Result<Next<'_>> {
        let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
        if rest.iter().all(u8::is_ascii_whitespace) {
            return Ok(Next::End);
        }
        if !rest.trim_ascii_end().ends_with(b"}") {
            return Ok(Next::Torn);
        }
        self.number += 1;
        let from = std::mem::replace(&mut self.start, self.end);
        self.searched = 0;
        Ok(Next::Line(self.buffer.get(from..self.end).unwrap_or_default()))
    }

    fn fill(&mut self, until: Option<Instant>) -> Result<Filled> {
        self.stop.check()?;
        if !self.wait(until)? {
            return Ok(Filled::Silence);
        }
        self.make_room();
        let failed = |e: std::io::Error| Error::new(Kind::Disk, format!("reading the input failed: {e}"));
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = loop {
            match self.input.read(room) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(failed)?,
            }
        };
        self.end += read;
        Ok(if read == 0 { Filled::End } else { Filled::Some })
    }

    /// Waits for input. False when `until` passed first.
    fn wait(&self, until: Option<Instant>) -> Result<bool> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut ready =
                [PollFd::from_borrowed_fd(self.input.as_fd(), PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            let count = match poll(&mut ready, timeout.as_ref()) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(Error::new(Kind::Disk, format!("waiting for input failed: {e}"))),
            };
            let [input, wake] = ready.map(|fd| !fd.revents().is_empty());
            if wake {
                self.stop.check()?;
            }
            if input || count == 0 {
                return Ok(input);
            }
        }
    }

    /// Moves the rest to the front, and grows or shrinks the buffer to fit the line in work.
    fn make_room(&mut self) {
        let held = self.end - self.start;
        if self.buffer.len() - self.end >= READ_BYTES / 2 && self.start < READ_BYTES {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, held);
        let wanted = (held + held / 2 + READ_BYTES).max(READ_BYTES * 2).min(self.max_line_bytes + READ_BYTES * 2);
        if self.buffer.len() < wanted || self.buffer.len() > wanted * 4 {
            self.buffer.resize(wanted.max(held + READ_BYTES), 0);
            self.buffer.shrink_to_fit();
        }
    }
}
