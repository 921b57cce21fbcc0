//! What the tap says to a person: settings by a conversation, the doctor, the plan and the test in lines, and help. Machines
//! get JSON.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value as Json, json};

use crate::fake::events::realistic;
use crate::fake::{Fake, Options};
use crate::harness::{Run, Tap, converse, lines_that_stay, on_terminal, tap_posthog};

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(9, 300, now, 60));
    fake
}

fn all_streams(fake: &Fake) -> Tap<'_> {
    let streams: Vec<Json> = {
        let catalog: Json = serde_json::from_str(include_str!("../../catalog/all-streams-raw.json")).unwrap();
        catalog["streams"].as_array().unwrap().iter().map(|stream| stream["stream"].clone()).collect()
    };
    let names: Vec<&str> = streams.iter().filter_map(Json::as_str).collect();
    let mut tap = Tap::new(fake).set("data_type", Json::Null);
    tap.args = vec!["--select", String::leak(names.join(","))];
    tap
}

#[test]
fn a_conversation_writes_settings_that_work_and_never_shows_the_key() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    let url = fake.url().to_string();
    let init = || {
        let mut command = tap_posthog();
        command.arg("--init").current_dir(dir.path());
        command
    };
    let answers = [("Address of", url.as_str()), ("not shown): ", fake.key()), ("Project (", "1")];
    let (code, shown) = converse(init(), &answers);
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains(fake.key()), "{shown}");
    for part in [
        "The key is known at",
        "Its scopes: *",
        "Wrote posthog.json",
        "ok     events: query:read",
        "a run can work",
        "of the last 30 days",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    let path = dir.path().join("posthog.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let settings: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let wanted = json!({"region": "self_hosted", "custom_base_url": url, "api_key": fake.key(), "project_id": 1});
    assert_eq!(settings, wanted);
    // It never writes over settings, and asks nobody who is not there.
    let (code, shown) = converse(init(), &[]);
    assert!(code == 3 && shown.contains("posthog.json is there already"), "{code} {shown}");
    let alone = init().stdin(std::process::Stdio::null()).output().unwrap();
    Run::of(alone).ends(2).complains(&["asks on a terminal"]);
}

#[test]
fn a_conversation_with_a_wrong_key_writes_nothing() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    let mut command = tap_posthog();
    command.arg("--init").current_dir(dir.path());
    let url = fake.url().to_string();
    let (code, shown) = converse(command, &[("Address of", url.as_str()), ("not shown): ", "phx_somebody_elses")]);
    assert_eq!(code, 3, "{shown}");
    assert!(!shown.contains("phx_somebody"), "{shown}");
    assert!(shown.contains("failed: ") && !dir.path().join("posthog.json").exists(), "{shown}");
}

#[test]
fn select_chooses_the_streams_of_one_run() {
    let fake = fake();
    let streams = |tap: &Tap<'_>| {
        let messages = tap.run().ends(0).messages().into_iter().filter(|message| message["type"] == "SCHEMA");
        messages.map(|message| message["stream"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(streams(&Tap::new(&fake).arg("--select=cohorts,events")), ["events", "cohorts"]);
    // A catalog keeps its fields, and not its choice of streams.
    let mut tap = Tap::new(&fake).arg("--select=cohorts");
    tap.catalog = Some(include_str!("../../catalog/all-streams-raw.json").to_owned());
    assert_eq!(streams(&tap), ["cohorts"]);
    tap.catalog = Some(include_str!("../../catalog/events-only-raw.json").to_owned());
    tap.run().ends(3).complains(&["--select", "the catalog does not have"]);
    Tap::new(&fake).arg("--select=event").run().ends(3).complains(&["--select", "there is no stream event"]);
}

#[test]
fn the_doctor_speaks_in_lines_and_names_each_stream() {
    let fake = fake();
    let (code, shown) = on_terminal(Tap::new(&fake).set("data_type", Json::Null).arg("--doctor").command());
    assert_eq!(code, 0, "{shown}");
    let lines = lines_that_stay(&shown);
    for line in ["  ok     events: query:read", "  ok     cohorts: cohort:read"] {
        assert!(lines.iter().any(|shown| shown == line), "no {line:?} in {lines:#?}");
    }
    assert!(lines.last().unwrap().starts_with("a run can work"), "{lines:#?}");
    let (_, shown) = on_terminal(Tap::new(&fake).arg("--doctor").arg("--format=json").command());
    let report: Json = serde_json::from_str(&shown).unwrap();
    assert_eq!(report["status"], "healthy");
    let (code, shown) = on_terminal(Tap::new(&fake).set("project_id", 99).arg("--doctor").command());
    let lines = lines_that_stay(&shown);
    assert_eq!(
        (code, lines.last().unwrap().as_str()),
        (3, "tap-posthog: failed: a run would fail; the lines above say why")
    );
}

#[test]
fn a_plan_of_all_streams_has_at_most_forty_lines() {
    let fake = fake();
    let (code, shown) = on_terminal(all_streams(&fake).arg("--plan").command());
    assert_eq!(code, 0, "{shown}");
    let lines = lines_that_stay(&shown);
    assert!(lines.len() <= 40, "{} lines: {shown}", lines.len());
    for line in ["300 rows to read", "cohorts: 137 rows", "projects: 1 rows"] {
        assert!(lines.iter().any(|shown| shown.starts_with(line)), "no {line:?} in {lines:#?}");
    }
    let run = Run::of(all_streams(&fake).arg("--plan").command().output().unwrap()).ends(0);
    let plan: Json = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&plan["events"]["rows"], plan["streams"].as_array().unwrap().len()), (&json!(300), 18));
}

#[test]
fn a_test_speaks_in_lines_and_goes_on_behind_a_stream_that_fails() {
    let fake = fake();
    fake.world().fault(crate::fake::Fault::new("auth_401").path("/cohorts/"));
    let tap = || Tap::new(&fake).arg("--select=cohorts,events").arg("--test");
    let (code, shown) = on_terminal(tap().command());
    assert_eq!(code, 3, "{shown}");
    let lines = lines_that_stay(&shown);
    assert!(lines.iter().any(|line| line.starts_with("ok      events: a record of ")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("failed  cohorts: ")), "{lines:#?}");
    assert!(!shown.contains("\"RECORD\""), "{shown}");
}

#[test]
fn help_has_groups_examples_and_exit_codes() {
    for (program, parts) in [
        (tap_posthog(), ["Instead of a run:", "A run:", "Examples:", "Exit codes:", "--select"]),
        (crate::harness::target_parquet(), ["Commands:", "run", "Examples:", "Exit codes:", "--quiet"]),
    ] {
        let mut program = program;
        let run = Run::of(program.arg("--help").output().unwrap()).ends(0);
        for part in parts {
            assert!(run.stdout.contains(part), "no {part} in {}", run.stdout);
        }
    }
}
