//! A SCHEMA message as the columns of a stream.

use std::sync::Arc;

use serde_json::Value;

use super::column_type::{ColumnType, LayoutColumn};
use super::evolve::FolderColumns;
use super::message::{Declared, SchemaMessage, refused};
use super::metadata::{DELETED_AT, METADATA, is_metadata, is_own};
use super::property::{Property, Stays, Takes};
use crate::error::Result;

/// The column of whole records.
const RECORD: &str = "record";

/// How columns are chosen and filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The `_sdc_` columns are added.
    pub metadata: bool,
    /// A union of scalars is text, and not JSON text.
    pub unions_as_text: bool,
    /// Halves of surrogate pairs stay in JSON text.
    pub keep_surrogates: bool,
    /// What becomes of a value that does not fit.
    pub misfits: Misfits,
}

/// What becomes of a value that does not fit into its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfits {
    /// The run ends.
    Refuse,
    /// The value is null.
    Null,
    /// The value is null, and its JSON text stands in a column beside.
    Keep,
}

/// One column.
#[derive(Clone, Debug)]
pub struct Field {
    /// The property that it holds.
    pub property: String,
    /// Its name.
    pub column: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether the SCHEMA allows null.
    pub nullable: bool,
    /// Whether it is a key property: null is refused.
    pub key: bool,
    /// Whether every record must have the property.
    pub required: bool,
    /// Whether a text column takes values that are no strings, as JSON writes them.
    pub takes_all: bool,
    /// The column for values that do not fit, if there is one.
    pub misfits: Option<usize>,
    /// Its number in the row's fingerprint, if it is part of it.
    pub slot: Option<u64>,
}

/// A stream's columns, and the rest of its SCHEMA.
#[derive(Clone, Debug)]
pub struct StreamSchema {
    /// The stream.
    pub stream: String,
    /// The columns of the record; the metadata columns follow, if there are any, and then those for values that do not fit.
    pub fields: Vec<Field>,
    /// How they were chosen and are filled.
    pub rules: Rules,
    /// True if its SCHEMA has no columns: each record is kept whole as JSON text in the last column of the record, with the
    /// key properties in front of it.
    pub whole: bool,
    /// Where the metadata columns begin.
    pub metadata_from: usize,
    /// True if rows can be told apart.
    pub keyed: bool,
    /// How many values a fingerprint covers where it covers keys and bookmarks only. A row with fewer has no bookmark, and
    /// its fingerprint covers the whole record; so do all of them where this is none.
    pub covered: Option<usize>,
    /// Names and values for the footer of every file.
    pub footer: Arc<[(String, String)]>,
}

impl StreamSchema {
    /// The columns that `message` asks for, under the names that the folder gives them.
    ///
    /// # Errors
    /// When its keys are not among its properties, or changed, or the folder would have too many columns.
    pub fn new(message: &SchemaMessage, folder: &mut FolderColumns, rules: Rules) -> Result<Self> {
        let stream = message.stream.as_str();
        let keys = message.key_properties.clone().unwrap_or_default();
        let whole = message.properties.iter().all(|declared| is_metadata(&declared.name));
        let is_there = |key: &&String| message.properties.iter().any(|declared| declared.name == **key);
        if let Some(key) = keys.iter().find(|key| !whole && !is_there(key)) {
            return Err(refused(stream, format!("the key property {key:?} is not among its properties")));
        }
        folder.set_keys(&keys)?;
        folder.set_bookmarks(message.bookmark_properties.as_deref().unwrap_or_default());
        let mut fields = Vec::new();
        let is_kept = |name: &str| !is_metadata(name) || (name == DELETED_AT && !rules.metadata);
        for Declared { name, property, required } in message.properties.iter().filter(|p| is_kept(&p.name)) {
            let key = keys.contains(name);
            let Property { kind, nullable, takes, stays } = *property;
            let is_json = takes == Takes::Scalars && !rules.unions_as_text;
            let (kind, stays) = if is_json { (ColumnType::Json, Stays::None) } else { (kind, stays) };
            let (column, kind) = folder.column(name, kind, stays)?;
            fields.push(Field {
                nullable: nullable && !key,
                key,
                required: key || *required,
                takes_all: kind == ColumnType::Text && takes != Takes::Strings,
                ..Field::of(name, column, kind)
            });
        }
        if whole {
            fields = whole_fields(&keys, folder)?;
        }
        let metadata_from = fields.len();
        if rules.metadata {
            for (name, kind) in METADATA {
                let (column, kind) = folder.column(name, kind, Stays::None)?;
                fields.push(Field::of(name, column, kind));
            }
        }
        // No value of a whole record is told apart, so its fingerprint covers all of it.
        let covered = if whole {
            Some(usize::MAX)
        } else {
            choose_slots(&mut fields, &keys, message.bookmark_properties.as_deref().unwrap_or_default())
        };
        // Values of the target's own columns say when a row was read: they tell no rows apart.
        let keyed = !keys.is_empty() && !keys.iter().any(|key| is_metadata(key));
        let footer = Arc::new([
            ("singer.stream".to_owned(), message.stream.clone()),
            ("singer.key_properties".to_owned(), Value::from(keys.clone()).to_string()),
            ("singer.schema".to_owned(), message.fingerprint.clone()),
        ]);
        let stream = message.stream.clone();
        let mut schema = StreamSchema { stream, fields, rules, whole, metadata_from, keyed, covered, footer };
        schema.add_misfits(folder);
        Ok(schema)
    }

