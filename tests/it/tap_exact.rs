//! Records say what PostHog says, to the letter; where they cannot, the value is kept aside, and that is counted and told.

use serde_json::{Value as Json, json};

use crate::fake::{Event, Fake, HOUR_MICROS, Options, Zone};
use crate::harness::{Run, Tap, fake_of, start};

/// A project with one event and one person that have these properties, as they were written.
fn with_properties(document: &str) -> Fake {
    let mut event = Event::new(1, "e", start() - HOUR_MICROS);
    event.properties = document.into();
    let fake = fake_of([event]);
    for name in ["f", "s"] {
        for of in ["event", "person"] {
            fake.world().objects.define_property(of, name, Some("String"));
        }
    }
    let id = "00000001-0000-4000-8000-000000000000";
    fake.world().insert_row("raw_persons", &json!({"id": id, "version": 1, "properties": document}));
    fake
}

fn of_stream<'a>(fake: &'a Fake, stream: &str) -> Tap<'a> {
    Tap::new(fake).set("data_type", stream)
}

/// The words after the name of the stream in its warning.
fn warning<'a>(run: &'a Run, stream: &str, part: &str) -> Option<&'a str> {
    run.stderr.lines().find(|line| line.contains("WARNING") && line.contains(stream) && line.contains(part))
}

