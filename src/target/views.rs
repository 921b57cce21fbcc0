//! `views.sql` in the destination: a view for each stream, as DuckDB reads it. Where rows of a stream come again by their key,
//! `<stream>_latest` has the newest of each; for PostHog's events there is one view more, with the person of today.
//!
//! The file is made anew behind each commit, from what the destination holds. It is a help and no promise: where it cannot
//! be written, a warning says so, and the run goes on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::columns::evolve::FolderColumns;
use super::store::Fs;
use super::store::names::VIEWS;
use super::store::tree::{is_empty, renew};
use crate::error::{Error, Kind, Result};
use crate::log;

/// Writes the views of the streams in `destination`. `has_versions` says which streams are replaced as a whole, so that no
/// key is there twice.
pub fn write(fs: &dyn Fs, destination: &Path, has_versions: impl Fn(&str) -> bool) {
    if let Err(error) = text(fs, destination, has_versions).and_then(|text| renew(fs, VIEWS, text.as_bytes())) {
        log::warn(format!("{VIEWS} is not up to date: {error}"));
    }
}

fn text(fs: &dyn Fs, destination: &Path, has_versions: impl Fn(&str) -> bool) -> Result<String> {
    let root = std::path::absolute(destination)
        .map_err(|e| Error::new(Kind::Disk, format!("finding the current folder failed: {e}")))?;
    // DuckDB takes no other paths.
    let Some(root) = root.to_str() else { return Err(Error::new(Kind::Disk, "the destination's path is not UTF-8")) };
    let mut views = Views { root, out: HEAD.to_owned(), taken: BTreeSet::new() };
    let mut there = Vec::new();
    for stream in FolderColumns::all(fs)? {
        // A stream's own name comes before one that is made for another.
        if views.is_free(stream.stream()) && !is_empty(fs, stream.folder())? {
            views.taken.insert(stream.stream().to_lowercase());
            there.push(stream);
        }
    }
    for stream in &there {
        views.stream(stream);
        if !has_versions(stream.stream()) {
            views.latest(stream);
        }
    }
    views.events_with_person(&there);
    Ok(views.out)
}

const HEAD: &str = "-- Views for DuckDB: duckdb -init views.sql\n\
                    -- Made anew with each commit; the paths are those of the machine that made it.\n";

struct Views<'a> {
    root: &'a str,
    out: String,
    /// The names of views, in small letters: DuckDB makes no difference.
    taken: BTreeSet<String>,
}

