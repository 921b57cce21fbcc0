//! From a row of a page to the text of a RECORD line: which columns are asked of the server for the selected fields, and
//! how each field is written. Cells stay JSON text all the way.

use serde_json::{Map, Value};

use crate::json::label::Label;
use crate::posthog::query::hogql::{Column, identifier};
use crate::posthog::query::page::{Cell, Row};
use crate::singer::output::LineText;

use super::cell::{
    Object, write_as_text, write_boolean, write_cell, write_document, write_on_one_line, write_time, write_utc,
};
use super::exceptions::Exceptions;
use super::fits::is_text;
use super::flatten::{Family, Properties};
use super::repair::Repair;

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
    /// A string, number or boolean cell, as it is.
    Scalar,
    /// A string, or the text of a number or a boolean.
    Text,
    /// A time of an event, which the check of its page has read; always as UTC with six digits.
    Time,
    /// A time, perhaps without a zone.
    Utc,
    /// true or false, which ClickHouse may print as 1 or 0.
    Boolean,
    /// A JSON document in a string cell, passed through byte for byte.
    Document,
}

impl Field {
    /// How a column of a table is written into a field of this schema.
    fn of_schema(schema: &Value) -> Field {
        let types = &schema["type"];
        let is = |kind: &str| [types, &types[0], &types[1]].into_iter().any(|one| one == kind);
        match () {
            () if is("object") => Field::Document,
            () if is("boolean") => Field::Boolean,
            () if schema["format"] == "date-time" => Field::Utc,
            () if is_text(schema) => Field::Text,
            () => Field::Scalar,
        }
    }

    /// How a column of events is written. Its name says that, whatever its schema is in a catalog.
    fn of_event(name: &str) -> Field {
        match name {
            "timestamp" | "created_at" => Field::Time,
            "properties" | "person_properties" => Field::Document,
            _ => Field::Scalar,
        }
    }
}

/// The fields of a record and where they come from.
#[derive(Debug, Default)]
pub struct Projection {
    columns: Vec<Column>,
    /// Each with its name as it stands in the line, and the place of its column.
    fields: Vec<(Label, Field, usize)>,
    families: [Option<Properties>; 2],
    /// A table has one family of properties, whichever names their fields go by.
    has_one_family: bool,
    repair: Repair,
}

impl Projection {
    /// The projection of events onto the fields of `schema` (its `properties`, in order). `by_arrival` asks for `created_at`
    /// whether it is a field or not; `person_id_joined` for the person id as corrected by merges, at the cost of a join.
    pub fn of_events(schema: &Map<String, Value>, by_arrival: bool, person_id_joined: bool) -> Projection {
        let mut projection = Projection { columns: key_columns(), ..Projection::default() };
        if by_arrival {
            projection.ask(identifier("created_at"), "created_at");
        }
        let column_of = |name: &str| match name {
            "person_properties" => Family::Person.column().0.to_owned(),
            "person_id" if !person_id_joined => "event_person_id".to_owned(),
            name => identifier(name),
        };
        projection.add_fields(schema, column_of, |name, _| Field::of_event(name));
        projection
    }

    /// The projection of a table onto the fields of `schema`. `column_of` gives the expression of a field's column.
    pub fn of_table(schema: &Map<String, Value>, column_of: impl Fn(&str) -> String) -> Projection {
        let mut projection = Projection { has_one_family: true, ..Projection::default() };
        projection.add_fields(schema, column_of, |_, schema| Field::of_schema(schema));
        projection
    }

    fn add_fields(
        &mut self,
        schema: &Map<String, Value>,
        column_of: impl Fn(&str) -> String,
        field_of: impl Fn(&str, &Value) -> Field,
    ) {
        for (name, schema) in schema {
            match (name.as_str(), Family::of_column(name)) {
                ("unmapped_properties", _) => self.family(Family::Event).add_unmapped(name),
                ("unmapped_person_properties", _) => self.family(Family::Person).add_unmapped(name),
                (_, Some((family, property))) => self.family(family).add(name, property, schema),
                (_, None) => {
                    let at = self.ask(column_of(name), name);
                    self.fields.push((Label::new(name), field_of(name, schema), at));
                }
            }
        }
    }

