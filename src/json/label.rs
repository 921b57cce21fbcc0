//! Names of members, ready to be looked for in documents and to be written.

use serde_json::Value;

use super::blocks::{equal, same};

/// A label is read in blocks of this size.
const BLOCK: usize = 32;
/// The bytes that lie in a label itself: longer ones are rare.
pub const HEAD: usize = 64;

/// The name of a member as most writers put it, with quotes and colon: `"name":`.
#[derive(Clone, Debug)]
pub struct Label {
    /// A comma, the label, and zeros, so that whole blocks can be read: as much as there is room for.
    head: [u8; HEAD],
    /// A bit for each byte of the label in its first block.
    mask: u32,
    /// A comma and the label.
    text: Box<[u8]>,
}

impl Label {
    /// The label of `name`.
    pub fn new(name: &str) -> Label {
        let text = format!(",{}:", Value::from(name)).into_bytes().into_boxed_slice();
        let mut head = [0; HEAD];
        head.iter_mut().zip(&text).for_each(|(to, byte)| *to = *byte);
        let mask = u32::MAX >> (BLOCK + 1).saturating_sub(text.len()).min(BLOCK - 1);
        Label { head, mask, text }
    }

    /// The name.
    pub fn name(&self) -> String {
        let quoted = self.text.get(1..self.length()).unwrap_or_default();
        serde_json::from_slice(quoted).unwrap_or_default()
    }

    /// A comma, the label, and zeros up to a length of blocks.
    #[inline]
    pub fn head(&self) -> &[u8; HEAD] {
        &self.head
    }

    /// A comma and the label.
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The length of the label.
    #[inline]
    pub fn length(&self) -> usize {
        self.text.len().wrapping_sub(1)
    }

    /// True if `text` begins with it.
    #[inline(always)]
    pub fn begins(&self, text: &[u8]) -> bool {
        // Without a look at the length, which differs from name to name: one branch that nearly always goes one way.
        if let (Some(text), Some(label)) = (text.first_chunk::<BLOCK>(), self.head[1..].first_chunk::<BLOCK>())
            && self.length() <= BLOCK
        {
            return equal(text, label) & self.mask == self.mask;
        }
        self.begins_slowly(text)
    }

    #[inline(never)]
    fn begins_slowly(&self, text: &[u8]) -> bool {
        let label = self.text.get(1..).unwrap_or_default();
        text.get(..label.len()).is_some_and(|text| same(text, label))
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
            let text = format!(",{plain}");
            prop_assert_eq!(label.text(), text.as_bytes());
            prop_assert_eq!(label.length(), plain.len());
            prop_assert_eq!(label.name(), &*name);
            let head = label.text().iter().copied().chain([0; 64]).take(64);
            prop_assert_eq!(&label.head()[..], head.collect::<Vec<u8>>());
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
