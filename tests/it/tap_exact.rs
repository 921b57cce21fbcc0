//! Records say what PostHog says, to the letter; where they cannot, the value is kept aside, and that is counted and told.

use serde_json::{Value as Json, json};

use crate::fake::{Event, Fake, HOUR_MICROS};
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
