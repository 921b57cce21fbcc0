//! HogQL tables of which rows go missing on the way: noticed, read again, and never made current when they stay away.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::fake::{Fake, Fault, Options, micros};
use crate::harness::{Run, Tap, Target, incremental, splits_and_never_repeats, with_catalog};

/// Each stream, what only its pages say, and the field that tells its records apart.
const STREAMS: [(&str, &str, &str); 5] = [
    ("persons", "ORDER BY id LIMIT", "id"),
    ("groups", "ORDER BY index, key LIMIT", "group_key"),
    ("person_distinct_ids", "ORDER BY distinct_id LIMIT", "distinct_id"),
    ("cohort_people", "FROM cohort_people ORDER BY cohort_id, person_id LIMIT", "person_id"),
    ("sessions", "ORDER BY session_id LIMIT", "session_id"),
];
/// The bookmark of `sessions`: the first stretch is the day three days before, which has them all.
const START: &str = "2026-08-06T00:00:00.000000Z";

fn id(number: usize) -> String {
    format!("{number:08}-0000-4000-8000-000000000000")
}

fn row(stream: &str, number: usize) -> (&'static str, Json) {
    let text = format!("{number:08}");
    let time = "2026-08-03T12:00:00Z";
    match stream {
        "persons" => ("raw_persons", json!({"id": id(number), "version": 1})),
        "groups" => ("raw_groups", json!({"index": 0, "key": text, "created_at": time, "updated_at": time})),
        "person_distinct_ids" => {
            ("raw_person_distinct_ids", json!({"distinct_id": text, "person_id": id(number), "version": 1}))
        }
        "cohort_people" => ("cohort_people", json!({"cohort_id": 7, "person_id": id(number)})),
        _ => ("sessions", json!({"session_id": text, "$start_timestamp": time, "$end_timestamp": time})),
    }
}

fn insert(fake: &Fake, stream: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let (table, row) = row(stream, number);
        fake.world().insert_row(table, &row);
    }
}

fn filled(stream: &str, count: usize, options: Options) -> Fake {
    let fake = Fake::start(options);
    insert(&fake, stream, 0..count);
    fake
}

fn tap<'a>(fake: &'a Fake, stream: &str) -> Tap<'a> {
    let state = json!({"replication_key": "$start_timestamp", "replication_key_value": START});
    let tap = Tap::new(fake).set("data_type", stream);
    if stream == "sessions" { tap.state(&json!({"bookmarks": {"sessions": state}})) } else { tap }
}

/// The distinct values of a field and how many of them there are in all.
fn came(run: &Run, stream: &str, field: &str) -> (usize, usize) {
    let mut texts = run.texts(stream, field);
    let all = texts.len();
    texts.sort();
    texts.dedup();
    (texts.len(), all)
}

fn queries(fake: &Fake, part: &str) -> Vec<String> {
    let world = fake.world();
    let sql = world.log.iter().filter_map(|request| request.sql.clone());
    sql.filter(|sql| sql.contains(part)).collect()
}

#[test]
fn answers_that_lost_rows_once_lose_nothing() {
    for (stream, page, field) in STREAMS {
        for fault in ["empty_results", "drop_last_row"] {
            for size in [Json::Null, json!(4)] {
                let fake = filled(stream, 11, Options::default());
                fake.world().fault(Fault::new(fault).body(page).next(1));
                let run = tap(&fake, stream).set("page_size", size.clone()).run().ends(0);
                assert_eq!(came(&run, stream, field), (11, 11), "{stream} {fault} {size}: {}", run.stderr);
            }
        }
    }
}

#[test]
fn a_server_that_gives_fewer_rows_than_are_asked_for_is_read_to_the_end() {
    for (stream, _, field) in STREAMS {
        let fake = filled(stream, 95, Options { most_rows: 10, ..Options::default() });
        let run = tap(&fake, stream).run().ends(0);
        assert_eq!(came(&run, stream, field), (95, 95), "{stream}: {}", run.stderr);
        assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
        // Nor where nothing is counted.
        let run = tap(&fake, stream).set("count_proof", "off").run().ends(0);
        assert_eq!(came(&run, stream, field), (95, 95), "{stream}: {}", run.stderr);
    }
}

