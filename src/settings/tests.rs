use super::form::{Form, Typed, choice, whole};
use super::*;
use crate::error::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) const TABLE: &Table = &Table {
    program: "a-program",
    description: "What it is",
    capabilities: &["about"],
    rows: &[
        row("key", "Key", Form::Text, "A key.").or(&["token"]).secret().required(),
        row("page_size", "Page size", whole(1, 50_000), "Rows.").or_auto(),
        row("region", "Region", choice(&["us", "self_hosted"]), "Place.").default("us"),
        row("since", "Start", Form::Instant, "Start.").or(&["start_date", "begin"]),
        row("until", "End", Form::Instant, "End."),
        row("names", "Names", Form::Names, "Names."),
        row("proof", "Proof", choice(&["strict", "off"]), "Proof.").default("strict"),
        row("flat", "Flat", Form::Flag, "Flat.").default("true"),
        row("age", "Age", Form::Number { least: 0.0, most: 10.5 }, "Age.").default("0.5"),
        row("file", "File", Form::Text, "A file."),
    ],
    nested: Some("connection"),
    secrets_begin_with: Some("phx_"),
};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn read(value: Value) -> Result<Values> {
    let mut given = Given::new(TABLE);
    given.overlay(object(value), &Place::File("c.json".to_owned()));
    given.read()
}

fn complaint(value: Value) -> String {
    let error = read(value).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    error.to_string()
}

