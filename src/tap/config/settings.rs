//! The settings of the tap as rows of one table: what people may write, how it is read, and what is said when it is wrong.
//! The same table prints `--about` and the README's table. What the values mean is `config.rs`'s business.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result, one_line};
use crate::log;

/// How a setting's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// true or false, also as text.
    Flag,
    /// A date, or a date and time; UTC unless it says otherwise.
    Instant,
    /// A list of texts, also as the text of a JSON array, or one text.
    Names,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in configuration files; `TAP_POSTHOG_` and the name in capitals is its name in the environment.
    pub name: &'static str,
    /// Other names that people try first.
    pub aliases: &'static [&'static str],
    /// How its value is written.
    pub form: Form,
    /// The value when it is not given, as it would be written.
    pub default: Option<&'static str>,
    /// Never printed.
    pub secret: bool,
    /// What it does, in one sentence.
    pub description: &'static str,
}

const fn row(name: &'static str, form: Form, default: Option<&'static str>, description: &'static str) -> Setting {
    Setting { name, aliases: &[], form, default, secret: false, description }
}

impl Setting {
    const fn or(self, aliases: &'static [&'static str]) -> Setting {
        Setting { aliases, ..self }
    }

    const fn secret(self) -> Setting {
        Setting { secret: true, ..self }
    }
}

const fn whole(least: u64, most: u64) -> Form {
    Form::Whole { least, most }
}

/// Every setting of the tap, in the order of the README.
pub const SETTINGS: &[Setting] = &[
    row("api_key", Form::Text, None, "Personal API key (`phx_...`); needs the scope `query:read`.").secret(),
    row("project_id", whole(1, i64::MAX as u64), None, "The project's number (PostHog, Settings, Project ID)."),
    row("region", Form::Choice(&["us", "eu", "self_hosted"]), Some("us"), "Where the project lives."),
    row("custom_base_url", Form::Text, None, "Address of a self-hosted PostHog, sub-path included.")
        .or(&["base_url", "api_url"]),
    row(
        "initial_since",
        Form::Instant,
        None,
        "Oldest `timestamp` to read; 30 days before the first run when not given.",
    )
    .or(&["start_date"]),
    row("until", Form::Instant, None, "Read only events with a `timestamp` before this.").or(&["end_date"]),
    row("event_types", Form::Names, None, "Read only events of these names; all when not given."),
    row("data_type", Form::Text, None, "Without a catalog: read only this stream."),
    row("lookback_window_minutes", whole(0, 43_200), Some("15"), "Arrival time that the next run reads again."),
    row(
        "late_arrival_days",
        whole(0, 36_500),
        Some("7"),
        "How old, by its own `timestamp`, an event that arrives late may be; 0: any age.",
    ),
    row("horizon_lag_seconds", whole(0, 86_400), Some("0"), "Leave the newest seconds of arrivals to the next run."),
    row("page_size", whole(1, 50_000), None, "Most rows of one answer; adapts itself when not given or `auto`."),
    row(
        "max_response_mb",
        whole(1, 1024),
        Some("48"),
        "A larger answer is cut off and asked for in smaller parts. With the default the tap stays at about 70 MB, also for a single event of that size.",
    ),
    row("deduplication_enabled", Form::Flag, Some("true"), "Leave out what an earlier run or page has delivered."),
    row("flatten_properties", Form::Flag, Some("true"), "One column per property instead of one object."),
    row(
        "max_property_columns",
        // Of both and with the fixed ones: no more than target-parquet takes.
        whole(0, 4_900),
        Some("1000"),
        "Most columns of properties, of events and again of persons.",
    ),
    row(
        "persons_column_prefix",
        Form::Choice(&["properties", "person_properties"]),
        Some("properties"),
        "Columns of properties in `persons` are `properties_<name>`, or `person_properties_<name>` as those in `events`.",
    ),
    row(
        "person_id_mode",
        Form::Choice(&["event", "joined"]),
        Some("event"),
        "`person_id` as ingested, or corrected by merges at the cost of a join.",
    ),
    row(
        "count_proof",
        Form::Choice(&["strict", "warn", "off"]),
        Some("strict"),
        "What happens when the rows of a slice, or the items of a list, are not as many as the server counts.",
    ),
    row(
        "max_state_bytes",
        whole(10_000, 100_000_000),
        Some("2000000"),
        "Most bytes of the list of delivered events in the state (about 8.2 bytes each, 10 while a run is under way).",
    ),
    row("requests_per_minute", whole(1, 100_000), Some("240"), "Most queries in any minute."),
    row("requests_per_hour", whole(1, 1_000_000), Some("2400"), "Most queries in any hour."),
    row(
        "budget",
        Form::Choice(&["wait", "stop"]),
        Some("wait"),
        "When the project's hourly byte budget is nearly used up: wait for it, or stop with exit code 75.",
    ),
    row(
        "max_wait_minutes",
        whole(0, 1440),
        Some("60"),
        "The longest wait that PostHog or its byte budget may ask for; a longer one stops the run with exit code 75.",
    ),
    row("request_timeout", whole(1, 3600), Some("100"), "Seconds without a byte before a request is given up."),
    row("ca_file", Form::Text, None, "PEM file of certificate authorities to trust besides the system's."),
    row("proxy", Form::Text, None, "Proxy address; the environment's proxies are not used.").secret(),
    row("allow_insecure_http", Form::Flag, Some("false"), "Send the key over `http://` to other machines."),
    row("user_agent", Form::Text, Some(concat!("tap-posthog/", env!("CARGO_PKG_VERSION"))), "How requests name us."),
];

