//! What is found out before a run reads: a mishap is not believed for long, and what is asked for in vain is said.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::fake::events::realistic;
use crate::fake::{DAY_MICROS, Event, Fake, Fault, HOUR_MICROS, Options};
use crate::harness::{Run, Tap, nobody, same_once};

const PAGE: &str = "cityHash64(distinct_id), timestamp, uuid";

fn fake() -> Fake {
    fake_without(&[])
}

fn fake_without(absent: &[&'static str]) -> Fake {
    let fake = Fake::start(Options { absent: absent.to_vec(), ..Options::default() });
    let now = fake.world().now;
    fake.world().insert(realistic(11, 200, now, 2));
    fake
}

/// One refusal of the column probe, or of the check, would read a project by `timestamp` for the life of its state.
#[test]
fn one_refused_probe_of_created_at_is_not_believed() {
    for (body, skip) in [("LIMIT 0", 0), ("AS usable", 0)] {
        let fake = fake();
        fake.world().fault(Fault::new("type_mismatch_400").next(1).skip(skip).body(body));
        let run = Tap::new(&fake).run().ends(0);
        assert_eq!(fake.world().faults.fired(), [("type_mismatch_400", 1)], "{body}");
        assert_eq!(run.last_state()["bookmarks"]["events"]["replication_key"], "created_at", "{body}: {}", run.stderr);
        same_once(body, &run.events(), fake.world().held());
        let schema = run.messages().into_iter().find(|message| message["type"] == "SCHEMA").unwrap();
        for field in ["created_at", "person_id", "$session_id"] {
            assert!(schema["schema"]["properties"].get(field).is_some(), "{body}: {field}");
        }
    }
}

/// Without it, events could not be joined to persons.
#[test]
fn person_id_is_asked_for_under_its_other_name() {
    let fake = fake_without(&["events.event_person_id"]);
    let run = Tap::new(&fake).run().ends(0);
    assert!(run.stderr.contains("person_id may be the one after later merges"), "{}", run.stderr);
    let ids = run.texts("events", "person_id");
    assert!(ids.len() == 200 && ids.iter().all(|id| id.len() == 36), "{ids:?}");
    let fake = fake_without(&["events.event_person_id", "events.person_id"]);
    let run = Tap::new(&fake).run().ends(0);
    assert!(run.stderr.contains("this PostHog has no person_id in events"), "{}", run.stderr);
    assert_eq!(run.texts("events", "person_id")[0], "null");
}

#[test]
fn a_half_done_run_by_another_key_is_refused_before_the_first_request() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert((0..200).map(|n| Event::new(n, "e", now - n as i64 * DAY_MICROS / 10)));
    fake.world().fault(Fault::new("auth_401").skip(3).body(PAGE));
    let broken = Tap::new(&fake).set("page_size", 20).run().ends(3);
    fake.world().faults.clear();
    fake.world().log.clear();
    let mut catalog: Json = serde_json::from_str(include_str!("../../catalog/events-only-raw.json")).unwrap();
    catalog["streams"][0]["replication_key"] = "timestamp".into();
    for entry in catalog["streams"][0]["metadata"].as_array_mut().unwrap() {
        if entry["breadcrumb"] == json!([]) {
            entry["metadata"]["replication-key"] = "timestamp".into();
        }
    }
    for job in ["--max-runtime=60", "--plan"] {
        let mut tap = Tap::new(&fake).state(&broken.last_state()).arg(job);
        tap.catalog = Some(catalog.to_string());
        let run = tap.run().ends(3);
        run.complains(&["replication-key", "half done"]);
        assert_eq!((run.stdout.as_str(), fake.world().log.len()), ("", 0), "{job}");
    }
}

