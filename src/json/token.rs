//! The parts of a JSON document, and the faults of one.

use std::fmt;

/// How deep values may nest; the same bound as `serde_json`'s. One bit per level is kept, so this is also what the bit
/// stack holds.
pub const MAX_DEPTH: u32 = 128;

/// A fault in a document: byte offset and a fixed text, so that its data never gets into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the document.
    pub at: usize,
    /// The text.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        fault.to_string()
    }
}

/// The outcome of a step.
pub type Scan<T> = Result<T, Fault>;

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number.
    Number,
    /// A string.
    Text(Escapes),
    /// An array or object.
    Nested,
}

/// The kind of a string's escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Escapes {
    /// There are none: the text between the quotes is the string.
    None,
    /// There are some, and they stand for characters.
    Some,
    /// Among them is half of a surrogate pair: the string has no UTF-8 form.
    LoneSurrogate,
}

/// A string as it stands in the document, without its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The bytes between the quotes.
    pub raw: &'a [u8],
    /// The kind of its escapes.
    pub escapes: Escapes,
}

impl Text<'_> {
    /// True if there is a backslash in it.
    pub fn is_escaped(&self) -> bool {
        self.escapes != Escapes::None
    }
}
