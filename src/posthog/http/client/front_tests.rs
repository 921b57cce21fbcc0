//! What may stand between the client and PostHog: proxies that pack and move, pages to log in at, gateways.

use super::server_tests::{pem, serve_certified};
use super::tests::{Play, answer, error_answer, good, gzip, json_answer, options, outcome, run, serve};
use super::*;
use crate::posthog::address::BaseUrl;

const GOOD: &str = r#"{"results":[[1]],"columns":["x"]}"#;

fn encoded(encoding: &str, body: &[u8]) -> Play {
    Play::Raw(answer(200, &format!("Content-Type: application/json\r\n{encoding}"), body))
}

#[test]
fn gzip_by_its_old_name_and_in_members_is_read() {
    let (first, second) = GOOD.as_bytes().split_at(9);
    for body in [gzip(GOOD.as_bytes()), [gzip(first), gzip(b""), gzip(second)].concat()] {
        for header in ["gzip", "x-gzip", "X-GZIP", "identity, gzip"] {
            let answer = encoded(&format!("Content-Encoding: {header}\r\n"), &body);
            assert_eq!(outcome(vec![answer]), (GOOD.to_owned(), 1), "{header}");
        }
    }
}

/// Asking again would bring the same.
#[test]
fn an_encoding_that_was_not_asked_for_is_named_at_once() {
    let packed = gzip(GOOD.as_bytes());
    for (header, name) in [
        ("Content-Encoding: br\r\n", "br"),
        ("Content-Encoding: zstd\r\n", "zstd"),
        ("Content-Encoding: deflate\r\n", "deflate"),
        ("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", "gzip, gzip"),
        ("", "gzip, without saying so"),
    ] {
        let (ended, requests) = outcome(vec![encoded(header, &packed), good()]);
        assert!(
            ended.contains(&format!("is encoded as {name}, which was not asked for; something in between")),
            "{ended}"
        );
        assert!(ended.contains("POST http://127.0.0.1:"), "{ended}");
        assert_eq!(requests, 1);
    }
    let refusal = Play::Raw(answer(401, "Content-Type: application/json\r\nContent-Encoding: br\r\n", b"\x0b\x02"));
    assert!(outcome(vec![refusal]).0.starts_with("Gate: "));
}

#[test]
fn a_page_to_log_in_at_is_said_to_be_one() {
    let basic = "WWW-Authenticate: Basic realm=\"a, b\"\r\nContent-Type: text/html\r\n";
    let (ended, requests) = outcome(vec![Play::Raw(answer(401, basic, b"<html><title>401</title>")), good()]);
    assert!(
        ended.starts_with("Gate: ") && ended.contains("in front of PostHog asks for a user name (Basic)"),
        "{ended}"
    );
    assert_eq!(requests, 1);
    let bearer = "WWW-Authenticate: Bearer resource_metadata=\"/x\"\r\n";
    assert!(outcome(vec![error_answer(401, bearer, "authentication_failed", "x")]).0.starts_with("Key: "));
    let page = Play::Raw(answer(200, "Content-Type: text/html\r\n", b"<html>"));
    let (ended, requests) = outcome(vec![page.clone(); 9]);
    assert_eq!(requests, 3, "a page to log in at stays one");
    // Where PostHog has answered before, something may only be amiss for a while.
    let server = serve([vec![good()], vec![page; 3], vec![good()]].concat());
    let client = Client::new(options(&server.base)).unwrap();
    assert!(run(&client, 1000).is_ok() && run(&client, 1000).is_ok());
    assert!(ended.contains("content type \"text/html\"") && ended.contains("a login page, a proxy"), "{ended}");
    let (ended, _) = outcome(vec![encoded("", b"<html>please log in</html>"); 9]);
    assert!(
        ended.contains("the body is no JSON, it begins with <html>please") && ended.contains("a login page"),
        "{ended}"
    );
}

#[test]
fn json_that_is_called_text_or_has_a_byte_order_mark_is_read() {
    for header in ["Content-Type: text/plain; charset=utf-8\r\n", "", "Content-Type: application/problem+json\r\n"] {
        let marked = format!("\u{feff}{GOOD}");
        assert_eq!(outcome(vec![Play::Raw(answer(200, header, marked.as_bytes()))]), (GOOD.to_owned(), 1), "{header}");
    }
}

#[test]
fn a_redirect_is_shown_with_scheme_port_and_path_and_without_its_query() {
    for (to, says) in [
        (
            "https://ph.example.com:8443/api/?token=hidden",
            "to https://ph.example.com:8443/api/; the key is not sent there",
        ),
        ("//ph.example.com/", "to http://ph.example.com/; "),
        ("/login?next=hidden", "/login; the key is not sent there. If that is no page to log in at"),
        ("?again", "to the same address; that would go on for ever"),
        ("http://user:hidden@h/x", "to http://h/x; "),
    ] {
        let (ended, requests) = outcome(vec![Play::Raw(answer(308, &format!("Location: {to}\r\n"), b"")), good()]);
        assert!(ended.starts_with("Redirect: ") && ended.contains(says) && !ended.contains("hidden"), "{to}: {ended}");
        assert_eq!(requests, 1);
    }
}

/// A failure is of the server, so no thread asks for anything before it said to come back; nobody else's refusal holds
/// other kinds of requests.
#[test]
fn a_told_wait_after_a_failure_holds_every_thread() {
    for (status, code, is_held) in [(503, "error", true), (429, "throttled", false)] {
        let server =
            serve(vec![error_answer(status, "Retry-After: 3\r\n", code, "x"), good(), json_answer(200, "", "[]")]);
        let client = Client::new(options(&server.base)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| run(&client, 1000).unwrap());
            while client.waits().current(clock::now()).is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let asked = Instant::now();
            client.get(&Get::new("api/x/", RateClass::Lists), |answer| Ok(answer.body)).unwrap();
            assert_eq!(asked.elapsed() > Duration::from_secs(1), is_held, "{status}");
        });
    }
}

#[test]
fn a_wish_for_a_client_certificate_is_named_at_once() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = serve_certified(version);
        let mut options = options("https://ph.example.com");
        options.base = BaseUrl::parse(&server.base, false).unwrap();
        options.ca_file = Some(pem("authority.pem"));
        let Err(Fault::Fatal(failure)) = run(&Client::new(options).unwrap(), 1000) else { panic!("an answer") };
        let text = failure.error.to_string();
        assert!(failure.cause == Cause::Tls && text.contains("wants a client certificate"), "{text}");
    }
}

#[test]
fn no_certificates_are_read_where_nothing_is_encrypted() {
    let server = serve(vec![good()]);
    let mut options = options(&server.base);
    options.ca_file = Some("/nowhere/ca.pem".into());
    assert_eq!(run(&Client::new(options.clone()).unwrap(), 1000).unwrap(), GOOD);
    options.proxy = Some(crate::posthog::secret::Secret::new("https://proxy.example.com"));
    assert!(Client::new(options).unwrap_err().to_string().starts_with("ca_file "));
}
