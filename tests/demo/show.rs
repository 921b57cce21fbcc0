//! What the demo prints: files, rows and state, short enough for one screen.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::HumanCount;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value as Json;

pub(crate) const YOUR_OWN: &str = r#"  tap-posthog --init                                             asks for a personal API key, and writes posthog.json
  target-parquet run -- tap-posthog --config posthog.json       reads what is new, as often as you like
  duckdb -init output/views.sql                                  and ask, for example what integrations/sql/duckdb.sql asks
"#;

fn styled(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

pub(crate) fn bold(text: &str) -> String {
    styled("1", text)
}

pub(crate) fn dim(text: &str) -> String {
    styled("2", text)
}

pub(crate) fn green(text: &str) -> String {
    styled("32", text)
}

/// 1234567 as 1,234,567.
pub(crate) fn thousands(number: usize) -> HumanCount {
    HumanCount(number as u64)
}

/// Nobody else may read the file.
pub(crate) fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// The Parquet files of a folder and of the folders in it, by name.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn open(path: &Path) -> SerializedFileReader<fs::File> {
    SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap()
}

pub(crate) fn table_of_files(root: &Path, files: &[PathBuf], took: Duration) {
    let mut all = 0;
    for path in files {
        let reader = open(path);
        let meta = reader.metadata().file_metadata();
        let (rows, columns) = (meta.num_rows() as usize, meta.schema_descr().num_columns());
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        let kilobytes = fs::metadata(path).map_or(0, |meta| meta.len()) / 1_000;
        println!("  {name}  {} rows, {columns} columns, {} kB", thousands(rows), thousands(kilobytes as usize));
        all += rows;
    }
    println!("  {} rows in {:.1} s\n", thousands(all), took.as_secs_f64());
}

fn rows(files: &[PathBuf]) -> impl Iterator<Item = Row> {
    files.iter().flat_map(|path| open(path).into_iter().map(Result::unwrap).collect::<Vec<_>>())
}

fn text(row: &Row, name: &str) -> String {
    match row.get_column_iter().find(|(known, _)| *known == name).map(|(_, field)| field) {
        Some(Field::Str(text)) => text.clone(),
        Some(Field::Null) => "-".to_owned(),
        Some(time @ Field::TimestampMicros(_)) => time.to_string().trim_end_matches(" +00:00").to_owned(),
        Some(field) => field.to_string(),
        None => "(no such column)".to_owned(),
    }
}

fn time(row: &Row, name: &str) -> i64 {
    match row.get_column_iter().find(|(known, _)| *known == name) {
        Some((_, Field::TimestampMicros(micros))) => *micros,
        other => panic!("{name} is no time: {other:?}"),
    }
}

/// A few rows, in a few columns.
pub(crate) fn some_rows(files: &[PathBuf]) {
    const COLUMNS: &[(&str, usize)] = &[
        ("timestamp", 26),
        ("event", 20),
        ("distinct_id", 12),
        ("properties_$browser", 20),
        ("properties_plan", 15),
        ("person_properties_email", 23),
    ];
    let line = |cells: Vec<String>| println!("  {}", cells.join("  "));
    line(COLUMNS.iter().map(|(name, width)| dim(&fit(name, *width))).collect());
    let total = rows(files).count();
    for row in rows(files).step_by((total / 5).max(1)).take(5) {
        let cell = |(name, width): &(&str, usize)| fit(&text(&row, name), *width);
        line(COLUMNS.iter().map(cell).collect());
    }
    println!();
}

/// `text` in exactly `width` characters.
fn fit(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return format!("{text}{}", " ".repeat(width - count));
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// The state, long texts cut.
pub(crate) fn state(path: &Path) {
    let state: Json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let bookmark = &state["bookmarks"]["events"];
    println!("  {}", dim("state.json, bookmark of events"));
    for (name, value) in bookmark.as_object().into_iter().flatten() {
        println!("  {name:>22}  {}", fit(&value.to_string(), 80).trim_end());
    }
    println!();
}

/// How many rows there are, and how many of them are older than `micros`.
pub(crate) fn count_older_than(files: &[PathBuf], micros: i64) -> (usize, usize) {
    rows(files).fold((0, 0), |(all, old), row| (all + 1, old + usize::from(time(&row, "timestamp") <= micros)))
}

/// What names each row: time, event, who, uuid.
pub(crate) fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |row: Row| {
        let of = |column: &str| text(&row, column);
        format!("{} {} {} {}", time(&row, "timestamp"), of("event"), of("distinct_id"), of("uuid"))
    };
    rows(files).map(name).collect()
}
