//! Items of lists as records. A value is passed on as PostHog wrote it, to the last digit; only white space between its parts
//! is left out.

use indexmap::IndexMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::singer::output::LineText;

use super::cell::{Object, write_on_one_line};
use super::exceptions::Exceptions;
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
    /// How many values each field could not hold.
    pub unfit: IndexMap<String, u64>,
}

/// Where a member of an item goes.
enum Place {
    /// Into its own field.
    Field,
    /// Its field cannot hold it.
    Unfit,
    /// It has no field.
    New,
    Nowhere,
}

impl ItemProjection<'_> {
    /// Writes the record object of an item.
    pub fn write(&mut self, item: &Item<'_>, out: &mut impl LineText) {
        let mut unmapped: Vec<(&str, &str)> = Vec::new();
        let keeps_aside = self.fields.get(UNMAPPED).is_some() && !self.is_secretive;
        let mut object = Object::open(out);
        for (name, as_sent) in item {
            let text = if self.fields.get(name).is_some_and(is_text) { as_text(as_sent) } else { None };
            let value = text.as_deref().unwrap_or(as_sent).get();
            match self.place(name, value) {
                Place::Field => write_on_one_line(value.as_bytes(), object.begin_name(name)),
                Place::Nowhere => {}
                aside => {
                    if matches!(aside, Place::Unfit) && value != "null" {
                        *self.unfit.entry(name.clone()).or_default() += 1;
                    }
                    if keeps_aside && !self.left_out.contains(&name.as_str()) {
                        unmapped.push((name, as_sent.get()));
                    }
                }
            }
        }
        if !unmapped.is_empty() {
            let mut aside = Object::open(object.begin_name(UNMAPPED));
            for (name, value) in unmapped {
                write_on_one_line(value.as_bytes(), aside.begin_name(name));
            }
            aside.close();
        }
        object.close();
    }

    /// A field that PostHog added since, and a value that its field cannot hold, are kept aside; a field that was deselected
    /// is not.
    fn place(&self, name: &str, value: &str) -> Place {
        match self.fields.get(name) {
            Some(_) if self.is_secretive && !self.known.contains_key(name) => Place::Nowhere,
            Some(schema) if name != UNMAPPED && fits_schema(schema, value) => Place::Field,
            Some(_) if name != UNMAPPED => Place::Unfit,
            None if self.known.contains_key(name) => Place::Nowhere,
            _ => Place::New,
        }
    }

    /// What the fields could not hold.
    pub fn exceptions(&self) -> Exceptions {
        let mut exceptions = Exceptions::default();
        let kept_in = Some(UNMAPPED).filter(|name| self.fields.get(name).is_some() && !self.is_secretive);
        for (name, count) in &self.unfit {
            exceptions.add(name.clone(), *count, kept_in.map(str::to_owned));
        }
        exceptions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(item: &str) -> String {
        let mut out = Vec::new();
        let fields = serde_json::json!({"id": {}, "a": {}});
        let known = Map::new();
        let unfit = IndexMap::new();
        let mut projection = ItemProjection { fields: &fields, known, left_out: &[], is_secretive: false, unfit };
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