#[test]
fn names_of_events_that_match_nothing_are_said_with_the_nearest_one() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert((0..9).map(|n| Event::new(n, "purchase", now - HOUR_MICROS)));
    fake.world().insert([Event::new(20, "rare", now - 20 * DAY_MICROS)]);
    let given = json!(["purchsae", "rare", "purchase,rare"]);
    let run = Tap::new(&fake).set("event_types", given).run().ends(0);
    let said: Vec<&str> = run.stderr.lines().filter(|line| line.contains("WARNING event_types: since ")).collect();
    assert_eq!(said.len(), 2, "{}", run.stderr);
    assert!(said[0].ends_with(r#"there is no event called "purchsae"; did you mean "purchase"?"#), "{}", said[0]);
    assert!(said[1].ends_with(r#"several names are a list: ["a", "b"]"#), "{}", said[1]);
    let state = run.last_state();
    let later = Tap::new(&fake).set("event_types", json!(["purchase"])).state(&state).run().ends(0);
    assert!(!later.stderr.contains("there is no event"), "{}", later.stderr);
    assert!(later.stderr.contains("a run without --state reads the past, too"), "{}", later.stderr);
    fake.world().advance(HOUR_MICROS);
    // Nothing arrived since, and that says nothing of the names.
    let quiet = Tap::new(&fake).set("event_types", json!(["purchase"])).state(&later.last_state()).run().ends(0);
    assert!(!quiet.stderr.contains("there is no event"), "{}", quiet.stderr);
    let plan = Run::of(Tap::new(&fake).set("event_types", "x,rare").arg("--plan").command().output().unwrap()).ends(0);
    assert!(plan.stderr.contains(r#"there is no event called "x""#), "{}", plan.stderr);
}

#[test]
fn streams_are_named_in_the_settings() {
    let fake = fake();
    let streams = |run: &Run| {
        let schemas = run.messages().into_iter().filter(|message| message["type"] == "SCHEMA");
        schemas.map(|message| message["stream"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let tap = || Tap::new(&fake).set("data_type", json!(null));
    let run = tap().set("streams", json!(["cohorts", "events"])).run().ends(0);
    assert_eq!(streams(&run), ["events", "cohorts"]);
    let run = tap().set("streams", "*").run().ends(0);
    assert!(streams(&run).len() > 15, "{:?}", streams(&run));
    tap().set("streams", json!(["event"])).run().ends(3).complains(&["setting streams: there is no stream event"]);
    let report = tap().set("streams", json!(["cohorts", "events"])).arg("--doctor").command().output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let fake = fake();
    for flags in [
        &["--doctor", "--plan"][..],
        &["--test", "--discover"],
        &["--discover", "--about"],
        &["--about", "--format", "json", "--plan"],
        &["--doctor", "--doctor-timeout", "5", "--discover"],
    ] {
        let mut tap = Tap::new(&fake);
        tap.args = flags.to_vec();
        let run = tap.run().ends(2);
        run.complains(&[flags[0]]);
        assert_eq!((run.stdout.as_str(), fake.world().log.len()), ("", 0), "{flags:?}");
    }
    for (flags, needed) in [(["--format", "json"], "--about"), (["--doctor-timeout", "5"], "--doctor")] {
        let mut tap = Tap::new(&fake);
        tap.args = flags.to_vec();
        let run = tap.run().ends(2);
        run.complains(&[needed]);
        assert_eq!((run.stdout.as_str(), fake.world().log.len()), ("", 0), "{flags:?}");
    }
}

/// A server may be a minute late, and then whoever reads the message has to know what was tried.
#[test]
fn a_refused_connection_is_tried_as_long_at_the_start_of_a_run_as_by_a_plan() {
    let fake = fake();
    let (_socket, nobody) = nobody();
    let address = format!("http://{nobody}");
    for (stream, job) in [("events", "--max-runtime=6000"), ("cohorts", "--max-runtime=6000"), ("events", "--plan")] {
        let run = Tap::new(&fake).set("custom_base_url", address.as_str()).set("data_type", stream).arg(job).run();
        let run = run.ends(4);
        let parts =
            [&address, "failed 8 times", "Connection refused", "check that this machine may reach that address"];
        run.complains(&parts);
    }
}

/// Answers the query for the time, and every other request with so many bytes of JSON.
fn serve(bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let body = format!("[{}]", "[],".repeat(bytes / 3) + "[]");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, body) = (stream.unwrap(), body.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut length, mut is_query) = (0, false);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let lower = line.to_ascii_lowercase();
                    is_query |= lower.starts_with("post ");
                    length = lower.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
                    if line.trim().is_empty() {
                        break;
                    }
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                let time = r#"{"results":[[1800000000]],"columns":["now"],"timezone":"UTC"}"#;
                let body = if is_query { time } else { &*body };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // Whoever asked may have gone.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            });
        }
    });
    address
}

/// A tree of such a body takes 1 GB; a doctor reads several at the same time.
#[test]
fn a_doctor_and_a_run_that_meet_a_body_of_forty_megabytes_stay_small() {
    let fake = fake();
    let address = serve(40_000_000);
    for (flag, code) in [("--doctor", 0), ("--discover", 4)] {
        let mut tap = Tap::new(&fake).set("custom_base_url", address.as_str()).set("data_type", json!(null)).arg(flag);
        tap.args.extend(if flag == "--doctor" { ["--doctor-timeout", "60"].as_slice() } else { &[] });
        let command = tap.command();
        let mut limited = Command::new("sh");
        // Writable memory, in KB.
        limited.args(["-c", "ulimit -d 250000; exec \"$0\" \"$@\""]).arg(command.get_program());
        limited.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let run = Run::of(limited.output().unwrap());
        assert_eq!(run.code, code, "{flag}: {}", run.stderr);
    }
}

#[test]
fn no_authorities_are_needed_where_nothing_is_encrypted() {
    let fake = fake();
    let tap = Tap::new(&fake);
    let mut command = tap.command();
    command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    let run = Run::of(command.output().unwrap()).ends(0);
    assert_eq!(run.events().len(), 200);
    let https = Tap::new(&fake).set("custom_base_url", "https://127.0.0.1:9");
    let mut command = https.command();
    command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    Run::of(command.output().unwrap()).ends(3).complains(&["ca_file"]);
}