/// One such document ends other loaders, and every JSON query in DuckDB.
#[test]
fn half_a_surrogate_pair_is_replaced_and_counted_or_kept() {
    let fake = with_properties(r#"{"s":"a\ud83d","x":{"\ude00":["\ud83d\ude00","\\ud83d"]}}"#);
    let unmapped = json!({"x": {"\u{fffd}": ["\u{1f600}", "\\ud83d"]}});
    for stream in ["events", "persons"] {
        let run = of_stream(&fake, stream).run().ends(0);
        let record = &run.records(stream)[0];
        assert_eq!(record["properties_s"], "a\u{fffd}");
        assert_eq!(record["unmapped_properties"], unmapped);
        assert!(warning(&run, stream, "2 halves of surrogate pairs became U+FFFD").is_some(), "{}", run.stderr);
        let nested = of_stream(&fake, stream).set("flatten_properties", false).run().ends(0);
        assert_eq!(nested.records(stream)[0]["properties"]["x"], unmapped["x"]);
        let keeping = of_stream(&fake, stream).set("lone_surrogates", "keep");
        let kept = Run::of(keeping.command().output().unwrap()).ends(0);
        let record = kept.stdout.lines().find(|line| line.contains("\"RECORD\"")).unwrap();
        assert!(serde_json::from_str::<Json>(record).is_err(), "there is no such character");
        assert!(record.contains(r#""unmapped_properties":{"s":"a\ud83d","x":{"\ude00":["#), "{record}");
        assert!(warning(&kept, stream, "surrogate").is_none(), "{}", kept.stderr);
    }
}

/// The properties of the only record, by the rule that the documentation gives: columns and unmapped together.
fn rebuilt(record: &Json) -> Json {
    let mut properties = record["unmapped_properties"].as_object().cloned().unwrap_or_default();
    for (name, value) in record.as_object().unwrap() {
        if let Some(property) = name.strip_prefix("properties_") {
            let nested = value.as_str().filter(|text| text.starts_with(['{', '[']));
            let value = nested.map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap());
            assert!(properties.insert(property.to_owned(), value).is_none(), "{property} stands twice: {record}");
        }
    }
    properties.into()
}

#[test]
fn a_name_in_two_spellings_and_a_string_that_begins_nested_rebuild_exactly() {
    for document in
        [r#"{"f":"x","\u0066":true}"#, r#"{"f":true,"\u0066":"x"}"#, r#"{"s":"\u005bx"}"#, r#"{"s":"\u007B}"}"#]
    {
        let fake = with_properties(document);
        for stream in ["events", "persons"] {
            let run = of_stream(&fake, stream).run().ends(0);
            let expected: Json = serde_json::from_str(document).unwrap();
            assert_eq!(rebuilt(&run.records(stream)[0]), expected, "{document} of {stream}");
        }
    }
}

/// They used to be null, moved, or cut.
#[test]
fn times_that_six_digits_cannot_hold_are_kept_aside_and_counted() {
    let odd = [
        json!("2026-01-01T00:00:00.123456789Z"),
        json!("2026-01-01T23:59:60Z"),
        json!("2026-01-01"),
        json!(1_767_225_600),
        json!("soon"),
        json!("10000-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59-01:00"),
    ];
    let fake = fake_of([]);
    for (number, time) in odd.iter().enumerate() {
        fake.world().objects.of("cohorts")[number]["created_at"] = time.clone();
    }
    let run = of_stream(&fake, "cohorts").run().ends(0);
    for (record, time) in run.records("cohorts").iter().zip(&odd) {
        assert_eq!((&record["created_at"], &record["unmapped_fields"]["created_at"]), (&Json::Null, time));
    }
    let said = warning(&run, "cohorts", "created_at (7)").unwrap();
    assert!(said.contains("7 values are in unmapped_fields"), "{said}");
}

/// `sum(properties_price)` is wrong where prices are sometimes texts.
#[test]
fn values_of_another_type_are_counted_by_column_and_told() {
    let prices = [json!(1), json!("2"), json!("3"), json!(null), json!({"a": 1})];
    let event = |(n, price): (usize, &Json)| {
        Event::new(n as u64, "e", start() - HOUR_MICROS).properties(&json!({"price": price, "plan": n, "x": price}))
    };
    let fake = fake_of(prices.iter().enumerate().map(event));
    for (name, kind) in [("price", "Numeric"), ("plan", "String")] {
        fake.world().objects.define_property("event", name, Some(kind));
    }
    let run = of_stream(&fake, "events").run().ends(0);
    let said = warning(&run, "events", "unmapped_properties").unwrap();
    assert!(said.contains("8 values are in unmapped_properties"), "{said}");
    assert!(said.ends_with("properties_plan (5), properties_price (3)"), "{said}");
    assert_eq!(run.stderr.matches("WARNING events").count(), 1, "{}", run.stderr);
}

/// Everybody's first try: a key with `query:read` alone, and a project whose events are all of today, or all older.
#[test]
fn a_key_without_the_scope_of_definitions_gets_columns_from_the_range_that_is_read() {
    let day = 24 * HOUR_MICROS;
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    let columns = |ages: [i64; 2], settings: &[(&str, Json)]| {
        let fake = Fake::start(Options { now, ..Options::default() });
        for (age, name) in ages.into_iter().zip(["newer", "older"]) {
            // One key is enough: which keys are in the first sample depends on their hashes.
            fake.world().insert([Event::new(7, name, now - age).properties(&json!({ name: 1 }))]);
        }
        let tap = settings.iter().fold(of_stream(&fake, "events"), |tap, (name, value)| tap.set(name, value.clone()));
        let run = tap.set("api_key", "phx_fake_query_only").run().ends(0);
        let schema = run.messages().into_iter().find(|message| message["type"] == "SCHEMA").unwrap();
        let fields = schema["schema"]["properties"].as_object().unwrap().keys();
        let names: Vec<String> = fields.filter_map(|name| Some(name.strip_prefix("properties_")?.to_owned())).collect();
        (names, run.stderr.contains("they have no columns in this run"), run.stderr)
    };
    let at = |age: i64| json!(Zone::Utc.rfc3339(now - age));
    let (names, warned, said) = columns([HOUR_MICROS / 60, 2 * HOUR_MICROS], &[("initial_since", at(30 * day))]);
    assert_eq!((names, warned), (vec!["newer".to_owned(), "older".to_owned()], false), "{said}");
    let (names, warned, said) = columns([9 * day, 70 * day], &[("initial_since", at(90 * day))]);
    assert_eq!((names, warned), (vec!["newer".to_owned()], false), "{said}");
    let past = [("initial_since", at(90 * day)), ("until", at(60 * day))];
    let (names, warned, said) = columns([9 * day, 70 * day], &past);
    assert_eq!((names, warned), (vec!["older".to_owned()], false), "{said}");
    let (names, warned, said) = columns([9 * day, 70 * day], &[("initial_since", at(day))]);
    assert_eq!((names, warned), (Vec::new(), true), "{said}");
}
