//! What the target remembers, in files that say which form they have and whether they are whole.
//!
//! Such a file is a JSON object with a member `form`; its last member is `checksum`, the BLAKE3 hash of everything in front of
//! that member. Members may be added without a new form where a program that does not know them may leave them alone; the
//! number goes up where it must not. Files of the first form have neither a form nor a checksum, and are read as they are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::fingerprint::hex;

/// The form that is written.
pub const FORM: u32 = 2;
/// What stands in front of the checksum.
const CHECKSUM: &[u8] = b",\"checksum\":\"";
/// The checksum's hex digits.
const DIGITS: usize = 32;

/// The form of a file that does not say any.
pub fn first_form() -> u32 {
    1
}

#[derive(Deserialize)]
struct Form {
    #[serde(default = "first_form")]
    form: u32,
}

/// A hash that a fault of a disk does not leave as it was.
pub fn checksum(bytes: &[u8]) -> String {
    hex(blake3::hash(bytes).as_bytes().get(..DIGITS / 2).unwrap_or_default())
}

/// The text of a file that holds `content`, an object with [`FORM`] in its member `form`.
pub fn text(content: &impl Serialize) -> Result<Vec<u8>> {
    let written = serde_json::to_vec(content);
    let mut text =
        written.map_err(|e| Error::new(Kind::Internal, format!("writing what is remembered failed: {e}")))?;
    text.pop();
    let sum = checksum(&text);
    text.extend_from_slice(CHECKSUM);
    text.extend_from_slice(sum.as_bytes());
    text.extend_from_slice(b"\"}");
    Ok(text)
}

/// The content of such a file, or why there is none.
pub fn content<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let text = text.trim_ascii_end();
    let Form { form } = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if form > FORM {
        return Err(format!(
            "it has form {form}, and this program knows forms up to {FORM}; written by a newer version?"
        ));
    }
    let sealed = text.len().checked_sub(CHECKSUM.len() + DIGITS + 2).and_then(|at| text.split_at_checked(at));
    let sealed = sealed.filter(|(_, end)| end.starts_with(CHECKSUM));
    let is_whole = match sealed {
        Some((front, end)) => end.get(CHECKSUM.len()..end.len() - 2) == Some(checksum(front).as_bytes()),
        None => form == first_form(),
    };
    if !is_whole {
        return Err("its checksum does not fit".to_owned());
    }
    serde_json::from_slice(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn no_byte_may_be_another() {
        let whole = text(&json!({"form": FORM, "a": [1, {"b": "x"}], "z": null})).unwrap();
        assert_eq!(content::<Value>(&whole).unwrap()["a"], json!([1, {"b": "x"}]));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(content::<Value>(&damaged).is_err(), "{at}: {}", String::from_utf8_lossy(&damaged));
            assert!(content::<Value>(&whole[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn the_first_form_is_read_and_a_newer_one_refused() {
        assert_eq!(content::<Value>(b"{\"a\":1}\n").unwrap(), json!({"a": 1}));
        for (other, why) in [("{\"form\":3}", "form 3"), ("{\"form\":2,\"a\":1}", "checksum"), ("", "EOF")] {
            let error = content::<Value>(other.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{other}: {error}");
        }
    }
}
