//! Items of lists as records. A value is passed on as PostHog wrote it, to the last digit; only white space between its parts
//! is left out.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::cell::{write_label, write_on_one_line};

/// The field of what has no field of its own, as events have one for properties.
pub const UNMAPPED: &str = "unmapped_fields";

/// An item: its members as they were written.
pub type Item<'a> = IndexMap<String, &'a RawValue>;

/// Writes a record: its members, and in an object what has no field.
pub fn write_record(members: &Item<'_>, unmapped: &Item<'_>, out: &mut Vec<u8>) {
    write_members(members, out);
    if unmapped.is_empty() {
        return;
    }
    // Behind the last member: the object has its keys, so it is not empty.
    out.pop();
    out.push(b',');
    write_label(UNMAPPED, out);
    write_members(unmapped, out);
    out.push(b'}');
}

fn write_members(members: &Item<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    for (name, value) in members {
        if out.len() > start {
            out.push(b',');
        }
        write_label(name, out);
        write_on_one_line(value.get().as_bytes(), out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(item: &str) -> String {
        let mut out = Vec::new();
        write_record(&serde_json::from_str(item).unwrap(), &Item::new(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_texts_stay_as_they_were_written_when_line_breaks_go() {
        let item =
            "{\"id\": 1, \"a\": [\n  1.50, 1e400,\r\n\t123456789012345678901234567890, \"x \\\" \\\\\" , \" y\\n\"\n]}";
        let expected = r#"{"id":1,"a":[1.50,1e400,123456789012345678901234567890,"x \" \\"," y\n"]}"#;
        assert_eq!(written(item), expected);
    }
}
