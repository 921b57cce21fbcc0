//! Answers that are read, and answers that are refused.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn page(body: &str, columns: &[&str]) -> Result<Page, String> {
    Page::parse(body.as_bytes(), columns)
}

#[test]
fn cells_are_decoded_and_numbers_kept_as_written() {
    let body = r#" { "columns" : ["a","b","c","d"], "error":null, "is_cached":false,
        "results":[["{\"k\":\"v\\n\"}",18446744073709551615,null,true],["naïve \u00e9\ud83c\udf89",-1.50e+3,[1,"x]"],false]], "types":[] } "#;
    let page = page(body, &["a", "b", "c", "d"]).unwrap();
    assert_eq!(page.len(), 2);
    let row = page.row(0);
    assert_eq!(row.text(0), Some(r#"{"k":"v\n"}"#));
    assert_eq!(row.cell(1).u64(), Some(u64::MAX));
    assert_eq!((row.cell(2), row.cell(3)), (Cell::Null, Cell::Bool(true)));
    let row = page.row(1);
    assert_eq!(row.cell(0), Cell::Text { text: "naïve é🎉".as_bytes(), plain: true });
    assert_eq!(row.cell(1), Cell::Number(b"-1.50e+3"));
    assert_eq!(row.cell(2), Cell::Json(br#"[1,"x]"]"#));
    assert_eq!(page.row(2).cell(0), Cell::Null);
}

#[test]
fn results_may_come_first_and_types_last() {
    assert_eq!(page(r#"{"results":[],"columns":["a"],"types":[["a","String"]]}"#, &["a"]).unwrap().len(), 0);
}

#[test]
fn secrets_are_removed_before_a_text_is_cut_and_long_texts_are_cut() {
    let secret = "phx_half_of_it_would_still_be_told";
    crate::log::conceal(secret);
    for start in 301 - secret.len()..=300 {
        let text = format!("{}{secret}", "e".repeat(start));
        let told = page(&json!({"error": text}).to_string(), &["a"]).unwrap_err();
        assert!(!told.contains("phx_h") && told.len() < 400, "{start}: {told}");
        let body = json!({"columns": [text], "results": []});
        let told = page(&body.to_string(), &["a"]).unwrap_err();
        assert!(!told.contains("phx_h") && told.len() < 400, "{start}: {told}");
    }
    let columns: Vec<String> = (0..50_000).map(|n| format!("column {n}")).collect();
    let told = page(&json!({"columns": columns, "results": []}).to_string(), &["a"]).unwrap_err();
    assert!(told.contains("columns") && told.len() < 400, "{} bytes", told.len());
}

#[test]
fn answers_that_must_not_be_believed_are_refused() {
    let cases = [
        (r#"{"columns":["a"],"results":[["x"]],"error":"no"}"#, "error"),
        (r#"{"columns":["a"],"results":[["x"]],"is_cached":true}"#, "cache"),
        (r#"{"columns":["b"],"results":[["x"]]}"#, "columns"),
        (r#"{"columns":["a"],"results":[["x",1]]}"#, "cells"),
        (r#"{"columns":["a"],"results":[["x"]"#, "byte"),
        (r#"{"columns":["a"],"results":null}"#, "byte"),
        (r#"{"columns":["a"]}"#, "results"),
        (r#"{"results":[]}"#, "columns"),
        (r#"{"columns":["a"],"results":[]} x"#, "byte"),
        (r#"{"columns":["a"],"results":[["\ud8"]]}"#, "byte"),
        ("<html>", "byte"),
        ("", "byte"),
    ];
    for (body, reason) in cases {
        let error = page(body, &["a"]).unwrap_err();
        assert!(error.contains(reason), "{body}: {error}");
    }
    assert!(Page::parse(b"\xff", &["a"]).unwrap_err().contains("UTF-8"));
}

#[test]
fn no_prefix_of_a_body_is_believed() {
    let body = r#"{"columns":["a","b"],"results":[["x\"y",1],["",null]],"error":null,"n":[{"a":[]}]}"#;
    assert!(page(body, &["a", "b"]).is_ok());
    for end in (0..body.len()).filter(|end| body.is_char_boundary(*end)) {
        assert!(page(&body[..end], &["a", "b"]).is_err(), "{end}");
    }
}

fn cell() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[\"\\\\a-c\u{0}-\u{1f}é🎉]{0,40}",
        prop::collection::vec(any::<char>(), 0..64)
            .prop_map(|c| json!({"k": c.iter().collect::<String>()}).to_string())
    ];
    prop_oneof![
        text.prop_map(Value::from),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from)
    ]
}

proptest! {
    #[test]
    fn whatever_a_json_library_writes_is_read_back(rows in prop::collection::vec(prop::collection::vec(cell(), 3), 0..8), escape: bool) {
        let mut body = json!({"columns": ["a", "b", "c"], "results": rows}).to_string();
        if escape {
            body = body.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect() }).collect();
        }
        let page = page(&body, &["a", "b", "c"]).unwrap();
        prop_assert_eq!(page.len(), rows.len());
        for (row, expected) in page.rows().zip(&rows) {
            for (i, value) in expected.iter().enumerate() {
                let found = match row.cell(i) {
                    Cell::Null => Value::Null,
                    Cell::Bool(b) => b.into(),
                    Cell::Text { text, plain } => {
                        let text = std::str::from_utf8(text).unwrap();
                        prop_assert!(!plain || serde_json::to_string(text).unwrap() == format!("\"{text}\""), "{text:?}");
                        text.into()
                    }
                    Cell::Number(_) => row.cell(i).u64().unwrap().into(),
                    Cell::Json(_) => Value::from("nested"),
                };
                prop_assert_eq!(&found, value);
            }
        }
    }
}
