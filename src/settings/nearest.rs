//! What a misspelt setting was probably meant to be.

use super::table::Table;

/// The known name that an unknown one was probably meant to be.
pub fn known_name(table: &Table, key: &str) -> Option<&'static str> {
    let key = key.to_lowercase().replace('-', "_");
    let all = table.rows.iter().flat_map(|row| row.names());
    let (distance, name) = all.map(|name| (strsim::damerau_levenshtein(&key, name), name)).min()?;
    (distance <= 1 + name.len() / 5).then_some(name)
}
