use super::*;

fn catalog(streams: Value) -> Catalog {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.json");
    std::fs::write(&path, json!({"streams": streams}).to_string()).unwrap();
    Catalog::read(&path).unwrap()
}

fn stream(metadata: Value) -> Value {
    json!({"tap_stream_id": "s", "stream": "s", "key_properties": ["id"], "metadata": metadata,
        "schema": {"type": "object", "required": ["id", "b"], "properties": {"id": {}, "a": {}, "b": {}, "c": {}}}})
}

fn fields(metadata: Value) -> Vec<String> {
    let selected = catalog(json!([stream(metadata)])).selected().unwrap();
    selected[0].schema["properties"].as_object().unwrap().keys().cloned().collect()
}

fn is_selected(metadata: Value) -> bool {
    !catalog(json!([stream(metadata)])).selected().unwrap().is_empty()
}

#[test]
fn a_stream_is_selected_by_the_rules_in_their_order() {
    let root = |entry: Value| json!([{"breadcrumb": [], "metadata": entry}]);
    assert!(is_selected(json!([])), "no metadata at all");
    assert!(!is_selected(root(json!({}))), "metadata that says nothing");
    assert!(is_selected(root(json!({"selected-by-default": true}))));
    assert!(!is_selected(root(json!({"selected": false, "selected-by-default": true}))));
    assert!(is_selected(root(json!({"selected": "true", "selected_by_default": false}))));
    assert!(!is_selected(root(json!({"inclusion": "unsupported", "selected": true}))));
    assert!(is_selected(root(json!({"inclusion": "automatic", "selected": false}))));
    let mut on_stream = stream(root(json!({"selected-by-default": false})));
    on_stream["selected"] = json!(true);
    assert_eq!(catalog(json!([on_stream])).selected().unwrap().len(), 1);
}

#[test]
fn deselected_fields_vanish_and_keys_stay() {
    let with = |fields: &[(&str, Value)]| {
        let mut entries = vec![json!({"breadcrumb": [], "metadata": {"selected": true}})];
        entries.extend(fields.iter().map(|(f, m)| json!({"breadcrumb": ["properties", f], "metadata": m})));
        Value::Array(entries)
    };
    assert_eq!(fields(with(&[])), ["id", "a", "b", "c"]);
    assert_eq!(
        fields(with(&[("a", json!({"selected": false})), ("id", json!({"selected": "false"}))])),
        ["id", "b", "c"]
    );
    assert_eq!(fields(with(&[("b", json!({"selected-by-default": false}))])), ["id", "a", "c"]);
    assert_eq!(fields(with(&[("b", json!({"selected-by-default": false, "selected": true}))])), ["id", "a", "b", "c"]);
    assert_eq!(fields(with(&[("c", json!({"inclusion": "unsupported", "selected": true}))])), ["id", "a", "b"]);
    assert_eq!(fields(with(&[("c", json!({"inclusion": "automatic", "selected": false}))])), ["id", "a", "b", "c"]);
    let selected = catalog(json!([stream(with(&[("b", json!({"selected": false}))]))])).selected().unwrap();
    assert_eq!(selected[0].schema["required"], json!(["id"]));
}

#[test]
fn what_the_user_chose_in_the_metadata_wins_over_the_stream() {
    let mut given =
        stream(json!([{"breadcrumb": [], "metadata": {"selected": true, "replication-method": "full_table",
        "replication-key": "b", "table-key-properties": ["a"]}}]));
    given["replication_method"] = json!("INCREMENTAL");
    let selected = catalog(json!([given])).selected().unwrap().remove(0);
    assert_eq!(selected.replication_method, Some(Method::FullTable));
    assert_eq!((selected.replication_key.as_deref(), selected.key_properties), (Some("b"), vec!["a".to_owned()]));
    let wrong = stream(json!([{"breadcrumb": [], "metadata": {"selected": true, "replication-method": "DAILY"}}]));
    assert_eq!(catalog(json!([wrong])).selected().unwrap_err().kind(), Kind::Config);
    let other = stream(json!([{"breadcrumb": [], "metadata": {"selected": true, "replication-method": "LOG_BASED"}}]));
    assert_eq!(catalog(json!([other])).selected().unwrap()[0].replication_method, None);
    let forced =
        json!({"selected": true, "forced-replication-method": "INCREMENTAL", "replication-method": "FULL_TABLE"});
    let forced = stream(json!([{"breadcrumb": [], "metadata": forced}]));
    assert_eq!(catalog(json!([forced])).selected().unwrap()[0].replication_method, Some(Method::Incremental));
    let wrong =
        stream(json!([{"breadcrumb": [], "metadata": {"selected": true, "table-key-properties": ["nothing"]}}]));
    assert!(catalog(json!([wrong])).selected().unwrap_err().to_string().contains("nothing"));
}

#[test]
fn of_two_entries_for_one_breadcrumb_the_last_counts() {
    let entry =
        |breadcrumb: Value, selected: bool| json!({"breadcrumb": breadcrumb, "metadata": {"selected": selected}});
    let twice = |breadcrumb: Value, last: bool| {
        json!([entry(json!([]), true), entry(breadcrumb.clone(), !last), entry(breadcrumb, last)])
    };
    assert!(is_selected(twice(json!([]), true)) && !is_selected(twice(json!([]), false)));
    assert_eq!(fields(twice(json!(["properties", "a"]), false)), ["id", "b", "c"]);
    assert_eq!(fields(twice(json!(["properties", "a"]), true)), ["id", "a", "b", "c"]);
    let nested =
        |last| catalog(json!([stream(twice(json!(["properties", "a", "properties", "x"]), last))])).selected().unwrap();
    assert_eq!(nested(false)[0].nested_off, [["a", "x"]]);
    assert!(nested(true)[0].nested_off.is_empty());
}

