//! The stream `persons` under either of the two names that columns of its properties may have.

use serde_json::{Value as Json, json};

use crate::fake::{Fake, Options};
use crate::harness::{Run, Tap, Target};

const OLDER: &str = "person_properties";

/// Two persons; the second one was seen later.
fn fake() -> Fake {
    let fake = Fake::start(Options { absent: Vec::new(), ..Options::default() });
    for (number, seen) in [(1, "2026-08-14T01:00:00Z"), (2, "2026-08-15T11:00:00Z")] {
        let properties = json!({"email": format!("{number}@example.com"), "age": number, "vip": "yes"}).to_string();
        let id = format!("0000000{number}-0000-4000-8000-000000000000");
        fake.world().insert_row(
            "raw_persons",
            &json!({"id": id, "version": 1, "properties": properties, "last_seen_at": seen}),
        );
    }
    fake
}

/// The tap with the setting, or without it.
fn tap<'a>(fake: &'a Fake, prefix: &str) -> Tap<'a> {
    let prefix = if prefix == OLDER { json!(OLDER) } else { Json::Null };
    Tap::new(fake).set("data_type", "persons").set("persons_column_prefix", prefix)
}

/// The discovered catalog with `persons` selected alone.
fn discovered(fake: &Fake, prefix: &str) -> Json {
    let output = tap(fake, prefix).set("data_type", Json::Null).arg("--discover").command().output().unwrap();
    let mut catalog: Json = serde_json::from_slice(&output.stdout).unwrap();
    for stream in catalog["streams"].as_array_mut().unwrap() {
        stream["metadata"][0]["metadata"]["selected"] = json!(stream["stream"] == "persons");
    }
    catalog
}

fn persons(catalog: &mut Json) -> &mut Json {
    let streams = catalog["streams"].as_array_mut().unwrap();
    streams.iter_mut().find(|stream| stream["stream"] == "persons").unwrap()
}

fn with_catalog<'a>(fake: &'a Fake, prefix: &str, catalog: &Json) -> Tap<'a> {
    let mut tap = tap(fake, prefix).set("data_type", Json::Null);
    tap.catalog = Some(catalog.to_string());
    tap
}

fn names(fields: &Json) -> Vec<&str> {
    fields.as_object().unwrap().keys().map(String::as_str).filter(|name| name.contains("properties")).collect()
}

/// SCHEMA and RECORD of a run have these names and no others, and the target takes them.
fn is_named(run: &Run, prefix: &str, ids: usize) {
    let schema = run.messages().into_iter().find(|message| message["type"] == "SCHEMA").unwrap();
    let own = ["age", "email", "name", "plan", "vip"].map(|property| format!("{prefix}_{property}"));
    let unmapped = format!("unmapped_{prefix}");
    assert_eq!(names(&schema["schema"]["properties"]), own.iter().chain([&unmapped]).collect::<Vec<_>>());
    let records = run.records("persons");
    assert_eq!(records.len(), ids);
    let last = records.last().unwrap();
    // As the document has them.
    assert_eq!(names(last), [&own[1], &own[0], &unmapped]);
    assert_eq!([&last[&own[0]], &last[&own[1]]], [&json!(2), &json!("2@example.com")]);
    // What its column cannot hold.
    assert_eq!(last[&unmapped], json!({"vip": "yes"}));
    let warnings: Vec<&str> = run.stderr.lines().filter(|line| line.contains("WARNING")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains(&format!("{prefix}_vip (")), "{}", run.stderr);
    Target::new().run(&run.stdout).ends(0);
}

#[test]
fn columns_have_the_names_of_the_setting() {
    let fake = fake();
    for prefix in ["properties", OLDER] {
        is_named(&tap(&fake, prefix).run().ends(0), prefix, 2);
        let mut catalog = discovered(&fake, prefix);
        let fields = &persons(&mut catalog)["schema"]["properties"];
        assert!(names(fields).iter().all(|name| name.trim_start_matches("unmapped_").starts_with(prefix)), "{fields}");
    }
    let run = tap(&fake, "").set("persons_column_prefix", "person").run().ends(3);
    run.complains(&["persons_column_prefix", "properties, person_properties"]);
}

#[test]
fn a_catalog_counts_under_either_setting_whole_and_incremental() {
    let fake = fake();
    for made in ["properties", OLDER] {
        let mut catalog = discovered(&fake, made);
        for setting in ["properties", OLDER] {
            is_named(&with_catalog(&fake, setting, &catalog).run().ends(0), made, 2);
        }
        let metadata = &mut persons(&mut catalog)["metadata"][0]["metadata"];
        metadata["replication-method"] = json!("INCREMENTAL");
        metadata["replication-key"] = json!("last_seen_at");
        let first = with_catalog(&fake, made, &catalog).run().ends(0);
        is_named(&first, made, 2);
        let mut state = first.last_state();
        state["bookmarks"]["persons"]["replication_key_value"] = json!("2026-08-15T09:00:00.000000Z");
        is_named(&with_catalog(&fake, "properties", &catalog).state(&state).run().ends(0), made, 1);
    }
}

#[test]
fn a_column_can_be_deselected_and_one_property_cannot_have_two() {
    let fake = fake();
    let mut catalog = discovered(&fake, OLDER);
    for entry in persons(&mut catalog)["metadata"].as_array_mut().unwrap() {
        if entry["breadcrumb"] == json!(["properties", "person_properties_email"]) {
            entry["metadata"]["selected"] = json!(false);
        }
    }
    let run = with_catalog(&fake, OLDER, &catalog).run().ends(0);
    assert!(!run.stdout.contains("person_properties_email"), "{}", run.stdout);
    assert_eq!(run.records("persons")[1]["person_properties_age"], 2);

    persons(&mut catalog)["schema"]["properties"]["properties_age"] = json!({"type": ["null", "number"]});
    let run = with_catalog(&fake, OLDER, &catalog).run().ends(3);
    run.complains(&["persons", "person_properties_age and properties_age", "deselect one"]);
}
