//! The columns of the files that a stream writes: those of its SCHEMA, and those of earlier SCHEMAs of the run.
//!
//! A SCHEMA that needs no column beyond them goes on in the files that are open, whatever the order of its properties and
//! its descriptions are; its rows are null in the columns that it does not have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::column_type::LayoutColumn;
use super::schema::StreamSchema;
use crate::error::Result;

/// The columns of a stream's files.
#[derive(Debug)]
pub struct FileColumns {
    /// As the files declare them.
    pub declared: Arc<[LayoutColumn]>,
    /// The property of each.
    properties: Vec<String>,
    /// Where each column of the SCHEMA stands in the files.
    pub places: Arc<[usize]>,
    /// Names and values for the footer of every file: those of the SCHEMA that they began with.
    pub footer: Arc<[(String, String)]>,
    json: bool,
}

/// What another SCHEMA does to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its columns are in the files.
    None,
    /// Some are not, but the folder has them. The columns so far stay in front.
    Wider,
    /// Some are new: files so far are complete.
    New,
}

impl FileColumns {
    /// The columns of files that begin with this SCHEMA; with `json`, JSON text is declared as JSON and not as a string.
    pub fn new(schema: &StreamSchema, json: bool) -> Result<Self> {
        let declared: Vec<LayoutColumn> = schema.layout_columns(json)?;
        Ok(FileColumns {
            places: (0..declared.len()).collect(),
            declared: declared.into(),
            properties: schema.fields.iter().map(|field| field.property.clone()).collect(),
            footer: Arc::clone(&schema.footer),
            json,
        })
    }

    /// Takes another SCHEMA of the stream; `is_new`: the folder does not have all of its columns yet.
    pub fn turn(&mut self, schema: &StreamSchema, is_new: bool) -> Result<Change> {
        let mut next = FileColumns::new(schema, self.json)?;
        if next.footer.iter().zip(&*self.footer).any(|(next, last)| next != last && next.0 != "singer.schema") {
            *self = next;
            return Ok(Change::New);
        }
        let old = std::mem::take(&mut self.properties).into_iter().zip(self.declared.iter().cloned());
        if is_new {
            // Where a property has another column now, the old one would be null for ever.
            let now: HashSet<&String> = next.properties.iter().collect();
            let still: Vec<_> = old.filter(|(property, _)| !now.contains(property)).collect();
            next.extend(still);
            *self = next;
            return Ok(Change::New);
        }
        let (properties, declared): (_, Vec<LayoutColumn>) = old.unzip();
        let by_name: HashMap<&str, usize> =
            declared.iter().enumerate().map(|(place, column)| (column.name.as_str(), place)).collect();
        let mut missing = Vec::new();
        let places = next.declared.iter().zip(&next.properties).map(|(column, property)| {
            by_name.get(column.name.as_str()).copied().unwrap_or_else(|| {
                missing.push((property.clone(), column.clone()));
                declared.len() + missing.len() - 1
            })
        });
        self.places = places.collect();
        self.properties = properties;
        if missing.is_empty() {
            return Ok(Change::None);
        }
        self.extend(missing);
        Ok(Change::Wider)
    }

    fn extend(&mut self, more: Vec<(String, LayoutColumn)>) {
        let (properties, declared): (Vec<String>, Vec<LayoutColumn>) = more.into_iter().unzip();
        self.properties.extend(properties);
        self.declared = self.declared.iter().cloned().chain(declared).collect();
    }
}
