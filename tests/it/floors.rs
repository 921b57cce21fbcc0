//! The rooms of the house and the arrows between them, held by reading the sources. A row goes this way:
//!
//! tap: `posthog/http` (an answer arrives) -> `posthog/query` (a page of rows) -> `tap/events` (a slice: verified, proved) ->
//! `tap/record` (a record) -> `tap/sink` (a line) -> `singer` (standard output).
//!
//! target: `target/input` (a line) -> `target/rows` (a row in memory) -> `target/files` (a staged Parquet file) ->
//! `target/commit` (a file that readers see, and its STATE) -> `singer` (standard output).
//!
//! A room imports only the rooms that its line below names: all of them stand above it in the list. So no circle is possible
//! between rooms; within a room, no circle is allowed between files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What all other rooms may import: a room, what it is for, and the rooms of this list that it may import.
const GROUND: &[(&str, &str, &str)] = &[
    ("error", "an error and its exit code", ""),
    ("clock", "the clock of waits, which tests run faster", ""),
    ("fingerprint", "a hash of a JSON value", ""),
    ("json", "JSON text, read without a tree", ""),
    ("time", "instants and days, and their text", ""),
    ("log", "lines for people, without secrets", "error"),
    ("metrics", "Singer's metrics, as lines of the log", "log"),
    ("stop", "signals and time limits, which end a run early", "error clock"),
];

/// A room, what it is for, and the rooms that it may import besides those of the ground. From the bottom of the house to its
/// top; `tap` and `target` never meet.
const ROOMS: &[(&str, &str, &str)] = &[
    ("settings", "settings of both programs: one table, one reader, one way to print them", ""),
    ("singer", "the wire format: messages, catalog, state", ""),
    ("program", "start, command line, exit code", "singer"),
    ("posthog/address", "where PostHog is", ""),
    ("posthog/fault", "why a request has no answer", ""),
    ("posthog/pace", "how fast PostHog is asked", ""),
    ("posthog/secret", "a key that no message shows", ""),
    ("posthog/http", "one request and its answer", "posthog/address posthog/fault posthog/pace posthog/secret"),
    ("posthog/key", "what the key may do", "posthog/fault posthog/http"),
    ("posthog/query", "what is asked in HogQL, and the pages that come", "posthog/fault posthog/http"),
    ("posthog/rest", "lists of the REST API", "posthog/fault posthog/http"),
    ("tap/config", "the tap's settings", "settings posthog/address posthog/pace posthog/secret posthog/http"),
    ("tap/record", "a row or an item becomes a record", "singer posthog/query"),
    ("tap/context", "what every stream of a run works with", "posthog/http tap/config tap/record"),
    ("tap/page_size", "how many rows an answer may have", "posthog/query"),
    ("tap/proof", "read until proved", "tap/config"),
    ("tap/replication", "how much of a stream is read, and its bookmark", "singer posthog/http tap/context"),
    ("tap/sink", "records and states go out", "singer posthog/pace posthog/http tap/context tap/record"),
    ("tap/stream", "the table of streams", "singer posthog/http posthog/query tap/record"),
    (
        "tap/events",
        "the stream of events",
        "singer posthog/fault posthog/http posthog/query tap/config tap/context tap/page_size tap/proof tap/record tap/replication tap/sink tap/stream",
    ),
    (
        "tap/discover",
        "what the project has",
        "singer posthog/fault posthog/http posthog/key posthog/query posthog/rest tap/config tap/record tap/replication tap/stream tap/events",
    ),
    (
        "tap/lists",
        "streams that are lists",
        "singer posthog/fault posthog/rest tap/config tap/context tap/proof tap/record tap/replication tap/sink tap/stream",
    ),
    (
        "tap/tables",
        "streams that are tables",
        "singer posthog/fault posthog/http posthog/query tap/config tap/context tap/page_size tap/proof tap/record tap/replication tap/sink tap/stream",
    ),
    (
        "tap/sync",
        "the loop of a run",
        "singer posthog/http tap/context tap/replication tap/sink tap/stream tap/events tap/lists tap/tables",
    ),
    (
        "tap/command",
        "what the tap does besides a run",
        "settings singer posthog/fault posthog/http posthog/key posthog/query posthog/rest tap/config tap/context tap/page_size tap/stream tap/events tap/discover tap/sync",
    ),
    (
        "tap/cli",
        "the tap's command line",
        "settings singer program posthog/http tap/config tap/context tap/sink tap/discover tap/sync tap/command",
    ),
    ("target/allocator", "freed memory is kept for the next row group", ""),
    ("target/input", "a line, and the message in it", ""),
    ("target/memory", "the allocator of the target", ""),
    ("target/store", "the disk and the names on it", ""),
    ("target/columns", "a SCHEMA becomes columns", "target/store"),
    ("target/files", "rows become Parquet files that no reader sees", "target/store target/columns"),
    ("target/settings", "the target's settings", "settings target/memory target/columns target/files"),
    (
        "target/rows",
        "a RECORD becomes a row, and rows wait for their file",
        "target/input target/memory target/store target/columns target/files target/settings",
    ),
    ("target/views", "SQL views of what is committed", "target/store target/columns"),
    (
        "target/commit",
        "files become visible, once",
        "singer target/views target/store target/files target/settings target/rows",
    ),
    (
        "target/load",
        "the loop of the target",
        "singer target/input target/store target/columns target/settings target/rows target/commit",
    ),
    ("target/report", "what a run says at its end", "target/rows target/commit target/load"),
    (
        "target/run",
        "a tap is started, shown and ended with the loop",
        "singer target/input target/store target/settings target/commit target/load",
    ),
    (
        "target/cli",
        "the target's command line",
        "settings singer program target/allocator target/input target/store target/settings target/commit target/load target/run",
    ),
];

