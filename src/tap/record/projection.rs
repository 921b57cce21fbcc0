//! From a row of a page to the text of a RECORD line: which columns are asked of the server for the selected fields, and
//! how each field is written. Cells stay JSON text all the way.

use serde_json::{Map, Value};

use crate::json::label::Label;
use crate::posthog::query::hogql::Column;
use crate::posthog::query::page::Row;
use crate::singer::output::LineText;

use super::cell::{Object, write_cell, write_document, write_time};
use super::flatten::{Family, Properties};

/// Where the columns that a page is read by lie: identity, order and arrival of a row.
pub mod column {
    /// `uuid`
    pub const UUID: usize = 0;
    /// `event`
    pub const EVENT: usize = 1;
    /// `distinct_id`
    pub const DISTINCT_ID: usize = 2;
    /// `timestamp`
    pub const TIMESTAMP: usize = 3;
    /// `cityHash64(distinct_id)`: the third part of the sort key, for the cursor; never part of a record.
    pub const HASH: usize = 4;
    /// `created_at`, only where runs go by it.
    pub const CREATED_AT: usize = 5;
}

/// The name of the hash column in an answer.
const HASH_NAME: &str = "key_hash";

/// How a field that is a column of the page is written.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// A string, number or boolean cell.
    Scalar(usize),
    /// A time, always as UTC with six digits.
    Time(usize),
    /// A JSON document in a string cell, passed through byte for byte.
    Document(usize),
}

/// The fields of a record and where they come from.
#[derive(Debug)]
pub struct Projection {
    columns: Vec<Column>,
    /// Each with its name as it stands in the line.
    fields: Vec<(Label, Field)>,
    families: [Option<Properties>; 2],
}

impl Projection {
    /// The projection onto the fields of `schema` (its `properties`, in order). `by_arrival` asks for `created_at` whether
    /// it is a field or not; `person_id_joined` for the person id as corrected by merges, at the cost of a join.
    #[must_use]
    pub fn new(schema: &Map<String, Value>, by_arrival: bool, person_id_joined: bool) -> Projection {
        let mut projection = Projection { columns: key_columns(), fields: Vec::new(), families: [None, None] };
        if by_arrival {
            projection.ask("created_at", "created_at");
        }
        for (name, field_schema) in schema {
            let field = match name.as_str() {
                "timestamp" => Field::Time(column::TIMESTAMP),
                "created_at" => Field::Time(projection.ask("created_at", "created_at")),
                "properties" => Field::Document(projection.ask("properties", "properties")),
                "person_properties" => Field::Document(projection.ask("poe.properties", "person_properties")),
                "person_id" if person_id_joined => Field::Scalar(projection.ask("person_id", "person_id")),
                "person_id" => Field::Scalar(projection.ask("event_person_id", "person_id")),
                _ if projection.is_property(name, field_schema) => continue,
                _ => Field::Scalar(projection.ask(name, name)),
            };
            projection.fields.push((Label::new(name), field));
        }
        projection
    }

    /// The same without the properties of these columns: they are deselected, so they are not among the unmapped ones either.
    #[must_use]
    pub fn without(mut self, columns: &[String]) -> Projection {
        for (family, property) in columns.iter().filter_map(|name| Family::of_column(name)) {
            if let Some(properties) = &mut self.families[family.index()] {
                properties.leave_out(property);
            }
        }
        self
    }

    /// The columns of a page query, in the places of [`mod@column`].
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Writes the record object of a row.
    pub fn write(&mut self, row: &Row<'_>, out: &mut impl LineText) {
        let mut object = Object::open(out);
        for (label, field) in &self.fields {
            write_column(row, *field, object.begin(label));
        }
        for properties in self.families.iter_mut().flatten() {
            properties.write(row, &mut object);
        }
        object.close();
    }

    /// The place of a column in the page; asked for if it was not yet.
    fn ask(&mut self, expression: &str, name: &str) -> usize {
        if let Some(at) = self.columns.iter().position(|column| column.name == name) {
            return at;
        }
        let expression = match expression {
            "poe.properties" => expression.to_owned(),
            plain => crate::posthog::query::hogql::identifier(plain),
        };
        self.columns.push(Column { expression, name: name.to_owned() });
        self.columns.len() - 1
    }

