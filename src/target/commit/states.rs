//! The states that come in, and the states that go out.

use std::io::Write;

use crate::error::Result;
use crate::singer::output::Output;

/// The newest STATE, and the last one that was printed.
#[derive(Debug)]
pub struct States<W: Write> {
    output: Output<W>,
    newest: Option<Box<[u8]>>,
    printed: Option<Box<[u8]>>,
}

impl<W: Write> States<W> {
    /// None yet.
    pub fn new(output: Output<W>) -> Self {
        States { output, newest: None, printed: None }
    }

    /// Takes a STATE.
    pub fn take(&mut self, state: &[u8]) {
        self.newest = Some(state.into());
    }

    /// The newest one.
    pub fn newest(&self) -> Option<&[u8]> {
        self.newest.as_deref()
    }

    /// True if the newest one was not printed.
    pub fn waits(&self) -> bool {
        self.newest != self.printed
    }

    /// Prints the newest one, unless it was printed. All rows before it must be durable.
    pub fn print(&mut self) -> Result<()> {
        let Some(state) = self.newest.as_deref().filter(|_| self.waits()) else { return Ok(()) };
        self.output.line(|line| {
            line.extend_from_slice(state);
            Ok(())
        })?;
        self.printed.clone_from(&self.newest);
        self.output.flush()
    }
}
