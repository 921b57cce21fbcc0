//! Settings of both programs as people have them: misspelt, in YAML, in the environment, under other names. What is wrong is
//! said with the name and the place where it was written, and no secret is shown.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fake::{Event, Fake, HOUR_MICROS, Options};
use crate::harness::{Run, Tap, Target, parquet_files, rows};

const TAP: &str = env!("CARGO_BIN_EXE_tap-posthog");
const TARGET: &str = env!("CARGO_BIN_EXE_target-parquet");
const SECRET: &str = "phx_shown_to_nobody";
const ROWS: &str = "{\"type\":\"SCHEMA\",\"stream\":\"s\",\"schema\":{\"properties\":{\"a\":{\"type\":\"string\"}}},\"key_properties\":[]}\n\
                    {\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"a\":\"x\"}}\n\
                    {\"type\":\"STATE\",\"value\":{\"n\":1}}\n";

/// A program with these arguments in this folder, and with no environment but these variables.
fn run(program: &str, folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear().envs(variables.iter().copied());
    let run = Run::of(command.stdin(std::process::Stdio::null()).output().unwrap());
    assert!(!(run.stdout.clone() + &run.stderr).contains(SECRET), "{}{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("internal fault"), "{}", run.stderr);
    run
}

/// A program that is given this text as its only settings file, `c.yaml`.
fn given(program: &str, text: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.yaml"), text).unwrap();
    run(program, folder.path(), &["--config", "c.yaml"], &[])
}

fn says(run: &Run, level: &str, parts: &[&str]) {
    let found = run.stderr.lines().any(|line| line.contains(level) && parts.iter().all(|part| line.contains(part)));
    assert!(found, "no {level} with {parts:?} in:\n{}", run.stderr);
}

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert((0..5).map(|number| Event::new(number, if number < 2 { "a" } else { "b" }, now - HOUR_MICROS)));
    fake
}

#[test]
fn a_misspelt_setting_is_told_by_both_programs() {
    let tap = given(TAP, &format!("api_key: {SECRET}\nproject_id: 1\npage_sise: 5\nregion: mars\n")).ends(3);
    says(&tap, "WARNING", &["c.yaml: the setting \"page_sise\" is unknown and not used; did you mean page_size?"]);
    let target = given(TARGET, "compresion: snappy\nstream_maps: {}\n").ends(0);
    says(
        &target,
        "WARNING",
        &["c.yaml: the setting \"compresion\" is unknown and not used; did you mean compression?"],
    );
    says(&target, "WARNING", &["the setting \"stream_maps\" is unknown and not used"]);
}

#[test]
fn a_misspelt_variable_is_told_by_both_programs() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("TAP_POSTHOG_PROJECTID", "1"), ("TAP_POSTHOG_LOGLEVEL", "info"), ("TAP_POSTHOG__SELECT", "[]")];
    let tap = run(TAP, folder.path(), &["--config=ENV"], &variables).ends(3);
    says(&tap, "WARNING", &["\"projectid\" is unknown", "did you mean project_id?"]);
    assert_eq!(tap.stderr.matches("unknown").count(), 1, "{}", tap.stderr);
    let variables = [("TARGET_PARQUET_COMPRESION", "none")];
    let target = run(TARGET, folder.path(), &["--config=ENV"], &variables).ends(0);
    says(&target, "WARNING", &["\"compresion\" is unknown", "did you mean compression?"]);
}

#[test]
fn two_names_of_one_setting_are_warned_of_by_both_programs() {
    let tap = given(TAP, "host: https://a.example.com\nurl: https://b.example.com\nbase_url: https://c.example.com\n")
        .ends(3);
    says(&tap, "WARNING", &["c.yaml: both base_url and host are given; base_url is used"]);
    says(&tap, "WARNING", &["both base_url and url are given"]);
    let target = given(TARGET, "path: a\ndestination_path: b\n").ends(0);
    says(&target, "WARNING", &["both destination_path and path are given; destination_path is used"]);
}

