//! The names of the folders in the output directory: the target's own, and those made from names that strangers chose.
//!
//! Every byte outside `[a-z0-9_-]` becomes `%XX`, so two different names stay different on file systems that ignore
//! case or normalise Unicode, and no name can be hidden, leave the directory or break a shell.

use sha2::{Digest, Sha256};

use crate::fingerprint::hex;

/// Where files wait for their commit.
pub const STAGING: &str = "_target/staging";
/// Where the records of commits and their fingerprints are.
pub const COMMITS: &str = "_target/commits";
/// Where the columns of folders are kept.
pub const COLUMNS: &str = "_target/columns";
/// Where rows of versions wait that are not yet the visible ones.
pub const HELD: &str = "_target/held";

/// The folder that holds a version of the stream whose folder is `folder`.
pub fn held_folder(folder: &str, version: i64) -> String {
    format!("{HELD}/{folder}/{version}")
}

/// Longer names are cut; the rest becomes a hash.
const MAX_BYTES: usize = 120;

/// The folder of a stream.
pub fn stream_folder(stream: &str) -> String {
    let mut name = encoded(stream, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if name.is_empty() {
        return "%".to_owned();
    }
    if is_reserved(stream) {
        // Reserved names are plain ASCII: their first byte is encoded, too.
        let first = stream.bytes().next().unwrap_or_default();
        name = format!("%{first:02X}{}", name.get(1..).unwrap_or_default());
    }
    shortened(name, stream)
}

/// How Hive writes null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of a partition, `column=value`, as Hive and every reader of hive partitions knows it. `None` is null, which
/// no text has the folder of.
pub fn partition_folder(column: &str, value: Option<&str>) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$' | b'@' | b'+' | b' ');
    let value = match value {
        None => NULL.to_owned(),
        Some(NULL) => NULL.replacen('_', "%5F", 1),
        Some(value) => shortened(encoded(value, |b| plain(b) || b == b'.'), value),
    };
    format!("{}={value}", shortened(encoded(column, plain), column))
}

fn encoded(text: &str, plain: impl Fn(u8) -> bool) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn shortened(name: String, original: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name;
    }
    let cut: String = name.chars().take(MAX_BYTES - 33).collect();
    let hash = Sha256::digest(original.as_bytes());
    format!("{cut}-{}", hex(hash.get(..16).unwrap_or_default()))
}

/// The target's own folder, and names that Windows keeps for devices.
fn is_reserved(name: &str) -> bool {
    let device = |prefix: &str| name.strip_prefix(prefix).is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']));
    matches!(name, "_target" | "con" | "prn" | "aux" | "nul") || device("com") || device("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_would_do_harm() {
        for (stream, folder) in [
            ("events", "events"),
            ("person_distinct_ids", "person_distinct_ids"),
            ("", "%"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("../../etc", "%2E%2E%2F%2E%2E%2Fetc"),
            ("a/b", "a%2Fb"),
            ("Users", "%55sers"),
            ("a%2Fb", "a%252%46b"),
            ("nul", "%6Eul"),
            ("com1", "%63om1"),
            ("_target", "%5Ftarget"),
            ("a\0b\n", "a%00b%0A"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(stream_folder(stream), folder);
        }
        assert_eq!(stream_folder(&"x".repeat(500)).len(), 120);
        assert_ne!(stream_folder(&"x".repeat(500)), stream_folder(&"x".repeat(501)));
    }

    #[test]
    fn partitions() {
        assert_eq!(partition_folder("event", Some("$pageview")), "event=$pageview");
        assert_eq!(partition_folder("event", Some("../x=1")), "event=..%2Fx%3D1");
        assert_eq!(partition_folder("event", None), "event=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(partition_folder("event", Some("")), "event=");
        assert_eq!(partition_folder("event", Some(NULL)), "event=%5F_HIVE_DEFAULT_PARTITION__");
    }

    proptest! {
        #[test]
        fn different_names_have_different_folders(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(a == b, stream_folder(&a).to_lowercase() == stream_folder(&b).to_lowercase());
        }
    }
}
