//! `--about`: what the tap is, can do and is set up with, made from the table of settings, without configuration and
//! network. The JSON form is what Singer SDK programs print and Meltano's hub reads.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::singer::catalog::Method;

use crate::tap::config::settings::{Form, SETTINGS, Setting};
use crate::tap::stream::STREAMS;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const DESCRIPTION: &str = "A Singer tap for PostHog: events, persons and everything else that a project holds";
/// What Meltano acts on, and what works; nothing that would be nice to have.
const CAPABILITIES: &[&str] = &[
    "about",
    "activate-version",
    "catalog",
    "discover",
    "properties",
    "schema-flattening",
    "state",
    "structured-logging",
];

/// As JSON.
#[must_use]
pub fn json() -> Value {
    let properties: Map<String, Value> =
        SETTINGS.iter().map(|setting| (setting.name.to_owned(), schema(setting))).collect();
    json!({
        "name": NAME, "description": DESCRIPTION, "version": VERSION, "sdk_version": null,
        "supported_python_versions": null, "capabilities": CAPABILITIES,
        "settings": {"type": "object", "properties": properties, "required": ["api_key", "project_id"]},
    })
}

/// As lines of text.
#[must_use]
pub fn text() -> String {
    let mut out =
        format!("{NAME} {VERSION}\n{DESCRIPTION}\n\nCapabilities: {}\n\nSettings:\n", CAPABILITIES.join(", "));
    for setting in SETTINGS {
        let default = setting.default.map_or_else(String::new, |default| format!(" (default {default})"));
        let _ = writeln!(out, "  {:<26}{}{default}", setting.name, setting.description);
    }
    out
}

/// As Markdown: the README's tables.
#[must_use]
pub fn markdown() -> String {
    let mut out = format!("# `{NAME}`\n\n{DESCRIPTION}.\n\n## Capabilities\n\n");
    for capability in CAPABILITIES {
        let _ = writeln!(out, "* `{capability}`");
    }
    out += "\n## Settings\n\n";
    out += &settings_table();
    out += "\n## Streams\n\n";
    out + &streams_table()
}

/// The settings as a Markdown table.
#[must_use]
pub fn settings_table() -> String {
    let mut out = "| setting | value | default | what it does |\n|---|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let also = setting.aliases.iter().map(|alias| format!(", `{alias}`")).collect::<String>();
        let default = setting.default.map_or_else(String::new, |default| format!("`{default}`"));
        let _ = writeln!(
            out,
            "| `{}`{also} | {} | {default} | {} |",
            setting.name,
            form(setting.form),
            setting.description
        );
    }
    out
}

/// The streams as a Markdown table.
#[must_use]
pub fn streams_table() -> String {
    let mut out = "| stream | keys | replication | scope | on by default |\n|---|---|---|---|---|\n".to_owned();
    for stream in STREAMS {
        let keys = stream.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let by = stream.replication_keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ");
        let method = stream.method.name();
        let replication = match (stream.replication_keys.is_empty(), stream.method_is_choice) {
            (true, _) => method.to_owned(),
            (false, false) => format!("{method} on {by}"),
            (false, true) if stream.method == Method::Incremental => format!("INCREMENTAL on {by}, or FULL_TABLE"),
            (false, true) => format!("FULL_TABLE, or INCREMENTAL on {by} where PostHog has it"),
        };
        let on = if stream.selected_by_default { "yes" } else { "" };
        let more = stream.more_scope.map_or_else(String::new, |scope| format!(", `{scope}`"));
        let _ = writeln!(out, "| `{}` | {keys} | {replication} | `{}`{more} | {on} |", stream.name, stream.scope);
    }
    out
}

fn form(form: Form) -> String {
    match form {
        Form::Text => "text".to_owned(),
        Form::Whole { least, most } if most > 1_000_000_000_000 => format!("number from {least}"),
        Form::Whole { least, most } => format!("number, {least} to {most}"),
        Form::Flag => "true or false".to_owned(),
        Form::Instant => "date or time".to_owned(),
        Form::Names => "list of names".to_owned(),
        Form::Choice(words) => words.join(", "),
    }
}

fn schema(setting: &Setting) -> Value {
    let mut schema = match setting.form {
        Form::Text => json!({"type": ["string", "null"]}),
        Form::Whole { least, most } => json!({"type": ["integer", "null"], "minimum": least, "maximum": most}),
        Form::Flag => json!({"type": ["boolean", "null"]}),
        Form::Instant => json!({"type": ["string", "null"], "format": "date-time"}),
        Form::Names => json!({"type": ["array", "null"], "items": {"type": "string"}}),
        Form::Choice(words) => json!({"type": ["string", "null"], "enum": words}),
    };
    schema["title"] = json!(title(setting.name));
    schema["description"] = json!(setting.description);
    if let Some(default) = setting.default {
        schema["default"] = match setting.form {
            Form::Whole { .. } | Form::Flag => serde_json::from_str(default).unwrap_or_else(|_| json!(default)),
            _ => json!(default),
        };
    }
    if setting.secret {
        schema["secret"] = json!(true);
        schema["writeOnly"] = json!(true);
    }
    schema
}

/// `max_response_mb` as people would say it.
fn title(name: &str) -> String {
    let spaced = name.replace('_', " ");
    let mut letters = spaced.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_and_stream_is_shown_in_every_form() {
        let (text, markdown, json) = (text(), markdown(), json());
        for setting in SETTINGS {
            let schema = &json["settings"]["properties"][setting.name];
            assert_eq!(schema["secret"].as_bool().unwrap_or(false), setting.secret, "{}", setting.name);
            assert!(!schema["title"].as_str().unwrap().is_empty());
            assert!(text.contains(setting.name) && markdown.contains(setting.name), "{}", setting.name);
        }
        assert_eq!(json["settings"]["properties"]["page_size"]["type"][0], "integer");
        assert_eq!(json["settings"]["properties"]["deduplication_enabled"]["default"], true);
        assert_eq!(json["settings"]["properties"]["lookback_window_minutes"]["default"], 15);
        assert!(STREAMS.iter().all(|stream| markdown.contains(&format!("`{}`", stream.name))));
    }
}
