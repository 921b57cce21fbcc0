//! Columns across runs: once a folder has a column of some type, that column keeps its type.
//!
//! A property whose type changes gets a new column, `<name>__<type>`; the old one stays as it is. Names of columns differ
//! also for readers that do not look at case. What a folder has is kept beside the commit log and written before the
//! commit that needs it: a column too many there harms nobody.
//! Refuses a change of the key properties: rows of two keys cannot be told apart as repeats.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::column_type::ColumnType;
use super::message::{MAX_COLUMNS, refused};
use super::metadata::is_metadata;
use super::property::Stays;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::target::store::Fs;
use crate::target::store::checked::{self, FORM};
use crate::target::store::names::{COLUMNS, HELD};
use crate::target::store::tree::{failed, is_empty, names, put};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    property: String,
    column: String,
    #[serde(rename = "type")]
    kind: ColumnType,
    /// True for the column of the values that did not fit into that of the property.
    #[serde(default, skip_serializing_if = "is_false")]
    misfits: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    form: u32,
    stream: String,
    key_properties: Vec<String>,
    /// Of the last SCHEMA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bookmark_properties: Vec<String>,
    columns: Vec<Remembered>,
    /// False as long as its files have no rows. Not said by versions that wrote no such files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<bool>,
}

/// The column of a property without a name.
const UNNAMED: &str = "unnamed";

/// The columns that a stream's folder has.
#[derive(Debug)]
pub struct FolderColumns {
    path: String,
    content: Content,
    known: bool,
    changed: bool,
    /// Earlier runs wrote rows, and none of their files is there.
    emptied: bool,
    index: Index,
}

/// The columns by property and by name.
#[derive(Debug, Default)]
struct Index {
    by_property: HashMap<String, Vec<usize>>,
    misfits: HashMap<String, usize>,
    /// By names without case.
    taken: HashMap<String, Name>,
    /// Columns besides those of `_sdc_`.
    count: usize,
}

/// A name of a column, whatever its case.
#[derive(Debug)]
struct Name {
    /// The first column that has the name.
    first: usize,
    /// The number that makes the next one another name.
    next: u32,
}

impl Index {
    fn of(content: &Content) -> Index {
        let mut index = Index::default();
        content.columns.iter().enumerate().for_each(|(at, column)| index.add(at, column));
        index
    }

    fn add(&mut self, at: usize, column: &Remembered) {
        self.taken.entry(column.column.to_lowercase()).or_insert(Name { first: at, next: 2 });
        self.count += usize::from(!is_metadata(&column.property));
        if column.misfits {
            self.misfits.insert(column.property.clone(), at);
        } else {
            self.by_property.entry(column.property.clone()).or_default().push(at);
        }
    }
}

impl FolderColumns {
    /// Reads the columns of `folder`: none, if it is new. `None`, if it is another stream's.
    ///
    /// # Errors
    /// [`Kind::Disk`] when there is something, and it cannot be read.
    pub fn read(fs: &dyn Fs, stream: &str, folder: &str) -> Result<Option<Self>> {
        let path = format!("{COLUMNS}/{folder}.json");
        let (content, known) = match fs.read(&path) {
            Ok(text) => {
                let ways_out =
                    format!("restore it, or move it and the folder {folder} away, or use a new destination_path");
                let refused = |why| Error::new(Kind::Disk, format!("{path} cannot be understood ({why}); {ways_out}"));
                (checked::content(&text).map_err(refused)?, true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (Content::default(), false),
            Err(e) => return Err(failed(format!("reading {path}"))(e)),
        };
        if known && content.stream != stream {
            return Ok(None);
        }
        let content = Content { form: FORM, stream: stream.to_owned(), ..content };
        let had_rows = known && content.rows == Some(true);
        // Without files there are no rows that other keys could contradict.
        let known = known
            && content.rows != Some(false)
            && (!is_empty(fs, folder)? || !is_empty(fs, &format!("{HELD}/{folder}"))?);
        let index = Index::of(&content);
        let content = Content { rows: Some(known), ..content };
        let emptied = had_rows && !known;
        Ok(Some(FolderColumns { path, content, known, changed: !known, emptied, index }))
    }

    /// True if the folder has rows of earlier runs.
    pub fn has_rows(&self) -> bool {
        self.content.rows == Some(true)
    }

    /// True if the rows of earlier runs are gone with their files.
    pub fn is_emptied(&self) -> bool {
        self.emptied
    }

    /// The columns of all folders, by the names of their files.
    ///
    /// # Errors
    /// [`Kind::Disk`] when one of them cannot be read.
    pub fn all(fs: &dyn Fs) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in names(fs, COLUMNS)?.into_iter().filter(|name| name.ends_with(".json")) {
            let path = format!("{COLUMNS}/{name}");
            let text = fs.read(&path).map_err(failed(format!("reading {path}")))?;
            let content = checked::content(&text)
                .map_err(|why| Error::new(Kind::Disk, format!("{path} cannot be understood ({why})")))?;
            all.push(FolderColumns {
                path,
                index: Index::of(&content),
                content,
                known: true,
                changed: false,
                emptied: false,
            });
        }
        Ok(all)
    }

    /// The stream.
    pub fn stream(&self) -> &str {
        &self.content.stream
    }

    /// Its folder.
    pub fn folder(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.strip_suffix(".json").unwrap_or(name)
    }

    /// The names of its columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.content.columns.iter().map(|remembered| remembered.column.as_str())
    }

