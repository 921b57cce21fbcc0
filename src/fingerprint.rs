//! Hashes of JSON values that do not depend on the order of keys: the catalog's fingerprint, and the hash of the filters in
//! the state. Hashes in hex.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// `sha256:` and 64 hex digits over the canonical form of `value` (keys sorted at every level, no white space).
pub fn of(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    named(&Sha256::digest(text.as_bytes()))
}

/// `sha256:` and a hash in hex digits.
pub fn named(hash: &[u8]) -> String {
    format!("sha256:{}", hex(hash))
}

/// Two hex digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_of_keys_does_not_matter_and_values_do() {
        let a = of(&json!({"a": 1, "b": [{"x": null, "y": "é"}]}));
        let b: Value = serde_json::from_str(r#"{"b": [{"y": "é", "x": null}], "a": 1}"#).unwrap();
        assert_eq!(a, of(&b));
        assert_ne!(a, of(&json!({"a": 2, "b": [{"x": null, "y": "é"}]})));
        assert!(a.starts_with("sha256:") && a.len() == 71, "{a}");
    }

    #[test]
    fn the_empty_object_has_the_published_hash_of_two_braces() {
        assert_eq!(of(&json!({})), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }
}
