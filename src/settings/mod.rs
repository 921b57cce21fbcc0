//! The settings of both programs as rows of a table: names, forms, defaults and texts. The same table reads settings from
//! files and variables, finds what a misspelt name was meant to be, and prints `--about` and the tables of `docs/`.
//!
//! Later places win over earlier ones, setting by setting: the defaults, the files of `--config` in their order, then, where
//! `ENV` is among them, the `.env` file and the environment. What the values mean is each program's own business.

pub mod about;
mod dotenv;
mod file;
pub mod form;
mod given;
mod nearest;
mod table;
mod values;

use std::path::PathBuf;

use crate::error::Result;
pub use given::{Given, Place};
pub use table::{Setting, Table, row};
pub use values::Values;

/// The value of `--config` that turns on reading the environment.
const ENVIRONMENT: &str = "ENV";

/// Reads the settings from files, and from the environment if one of the files is `ENV`.
///
/// # Errors
/// [`crate::error::Kind::Config`]: what is missing, unreadable or wrong, on one line, without secrets.
pub fn load(table: &'static Table, files: &[PathBuf]) -> Result<Values> {
    let is_environment = |path: &&PathBuf| path.as_os_str() == ENVIRONMENT;
    let mut given = Given::new(table);
    for path in files.iter().filter(|path| !is_environment(path)) {
        given.overlay(file::read(path, table)?, &Place::File(path.display().to_string()));
    }
    if files.iter().any(|path| is_environment(&path)) {
        let begin = table.variables_begin_with();
        if let Some((path, variables)) = dotenv::variables(&begin) {
            given.overlay_variables(variables, &Place::DotEnv(path.display().to_string()));
        }
        let texts =
            std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        given.overlay_variables(texts.collect(), &Place::Environment);
    }
    given.read()
}

#[cfg(test)]
mod file_tests;
#[cfg(test)]
pub(crate) mod tests;
