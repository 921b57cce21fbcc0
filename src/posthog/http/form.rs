//! The body of a query: the smallest that every server takes, and three keys more that old servers refuse. A refused key is
//! left out from then on.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::envelope::OptionalKey;
use super::request::Query;
use crate::log;

/// Which optional keys this server was found to refuse.
#[derive(Debug, Default)]
pub(super) struct QueryForm {
    without_modifiers: AtomicBool,
    without_name: AtomicBool,
    without_query_id: AtomicBool,
}

impl QueryForm {
    /// A body, and the id in it by which the server can be told to stop the query. `refresh` must force: otherwise an
    /// answer of six hours ago comes back (posthog-api.md 2.3).
    ///
    /// From the second `wording` on, a comment makes the text another one.
    pub(super) fn body(&self, query: &Query<'_>, wording: u32) -> (String, Option<String>) {
        let comment = if wording > 1 { format!(" /* attempt {wording} */") } else { String::new() };
        let sql = format!("{}{comment}", query.sql);
        let mut body = json!({"query": {"kind": "HogQLQuery", "query": sql}, "refresh": "force_blocking"});
        if !self.is_without_modifiers() {
            body["query"]["modifiers"] = json!({"convertToProjectTimezone": false});
        }
        if !self.without_name.load(Ordering::Relaxed) {
            body["name"] = json!(format!("tap-posthog {}", query.name));
        }
        let id = (!self.without_query_id.load(Ordering::Relaxed)).then(query_id);
        if let Some(id) = &id {
            body["client_query_id"] = Value::from(id.as_str());
        }
        (body.to_string(), id)
    }

    pub(super) fn is_without_modifiers(&self) -> bool {
        self.without_modifiers.load(Ordering::Relaxed)
    }

    pub(super) fn leave_out(&self, key: OptionalKey, why: &str) {
        let flag = match key {
            OptionalKey::Modifiers => &self.without_modifiers,
            OptionalKey::Name => &self.without_name,
            OptionalKey::QueryId => &self.without_query_id,
        };
        if !flag.swap(true, Ordering::Relaxed) {
            log::info(format!(
                "this PostHog does not take the optional key {key:?} of a query; going on without it ({why})"
            ));
        }
    }
}

/// Random, so that nobody else's is met.
fn query_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    let part = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("tap-posthog-{:016x}{:016x}", part(), part())
}
