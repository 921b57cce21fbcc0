//! The text of a record's members, written while they are found.

use crate::json::label::{HEAD, Label};

/// Short values are copied in blocks of this size.
const BLOCK: usize = 32;
/// The longest label and the longest value that are copied without a call.
const ROOM: usize = HEAD + BLOCK;
/// What is made room for at once.
const STEP: usize = 1024;

/// Members, each with a comma before it.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// They end at `end`; what lies behind is room.
    text: Vec<u8>,
    end: usize,
}

impl Members {
    /// Their text.
    pub(super) fn text(&self) -> &[u8] {
        self.text.get(..self.end).unwrap_or_default()
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.end = 0;
    }

    /// Adds a member whose value is the first `length` bytes of `text`.
    #[inline(always)]
    pub(super) fn add(&mut self, label: &Label, text: &[u8], length: usize) {
        let behind = label.text().len();
        if behind < HEAD
            && length <= BLOCK
            && let Some(block) = text.first_chunk::<BLOCK>()
            && let Some(room) = self.text.get_mut(self.end..).and_then(|room| room.first_chunk_mut::<ROOM>())
        {
            let (head, _) = room.as_chunks_mut::<HEAD>();
            head.iter_mut().for_each(|head| *head = *label.head());
            let value = &mut room[behind & (HEAD - 1)..];
            if let Some(target) = value.first_chunk_mut() {
                *target = *block;
            }
            self.end = self.end.wrapping_add(behind).wrapping_add(length);
            return;
        }
        self.add_long(label.text(), text.get(..length).unwrap_or(text));
    }

    #[inline(never)]
    fn add_long(&mut self, label: &[u8], value: &[u8]) {
        let (value_at, end) = (self.end + label.len(), self.end + label.len() + value.len());
        if self.text.len() < end {
            self.text.resize(end + STEP, 0);
        }
        if let Some(target) = self.text.get_mut(self.end..value_at) {
            target.copy_from_slice(label);
        }
        if let Some(target) = self.text.get_mut(value_at..end) {
            target.copy_from_slice(value);
        }
        self.end = end;
    }

    /// Adds a member whose value `write` writes.
    pub(super) fn append(&mut self, label: &Label, write: impl FnOnce(&mut Vec<u8>)) {
        self.text.truncate(self.end);
        self.text.extend_from_slice(label.text());
        write(&mut self.text);
        self.end = self.text.len();
        self.text.resize(self.end + STEP, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn members_of_any_length_stand_behind_one_another(
            members in prop::collection::vec(("[a-z]{0,80}", "[a-z]{0,300}", "[a-zé]{0,40}", any::<bool>()), 0..12),
        ) {
            let mut text = Members::default();
            for round in 0..2 {
                text.clear();
                let mut expected = String::new();
                for (name, value, behind, appends) in &members {
                    let label = Label::new(name);
                    match appends {
                        true => text.append(&label, |out| out.extend_from_slice(value.as_bytes())),
                        false => text.add(&label, format!("{value}{behind}").as_bytes(), value.len()),
                    }
                    expected.push_str(&format!(",\"{name}\":{value}"));
                    prop_assert_eq!(text.text(), expected.as_bytes(), "{}", round);
                }
            }
        }
    }
}
