//! Columns across runs: once a folder has a column of some type, that column keeps its type.
//!
//! A property whose type changes gets a new column, `<name>__<type>`; the old one stays as it is. What a folder has is
//! kept beside the commit log and written before the commit that needs it: a column too many there harms nobody.
//! Refuses a change of the key properties: rows of two keys cannot be told apart as repeats.

use serde::{Deserialize, Serialize};

use super::column_type::ColumnType;
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
}

/// The columns that a stream's folder has.
#[derive(Debug)]
pub struct FolderColumns {
    path: String,
    content: Content,
    known: bool,
    changed: bool,
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
        // Without files there are no rows that other keys could contradict.
        let known = known && (!is_empty(fs, folder)? || !is_empty(fs, &format!("{HELD}/{folder}"))?);
        Ok(Some(FolderColumns { path, content, known, changed: !known }))
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
            all.push(FolderColumns { path, content, known: true, changed: false });
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
        if self.known && self.content.key_properties != keys {
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

    /// The column that holds `property` when it has type `kind`.
    pub fn column(&mut self, property: &str, kind: ColumnType) -> String {
        let mut seen = false;
        for remembered in self.content.columns.iter().filter(|r| r.property == property) {
            if remembered.kind == kind {
                return remembered.column.clone();
            }
            seen = true;
        }
        let mut column = if seen { format!("{property}__{kind}") } else { property.to_owned() };
        while self.content.columns.iter().any(|r| r.column == column) {
            column = format!("{column}__{kind}");
        }
        if !seen && column != property {
            let stream = &self.content.stream;
            log::warn(format!(
                "stream {stream:?}: the column {property:?} holds values of another property since its type changed; \
                 the values of {property:?} itself go to column {column:?}"
            ));
        }
        if seen {
            let stream = &self.content.stream;
            log::warn(format!(
                "stream {stream:?}: the type of {property:?} changed to {kind}; its values go to column {column:?}"
            ));
        }
        let remembered = Remembered { property: property.to_owned(), column: column.clone(), kind };
        self.content.columns.push(remembered);
        self.changed = true;
        column
    }

    /// Writes the columns, if they changed.
    pub fn save(&mut self, fs: &dyn Fs) -> Result<()> {
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
        assert_eq!(columns.column("id", ColumnType::Int64), "id");
        columns.save(&fs).unwrap();
        let path = format!("{COLUMNS}/s.json");
        let mut text: serde_json::Value = serde_json::from_slice(&fs.read(&path).unwrap()).unwrap();
        assert_eq!(FolderColumns::read(&fs, "s", "s").unwrap().unwrap().column("id", ColumnType::Int64), "id");
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