fn variables(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// What holds for every table: defaults fit their own rows, names are unique, and each form of `--about` shows each of them.
pub(crate) fn is_sound(table: &'static Table) {
    let values = Given::new(table).read().unwrap();
    for row in table.rows {
        assert_eq!(values.0.contains_key(row.name), row.default.is_some(), "{}", row.name);
        assert!(!row.label.is_empty() && row.description.ends_with('.'), "{}", row.name);
    }
    let mut names: Vec<_> = table.rows.iter().flat_map(Setting::names).collect();
    for format in [about::Format::Text, about::Format::Json, about::Format::Markdown] {
        let text = about::about(table, format, "more at its end");
        names.iter().for_each(|name| assert!(text.contains(name), "{name} {format:?}"));
        assert_eq!(text.contains("more at its end"), matches!(format, about::Format::Markdown));
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_table_is_sound() {
    is_sound(TABLE);
}

#[test]
fn values_are_read_as_people_write_them() {
    let values = read(json!({
        "page_size": "42", "flat": "No", "region": "SELF-hosted", "until": null, "age": "7", "file": " a ",
        "start_date": "2024-05-01T00:00:00.0000015+02:00", "names": ["a", "b", "a"],
    }))
    .unwrap();
    assert_eq!(values.whole("page_size").unwrap(), 42);
    assert!(!values.flag("flat").unwrap());
    assert_eq!(values.word("region").unwrap(), "self_hosted");
    assert_eq!(values.instant("since").unwrap(), Some(1_714_514_400_000_001));
    assert_eq!(values.instant("until").unwrap(), None);
    assert_eq!(values.names("names").unwrap(), ["a", "b"]);
    assert_eq!((values.number("age").unwrap(), values.text("file").unwrap()), (7.0, Some("a")));
    assert_eq!(values.text("page_size").unwrap_err().kind(), Kind::Internal);
}

#[test]
fn flags_of_every_kind_are_read() {
    for (value, flag) in [
        (json!(true), true),
        (json!("On"), true),
        (json!("yes"), true),
        (json!(1), true),
        (json!("1"), true),
        (json!(false), false),
        (json!("off"), false),
        (json!("no"), false),
        (json!(0), false),
    ] {
        assert_eq!(read(json!({"flat": value})).unwrap().flag("flat").unwrap(), flag, "{value}");
    }
    assert!(complaint(json!({"flat": 2})).contains("give true or false"));
}

#[test]
fn dates_of_other_programs_are_read() {
    for text in [
        "2024-05-01",
        "2024-05-01T00:00:00Z",
        "2024-05-01 00:00:00",
        "2024-05-01T02:00:00+0200",
        "2024-05-01T02:00:00.000+0200",
        "2024-05-01T02:00:00+02:00",
        "2024-05-01 02:00:00+0200",
        "2024-05-01T00:00",
        "2024-05-01 00:00",
        "2024-05-01T00:00Z",
        "2024-05-01T02:00+0200",
    ] {
        let since = read(json!({"since": text})).unwrap().instant("since").unwrap();
        assert_eq!(since, Some(1_714_521_600_000_000), "{text}");
    }
    for text in ["yesterday", "1815-01-01", "2024-13-01", "2024-05-01T25:00", "24-05-01", "12:30", "20240501", ""] {
        assert!(complaint(json!({"since": text})).starts_with("setting since: "), "{text}");
    }
}

#[test]
fn a_list_is_an_array_or_its_text_or_names_with_commas() {
    for (value, names) in [
        (json!(["a, b"]), &["a, b"][..]),
        (json!(r#"["a, b", "c"]"#), &["a, b", "c"]),
        (json!("a, b,,c,"), &["a", "b", "c"]),
        (json!(" a"), &[" a"]),
        (json!(""), &[]),
    ] {
        assert_eq!(read(json!({"names": value})).unwrap().names("names").unwrap(), names, "{value}");
    }
    for value in [json!(["a", " "]), json!("[1]"), json!("[a, b]"), json!(7), json!({"a": 1})] {
        assert!(complaint(json!({"names": value})).starts_with("setting names: "));
    }
}

#[test]
fn wrong_values_are_all_named_with_what_is_allowed_and_where_they_stand() {
    let text = complaint(json!({"page_size": 0, "region": "mars", "proof": 3, "age": 11}));
    for part in [
        "setting page_size: 0 is not allowed; give a whole number from 1 to 50000 (in c.json); ",
        "setting region: \"mars\" is not allowed; give one of us, self_hosted (in c.json)",
        "setting proof: 3 ",
        "setting age: 11 is not allowed; give a number from 0 to 10.5",
    ] {
        assert!(text.contains(part), "{text}");
    }
    for (name, value) in [
        ("page_size", json!(-1)),
        ("page_size", json!(1.5)),
        ("page_size", json!("NaN")),
        ("age", json!("NaN")),
        ("age", json!("inf")),
        ("file", json!("")),
        ("file", json!("a\0b")),
        ("flat", json!("maybe")),
    ] {
        assert!(complaint(json!({name: value})).starts_with(&format!("setting {name}: ")));
    }
}

#[test]
fn a_setting_is_named_as_it_was_written() {
    assert!(complaint(json!({"start_date": "soon"})).starts_with("setting start_date: \"soon\" is not allowed"));
    let mut given = Given::new(TABLE);
    given.overlay_variables(variables(&[("A_PROGRAM_BEGIN", "soon")]), &Place::Environment);
    let text = given.read().unwrap_err().to_string();
    assert!(
        text.starts_with("setting begin: \"soon\" ") && text.ends_with(" (in the variable A_PROGRAM_BEGIN)"),
        "{text}"
    );
    let mut given = Given::new(TABLE);
    given.overlay_variables(variables(&[("A_PROGRAM_FLAT", "so")]), &Place::DotEnv("/x/.env".to_owned()));
    let text = given.read().unwrap_err().to_string();
    assert!(text.ends_with(" (in A_PROGRAM_FLAT of /x/.env)"), "{text}");
    let values = read(json!({"begin": "2024-01-01"})).unwrap();
    assert_eq!((values.name("since"), values.name("until")), ("begin", "until"));
    assert_eq!(values.refuse("since", "no").to_string(), "setting begin: no (in c.json)");
    assert_eq!(values.refuse("flat", "no").to_string(), "setting flat: no");
}

#[test]
fn a_secret_is_not_in_its_complaint_nor_in_that_of_another_setting() {
    assert_eq!(
        complaint(json!({"key": ["hidden"]})),
        "setting key: this value is not allowed; give a text that is not empty (in c.json)"
    );
    let swapped = complaint(json!({"page_size": "phx_hidden", "names": [["phx_hidden"]], "connection": "phx_hidden"}));
    assert!(swapped.contains("page_size") && !swapped.contains("hidden"), "{swapped}");
}

#[test]
fn a_nested_object_that_is_none_is_refused() {
    let text = complaint(json!({"connection": "phx_hidden", "page_size": 0}));
    assert!(text.starts_with("setting connection in c.json: this value is not allowed; give an object"));
    assert!(text.contains("; setting page_size: ") && !text.contains("phx_hidden"), "{text}");
    assert!(read(json!({"connection": null})).is_ok());
    let mut given = Given::new(TABLE);
    given.overlay_variables(variables(&[("A_PROGRAM_CONNECTION", "phx_hidden")]), &Place::Environment);
    let text = given.read().unwrap_err().to_string();
    assert!(text.contains("connection in the environment") && !text.contains("phx_hidden"), "{text}");
}

#[test]
fn later_places_win_and_plain_names_win_over_nested_ones() {
    let mut given = Given::new(TABLE);
    let file = |name: &str| Place::File(name.to_owned());
    let first = json!({"connection": {"age": 1, "region": "self_hosted"}, "age": 2, "page_size": 5});
    given.overlay(object(first), &file("a.json"));
    given.overlay(object(json!({"page_size": 6, "start_date": "2023-01-01", "age": null})), &file("b.json"));
    let dotenv = [
        ("A_PROGRAM_BEGIN", "2024-01-01"),
        ("A_PROGRAM_NAMES", r#"["x, y"]"#),
        ("A_PROGRAM_REGION", ""),
        ("A_PROGRAM_FILE", "file"),
        ("OTHER_FLAT", "maybe"),
    ];
    given.overlay_variables(variables(&dotenv), &Place::DotEnv(".env".to_owned()));
    // An object in the environment wins over files, and plain variables over it.
    let process = [
        ("A_PROGRAM_CONNECTION", r#"{"page_size": 7, "until": "2030-01-01"}"#),
        ("A_PROGRAM_PAGE_SIZE", "8"),
        ("A_PROGRAM_FILE", "process"),
    ];
    given.overlay_variables(variables(&process), &Place::Environment);
    let values = given.read().unwrap();
    assert_eq!((values.number("age").unwrap(), values.whole("page_size").unwrap()), (2.0, 8));
    assert_eq!((values.word("region").unwrap(), values.text("file").unwrap()), ("self_hosted", Some("process")));
    assert_eq!(values.names("names").unwrap(), ["x, y"]);
    assert_eq!(values.instant("since").unwrap(), Some(1_704_067_200_000_000));
    assert!(values.instant("until").unwrap().is_some());
}

#[test]
fn the_own_name_wins_over_other_names_and_the_first_of_these_over_the_rest() {
    let values = read(json!({"begin": "2024-01-03", "start_date": "2024-01-02", "since": "2024-01-01"})).unwrap();
    assert_eq!(values.name("since"), "since");
    let values = read(json!({"begin": "2024-01-03", "start_date": "2024-01-02", "since": null})).unwrap();
    assert_eq!(values.name("since"), "start_date");
}

#[test]
fn auto_is_as_if_not_given() {
    assert_eq!(read(json!({"page_size": "auto"})).unwrap().whole_if_given("page_size").unwrap(), None);
    assert!(complaint(json!({"age": "auto"})).contains("age"));
}

#[test]
fn an_unknown_setting_that_holds_an_address_is_refused() {
    for (name, value) in [("hst", "https://user:hidden@ph.example.com"), ("x", " HTTP://10.0.0.1:8000/hidden")] {
        let text = complaint(json!({name: value}));
        assert!(
            text.starts_with(&format!("setting {name}: it holds an address, and there is no such setting")),
            "{text}"
        );
        assert!(!text.contains("hidden"), "{text}");
    }
    assert!(complaint(json!({"fil": "http://a"})).contains("; did you mean file?"));
    assert!(read(json!({"x": "a text about http://a"})).is_ok());
    let mut given = Given::new(TABLE);
    let process = [("A_PROGRAM_HST", "http://a"), ("A_PROGRAM__EXTRA", "http://b"), ("A_PROGRAM_LOGLEVEL", "http://c")];
    given.overlay_variables(variables(&process), &Place::Environment);
    let text = given.read().unwrap_err().to_string();
    assert_eq!(text, "setting hst: it holds an address, and there is no such setting (in the environment)");
}

#[test]
fn a_misspelt_name_finds_its_neighbour() {
    for (key, name) in [
        ("pagesize", Some("page_size")),
        ("page-size", Some("page_size")),
        ("pgae_size", Some("page_size")),
        ("REGION", Some("region")),
        ("nmaes", Some("names")),
        ("look", None),
        ("stream_maps", None),
        ("", None),
        ("\u{1F600}", None),
    ] {
        assert_eq!(nearest::known_name(TABLE, key), name, "{key}");
    }
}

#[test]
fn a_row_is_printed_with_all_that_definitions_need() {
    let text = about::about(TABLE, about::Format::Json, "");
    let about: Value = serde_json::from_str(&text).unwrap();
    let properties = &about["settings"]["properties"];
    assert_eq!(about["settings"]["required"], json!(["key"]));
    let key = json!({
        "type": ["string", "null"], "title": "Key", "description": "A key.", "kind": "password", "aliases": ["token"],
        "secret": true, "writeOnly": true,
    });
    assert_eq!(properties["key"], key);
    let age = json!({
        "type": ["number", "null"], "minimum": 0.0, "maximum": 10.5, "title": "Age", "description": "Age.",
        "kind": "decimal", "default": 0.5,
    });
    assert_eq!(properties["age"], age);
    for (name, member, value) in [
        ("region", "enum", json!(["us", "self_hosted"])),
        ("region", "kind", json!("options")),
        ("page_size", "maximum", json!(50_000)),
        ("page_size", "kind", json!("integer")),
        ("flat", "default", json!(true)),
        ("flat", "kind", json!("boolean")),
        ("since", "format", json!("date-time")),
        ("since", "kind", json!("date_iso8601")),
        ("names", "items", json!({"type": "string"})),
        ("names", "kind", json!("array")),
        ("file", "kind", json!("string")),
    ] {
        assert_eq!(properties[name][member], value, "{name} {member}");
    }
}

#[test]
fn no_value_makes_a_form_panic() {
    let values = [
        json!(null),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(""),
        json!("-"),
        json!("9".repeat(400)),
        json!("é".repeat(400)),
        json!([[]]),
        json!({"a": {}}),
    ];
    for (row, value) in TABLE.rows.iter().flat_map(|row| values.iter().map(move |value| (row, value))) {
        let read = row.form.read(value);
        assert!(read.is_none() || matches!(read, Some(Typed::Text(_) | Typed::Names(_))), "{} {value}", row.name);
        drop(self::read(json!({row.name: value})));
    }
}