    /// The same with a column for the values of `property` that do not fit.
    ///
    /// # Errors
    /// When the folder would have too many columns.
    pub fn with_misfits_of(&self, property: &str, folder: &mut FolderColumns) -> Result<Self> {
        if let Some(field) = self.fields.iter().find(|field| field.property == property) {
            folder.add_misfits(property, &field.column)?;
        }
        let mut schema = self.clone();
        schema.add_misfits(folder);
        Ok(schema)
    }

    /// Adds the columns that the folder has for values that do not fit, behind all others.
    fn add_misfits(&mut self, folder: &FolderColumns) {
        let own = if self.rules.metadata { METADATA.len() } else { 0 };
        self.fields.truncate(self.metadata_from + own);
        for index in 0..if self.rules.misfits == Misfits::Keep { self.fields.len() } else { 0 } {
            let behind = self.fields.len();
            let Some(field) = self.fields.get_mut(index) else { break };
            let Some(column) = folder.misfits(&field.property) else { continue };
            field.misfits = Some(behind);
            self.fields.push(Field::of(&column, column.clone(), ColumnType::Json));
        }
    }

    /// The columns as a file declares them; with `json`, JSON text as JSON and not as a string.
    pub fn layout_columns(&self, json: bool) -> Result<Vec<LayoutColumn>> {
        let declare = |field: &Field| {
            let declared = if field.kind == ColumnType::Json && !json { ColumnType::Text } else { field.kind };
            let parquet = declared.parquet(&field.column)?;
            Ok(LayoutColumn { name: field.column.clone(), kind: field.kind, parquet })
        };
        self.fields.iter().map(declare).collect()
    }

    /// True if records of the other schema are read as those of this one.
    pub fn same_columns(&self, other: &StreamSchema) -> bool {
        self.footer == other.footer
            && self.whole == other.whole
            && self.fields.len() == other.fields.len()
            && self.fields.iter().zip(&other.fields).all(|(a, b)| {
                a.property == b.property
                    && a.column == b.column
                    && a.nullable == b.nullable
                    && a.key == b.key
                    && a.required == b.required
                    && a.takes_all == b.takes_all
                    && a.misfits == b.misfits
                    && a.slot == b.slot
            })
    }
}

/// The number of a property in a fingerprint: a hash of its name, so that other properties may come and go.
pub fn slot(property: &str) -> u64 {
    let hash = blake3::hash(property.as_bytes());
    u64::from_le_bytes(hash.as_bytes().first_chunk::<8>().copied().unwrap_or_default())
}

/// The columns of a stream whose SCHEMA has none.
fn whole_fields(keys: &[String], folder: &mut FolderColumns) -> Result<Vec<Field>> {
    let keys = keys.iter().filter(|key| !is_metadata(key)).map(|key| (key.as_str(), ColumnType::Text));
    let all = keys.chain([(RECORD, ColumnType::Json)]);
    all.map(|(name, kind)| {
        let (column, kind) = folder.column(name, kind, Stays::None)?;
        let key = kind == ColumnType::Text;
        Ok(Field { nullable: false, key, required: true, ..Field::of(name, column, kind) })
    })
    .collect()
}

impl Field {
    /// A column that takes null, and that nothing is asked of.
    fn of(property: &str, column: String, kind: ColumnType) -> Field {
        Field {
            property: property.to_owned(),
            column,
            kind,
            nullable: true,
            key: false,
            required: false,
            takes_all: false,
            misfits: None,
            slot: None,
        }
    }
}

/// Chooses the columns of the fingerprint: keys and bookmarks, or everything where there is no bookmark. Returns how many
/// they are in the first case.
fn choose_slots(fields: &mut [Field], keys: &[String], bookmarks: &[String]) -> Option<usize> {
    let is_there = |name: &String| fields.iter().any(|field| field.property == *name && !is_own(name));
    let by_bookmark = !bookmarks.is_empty() && bookmarks.iter().all(is_there);
    let mut covered = 0;
    for field in fields.iter_mut().filter(|field| !is_own(&field.property)) {
        if !by_bookmark || keys.contains(&field.property) || bookmarks.contains(&field.property) {
            field.slot = Some(slot(&field.property));
            covered += 1;
        }
    }
    by_bookmark.then_some(covered)
}
