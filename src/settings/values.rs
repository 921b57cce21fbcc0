//! Settings that were read: given and default values by name. Which type a name has is the table's decision, and asking for
//! another is a fault of ours.

use std::collections::BTreeMap;

use super::form::Typed;
use crate::error::{Error, Kind, Result};

/// Given and default values by name.
#[derive(Debug)]
pub struct Values(pub(super) BTreeMap<&'static str, Held>);

/// A value, and how its setting was written where it was given.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) value: Typed,
    pub(super) written: Option<Written>,
}

/// How a setting was written, for messages.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Its own name, or one of its other names.
    pub(super) name: String,
    /// The file or the variable.
    pub(super) place: String,
}

/// Reads the value of a name if its type is this one.
macro_rules! if_given {
    ($self:ident, $name:ident, $type:path) => {
        match $self.0.get($name).map(|held| &held.value) {
            None => Ok(None),
            Some($type(value)) => Ok(Some(value)),
            Some(_) => Err(not_in_table($name)),
        }
    };
}

/// All fail with [`Kind::Internal`] when the table says another type, or has no default where a value has to be.
impl Values {
    /// A text, if given.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        if_given!(self, name, Typed::Text).map(|text: Option<&String>| text.map(String::as_str))
    }

    /// A text or a word that has a default.
    pub fn word(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| not_in_table(name))
    }

    /// A whole number, if given.
    pub fn whole_if_given(&self, name: &str) -> Result<Option<u64>> {
        if_given!(self, name, Typed::Whole).map(Option::<&u64>::copied)
    }

    /// A whole number that has a default.
    pub fn whole(&self, name: &str) -> Result<u64> {
        self.whole_if_given(name)?.ok_or_else(|| not_in_table(name))
    }

    /// A number that has a default.
    pub fn number(&self, name: &str) -> Result<f64> {
        if_given!(self, name, Typed::Number)?.copied().ok_or_else(|| not_in_table(name))
    }

    /// A flag; all have defaults.
    pub fn flag(&self, name: &str) -> Result<bool> {
        if_given!(self, name, Typed::Flag)?.copied().ok_or_else(|| not_in_table(name))
    }

    /// An instant in Unix microseconds, if given.
    pub fn instant(&self, name: &str) -> Result<Option<i64>> {
        if_given!(self, name, Typed::Instant).map(Option::<&i64>::copied)
    }

    /// A list of names; empty when not given.
    pub fn names(&self, name: &str) -> Result<&[String]> {
        self.names_if_given(name).map(|names| names.unwrap_or_default())
    }

    /// A list of names, if given.
    pub fn names_if_given(&self, name: &str) -> Result<Option<&[String]>> {
        if_given!(self, name, Typed::Names).map(|names: Option<&Vec<String>>| names.map(Vec::as_slice))
    }

    /// The name as it was written, where it was given.
    pub fn name<'a>(&'a self, name: &'a str) -> &'a str {
        self.written(name).map_or(name, |written| &written.name)
    }

    /// What is wrong with a setting, under the name that it was written with, and where.
    pub fn refuse(&self, name: &'static str, why: impl std::fmt::Display) -> Error {
        let place = self.written(name).map_or_else(String::new, |written| format!(" (in {})", written.place));
        Error::new(Kind::Config, format!("setting {}: {why}{place}", self.name(name))).about(name)
    }

    fn written(&self, name: &str) -> Option<&Written> {
        self.0.get(name)?.written.as_ref()
    }
}

fn not_in_table(name: &str) -> Error {
    Error::new(Kind::Internal, format!("the setting {name} is not read as its table says"))
}