    /// Adds the field if it is one that properties are spread over.
    fn is_property(&mut self, name: &str, schema: &Value) -> bool {
        let (family, property) = match (name, Family::of_column(name)) {
            ("unmapped_properties", _) => (Family::Event, None),
            ("unmapped_person_properties", _) => (Family::Person, None),
            (_, Some((family, property))) => (family, Some(property)),
            (_, None) => return false,
        };
        let (expression, column) = family.column();
        let source = self.ask(expression, column);
        let properties = self.families[family.index()].get_or_insert_with(|| Properties::new(source));
        match property {
            Some(property) => properties.add(name, property, schema),
            None => properties.add_unmapped(name),
        }
        true
    }
}

/// Writes a field that is a column of the page.
#[inline(never)]
fn write_column(row: &Row<'_>, field: Field, out: &mut impl LineText) {
    match field {
        Field::Scalar(column) => write_cell(row.cell(column), out),
        Field::Time(column) => write_time(row.cell(column), out),
        Field::Document(column) => write_document(row.cell(column), out),
    }
}

fn key_columns() -> Vec<Column> {
    let plain = |name: &str| Column { expression: name.to_owned(), name: name.to_owned() };
    let mut columns: Vec<Column> = ["uuid", "event", "distinct_id", "timestamp"].map(plain).into();
    columns.push(Column { expression: "cityHash64(distinct_id)".to_owned(), name: HASH_NAME.to_owned() });
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::page::Page;
    use serde_json::json;

    /// Puts documents through a page and a projection; gives the records as they are written.
    pub(crate) fn records(schema: &Value, documents: &[&str]) -> Vec<String> {
        let mut projection = Projection::new(schema.as_object().unwrap(), true, false);
        let names: Vec<&str> = projection.columns().iter().map(|c| c.name.as_str()).collect();
        let row = |document: &str| -> Vec<Value> {
            names
                .iter()
                .map(|name| match *name {
                    "uuid" => "01".into(),
                    "event" => "say \"hi\"\n".into(),
                    "timestamp" => "2026-08-01T00:00:00Z".into(),
                    "created_at" => "2026-08-01T00:00:00.120000Z".into(),
                    HASH_NAME => 7.into(),
                    "properties" | "person_properties" => document.into(),
                    _ => Value::Null,
                })
                .collect()
        };
        let rows: Vec<_> = documents.iter().map(|d| row(d)).collect();
        let body = json!({"columns": names, "results": rows}).to_string();
        let page = Page::parse(body.as_bytes(), &names).unwrap();
        page.rows()
            .map(|row| {
                let mut out = Vec::new();
                projection.write(&row, &mut out);
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    #[test]
    fn nested_documents_pass_byte_for_byte() {
        let schema =
            json!({"uuid": {}, "event": {}, "timestamp": {}, "created_at": {}, "person_id": {}, "properties": {}});
        let document = r#"{"n":1.50,"big":123456789012345678901234567890,"s":"a\"b\\c\ud800é","o":{"x":[1, 2]}}"#;
        let records = records(&schema, &[document, "", "[1]", "{\"a\":1"]);
        let head = r#"{"uuid":"01","event":"say \"hi\"\n","timestamp":"2026-08-01T00:00:00.000000Z","created_at":"2026-08-01T00:00:00.120000Z","person_id":null,"properties":"#;
        assert_eq!(records[0], format!("{head}{document}}}"));
        assert_eq!(records[1], format!("{head}null}}"));
        assert_eq!(records[2], format!(r#"{head}{{"$invalid_json":"[1]"}}}}"#));
        assert_eq!(records[3], format!(r#"{head}{{"$invalid_json":"{{\"a\":1"}}}}"#));
    }

    #[test]
    fn only_what_is_selected_is_asked_for() {
        let names = |schema: Value| -> Vec<String> {
            let projection = Projection::new(schema.as_object().unwrap(), true, false);
            projection.columns().iter().skip(6).map(|c| format!("{} AS {}", c.expression, c.name)).collect()
        };
        assert!(names(json!({"uuid": {}, "event": {}})).is_empty());
        assert_eq!(names(json!({"properties_a": {}})), ["properties AS properties"]);
        assert_eq!(names(json!({"unmapped_person_properties": {}})), ["poe.properties AS person_properties"]);
        assert_eq!(
            names(json!({"person_id": {}, "$session_id": {}})),
            ["event_person_id AS person_id", "`$session_id` AS $session_id"]
        );
    }
}
