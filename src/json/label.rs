//! Names of members, ready to be looked for in documents and to be written.

use serde_json::Value;

use super::blocks::{equal, same};

/// A label is read and written in blocks of this size.
const BLOCK: usize = 32;

/// The name of a member as most writers put it, with quotes and colon: `"name":`.
#[derive(Clone, Debug)]
pub struct Label {
    /// Filled up with zeros, so that whole blocks can be read.
    padded: Vec<u8>,
    length: usize,
    /// A bit for each byte of the label in the first block.
    mask: u32,
}

impl Label {
    /// The label of `name`.
    #[must_use]
    pub fn new(name: &str) -> Label {
        let mut padded = Value::from(name).to_string().into_bytes();
        padded.push(b':');
        let length = padded.len();
        padded.resize(length.next_multiple_of(BLOCK) + BLOCK, 0);
        let mask = u32::MAX >> BLOCK.saturating_sub(length).min(BLOCK - 1);
        Label { padded, length, mask }
    }

    /// The label and at least a block of something behind it.
    #[must_use]
    pub fn padded(&self) -> &[u8] {
        &self.padded
    }

    /// How many bytes of [`Label::padded`] are the label.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// True if `text` begins with it.
    #[inline]
    #[must_use]
    pub fn begins(&self, text: &[u8]) -> bool {
        match (text.first_chunk::<BLOCK>(), self.padded.first_chunk::<BLOCK>()) {
            // Without a look at the length, which differs from name to name: one branch that nearly always goes one way.
            (Some(text), Some(label)) if self.length <= BLOCK => equal(text, label) & self.mask == self.mask,
            _ => {
                let label = self.padded.get(..self.length).unwrap_or_default();
                text.get(..self.length).is_some_and(|text| same(text, label))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_begins_with_a_label_or_not(name in ".{0,70}", behind in ".{0,40}", cut in 0usize..120, at: prop::sample::Index) {
            let label = Label::new(&name);
            let plain = format!("{}:", Value::from(&*name));
            prop_assert_eq!(&label.padded()[..label.length()], plain.as_bytes());
            let text = format!("{plain}{behind}").into_bytes();
            prop_assert!(label.begins(&text));
            let cut = text.get(..cut).unwrap_or(&text);
            prop_assert_eq!(label.begins(cut), cut.starts_with(plain.as_bytes()));
            let mut other = text.clone();
            other[at.index(text.len())] ^= 1;
            prop_assert_eq!(label.begins(&other), other.starts_with(plain.as_bytes()));
        }
    }
}
