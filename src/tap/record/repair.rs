//! JSON that is passed on as it was written, but for halves of surrogate pairs: one of them makes a reader refuse the whole
//! document.

use crate::json::surrogate::without_lone_surrogates;

/// Replaces halves of surrogate pairs, and counts them.
#[derive(Debug, Default)]
pub struct Repair {
    /// They stay (`lone_surrogates: keep`).
    is_off: bool,
    buffer: Vec<u8>,
    replaced: u64,
}

impl Repair {
    /// Replaces them, or keeps them.
    pub fn new(keeps_lone_surrogates: bool) -> Repair {
        Repair { is_off: keeps_lone_surrogates, ..Repair::default() }
    }

    /// The JSON text `text` with U+FFFD in the place of each half.
    pub fn repaired<'a>(&'a mut self, text: &'a [u8]) -> &'a [u8] {
        if self.is_off {
            return text;
        }
        let (repaired, count) = without_lone_surrogates(text, &mut self.buffer);
        self.replaced += count;
        repaired
    }

    /// How many were replaced.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }
}
