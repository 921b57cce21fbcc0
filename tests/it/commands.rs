//! Every command that README and docs show is run here against the fake, or stands below with what runs it.

use std::path::{Path, PathBuf};

use crate::fake::{Fake, Options};
use crate::run::Folder;

/// What is shown and not run by this test, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo run --example demo", "builds both programs; the demo itself checks what it shows"),
    ("cargo test", "is this"),
    ("cargo install", "is a part of the line below"),
    (
        "cargo install --locked --path .\nuv tool install ./integrations/python",
        "tests/second/python_wheel.py, and a build",
    ),
    ("tap-posthog --init", "asks a person: tests/it/tap_words.rs plays one on a terminal"),
    ("duckdb -init output/views.sql", "tests/second/target_views.py reads the file in DuckDB"),
    ("target-parquet run", "names the command; whole lines of it are run"),
    (
        "python -c \"import duckdb; c = duckdb.connect(); c.execute(open('output/views.sql').read()); print(c.sql('FROM events LIMIT 5'))\"",
        "tests/second/target_views.py reads the file in DuckDB from Python",
    ),
    (
        "openssl req -x509 ... -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:posthog.example.com",
        "tests/certificates holds one that was made so",
    ),
];

/// What begins a command between two backticks.
const PROGRAMS: [&str; 6] = ["tap-posthog ", "target-parquet ", "duckdb ", "cargo ", "uv ", "openssl "];

/// README and the pages of docs.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = folder.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

/// The language of a block and its lines, without the indent of a list; and each command between backticks.
fn shown(page: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (at, part) in page.split("```").enumerate() {
        if at % 2 == 1 {
            let (language, lines) = part.split_once('\n').unwrap();
            let lines: Vec<_> = lines
                .lines()
                .map(|line| if language == "yaml" { line } else { line.trim() })
                .filter(|line| !line.is_empty())
                .collect();
            all.push((language.to_owned(), lines.join("\n")));
        } else {
            let spans = part.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " "));
            let commands = spans.filter(|span| PROGRAMS.iter().any(|program| span.starts_with(program)));
            all.extend(commands.map(|command| ("command".to_owned(), command)));
        }
    }
    all
}

/// The settings of a page, under the address and the key of the fake.
fn check_settings(folder: &Folder, language: &str, text: &str) {
    let name = format!("shown.{language}");
    std::fs::write(folder.dir.path().join(&name), text).unwrap();
    let run = folder.run(&format!("chmod 600 {name} && tap-posthog --config {name} --config posthog.json --doctor"));
    assert!(run.code == 0 && !run.stderr.contains("unknown"), "{text}: {} {}", run.stdout, run.stderr);
}

#[test]
fn every_command_of_readme_and_docs_runs_or_has_a_reason() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(crate::fake::events::realistic(9, 60, now, 6));
    let folder = Folder::new(&fake);
    std::fs::write(folder.dir.path().join("target.json"), "{}").unwrap();
    let (mut ran, mut listed) = (0, Vec::new());
    for page in pages() {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        for (language, text) in shown(&std::fs::read_to_string(&page).unwrap()) {
            if let Some((known, _)) = ELSEWHERE.iter().find(|(known, _)| *known == text) {
                listed.push(*known);
            } else if ["json", "yaml"].contains(&language.as_str()) {
                check_settings(&folder, &language, &text);
            } else if ["text", "sql"].contains(&language.as_str()) {
                // Shows what is said, and no command.
            } else if text.contains("| jq ") && folder.run("command -v jq").code != 0 {
                println!("not run without jq: {text}");
            } else {
                let run = folder.run(&text);
                assert_eq!(run.code, 0, "{name}: {text}\n{}", run.stderr);
                ran += 1;
            }
        }
    }
    assert!(ran >= 6, "{ran} commands ran");
    let stale: Vec<_> = ELSEWHERE.iter().filter(|(known, _)| !listed.contains(known)).collect();
    assert!(stale.is_empty(), "no page shows {stale:?}");
}
