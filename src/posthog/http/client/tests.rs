//! The client against a server that plays a script.

pub(crate) use super::server_tests::{Play, answer, error_answer, json_answer, nobody, serve};
use super::*;
use crate::posthog::address::BaseUrl;
use crate::posthog::http::backoff::Backoff;
use crate::posthog::http::retry::{OnBudget, RetryPolicy};
use crate::posthog::secret::Secret;
use crate::stop::Stop;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

const MS: Duration = Duration::from_millis(1);
const QUERY: Query<'_> = Query { name: "test", sql: "select 1", retry_policy: None, on_split: OnSplit::Tell };
const GOOD: &str = r#"{"results":[[1]],"columns":["x"]}"#;

pub(super) fn good() -> Play {
    json_answer(200, "", GOOD)
}

pub(crate) fn options(base: &str) -> Options {
    let per = |n| NonZeroU32::new(n).unwrap();
    let quick = Backoff { base: MS, limit: MS * 2 };
    Options {
        base: BaseUrl::parse(base, false).unwrap(),
        project_id: 7,
        key: Secret::new("phx_client_test_key"),
        ca_file: None,
        proxy: None,
        user_agent: "tap-posthog-test".to_owned(),
        request_timeout: Duration::from_secs(20),
        max_list_bytes: 1_000_000,
        query_rates: Rates { per_minute: per(60_000), per_hour: per(3_600_000) },
        names: Names { address: "custom_base_url".to_owned(), key: "api_key".to_owned() },
        retry_policy: RetryPolicy {
            max_attempts: 4,
            max_connects: 4,
            backoff: quick,
            concurrency: quick,
            ..RetryPolicy::default()
        },
    }
}

pub(super) fn run(client: &Client, max_bytes: usize) -> Result<String, Fault> {
    client.query(&QUERY, BodyLimit::of(max_bytes), |incoming| Ok(String::from_utf8(incoming.whole()?.body).unwrap()))
}

