//! The names of the folders in the output directory: the target's own, and those made from names that strangers chose.
//!
//! A stream's folder has the stream's name, as far as file systems, buckets and readers take it: every other byte becomes
//! `@XX`. Not `%XX`: no reader of Delta tables opens a folder with a `%`, and polars none with a blank or a byte beyond
//! ASCII. Names that differ in case only are the same folder on many file systems, so the one that comes later gets
//! another name. Partitions have `%XX`, as Hive writes them. No name is hidden, leads out of the directory or breaks a shell.

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

/// The views of all streams, beside their folders.
pub const VIEWS: &str = "views.sql";

/// The folder that holds a version of the stream whose folder is `folder`.
pub fn held_folder(folder: &str, version: i64) -> String {
    format!("{HELD}/{folder}/{version}")
}

/// Longer names are cut; the rest becomes a hash.
const MAX_BYTES: usize = 120;

/// The folder of a stream, if no other has it.
pub fn stream_folder(stream: &str) -> String {
    let kept = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'+');
    // Spark, Hive and Athena see no folder that begins so, Windows keeps a few names for devices, and one file is ours.
    let is_odd_first = stream.starts_with(['_', '.']) || is_device(stream) || is_views(stream);
    let last = stream.len().saturating_sub(1);
    let mut at = 0..;
    let name = escaped(stream, '@', |b| {
        let at = at.next().unwrap_or_default();
        kept(b) && !(at == 0 && is_odd_first) && !(at == last && b == b'.')
    });
    match name.len() {
        0 => "@".to_owned(),
        1..=MAX_BYTES => name,
        _ => hashed(&name, stream),
    }
}

/// The folder of a stream where its name alone is that of another one. `@-` comes from no escape, so this is no third one's.
pub fn twin_folder(stream: &str) -> String {
    hashed(&stream_folder(stream), stream)
}

fn hashed(name: &str, stream: &str) -> String {
    let cut = name.get(..name.len().min(MAX_BYTES - 34)).unwrap_or_default();
    format!("{cut}@-{}", hash(stream))
}

/// The folder that earlier versions of this program gave a stream: where it is, there it stays.
pub fn earlier_folder(stream: &str) -> String {
    let mut name = escaped(stream, '%', |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if name.is_empty() {
        return "%".to_owned();
    }
    if name == stream && (stream == "_target" || is_device(stream)) {
        let first = stream.bytes().next().unwrap_or_default();
        name = format!("%{first:02X}{}", name.get(1..).unwrap_or_default());
    }
    if name.len() > MAX_BYTES {
        name = format!("{}-{}", name.get(..MAX_BYTES - 33).unwrap_or_default(), hash(stream));
    }
    name
}

/// How Hive writes null, and an empty text.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of a partition, `column=value`, as Hive and every reader of hive partitions knows it. `None` is null, which
/// shares a folder with the empty text alone.
pub fn partition_folder(column: &str, value: Option<&str>) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$' | b'@' | b'+' | b' ');
    let value = match value {
        None | Some("") => NULL.to_owned(),
        Some(NULL) => NULL.replacen('_', "%5F", 1),
        Some(value) => short_escaped(value, |b| plain(b) || b == b'.'),
    };
    let mut column = short_escaped(column, plain);
    if column.starts_with('_') {
        // pyarrow sees no folder that begins so.
        column.replace_range(..1, "%5F");
    }
    format!("{column}={value}")
}

fn escaped(text: &str, escape: char, mut plain: impl FnMut(u8) -> bool) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "{escape}{byte:02X}");
        }
        out
    })
}

/// Escaped with `%`; what is too long is cut between characters, so that it is text without the escapes, too.
fn short_escaped(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let name = escaped(text, '%', &plain);
    if name.len() <= MAX_BYTES {
        return name;
    }
    let mut cut = String::new();
    for char in text.chars() {
        let more = escaped(char.encode_utf8(&mut [0; 4]), '%', &plain);
        if cut.len() + more.len() > MAX_BYTES - 33 {
            break;
        }
        cut += &more;
    }
    format!("{cut}-{}", hash(text))
}

fn hash(text: &str) -> String {
    hex(Sha256::digest(text.as_bytes()).get(..16).unwrap_or_default())
}