/// A word and the only rooms, or files, that may use it.
const PLACES: &[(&str, &[&str])] = &[
    ("reqwest", &["posthog/http/"]),
    ("TcpStream", &["posthog/http/"]),
    ("arrow_array", &["target/"]),
    ("arrow_schema", &["target/"]),
    ("arrow_buffer", &["target/"]),
    ("parquet::", &["target/"]),
    ("print!", &[]),
    ("println!", &[]),
];

/// The maps of the house: they only name the rooms.
const MAPS: &[&str] = &["lib", "posthog", "tap", "target"];

/// The files of the programs by their module path (`a::b`), as code: no comments, and nothing from their tests on.
struct House {
    files: BTreeMap<String, String>,
}

impl House {
    fn read() -> House {
        let files: BTreeMap<_, _> = texts().into_iter().map(|(file, text)| (module(&file), code_of(&text))).collect();
        House { files }
    }

    /// The files that a file imports.
    fn imports(&self, file: &str) -> BTreeSet<&str> {
        let paths = paths(&self.files[file], file);
        let named = paths.iter().filter_map(|path| self.file_of(path));
        named.filter(|other| *other != file).collect()
    }

    /// The file that a path leads into: the longest part of the path that is a module.
    fn file_of(&self, path: &str) -> Option<&str> {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        let known = ends.filter_map(|end| self.files.get_key_value(&path[..end]));
        known.last().map(|(name, _)| name.as_str())
    }
}

/// The sources of the programs, without files of tests: their paths below `src`, and their texts.
pub(crate) fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                texts.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(texts.len() > 100, "the sources were not found");
    texts
}

/// A file of tests beside the code that they test.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// The path of a module: `tap::events::plan` for `tap/events/plan.rs`.
fn module(file: &str) -> String {
    let path = file.trim_end_matches(".rs").replace('/', "::");
    path.strip_suffix("::mod").map(str::to_owned).unwrap_or(path)
}

/// The lines of a source that are code of the programs.
fn code_of(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The paths inside the crate that the code of a module names, from the root of the crate.
fn paths(code: &str, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices("::") {
        let start = code[..at].rfind(|c| !words(c)).map_or(0, |before| before + 1);
        let first = &code[start..at];
        if code[..start].ends_with("::") || first.is_empty() {
            continue;
        }
        let base = match first {
            "crate" | "tap_posthog" => String::new(),
            "super" => parent(module),
            "self" => module.to_owned(),
            // A module of its own.
            child => format!("{module}::{child}"),
        };
        expand(&code[at + 2..], base, &mut found);
    }
    found
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map(|(parent, _)| parent.to_owned()).unwrap_or_default()
}

/// Reads what follows `base::`: names, `super`, lists in braces.
fn expand(rest: &str, base: String, found: &mut Vec<String>) -> usize {
    let mut at = rest.len() - rest.trim_start().len();
    if let Some(list) = rest[at..].strip_prefix('{') {
        at += 1;
        let mut inside = list;
        loop {
            let skipped = inside.len() - inside.trim_start_matches([' ', '\n', ',', '\t']).len();
            (at, inside) = (at + skipped, &inside[skipped..]);
            if inside.starts_with('}') || inside.is_empty() {
                return at + 1;
            }
            let length = expand(inside, base.clone(), found).max(1);
            let length = length.min(inside.len());
            (at, inside) = (at + length, &inside[length..]);
        }
    }
    let length = rest[at..].find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len() - at);
    let name = &rest[at..at + length];
    at += length;
    let base = match name {
        "super" => parent(&base),
        "self" | "" => base,
        name if base.is_empty() => name.to_owned(),
        name => format!("{base}::{name}"),
    };
    match rest[at..].strip_prefix("::") {
        Some(more) => at + 2 + expand(more, base, found),
        None => {
            found.push(base);
            // ` as other` is passed over.
            at + rest[at..].find([',', '}', ';', '\n']).unwrap_or(0)
        }
    }
}

