//! The README's tables of settings and streams are the ones that the programs print of themselves.

use std::process::Command;

const README: &str = include_str!("../../README.md");

fn about(program: &str) -> String {
    let output = Command::new(program).args(["--about", "--format", "markdown"]).output().unwrap();
    assert!(output.status.success(), "{program}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tables_of_the_tap_stand_in_the_readme() {
    let printed = about(env!("CARGO_BIN_EXE_tap-posthog"));
    let rows: Vec<&str> = printed.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 40, "{printed}");
    for row in rows {
        assert!(README.lines().any(|line| line == row), "the README lacks: {row}");
    }
}

#[test]
fn every_setting_of_the_target_stands_in_the_readme() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_target-parquet")).args(["--about", "--format", "json"]).output().unwrap();
    let about: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = about["settings"]["properties"].as_object().unwrap();
    assert!(settings.len() > 8);
    for name in settings.keys() {
        assert!(README.contains(&format!("| `{name}` |")), "the README lacks {name}");
    }
}
