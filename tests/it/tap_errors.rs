//! What is wrong is said in one line, with the exit code of its class, and nothing on standard output.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake::{Event, Fake, Fault, HOUR_MICROS, Options};
use crate::harness::{Run, Tap, nobody, send, tap_posthog};

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert((0..5).map(|number| Event::new(number, "e", now - HOUR_MICROS)));
    fake
}

#[test]
fn wrong_keys_projects_and_settings_are_refused() {
    let fake = fake();
    for (name, value, code, parts) in [
        ("api_key", json!("phx_unknown_to_the_server"), 3, ["key", "401"].as_slice()),
        ("api_key", json!("phc_a_project_token_is_no_key"), 3, &["phc_", "personal API key"]),
        ("api_key", json!(null), 3, &["api_key"]),
        ("api_key", json!("phx_fake_no_query"), 3, &["query:read"]),
        ("api_key", json!("phx_fake_other_project"), 3, &["project"]),
        ("project_id", json!(99), 3, &["project", "99"]),
        ("project_id", json!(2), 3, &["project"]),
        ("project_id", json!("one"), 3, &["project_id"]),
        ("project_id", json!(null), 3, &["project_id"]),
        ("custom_base_url", json!(null), 3, &["custom_base_url"]),
        ("custom_base_url", json!("not a url"), 3, &["custom_base_url"]),
        ("custom_base_url", json!("http://posthog.example.com"), 3, &["allow_insecure_http"]),
        ("proxy", json!("http://user:secret@proxy.example.com:3128"), 3, &["proxy.example.com", "allow_insecure_http"]),
        ("region", json!("mars"), 3, &["region"]),
        ("initial_since", json!("yesterday"), 3, &["initial_since"]),
        ("until", json!("2025-12-31"), 3, &["until"]),
        ("page_size", json!(0), 3, &["page_size"]),
        ("page_size", json!("many"), 3, &["page_size"]),
        ("event_types", json!(["ok", " "]), 3, &["event_types"]),
        ("lookback_window_minutes", json!(-1), 3, &["lookback_window_minutes"]),
    ] {
        let run = Tap::new(&fake).set(name, value.clone()).run();
        assert_eq!(run.code, code, "{name}={value}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{name}={value}");
        run.complains(parts);
    }
}

#[test]
fn the_doctor_prints_one_object_and_exits_by_its_category() {
    let fake = fake();
    let (_socket, nobody) = nobody();
    let nobody = format!("http://{nobody}");
    for (name, value, code, category) in [
        ("data_type", json!(null), 0, "ok"),
        ("api_key", json!("phx_unknown_to_the_server"), 3, "auth"),
        ("api_key", json!("phx_fake_no_query"), 3, "permission"),
        ("project_id", json!(99), 3, "permission"),
        ("region", json!("mars"), 3, "config"),
        ("custom_base_url", json!(nobody), 4, "network"),
        // The key in the address, where some put it.
        ("custom_base_url", json!(format!("{nobody}/{}", fake.key())), 4, "network"),
    ] {
        let tap = Tap::new(&fake).set(name, value.clone()).arg("--doctor");
        let output = tap.command().output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!report.to_string().contains(fake.key()), "{report}");
        assert_eq!((output.status.code(), report["category"].as_str()), (Some(code), Some(category)), "{report}");
        assert!(report["latency_ms"].is_u64() && report["timestamp"].is_string() && report["checks"].is_array());
    }
}

/// The server answers after two minutes, and the doctor has two seconds.
#[test]
fn the_doctor_does_not_wait_for_an_answer() {
    let fake = fake();
    fake.world().fault(Fault::new("hang").pause(LONG));
    let started = Instant::now();
    let run = Run::of(Tap::new(&fake).arg("--doctor").command().output().unwrap()).ends(4);
    assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["category"], "timeout", "{report}");
}

