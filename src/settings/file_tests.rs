use std::path::PathBuf;

use super::tests::TABLE;
use super::{Values, load};
use crate::error::{Kind, Result};

fn from_file(text: &str) -> Result<Values> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings");
    std::fs::write(&path, text).unwrap();
    load(TABLE, &[path])
}

#[test]
fn yaml_that_looks_like_another_type_keeps_its_text() {
    // What YAML 1.1 made of these: true, false, a time of day, octal 8, a number without its underscores, a date.
    let values =
        from_file("flat: no\nfile: 12:30:45\npage_size: 010\nregion: us\nproof: off\nstart_date: 2024-01-01\n")
            .unwrap();
    assert!(!values.flag("flat").unwrap());
    assert_eq!((values.text("file").unwrap(), values.whole("page_size").unwrap()), (Some("12:30:45"), 10));
    assert_eq!((values.word("proof").unwrap(), values.instant("since").unwrap()), ("off", Some(1_704_067_200_000_000)));
    for text in ["yes", "NO", "on", "y", "1_000", "007", "2024-01-01"] {
        let values = from_file(&format!("file: {text}")).unwrap();
        assert_eq!(values.text("file").unwrap(), Some(text));
    }
    assert_eq!(from_file("names: [no, on, 2024-01-01]").unwrap().names("names").unwrap(), ["no", "on", "2024-01-01"]);
    assert_eq!(from_file("file: ~\nage: null\n").unwrap().text("file").unwrap(), None);
    for text in ["names: [1, 2]", "page_size: 1_000", "page_size: .inf", "age: .nan", "file: true", "file: 1.50"] {
        let name = text.split(':').next().unwrap();
        let error = from_file(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("setting {name}: ")), "{error}");
    }
}

#[test]
fn forms_of_yaml_and_json_are_read() {
    for text in [
        "\u{feff}page_size: 7\n",
        "# by hand\n---\npage_size: 7\n",
        "{page_size: 7} # by hand",
        "page_size: &a 7\nage: *a\n",
        "connection: &c\n  page_size: 7\n",
        "base: &b {page_size: 7}\n<<: *b\n",
        "\u{feff}{\"page_size\": 7}",
        "\"page_size\": '7'\r\n",
    ] {
        assert_eq!(from_file(text).unwrap().whole("page_size").unwrap(), 7, "{text}");
    }
}

#[test]
fn yaml_that_would_grow_or_hide_something_is_refused_at_once() {
    let laughs: String = (1..9).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let before = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{before}]\n")
    });
    let deep_blocks: String = (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let started = std::time::Instant::now();
    for (what, text) in [
        ("a billion laughs", laughs),
        ("deep lists", format!("names: {}", "[".repeat(100_000))),
        ("closed deep lists", format!("names: {}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("deep JSON", format!("{{\"names\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000))),
        ("deep blocks", deep_blocks),
        ("deep dashes", "- ".repeat(100_000)),
        ("an alias of itself", "a: &a [*a]".to_owned()),
        ("an unknown alias", "file: *nobody".to_owned()),
        ("many nodes", format!("names: [{}]", "a,".repeat(200_000))),
        ("two documents", "file: a\n---\nfile: b\n".to_owned()),
        ("a tag", "key: !secret name\n".to_owned()),
        ("a tab", "connection:\n\tfile: a\n".to_owned()),
        ("a NUL", "file: a\0b\n".to_owned()),
    ] {
        let error = from_file(&text).unwrap_err().to_string();
        assert!(error.starts_with("settings file ") && error.len() < 200, "{what}: {error}");
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_setting_given_twice_in_yaml_is_refused_by_its_place() {
    let error = from_file("key: hidden\nfile: a\nfile: b\n").unwrap_err().to_string();
    assert!(error.ends_with("gives a setting twice (line 3, column 1)"), "{error}");
}

#[test]
fn files_that_hold_no_settings_are_refused_without_their_text() {
    let long = format!("file: {}", "a".repeat(2 << 20));
    for (text, part) in [
        ("", "is empty"),
        (" \n", "is empty"),
        ("{\"key\": \"hidden\", \"pa", "is not valid JSON (line 1, column"),
        ("{key: hidden, page_size: [8}", "is not valid JSON (line 1, column 2)"),
        ("key: [hidden", "is neither a JSON object nor valid YAML (line 1"),
        ("- hidden", "holds no settings; write an object like {\"key\": \"...\"}"),
        ("hidden", "holds no settings"),
        ("\"hidden\"", "holds no settings"),
        (&long, "larger than 1 MB"),
    ] {
        let error = from_file(text).unwrap_err();
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(!error.to_string().contains("hidden") && error.kind() == Kind::Config, "{error}");
    }
    let error = load(TABLE, &[PathBuf::from("/does/not/exist.json")]).unwrap_err().to_string();
    assert!(error.contains("/does/not/exist.json: No such file"), "{error}");
}
