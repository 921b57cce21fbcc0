//! How a value is written, and what is read from it.

use serde_json::Value;

/// How a setting's value is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Text, not empty.
    Text,
    /// A whole number in a range, also as text.
    Whole {
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// A number in a range, also as text.
    Number {
        /// The least allowed.
        least: f64,
        /// The most allowed.
        most: f64,
    },
    /// true or false, also as text.
    Flag,
    /// A date, or a date and time; UTC unless it says otherwise.
    Instant,
    /// A list of texts; as text it is a JSON array, or names with commas between them.
    Names,
    /// One of some words, in any case, `-` as good as `_`.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Other words, each beside the one that it stands for.
        also: &'static [(&'static str, &'static str)],
    },
}

/// One of these words.
pub const fn choice(words: &'static [&'static str]) -> Form {
    Form::Choice { words, also: &[] }
}

/// A whole number in this range.
pub const fn whole(least: u64, most: u64) -> Form {
    Form::Whole { least, most }
}

/// One value, read.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    /// A text, or the word of a choice.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// A number.
    Number(f64),
    /// true or false.
    Flag(bool),
    /// Microseconds since 1970, UTC.
    Instant(i64),
    /// A list of texts, each once.
    Names(Vec<String>),
}

impl Form {
    /// Reads a value; none where it does not fit.
    pub fn read(self, value: &Value) -> Option<Typed> {
        let text = value.as_str().map(str::trim);
        match self {
            Form::Text => text.filter(|t| !t.is_empty() && !t.contains('\0')).map(|t| Typed::Text(t.to_owned())),
            Form::Whole { least, most } => {
                let number = value.as_u64().or_else(|| text?.parse().ok())?;
                (least..=most).contains(&number).then_some(Typed::Whole(number))
            }
            Form::Number { least, most } => {
                let number = value.as_f64().or_else(|| text?.parse().ok())?;
                (least..=most).contains(&number).then_some(Typed::Number(number))
            }
            Form::Flag => value.as_bool().or_else(|| flag(value, text)).map(Typed::Flag),
            Form::Instant => micros(text?).map(Typed::Instant),
            Form::Names => names(value).map(Typed::Names),
            Form::Choice { words, also } => {
                let plain = |word: &str| word.to_ascii_lowercase().replace('_', "-");
                let given = plain(text?);
                let other = also.iter().find(|(other, _)| plain(other) == given).map(|(_, word)| *word);
                let word = words.iter().copied().find(|word| plain(word) == given).or(other);
                word.map(|word| Typed::Text(word.to_owned()))
            }
        }
    }

    /// What to give, for a message.
    pub fn allowed(self) -> String {
        match self {
            Form::Text => "a text that is not empty".to_owned(),
            Form::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Form::Number { least, most } => format!("a number from {least} to {most}"),
            Form::Flag => "true or false".to_owned(),
            Form::Instant => {
                "a date or a date with time between 1900 and 2299, like 2026-01-31 or 2026-01-31T08:00:00Z".to_owned()
            }
            Form::Names => "a list of names, none of them blank".to_owned(),
            Form::Choice { words, .. } => format!("one of {}", words.join(", ")),
        }
    }
}

/// 1 and 0 are numbers where a file says so, and texts in the environment.
fn flag(value: &Value, text: Option<&str>) -> Option<bool> {
    let number = value.as_u64().map(|number| number.to_string());
    match text.or(number.as_deref())?.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Names keep their spaces, for an event may be called ` x`; those beside a comma belong to the list.
fn names(value: &Value) -> Option<Vec<String>> {
    let list = match value {
        Value::Array(list) => list.clone(),
        Value::String(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok()?,
        Value::String(text) if text.contains(',') => {
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Value::from).collect()
        }
        Value::String(text) if text.trim().is_empty() => Vec::new(),
        Value::String(_) => vec![value.clone()],
        _ => return None,
    };
    let mut names = Vec::new();
    for name in list {
        let name = name.as_str().filter(|name| !name.trim().is_empty())?.to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(names)
}

/// Unix microseconds of a date or a date and time between 1900 and 2299, the range of ClickHouse's DateTime64.
fn micros(text: &str) -> Option<i64> {
    use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
    let with_zone = |format: &str| DateTime::parse_from_str(text, &format!("{format}%#z")).ok().map(|t| t.to_utc());
    let without = |format: &str| NaiveDateTime::parse_from_str(text, format).ok().map(|t| t.and_utc());
    let time = |format: &str| with_zone(format).or_else(|| without(format));
    let date = || -> Option<DateTime<Utc>> {
        Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?.and_utc())
    };
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let instant = DateTime::parse_from_rfc3339(text)
        .map(|t| t.to_utc())
        .ok()
        .or_else(|| formats.into_iter().find_map(time))
        .or_else(date)?;
    (1900..2300).contains(&instant.year()).then(|| instant.timestamp_micros())
}
