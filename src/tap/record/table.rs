//! Rows of HogQL tables as records. As for events, no row becomes a tree of values: cells are copied as text.

use serde_json::{Map, Value};

use crate::json::label::Label;
use crate::posthog::query::hogql::Column;
use crate::posthog::query::page::{Cell, Row};
use crate::time::{Micros, parse_rfc3339, to_rfc3339};

use super::cell::{Object, write_cell, write_document, write_text};
use super::flatten::{Family, Properties};
use super::item::is_text;

/// How a field is written.
#[derive(Debug)]
enum Field {
    Scalar(usize),
    /// The text of a number or a boolean, too.
    Text(usize),
    Time(usize),
    /// true or false, which ClickHouse may print as 1 or 0.
    Boolean(usize),
    Document(usize),
}

/// The fields of a table's record and where they come from.
#[derive(Debug)]
pub struct TableRecord {
    columns: Vec<Column>,
    fields: Vec<(Label, Field)>,
    properties: Option<Properties>,
}

impl TableRecord {
    /// The record with the fields of `schema` (its `properties`, in order). `column` gives the column of a field.
    #[must_use]
    pub fn new(schema: &Map<String, Value>, column: impl Fn(&str) -> String) -> TableRecord {
        let mut record = TableRecord { columns: Vec::new(), fields: Vec::new(), properties: None };
        for (name, field_schema) in schema {
            let types = &field_schema["type"];
            let is = |kind: &str| [types, &types[0], &types[1]].into_iter().any(|one| one == kind);
            let field = match (name.as_str(), Family::of_column(name)) {
                // Whichever names they go by: a table has one family of properties.
                (_, Some((_, property))) => {
                    record.properties().add(name, property, field_schema);
                    continue;
                }
                ("unmapped_properties" | "unmapped_person_properties", _) => {
                    record.properties().add_unmapped(name);
                    continue;
                }
                _ => {
                    let at = record.ask(column(name), name);
                    match () {
                        () if is("object") => Field::Document(at),
                        () if is("boolean") => Field::Boolean(at),
                        () if field_schema["format"] == "date-time" => Field::Time(at),
                        () if is_text(field_schema) => Field::Text(at),
                        () => Field::Scalar(at),
                    }
                }
            };
            record.fields.push((Label::new(name), field));
        }
        record
    }

    /// The same without the properties of these columns: they are deselected, so they are not among the unmapped ones either.
    #[must_use]
    pub fn without(mut self, columns: &[String]) -> TableRecord {
        if let Some(properties) = &mut self.properties {
            let names = columns.iter().filter_map(|name| Family::of_column(name));
            names.for_each(|(_, property)| properties.leave_out(property));
        }
        self
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

    fn properties(&mut self) -> &mut Properties {
        let source = self.ask("properties".to_owned(), "properties");
        self.properties.get_or_insert_with(|| Properties::new(source))
    }

    /// The columns to ask for.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Writes the record object of a row.
    pub fn write(&mut self, row: &Row<'_>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        for (label, field) in &self.fields {
            let out = object.begin(label);
            match field {
                Field::Scalar(column) => write_cell(row.cell(*column), out),
                Field::Text(column) => write_as_text(row.cell(*column), out),
                Field::Time(column) => write_utc(row.cell(*column), out),
                Field::Boolean(column) => write_boolean(row.cell(*column), out),
                Field::Document(column) => write_document(row.cell(*column), out),
            }
        }
        if let Some(properties) = &mut self.properties {
            properties.write(row, &mut object);
        }
        object.close();
    }
}

/// The time in a cell. Columns without a zone come without an offset; they are UTC because the conversion to the project's
/// zone is switched off.
pub(crate) fn time_of(cell: Cell<'_>) -> Option<Micros> {
    let text = cell.text()?;
    parse_rfc3339(text).or_else(|| parse_rfc3339(format!("{}Z", text.replacen(' ', "T", 1))))
}

fn write_utc(cell: Cell<'_>, out: &mut Vec<u8>) {
    match time_of(cell) {
        Some(time) => write_text(to_rfc3339(time).as_bytes(), true, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_as_text(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Number(text) => write_text(text, true, out),
        Cell::Bool(is) => write_text(is.to_string().as_bytes(), true, out),
        other => write_cell(other, out),
    }
}

fn write_boolean(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Number(b"0") => write_cell(Cell::Bool(false), out),
        Cell::Number(_) => write_cell(Cell::Bool(true), out),
        other => write_cell(other, out),
    }
}

/// A label of a member: its name and a colon.
pub(crate) fn write_label(name: &str, out: &mut Vec<u8>) {
    write_text(name.as_bytes(), false, out);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posthog::query::page::Page;
    use serde_json::json;

    #[test]
    fn rows_become_records_of_their_schema() {
        let text = json!({"type": ["null", "string"]});
        let schema = json!({"id": {"type": "string"}, "at": {"type": ["null", "string"], "format": "date-time"},
            "is": {"type": ["null", "boolean"]}, "properties_a": text, "properties_n": {"type": ["null", "number"]},
            "unmapped_properties": {"type": ["null", "object"]}});
        let mut record = TableRecord::new(schema.as_object().unwrap(), |field| format!("{field}_column"));
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
