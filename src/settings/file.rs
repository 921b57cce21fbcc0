//! A settings file: an object of JSON, or a mapping of YAML.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::table::{Setting, Table};
use crate::error::{Error, Kind, Result};
use crate::log;

/// Settings are small; a larger file is another file.
const MAX_BYTES: u64 = 1 << 20;
/// Settings are flat but for a list or an object; a YAML file with aliases of aliases is refused before it grows.
const MAX_YAML_NODES: usize = 100_000;
const MAX_YAML_DEPTH: usize = 32;

/// The object in a file. What is wrong is said by its place in the file alone: what stands there may be a key.
pub fn read(path: &Path, table: &Table) -> Result<Map<String, Value>> {
    let refuse = |why: &str| Error::new(Kind::Config, format!("settings file {}: {why}", path.display()));
    let text = text(path).map_err(|e| refuse(&e.to_string()))?;
    if holds_secret(&text, table) {
        warn_if_open(path);
    }
    match parsed(&text).map_err(|why| refuse(&why))? {
        Value::Object(object) => Ok(object),
        _ => {
            let row = table.rows.first().map_or("name", |row| row.name);
            Err(refuse(&format!("holds no settings; write an object like {{\"{row}\": \"...\"}}")))
        }
    }
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("is larger than 1 MB, so it holds something else than settings"));
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn parsed(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    serde_json::from_str::<Value>(text).or_else(|json| {
        yaml(text).map_err(|yaml| match yaml {
            serde_saphyr::Error::DuplicateMappingKey { location, .. } => {
                format!("gives a setting twice (line {}, column {})", location.line(), location.column())
            }
            // `{` opens an object of JSON and a mapping of YAML.
            _ if text.trim_start().starts_with('{') => {
                format!("is not valid JSON (line {}, column {})", json.line(), json.column())
            }
            yaml => {
                let place = yaml
                    .location()
                    .map_or_else(String::new, |l| format!(" (line {}, column {})", l.line(), l.column()));
                format!("is neither a JSON object nor valid YAML{place}")
            }
        })
    })
}

/// YAML 1.2: `yes`, `no`, dates and `007` are texts, which the forms of settings then read.
fn yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    let budget = serde_saphyr::budget! {
        max_nodes: MAX_YAML_NODES,
        max_events: MAX_YAML_NODES * 2,
        max_depth: MAX_YAML_DEPTH,
        flow_nesting_limit: MAX_YAML_DEPTH,
        max_documents: 1,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_YAML_NODES },
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// True where a secret's name, or how a secret begins, stands anywhere in the text.
fn holds_secret(text: &str, table: &Table) -> bool {
    let text = text.to_lowercase();
    let mut secrets = table.rows.iter().filter(|row| row.secret);
    let names = |row: &Setting| text.contains(row.name) || row.aliases.iter().any(|name| text.contains(name));
    secrets.any(names) || table.secrets_begin_with.is_some_and(|begin| text.contains(begin))
}

fn warn_if_open(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    // A pipe or a descriptor (`--config <(...)`) has no meaningful mode.
    let open = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o004 != 0);
    // Meltano writes its own files, and removes them after the run: nobody else can give them another mode.
    let written_by_meltano = path.ancestors().any(|folder| folder.ends_with(".meltano/run"));
    if open && !written_by_meltano {
        log::warn(format!(
            "{} can be read by every user of this machine; chmod 600 keeps the key private",
            path.display()
        ));
    }
}
