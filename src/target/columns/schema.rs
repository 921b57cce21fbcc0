//! A SCHEMA message as the columns of a stream.

use std::sync::Arc;

use serde_json::Value;

use super::column_type::{ColumnType, LayoutColumn};
use super::evolve::FolderColumns;
use super::message::{Declared, SchemaMessage, refused};
use super::metadata::{METADATA, is_metadata};
use crate::error::Result;

/// The column of whole records.
const RECORD: &str = "record";

/// One column.
#[derive(Debug)]
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
    /// Its number in the row's fingerprint, if it is part of it.
    pub slot: Option<u64>,
}

/// A stream's columns, and the rest of its SCHEMA.
#[derive(Debug)]
pub struct StreamSchema {
    /// The stream.
    pub stream: String,
    /// The columns of the record; the metadata columns follow, if there are any.
    pub fields: Vec<Field>,
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
    /// When its keys are not among its properties, or changed.
    pub fn new(message: &SchemaMessage, folder: &mut FolderColumns, with_metadata: bool) -> Result<Self> {
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
        for Declared { name, property, required } in message.properties.iter().filter(|p| !is_metadata(&p.name)) {
            let key = keys.contains(name);
            fields.push(Field {
                property: name.clone(),
                column: folder.column(name, property.kind),
                kind: property.kind,
                nullable: property.nullable && !key,
                key,
                required: key || *required,
                slot: None,
            });
        }
        if whole {
            fields = whole_fields(&keys, folder);
        }
        let metadata_from = fields.len();
        if with_metadata {
            fields.extend(METADATA.iter().map(|(name, kind)| metadata_field(name, *kind, folder)));
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
        Ok(StreamSchema { stream: message.stream.clone(), fields, whole, metadata_from, keyed, covered, footer })
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
fn whole_fields(keys: &[String], folder: &mut FolderColumns) -> Vec<Field> {
    let keys = keys.iter().filter(|key| !is_metadata(key)).map(|key| (key.as_str(), ColumnType::Text));
    let all = keys.chain([(RECORD, ColumnType::Json)]);
    all.map(|(name, kind)| {
        let column = folder.column(name, kind);
        let key = kind == ColumnType::Text;
        Field { property: name.to_owned(), column, kind, nullable: false, key, required: true, slot: None }
    })
    .collect()
}

fn metadata_field(name: &str, kind: ColumnType, folder: &mut FolderColumns) -> Field {
    let column = folder.column(name, kind);
    Field { property: name.to_owned(), column, kind, nullable: true, key: false, required: false, slot: None }
}

/// Chooses the columns of the fingerprint: keys and bookmarks, or everything where there is no bookmark. Returns how many
/// they are in the first case.
fn choose_slots(fields: &mut [Field], keys: &[String], bookmarks: &[String]) -> Option<usize> {
    let is_there = |name: &String| fields.iter().any(|field| field.property == *name && !is_metadata(name));
    let by_bookmark = !bookmarks.is_empty() && bookmarks.iter().all(is_there);
    let mut covered = 0;
    for field in fields.iter_mut().filter(|field| !is_metadata(&field.property)) {
        if !by_bookmark || keys.contains(&field.property) || bookmarks.contains(&field.property) {
            field.slot = Some(slot(&field.property));
            covered += 1;
        }
    }
    by_bookmark.then_some(covered)
}
