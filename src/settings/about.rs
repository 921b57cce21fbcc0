//! `--about`: what a program is, can do and is set up with, made from its table, without settings and network. The JSON form
//! is that of Singer SDK programs, which Meltano and its hub read; the Markdown form is a part of `docs/`.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::table::{Setting, Table};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// From so much on a bound is that of the type, and says nothing to people.
const NO_BOUND: u64 = 1_000_000_000_000;

/// The forms of `--about`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Lines for a terminal.
    Text,
    /// As Singer SDK programs print it.
    Json,
    /// Parts of `docs/settings.md` and `docs/streams.md`.
    Markdown,
}

/// The text of `--about`. `more` stands at the end of the Markdown form.
pub fn about(table: &Table, format: Format, more: &str) -> String {
    match format {
        Format::Text => text(table),
        Format::Json => format!("{:#}\n", json(table)),
        Format::Markdown => markdown(table) + more,
    }
}

fn json(table: &Table) -> Value {
    let properties: Map<String, Value> = table.rows.iter().map(|row| (row.name.to_owned(), schema(row))).collect();
    let required: Vec<&str> = table.rows.iter().filter(|row| row.required).map(|row| row.name).collect();
    let mut settings = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        settings["required"] = json!(required);
    }
    json!({
        "name": table.program, "description": table.description, "version": VERSION, "sdk_version": null,
        "supported_python_versions": null, "capabilities": table.capabilities, "settings": settings,
    })
}

fn text(table: &Table) -> String {
    let (program, capabilities) = (table.program, table.capabilities.join(", "));
    let mut out = format!("{program} {VERSION}\n{}\n\nCapabilities: {capabilities}\n\nSettings:\n", table.description);
    for row in table.rows {
        let mut remarks = row.default.map(|default| format!("default {default}")).into_iter().collect::<Vec<_>>();
        if row.required {
            remarks.push("required".to_owned());
        }
        if !row.aliases.is_empty() {
            remarks.push(format!("also {}", row.aliases.join(", ")));
        }
        let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join("; ")) };
        let _ = writeln!(out, "  {:<26}{}{remarks}", row.name, row.description);
    }
    out
}

fn markdown(table: &Table) -> String {
    let capabilities = table.capabilities.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut out = format!(
        "### Settings of {}\n\n{}. Capabilities: {capabilities}.\n\n| setting | value | default | what it does |\n|---|---|---|---|\n",
        table.program, table.description
    );
    for row in table.rows {
        let names = row.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let default = match row.default {
            Some(default) => format!("`{default}`"),
            None if row.required => "(required)".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(out, "| {names} | {} | {default} | {} |", shown(row), row.description);
    }
    out
}

/// How a value is written, for people.
fn shown(row: &Setting) -> String {
    match row.form {
        Form::Text => "text".to_owned(),
        Form::Whole { least, most } if most >= NO_BOUND => format!("number from {least}"),
        Form::Whole { least, most } => format!("number, {least} to {most}"),
        Form::Number { least, most } => format!("number, {least} to {most}, also with a fraction"),
        Form::Flag => "true or false".to_owned(),
        Form::Instant => "date or time".to_owned(),
        Form::Names => "list of names".to_owned(),
        Form::Choice { words, .. } => words.join(", "),
    }
}

/// What Meltano calls it, in a definition of a plugin.
fn kind(row: &Setting) -> &'static str {
    match row.form {
        Form::Text if row.secret => "password",
        Form::Text => "string",
        Form::Whole { .. } => "integer",
        Form::Number { .. } => "decimal",
        Form::Flag => "boolean",
        Form::Instant => "date_iso8601",
        Form::Names => "array",
        Form::Choice { .. } => "options",
    }
}

fn schema(row: &Setting) -> Value {
    let mut schema = match row.form {
        Form::Text => json!({"type": ["string", "null"]}),
        Form::Whole { least, most } => json!({"type": ["integer", "null"], "minimum": least, "maximum": most}),
        Form::Number { least, most } => json!({"type": ["number", "null"], "minimum": least, "maximum": most}),
        Form::Flag => json!({"type": ["boolean", "null"]}),
        Form::Instant => json!({"type": ["string", "null"], "format": "date-time"}),
        Form::Names => json!({"type": ["array", "null"], "items": {"type": "string"}}),
        Form::Choice { words, .. } => json!({"type": ["string", "null"], "enum": words}),
    };
    schema["title"] = json!(row.label);
    schema["description"] = json!(row.description);
    schema["kind"] = json!(kind(row));
    if let Some(default) = row.default {
        schema["default"] = match row.form {
            Form::Text | Form::Instant | Form::Choice { .. } => json!(default),
            _ => serde_json::from_str(default).unwrap_or_else(|_| json!(default)),
        };
    }
    if !row.aliases.is_empty() {
        schema["aliases"] = json!(row.aliases);
    }
    if row.secret {
        schema["secret"] = json!(true);
        schema["writeOnly"] = json!(true);
    }
    schema
}
