//! Runs the target on text and reads back what it wrote.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row;
use serde_json::Value;

use crate::util::target_parquet;

/// What a run of the target left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A destination in a fresh directory.
pub(crate) struct Destination {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) settings: Value,
}

impl Destination {
    pub(crate) fn new() -> Self {
        Destination::with(serde_json::json!({}))
    }

    pub(crate) fn with(mut settings: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        settings["destination_path"] = dir.path().join("out").to_str().unwrap().into();
        Destination { dir, settings }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// The command with its settings, not yet started.
    pub(crate) fn command(&self) -> Command {
        let config = self.dir.path().join("config.json");
        std::fs::write(&config, self.settings.to_string()).unwrap();
        let mut command = target_parquet();
        command.arg("--config").arg(config).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, input: impl AsRef<[u8]>) -> Ran {
        let mut child = self.command().spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // The target may end before it read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
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

/// A SCHEMA line.
pub(crate) fn schema(stream: &str, properties: Value, keys: &[&str], bookmarks: &[&str]) -> String {
    let message = serde_json::json!({
        "type": "SCHEMA", "stream": stream, "schema": {"type": "object", "properties": properties},
        "key_properties": keys, "bookmark_properties": bookmarks,
    });
    format!("{message}\n")
}

/// A RECORD line.
pub(crate) fn record(stream: &str, record: Value) -> String {
    format!("{}\n", serde_json::json!({"type": "RECORD", "stream": stream, "record": record}))
}

/// A STATE line.
pub(crate) fn state(value: Value) -> String {
    format!("{}\n", serde_json::json!({"type": "STATE", "value": value}))
}
