//! The floor rules of the crate's documentation, held by reading the sources: a floor imports only lower ones, and the
//! network, Arrow, Parquet and standard output each have one place.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of floor 0, and what the modules in folders may import besides.
const GROUND: &[&str] =
    &["clock", "error", "fingerprint", "json", "log", "metrics", "program", "settings", "stop", "time"];
const ABOVE: &[(&str, &[&str])] = &[
    ("json", &["json"]),
    ("settings", &["settings"]),
    ("singer", &["singer"]),
    ("posthog", &["posthog"]),
    ("tap", &["tap", "singer", "posthog"]),
    ("target", &["target", "singer"]),
    ("bin", &["tap_posthog", "target_parquet"]),
];

/// A word and the only files, or folders, that may use it.
const PLACES: &[(&str, &[&str])] = &[
    ("reqwest", &["posthog/http/"]),
    ("arrow_array", &["target/"]),
    ("arrow_schema", &["target/"]),
    ("arrow_buffer", &["target/"]),
    ("parquet::", &["target/"]),
    ("TcpStream", &["posthog/http/"]),
    ("print!", &[]),
    ("println!", &[]),
];

/// The files of the sources but those of tests: their names and texts.
pub(crate) fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    let texts: Vec<_> = files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect();
    assert!(texts.len() > 10, "the sources were not found");
    texts
}

fn sources() -> Vec<(String, String)> {
    texts().into_iter().map(|(name, text)| (name, code_of(&text))).collect()
}

/// A file of tests beside the code that they test.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// The lines of a source that are code of the programs: no comments, and nothing from its tests on.
fn code_of(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules of the crate that a source names after `crate::` or `tap_posthog::`.
fn imports(code: &str) -> Vec<String> {
    let after = ["crate::", "tap_posthog::"].iter().flat_map(|root| code.split(root).skip(1));
    let items = after.flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => items_of(list),
        None => vec![rest],
    });
    let name = |item: &str| item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    items.map(name).filter(|name| !name.is_empty()).collect()
}

/// The items of a braced list, up to its closing brace; lists inside an item belong to it.
fn items_of(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            '}' => {
                items.push(&list[start..at]);
                break;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn imports_are_understood() {
    let code = "use crate::{error::{Error, Kind}, log};\nlet x = crate::singer::state::read();\nuse tap_posthog::tap;";
    assert_eq!(imports(code), ["error", "log", "singer", "tap"]);
    assert_eq!(code_of("// crate::tap\nfn f() {}\n#[cfg(test)]\nmod tests { use crate::tap; }"), "fn f() {}");
}

#[test]
fn a_floor_imports_only_lower_floors() {
    for (name, code) in sources() {
        let floor = name.split('/').next().unwrap();
        let allowed: Vec<&str> = match ABOVE.iter().find(|(module, _)| *module == floor && name.contains('/')) {
            Some((_, more)) => GROUND.iter().chain(*more).copied().collect(),
            None if name == "lib.rs" => continue,
            None if name == "program.rs" => GROUND.iter().chain(&["singer"]).copied().collect(),
            None => {
                let module = name.trim_end_matches(".rs");
                assert!(GROUND.contains(&module), "{name} stands on no floor");
                GROUND.to_vec()
            }
        };
        for import in imports(&code) {
            assert!(allowed.contains(&import.as_str()), "{name} imports {import}");
        }
    }
}

#[test]
fn the_network_the_formats_and_standard_output_have_one_place_each() {
    for (name, code) in sources() {
        for (word, places) in PLACES {
            let here = places.iter().any(|place| name.starts_with(place));
            assert!(here || !code.contains(word), "{name} uses {word}, which belongs to {places:?}");
        }
        for line in code.lines().filter(|line| line.contains("stdout()") && name != "singer/output.rs") {
            assert!(line.contains("Output::new("), "{name} writes to standard output itself: {line}");
        }
    }
}