/// The component that we re-create was configured with its connection inside this object.
const NESTED: &str = "resolved_connection";
const ENVIRONMENT_PREFIX: &str = "TAP_POSTHOG_";

/// One value, read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Typed {
    Text(String),
    Whole(u64),
    Flag(bool),
    Instant(i64),
    Names(Vec<String>),
}

/// Given and default values by name. Which type a name has is the table's decision; asking for another is a fault of ours.
#[derive(Debug)]
pub struct Settings(BTreeMap<&'static str, Typed>);

/// Raw values by name, later ones over earlier ones, before they are read.
#[derive(Debug, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, Value>,
    /// What was found wrong on the way.
    wrong: Vec<String>,
}

impl Raw {
    /// Puts the values of one configuration object over those that are there. Null means not given. Unknown names warn,
    /// they are not errors: runners pass their own keys.
    pub fn overlay(&mut self, mut object: Map<String, Value>, origin: &str) {
        let mut file = BTreeMap::new();
        // Plain keys win over nested ones.
        match object.shift_remove(NESTED) {
            Some(Value::Object(nested)) => take(&mut file, nested, origin),
            None | Some(Value::Null) => {}
            // Its text may be the key.
            Some(_) => self.wrong.push(format!(
                "setting {NESTED} in {origin}: this value is not allowed; give an object that holds settings"
            )),
        }
        take(&mut file, object, origin);
        self.values.extend(file);
    }

    /// Puts the environment's values (`TAP_POSTHOG_...`) over those that are there.
    pub fn overlay_environment(&mut self, read: impl Fn(&str) -> Option<String>) {
        let nested = format!("{ENVIRONMENT_PREFIX}{}", NESTED.to_ascii_uppercase());
        if let Some(text) = read(&nested).filter(|text| !text.is_empty()) {
            // What is not JSON is refused like any other value that is no object.
            let value = serde_json::from_str(&text).unwrap_or(Value::Bool(false));
            self.overlay(Map::from_iter([(NESTED.to_owned(), value)]), "the environment");
        }
        for setting in SETTINGS {
            let names = std::iter::once(&setting.name).chain(setting.aliases);
            let value = names
                .map(|name| format!("{ENVIRONMENT_PREFIX}{}", name.to_ascii_uppercase()))
                .find_map(|name| read(&name));
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                self.values.insert(setting.name, Value::from(value));
            }
        }
    }

    /// Reads every value by its row of the table.
    ///
    /// # Errors
    /// [`Kind::Config`] with all wrong values in one line.
    pub fn read(self) -> Result<Settings> {
        if let Some(Value::String(key)) = self.values.get("api_key") {
            log::conceal(key.trim());
        }
        let mut values = BTreeMap::new();
        let mut wrong = self.wrong;
        for setting in SETTINGS {
            let default = || setting.default.map(Value::from);
            let Some(value) = self.values.get(setting.name).cloned().or_else(default) else { continue };
            match typed(setting.form, &value) {
                Some(value) => drop(values.insert(setting.name, value)),
                None => wrong.push(refusal(setting, &value)),
            }
        }
        if wrong.is_empty() { Ok(Settings(values)) } else { Err(Error::new(Kind::Config, wrong.join("; "))) }
    }
}

/// Takes the known keys of one object; a name wins over its aliases.
fn take(into: &mut BTreeMap<&'static str, Value>, object: Map<String, Value>, origin: &str) {
    let mut by_alias = Vec::new();
    let mut by_name = BTreeMap::new();
    for (key, value) in object {
        if value.is_null() || key == "page_size" && value == "auto" {
            continue;
        }
        if let Some(setting) = SETTINGS.iter().find(|s| s.name == key) {
            by_name.insert(setting.name, value);
        } else if let Some(setting) = SETTINGS.iter().find(|s| s.aliases.contains(&key.as_str())) {
            by_alias.push((setting.name, key, value));
        } else {
            let hint =
                self::nearest::known_name(&key).map_or_else(String::new, |name| format!("; did you mean {name}?"));
            log::warn(format!("{origin}: the setting \"{key}\" is unknown and not used{hint}"));
        }
    }
    for (name, key, value) in by_alias {
        if by_name.contains_key(name) {
            log::warn(format!("{origin}: both {name} and {key} are given; {name} is used"));
        } else {
            by_name.insert(name, value);
        }
    }
    into.extend(by_name);
}