    /// The columns of its key; none where one of them has no column.
    pub fn key_columns(&self) -> Vec<&str> {
        self.newest(&self.content.key_properties).unwrap_or_default()
    }

    /// The columns of its bookmark; none where one of them has no column.
    pub fn bookmark_columns(&self) -> Vec<&str> {
        self.newest(&self.content.bookmark_properties).unwrap_or_default()
    }

    /// The newest column of each property.
    fn newest(&self, properties: &[String]) -> Option<Vec<&str>> {
        let columns = || self.content.columns.iter().rev();
        let newest = |property: &String| columns().find(|r| r.property == *property).map(|r| r.column.as_str());
        properties.iter().map(newest).collect()
    }

    /// Sets the bookmark properties: those of the last SCHEMA count.
    pub fn set_bookmarks(&mut self, bookmarks: &[String]) {
        self.changed |= self.content.bookmark_properties != bookmarks;
        bookmarks.clone_into(&mut self.content.bookmark_properties);
    }

    /// Sets the key properties.
    ///
    /// # Errors
    /// [`Kind::Misfit`] when the folder was written with others.
    pub fn set_keys(&mut self, keys: &[String]) -> Result<()> {
        let sorted = |keys: &[String]| {
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            keys
        };
        let is_same = sorted(&self.content.key_properties) == sorted(keys);
        if self.known && !is_same {
            let (stream, old) = (&self.content.stream, &self.content.key_properties);
            return Err(Error::new(
                Kind::Misfit,
                format!(
                    "stream {stream:?}: key_properties changed from {old:?} to {keys:?}; \
                     write to a new destination_path, or move the stream's folder and its file in _target/columns away"
                ),
            ));
        }
        self.changed |= self.content.key_properties != keys;
        keys.clone_into(&mut self.content.key_properties);
        self.known = true;
        Ok(())
    }

    /// How many columns the folder has.
    pub fn count(&self) -> usize {
        self.content.columns.len()
    }

    /// The column that holds `property` when it has type `kind`, and the type of that column: another one, if the folder's
    /// newest column of the property may stay.
    ///
    /// # Errors
    /// When the folder would have too many columns.
    pub fn column(&mut self, property: &str, kind: ColumnType, stays: Stays) -> Result<(String, ColumnType)> {
        let known = self.index.by_property.get(property).map(Vec::as_slice).unwrap_or_default();
        let known = known.iter().filter_map(|at| self.content.columns.get(*at));
        let stays = |column: &&Remembered| stays.keeps(column.kind);
        let found =
            known.clone().find(|column| column.kind == kind).or_else(|| known.clone().next_back().filter(stays));
        if let Some(found) = found {
            return Ok((found.column.clone(), found.kind));
        }
        let stream = self.content.stream.clone();
        let changed = known.clone().next().is_some();
        let base = if property.is_empty() { UNNAMED } else { property };
        let twin = self.twin_of(base).filter(|_| !changed);
        let column = if changed {
            self.free(format!("{base}__{kind}"), kind)
        } else if twin.as_deref().is_some_and(|twin| twin != base) {
            self.numbered(base)
        } else {
            self.free(base.to_owned(), kind)
        };
        if changed {
            log::warn(format!(
                "stream {stream:?}: the type of {property:?} changed to {kind}; its values go to column {column:?}"
            ));
        } else if let Some(twin) = twin {
            let why = if twin == base { "holds values of another property" } else { "has the same name but for case" };
            log::warn(format!(
                "stream {stream:?}: the column {twin:?} {why}; the values of {property:?} itself go to column {column:?}"
            ));
        }
        self.add(Remembered { property: property.to_owned(), column: column.clone(), kind, misfits: false })?;
        Ok((column, kind))
    }

