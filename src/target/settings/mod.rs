//! The settings of the target as values that the rest of the target never has to look at twice.

mod rows;

use std::path::PathBuf;
use std::time::Duration;

use super::columns::schema::{Misfits, Rules};
use super::files::codec::{self, Codec};
use super::memory;
use crate::error::Result;
use crate::settings::{self, Values};
pub use rows::TABLE;

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
    /// How columns are chosen and filled.
    pub columns: Rules,
    /// Columns of JSON text are declared as such, and not as strings.
    pub json_logical_type: bool,
    /// Views are written beside the files. Always, but in tests whose disk fails at each call.
    pub writes_views: bool,
}

impl Settings {
    /// Reads the settings from files, and from the environment if one of them is `ENV`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`], naming the file or the setting.
    pub fn load(files: &[PathBuf]) -> Result<Settings> {
        Settings::from_values(&settings::load(TABLE, files)?)
    }

    /// The settings that an object makes, for tests.
    #[cfg(test)]
    pub(crate) fn of(object: &serde_json::Value) -> Result<Settings> {
        let mut given = settings::Given::new(TABLE);
        given.overlay(object.as_object().cloned().unwrap_or_default(), &settings::Place::File("test".to_owned()));
        Settings::from_values(&given.read()?).map(|settings| Settings { writes_views: false, ..settings })
    }

    /// Gives the values their meaning.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] for what contradicts itself.
    fn from_values(values: &Values) -> Result<Settings> {
        let megabytes = |name: &str| values.whole(name).map(|number| number << 20);
        let level = values.whole_if_given("compression_level")?;
        let Some(compression) = codec::compression(values.word("compression")?, level) else {
            return Err(
                values.refuse("compression_level", "give 1 to 22 for zstd, 0 to 9 for gzip, 0 to 11 for brotli")
            );
        };
        let settings = Settings {
            destination: destination(values)?,
            compression,
            batch_size_rows: values.whole("batch_size_rows")?,
            file_size_bytes: megabytes("file_size_mb")?,
            max_batch_age: Duration::from_secs_f64(values.number("max_batch_age_minutes")? * 60.0),
            memory_limit_bytes: usize_of(megabytes("memory_limit_mb")?),
            max_line_bytes: usize_of(megabytes("max_line_mb")?),
            dedup: match values.word("dedup")? {
                "always" => Dedup::Always,
                "off" => Dedup::Off,
                _ => Dedup::Replay,
            },
            dedup_window_rows: values.whole("dedup_window_rows")?,
            load_method: match values.word("load_method")? {
                "overwrite" => LoadMethod::Overwrite,
                _ => LoadMethod::AppendOnly,
            },
            partition_by: partition_by(values)?,
            columns: Rules {
                metadata: values.flag("add_record_metadata")?,
                unions_as_text: values.word("scalar_unions")? == "text",
                keep_surrogates: values.word("lone_surrogates")? == "keep",
                misfits: match values.word("on_misfit")? {
                    "null" => Misfits::Null,
                    "keep" => Misfits::Keep,
                    _ => Misfits::Refuse,
                },
            },
            json_logical_type: values.flag("json_logical_type")?,
            writes_views: true,
        };
        match memory::least_limit(settings.compression.compression, settings.memory_limit_bytes) {
            Some(least) => Err(values.refuse(
                "compression_level",
                format!(
                    "its compressors take a memory_limit_mb of at least {}; give a lower level, or more memory",
                    least >> 20
                ),
            )),
            None => Ok(settings),
        }
    }
}

/// The folder that is named: a path, one in the home folder (`~/`), or a `file://` address.
fn destination(values: &Values) -> Result<PathBuf> {
    let name = "destination_path";
    let word = values.word(name)?;
    if let Some((scheme, rest)) = word.split_once("://") {
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.eq_ignore_ascii_case("file") {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            let why = "give file:/// and an absolute path, without % signs";
            let is_plain = path.starts_with('/') && !path.contains('%');
            return if is_plain { Ok(PathBuf::from(path)) } else { Err(values.refuse(name, why)) };
        }
        if !scheme.is_empty() && scheme.bytes().all(is_scheme) {
            let why = "it is an address, and this version writes into folders only: give a path, or file:///path";
            return Err(values.refuse(name, why));
        }
    }
    match word.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        Some(rest) => {
            let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
            let home = home.ok_or_else(|| values.refuse(name, "~ is the home folder, and HOME is not set"))?;
            Ok(PathBuf::from(home).join(rest.trim_start_matches('/')))
        }
        None => Ok(PathBuf::from(word)),
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The columns that make folders: names, with `:day` or `:month` behind a time.
fn partition_by(values: &Values) -> Result<Vec<PartitionColumn>> {
    let column = |name: &String| {
        let (property, grain) = match name.rsplit_once(':') {
            Some((property, "day")) => (property, Grain::Day),
            Some((property, "month")) => (property, Grain::Month),
            Some((_, "year" | "quarter" | "week" | "hour" | "minute" | "second")) => {
                let why = "give names of columns, each with :day or :month behind it if it is a time";
                return Err(values.refuse("partition_by", why));
            }
            _ => (name.as_str(), Grain::Value),
        };
        Ok(PartitionColumn { property: property.to_owned(), grain })
    };
    values.names("partition_by")?.iter().map(column).collect()
}

#[cfg(test)]
mod tests;