/// Plays `script` to one query and says how it ended, with the number of requests.
pub(super) fn outcome(script: Vec<Play>) -> (String, usize) {
    let server = serve(script);
    let client = Client::new(options(&server.base)).unwrap();
    let ended = match run(&client, 1_000_000) {
        Ok(body) => body,
        Err(Fault::Split(why)) => format!("split: {why}"),
        Err(Fault::Fatal(failure)) => format!("{:?}: {}", failure.cause, failure.error),
        Err(other) => format!("{other:?}"),
    };
    let requests = server.seen.lock().unwrap().len();
    assert_eq!(client.usage().requests, requests as u64);
    (ended, requests)
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

#[test]
fn a_query_is_sent_as_the_service_wants_it() {
    let server = serve(vec![json_answer(
        200,
        "Date: Thu, 01 Jan 1970 00:01:40 GMT\r\nX-PostHog-Query-Bytes-Read: 12\r\nX-PostHog-Query-Budget-Remaining-Bytes: 9999\r\n",
        GOOD,
    )]);
    let client = Client::new(options(&server.base)).unwrap();
    let query = Query { sql: "select '\"'", ..QUERY };
    let answer = client.query(&query, BodyLimit::of(1000), |incoming| incoming.whole()).unwrap();
    assert_eq!((answer.budget_left, answer.server_date), (Some(9999), Some(100)));
    let seen = server.seen.lock().unwrap();
    let (head, body) = &seen[0];
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /api/projects/7/query/ http/1.1"), "{head}");
    assert!(head.contains("authorization: bearer phx_client_test_key") && head.contains("accept-encoding: gzip"));
    let mut body: Value = serde_json::from_str(body).unwrap();
    assert!(body.as_object_mut().unwrap().remove("client_query_id").unwrap().as_str().unwrap().len() > 30);
    assert_eq!(
        body,
        json!({"query": {"kind": "HogQLQuery", "query": "select '\"'", "modifiers": {"convertToProjectTimezone": false}},
               "refresh": "force_blocking", "name": "tap-posthog test"})
    );
    let usage = client.usage();
    assert_eq!((usage.requests, usage.retries, usage.bytes_read), (1, 0, 12));
    assert_eq!([usage.body_bytes, usage.wire_bytes], [GOOD.len() as u64; 2]);
}

#[test]
fn transient_trouble_is_asked_again_until_the_answer_is_whole() {
    let html = Play::Raw(answer(200, "Content-Type: text/html\r\n", b"<html></html>"));
    let cut = Play::Cut(
        b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"results\":[]}".to_vec(),
    );
    let chunk_cut = Play::Cut(
        b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n"
            .to_vec(),
    );
    let mut packed = gzip(GOOD.as_bytes());
    let middle = packed.len() / 2;
    packed[middle] ^= 0xff;
    let corrupt = Play::Raw(answer(200, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", &packed));
    let cases = [
        html,
        cut,
        chunk_cut,
        corrupt,
        Play::Close,
        json_answer(200, "", ""),
        json_answer(200, "", r#"{"results":[[1],["#),
        json_answer(202, "", r#"{"query_status":{}}"#),
        Play::Raw(answer(502, "Content-Type: text/html\r\n", b"<html>bad gateway</html>")),
        Play::Raw(answer(403, "Content-Type: text/html\r\n", b"<html>challenge</html>")),
        Play::Raw(answer(524, "Content-Type: text/html\r\n", b"<html>timeout</html>")),
        error_answer(409, "", "conflict", "Conflict"),
        error_answer(500, "", "error", "A server error occurred."),
        error_answer(503, "Retry-After: 0\r\n", "database_unavailable", "x"),
        error_answer(429, "", "throttled", "Exceeded maximum concurrency limit: 3 for key: x"),
    ];
    for (i, case) in cases.into_iter().enumerate() {
        assert_eq!(outcome(vec![case, good()]), (GOOD.to_owned(), 2), "case {i}");
    }
}

#[test]
fn trouble_without_end_ends_with_its_last_cause() {
    let (ended, requests) = outcome(vec![error_answer(500, "", "error", "A server error occurred."); 9]);
    assert_eq!(requests, 4);
    assert!(ended.starts_with("Server: POST http://127.0.0.1:") && ended.contains("failed 4 times"), "{ended}");
    assert!(ended.ends_with("HTTP 500: A server error occurred."), "{ended}");
    let (ended, requests) = outcome(vec![]);
    assert!(ended.starts_with("Network: "), "{ended}");
    assert!(requests >= 4, "{requests}");
}

/// Whatever they are sent again for, and whatever they are for.
#[test]
fn no_more_requests_are_sent_than_are_allowed() {
    let key = error_answer(400, "", "parse_error", "1 validation error for QueryRequest\nname\n  not permitted");
    let busy = error_answer(429, "Retry-After: 3600\r\n", "throttled", "Request was throttled.");
    let server = serve(vec![good(), error_answer(500, "", "error", "x"), key, busy, good()]);
    let client = Client::new(options(&server.base)).unwrap();
    run(&client, 1000).unwrap();
    let retry_policy = client.options().retry_policy.until_sent(4);
    for _ in 0..2 {
        let Err(fault) =
            client.query(&QUERY.with_retry_policy(retry_policy), BodyLimit::of(1000), |incoming| incoming.whole())
        else {
            panic!("an answer without a request");
        };
        assert!(matches!(&fault, Fault::Fatal(Failure { cause: Cause::Allowance, .. })), "{fault:?}");
        assert_eq!((client.requests_left(&retry_policy), server.seen.lock().unwrap().len()), (0, 4));
    }
}

#[test]
fn too_much_is_a_split_and_never_the_same_text_again() {
    for play in [
        error_answer(504, "", "error", "Query has hit the max execution time before completing."),
        error_answer(400, "", "too_many_bytes", "Limit for bytes"),
        json_answer(200, "", &format!("[\"{}\"]", "x".repeat(1_000_000))),
        Play::Raw(answer(
            200,
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            &gzip(format!("[\"{}\"]", "x".repeat(5_000_000)).as_bytes()),
        )),
    ] {
        let (ended, requests) = outcome(vec![play, good()]);
        assert!(ended.starts_with("split: "), "{ended}");
        assert_eq!(requests, 1);
    }
    let slow = Play::Raw(answer(524, "Content-Type: text/html\r\n", b"<html>timeout</html>"));
    let (ended, requests) = outcome(vec![slow.clone(), slow, good()]);
    assert!(ended.starts_with("split: HTTP 524"), "{ended}");
    assert_eq!(requests, 2);
}

/// A text that failed may be answered with its failure; another one that means the same is run.
#[test]
fn what_cannot_be_smaller_is_asked_in_other_words() {
    let slow = || error_answer(504, "", "error", "Query has hit the max execution time before completing.");
    for (refusals, is_answered) in [(2, true), (3, false)] {
        let server = serve((0..refusals).map(|_| slow()).chain([good()]).collect());
        let client = Client::new(options(&server.base)).unwrap();
        let outcome = client.query(&QUERY.reworded(3), BodyLimit::of(1000), |incoming| incoming.whole());
        assert_eq!(outcome.is_ok(), is_answered, "{outcome:?}");
        let seen = server.seen.lock().unwrap();
        let texts = seen.iter().map(|(_, body)| serde_json::from_str::<Value>(body).unwrap()["query"]["query"].clone());
        let expected = ["select 1", "select 1 /* attempt 2 */", "select 1 /* attempt 3 */"];
        assert_eq!(texts.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn refusals_are_final_and_name_the_way_out() {
    let scope = error_answer(403, "", "permission_denied", "API key missing required scope 'query:read'");
    let (ended, requests) = outcome(vec![scope, good()]);
    assert!(ended.starts_with("Scope(\"query:read\"): ") && ended.contains("add the scope query:read"), "{ended}");
    assert_eq!(requests, 1);
    let echo = error_answer(401, "", "authentication_failed", "the key phx_client_test_key is invalid");
    let (ended, _) = outcome(vec![echo]);
    assert!(ended.starts_with("Key: ") && !ended.contains("phx_client_test_key"), "{ended}");
}

#[test]
fn the_key_does_not_follow_a_redirect() {
    let other = serve(vec![good()]);
    let to = format!("Location: {}/api/\r\nContent-Type: text/html\r\n", other.base);
    let (ended, requests) = outcome(vec![Play::Raw(answer(302, &to, b"")), good()]);
    assert!(ended.starts_with("Redirect: ") && ended.contains(&format!("to {}/api/", other.base)), "{ended}");
    assert_eq!((requests, other.seen.lock().unwrap().len()), (1, 0));
}

#[test]
fn keys_that_an_old_server_refuses_are_dropped_once_and_for_all() {
    let refuse = |path: &str| {
        let detail = format!("1 validation error for QueryRequest\n{path}\n  Extra inputs are not permitted");
        error_answer(400, "", "parse_error", &detail)
    };
    let server = serve(vec![
        refuse("name"),
        refuse("query.HogQLQuery.modifiers.convertToProjectTimezone"),
        refuse("client_query_id"),
        good(),
        good(),
        refuse("name"),
        refuse("name"),
    ]);
    let client = Client::new(options(&server.base)).unwrap();
    run(&client, 1000).unwrap();
    assert!(client.modifiers_refused());
    run(&client, 1000).unwrap();
    let bodies: Vec<Value> =
        server.seen.lock().unwrap().iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
    for body in &bodies[3..] {
        assert_eq!(body, &json!({"query": {"kind": "HogQLQuery", "query": "select 1"}, "refresh": "force_blocking"}));
    }
    assert!(matches!(run(&client, 1000), Err(Fault::Fatal(f)) if f.cause == Cause::Request), "no endless dropping");
}

#[test]
fn a_body_that_its_reader_does_not_believe_is_asked_for_again() {
    let server = serve(vec![json_answer(200, "", "[1]"), json_answer(200, "", "[2]")]);
    let client = Client::new(options(&server.base)).unwrap();
    let read = |incoming: &mut Incoming<'_>| match incoming.whole()?.body {
        body if body == b"[1]" => Err(Fault::untrusted("row count above LIMIT")),
        body => Ok(body),
    };
    assert_eq!(client.query(&QUERY, BodyLimit::of(1000), read).unwrap(), b"[2]");
    assert_eq!(client.usage().retries, 1);
}

#[test]
fn a_long_throttle_stops_the_run_and_a_short_one_does_not() {
    let (ended, _) = outcome(vec![error_answer(429, "Retry-After: 7200\r\n", "throttled", "x")]);
    assert!(ended == "WaitTooLong { reason: \"PostHog's request limit\", wait: 7200s }", "{ended}");
    let server = serve(vec![error_answer(429, "Retry-After: 3600\r\n", "api_queries_budget_exceeded", "x")]);
    let mut options = options(&server.base);
    options.retry_policy.on_budget = OnBudget::Stop;
    let client = Client::new(options).unwrap();
    assert!(matches!(run(&client, 1000), Err(Fault::WaitTooLong { .. })));
}

/// Only a limit of requests says how many are allowed.
#[test]
fn a_used_up_budget_is_not_taken_for_a_lower_tier() {
    for (code, per_hour) in [("api_queries_budget_exceeded", 3_600_000), ("throttled", 120)] {
        let refusal = || error_answer(429, "Retry-After: 7200\r\n", code, "x");
        let script = (0..80).map(|_| good()).chain([refusal()]).collect();
        let server = serve(script);
        let client = Client::new(options(&server.base)).unwrap();
        (0..80).for_each(|_| drop(run(&client, 1000).unwrap()));
        assert!(matches!(run(&client, 1000), Err(Fault::WaitTooLong { .. })));
        assert_eq!(client.queries().per_hour(), per_hour, "{code}");
    }
}

#[test]
fn the_budget_header_stops_a_run_before_it_is_refused() {
    let low = "X-PostHog-Query-Bytes-Read: 100000000000\r\nX-PostHog-Query-Budget-Remaining-Bytes: 5\r\n";
    let server = serve(vec![json_answer(200, low, GOOD), good()]);
    let client = Client::new(options(&server.base)).unwrap();
    run(&client, 1000).unwrap();
    assert!(matches!(run(&client, 1000), Err(Fault::WaitTooLong { .. })));
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[test]
fn a_signal_ends_a_wait_for_an_answer_and_cancels_the_query() {
    let server = serve(vec![Play::Hang, good()]);
    let options = options(&server.base);
    let stop = Stop::new();
    let client = Client::new(options).unwrap().ended_by(&stop);
    let seen = Arc::clone(&server.seen);
    std::thread::spawn(move || {
        while seen.lock().unwrap().is_empty() {
            std::thread::sleep(MS);
        }
        stop.signal(15);
    });
    assert!(matches!(run(&client, 1000), Err(Fault::Stopped(e)) if e.kind() == Kind::Signal(15)));
    let seen = server.seen.lock().unwrap();
    let id = serde_json::from_str::<Value>(&seen[0].1).unwrap()["client_query_id"].as_str().unwrap().to_owned();
    assert!(seen[1].0.starts_with(&format!("DELETE /api/projects/7/query/{id}/ ")), "{}", seen[1].0);
}

#[test]
fn a_silent_server_is_slow_and_an_absent_one_unreachable() {
    let server = serve(vec![Play::Hang, Play::Hang]);
    let mut options = options(&server.base);
    options.request_timeout = MS * 50;
    assert!(
        matches!(run(&Client::new(options.clone()).unwrap(), 1000), Err(Fault::Split(why)) if why.to_string().contains("no answer"))
    );
    let (_socket, nobody) = nobody();
    options.base = BaseUrl::parse(&format!("http://{nobody}"), false).unwrap();
    assert!(matches!(run(&Client::new(options).unwrap(), 1000), Err(Fault::Fatal(f)) if f.cause == Cause::Network));
}

#[test]
fn lists_are_asked_with_their_pairs() {
    let server = serve(vec![json_answer(200, "", r#"{"results":[]}"#)]);
    let client = Client::new(options(&format!("{}/sub", server.base))).unwrap();
    let query = [("limit".to_owned(), "100".to_owned())];
    let get = Get { query: &query, ..Get::new("api/projects/7/cohorts/", RateClass::Lists) };
    assert_eq!(client.get(&get, |answer| Ok(answer.body)).unwrap(), br#"{"results":[]}"#);
    assert!(server.seen.lock().unwrap()[0].0.starts_with("GET /sub/api/projects/7/cohorts/?limit=100 HTTP/1.1"));
}

#[test]
fn tls_needs_a_known_authority_and_options_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, "not a certificate").unwrap();
    let mut bad = options("https://ph.example.com");
    bad.ca_file = Some(file);
    assert!(Client::new(bad).unwrap_err().to_string().starts_with("ca_file "));
    let mut bad = options("https://ph.example.com");
    bad.proxy = Some(Secret::new("proxy.example.com:3128"));
    assert!(Client::new(bad).unwrap_err().to_string().starts_with("proxy: "));
    let mut bad = options("https://ph.example.com");
    bad.key = Secret::new("phx_line\nbreak");
    assert_eq!(Client::new(bad).unwrap_err().kind(), Kind::Config);
}
