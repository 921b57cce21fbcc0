//! The Singer wire format: messages, catalog and selection, state. Knows neither PostHog nor Parquet.

pub mod catalog;
pub mod output;
pub mod state;

/// The text of a file, without the mark (BOM) that some editors and shells put before it.
pub(crate) fn read_text(path: &std::path::Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