#[test]
fn wrong_values_are_named_as_written_with_their_place_by_both_programs() {
    let text = format!("personal_api_key: {SECRET}\nproject_id: 1\nstart_date: soon\npage_size: 0\n");
    let tap = given(TAP, &text).ends(3);
    tap.complains(&[
        "setting start_date: \"soon\" is not allowed",
        "setting page_size: 0 is not allowed; give a whole number from 1 to 50000 (in c.yaml)",
    ]);
    let tap = given(TAP, "project_id: 1\npersonal_api_key: phc_public\n").ends(3);
    tap.complains(&["setting personal_api_key: this is a project token", "(in c.yaml)"]);
    let target = given(TARGET, "max_batch_size: many\nmemory_limit_mb: 1\n").ends(3);
    target.complains(&[
        "setting max_batch_size: \"many\" is not allowed",
        "setting memory_limit_mb: 1 is not allowed; give a whole number from 32",
    ]);
    let target = given(TARGET, "compression: gzip\ncompression_level: 12\n").ends(3);
    target.complains(&["setting compression_level: give 1 to 22 for zstd, 0 to 9 for gzip", "(in c.yaml)"]);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("TARGET_PARQUET_MAX_BATCH_SIZE", "-1")];
    let target = run(TARGET, folder.path(), &["--config", "ENV"], &variables).ends(3);
    target.complains(&["setting max_batch_size: \"-1\"", "(in the variable TARGET_PARQUET_MAX_BATCH_SIZE)"]);
    std::fs::write(folder.path().join(".env"), "TAP_POSTHOG_HORIZON_LAG_SECONDS=never\n").unwrap();
    let tap = run(TAP, folder.path(), &["--config", "ENV"], &[]).ends(3);
    tap.complains(&["setting horizon_lag_seconds: \"never\"", "(in TAP_POSTHOG_HORIZON_LAG_SECONDS of ", ".env)"]);
}

