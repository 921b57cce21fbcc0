//! The requests of the last hour, kept in the state: PostHog counts them over all processes, so a run that starts soon
//! after another one goes on where that one stood. What a process asks after its last STATE is not counted.

use std::io::Write;

use serde_json::json;

use crate::error::Result;
use crate::posthog::http::client::Client;
use crate::posthog::pace::rate::QuotaUsed;
use crate::singer::output::Output;
use crate::singer::state::State;

/// The member of the state's root.
const REQUESTS: &str = "requests";

/// Counts what the run before this one asked. `now` is Unix time in seconds. A member of another form is left alone.
pub fn resume(state: &State, client: &Client, now: i64) {
    let spent = state.member(REQUESTS).and_then(|member| serde_json::from_value::<QuotaUsed>(member.clone()).ok());
    if let Some(spent) = spent {
        client.queries().resume(spent, now);
    }
}

/// Writes a STATE.
///
/// # Errors
/// When standard output does not take it.
pub fn write_state<W: Write>(state: &mut State, client: &Client, output: &mut Output<W>) -> Result<()> {
    state.set_member(REQUESTS, json!(client.queries().spent(chrono::Utc::now().timestamp())));
    output.state(&state.to_value())
}