#[test]
fn what_a_schema_deselects_is_not_read() {
    let with = |metadata: Value, change: &dyn Fn(&mut Value)| {
        let mut given = stream(metadata);
        change(&mut given["schema"]);
        catalog(json!([given])).selected().unwrap()
    };
    let chosen = |root: Value| json!([{"breadcrumb": [], "metadata": root}]);
    let off = |schema: &mut Value| schema["selected"] = json!(false);
    assert!(with(json!([]), &off).is_empty());
    assert!(with(chosen(json!({"selected-by-default": true})), &off).is_empty());
    assert_eq!(with(chosen(json!({"selected": true})), &off).len(), 1, "the metadata win");
    let fields_off = |schema: &mut Value| {
        for field in ["id", "a"] {
            schema["properties"][field]["selected"] = json!(false);
        }
        schema["properties"]["c"] =
            json!({"items": {"properties": {"x": {"selected": "false"}, "y": {"selected": true}}}});
    };
    for metadata in [json!([]), chosen(json!({"selected": true}))] {
        let selected = with(metadata, &fields_off).remove(0);
        let names: Vec<&String> = selected.schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["id", "b", "c"]);
        assert_eq!(selected.nested_off, [["c", "x"]]);
        assert!(selected.schema["properties"]["c"]["items"]["properties"].get("y").is_some());
    }
    let by_default = json!([{"breadcrumb": ["properties", "a"], "metadata": {"selected-by-default": true}},
        {"breadcrumb": [], "metadata": {"selected": true}}]);
    assert!(with(by_default, &fields_off)[0].schema["properties"].get("a").is_none());
    let wanted = json!([{"breadcrumb": ["properties", "a"], "metadata": {"selected": true}},
        {"breadcrumb": ["properties", "c", "items", "properties", "x"], "metadata": {"selected": true}},
        {"breadcrumb": [], "metadata": {"selected": true}}]);
    let selected = with(wanted, &fields_off).remove(0);
    assert!(selected.schema["properties"].get("a").is_some() && selected.nested_off.is_empty());
}

#[test]
fn two_streams_of_one_name_are_refused() {
    let named = |id: &str, name: &str| {
        let mut named = stream(json!([]));
        (named["tap_stream_id"], named["stream"], named["selected"]) = (json!(id), json!(name), json!(true));
        named
    };
    let error = catalog(json!([named("a", "same"), named("b", "same")])).selected().unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("the streams a and b have one name"), "{error}");
    assert_eq!(catalog(json!([named("a", "b"), named("b", "a")])).selected().unwrap().len(), 2);
}

#[test]
fn a_stream_that_is_selected_twice_is_refused() {
    let root = |selected: bool| json!([{"breadcrumb": [], "metadata": {"selected": selected}}]);
    let mut copy = stream(root(true));
    copy["stream"] = json!("copy");
    let error = catalog(json!([stream(root(true)), copy.clone()])).selected().unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("the stream s stands there twice"), "{error}");
    assert_eq!(catalog(json!([stream(root(false)), copy])).selected().unwrap()[0].name, "copy");
}

#[test]
fn broken_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.json");
    for text in ["", "{\"streams\": [", "[]", "{}", "{\"streams\": [{}]}", "{\"streams\": [{\"stream\": \"a\"}]}"] {
        std::fs::write(&path, text).unwrap();
        let error = Catalog::read(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("catalog.json"), "{error}");
    }
    assert!(Catalog::read(Path::new("/nonexistent/catalog")).is_err());
}

fn entry(name: &str, fields: &[&str]) -> StreamEntry {
    let properties: Map<String, Value> = fields.iter().map(|f| ((*f).to_owned(), json!({"type": "string"}))).collect();
    StreamEntry {
        name: name.to_owned(),
        schema: json!({"type": "object", "properties": properties}),
        key_properties: vec!["id".to_owned()],
        method: Method::FullTable,
        replication_key: None,
        valid_replication_keys: Vec::new(),
        method_is_choice: false,
        selected_by_default: true,
        fields_off: vec!["heavy".to_owned()],
    }
}

#[test]
fn a_discovered_catalog_selects_its_defaults_and_differs_only_in_its_time() {
    let streams = [entry("a", &["id", "heavy", "x"])];
    let [one, two] = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"].map(|at| Catalog::discovered(&streams, Some(at)));
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert!(one.fingerprint().unwrap().starts_with("sha256:"));
    let selected = one.selected().unwrap();
    let names: Vec<&String> = selected[0].schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["id", "x"]);
    assert_eq!(selected[0].replication_method, Some(Method::FullTable));
    assert_eq!(one.only(&["a"]).unwrap().selected().unwrap().len(), 1);
    assert!(one.only(&["b"]).is_none());
}

#[test]
fn changes_name_streams_and_fields() {
    let given = Catalog::discovered(&[entry("a", &["id", "x"]), entry("gone", &["id"])], None);
    let mut other = entry("a", &["id", "x", "y"]);
    other.schema["properties"]["x"] = json!({"type": "number"});
    let fresh = Catalog::discovered(&[other, entry("b", &["id"])], None);
    let expected = ["a: 1 new (y), 1 of another type (x)", "gone cannot be read any more", "b is new"];
    assert_eq!(given.changes(&fresh, |_, _| true), expected);
    assert!(given.changes(&given, |_, _| true).is_empty());
}
