use super::*;
use crate::singer::catalog::{Method, SelectedStream};

#[test]
fn rows_are_sorted_and_their_keys_are_fields() {
    assert!(STREAMS.is_sorted_by_key(|stream| stream.name));
    for stream in STREAMS {
        let mut entry = stream.entry().unwrap();
        let fields = fields(&mut entry.schema).unwrap().clone();
        let named = [stream.keys, stream.replication_keys, stream.fields_off].concat();
        for field in named {
            assert!(fields.contains_key(field), "{}.{field}", stream.name);
        }
        for key in stream.keys {
            assert!(fields[*key]["type"].is_string(), "{}.{key} may not be null", stream.name);
        }
        assert!(!stream.schema.contains("enum"), "values of services grow");
    }
}

#[test]
fn every_schema_belongs_to_a_row() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, STREAMS.iter().map(|stream| stream.name).collect::<Vec<_>>());
    assert_eq!(STREAMS.iter().filter(|stream| stream.defines_properties && stream.is_list()).count(), 1);
}

#[test]
fn properties_of_a_row_are_fields() {
    for stream in STREAMS {
        let mut schema = stream.entry().unwrap().schema;
        let fields = fields(&mut schema).unwrap();
        assert!(stream.properties.iter().all(|object| fields.contains_key(object.field)), "{}", stream.name);
    }
}

#[test]
fn the_streams_of_the_seed_are_on() {
    let on: Vec<&str> = STREAMS.iter().filter(|s| s.selected_by_default).map(|s| s.name).collect();
    assert_eq!(on, ["cohorts", "events", "feature_flags", "persons"]);
    assert!(find("nothing").unwrap_err().to_string().contains("cohort_people, cohorts"));
}

#[test]
fn choices_are_resolved_or_refused() {
    let chosen = |name: &str, method, key: Option<&str>| {
        let row = find(name).unwrap();
        let mut stream = SelectedStream {
            id: name.to_owned(),
            name: name.to_owned(),
            schema: row.entry().unwrap().schema,
            key_properties: Vec::new(),
            replication_key: key.map(str::to_owned),
            replication_method: method,
            fields_off: Vec::new(),
            nested_off: Vec::new(),
            source: None,
        };
        row.resolve(&mut stream).map(|()| (stream.replication_method.unwrap(), stream.replication_key))
    };
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(chosen("events", None, None).unwrap(), (Method::Incremental, key("created_at")));
    assert_eq!(chosen("events", None, Some("timestamp")).unwrap().1, key("timestamp"));
    assert_eq!(chosen("events", Some(Method::FullTable), None).unwrap(), (Method::Incremental, key("created_at")));
    assert!(chosen("events", None, Some("event")).is_err());
    assert_eq!(chosen("annotations", Some(Method::FullTable), Some("x")).unwrap(), (Method::FullTable, None));
    assert_eq!(chosen("persons", Some(Method::Incremental), None).unwrap().1, key("last_seen_at"));
    assert_eq!(chosen("cohorts", Some(Method::Incremental), None).unwrap(), (Method::FullTable, None));
}

#[test]
fn a_projects_schema_has_no_secret() {
    let project = find("projects").unwrap();
    assert!(!["token", "secret", "webhook"].iter().any(|word| project.schema.contains(word)));
}
