//! The target: runs it on text and reads back what it wrote.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Run, feed, target_parquet};
use crate::fake::{DAY_MICROS, Held, Identity};

/// The target, with a destination in a fresh directory.
pub(crate) struct Target {
    pub(crate) dir: TempDir,
    pub(crate) settings: Value,
}

impl Target {
    pub(crate) fn new() -> Self {
        Target::with(json!({}))
    }

    pub(crate) fn with(mut settings: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        settings["destination_path"] = dir.path().join("out").to_str().unwrap().into();
        Target { dir, settings }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// The command with its settings, not yet started.
    pub(crate) fn command(&self) -> Command {
        let mut command = target_parquet();
        command.arg("--config").arg(self.write_settings()).current_dir(self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The settings in a file.
    pub(crate) fn write_settings(&self) -> PathBuf {
        let path = self.dir.path().join("target.json");
        std::fs::write(&path, self.settings.to_string()).unwrap();
        path
    }

    pub(crate) fn spawn(&self) -> Child {
        self.command().spawn().unwrap()
    }

    /// Feeds `input` to the target.
    pub(crate) fn run(&self, input: impl AsRef<[u8]>) -> Run {
        feed(self.spawn(), input)
    }

    /// Waits until the target has begun to write there.
    pub(crate) fn wait_for_start(&self) {
        while !self.out().join("_target/commits").exists() {
            std::thread::yield_now();
        }
    }

    /// Every `*.parquet` below the stream's folder.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        parquet_files(&self.out().join(folder))
    }

    /// The rows of a stream's folder as JSON objects, in the order of file names.
    pub(crate) fn rows(&self, folder: &str) -> Vec<Value> {
        self.files(folder).iter().flat_map(|path| rows(path)).collect()
    }

    /// The values of one column.
    pub(crate) fn column(&self, folder: &str, column: &str) -> Vec<Value> {
        self.rows(folder).into_iter().map(|row| row[column].clone()).collect()
    }

    /// The numbers in the column `id`, sorted.
    pub(crate) fn ids(&self, folder: &str) -> Vec<i64> {
        let mut ids: Vec<i64> = self.column(folder, "id").iter().map(|id| id.as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    /// The events in the files of the stream `events`.
    pub(crate) fn events(&self) -> Vec<Held> {
        self.rows("events").iter().map(held_in_row).collect()
    }

    /// Everything below the destination, as relative paths.
    pub(crate) fn tree(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        walk(&self.out(), &mut |path| {
            all.insert(path.strip_prefix(self.out()).unwrap().to_str().unwrap().to_owned());
        });
        all
    }
}

fn walk(dir: &Path, see: &mut dyn FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, see);
        } else {
            see(&path);
        }
    }
}

/// Every `*.parquet` below `dir`, sorted.
pub(crate) fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(dir, &mut |path| {
        if path.extension().is_some_and(|e| e == "parquet") {
            files.push(path.to_owned());
        }
    });
    files.sort();
    files
}

/// The rows of one file.
pub(crate) fn rows(path: &Path) -> Vec<Value> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| object(&row.unwrap())).collect()
}

fn object(row: &Row) -> Value {
    use parquet::record::Field;
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Bool(v) => (*v).into(),
        Field::Int(v) => (*v).into(),
        Field::Long(v) | Field::TimestampMicros(v) | Field::TimeMicros(v) => (*v).into(),
        Field::Date(v) => (*v).into(),
        Field::Double(v) => (*v).into(),
        Field::Str(v) => v.as_str().into(),
        Field::Bytes(v) => String::from_utf8(v.data().to_vec()).unwrap().into(),
        Field::Decimal(_) => field.to_string().into(),
        other => panic!("unexpected {other:?}"),
    };
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect())
}

pub(crate) fn held_in_row(row: &Value) -> Held {
    let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}")).to_owned();
    let time = |name: &str| row[name].as_i64().unwrap_or_else(|| panic!("{name} of {row}"));
    let day = time("timestamp").div_euclid(DAY_MICROS);
    let identity = Identity { day, event: text("event"), distinct_id: text("distinct_id"), uuid: text("uuid") };
    Held { identity, timestamp: time("timestamp"), created_at: time("created_at") }
}

/// A SCHEMA line.
pub(crate) fn schema(stream: &str, properties: Value, keys: &[&str], bookmarks: &[&str]) -> String {
    let message = json!({
        "type": "SCHEMA", "stream": stream, "schema": {"type": "object", "properties": properties},
        "key_properties": keys, "bookmark_properties": bookmarks,
    });
    format!("{message}\n")
}

/// A RECORD line.
pub(crate) fn record(stream: &str, record: Value) -> String {
    format!("{}\n", json!({"type": "RECORD", "stream": stream, "record": record}))
}

/// A STATE line.
pub(crate) fn state(value: Value) -> String {
    format!("{}\n", json!({"type": "STATE", "value": value}))
}

/// The SCHEMA line of the stream `s` of numbers, whose key is `id`.
pub(crate) fn head() -> String {
    schema("s", json!({"id": {"type": "integer"}}), &["id"], &["id"])
}

/// RECORD lines of the stream `s`.
pub(crate) fn ids(ids: Range<i64>) -> String {
    ids.map(|id| record("s", json!({"id": id}))).collect()
}

/// The same of a version; as singer-python writes it, the version behind the record.
pub(crate) fn of_version(version: i64, ids: Range<i64>) -> String {
    let line = |id| json!({"type": "RECORD", "stream": "s", "record": {"id": id}, "version": version});
    ids.map(|id| format!("{}\n", line(id))).collect()
}

/// The ACTIVATE_VERSION line of the stream `s`.
pub(crate) fn activate(version: i64) -> String {
    format!("{}\n", json!({"type": "ACTIVATE_VERSION", "stream": "s", "version": version}))
}
