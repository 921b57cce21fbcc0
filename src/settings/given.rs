//! Settings as they were written: by name, with the place where each stands, before they are read.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::nearest;
use super::table::{Setting, Table};
use super::values::{Held, Values, Written};
use crate::error::{Error, Kind, Result, one_line};
use crate::log;

/// A name longer than this is cut in messages.
const MAX_SHOWN: usize = 80;
/// Variables with the program's name in front that are no settings: `log.rs` and `clock.rs` read them.
const NO_SETTINGS: [&str; 2] = ["loglevel", "test_clock"];

/// Where settings stand.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file of `--config`.
    File(String),
    /// A `.env` file.
    DotEnv(String),
    /// The environment.
    Environment,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) | Place::DotEnv(path) => f.write_str(path),
            Place::Environment => f.write_str("the environment"),
        }
    }
}

/// A value as it was written.
#[derive(Debug)]
struct Entry {
    value: Value,
    written: Written,
}

/// Values by name, later ones over earlier ones, before they are read.
#[derive(Debug)]
pub struct Given {
    table: &'static Table,
    entries: BTreeMap<&'static str, Entry>,
    /// What was found wrong on the way, in words, and the setting's own name, where there is such a setting.
    wrong: Vec<(Option<&'static str>, String)>,
}

impl Given {
    /// Nothing is given yet.
    pub fn new(table: &'static Table) -> Given {
        Given { table, entries: BTreeMap::new(), wrong: Vec::new() }
    }

    /// Puts the values of one object over those that are there. Null means not given. Members of the nested object are
    /// settings, too, but the outer ones win over them.
    pub fn overlay(&mut self, mut object: Map<String, Value>, place: &Place) {
        if let Some(begin) = self.table.secrets_begin_with {
            conceal(begin, &object);
        }
        let nested = self.table.nested.and_then(|name| Some((name, object.shift_remove(name)?)));
        match nested {
            Some((_, Value::Object(members))) => self.take(members, place),
            None | Some((_, Value::Null)) => {}
            // Its text may be the key.
            Some((name, _)) => {
                let text =
                    format!("setting {name} in {place}: this value is not allowed; give an object that holds settings");
                self.wrong.push((None, text));
            }
        }
        self.take(object, place);
    }

