//! The README holds what the programs say of themselves, word for word. With `UPDATE_README=1` the test writes it anew.

use std::path::Path;
use std::process::Command;

const PROGRAMS: [(&str, &str); 2] =
    [("tap-posthog", env!("CARGO_BIN_EXE_tap-posthog")), ("target-parquet", env!("CARGO_BIN_EXE_target-parquet"))];

fn about(binary: &str) -> String {
    let output = Command::new(binary).args(["--about", "--format", "markdown"]).env_clear().output().unwrap();
    assert!(output.status.success(), "{binary}");
    String::from_utf8(output.stdout).unwrap()
}

/// The text before the marked part of a program, the part, and the text behind it.
fn parts<'a>(readme: &'a str, program: &str) -> (&'a str, &'a str, &'a str) {
    let begin = format!("<!-- begin: {program} --about --format markdown -->\n");
    let start = readme.find(&begin).unwrap_or_else(|| panic!("the README lacks {begin}")) + begin.len();
    let length = readme[start..].find("<!-- end -->\n").unwrap_or_else(|| panic!("no end behind {begin}"));
    (&readme[..start], &readme[start..start + length], &readme[start + length..])
}

#[test]
fn the_readme_says_what_the_programs_say_of_themselves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let mut readme = std::fs::read_to_string(&path).unwrap();
    for (program, binary) in PROGRAMS {
        let printed = about(binary);
        assert!(printed.lines().filter(|line| line.starts_with("| `")).count() > 10, "{printed}");
        let (before, held, behind) = parts(&readme, program);
        if std::env::var_os("UPDATE_README").is_some() {
            readme = format!("{before}{printed}{behind}");
            std::fs::write(&path, &readme).unwrap();
        } else {
            assert!(
                held == printed,
                "the README differs; UPDATE_README=1 cargo test --test it readme writes\n{printed}"
            );
        }
    }
}
