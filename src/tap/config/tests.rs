use super::*;
use serde_json::{Value, json};

const NOW_US: i64 = 1_800_000_000_000_000;

fn from_texts(texts: &[&str]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let file = |(i, text): (usize, &&str)| {
        let path = dir.path().join(format!("{i}.conf"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let files: Vec<PathBuf> = texts.iter().enumerate().map(file).collect();
    load(&files, NOW_US)
}

fn with(extra: Value) -> Result<Config> {
    let mut all = json!({"api_key": "phx_config_test", "project_id": 7});
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Config::of(&all, NOW_US)
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = with(json!({})).unwrap();
    assert_eq!(config.connection.base.to_string(), "https://us.posthog.com");
    assert_eq!(config.connection.project_id, 7);
    assert_eq!(config.events.since, NOW_US - 30 * 86_400_000_000);
    assert!(config.events.since_is_default);
    let said = settings::TABLE.row("initial_since").unwrap().description;
    assert!(said.contains(&format!("{DEFAULT_DAYS} days")), "{said}");
    assert_eq!(config.events.lookback_us, 900_000_000);
    assert_eq!((config.events.late_arrival_days, config.events.page_size), (7, None));
    assert_eq!(config.events.max_response_bytes, 48_000_000);
    assert_eq!((config.properties.flatten, config.properties.max_columns), (true, 1000));
    assert_eq!((config.events.count_proof, config.events.person_ids), (CountProof::Strict, PersonIds::Event));
    assert!(!format!("{config:?}").contains("phx_config_test"));
}

#[test]
fn yaml_and_the_nested_form_and_later_files_are_read() {
    let config = from_texts(&[
        "# seed form\nresolved_connection:\n  api_key: phx_config_test\n  project_id: '8'\n  region: eu\ndata_type: persons\ninitial_since: 2024-01-01\n",
        r#"{"page_size": 100, "project_id": 9}"#,
    ])
    .unwrap();
    assert_eq!((config.connection.project_id, config.events.page_size), (9, Some(100)));
    assert_eq!(config.connection.base.to_string(), "https://eu.posthog.com");
    let named = |names: &[&str], setting: &str| Streams::Named {
        names: names.iter().copied().map(str::to_owned).collect(),
        setting: setting.to_owned(),
    };
    assert_eq!(config.streams, named(&["persons"], "data_type"));
    assert_eq!((config.events.since, config.events.since_is_default), (1_704_067_200_000_000, false));
}

#[test]
fn mistakes_are_refused_with_what_to_do_and_without_the_key() {
    let cases = [
        (with(json!({"api_key": "phc_projecttoken"})), "personal API key (phx_)"),
        (with(json!({"api_key": "phx_a b c d e"})), "not a key"),
        (with(json!({"region": "self_hosted"})), "custom_base_url is missing"),
        (with(json!({"region": "eu", "base_url": "https://ph.example.com"})), "contradicts region eu"),
        (with(json!({"base_url": "http://ph.example.com"})), "allow_insecure_http"),
        (
            with(json!({"start_date": "2024-01-02", "end_date": "2024-01-02"})),
            "setting end_date: it is not after start_date",
        ),
        (with(json!({"until": "2015-01-01"})), "setting until: it is not after initial_since"),
        (with(json!({"host": "posthog.example.com"})), "setting host: the address"),
        (from_texts(&["{}"]), "api_key is missing"),
        (from_texts(&[r#"{"api_key": "phx_config_test"}"#]), "project_id is missing"),
    ];
    for (result, part) in cases {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(!error.to_string().contains("phx_config_test"), "{error}");
        assert_eq!(error.kind(), Kind::Config);
    }
}

#[test]
fn an_own_address_needs_no_region() {
    let config = with(json!({"api_url": "https://ph.example.com/sub/"})).unwrap();
    assert_eq!(config.connection.base.to_string(), "https://ph.example.com/sub");
    assert!(with(json!({"base_url": "http://ph.internal", "allow_insecure_http": "true"})).is_ok());
}

#[test]
fn the_names_of_other_programs_are_understood() {
    for name in ["base_url", "api_url", "host", "api_host", "posthog_host", "url"] {
        let config = from_texts(&[&format!(
            "personal_api_key: phx_config_test\nproject_id: 7\n{name}: https://ph.example.com\n"
        )]);
        assert_eq!(config.unwrap().connection.base.to_string(), "https://ph.example.com", "{name}");
    }
}

#[test]
fn an_error_about_the_key_is_known_under_each_of_its_names() {
    for name in ["api_key", "personal_api_key"] {
        for key in [json!("phc_projecttoken"), json!("phx_a b c d e"), json!(7)] {
            let error = Config::of(&json!({name: key, "project_id": 7}), NOW_US).unwrap_err();
            assert_eq!(error.setting(), Some("api_key"), "{error}");
        }
    }
    assert_eq!(Config::of(&json!({"project_id": 0}), NOW_US).unwrap_err().setting(), Some("project_id"));
}

#[test]
fn the_table_is_sound() {
    crate::settings::tests::is_sound(settings::TABLE);
}

#[test]
fn streams_are_chosen_by_name_all_at_once_or_one_of_them() {
    let of = |settings: Value| {
        let mut all = json!({"api_key": "phx_config_test", "project_id": 7});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        Config::of(&all, NOW_US).map(|config| config.streams).map_err(|error| error.to_string())
    };
    let named = |names: &[&str]| Streams::Named {
        names: names.iter().copied().map(str::to_owned).collect(),
        setting: "streams".to_owned(),
    };
    assert_eq!(of(json!({})), Ok(Streams::ByDefault));
    assert_eq!(of(json!({"streams": ["events", "persons"]})), Ok(named(&["events", "persons"])));
    assert_eq!(of(json!({"streams": "events, persons"})), Ok(named(&["events", "persons"])));
    assert_eq!(of(json!({"streams": ["*"]})), Ok(Streams::All));
    assert_eq!(of(json!({"streams": "*"})), Ok(Streams::All));
    assert!(of(json!({"streams": []})).unwrap_err().contains("the list is empty"));
    assert!(of(json!({"streams": ["events"], "data_type": "persons"})).unwrap_err().contains("data_type"));
}
