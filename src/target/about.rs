//! What `--about` prints: the table of settings, in the forms that Singer tools and people read.

use serde_json::{Map, Value, json};

use super::settings::SETTINGS;

const DESCRIPTION: &str = "Singer target that writes Parquet files, each row exactly once";
const CAPABILITIES: [&str; 3] = ["about", "activate-version", "structured-logging"];

/// As the Singer SDK's `--about --format json`.
#[must_use]
pub fn json() -> String {
    let mut properties = Map::new();
    for setting in SETTINGS {
        let default: Value = serde_json::from_str(setting.default).unwrap_or_default();
        let title = setting.name.replace('_', " ");
        properties.insert(
            setting.name.to_owned(),
            json!({"type": [setting.kind, "null"], "title": title, "description": setting.description, "default": default}),
        );
    }
    let about = json!({
        "name": "target-parquet", "description": DESCRIPTION, "version": env!("CARGO_PKG_VERSION"), "sdk_version": null,
        "supported_python_versions": null, "capabilities": CAPABILITIES,
        "settings": {"type": "object", "properties": properties},
    });
    serde_json::to_string_pretty(&about).unwrap_or_default()
}

/// As a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let mut page = format!("# target-parquet {}\n\n{DESCRIPTION}.\n\n", env!("CARGO_PKG_VERSION"));
    page.push_str("| setting | also | type | default | meaning |\n|---|---|---|---|---|\n");
    for s in SETTINGS {
        let aliases = s.aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>().join(", ");
        page.push_str(&format!("| `{}` | {aliases} | {} | `{}` | {} |\n", s.name, s.kind, s.default, s.description));
    }
    page
}

/// As plain text.
#[must_use]
pub fn text() -> String {
    let mut page = format!("target-parquet {}: {DESCRIPTION}\n\n", env!("CARGO_PKG_VERSION"));
    for s in SETTINGS {
        page.push_str(&format!("{:22} {} (default {})\n", s.name, s.description, s.default));
    }
    page
}