/// The room of a module: the longest of the list that its path begins with.
fn room(module: &str) -> Option<&'static str> {
    let path = module.replace("::", "/");
    let is_in = |room: &str| path == room || path.starts_with(&format!("{room}/"));
    GROUND.iter().chain(ROOMS).map(|(room, ..)| *room).filter(|room| is_in(room)).max_by_key(|room| room.len())
}

/// The rooms that a room may import.
fn may_import(here: &str) -> BTreeSet<&'static str> {
    let line = |list: &'static [(&str, &str, &str)]| list.iter().find(|(room, ..)| *room == here).map(|(.., may)| *may);
    match line(GROUND) {
        Some(may) => may.split_whitespace().collect(),
        None => GROUND.iter().map(|(room, ..)| *room).chain(line(ROOMS).unwrap_or("").split_whitespace()).collect(),
    }
}

#[test]
fn imports_are_understood() {
    let code = "use crate::{error::{Error, Kind}, log};\nlet x = crate::singer::state::read();\nuse super::b as c;\nchild::f();";
    let found = paths(code, "tap::a");
    for path in ["error::Error", "error::Kind", "log", "singer::state::read", "tap::b", "tap::a::child::f"] {
        assert!(found.contains(&path.to_owned()), "{path} in {found:?}");
    }
    assert_eq!(code_of("// crate::tap\nfn f() {}\n#[cfg(test)]\nmod tests { use crate::tap; }"), "fn f() {}");
}

#[test]
fn a_room_imports_only_the_rooms_of_its_line() {
    let house = House::read();
    let mut wrong = Vec::new();
    for file in house.files.keys().filter(|file| !MAPS.contains(&file.as_str()) && !file.starts_with("bin::")) {
        let Some(here) = room(file) else {
            wrong.push(format!("{file} is in no room"));
            continue;
        };
        let may = may_import(here);
        for import in house.imports(file) {
            match room(import) {
                Some(there) if there == here || may.contains(there) => {}
                _ => wrong.push(format!("{file} imports {import}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_stand_above_those_that_they_import() {
    let mut below: Vec<&str> = Vec::new();
    for (room, what, may) in GROUND.iter().chain(ROOMS) {
        assert!(what.len() > 4, "{room} is for nothing");
        for other in may.split_whitespace() {
            assert!(below.contains(&other), "{room} imports {other}, which does not stand below it");
        }
        below.push(room);
    }
}

#[test]
fn a_line_names_no_room_that_nobody_imports() {
    let house = House::read();
    let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
    for file in house.files.keys() {
        if let Some(here) = room(file) {
            used.extend(house.imports(file).into_iter().filter_map(room).map(|there| (here, there)));
        }
    }
    let mut unused = Vec::new();
    for (here, _, may) in GROUND.iter().chain(ROOMS) {
        let is_unused = |there: &&str| !used.contains(&(*here, *there));
        unused.extend(may.split_whitespace().filter(is_unused).map(|there| format!("{here} -> {there}")));
    }
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let house = House::read();
    // What remains when files without imports among the rest are taken away, again and again, are circles.
    let mut rest: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in house.files.keys().filter(|file| !MAPS.contains(&file.as_str())) {
        rest.insert(file, house.imports(file));
    }
    loop {
        let names: BTreeSet<&str> = rest.keys().copied().collect();
        let before = rest.len();
        rest.retain(|_, imports| imports.iter().any(|import| names.contains(import)));
        if rest.len() == before {
            break;
        }
    }
    // What only imports a circle is not of it.
    loop {
        let imported: BTreeSet<&str> = rest.values().flatten().copied().collect();
        let before = rest.len();
        rest.retain(|file, _| imported.contains(file));
        if rest.len() == before {
            break;
        }
    }
    assert!(rest.is_empty(), "circles among {:?}", rest.keys().collect::<Vec<_>>());
}

#[test]
fn a_folder_holds_at_most_sixteen_entries() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            names.insert(path.with_extension(""));
            folders.extend(Some(path).filter(|path| path.is_dir()));
        }
        assert!(names.len() <= 16, "{} has {} entries", folder.display(), names.len());
    }
}

#[test]
fn the_network_the_formats_and_standard_output_have_one_place_each() {
    for (file, code) in House::read().files {
        let name = file.replace("::", "/");
        for (word, places) in PLACES {
            let here = places.iter().any(|place| name.starts_with(place));
            assert!(here || !code.contains(word), "{name} uses {word}, which belongs to {places:?}");
        }
        for line in code.lines().filter(|line| line.contains("stdout()") && name != "singer/output") {
            assert!(line.contains("Output::new("), "{name} writes to standard output itself: {line}");
        }
    }
}