    /// The column for values of `property` that do not fit into its own, if the folder has one.
    pub fn misfits(&self, property: &str) -> Option<String> {
        let at = self.index.misfits.get(property)?;
        Some(self.content.columns.get(*at)?.column.clone())
    }

    /// Gives the folder a column for values of `property` that do not fit into `column`.
    ///
    /// # Errors
    /// When the folder would have too many columns.
    pub fn add_misfits(&mut self, property: &str, column: &str) -> Result<()> {
        let name = self.free(format!("{column}__misfit"), ColumnType::Json);
        self.add(Remembered { property: property.to_owned(), column: name, kind: ColumnType::Json, misfits: true })
    }

    fn add(&mut self, column: Remembered) -> Result<()> {
        if self.index.count >= MAX_COLUMNS && !is_metadata(&column.property) {
            let why = format!(
                "its folder has {MAX_COLUMNS} columns, and no more are possible; {:?} would be the next one: send fewer \
                 properties, or write to a new destination_path",
                column.property
            );
            return Err(refused(&self.content.stream, why));
        }
        self.index.add(self.content.columns.len(), &column);
        self.content.columns.push(column);
        self.changed = true;
        Ok(())
    }

    /// The column of this name, whatever its case.
    fn twin_of(&self, name: &str) -> Option<String> {
        let first = self.index.taken.get(&name.to_lowercase())?.first;
        Some(self.content.columns.get(first)?.column.clone())
    }

    /// The name, or the name with the type behind it as often as no other column has it.
    fn free(&self, mut name: String, kind: ColumnType) -> String {
        while self.index.taken.contains_key(&name.to_lowercase()) {
            name = format!("{name}__{kind}");
        }
        name
    }

    /// The name with a number that makes it another one also without regard to case.
    fn numbered(&mut self, name: &str) -> String {
        let lower = name.to_lowercase();
        loop {
            let number = self.index.taken.get_mut(&lower).map_or(2, |name| {
                name.next += 1;
                name.next - 1
            });
            let numbered = format!("{name}__{number}");
            if !self.index.taken.contains_key(&numbered.to_lowercase()) {
                return numbered;
            }
        }
    }

    /// Writes the columns, if they changed. `rows`: rows came in this run.
    pub fn save(&mut self, fs: &dyn Fs, rows: bool) -> Result<()> {
        if rows && !self.has_rows() {
            self.content.rows = Some(true);
            self.changed = true;
        }
        if !self.changed {
            return Ok(());
        }
        put(fs, &self.path, &checked::text(&self.content)?)?;
        self.changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::store::memory::Memory;
    use crate::target::store::tree::make_dirs;

    #[test]
    fn a_type_of_a_newer_version_is_refused_and_not_taken_for_a_change() {
        let fs = Memory::new();
        make_dirs(&fs, COLUMNS).unwrap();
        let mut columns = FolderColumns::read(&fs, "s", "s").unwrap().unwrap();
        assert_eq!(columns.column("id", ColumnType::Int64, Stays::None).unwrap().0, "id");
        columns.save(&fs, true).unwrap();
        let path = format!("{COLUMNS}/s.json");
        let mut text: serde_json::Value = serde_json::from_slice(&fs.read(&path).unwrap()).unwrap();
        assert_eq!(
            FolderColumns::read(&fs, "s", "s")
                .unwrap()
                .unwrap()
                .column("id", ColumnType::Int64, Stays::None)
                .unwrap()
                .0,
            "id"
        );
        text["columns"][0]["type"] = "int65".into();
        put(&fs, &path, text.to_string().as_bytes()).unwrap();
        let error = FolderColumns::read(&fs, "s", "s").unwrap_err().to_string();
        assert!(
            error.contains("its checksum does not fit") && error.contains("move it and the folder s away"),
            "{error}"
        );
        text.as_object_mut().unwrap().remove("checksum");
        put(&fs, &path, &checked::text(&text).unwrap()).unwrap();
        let error = FolderColumns::read(&fs, "s", "s").unwrap_err();
        assert_eq!(error.kind().exit_code(), 5);
        assert!(error.to_string().contains("\"int65\"; written by a newer version?"), "{error}");
    }
}
