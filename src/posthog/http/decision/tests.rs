use super::*;
use crate::log;

fn judge(status: u16, body: &str) -> RetryDecision {
    judge_challenge(status, &[], body)
}

fn judge_challenge(status: u16, challenges: &[&str], body: &str) -> RetryDecision {
    let refused = ErrorResponse {
        status,
        retry_after: None,
        location: None,
        challenges: &challenges.iter().copied().map(str::to_owned).collect::<Vec<_>>(),
        body: body.as_bytes(),
        asked: "POST https://us.posthog.com/api/projects/7/query/",
        project_id: 7,
        names: &Names { address: "custom_base_url".to_owned(), key: "api_key".to_owned() },
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
        RetryDecision::Foreign(text) => ("foreign".into(), text),
        RetryDecision::Unanswered { cause, why, .. } => (format!("unanswered {cause:?}"), why),
        RetryDecision::Slow(text) => ("slow".into(), text),
        RetryDecision::Wait(refusal, wait, text) => (format!("{refusal:?} {:?}", wait.map(|w| w.as_secs())), text),
        RetryDecision::Without(key, text) => (format!("without {key:?}"), text),
        RetryDecision::Final(Fault::Split(why)) => (format!("split {:?}", why.of), why.to_string()),
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
        (400, envelope("invalid_input", "Unable to resolve field: name"), "UnknownColumn(\"name\") 4"),
        (400, envelope("invalid_input", "Unable to resolve field: `modifiers`"), "UnknownColumn(\"modifiers`\") 4"),
        (400, envelope("invalid_input", "Unknown table `raw_persons`."), "UnknownTable 4"),
        (400, envelope("invalid_input", "Illegal types of arguments"), "Request 4"),
        (400, envelope("too_many_bytes", "Limit for bytes to read exceeded"), "split ReadBytes"),
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
        (504, envelope("error", "Query has hit the max execution time before completing."), "split Time"),
        (504, html.into(), "slow"),
        (512, envelope("error", "Estimated query execution time (12.5 seconds) is too long."), "split Time"),
        (513, envelope("clickhouse_memory_limit_exceeded", "This query ran out of memory."), "split Memory"),
        (513, envelope("clickhouse_memory_limit_exceeded", "We're under heavy load right now"), "again Server"),
        (504, envelope("clickhouse_memory_limit_exceeded", "This query ran out of memory."), "split Memory"),
        (522, html.into(), "again Server"),
        (524, html.into(), "slow"),
        (
            500,
            envelope("error", "x. This query failed the same way 3 times in a row, so it was not run again."),
            "split Unsaid",
        ),
        (202, "{}".into(), "again Server"),
    ];
    for (status, body, expected) in cases {
        assert_eq!(word(judge(status, &body)).0, expected, "{status} {body}");
    }
}