#[test]
fn a_whole_table_costs_one_count_and_its_pages() {
    for (stream, page, _) in STREAMS {
        let fake = filled(stream, 9, Options::default());
        tap(&fake, stream).set("page_size", 6).run().ends(0);
        let (counts, pages) = (queries(&fake, "uniqExact").len(), queries(&fake, page).len());
        let (tables, stretches) = match stream {
            "sessions" => (4, 4),
            "cohort_people" => (2, 1),
            _ => (1, 1),
        };
        assert_eq!(counts, tables, "{stream}");
        assert!(pages <= stretches + 1, "{stream}: {pages} pages");
    }
}

#[test]
fn rows_that_stay_away_end_the_run_before_anything_is_made_current() {
    for (stream, page, field) in STREAMS {
        for fault in ["empty_results", "drop_last_row"] {
            let fake = filled(stream, 9, Options::default());
            fake.world().fault(Fault::new(fault).body(page));
            fake.world().fault(Fault::new(fault).body("FROM cohort_people WHERE"));
            let run = tap(&fake, stream).run().ends(9);
            run.complains(&[stream, "of 9 keys that PostHog counts", "count_proof: warn"]);
            assert!(!run.stdout.contains("ACTIVATE_VERSION"), "{stream} {fault}");
            if stream == "sessions" {
                assert_eq!(run.last_state()["bookmarks"]["sessions"]["replication_key_value"], START);
            }
            let run = tap(&fake, stream).set("count_proof", "warn").run().ends(0);
            assert!(run.stdout.contains("ACTIVATE_VERSION") || stream == "sessions", "{stream} {fault}");
            assert!(run.stderr.contains("WARNING"), "{}", run.stderr);
            assert_eq!(came(&run, stream, field).0, if fault == "drop_last_row" { 8 } else { 0 }, "{stream}");
        }
    }
}

#[test]
fn a_table_that_is_read_again_comes_in_a_version_of_its_own() {
    let fake = filled("persons", 9, Options::default());
    // Two pages come, then none, asked twice.
    fake.world().fault(Fault::new("empty_results").body("FROM raw_persons WHERE").skip(1).next(2));
    let run = tap(&fake, "persons").set("page_size", 3).run().ends(0);
    assert!(run.stderr.contains("reading again"), "{}", run.stderr);
    let mut versions: BTreeMap<i64, usize> = BTreeMap::new();
    for message in run.messages() {
        if message["type"] == "RECORD" {
            *versions.entry(message["version"].as_i64().unwrap()).or_default() += 1;
        }
    }
    let activated = run.messages().into_iter().find(|message| message["type"] == "ACTIVATE_VERSION").unwrap();
    let (last, rows) = versions.last_key_value().unwrap();
    assert_eq!((activated["version"].as_i64().unwrap(), *rows, versions.len()), (*last, 9, 2));
    let target = Target::new();
    target.run(&run.stdout).ends(0);
    assert_eq!(target.rows("persons").len(), 9);
}

#[test]
fn rows_that_come_and_go_meanwhile_are_no_loss() {
    let fake = filled("cohort_people", 9, Options::default());
    // The count is the first query, each page one more.
    fake.world().before_query(3, |world| world.drop_rows("cohort_people", 4));
    let run = tap(&fake, "cohort_people").set("page_size", 3).run().ends(0);
    assert_eq!(came(&run, "cohort_people", "person_id"), (5, 5), "{}", run.stderr);
    assert!(!run.stderr.contains("reading again"), "{}", run.stderr);

    let fake = filled("persons", 9, Options::default());
    fake.world()
        .before_query(3, |world| (9..15).for_each(|number| world.insert_row("raw_persons", &row("persons", number).1)));
    let run = tap(&fake, "persons").set("page_size", 3).run().ends(0);
    assert_eq!(came(&run, "persons", "id"), (15, 15), "{}", run.stderr);
}

