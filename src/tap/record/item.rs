//! Items of lists as records. A value is passed on as PostHog wrote it, to the last digit; only white space between its parts
//! is left out.

use indexmap::IndexMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::cell::{write_label, write_on_one_line};
use super::fits::{as_text, fits_schema, is_text};

/// The field of what has no field of its own, as events have one for properties.
pub const UNMAPPED: &str = "unmapped_fields";

/// An item: its members as they were written.
pub type Item<'a> = IndexMap<String, &'a RawValue>;

/// The fields of a record, and what becomes of the members of an item.
#[derive(Debug)]
pub struct ItemProjection<'a> {
    /// The selected fields.
    pub fields: &'a Value,
    /// Every field that the stream is known to have, selected or not.
    pub known: Map<String, Value>,
    /// Members that are never kept aside.
    pub left_out: &'a [&'a str],
    /// The items also hold secrets: only what is known is passed on, whatever a catalog says.
    pub is_secretive: bool,
}

/// Where a member of an item goes.
enum Place {
    /// Into its own field.
    Field,
    /// Into the object of what has no field.
    Unmapped,
    Nowhere,
}

impl ItemProjection<'_> {
    /// Writes the record object of an item.
    pub fn write(&self, item: &Item<'_>, out: &mut Vec<u8>) {
        let mut unmapped: Vec<(&str, &str)> = Vec::new();
        out.push(b'{');
        let start = out.len();
        for (name, as_sent) in item {
            let text = if self.fields.get(name).is_some_and(is_text) { as_text(as_sent) } else { None };
            let value = text.as_deref().unwrap_or(as_sent).get();
            match self.place(name, value) {
                Place::Field => write_member(name, value, start, out),
                Place::Unmapped => unmapped.push((name, as_sent.get())),
                Place::Nowhere => {}
            }
        }
        if !unmapped.is_empty() {
            begin_member(UNMAPPED, start, out);
            out.push(b'{');
            let start = out.len();
            unmapped.iter().for_each(|(name, value)| write_member(name, value, start, out));
            out.push(b'}');
        }
        out.push(b'}');
    }

    /// A field that PostHog added since, and a value that its field cannot hold, are kept aside; a field that was deselected
    /// is not.
    fn place(&self, name: &str, value: &str) -> Place {
        let aside = match self.fields.get(UNMAPPED) {
            Some(_) if !self.left_out.contains(&name) && !self.is_secretive => Place::Unmapped,
            _ => Place::Nowhere,
        };
        match self.fields.get(name) {
            Some(_) if self.is_secretive && !self.known.contains_key(name) => Place::Nowhere,
            Some(schema) if name != UNMAPPED && fits_schema(schema, value) => Place::Field,
            None if self.known.contains_key(name) => Place::Nowhere,
            _ => aside,
        }
    }
}

/// Writes what stands before a value of the object that begins at `start`.
fn begin_member(name: &str, start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
    write_label(name, out);
}

fn write_member(name: &str, value: &str, start: usize, out: &mut Vec<u8>) {
    begin_member(name, start, out);
    write_on_one_line(value.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(item: &str) -> String {
        let mut out = Vec::new();
        let fields = serde_json::json!({"id": {}, "a": {}});
        let known = Map::new();
        let projection = ItemProjection { fields: &fields, known, left_out: &[], is_secretive: false };
        projection.write(&serde_json::from_str(item).unwrap(), &mut out);
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