#[test]
fn a_secret_is_shown_nowhere() {
    for text in [
        format!("api_key: [{SECRET}]\nproject_id: 1\n"),
        format!("api_key: 1\nproject_id: {SECRET}\n"),
        format!("api_key: {SECRET}\nproject_id: 1\nevent_types: [[{SECRET}]]\nregion: {SECRET}\n"),
        format!("apikey: {SECRET}\n"),
        format!("resolved_connection: {SECRET}\n"),
        format!("{SECRET}: 1\n"),
        format!("{{api_key:{SECRET} project_id: 1}}\n"),
        format!("{{\"api_key={SECRET}\": 1}}\n"),
        format!("{SECRET}{}: 1\n", "x".repeat(108)),
        format!(
            "api_key: phx_another\nproject_id: 1\ncustom_base_url: https://eu.posthog.com/?personal_api_key={SECRET}\n"
        ),
        format!("api_key: phx_another\nproject_id: 1\nhost: {SECRET}\n"),
        format!("api_key: phx_another\nproject_id: 1\nca_file: {SECRET}\n"),
        format!("api_key: {SECRET}\n  project_id: 1\n"),
        format!("{SECRET}\n"),
        format!(
            "api_key: {SECRET}\nproject_id: 1\nproxy: http://user:{SECRET}@127.0.0.1:9\nhost: http://127.0.0.1:9\nregion: mars\n"
        ),
        format!("api_key: {SECRET}\nproject_id: 1\nhst: https://user:{SECRET}@example.com\n"),
    ] {
        given(TAP, &text).ends(3);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.yaml"), format!("api_key: {SECRET}\n")).unwrap();
    let variables = [("TAP_POSTHOG_API_KEY", SECRET), ("TAP_POSTHOG_PAGE_SIZE", SECRET)];
    run(TAP, folder.path(), &["--config=ENV"], &variables).ends(3);
    for format in ["text", "json", "markdown"] {
        run(TAP, folder.path(), &["--config", "c.yaml", "--config=ENV", "--about", "--format", format], &variables)
            .ends(0);
    }
}

#[test]
fn an_address_in_an_unknown_setting_is_refused_and_nothing_is_asked() {
    let fake = fake();
    for (name, code) in [("host", 0), ("api_host", 0), ("posthog_host", 0), ("url", 0), ("hostname", 3), ("server", 3)]
    {
        fake.world().log.clear();
        let tap = Tap::new(&fake).set("custom_base_url", Value::Null).set("region", Value::Null).set(name, fake.url());
        let run = tap.run().ends(code);
        if code == 0 {
            assert_eq!(run.records("events").len(), 5, "{name}");
        } else {
            run.complains(&[&format!("setting {name}: it holds an address, and there is no such setting")]);
            assert_eq!((fake.world().log.len(), run.stdout.as_str()), (0, ""));
        }
    }
}

#[test]
fn the_key_under_its_other_name_reads_the_project() {
    let fake = fake();
    let mut tap = Tap::new(&fake).set("api_key", Value::Null).set("personal_api_key", fake.key());
    tap.args.push("--doctor");
    assert_eq!(Run::of(tap.command().output().unwrap()).ends(0).stderr.matches("CRITICAL").count(), 0);
    let tap = Tap::new(&fake).set("api_key", Value::Null).set("personal_api_key", "phc_public").arg("--doctor");
    let report: Value = serde_json::from_str(&Run::of(tap.command().output().unwrap()).ends(3).stdout).unwrap();
    assert_eq!(report["category"], "auth", "{report}");
}

#[test]
fn lists_in_variables_are_json_or_have_commas() {
    let fake = fake();
    for (text, rows) in [("a", 2), ("a,b", 5), (" a , nobody", 2), (r#"["b"]"#, 3), (r#"["a,b"]"#, 0)] {
        let tap = Tap::new(&fake);
        let mut command = tap.command();
        command.arg("--config=ENV").env("TAP_POSTHOG_EVENT_TYPES", text);
        assert_eq!(Run::of(command.output().unwrap()).ends(0).records("events").len(), rows, "{text}");
    }
    for text in ["a,n", r#"["a", "n"]"#] {
        let d = Target::new();
        std::fs::write(d.dir.path().join("rows"), ROWS).unwrap();
        let mut command = d.command();
        command
            .args(["--config=ENV", "--input"])
            .arg(d.dir.path().join("rows"))
            .env("TARGET_PARQUET_PARTITION_BY", text);
        assert!(command.status().unwrap().success());
        assert!(d.out().join("s/a=x").is_dir(), "{text}: {:?}", d.tree());
    }
}

#[test]
fn yaml_settings_of_the_target_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let yaml =
        "# by hand\npath: there\ncompression: none\nadd_record_metadata: yes\npartition_by:\n  - a\ndedup: off\n";
    std::fs::write(folder.path().join("c.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("rows"), ROWS).unwrap();
    let done = run(TARGET, folder.path(), &["--config", "c.yaml", "--input", "rows"], &[]).ends(0);
    assert_eq!(done.stdout, "{\"n\":1}\n");
    let file = &parquet_files(&folder.path().join("there/s/a=x"))[0];
    assert!(rows(file)[0].get("_sdc_received_at").is_some());
}

#[test]
fn a_variable_of_the_env_file_that_stands_for_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        format!("OTHER=${{NOWHERE}}\nKEY={SECRET}\nTAP_POSTHOG_API_KEY=${{KEY}}\nTAP_POSTHOG_PROJECT_ID=${{NUMBER}}\n");
    std::fs::write(folder.path().join(".env"), text).unwrap();
    let tap = run(TAP, folder.path(), &["--config", "ENV"], &[]).ends(3);
    says(&tap, "WARNING", &[".env: TAP_POSTHOG_PROJECT_ID holds $NUMBER, which is not set or empty"]);
    tap.complains(&["project_id is missing"]);
    assert_eq!(tap.stderr.matches("which is not set").count(), 1, "{}", tap.stderr);
    let tap = run(TAP, folder.path(), &["--config", "ENV"], &[("NUMBER", "many")]).ends(3);
    tap.complains(&["project_id", "many"]);
    assert!(!tap.stderr.contains("which is not set"), "{}", tap.stderr);
}

#[test]
fn state_takes_its_settings_before_and_behind_it_and_says_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings) in [("a.json", json!({"path": "a"})), ("b.json", json!({"path": "b"}))] {
        std::fs::write(folder.path().join(name), settings.to_string()).unwrap();
    }
    std::fs::write(folder.path().join("rows"), ROWS).unwrap();
    let target = |arguments: &[&str]| run(TARGET, folder.path(), arguments, &[]);
    target(&["--config", "b.json", "--input", "rows"]).ends(0);
    for arguments in [
        &["state", "--config", "b.json"][..],
        &["--config", "b.json", "state"],
        &["--config", "a.json", "state", "-c", "b.json"],
    ] {
        let run = target(arguments).ends(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("{\"n\":1}\n", ""), "{arguments:?}");
    }
    let absent = target(&["--config", "b.json", "state", "--config", "a.json"]).ends(0);
    assert_eq!(absent.stdout, "");
    says(&absent, "WARNING", &["there is no folder a, so there is no state yet"]);
    std::fs::create_dir(folder.path().join("a")).unwrap();
    let empty = target(&["state", "--config", "a.json"]).ends(0);
    says(&empty, "WARNING", &["no state was committed in a yet"]);
    std::fs::write(folder.path().join("c.json"), json!({"path": "rows"}).to_string()).unwrap();
    target(&["state", "--config", "c.json"]).ends(5).complains(&["rows"]);
    target(&["--about", "state"]).ends(2);
    target(&["--input", "rows", "state"]).ends(2);
}