/// However slow the machine is, what waits for so long is told from what does not.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn the_doctor_ends_at_the_first_signal() {
    use rustix::process::Signal;
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let fake = fake();
        fake.world().fault(Fault::new("hang").pause(LONG));
        let mut tap = Tap::new(&fake).arg("--doctor");
        tap.args.extend(["--doctor-timeout", "120"]);
        let child = tap.spawn();
        // Its handlers stand before it asks.
        while fake.world().log.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Instant::now();
        send(&child, signal);
        Run::of(child.wait_with_output().unwrap()).ends(code);
        assert!(sent.elapsed() < LONG / 2, "{:?}", sent.elapsed());
    }
}

#[test]
fn settings_may_stand_in_the_env_file_of_the_folder() {
    let fake = fake();
    let tap = Tap::new(&fake);
    let named = |(name, value): (&String, &serde_json::Value)| {
        format!(
            "TAP_POSTHOG_{}={}\n",
            name.to_uppercase(),
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        )
    };
    let lines: String = tap.config.as_object().unwrap().iter().map(named).collect();
    std::fs::write(tap.dir.path().join(".env"), lines + "TAP_POSTHOG_DATA_TYPE=mars\n").unwrap();
    let command = |config: &str| {
        let mut command = tap_posthog();
        command.args(["--config", config]).current_dir(tap.dir.path()).env_clear();
        command
    };
    let run = Run::of(command("ENV").output().unwrap()).ends(3);
    run.complains(&["mars"]);
    let run = Run::of(command("ENV").env("TAP_POSTHOG_DATA_TYPE", "cohorts").output().unwrap()).ends(0);
    assert_eq!(run.records("cohorts").len(), 137);
    std::fs::write(tap.dir.path().join("empty.json"), "{}").unwrap();
    Run::of(command("empty.json").output().unwrap()).ends(3).complains(&["api_key is missing"]);
}

#[test]
fn broken_files_are_refused_and_named() {
    let fake = fake();
    let whole = Tap::new(&fake).config.to_string();
    for text in ["", "{", "[]", &whole[..whole.len() / 2]] {
        let mut tap = Tap::new(&fake);
        tap.config = json!(text);
        let run = tap.run().ends(3);
        run.complains(&["config"]);
        assert_eq!(run.stdout, "");
    }
    for text in ["", "{", "[]", "null", "{\"bookmarks\": 5}", "{\"bookmarks\": {\"events\": {\"what\": \"is this\"}}}"]
    {
        let mut tap = Tap::new(&fake);
        tap.state = Some(text.to_owned());
        let run = tap.run().ends(3);
        run.complains(&["state"]);
        assert!(run.records("events").is_empty(), "a broken state means starting over: {text}");
    }
    for text in ["", "{", "[]", "{\"streams\": 5}", "{\"streams\": [{\"schema\": {}}]}"] {
        let mut tap = Tap::new(&fake);
        tap.catalog = Some(text.to_owned());
        let run = tap.run().ends(3);
        run.complains(&["catalog"]);
        assert_eq!(run.stdout, "", "{text}");
    }
}

#[test]
fn files_may_begin_with_a_byte_order_mark() {
    let fake = fake();
    let mut tap = Tap::new(&fake);
    let output = Tap::new(&fake).arg("--discover").command().output().unwrap();
    tap.catalog = Some(String::from_utf8(output.stdout).unwrap());
    let state = tap.run().ends(0).last_state();
    let marked = |text: &str| Some(format!("\u{feff}{text}"));
    tap.catalog = marked(&tap.catalog.take().unwrap());
    tap.state = marked(&state.to_string());
    tap.run().ends(0);
    let settings = tap.config.as_object().unwrap().iter();
    let yaml: String = settings.map(|(name, value)| format!("{name}: {value}\n")).collect();
    tap.config = json!(marked(&yaml));
    assert_eq!(tap.command().output().unwrap().status.code(), Some(0));
}

