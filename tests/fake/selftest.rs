//! The fake over HTTP: what it answers is held to vectors taken from posthog-box, and each fault to what a client sees.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value as Json, json};

use super::*;

/// A request with `Connection: close`; the status and the bytes after the head, or the error of the connection.
fn ask(fake: &Fake, method: &str, path: &str, key: &str, body: &str) -> std::io::Result<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(fake.url().trim_start_matches("http://"))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: fake\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len().saturating_sub(4));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((status, head, answer.split_off((end + 4).min(answer.len()))))
}

fn query_body(sql: &str, convert: bool) -> String {
    let modifiers = if convert { json!({}) } else { json!({"convertToProjectTimezone": false}) };
    json!({"refresh": "force_blocking", "query": {"kind": "HogQLQuery", "query": sql, "modifiers": modifiers}})
        .to_string()
}

fn query(fake: &Fake, sql: &str) -> (u16, Json) {
    let (status, _, body) = ask(fake, "POST", "/api/projects/1/query/", fake.key(), &query_body(sql, false)).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn rows(fake: &Fake, sql: &str) -> Json {
    let (status, answer) = query(fake, sql);
    assert_eq!(status, 200, "{sql}: {answer}");
    answer["results"].clone()
}

const BOUNDS: &str = "timestamp >= toDateTime64('2000-01-01 00:00:00.000000', 6, 'UTC') AND timestamp < \
    toDateTime64('2100-01-01 00:00:00.000000', 6, 'UTC')";

/// The vectors: rows, and for each query what posthog-box answered over the same rows.
#[test]
fn answers_like_posthog_box() {
    let vectors: Json = serde_json::from_str(include_str!("vectors/answers.json")).unwrap();
    let mut wrong: Vec<String> = Vec::new();
    for (zone, name) in [(Zone::Utc, "UTC"), (Zone::LosAngeles, "America/Los_Angeles")] {
        let fake = Fake::start(Options { zone, ..Options::default() });
        fake.world().insert(vectors["events"].as_array().unwrap().iter().map(events::from_json));
        for case in vectors["cases"].as_array().unwrap().iter().filter(|case| case["zone"] == name) {
            let sql = case["sql"].as_str().unwrap();
            let body = query_body(sql, case["convert"] == true);
            let (status, _, body) = ask(&fake, "POST", "/api/projects/1/query/", fake.key(), &body).unwrap();
            let answer: Json = serde_json::from_slice(&body).unwrap();
            if case["status"] != status {
                wrong.push(format!("{name}: {status} {answer} for {sql}"));
            }
            for field in ["columns", "types", "results", "code", "detail", "hasMore", "limit"] {
                if let Some(wanted) = case.get(field).filter(|wanted| **wanted != answer[field]) {
                    let rows = |of: &Json| of.as_array().cloned().unwrap_or_default();
                    let pairs = rows(&answer[field]).into_iter().zip(rows(wanted));
                    let first = pairs.clone().find(|(here, there)| here != there);
                    let (here, there) =
                        first.unwrap_or_else(|| (rows(&answer[field]).len().into(), rows(wanted).len().into()));
                    wrong.push(format!("{name}: {field} of {sql}\n  fake {here}\n  box  {there}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_page_query_walks_the_sort_key() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(events::realistic(3, 2_000, now, 3));
    let select = "SELECT uuid, event, distinct_id, timestamp, cityHash64(distinct_id) AS key_hash FROM events";
    let order = "ORDER BY toDate(timestamp), event, cityHash64(distinct_id), timestamp, uuid";
    let all = rows(&fake, &format!("{select} WHERE {BOUNDS} {order} LIMIT 50000"));
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2_000);
    let last = &all[699];
    let text = |at: usize| last[at].as_str().unwrap().replace('\\', "\\\\").replace('\'', "\\'");
    let time = text(3).replace('T', " ").replace('Z', "");
    let (uuid, event, hash) = (text(0), text(1), last[4].as_u64().unwrap());
    let time = format!("toDateTime64('{time}', 6, 'UTC')");
    let next = rows(
        &fake,
        &format!(
            "{select} WHERE {BOUNDS} AND (toDate(timestamp) > toDate({time}) OR (toDate(timestamp) = toDate({time}) AND \
             (event > '{event}' OR (event = '{event}' AND (cityHash64(distinct_id) > {hash} OR (cityHash64(distinct_id) = \
             {hash} AND (timestamp > {time} OR (timestamp = {time} AND uuid > toUUID('{uuid}')))))))))  {order} LIMIT 300"
        ),
    );
    assert_eq!(next.as_array().unwrap().as_slice(), &all[700..1000]);
    assert_eq!(fake.world().faux_pas(), Vec::<String>::new());
}

#[test]
fn careless_queries_are_noted() {
    let fake = Fake::start(Options::default());
    for (sql, note) in [
        ("SELECT event FROM events LIMIT 5", "timestamp has no lower bound"),
        ("SELECT event FROM events WHERE timestamp >= toDateTime64('2026-01-01 00:00:00', 6, 'UTC') LIMIT 5", "upper"),
        (&format!("SELECT event FROM events WHERE {BOUNDS}"), "no LIMIT"),
        (&format!("SELECT event FROM events WHERE {BOUNDS} OR event = 'x' LIMIT 5"), "lower bound"),
        ("SELECT key FROM groups", "no LIMIT"),
        (&format!("SELECT event FROM events WHERE {BOUNDS} LIMIT 5 OFFSET 5"), "OFFSET"),
    ] {
        fake.world().log.clear();
        query(&fake, sql);
        let noted = fake.world().faux_pas();
        assert!(noted.len() == 1 && noted[0].contains(note), "{sql}: {noted:?}");
    }
    fake.world().log.clear();
    query(&fake, "SELECT toUnixTimestamp(now()) AS now LIMIT 1");
    query(&fake, "SELECT person_mode FROM events LIMIT 0");
    query(&fake, "SELECT event FROM events WHERE toDate(timestamp) = toDate('2026-08-01') LIMIT 5");
    assert_eq!(fake.world().faux_pas(), Vec::<String>::new());
}

#[test]
fn history_can_be_scripted() {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    let event = |number| Event::new(number, "e", now - HOUR_MICROS);
    let count = || rows(&fake, &format!("SELECT count() AS rows FROM events WHERE {BOUNDS} LIMIT 1"))[0][0].clone();
    fake.world().insert([event(1), event(1), event(2)]);
    fake.world().insert_visible_from([event(3)], now + HOUR_MICROS);
    assert_eq!(count(), 3, "a late row shows too early, or duplicates are not kept");
    fake.world().merge();
    assert_eq!(count(), 2);
    fake.world().advance(HOUR_MICROS);
    assert_eq!(count(), 3);
    assert_eq!(rows(&fake, "SELECT toUnixTimestamp(now()) AS now LIMIT 1")[0][0], (now + HOUR_MICROS) / 1_000_000);
    fake.world().before_query(2, |world| {
        world.delete(|held| held.timestamp > 0);
    });
    assert_eq!(count(), 3);
    assert_eq!(count(), 0);
}

#[test]
fn caches_and_remembers_failures() {
    let fake = Fake::start(Options::default());
    let ask_for = |sql: &str, refresh: &str| {
        let body = json!({"refresh": refresh, "query": {"kind": "HogQLQuery", "query": sql}}).to_string();
        let (status, _, body) = ask(&fake, "POST", "/api/projects/1/query/", fake.key(), &body).unwrap();
        (status, serde_json::from_slice::<Json>(&body).unwrap())
    };
    let sql = "SELECT count() AS rows FROM cohort_people LIMIT 1";
    assert_eq!(ask_for(sql, "blocking").1["results"], json!([[0]]));
    let person = json!({"person_id": "019fbc99-bec2-7afe-a3d9-f07224cdf735", "cohort_id": 1});
    fake.world().insert_row("cohort_people", &person);
    let replayed = ask_for(sql, "blocking").1;
    assert_eq!((&replayed["results"], &replayed["is_cached"]), (&json!([[0]]), &json!(true)));
    let fresh = ask_for(sql, "force_blocking").1;
    assert_eq!((&fresh["results"], &fresh["is_cached"]), (&json!([[1]]), &json!(false)));
    fake.world().fault(Fault::new("timeout_504").next(1).body("sessions"));
    assert_eq!(ask_for("SELECT count() FROM sessions LIMIT 1", "force_blocking").0, 504);
    let (status, again) = ask_for("SELECT count() FROM sessions LIMIT 1", "force_blocking");
    assert!(status == 504 && again["detail"].as_str().unwrap().contains("was not run again"), "{again}");
    assert_eq!(ask_for("SELECT count() FROM sessions LIMIT 2", "force_blocking").0, 200, "a shorter query runs");
}

#[test]
fn keys_and_projects_are_refused_in_posthogs_words() {
    let fake = Fake::start(Options::default());
    for (path, key, status, words) in [
        (
            "/api/projects/1/query/",
            "phx_wrong",
            401,
            "Personal API key found in request Authorization header is invalid.",
        ),
        ("/api/projects/1/query/", "phc_project_token", 401, "is invalid"),
        ("/api/projects/1/query/", "phx_fake_no_query", 403, "API key missing required scope 'query:read'"),
        (
            "/api/projects/1/query/",
            "phx_fake_other_project",
            403,
            "does not have access to the requested project: ID 1.",
        ),
        ("/api/projects/2/query/", "phx_fake_full", 403, "You don't have access to the project."),
        ("/api/projects/99/query/", "phx_fake_full", 404, "Project not found."),
        ("/api/projects/1/nonsense/", "phx_fake_full", 405, "not allowed"),
    ] {
        let (got, _, body) = ask(&fake, "POST", path, key, &query_body("SELECT 1 LIMIT 1", false)).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(got == status && body.contains(words), "{path} {key}: {got} {body}");
    }
    let strict = json!({"query": {"kind": "HogQLQuery", "query": "SELECT 1"}, "limit": 5}).to_string();
    let (status, _, body) = ask(&fake, "POST", "/api/projects/1/query/", fake.key(), &strict).unwrap();
    assert!(status == 400 && String::from_utf8(body).unwrap().contains("Extra inputs are not permitted"));
}

#[test]
fn lists_follow_their_envelopes() {
    let fake = Fake::start(Options::default());
    let get = |path: &str| {
        let (status, _, body) = ask(&fake, "GET", path, fake.key(), "").unwrap();
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice::<Json>(&body).unwrap()
    };
    let mut path = "/api/projects/1/cohorts/".to_owned();
    let mut ids = Vec::new();
    loop {
        let page = get(&path);
        assert_eq!(page["count"], 137);
        ids.extend(page["results"].as_array().unwrap().iter().map(|cohort| cohort["id"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => path = next.trim_start_matches("http://fake").to_owned(),
            None => break,
        }
    }
    assert_eq!(ids, (1..=137).collect::<Vec<u64>>());
    assert_eq!(get("/api/projects/1/groups_types/").as_array().unwrap().len(), 3);
    assert!(get("/api/projects/1/persons/?limit=10").get("count").is_none());
    let numeric = get("/api/projects/1/property_definitions/?type=person&limit=1&offset=0");
    assert_eq!((&numeric["count"], &numeric["results"][0]["name"]), (&json!(5), &json!("age")));
    assert_eq!(get("/api/projects/3/cohorts/")["count"], 0);
    fake.world().objects.next = rest::Next::OtherHost;
    assert!(
        get("/api/projects/1/cohorts/")["next"].as_str().unwrap().starts_with("http://posthog-web.internal:8000/api/")
    );
    assert_eq!(get("/api/personal_api_keys/@current")["scopes"], json!(["*"]));
}

/// Every fault, and what a client sees of it: a status, or a connection that breaks.
#[test]
fn every_fault_shows() {
    let sql = format!("SELECT event FROM events WHERE {BOUNDS} LIMIT 500");
    for name in faults::NAMES {
        let fake = Fake::start(Options::default());
        let now = fake.world().now;
        fake.world().insert((0..100).map(|number| Event::new(number, "e", now - HOUR_MICROS)));
        let fault = Fault::new(name).next(1).pause(std::time::Duration::from_millis(1));
        fake.world().fault(fault);
        let seen = match ask(&fake, "POST", "/api/projects/1/query/", fake.key(), &query_body(&sql, false)) {
            Err(_) => "broken".to_owned(),
            Ok((0, ..)) => "broken".to_owned(),
            Ok((200, head, body)) => {
                let wanted = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                let whole = wanted.is_some_and(|length| length == body.len().to_string());
                match serde_json::from_slice::<Json>(&body) {
                    Ok(answer) if whole && !head.contains("text/html") => match answer["results"].as_array() {
                        Some(rows) if answer["error"].is_null() && answer["is_cached"] == false => {
                            format!(
                                "{} rows of {}",
                                rows.len(),
                                rows.first().map_or(0, |row| row.as_array().unwrap().len())
                            )
                        }
                        _ => "odd".to_owned(),
                    },
                    _ => "unreadable".to_owned(),
                }
            }
            Ok((status, ..)) => status.to_string(),
        };
        let digits = name.rsplit('_').next().filter(|digits| digits.parse::<u16>().is_ok() && *name != "html_200");
        let wanted = match *name {
            "status" => "500",
            "reset" | "hang" | "reset_mid" => "broken",
            "slow" => "100 rows of 1",
            "drop_last_row" => "99 rows of 1",
            "empty_results" => "0 rows of 0",
            "extra_column" => "100 rows of 2",
            "error_field" | "null_results" | "missing_results" | "cached" => "odd",
            _ => digits.unwrap_or("unreadable"),
        };
        assert_eq!(seen, wanted, "{name}");
        assert_eq!(fake.world().faults.fired(), [(*name, 1)]);
        assert_eq!(rows(&fake, &format!("{sql} ").replace("500", "400")).as_array().unwrap().len(), 100, "{name}");
    }
}

#[test]
fn views_show_the_newest_version_of_what_is_not_deleted() {
    let fake = Fake::start(Options::default());
    let person = |id: u8, version: u8, deleted: u8| {
        json!({"id": format!("00000000-0000-0000-0000-0000000000{id:02x}"), "version": version, "is_deleted": deleted,
            "created_at": "2024-01-01T00:00:00.123Z", "properties": format!("{{\"v\":{version}}}")})
    };
    for row in [person(1, 1, 0), person(1, 2, 0), person(2, 5, 0), person(2, 6, 1), person(3, 0, 0)] {
        fake.world().insert_row("raw_persons", &row);
    }
    let shown = rows(&fake, "SELECT id, properties, created_at FROM persons ORDER BY id LIMIT 10");
    let created = "2024-01-01T00:00:00.123000Z";
    assert_eq!(
        shown,
        json!([
            ["00000000-0000-0000-0000-000000000001", "{\"v\":2}", created],
            ["00000000-0000-0000-0000-000000000003", "{\"v\":0}", created]
        ])
    );
    let (status, refused) = query(&fake, "SELECT last_seen_at FROM persons LIMIT 0");
    assert!(status == 400 && refused["detail"] == "Unable to resolve field: last_seen_at", "{refused}");
}