#[test]
fn a_server_that_does_not_count_is_read_with_a_warning() {
    for (stream, page, field) in STREAMS {
        let fake = filled(stream, 9, Options::default());
        fake.world().fault(Fault::new("type_mismatch_400").body("uniqExact"));
        fake.world().fault(Fault::new("empty_results").body(page).next(1));
        let run = tap(&fake, stream).set("page_size", 4).run().ends(0);
        assert_eq!(came(&run, stream, field), (9, 9), "{stream}: {}", run.stderr);
        let said = run.stderr.lines().filter(|line| line.contains("nothing proves")).count();
        assert_eq!(said, 1, "{}", run.stderr);
    }
}

#[test]
fn versions_of_a_person_beyond_a_short_page_count() {
    let fake = filled("persons", 3, Options { most_rows: 2, ..Options::default() });
    for version in 2..7 {
        fake.world().insert_row("raw_persons", &json!({"id": id(1), "version": version, "is_deleted": version / 6}));
    }
    let run = tap(&fake, "persons").run().ends(0);
    assert_eq!(run.texts("persons", "id"), [id(0), id(2)], "{}", run.stderr);
}

#[test]
fn persons_who_show_late_within_the_lookback_are_found() {
    let fake = Fake::start(Options { absent: Vec::new(), ..Options::default() });
    // Seen at 10:58, noted as 10:00 with the hour, and shown after the run whose bookmark is 11:10.
    for (number, seen) in ["2026-08-14T09:00:00Z", "2026-08-14T10:00:00Z"].iter().enumerate() {
        fake.world().insert_row("raw_persons", &json!({"id": id(number), "version": 1, "last_seen_at": seen}));
    }
    let (given, mut state) = incremental("persons", &["id"], "last_seen_at");
    state["bookmarks"]["persons"]["replication_key_value"] = json!("2026-08-14T11:10:00.000000Z");
    let run = with_catalog(&fake, given).state(&state).run().ends(0);
    assert_eq!(run.texts("persons", "id"), [id(1)]);
}

#[test]
fn sessions_since_an_old_bookmark_come_without_an_initial_since() {
    let fake = Fake::start(Options::default());
    let session = |id: &str, start: &str| json!({"session_id": id, "$start_timestamp": start});
    for (id, start) in [("settled", "2024-01-01T00:00:00Z"), ("between", "2024-02-01T00:00:00Z")] {
        fake.world().insert_row("sessions", &session(id, start));
    }
    let bookmark =
        json!({"replication_key": "$start_timestamp", "replication_key_value": "2024-01-10T00:00:00.000000Z"});
    let state = json!({"bookmarks": {"sessions": bookmark}});
    let run = |since: Json| {
        Tap::new(&fake).set("data_type", "sessions").set("initial_since", since).state(&state).run().ends(0)
    };
    assert_eq!(run(Json::Null).texts("sessions", "session_id"), ["between"]);
    // A bound that somebody chose holds.
    assert_eq!(run(json!("2024-03-01")).texts("sessions", "session_id"), [""; 0]);
}

#[test]
fn sessions_that_are_too_much_are_asked_for_in_shorter_stretches() {
    let fake = Fake::start(Options { most_bytes_read: 12_000, ..Options::default() });
    let day = 86_400_000_000;
    for number in 0..2_000_i64 {
        let start = micros("2026-06-01T00:00:00Z") + number * day / 40;
        let start = crate::fake::Zone::Utc.rfc3339(start);
        let row = json!({"session_id": format!("{number:08}"), "$start_timestamp": start});
        fake.world().insert_row("sessions", &row);
    }
    let run = Tap::new(&fake).set("data_type", "sessions").set("initial_since", "2026-06-01").run().ends(0);
    assert_eq!(came(&run, "sessions", "session_id").0, 2_000, "{}", run.stderr);
    splits_and_never_repeats(&fake);
}
