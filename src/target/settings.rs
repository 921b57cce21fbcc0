//! Settings: from files and, when asked for, from the environment, to values that the rest of the target never has to
//! look at twice. One table says names, other names, defaults and meaning; `--about` and the README show the same table.

use std::path::PathBuf;
use std::time::Duration;

use parquet::basic::Compression;
use serde_json::{Map, Value};

use super::files::json_chunk::Level;
use super::memory;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::settings::dotenv::Variables;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Names that users of other targets try.
    pub aliases: &'static [&'static str],
    /// Its JSON type.
    pub kind: &'static str,
    /// Its default, as JSON text.
    pub default: &'static str,
    /// What it means.
    pub description: &'static str,
}

const fn setting(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: &'static str,
    default: &'static str,
    description: &'static str,
) -> Setting {
    Setting { name, aliases, kind, default, description }
}

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    setting(
        "destination_path",
        &["path", "filepath", "output_path"],
        "string",
        "\"output\"",
        "Folder that the files are written into, one folder per stream",
    ),
    setting("compression", &["compression_method"], "string", "\"zstd\"", "zstd, snappy, gzip, brotli, lz4 or none"),
    setting(
        "compression_level",
        &[],
        "integer",
        "null",
        "Level of zstd (1 to 22, default 1, for JSON text settings of our own), gzip (0 to 9) or brotli (0 to 11)",
    ),
    setting(
        "batch_size_rows",
        &["max_batch_size"],
        "integer",
        "1000000",
        "Most rows of a file; a commit follows at the first STATE after about so many rows of a stream",
    ),
    setting("file_size_mb", &[], "integer", "256", "Size at which a file is full"),
    setting(
        "max_batch_age_minutes",
        &["max_batch_age"],
        "number",
        "5",
        "A commit follows at the first STATE after so long, also when few rows came",
    ),
    setting("memory_limit_mb", &[], "integer", "80", "Memory that the process aims to stay under, over all streams"),
    setting("max_line_mb", &[], "integer", "64", "A longer line of input is refused"),
    setting(
        "dedup",
        &[],
        "string",
        "\"replay\"",
        "replay: leave out rows that an earlier run committed and that are sent again after a crash; always: in every run; off",
    ),
    setting("dedup_window_rows", &[], "integer", "1000000", "Rows that dedup remembers (16 bytes each)"),
    setting(
        "load_method",
        &[],
        "string",
        "\"append-only\"",
        "append-only, or overwrite: each run that ends well replaces the streams that it sends",
    ),
    setting(
        "partition_by",
        &["partition_cols"],
        "array",
        "[]",
        "Hive folders: names of columns; a date-time or date column as name:day or name:month",
    ),
    setting(
        "add_record_metadata",
        &["add_metadata_columns"],
        "boolean",
        "false",
        "Add the _sdc_ columns of the Singer SDK",
    ),
    setting(
        "json_logical_type",
        &[],
        "boolean",
        "false",
        "Declare JSON text as JSON; DuckDB then refuses a column that holds half a surrogate pair anywhere",
    ),
];

/// Settings of Singer SDK targets that would change the data, and that this target does not have.
const NOT_SUPPORTED: &[&str] =
    &["stream_maps", "flattening_enabled", "file_naming_scheme", "extra_fields", "hard_delete"];

/// Which rows are looked up among those written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedup {
    /// Rows of commits that are newer than the state that the run began with.
    Replay,
    /// All rows.
    Always,
    /// None.
    Off,
}

/// What a run does with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMethod {
    /// Adds to it.
    AppendOnly,
    /// Replaces it, at the end of a run that ended well.
    Overwrite,
}

/// A column that makes folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionColumn {
    /// The property.
    pub property: String,
    /// How much of its text names the folder.
    pub grain: Grain,
}

