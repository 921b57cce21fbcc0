//! `--about` of the tap: its table of settings, and in Markdown the streams, too.

use std::fmt::Write as _;

use crate::settings::about::{self, Format};
use crate::singer::catalog::Method;
use crate::tap::config::settings::TABLE;
use crate::tap::stream::{STREAMS, Stream};

/// What the tap says of itself.
pub fn about(format: Format) -> String {
    about::about(TABLE, format, &streams())
}

/// The streams as a Markdown table.
fn streams() -> String {
    let mut out = "\n### Streams of tap-posthog\n\n\
                   | stream | keys | replication | scope | on by default |\n|---|---|---|---|---|\n"
        .to_owned();
    for stream in STREAMS {
        let keys = stream.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let on = if stream.selected_by_default { "yes" } else { "" };
        let more = stream.more_scope.map_or_else(String::new, |scope| format!(", `{scope}`"));
        let replication = replication(stream);
        let _ = writeln!(out, "| `{}` | {keys} | {replication} | `{}`{more} | {on} |", stream.name, stream.scope);
    }
    out
}

fn replication(stream: &Stream) -> String {
    let by = stream.replication_keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ");
    let method = stream.method.name();
    match (stream.replication_keys.is_empty(), stream.method_is_choice) {
        (true, _) => method.to_owned(),
        (false, false) => format!("{method} on {by}"),
        (false, true) if stream.method == Method::Incremental => format!("INCREMENTAL on {by}, or FULL_TABLE"),
        (false, true) => format!("FULL_TABLE, or INCREMENTAL on {by} where PostHog has it"),
    }
}
