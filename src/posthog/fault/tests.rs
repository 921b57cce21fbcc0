use super::*;

fn judge(status: u16, body: &str) -> RetryDecision {
    let refused = ErrorResponse {
        status,
        retry_after: None,
        location: None,
        body: body.as_bytes(),
        asked: "POST https://us.posthog.com/api/projects/7/query/",
        project_id: 7,
        proxy: None,
        other_kind_of_key: None,
    };
    refused.decision()
}

fn envelope(code: &str, detail: &str) -> String {
    serde_json::json!({"type": "x", "code": code, "detail": detail, "attr": null}).to_string()
}

/// A decision as one word, and its text.
fn word(decision: RetryDecision) -> (String, String) {
    match decision {
        RetryDecision::Again(cause, _, text) => (format!("again {cause:?}"), text),
        RetryDecision::Slow(text) => ("slow".into(), text),
        RetryDecision::Wait(refusal, wait, text) => (format!("{refusal:?} {:?}", wait.map(|w| w.as_secs())), text),
        RetryDecision::Without(key, text) => (format!("without {key:?}"), text),
        RetryDecision::Final(Fault::Split(text)) => ("split".into(), text),
        RetryDecision::Final(Fault::Fatal(failure)) => {
            (format!("{:?} {}", failure.cause, failure.error.kind().exit_code()), failure.error.to_string())
        }
        RetryDecision::Final(other) => (format!("{other:?}"), String::new()),
    }
}

#[test]
fn each_known_answer_has_its_verdict() {
    let html = "<html><head><title>x</title></head></html>";
    let cases = [
        (401, envelope("authentication_failed", "Personal API key found in request is invalid."), "Key 3"),
        (403, envelope("permission_denied", "API key missing required scope 'query:read'"), "Scope(\"query:read\") 3"),
        (
            403,
            envelope("permission_denied", "API key does not have access to the requested project: ID 7."),
            "Access 3",
        ),
        (403, envelope("permission_denied", "You don't have access to the project."), "Access 3"),
        (403, html.into(), "again Server"),
        (404, envelope("not_found", "Project not found."), "Project 3"),
        (404, envelope("not_found", "Endpoint not found."), "Missing 3"),
        (404, html.into(), "Missing 3"),
        (407, html.into(), "Proxy 4"),
        (302, String::new(), "Redirect 3"),
        (402, envelope("api_queries_quota_exceeded", "Quota"), "Quota 4"),
        (400, envelope("invalid_input", "Unable to resolve field: name"), "Request 4"),
        (400, envelope("too_many_bytes", "Limit for bytes to read exceeded"), "split"),
        (409, envelope("conflict", "Conflict"), "again Server"),
        (429, envelope("throttled", "Request was throttled. Expected available in 23 seconds."), "Throttle Some(23)"),
        (429, envelope("throttled", "Exceeded maximum concurrency limit: 3 for key: api"), "Concurrency None"),
        (429, envelope("x", "Too many queries are running right now — please try again"), "Concurrency None"),
        (429, envelope("api_queries_budget_exceeded", "Budget"), "Budget None"),
        (429, html.into(), "Throttle None"),
        (500, envelope("error", "A server error occurred."), "again Server"),
        (500, html.into(), "again Server"),
        (500, String::new(), "again Server"),
        (500, envelope("error", "Query size exceeded."), "Request 4"),
        (502, html.into(), "again Server"),
        (503, envelope("error", "Queries are a little too busy right now."), "again Server"),
        (504, envelope("error", "Query has hit the max execution time before completing."), "split"),
        (504, html.into(), "slow"),
        (512, envelope("error", "Estimated query execution time (12.5 seconds) is too long."), "split"),
        (513, envelope("clickhouse_memory_limit_exceeded", "This query ran out of memory."), "split"),
        (513, envelope("clickhouse_memory_limit_exceeded", "We're under heavy load right now"), "again Server"),
        (504, envelope("clickhouse_memory_limit_exceeded", "This query ran out of memory."), "split"),
        (522, html.into(), "again Server"),
        (524, html.into(), "slow"),
        (
            500,
            envelope("error", "x. This query failed the same way 3 times in a row, so it was not run again."),
            "split",
        ),
        (202, "{}".into(), "again Server"),
    ];
    for (status, body, expected) in cases {
        assert_eq!(word(judge(status, &body)).0, expected, "{status} {body}");
    }
}

#[test]
fn old_servers_name_the_key_that_they_do_not_know() {
    for (detail, expected) in [
        (
            "1 validation error for QueryRequest\nquery.HogQLQuery.modifiers.convertToProjectTimezone\n  Extra inputs are \
             not permitted",
            "without Modifiers",
        ),
        ("1 validation error for QueryRequest\nname\n  Extra inputs are not permitted [type=extra]", "without Name"),
        ("1 validation error for QueryRequest\nclient_query_id\n  Extra inputs are not permitted", "without QueryId"),
        ("1 validation error for QueryRequest\nquery.kind\n  Input should be a name that is known", "Request 4"),
        ("1 validation error for QueryRequest\nquery.kind\n  unexpected", "Request 4"),
    ] {
        assert_eq!(word(judge(400, &envelope("parse_error", detail))).0, expected, "{detail}");
    }
}

#[test]
fn lines_say_what_was_asked_and_what_to_do() {
    let (_, line) = word(judge(404, &envelope("not_found", "Project not found.")));
    assert_eq!(
        line,
        "POST https://us.posthog.com/api/projects/7/query/ was answered with 404: Project not found. - check project_id 7 \
         (PostHog, Settings, Project ID) and that region is the one of this project"
    );
}

#[test]
fn server_texts_are_cut_and_lose_secrets_and_control_characters() {
    log::conceal("phx_fault_text_secret");
    let text = shown(&format!("a\nphx_fault_text_secret {}", "x".repeat(1000)));
    assert!(text.starts_with("a\\u{a}*** x") && text.len() < 400, "{text}");
    assert_eq!(shown("  "), "(no text)");
}