/// The decision on every status, without one of the texts that are known, in the two forms that an answer has.
#[test]
fn every_status_has_its_decision() {
    let decided = |body: &str| {
        let mut ranges: Vec<(u16, u16, String)> = Vec::new();
        for status in 100..=599 {
            let (decision, text) = word(judge(status, body));
            let unforeseen = if text.contains("not foreseen") { ", not foreseen" } else { "" };
            let decision = format!("{decision}{unforeseen}");
            match ranges.last_mut() {
                Some((_, end, last)) if *last == decision => *end = status,
                _ => ranges.push((status, status, decision)),
            }
        }
        ranges.iter().map(|(from, to, decision)| format!("{from}-{to} {decision}")).collect::<Vec<_>>()
    };
    let expected = [
        "100-201 again Server, not foreseen",
        "202-202 again Server",
        "203-299 again Server, not foreseen",
        "300-399 Redirect 3",
        "400-400 Request 4",
        "401-401 Key 3",
        "402-402 Quota 4",
        "403-403 Access 3",
        "404-404 Missing 3",
        "405-406 Request 4",
        "407-407 Proxy 4",
        "408-409 again Server",
        "410-411 Request 4",
        "412-412 again Server, not foreseen",
        "413-415 Request 4",
        "416-424 again Server, not foreseen",
        "425-425 again Server",
        "426-428 again Server, not foreseen",
        "429-429 Throttle None",
        "430-430 again Server, not foreseen",
        "431-431 Request 4",
        "432-499 again Server, not foreseen",
        "500-500 again Server",
        "501-501 again Server, not foreseen",
        "502-503 again Server",
        "504-504 split Unsaid",
        "505-511 again Server, not foreseen",
        "512-513 split Unsaid",
        "514-519 again Server, not foreseen",
        "520-523 again Server",
        "524-524 slow",
        "525-527 again Server",
        "528-529 again Server, not foreseen",
        "530-530 again Server",
        "531-599 again Server, not foreseen",
    ];
    assert_eq!(decided(&envelope("x", "Something.")), expected);
    // A page of somebody in between: only PostHog itself refuses a key, or has no time and memory. A 401 is somebody else's
    // refusal, and stays one.
    let of_a_page = expected.map(|line| match line.get(..3) {
        Some("401") => "401-401 Gate 3",
        Some("403") => "403-403 again Server",
        Some("504") => "504-504 slow",
        Some("512") => "512-513 again Server",
        _ => line,
    });
    assert_eq!(decided("<html></html>"), of_a_page);
}

/// The bodies and headers that stood in front of a PostHog.
#[test]
fn what_stands_in_front_of_posthog_is_told_from_it() {
    let html = |title: &str| {
        format!("\u{feff}<!DOCTYPE html>\n<HTML><head><Title lang=\"en\"> {title} </title></head>x</HTML>")
    };
    let key = envelope("authentication_failed", "Personal API key found in request is invalid.");
    let kong = r#"{"message":"no Route matched with those values"}"#;
    for (status, challenges, body, expected, says) in [
        (401, &["Basic"][..], html("401 Authorization Required"), "Gate 3", "asks for a user name (Basic)"),
        (401, &["Basic"], "{}".to_owned(), "Gate 3", "in front of PostHog asks for a user name (Basic)"),
        (401, &[], html("Login"), "Gate 3", "refuses whoever shows only a key"),
        (401, &["Bearer"], key.clone(), "Key 3", "check api_key"),
        (401, &["Basic", "bearer"], key, "Key 3", "check api_key"),
        (404, &[], kong.to_owned(), "Missing 3", "this is not the address of a PostHog; check custom_base_url"),
        (404, &[], html("404"), "Missing 3", "this is not the address of a PostHog"),
        (404, &[], envelope("not_found", "Endpoint not found."), "Missing 3", "this PostHog does not have it"),
        (400, &[], html("400 No required SSL certificate was sent"), "Tls 4", "wants a client certificate"),
        (
            400,
            &[],
            html("400 The plain HTTP request was sent to HTTPS port"),
            "Tls 3",
            "write https:// in custom_base_url",
        ),
        (502, &[], html("502 Bad Gateway"), "again Server", "HTTP 502: the HTML page \"502 Bad Gateway\""),
        (502, &[], "<html>".to_owned(), "again Server", "HTTP 502: an HTML page"),
    ] {
        let (decision, text) = word(judge_challenge(status, challenges, &body));
        assert_eq!(decision, expected, "{status} {challenges:?} {body}");
        assert!(text.contains(says) && !text.contains('<'), "{says}: {text}");
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
         (PostHog, Settings, Project ID), and that custom_base_url is the one of this project"
    );
}

#[test]
fn server_texts_are_cut_and_lose_secrets_and_control_characters() {
    log::conceal("phx_fault_text_secret");
    let text = shown(&format!("a\nphx_fault_text_secret {}", "x".repeat(1000)));
    assert!(text.starts_with("a\\u{a}*** x") && text.len() < 400, "{text}");
    assert_eq!(shown("  "), "(no text)");
}
