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
