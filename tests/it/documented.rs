//! Every public item of the sources says what it is: modules are private, so the compiler does not ask for it.

use crate::floors::texts;

/// Lines that need no words of their own: what they name has them where it stands.
const SPEAK_ELSEWHERE: [&str; 2] = ["pub use ", "pub mod "];

/// The lines that begin a public item, a field or a method, without a `///` above them.
fn undocumented(source: &str) -> Vec<&str> {
    let (mut found, mut is_documented, mut is_in_attribute) = (Vec::new(), false, false);
    for line in source.lines().map(str::trim) {
        let begins_attribute = line.starts_with("#[");
        if begins_attribute || is_in_attribute {
            is_in_attribute = !line.ends_with(']');
        } else if line.starts_with("///") {
            is_documented = true;
        } else {
            let is_public = line.starts_with("pub ") && !SPEAK_ELSEWHERE.iter().any(|start| line.starts_with(start));
            if is_public && !is_documented {
                found.push(line);
            }
            is_documented = false;
        }
    }
    found
}

#[test]
fn every_file_and_every_public_item_has_words() {
    let mut silent = Vec::new();
    for (name, source) in texts() {
        if !source.starts_with("//!") {
            silent.push(format!("{name} does not begin with //!"));
        }
        silent.extend(undocumented(&source).into_iter().map(|line| format!("{name}: {line}")));
    }
    assert!(silent.is_empty(), "{} items without words:\n{}", silent.len(), silent.join("\n"));
}

#[test]
fn what_is_silent_is_found() {
    let source = "/// Words.\n#[derive(\n    Debug,\n)]\npub struct A {\n    /// Words.\n    pub a: u8,\n    pub b: u8,\n}\n\n\
        pub fn f() {}\npub use a::b;\npub(crate) fn g() {}\n";
    assert_eq!(undocumented(source), ["pub b: u8,", "pub fn f() {}"]);
}

#[test]
fn the_files_that_contributing_names_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let named: Vec<&str> = text.split('`').filter(|part| part.ends_with(".rs") && part.contains('/')).collect();
    assert!(named.len() > 15, "the table was not found");
    for file in named {
        assert!(root.join("src").join(file).is_file() || root.join(file).is_file(), "CONTRIBUTING.md names {file}");
    }
}