#[test]
fn the_default_start_is_the_same_in_plan_and_run() {
    let fake = fake();
    let tap = || Tap::new(&fake).set("initial_since", Value::Null);
    let plan = Run::of(tap().arg("--plan").arg("--format=text").command().output().unwrap()).ends(0);
    let start = plan.stdout.lines().find(|line| line.starts_with("Events from ")).unwrap().to_owned();
    assert!(start.ends_with(" (30 days; set initial_since for more)"), "{start}");
    let day = start.split(' ').nth(2).unwrap();
    assert!(plan.stdout.contains(&format!(", of {day}T")), "{}", plan.stdout);
    let run = tap().run().ends(0);
    says(&run, "INFO", &[&start]);
    let chosen = Run::of(Tap::new(&fake).arg("--plan").command().output().unwrap()).ends(0);
    assert!(!chosen.stdout.contains("Events from") && chosen.stdout.contains(", of 2026-01-01T"), "{}", chosen.stdout);
    let later = tap().state(&run.last_state()).run().ends(0);
    assert!(!later.stderr.contains("Events from"), "{}", later.stderr);
}

#[test]
fn a_settings_file_without_a_key_may_be_read_by_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    for (text, warned) in [("{\"region\": \"mars\"}", false), ("{\"PERSONAL_API_KEY\": \"\"}", true)] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let run = run(TAP, folder.path(), &["--config", "c.json"], &[]).ends(3);
        assert_eq!(run.stderr.contains("can be read by every user"), warned, "{text}: {}", run.stderr);
    }
}

#[test]
fn a_settings_file_that_everybody_reads_is_warned_of_unless_meltano_wrote_it() {
    for (name, warned) in [("c.json", true), (".meltano/run/tap-posthog/c.json", false), (".meltano/c.json", true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{{\"api_key\": \"{SECRET}\", \"region\": \"mars\"}}")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let run = run(TAP, folder.path(), &["--config", name], &[]).ends(3);
        assert_eq!(run.stderr.contains("can be read by every user"), warned, "{name}: {}", run.stderr);
    }
}
