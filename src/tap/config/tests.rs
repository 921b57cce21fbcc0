use super::*;
use serde_json::json;

const NOW_US: i64 = 1_800_000_000_000_000;

fn from_texts(texts: &[&str]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let path = dir.path().join(format!("{i}.conf"));
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    load(&paths, NOW_US, &[])
}

fn with(extra: Value) -> Result<Config> {
    let mut all = json!({"api_key": "phx_config_test", "project_id": 7});
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    from_texts(&[&all.to_string()])
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = with(json!({})).unwrap();
    assert_eq!(config.connection.base.to_string(), "https://us.posthog.com");
    assert_eq!(config.connection.project_id, 7);
    assert_eq!(config.events.since, NOW_US - 30 * 86_400_000_000);
    assert!(config.events.since_is_default);
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
    assert_eq!(config.only_stream.as_deref(), Some("persons"));
    assert_eq!((config.events.since, config.events.since_is_default), (1_704_067_200_000_000, false));
}

#[test]
fn a_mapping_of_yaml_on_one_line_is_read() {
    let config = from_texts(&["{api_key: phx_config_test, project_id: 8} # by hand\n"]).unwrap();
    assert_eq!(config.connection.project_id, 8);
}

#[test]
fn the_environment_alone_is_enough() {
    let read = |name: &str| match name {
        "TAP_POSTHOG_API_KEY" => Some("phx_config_test".to_owned()),
        "TAP_POSTHOG_PROJECT_ID" => Some("7".to_owned()),
        _ => None,
    };
    let env = ["ENV".to_owned()];
    assert_eq!(load(&env, NOW_US, &[&read]).unwrap().connection.project_id, 7);
    assert!(load(&[], NOW_US, &[&read]).is_err(), "not asked for, not read");
    // Whichever name of the setting they use.
    let [file, process] = [("CUSTOM_BASE_URL", "file"), ("BASE_URL", "process")].map(|(setting, from)| {
        move |name: &str| (name == format!("TAP_POSTHOG_{setting}")).then(|| format!("https://{from}.example.com"))
    });
    let config = load(&env, NOW_US, &[&read, &file, &process]).unwrap();
    assert_eq!(config.connection.base.to_string(), "https://process.example.com");
}

#[test]
fn mistakes_are_refused_with_what_to_do_and_without_the_key() {
    let cases = [
        (with(json!({"api_key": "phc_projecttoken"})), "personal API key (phx_)"),
        (with(json!({"api_key": "phx_a b c d e"})), "not a key"),
        (with(json!({"region": "self_hosted"})), "custom_base_url is missing"),
        (with(json!({"region": "eu", "base_url": "https://ph.example.com"})), "contradicts region eu"),
        (with(json!({"base_url": "http://ph.example.com"})), "allow_insecure_http"),
        (with(json!({"start_date": "2024-01-02", "end_date": "2024-01-02"})), "not after initial_since"),
        (from_texts(&["{}"]), "api_key is missing"),
        (from_texts(&[r#"{"api_key": "phx_config_test"}"#]), "project_id is missing"),
        (from_texts(&[r#"{"api_key": "phx_config_test", "proj"#]), "is not valid JSON (line 1, column"),
        (from_texts(&["{api_key: phx_config_test, project_id: [8}"]), "is not valid JSON (line 1, column 2)"),
        (from_texts(&["api_key: [phx_config_test"]), "nor valid YAML"),
        (from_texts(&["- phx_config_test"]), "holds no settings"),
        (from_texts(&[" \n"]), "is empty"),
        (load(&["/does/not/exist.json".to_owned()], NOW_US, &[]), "/does/not/exist.json: No such file"),
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