    /// The fields of a family; its column is asked for.
    fn family(&mut self, family: Family) -> &mut Properties {
        let family = self.family_of(family);
        let (expression, name) = family.column();
        let expression = if family == Family::Event { identifier(expression) } else { expression.to_owned() };
        let source = self.ask(expression, name);
        self.families[family.index()].get_or_insert_with(|| Properties::new(source))
    }

    fn family_of(&self, family: Family) -> Family {
        if self.has_one_family { Family::Event } else { family }
    }

    /// The same without the properties of these columns: they are deselected, so they are not among the unmapped ones either.
    pub fn without(mut self, columns: &[String]) -> Projection {
        for (family, property) in columns.iter().filter_map(|name| Family::of_column(name)) {
            let family = self.family_of(family);
            if let Some(properties) = &mut self.families[family.index()] {
                properties.leave_out(property);
            }
        }
        self
    }

    /// The same with halves of surrogate pairs replaced, or kept.
    pub fn keeping_lone_surrogates(self, keeps: bool) -> Projection {
        Projection { repair: Repair::new(keeps), ..self }
    }

    /// What the records that were written do not hold as it came.
    pub fn exceptions(&self) -> Exceptions {
        Exceptions { lone_surrogates: self.repair.replaced() }
    }

    /// The place of a column in the page; asked for if it was not yet.
    pub fn ask(&mut self, expression: String, name: &str) -> usize {
        if let Some(at) = self.columns.iter().position(|column| column.name == name) {
            return at;
        }
        self.columns.push(Column { expression, name: name.to_owned() });
        self.columns.len() - 1
    }

    /// Asks for the first `count` columns only, again.
    pub fn forget_columns(&mut self, count: usize) {
        self.columns.truncate(count);
    }

    /// The columns to ask for. Those of events begin with the ones of [`mod@column`].
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Writes the record object of a row.
    pub fn write(&mut self, row: &Row<'_>, out: &mut impl LineText) {
        let mut object = Object::open(out);
        for (label, field, column) in &self.fields {
            write_field(row.cell(*column), *field, &mut self.repair, object.begin(label));
        }
        for properties in self.families.iter_mut().flatten() {
            properties.write(row, &mut self.repair, &mut object);
        }
        object.close();
    }
}

/// Writes a field that is a column of the page.
#[inline(never)]
fn write_field(cell: Cell<'_>, field: Field, repair: &mut Repair, out: &mut impl LineText) {
    match (field, cell) {
        (Field::Time, cell) => write_time(cell, out),
        (Field::Utc, cell) => write_utc(cell, out),
        (Field::Document, cell) => write_document(cell, repair, out),
        (_, Cell::Json(text)) => write_on_one_line(repair.repaired(text), out),
        (Field::Scalar, cell) => write_cell(cell, out),
        (Field::Text, cell) => write_as_text(cell, out),
        (Field::Boolean, cell) => write_boolean(cell, out),
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
        let mut projection =
            Projection::of_events(schema.as_object().unwrap(), true, false).keeping_lone_surrogates(true);
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
            let projection = Projection::of_events(schema.as_object().unwrap(), true, false);
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
    #[test]
    fn rows_become_records_of_their_schema() {
        let text = json!({"type": ["null", "string"]});
        let schema = json!({"id": {"type": "string"}, "at": {"type": ["null", "string"], "format": "date-time"},
            "is": {"type": ["null", "boolean"]}, "properties_a": text, "properties_n": {"type": ["null", "number"]},
            "unmapped_properties": {"type": ["null", "object"]}});
        let mut record = Projection::of_table(schema.as_object().unwrap(), |field| format!("{field}_column"));
        let names: Vec<&str> = record.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["id", "at", "is", "properties"]);
        let rows = json!([["x", "2026-01-01T00:00:00", 1, r#"{"a":"é","n":"no","z":1.50}"#], ["y", null, false, ""]]);
        let body = json!({"columns": names, "results": rows}).to_string();
        let page = Page::parse(body.as_bytes(), &names).unwrap();
        let lines: Vec<String> = page
            .rows()
            .map(|row| {
                let mut out = Vec::new();
                record.write(&row, &mut out);
                String::from_utf8(out).unwrap()
            })
            .collect();
        let first = r#"{"id":"x","at":"2026-01-01T00:00:00.000000Z","is":true,"properties_a":"é","unmapped_properties":{"n":"no","z":1.50}}"#;
        assert_eq!(lines, [first, r#"{"id":"y","at":null,"is":false}"#]);
    }
}
