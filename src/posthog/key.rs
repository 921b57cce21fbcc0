//! What the personal API key may do, as the key itself says.

use serde_json::Value;

use super::fault::{Cause, Failure, Fault};
use super::http::client::{Answer, Client, Get, RateClass};
use super::http::retry::RetryPolicy;
use crate::error::{Error, Kind};

/// Attempts at a description that one can do without.
const ATTEMPTS: u32 = 2;
/// What a description may weigh.
const MAX_BYTES: usize = 256 * 1024;

/// Projects that a message names.
const TEAMS_SHOWN: usize = 10;

/// Whether these scopes allow what `scope` allows: writing includes reading, `*` is everything.
pub fn covers(scopes: &[String], scope: &str) -> bool {
    let write = scope.replace(":read", ":write");
    scopes.iter().any(|has| has == "*" || has == scope || *has == write)
}

/// What the key may do, from the key's own description. None where this PostHog does not tell.
pub fn scopes_of_key(client: &Client, retry_policy: &RetryPolicy) -> Result<Option<Vec<String>>, Fault> {
    let retry_policy = Some(retry_policy.at_most(ATTEMPTS));
    let get = Get {
        retry_policy,
        max_bytes: Some(MAX_BYTES),
        ..Get::new("api/personal_api_keys/@current/", RateClass::Lists)
    };
    let read = |answer: Answer| {
        serde_json::from_slice::<Value>(&answer.body).map_err(|_| Fault::untrusted("the key's description is not JSON"))
    };
    let key = match client.get(&get, read) {
        Ok(key) => key,
        Err(Fault::Fatal(Failure {
            cause: Cause::Scope(_) | Cause::Access | Cause::Missing | Cause::Request | Cause::Untrusted,
            ..
        })) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let project = client.options().project_id;
    let teams: Vec<u64> = key["scoped_teams"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    if !teams.is_empty() && !teams.contains(&project) {
        let shown: Vec<String> = teams.iter().take(TEAMS_SHOWN).map(u64::to_string).collect();
        let more = if teams.len() > TEAMS_SHOWN { ", ..." } else { "" };
        let text = format!(
            "the key is restricted to the projects {}{more}; add project {project} to it, or check project_id",
            shown.join(", ")
        );
        return Err(Fault::Fatal(Failure { cause: Cause::Access, error: Error::new(Kind::Config, text) }));
    }
    let scopes = key["scopes"].as_array();
    Ok(scopes.map(|scopes| scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}