/// How a value becomes a folder's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// As it is.
    Value,
    /// The UTC day of a date-time, or a date.
    Day,
    /// The UTC month.
    Month,
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder that the files are written into.
    pub destination: PathBuf,
    /// The codec with its level.
    pub compression: Codec,
    /// Most rows of a file.
    pub batch_size_rows: u64,
    /// Bytes at which a file is full.
    pub file_size_bytes: u64,
    /// Time after which the next STATE commits.
    pub max_batch_age: Duration,
    /// Memory to stay under.
    pub memory_limit_bytes: usize,
    /// Longest line.
    pub max_line_bytes: usize,
    /// Which rows are looked up.
    pub dedup: Dedup,
    /// How many rows are remembered.
    pub dedup_window_rows: u64,
    /// Add or replace.
    pub load_method: LoadMethod,
    /// Hive folders.
    pub partition_by: Vec<PartitionColumn>,
    /// Whether `_sdc_` columns are added.
    pub add_record_metadata: bool,
    /// Columns of JSON text are declared as such, and not as strings.
    pub json_logical_type: bool,
}

/// The error of a setting whose value is not what is expected.
pub fn refused(name: &str, expected: &str) -> Error {
    Error::new(Kind::Config, format!("setting {name}: expected {expected}"))
}

impl Settings {
    /// Reads the files in order, later ones win key by key. `ENV` among them takes `TARGET_PARQUET_<SETTING>` from `envs`, of
    /// which later ones win, too, and which win over files.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the file or the setting.
    pub fn read(configs: &[PathBuf], envs: &[&Variables<'_>]) -> Result<Self> {
        let mut merged = Map::new();
        for path in configs.iter().filter(|path| path.as_os_str() != "ENV") {
            let shown = path.display();
            let text = std::fs::read_to_string(path);
            let text =
                text.map_err(|e| Error::new(Kind::Config, format!("reading the settings file {shown} failed: {e}")))?;
            let value = serde_json::from_str::<Value>(&text);
            let value = value.map_err(|e| {
                let (line, column) = (e.line(), e.column());
                Error::new(
                    Kind::Config,
                    format!("the settings file {shown} is not JSON (line {line}, column {column})"),
                )
            })?;
            let Value::Object(object) = value else {
                return Err(Error::new(Kind::Config, format!("the settings file {shown} is not a JSON object")));
            };
            merged.extend(canonical(object));
        }
        if configs.iter().any(|path| path.as_os_str() == "ENV") {
            for (env, setting) in envs.iter().flat_map(|env| SETTINGS.iter().map(move |setting| (env, setting))) {
                let mut given =
                    names(setting).filter_map(|name| env(&format!("TARGET_PARQUET_{}", name.to_ascii_uppercase())));
                if let Some(text) = given.next() {
                    merged.insert(setting.name.to_owned(), from_text(setting, text));
                }
            }
        }
        Settings::from_map(&merged)
    }

    /// Checks settings that were read.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        for name in map.keys() {
            if NOT_SUPPORTED.contains(&name.as_str()) && map.get(name).is_some_and(|v| !v.is_null() && *v != false) {
                log::warn(format!("setting {name} is not supported by this target and has no effect"));
            } else if !SETTINGS.iter().any(|s| s.name == name || s.aliases.contains(&name.as_str())) {
                log::debug(format!("setting {name} is not known to this target"));
            }
        }
        let map = canonical(map.clone());
        let found = Found(&map);
        let settings = Settings {
            destination: PathBuf::from(found.text("destination_path")?),
            compression: super::files::codec::compression(
                &found.text("compression")?,
                found.value("compression_level"),
            )?,
            batch_size_rows: found.integer("batch_size_rows", 1, 1 << 40)?,
            file_size_bytes: found.integer("file_size_mb", 1, 1 << 20)? << 20,
            max_batch_age: found.minutes("max_batch_age_minutes")?,
            memory_limit_bytes: usize_of(found.integer("memory_limit_mb", 32, 1 << 20)? << 20),
            max_line_bytes: usize_of(found.integer("max_line_mb", 1, 1024)? << 20),
            dedup: match found.text("dedup")?.as_str() {
                "replay" => Dedup::Replay,
                "always" => Dedup::Always,
                "off" => Dedup::Off,
                _ => return Err(refused("dedup", "replay, always or off")),
            },
            dedup_window_rows: found.integer("dedup_window_rows", 1, 1 << 32)?,
            load_method: match found.text("load_method")?.as_str() {
                "append-only" | "append_only" | "append" => LoadMethod::AppendOnly,
                "overwrite" => LoadMethod::Overwrite,
                _ => return Err(refused("load_method", "append-only or overwrite")),
            },
            partition_by: partition_by(&found.value("partition_by"))?,
            add_record_metadata: found.boolean("add_record_metadata")?,
            json_logical_type: found.boolean("json_logical_type")?,
        };
        match memory::least_limit(settings.compression.compression, settings.memory_limit_bytes) {
            Some(least) => Err(refused(
                "compression_level",
                &format!(
                    "a lower one, or memory_limit_mb of at least {}: that is what its compressors take",
                    least >> 20
                ),
            )),
            None => Ok(settings),
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Text from the environment, as the setting's type where it is one.
fn from_text(setting: &Setting, text: String) -> Value {
    match setting.kind {
        "string" => Value::String(text),
        "boolean" if matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on") => Value::Bool(true),
        "boolean" if matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off" | "") => {
            Value::Bool(false)
        }
        _ => serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// The name of a setting, and its other names.
fn names(setting: &Setting) -> impl Iterator<Item = &'static str> {
    std::iter::once(setting.name).chain(setting.aliases.iter().copied())
}

/// The same settings, each under its own name: a later file wins whichever name it uses. The setting's own name wins over
/// its other names, and null over nothing.
fn canonical(mut object: Map<String, Value>) -> Map<String, Value> {
    for setting in SETTINGS {
        let given: Vec<Value> = names(setting).filter_map(|name| object.shift_remove(name)).collect();
        let chosen = given.iter().position(|value| !value.is_null()).unwrap_or_default();
        if let Some(value) = given.into_iter().nth(chosen) {
            object.insert(setting.name.to_owned(), value);
        }
    }
    object
}

struct Found<'a>(&'a Map<String, Value>);

impl Found<'_> {
    /// The value of the setting; its default where there is none.
    fn value(&self, name: &str) -> Value {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else { return Value::Null };
        let given = self.0.get(name).filter(|value| !value.is_null());
        given.cloned().unwrap_or_else(|| serde_json::from_str(setting.default).unwrap_or_default())
    }

