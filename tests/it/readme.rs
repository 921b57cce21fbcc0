//! The documents hold what the programs say of themselves, word for word, and their links lead somewhere. With
//! `UPDATE_README=1` the printed parts and the definitions of `integrations/` are written anew.

use std::path::{Path, PathBuf};
use std::process::Command;

const TAP: &str = env!("CARGO_BIN_EXE_tap-posthog");
const TARGET: &str = env!("CARGO_BIN_EXE_target-parquet");
/// What parts the table of the tap's settings from that of its streams.
const STREAMS: &str = "### Streams of tap-posthog\n";

fn about(binary: &str) -> String {
    let output = Command::new(binary).args(["--about", "--format", "markdown"]).env_clear().output().unwrap();
    assert!(output.status.success(), "{binary}");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text before the marked part of a program, the part, and the text behind it.
fn parts<'a>(document: &'a str, program: &str) -> (&'a str, &'a str, &'a str) {
    let begin = format!("<!-- begin: {program} --about --format markdown -->\n");
    let start = document.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let length = document[start..].find("<!-- end -->\n").unwrap_or_else(|| panic!("no end behind {begin}"));
    (&document[..start], &document[start..start + length], &document[start + length..])
}

#[test]
fn the_documents_say_what_the_programs_say_of_themselves() {
    let (tap, target) = (about(TAP), about(TARGET));
    let streams = tap.find(STREAMS).unwrap();
    let printed = [
        ("docs/settings.md", "tap-posthog", tap[..streams].trim_end()),
        ("docs/settings.md", "target-parquet", target.trim_end()),
        ("docs/streams.md", "tap-posthog", tap[streams..].trim_end()),
    ];
    for (document, program, printed) in printed {
        assert!(printed.lines().filter(|line| line.starts_with("| `")).count() > 10, "{printed}");
        let path = root().join(document);
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, held, behind) = parts(&text, program);
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(&path, format!("{before}{printed}\n{behind}")).unwrap();
        } else {
            assert!(
                held.trim_end() == printed,
                "{document} differs; UPDATE_README=1 cargo test --test it readme writes\n{printed}"
            );
        }
    }
}

/// Every document of the project.
fn documents() -> Vec<PathBuf> {
    let mut all: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "tests/README.md"].iter().map(|name| root().join(name)).collect();
    let folder = std::fs::read_dir(root().join("docs")).unwrap();
    all.extend(folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "md")));
    all
}

/// The targets of the links in a text: `](target)`, outside of code blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split("](").skip(1)).filter_map(|rest| rest.split(')').next())
}

/// The anchor of a heading, as code hosts make it: lower case, spaces as hyphens, without other marks.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut seen = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            let target = path.is_dir() || path.exists();
            assert!(target, "{}: {link} leads nowhere", document.display());
            let headings = std::fs::read_to_string(&path).unwrap_or_default();
            let found = headings.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            assert!(heading.is_empty() || found, "{}: {link} is no heading there", document.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} links seen");
}

#[test]
fn the_definitions_for_meltano_and_osiris_are_what_the_programs_say() {
    let mut command = Command::new("python3");
    command.arg("integrations/definitions.py").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("TAP_POSTHOG", TAP).env("TARGET_PARQUET", TARGET);
    if std::env::var_os("UPDATE_README").is_none() {
        command.arg("--check");
    }
    // Without Python the second tier is the first to see a difference.
    if let Ok(output) = command.output() {
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "UPDATE_README=1 cargo test --test it readme writes them anew:\n{said}");
    }
}
