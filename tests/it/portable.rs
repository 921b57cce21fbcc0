//! One file asks which system this is; all others use what every Unix has.

use crate::floors::texts;

/// What only some systems have, or name in another way.
const OF_ONE_SYSTEM: [&str; 9] = [
    "target_os",
    "target_vendor",
    "renameat_with",
    "raw_os_error() ==",
    "raw_os_error(), Some(",
    "\"/proc",
    "\"/sys/",
    "fs::syncfs",
    "fs::fsync",
];

#[test]
fn what_only_some_systems_have_stands_in_one_file() {
    let mut found = Vec::new();
    for (name, text) in texts() {
        let is_the_one = name.ends_with("target/store/system.rs");
        found.extend(
            OF_ONE_SYSTEM
                .iter()
                .filter(|part| !is_the_one && text.contains(**part))
                .map(|part| format!("{name}: {part}")),
        );
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn windows_is_refused_in_words() {
    let library = include_str!("../../src/lib.rs");
    let refusal = library.split("#[cfg(not(unix))]\ncompile_error!(").nth(1).expect("lib.rs refuses no system");
    assert!(refusal.split(");").next().unwrap().contains("Windows"), "{refusal}");
}