impl Views<'_> {
    fn is_free(&self, name: &str) -> bool {
        !name.is_empty() && !name.contains('\0') && !self.taken.contains(&name.to_lowercase())
    }

    fn view(&mut self, name: &str, query: &str) {
        self.taken.insert(name.to_lowercase());
        let _ = write!(self.out, "\nCREATE OR REPLACE VIEW {} AS\n{query};\n", identifier(name));
    }

    fn files(&self, stream: &FolderColumns, options: &str) -> String {
        let files = format!("{}/{}/**/*.parquet", pattern(self.root), pattern(stream.folder()));
        format!("read_parquet({}, union_by_name = true, hive_partitioning = false{options})", string(&files))
    }

    fn stream(&mut self, stream: &FolderColumns) {
        self.view(stream.stream(), &format!("SELECT * FROM {}", self.files(stream, "")));
    }

    /// The newest row of each key: by the bookmark, and of those that have the same one, the row that came last.
    fn latest(&mut self, stream: &FolderColumns) {
        let name = format!("{}_latest", stream.stream());
        let (keys, bookmarks) = (stream.key_columns(), stream.bookmark_columns());
        if keys.is_empty() || !self.is_free(&name) {
            return;
        }
        let mut order: Vec<String> =
            bookmarks.iter().map(|column| format!("{} DESC NULLS LAST", identifier(column))).collect();
        let is_there = |name: &str| stream.columns().any(|column| column.eq_ignore_ascii_case(name));
        let mut files = self.files(stream, "");
        let mut all = "*";
        if !is_there("filename") && !is_there("file_row_number") {
            // Names of files begin with the number of their commit.
            order.push("parse_filename(filename) DESC".to_owned());
            order.push("file_row_number DESC".to_owned());
            files = self.files(stream, ", filename = true, file_row_number = true");
            all = "* EXCLUDE (filename, file_row_number)";
        }
        if order.is_empty() {
            return;
        }
        let keys: Vec<String> = keys.iter().map(|key| identifier(key)).collect();
        let (keys, order) = (keys.join(", "), order.join(", "));
        let query =
            format!("SELECT {all} FROM {files}\nQUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1");
        self.view(&name, &query);
    }

    /// Events beside the person that their distinct id belongs to today, also where persons were merged since.
    fn events_with_person(&mut self, there: &[FolderColumns]) {
        let with = |name: &str, columns: &[&str]| {
            let has =
                |stream: &FolderColumns| columns.iter().all(|name| stream.columns().any(|column| column == *name));
            let found = there.iter().find(|stream| stream.stream() == name && has(stream))?;
            let latest = format!("{}_latest", found.stream());
            let view = if self.taken.contains(&latest) { latest } else { name.to_owned() };
            Some(identifier(&view))
        };
        let events = with("events", &["uuid", "event", "distinct_id"]);
        let ids = with("person_distinct_ids", &["distinct_id", "person_id"]);
        let (Some(events), Some(ids)) = (events, ids) else { return };
        let name = "events_with_person";
        if !self.is_free(name) {
            return;
        }
        let has_person =
            there.iter().any(|s| s.stream() == "events" && s.columns().any(|column| column == "person_id"));
        let today = if has_person { "coalesce(ids.person_id, events.person_id)" } else { "ids.person_id" };
        let mut query = format!("SELECT events.*, {today} AS person_id_today");
        let mut from =
            format!("FROM {events} AS events\nLEFT JOIN {ids} AS ids ON ids.distinct_id = events.distinct_id");
        if let Some(persons) = with("persons", &["id"]) {
            query += ", persons AS person_today";
            let _ = write!(from, "\nLEFT JOIN {persons} AS persons ON persons.id = {today}");
        }
        self.view(name, &format!("{query}\n{from}"));
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A path in which nothing stands for other paths.
fn pattern(path: &str) -> String {
    path.chars().fold(String::new(), |mut out, c| {
        if matches!(c, '*' | '?' | '[') {
            let _ = write!(out, "[{c}]");
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::columns::column_type::ColumnType;
    use crate::target::columns::property::Stays;
    use crate::target::store::memory::{Fault, Memory};
    use crate::target::store::names::COLUMNS;
    use crate::target::store::tree::{make_dirs, put};

    fn stream(fs: &Memory, name: &str, folder: &str, keys: &[&str], columns: &[&str]) {
        make_dirs(fs, COLUMNS).unwrap();
        let mut made = FolderColumns::read(fs, name, folder).unwrap().unwrap();
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        made.set_keys(&keys).unwrap();
        for column in columns {
            made.column(column, ColumnType::Text, Stays::None).unwrap();
        }
        made.save(fs, true).unwrap();
        make_dirs(fs, folder).unwrap();
        put(fs, &format!("{folder}/1.parquet"), b"").unwrap();
    }

    fn views(fs: &Memory) -> String {
        write(fs, Path::new("/o'dd [1]"), |name| name == "full");
        String::from_utf8(fs.read(VIEWS).unwrap()).unwrap()
    }

    #[test]
    fn names_and_paths_cannot_break_out_of_their_quotes() {
        let fs = Memory::new();
        stream(&fs, "a\"; DROP TABLE x; --", "a", &["i\"d"], &["i\"d"]);
        let text = views(&fs);
        assert!(text.contains("VIEW \"a\"\"; DROP TABLE x; --\" AS"), "{text}");
        assert!(text.contains("PARTITION BY \"i\"\"d\" ORDER BY parse_filename(filename) DESC"), "{text}");
        assert!(text.contains("'/o''dd [[]1]/a/**/*.parquet'"), "{text}");
    }

    #[test]
    fn streams_without_keys_or_with_versions_have_no_newest_rows() {
        let fs = Memory::new();
        stream(&fs, "full", "full", &["id"], &["id"]);
        stream(&fs, "keyless", "keyless", &[], &["id"]);
        stream(&fs, "changes", "changes", &["id"], &["id"]);
        stream(&fs, "Changes", "changes@-1", &["id"], &["id"]);
        let text = views(&fs);
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("CREATE OR REPLACE VIEW ")).collect();
        assert_eq!(names, ["\"changes\" AS", "\"changes_latest\" AS", "\"full\" AS", "\"keyless\" AS"], "{text}");
    }

    #[test]
    fn a_disk_that_fails_leaves_whole_views_and_stops_nothing() {
        for fault in [Fault::Once, Fault::Kill, Fault::PowerCut] {
            for n in 0.. {
                let fs = Memory::new();
                stream(&fs, "a", "a", &["id"], &["id"]);
                let old = views(&fs);
                stream(&fs, "b", "b", &["id"], &["id"]);
                fs.fail_at(n, fault);
                write(&fs, Path::new("/o'dd [1]"), |name| name == "full");
                let came = fs.restart();
                let now = String::from_utf8(fs.read(VIEWS).unwrap()).unwrap();
                assert!(now == old || now.contains("VIEW \"b\""), "{fault:?} {n}: {now}");
                assert!(views(&fs).contains("VIEW \"b\""), "{fault:?} {n}: what was left stands in the way");
                if !came {
                    break;
                }
            }
        }
    }
}
