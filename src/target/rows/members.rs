//! How the members of a stream's records find their columns.
//!
//! Members are expected in the order in which the last record had them, so most names are compared once and never looked
//! up. That saves 9 % of the target's CPU where records have another order than their SCHEMA, and to try a few columns
//! behind the last one saves 5 % where each record leaves out other members (52 columns, medians of 11 runs).

use std::collections::{HashMap, HashSet};

use ahash::RandomState;

use crate::json::escape::plain;
use crate::json::same;
use crate::json::scan::Scanner;
use crate::json::token::{Fault, Text};
use crate::target::columns::metadata::DELETED_AT;
use crate::target::columns::schema::{Field, StreamSchema};

/// Columns tried behind the last one before a name is looked up.
const NEAR: usize = 8;
/// So many different names that a schema does not have are counted.
const MAX_UNKNOWN: usize = 1_000;

/// The columns of a stream by name. Shared by the stream's sinks.
#[derive(Debug)]
pub struct Members {
    /// Each property's name as JSON writes it, with quotes.
    quoted: Vec<Vec<u8>>,
    by_name: HashMap<Vec<u8>, usize, RandomState>,
    /// The column to expect behind each column: the next one, or the one far away that came there last. The last entry is
    /// for the start of a record.
    follower: Vec<usize>,
    /// Columns that every record must have.
    pub required: Vec<usize>,
    /// Hashes of names that the schema does not have, and how many values had one. Names come from records, and are
    /// neither kept nor said.
    unknown: HashSet<u64>,
    left_out: u64,
    /// `_sdc_deleted_at` was among them.
    lost_deletions: bool,
    hash: RandomState,
}

impl Members {
    /// For records of `schema`.
    pub fn new(schema: &StreamSchema) -> Self {
        let fields = &schema.fields;
        // The target's own columns come after those of the record, and no member may reach them but one.
        let of_record = |index: usize, field: &Field| index < schema.metadata_from || field.property == DELETED_AT;
        let quote = |field: &Field| serde_json::Value::from(field.property.as_str()).to_string().into_bytes();
        let quoted = fields.iter().take(schema.metadata_from).map(quote).collect();
        let by_name = fields
            .iter()
            .enumerate()
            .filter(|(index, field)| of_record(*index, field))
            .map(|(index, field)| (field.property.clone().into_bytes(), index))
            .collect();
        let required = fields.iter().enumerate().filter(|(_, field)| field.required).map(|(index, _)| index).collect();
        let follower = (1..=fields.len()).chain([0]).collect();
        Members {
            quoted,
            by_name,
            follower,
            required,
            unknown: HashSet::new(),
            left_out: 0,
            lost_deletions: false,
            hash: RandomState::new(),
        }
    }

    /// True if `_sdc_deleted_at` was left out, so that deleted rows look like others.
    pub fn lost_deletions(&self) -> bool {
        self.lost_deletions
    }

    /// For records of another schema of the stream: what was left out so far still counts.
    pub fn turn(&mut self, schema: &StreamSchema) {
        let next = Members::new(schema);
        let last = std::mem::replace(self, next);
        (self.unknown, self.left_out, self.hash) = (last.unknown, last.left_out, last.hash);
        self.lost_deletions = last.lost_deletions;
    }

    /// How many values were left out because the schema does not have their property, and how many properties that
    /// were; of these no more than a thousand are told apart.
    pub fn left_out(&self) -> (u64, usize) {
        (self.left_out, self.unknown.len())
    }

    /// Sets how many values were left out: those of a record that is not kept do not count.
    pub fn set_left_out(&mut self, values: u64) {
        self.left_out = values;
    }

    /// Steps over a member's name and colon, and says which column it is. `last` is the column before it.
    #[inline]
    pub fn find(&mut self, scanner: &mut Scanner<'_>, last: usize) -> Result<Option<usize>, Fault> {
        scanner.peek();
        let expected = self.follower.get(last).copied().unwrap_or_default();
        if self.quoted.get(expected).is_some_and(|quoted| scanner.eat(quoted)) {
            scanner.expect(b':', "expected :")?;
            return Ok(Some(expected));
        }
        let name = scanner.key()?;
        if let Some(index) = self.near(name, last) {
            return Ok(Some(index));
        }
        let index = self.look_up(name);
        if let Some(index) = index {
            self.set_follower(last, index);
        }
        Ok(index)
    }

    /// One of the columns behind the last one: most records leave some out, now these, now those, so nothing is learned.
    #[inline]
    fn near(&self, name: Text<'_>, last: usize) -> Option<usize> {
        let behind = if last + 1 < self.follower.len() { last + 1 } else { 0 };
        let candidates = self.quoted.get(behind..).unwrap_or_default().iter().take(NEAR);
        let is_it = |quoted: &Vec<u8>| quoted.get(1..quoted.len() - 1).is_some_and(|inner| same(inner, name.raw));
        candidates.enumerate().find(|(_, quoted)| is_it(quoted)).map(|(index, _)| behind + index)
    }

    fn set_follower(&mut self, last: usize, index: usize) {
        if let Some(follower) = self.follower.get_mut(last) {
            *follower = index;
        }
    }

    fn look_up(&mut self, name: Text<'_>) -> Option<usize> {
        if !name.is_escaped()
            && let Some(index) = self.by_name.get(name.raw)
        {
            return Some(*index);
        }
        let name = plain(name);
        let index = self.by_name.get(&*name).copied();
        if index.is_none() {
            self.left_out += 1;
            self.lost_deletions |= *name == *DELETED_AT.as_bytes();
            if self.unknown.len() < MAX_UNKNOWN {
                self.unknown.insert(self.hash.hash_one(&*name));
            }
        }
        index
    }
}
