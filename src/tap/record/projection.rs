//! From a row of a page to the text of a RECORD line: which columns are asked of the server for the selected fields, and
//! how each field is written. Cells stay JSON text all the way.

use serde_json::{Map, Value};

use crate::json::label::Label;
use crate::posthog::query::hogql::HASH_NAME;
use crate::posthog::query::page::{Cell, Row};
use crate::posthog::query::text::{Column, identifier};
use crate::singer::output::LineText;

use super::cell::{
    Object, exact_time, write_as_text, write_boolean, write_cell, write_document, write_on_one_line, write_time,
    write_utc,
};
use super::exceptions::Exceptions;
use super::fits::{fits_schema, is_text};
use super::flatten::{Family, Properties};
use super::item::UNMAPPED;
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

/// How a field that is a column of the page is written.
#[derive(Clone, Debug)]
enum Form {
    /// A string, number or boolean cell, as it is.
    Scalar,
    /// A cell that fits this schema.
    Typed(Box<Value>),
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

impl Form {
    /// How a column of a table is written into a field of this schema.
    fn of_schema(schema: &Value) -> Form {
        let types = &schema["type"];
        let is = |kind: &str| [types, &types[0], &types[1]].into_iter().any(|one| one == kind);
        match () {
            () if is("object") => Form::Document,
            () if is("boolean") => Form::Boolean,
            () if schema["format"] == "date-time" => Form::Utc,
            () if is_text(schema) => Form::Text,
            // A field that has to be there is written as it is.
            () if is("null") => Form::Typed(Box::new(schema.clone())),
            () => Form::Scalar,
        }
    }

    /// How a column of events is written. Its name says that, whatever its schema is in a catalog.
    fn of_event(name: &str) -> Form {
        match name {
            "timestamp" | "created_at" => Form::Time,
            "properties" | "person_properties" => Form::Document,
            _ => Form::Scalar,
        }
    }

    /// Whether the field holds the cell, or its time, exactly.
    fn holds(&self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (_, Cell::Null) | (Form::Scalar | Form::Text | Form::Time | Form::Document, _) => true,
            (Form::Utc, cell) => exact_time(cell).is_some(),
            (Form::Boolean, cell) => matches!(cell, Cell::Bool(_) | Cell::Number(b"0" | b"1")),
            (Form::Typed(schema), Cell::Text { .. }) => fits_schema(schema, "\"\""),
            (Form::Typed(schema), Cell::Bool(_)) => fits_schema(schema, "true"),
            (Form::Typed(schema), Cell::Number(text) | Cell::Json(text)) => {
                std::str::from_utf8(text).is_ok_and(|text| fits_schema(schema, text))
            }
        }
    }
}

/// A field that is a column of the page.
#[derive(Debug)]
struct Field {
    /// The name as it stands in the line.
    label: Label,
    form: Form,
    /// The place of its column.
    column: usize,
    /// Values that it could not hold.
    unfit: u64,
}

/// The fields of a record and where they come from.
#[derive(Debug, Default)]
pub struct Projection {
    columns: Vec<Column>,
    fields: Vec<Field>,
    /// The field of what does not fit its own one.
    unmapped: Option<Label>,
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
        projection.add_fields(schema, column_of, |name, _| Form::of_event(name));
        projection
    }

    /// The projection of a table onto the fields of `schema`. `column_of` gives the expression of a field's column.
    pub fn of_table(schema: &Map<String, Value>, column_of: impl Fn(&str) -> String) -> Projection {
        let mut projection = Projection { has_one_family: true, ..Projection::default() };
        projection.add_fields(schema, column_of, |_, schema| Form::of_schema(schema));
        projection
    }

    fn add_fields(
        &mut self,
        schema: &Map<String, Value>,
        column_of: impl Fn(&str) -> String,
        form_of: impl Fn(&str, &Value) -> Form,
    ) {
        for (name, schema) in schema {
            match (name.as_str(), Family::of_column(name)) {
                ("unmapped_properties", _) => self.family(Family::Event).add_unmapped(name),
                ("unmapped_person_properties", _) => self.family(Family::Person).add_unmapped(name),
                (UNMAPPED, _) if self.has_one_family => self.unmapped = Some(Label::new(name)),
                (_, Some((family, property))) => self.family(family).add(name, property, schema),
                (_, None) => {
                    let column = self.ask(column_of(name), name);
                    self.fields.push(Field { label: Label::new(name), form: form_of(name, schema), column, unfit: 0 });
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
        let mut exceptions = Exceptions { lone_surrogates: self.repair.replaced(), ..Exceptions::default() };
        for field in self.fields.iter().filter(|field| field.unfit > 0) {
            exceptions.add(field.label.name(), field.unfit, self.unmapped.as_ref().map(Label::name));
        }
        for properties in self.families.iter().flatten() {
            properties.count_unfit(&mut exceptions);
        }
        exceptions
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
        let mut has_unfit = false;
        for field in &mut self.fields {
            let cell = row.cell(field.column);
            if !field.form.holds(cell) {
                field.unfit += 1;
                has_unfit = true;
                continue;
            }
            write_field(cell, &field.form, &mut self.repair, object.begin(&field.label));
        }
        for properties in self.families.iter_mut().flatten() {
            properties.write(row, &mut self.repair, &mut object);
        }
        if let Some(label) = self.unmapped.as_ref().filter(|_| has_unfit) {
            self.write_unfit(row, object.begin(label));
        }
        object.close();
    }

    /// Writes the object of the values that do not fit their field.
    #[cold]
    fn write_unfit(&self, row: &Row<'_>, out: &mut impl LineText) {
        let mut object = Object::open(out);
        for field in &self.fields {
            let cell = row.cell(field.column);
            if !field.form.holds(cell) {
                write_cell(cell, object.begin(&field.label));
            }
        }
        object.close();
    }
}

/// Writes a field that is a column of the page.
#[inline(never)]
fn write_field(cell: Cell<'_>, form: &Form, repair: &mut Repair, out: &mut impl LineText) {
    match (form, cell) {
        (Form::Time, cell) => write_time(cell, out),
        (Form::Utc, cell) => write_utc(cell, out),
        (Form::Document, cell) => write_document(cell, repair, out),
        (_, Cell::Json(text)) => write_on_one_line(repair.repaired(text), out),
        (Form::Scalar | Form::Typed(_), cell) => write_cell(cell, out),
        (Form::Text, cell) => write_as_text(cell, out),
        (Form::Boolean, cell) => write_boolean(cell, out),
    }
}

fn key_columns() -> Vec<Column> {
    let plain = |name: &str| Column { expression: name.to_owned(), name: name.to_owned() };
    let mut columns: Vec<Column> = ["uuid", "event", "distinct_id", "timestamp"].map(plain).into();
    columns.push(Column { expression: "cityHash64(distinct_id)".to_owned(), name: HASH_NAME.to_owned() });
    columns
}

#[cfg(test)]
mod tests;
