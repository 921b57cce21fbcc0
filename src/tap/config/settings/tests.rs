use super::*;
use serde_json::json;

fn read(value: Value) -> Result<Settings> {
    let mut raw = Raw::default();
    raw.overlay(value.as_object().unwrap().clone(), "c.json");
    raw.read()
}

fn complaint(value: Value) -> String {
    read(value).unwrap_err().to_string()
}

#[test]
fn defaults_fit_their_own_rows_and_names_are_unique() {
    let settings = read(json!({})).unwrap();
    for setting in SETTINGS {
        assert_eq!(settings.0.contains_key(setting.name), setting.default.is_some(), "{}", setting.name);
    }
    let mut names: Vec<_> = SETTINGS.iter().flat_map(|s| std::iter::once(&s.name).chain(s.aliases)).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn values_are_read_as_people_write_them() {
    let settings = read(json!({
        "project_id": "42", "page_size": 7, "flatten_properties": "No", "region": "SELF-hosted", "until": null,
        "start_date": "2024-05-01", "end_date": "2024-05-01T00:00:00.0000015+02:00", "event_types": ["a", "b", "a"],
    }))
    .unwrap();
    assert_eq!(settings.whole("project_id").unwrap(), 42);
    assert_eq!(settings.whole_if_given("page_size").unwrap(), Some(7));
    assert!(!settings.flag("flatten_properties").unwrap());
    assert_eq!(settings.word("region").unwrap(), "self_hosted");
    assert_eq!(settings.instant("initial_since").unwrap(), Some(1_714_521_600_000_000));
    assert_eq!(settings.instant("until").unwrap(), Some(1_714_514_400_000_001));
    assert_eq!(settings.names("event_types").unwrap(), ["a", "b"]);
    assert_eq!(settings.text("ca_file").unwrap(), None);
    assert_eq!(settings.text("page_size").unwrap_err().kind(), Kind::Internal);
}

#[test]
fn wrong_values_are_all_named_with_what_is_allowed() {
    let text = complaint(json!({"page_size": 0, "region": "mars", "count_proof": 3}));
    assert!(text.contains("setting page_size: 0 is not allowed; give a whole number from 1 to 50000; "), "{text}");
    assert!(text.contains("setting region: \"mars\" is not allowed; give one of us, eu, self_hosted"), "{text}");
    assert!(text.contains("setting count_proof: 3 "), "{text}");
    assert!(complaint(json!({"project_id": "@current"})).contains("Project ID"));
    for (name, value) in [
        ("initial_since", json!("yesterday")),
        ("initial_since", json!("1815-01-01")),
        ("event_types", json!(["a", " "])),
        ("event_types", json!("[1]")),
        ("deduplication_enabled", json!("maybe")),
        ("requests_per_hour", json!(-1)),
        ("page_size", json!(1.5)),
        ("api_key", json!("")),
    ] {
        assert!(complaint(json!({name: value})).starts_with(&format!("setting {name}: ")));
    }
}

#[test]
fn a_secret_is_not_in_its_complaint() {
    assert_eq!(
        complaint(json!({"proxy": ["hidden"]})),
        "setting proxy: this value is not allowed; give a text that is not empty"
    );
}

#[test]
fn a_connection_that_is_no_object_is_refused() {
    let text = complaint(json!({"resolved_connection": "phx_hidden", "page_size": 0}));
    assert!(text.starts_with("setting resolved_connection in c.json: this value is not allowed; give an object"));
    assert!(text.contains("; setting page_size: ") && !text.contains("phx_hidden"), "{text}");
    assert!(read(json!({"resolved_connection": null})).is_ok());
}

#[test]
fn the_environment_wins_over_files_and_plain_keys_over_nested_ones() {
    let mut raw = Raw::default();
    let file = json!({"resolved_connection": {"project_id": 1, "region": "eu"}, "project_id": 2, "page_size": 5});
    raw.overlay(file.as_object().unwrap().clone(), "a.json");
    raw.overlay(json!({"page_size": 6}).as_object().unwrap().clone(), "b.json");
    raw.overlay_environment(|name| match name {
        "TAP_POSTHOG_MAX_RESPONSE_MB" => Some("9".to_owned()),
        "TAP_POSTHOG_START_DATE" => Some("2024-01-01".to_owned()),
        "TAP_POSTHOG_EVENT_TYPES" => Some(r#"["x, y"]"#.to_owned()),
        "TAP_POSTHOG_REGION" => Some(String::new()),
        _ => None,
    });
    // An object in the environment wins over files, and plain variables over it.
    raw.overlay_environment(|name| match name {
        "TAP_POSTHOG_RESOLVED_CONNECTION" => Some(r#"{"page_size": 7, "until": "2030-01-01"}"#.to_owned()),
        "TAP_POSTHOG_PAGE_SIZE" => Some("6".to_owned()),
        _ => None,
    });
    let settings = raw.read().unwrap();
    assert!(settings.instant("until").unwrap().is_some());
    assert_eq!((settings.whole("project_id").unwrap(), settings.whole("page_size").unwrap()), (2, 6));
    assert_eq!((settings.whole("max_response_mb").unwrap(), settings.word("region").unwrap()), (9, "eu"));
    assert_eq!(settings.names("event_types").unwrap(), ["x, y"]);
    assert!(settings.instant("initial_since").unwrap().is_some());
}

#[test]
fn a_connection_in_the_environment_that_is_no_object_is_refused_without_its_text() {
    let mut raw = Raw::default();
    raw.overlay_environment(|name| name.ends_with("RESOLVED_CONNECTION").then(|| "phx_hidden".to_owned()));
    let text = raw.read().unwrap_err().to_string();
    assert!(text.contains("resolved_connection in the environment") && !text.contains("phx_hidden"), "{text}");
}

#[test]
fn a_misspelt_name_finds_its_neighbour() {
    assert_eq!(nearest::known_name("pagesize"), Some("page_size"));
    assert_eq!(nearest::known_name("API_KEY"), Some("api_key"));
    assert_eq!(nearest::known_name("lookback_minutes"), None);
    assert_eq!(nearest::known_name("stream_maps"), None);
}