    fn text(&self, name: &str) -> Result<String> {
        match self.value(name) {
            Value::String(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
            _ => Err(refused(name, "a text")),
        }
    }

    fn integer(&self, name: &str, least: u64, most: u64) -> Result<u64> {
        let value = self.value(name);
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| refused(name, &format!("a whole number from {least} to {most}")))
    }

    fn minutes(&self, name: &str) -> Result<Duration> {
        let value = self.value(name);
        let minutes = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let valid = minutes.filter(|m| (0.0..=1e6).contains(m));
        valid.map(|m| Duration::from_secs_f64(m * 60.0)).ok_or_else(|| refused(name, "a number of minutes, 0 or more"))
    }

    fn boolean(&self, name: &str) -> Result<bool> {
        match self.value(name) {
            Value::Bool(value) => Ok(value),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(refused(name, "true or false")),
        }
    }
}

/// How columns are compressed. JSON text gains by a level that other columns only pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Of every column, with its level.
    pub compression: Compression,
    /// The level for JSON text, where the codec is zstd.
    pub json: Option<Level>,
}

fn partition_by(value: &Value) -> Result<Vec<PartitionColumn>> {
    let expected = || refused("partition_by", "names of columns, each with :day or :month behind it if it is a time");
    let names: Vec<&str> = match value {
        Value::String(text) => text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
        Value::Array(items) => items.iter().map(|item| item.as_str().ok_or_else(expected)).collect::<Result<_>>()?,
        _ => return Err(expected()),
    };
    let column = |name: &str| {
        let (property, grain) = match name.rsplit_once(':') {
            Some((property, "day")) => (property, Grain::Day),
            Some((property, "month")) => (property, Grain::Month),
            Some((_, "year" | "quarter" | "week" | "hour" | "minute" | "second")) => return Err(expected()),
            _ => (name, Grain::Value),
        };
        Ok(PartitionColumn { property: property.to_owned(), grain })
    };
    names.into_iter().map(column).collect()
}

#[cfg(test)]
mod tests;