impl Settings {
    /// A text, if given.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the table says that it is no text; so for the others below.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Typed::Text(text)) => Ok(Some(text)),
            Some(_) => Err(not_in_table(name)),
        }
    }

    /// A whole number, if given.
    ///
    /// # Errors
    /// As [`Settings::text`].
    pub fn whole_if_given(&self, name: &str) -> Result<Option<u64>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Typed::Whole(number)) => Ok(Some(*number)),
            Some(_) => Err(not_in_table(name)),
        }
    }

    /// A whole number that has a default.
    ///
    /// # Errors
    /// As [`Settings::text`].
    pub fn whole(&self, name: &str) -> Result<u64> {
        self.whole_if_given(name)?.ok_or_else(|| not_in_table(name))
    }

    /// A text that has a default.
    ///
    /// # Errors
    /// As [`Settings::text`].
    pub fn word(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| not_in_table(name))
    }

    /// A flag; all have defaults.
    ///
    /// # Errors
    /// As [`Settings::text`].
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.0.get(name) {
            Some(Typed::Flag(flag)) => Ok(*flag),
            _ => Err(not_in_table(name)),
        }
    }

    /// An instant in Unix microseconds, if given.
    ///
    /// # Errors
    /// As [`Settings::text`].
    pub fn instant(&self, name: &str) -> Result<Option<i64>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Typed::Instant(micros)) => Ok(Some(*micros)),
            Some(_) => Err(not_in_table(name)),
        }
    }

    /// A list of names; empty when not given.
    ///
    /// # Errors
    /// As [`Settings::text`].
    pub fn names(&self, name: &str) -> Result<&[String]> {
        match self.0.get(name) {
            None => Ok(&[]),
            Some(Typed::Names(names)) => Ok(names),
            Some(_) => Err(not_in_table(name)),
        }
    }
}

fn not_in_table(name: &str) -> Error {
    Error::new(Kind::Internal, format!("the setting {name} is not read as its table says"))
}

fn typed(form: Form, value: &Value) -> Option<Typed> {
    let text = value.as_str().map(str::trim);
    match form {
        Form::Text => text.filter(|t| !t.is_empty()).map(|t| Typed::Text(t.to_owned())),
        Form::Whole { least, most } => {
            let number = value.as_u64().or_else(|| text?.parse().ok())?;
            (least..=most).contains(&number).then_some(Typed::Whole(number))
        }
        Form::Flag => {
            let flag = value.as_bool().or_else(|| match text?.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            });
            flag.map(Typed::Flag)
        }
        Form::Instant => micros(text?).map(Typed::Instant),
        Form::Names => names(value).map(Typed::Names),
        Form::Choice(words) => {
            let word = text?.to_ascii_lowercase().replace('-', "_");
            words.contains(&word.as_str()).then_some(Typed::Text(word))
        }
    }
}

/// Names keep their spaces: an event may be called ` x`.
fn names(value: &Value) -> Option<Vec<String>> {
    let list = match value {
        Value::Array(list) => list.clone(),
        Value::String(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok()?,
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
    use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
    let naive = |format| NaiveDateTime::parse_from_str(text, format).ok();
    let instant = DateTime::parse_from_rfc3339(text)
        .map(|t| t.to_utc())
        .ok()
        .or_else(|| naive("%Y-%m-%dT%H:%M:%S%.f").or_else(|| naive("%Y-%m-%d %H:%M:%S%.f")).map(|t| t.and_utc()))
        .or_else(|| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?.and_utc()))?;
    (1900..2300).contains(&instant.year()).then(|| instant.timestamp_micros())
}

fn refusal(setting: &Setting, value: &Value) -> String {
    let given = if setting.secret {
        "this value".to_owned()
    } else {
        one_line(&value.to_string().chars().take(80).collect::<String>())
    };
    let allowed = match setting.form {
        Form::Text => "a text that is not empty".to_owned(),
        Form::Whole { least, .. } if setting.name == "project_id" => format!(
            "the project's number, {least} or more (PostHog, Settings, Project ID; `@current` is not a project, it follows \
             the person who uses the web app)"
        ),
        Form::Whole { least, most } => format!("a whole number from {least} to {most}"),
        Form::Flag => "true or false".to_owned(),
        Form::Instant => {
            "a date or a date with time between 1900 and 2299, like 2026-01-31 or 2026-01-31T08:00:00Z".to_owned()
        }
        Form::Names => "a list of names, none of them blank".to_owned(),
        Form::Choice(words) => format!("one of {}", words.join(", ")),
    };
    format!("setting {}: {given} is not allowed; give {allowed}", setting.name)
}

mod nearest;

#[cfg(test)]
mod tests;