/// The file of views stands among the folders, also while it is written.
fn is_views(stream: &str) -> bool {
    stream.get(..VIEWS.len()).is_some_and(|start| start.eq_ignore_ascii_case(VIEWS))
}

/// True for a name that Windows keeps for a device, whatever its case and its suffix.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = |prefix: &str| stem.strip_prefix(prefix).is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']));
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_would_do_harm() {
        for (stream, folder, earlier) in [
            ("events", "events", "events"),
            ("person_distinct_ids", "person_distinct_ids", "person_distinct_ids"),
            ("Account", "Account", "%41ccount"),
            ("public.users", "public.users", "public%2Eusers"),
            ("", "@", "%"),
            (".", "@2E", "%2E"),
            ("..", "@2E@2E", "%2E%2E"),
            ("../../etc", "@2E.@2F..@2Fetc", "%2E%2E%2F%2E%2E%2Fetc"),
            ("a.", "a@2E", "a%2E"),
            ("_a", "@5Fa", "_a"),
            ("a/b", "a@2Fb", "a%2Fb"),
            ("a=b", "a@3Db", "a%3Db"),
            ("a@2Fb", "a@402Fb", "a%402%46b"),
            ("a%2Fb", "a@252Fb", "a%252%46b"),
            ("Order Details", "Order@20Details", "%4Frder%20%44etails"),
            ("nul", "@6Eul", "%6Eul"),
            ("Views.sql.tmp", "@56iews.sql.tmp", "%56iews%2Esql%2Etmp"),
            ("Nul.x", "@4Eul.x", "%4Eul%2Ex"),
            ("com1", "@63om1", "%63om1"),
            ("nul.x", "@6Eul.x", "nul%2Ex"),
            ("_target", "@5Ftarget", "%5Ftarget"),
            ("a\0b\n", "a@00b@0A", "a%00b%0A"),
            ("é", "@C3@A9", "%C3%A9"),
        ] {
            assert_eq!((stream_folder(stream).as_str(), earlier_folder(stream).as_str()), (folder, earlier));
        }
        assert_eq!(twin_folder("Account"), "Account@-7e1b0d5641f2640ce9a953ec231eea2c");
        assert_eq!(stream_folder(&"x".repeat(120)), "x".repeat(120));
        let (long, longer) = (stream_folder(&"x".repeat(500)), stream_folder(&"x".repeat(501)));
        assert_eq!((long.len(), longer.len()), (120, 120));
        assert_ne!(long, longer);
        // A stream that has the name of another one's folder.
        assert_ne!(stream_folder(&long), long);
    }

    #[test]
    fn partitions() {
        assert_eq!(partition_folder("event", Some("$pageview")), "event=$pageview");
        assert_eq!(partition_folder("event", Some("../x=1")), "event=..%2Fx%3D1");
        assert_eq!(partition_folder("event", None), "event=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(partition_folder("event", Some("")), "event=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(partition_folder("event", Some(NULL)), "event=%5F_HIVE_DEFAULT_PARTITION__");
        assert_eq!(partition_folder("_id", Some("1")), "%5Fid=1");
        // pyarrow refuses a folder that is cut in the middle of a character.
        let cut = partition_folder("e", Some(&"é".repeat(200)));
        assert_eq!(cut.strip_prefix("e=").and_then(|cut| cut.split_once('-')).unwrap().0, "%C3%A9".repeat(14));
    }

    proptest! {
        #[test]
        fn different_names_have_different_folders(a in ".{0,20}", b in ".{0,20}") {
            let folders = |name: &str| [stream_folder(name), twin_folder(name)];
            prop_assert!(a == b || folders(&a).iter().all(|folder| !folders(&b).contains(folder)));
        }

        #[test]
        fn every_reader_opens_every_folder(name in "\\PC{1,200}") {
            for folder in [stream_folder(&name), twin_folder(&name)] {
                let kept = |b: u8| b.is_ascii_alphanumeric() || b"_-.$+@".contains(&b);
                prop_assert!(folder.len() <= MAX_BYTES && folder.bytes().all(kept), "{folder}");
                prop_assert!(!folder.starts_with(['_', '.']) && !folder.ends_with('.'), "{folder}");
            }
        }
    }
}
