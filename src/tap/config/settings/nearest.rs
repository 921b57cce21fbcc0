//! What a misspelt setting was probably meant to be.

use super::SETTINGS;

/// The known name that an unknown one was probably meant to be.
pub(super) fn known_name(key: &str) -> Option<&'static str> {
    let all = SETTINGS.iter().flat_map(|s| std::iter::once(&s.name).chain(s.aliases)).copied();
    let (distance, name) = all.map(|name| (edits(key, name), name)).min()?;
    (distance <= 1 + name.len() / 5).then_some(name)
}

/// Levenshtein distance, without case.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