    /// Puts the program's variables over the values that are there; an empty one is not given.
    pub fn overlay_variables(&mut self, variables: BTreeMap<String, String>, place: &Place) {
        let begin = self.table.variables_begin_with();
        let mut object = Map::new();
        for (name, text) in variables {
            let Some(name) = name.strip_prefix(&begin).filter(|_| !text.is_empty()) else { continue };
            // `TAP_POSTHOG__SELECT` and the like are Meltano's own.
            if name.starts_with('_') || name.contains(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            let name = name.to_ascii_lowercase();
            let value = match self.table.nested == Some(name.as_str()) {
                // What is not JSON is refused like any other value that is no object.
                true => serde_json::from_str(&text).unwrap_or(Value::Bool(false)),
                false => Value::from(text),
            };
            if !NO_SETTINGS.contains(&name.as_str()) {
                object.insert(name, value);
            }
        }
        self.overlay(object, place);
    }

    /// Takes the known members of one object. A setting's own name wins over its other names.
    fn take(&mut self, object: Map<String, Value>, place: &Place) {
        let mut known: BTreeMap<&'static str, Vec<(usize, String, Value)>> = BTreeMap::new();
        for (key, value) in object.into_iter().filter(|(_, value)| !value.is_null()) {
            let Some(row) = self.table.row(&key) else {
                self.unknown(&key, &value, place);
                continue;
            };
            if !(row.auto && value == "auto") {
                let rank = row.names().position(|name| name == key).unwrap_or_default();
                known.entry(row.name).or_default().push((rank, key, value));
            }
        }
        for (name, mut all) in known {
            all.sort_by_key(|(rank, ..)| *rank);
            let mut all = all.into_iter().map(|(_, key, value)| (key, value));
            let Some((written, value)) = all.next() else { continue };
            for (other, _) in all {
                log::warn(format!("{place}: both {written} and {other} are given; {written} is used"));
            }
            let written = Written { place: self.place_of(&written, place), name: written };
            self.entries.insert(name, Entry { value, written });
        }
    }

    fn place_of(&self, name: &str, place: &Place) -> String {
        let variable = || format!("{}{}", self.table.variables_begin_with(), name.to_ascii_uppercase());
        match place {
            Place::File(path) => path.clone(),
            Place::DotEnv(path) => format!("{} of {path}", variable()),
            Place::Environment => format!("the variable {}", variable()),
        }
    }

    /// An unknown name is no error, because runners pass names of their own; but an address that is passed over sends the key
    /// or the rows to another place than was meant.
    fn unknown(&mut self, key: &str, value: &Value, place: &Place) {
        let shown = shown(key);
        let hint =
            nearest::known_name(self.table, key).map_or_else(String::new, |name| format!("; did you mean {name}?"));
        if is_address(value) {
            let text = format!("setting {shown}: it holds an address, and there is no such setting{hint} (in {place})");
            self.wrong.push((None, text));
        } else {
            log::warn(format!("{place}: the setting \"{shown}\" is unknown and not used{hint}"));
        }
    }

    /// Reads every value by its row of the table.
    ///
    /// # Errors
    /// [`Kind::Config`] with all wrong values in one line.
    pub fn read(mut self) -> Result<Values> {
        for row in self.table.rows.iter().filter(|row| row.secret) {
            if let Some(Value::String(secret)) = self.entries.get(row.name).map(|entry| &entry.value) {
                log::conceal(secret.trim());
            }
        }
        let mut values = BTreeMap::new();
        for row in self.table.rows {
            let (value, written) = match (self.entries.remove(row.name), row.default) {
                (Some(entry), _) => (entry.value, Some(entry.written)),
                (None, Some(default)) => (Value::from(default), None),
                (None, None) => continue,
            };
            match (row.form.read(&value), written) {
                (Some(value), written) => drop(values.insert(row.name, Held { value, written })),
                (None, written) => self.wrong.push((Some(row.name), self.refusal(row, &value, written))),
            }
        }
        let Some((first, _)) = self.wrong.first() else { return Ok(Values(values)) };
        let texts: Vec<&str> = self.wrong.iter().map(|(_, text)| text.as_str()).collect();
        let error = Error::new(Kind::Config, texts.join("; "));
        Err(match first {
            Some(name) => error.about(name),
            None => error,
        })
    }

    fn refusal(&self, row: &Setting, value: &Value, written: Option<Written>) -> String {
        let is_secret =
            row.secret || self.table.secrets_begin_with.is_some_and(|begin| value.to_string().contains(begin));
        let shown = if is_secret { "this value".to_owned() } else { shown(&value.to_string()) };
        let allowed = row.expected.map_or_else(|| row.form.allowed(), str::to_owned);
        let Written { name, place } =
            written.unwrap_or_else(|| Written { name: row.name.to_owned(), place: "the defaults".to_owned() });
        format!("setting {name}: {shown} is not allowed; give {allowed} (in {place})")
    }
}

/// A text for a message: without secrets, on one line, cut.
fn shown(text: &str) -> String {
    one_line(&log::without_secrets(text)).chars().take(MAX_SHOWN).collect()
}

/// Hides texts that begin like a secret from every message, in whichever setting they stand: people mix up settings.
fn conceal(begin: &str, members: &Map<String, Value>) {
    for (key, value) in members {
        conceal_text(begin, key);
        conceal_value(begin, value);
    }
}

fn conceal_value(begin: &str, value: &Value) {
    match value {
        Value::String(text) => conceal_text(begin, text),
        Value::Array(items) => items.iter().for_each(|item| conceal_value(begin, item)),
        Value::Object(members) => conceal(begin, members),
        _ => {}
    }
}

/// A secret ends where its letters, digits and `_-` end.
fn conceal_text(begin: &str, text: &str) {
    for (at, _) in text.match_indices(begin) {
        let rest = text.get(at..).unwrap_or_default();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).unwrap_or(rest.len());
        log::conceal(rest.get(..end).filter(|secret| secret.len() > begin.len()).unwrap_or_default());
    }
}

fn is_address(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        let text = text.trim_start().to_ascii_lowercase();
        text.starts_with("http://") || text.starts_with("https://")
    })
}