#[test]
fn the_value_of_test_may_stand_behind_a_space_or_be_left_out() {
    let fake = fake();
    for (args, records) in [(vec!["--test", "schema"], 0), (vec!["--test=schema"], 0), (vec!["--test"], 1)] {
        let mut tap = Tap::new(&fake);
        tap.args = args;
        assert_eq!(tap.run().ends(0).records("events").len(), records, "{:?}", tap.args);
    }
}

#[test]
fn a_half_written_state_is_refused() {
    let fake = fake();
    let state = Tap::new(&fake).run().ends(0).last_state().to_string();
    for cut in [state.len() / 3, state.len() / 2, state.len() - 1] {
        let mut tap = Tap::new(&fake);
        tap.state = Some(state[..cut].to_owned());
        tap.run().ends(3).complains(&["state"]);
    }
}

#[test]
fn unknown_options_and_missing_files_are_usage_errors_or_named() {
    let fake = fake();
    let run = Tap::new(&fake).arg("--no-such-option").run().ends(2);
    assert_eq!(run.stdout, "");
    let tap = Tap::new(&fake);
    let mut command = tap.command();
    command.arg("--state").arg("/nonexistent/state.json");
    let run = Run::of(command.output().unwrap()).ends(3);
    run.complains(&["/nonexistent/state.json"]);
}

/// It is tried again for a while, and every wait is announced with the address.
#[test]
fn a_server_that_is_not_there_is_said_to_be() {
    let fake = fake();
    let (_socket, address) = nobody();
    let address = address.to_string();
    let tap = Tap::new(&fake).set("custom_base_url", format!("http://{address}"));
    let mut child = tap.spawn();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.find(|line| line.contains(&address)).expect("the address is never named");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("connect"), "{line}");
}

#[test]
fn another_projects_state_is_refused() {
    let fake = fake();
    let state = Tap::new(&fake).run().ends(0).last_state();
    let run = Tap::new(&fake).set("project_id", 3).state(&state).run().ends(3);
    run.complains(&["state"]);
    assert!(run.records("events").is_empty());
}

#[test]
fn discovery_prints_the_same_bytes_and_a_fingerprint() {
    let fake = fake();
    let catalog = || {
        let output = Tap::new(&fake).set("data_type", json!(null)).arg("--discover").command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (mut first, mut second) = (catalog(), catalog());
    for catalog in [&mut first, &mut second] {
        let fingerprint = catalog["fingerprint"].as_str().unwrap();
        let digits = fingerprint.strip_prefix("sha256:").unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{fingerprint}");
        catalog.as_object_mut().unwrap().shift_remove("discovered_at");
    }
    assert_eq!(first.to_string(), second.to_string());
    assert!(first["streams"].as_array().unwrap().iter().any(|stream| stream["stream"] == "events"));
    assert!(fake.world().log.len() <= 40, "two discoveries took {} requests", fake.world().log.len());
}

#[test]
fn a_discovered_catalog_selects_what_it_says() {
    let fake = fake();
    let output = Tap::new(&fake).arg("--discover").command().output().unwrap();
    let mut catalog: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for stream in catalog["streams"].as_array_mut().unwrap() {
        let wanted = stream["stream"] == "events";
        for entry in stream["metadata"].as_array_mut().unwrap() {
            match entry["breadcrumb"].as_array().unwrap().as_slice() {
                [] => entry["metadata"]["selected"] = wanted.into(),
                [_, field] if field == "properties_plan" => entry["metadata"]["selected"] = false.into(),
                _ => {}
            }
        }
    }
    let mut tap = Tap::new(&fake).set("data_type", json!(null));
    tap.catalog = Some(catalog.to_string());
    let run = tap.run().ends(0);
    assert_eq!(run.records("events").len(), 5);
    let schema = run.messages().into_iter().find(|message| message["type"] == "SCHEMA").unwrap();
    assert_eq!(schema["key_properties"], json!(["uuid", "event", "distinct_id"]));
    assert!(schema["schema"]["properties"].get("properties_plan").is_none(), "a deselected field is in the SCHEMA");
    for record in run.records("events") {
        assert!(record.get("properties_plan").is_none(), "a deselected field is in a RECORD");
    }
}
