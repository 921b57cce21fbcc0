//! One test per cause of trouble between here and PostHog, and per way in which a key may read some streams only.

use super::tests::{NOW, TIMEOUT, answered, denied, expect, with};
use super::*;
use std::io::{Read as _, Write as _};

use crate::posthog::http::client::server_tests::{
    Play, Server, error_answer, full, in_order, json_answer, nobody, pem, serve, serve_by, serve_tls, tunnel,
};

fn ask(settings: &Value) -> (Value, u8) {
    let found = run(with(settings), TIMEOUT, NOW);
    assert!(!found.0.to_string().contains("phx_doctor_test_key"));
    found
}

/// What the doctor finds in two seconds. It takes no second time as long: that would be what one step gives to itself.
fn ask_in_time(settings: &Value) -> (Value, u8) {
    let (timeout, started) = (Duration::from_secs(2), Instant::now());
    let found = run(with(settings), timeout, NOW);
    assert!(started.elapsed() < timeout * 2, "{:?}", started.elapsed());
    found
}

fn warns(found: &(Value, u8), says: &[&str]) {
    let (report, code) = found;
    assert_eq!((report["status"].as_str().unwrap(), *code), ("healthy", 0), "{report}");
    for part in says {
        assert!(report["message"].as_str().unwrap().contains(part), "{part}: {report}");
    }
}

/// A PostHog that answers the query, and the rest by what the path has in it.
fn project(key: Play, others: &'static [(&'static str, u16, &'static str)]) -> impl Fn(&str) -> Play + Send + Sync {
    move |head| {
        let path = head.lines().next().unwrap();
        if path.contains("personal_api_keys") {
            return key.clone();
        }
        if let Some((_, status, detail)) = others.iter().find(|(part, ..)| path.contains(part)) {
            return error_answer(*status, "", "x", detail);
        }
        if path.starts_with("POST") { answered("") } else { json_answer(200, "", r#"{"results": [], "next": null}"#) }
    }
}

fn scopes(names: &str) -> Play {
    json_answer(200, "", &format!(r#"{{"scopes": {names}, "scoped_teams": []}}"#))
}

fn at(server: &Server) -> Value {
    json!({"custom_base_url": server.base})
}

const NO_KEY: (&str, u16, &str) =
    ("/query/", 401, "Personal API key found in request Authorization header is invalid.");
const NO_QUERY: (&str, u16, &str) = ("/query/", 403, "API key missing required scope 'query:read'");

#[test]
fn a_host_without_address_is_network() {
    // No label may be so long, so nobody is asked for it.
    let host = format!("{}.invalid", "x".repeat(70));
    for base in [format!("http://{host}"), format!("https://{host}")] {
        let found = ask(&json!({"custom_base_url": base, "allow_insecure_http": true}));
        expect(found, "network", 4, "check custom_base_url and this machine's name server");
    }
    let proxy = "socks5://127.0.0.1:9";
    let found = ask(&json!({"custom_base_url": format!("https://{host}"), "proxy": proxy}));
    expect(found, "network", 4, "socks5h:// lets the proxy do it");
}

#[test]
fn an_address_that_swallows_packets_is_timeout_in_time_and_a_proxy_that_does_is_network() {
    let (_held, full) = full();
    let address = format!("http://{full}");
    expect(
        ask_in_time(&json!({"custom_base_url": address})),
        "timeout",
        4,
        "check that this machine may reach that address",
    );
    let settings = json!({"custom_base_url": "https://ph.example.com", "proxy": address});
    expect(ask_in_time(&settings), "network", 4, "check the setting proxy");
}

#[test]
fn an_unknown_authority_is_network_and_ca_file_is_the_way_out() {
    let server = serve_tls("signed_by_authority.pem", project(scopes(r#"["*"]"#), &[]));
    expect(ask(&at(&server)), "network", 4, "set ca_file to the certificate authority");
    let settings = json!({"custom_base_url": server.base, "ca_file": pem("authority.pem")});
    warns(&ask(&settings), &["PostHog answers and what is on by default can be read"]);
}

#[test]
fn a_self_signed_certificate_works_where_it_claims_no_authority() {
    let server = serve_tls("self_signed.pem", project(scopes(r#"["*"]"#), &[]));
    warns(&ask(&json!({"custom_base_url": server.base, "ca_file": pem("self_signed.pem")})), &[]);
    let server = serve_tls("self_signed_as_authority.pem", in_order(vec![]));
    let settings = json!({"custom_base_url": server.base, "ca_file": pem("self_signed_as_authority.pem")});
    expect(ask(&settings), "network", 4, "-addext basicConstraints=critical,CA:FALSE");
}

#[test]
fn a_certificate_of_another_host_is_network() {
    let server = serve_tls("of_another_host.pem", in_order(vec![]));
    let settings = json!({"custom_base_url": server.base, "ca_file": pem("authority.pem")});
    expect(ask(&settings), "network", 4, "as the certificate names it");
}

#[test]
fn a_port_without_tls_is_network_and_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read(&mut [0; 5]).and_then(|_| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    expect(ask(&json!({"custom_base_url": base})), "network", 4, "does not speak TLS: check the port");
}

#[test]
fn a_proxy_that_works_is_used_with_and_without_tls() {
    let proxy = serve_by(project(scopes(r#"["*"]"#), &[]));
    let settings = json!({"custom_base_url": "http://ph.internal", "allow_insecure_http": true, "proxy": proxy.base});
    warns(&ask(&settings), &[]);
    let seen = proxy.seen.lock().unwrap();
    assert!(seen[0].0.starts_with("POST http://ph.internal/api/projects/7/query/ "), "{}", seen[0].0);
    let server = serve_tls("signed_by_authority.pem", project(scopes(r#"["*"]"#), &[]));
    let proxy = tunnel(&server);
    let settings = json!({"region": "eu", "proxy": proxy.base, "ca_file": pem("authority.pem")});
    warns(&ask(&settings), &[]);
    assert!(proxy.seen.lock().unwrap()[0].0.starts_with("CONNECT eu.posthog.com:443 "));
    assert!(!proxy.seen.lock().unwrap()[0].0.contains("phx_"), "the key is for PostHog alone");
}

#[test]
fn a_dead_proxy_is_network_and_named() {
    let (_socket, nobody) = nobody();
    for base in ["https://ph.example.com", "http://127.0.0.1:9"] {
        let proxy = format!("http://someone:hidden_password@{nobody}");
        let found = ask(&json!({"custom_base_url": base, "proxy": proxy}));
        assert!(!found.0.to_string().contains("hidden_password"), "{}", found.0);
        expect(found, "network", 4, &format!("through the proxy {nobody}"));
    }
    let found = ask(&json!({"custom_base_url": "https://ph.example.com", "proxy": format!("http://{nobody}")}));
    expect(found, "network", 4, "check the setting proxy");
}

#[test]
fn a_proxy_that_refuses_is_network_and_named() {
    let refuse = |status: u16| {
        let text = format!("HTTP/1.1 {status} No\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>");
        serve(vec![Play::Raw(text.into_bytes())])
    };
    for base in ["https://ph.example.com", "http://127.0.0.1:9"] {
        let proxy = refuse(407);
        let found = ask(&json!({"custom_base_url": base, "proxy": proxy.base}));
        let name = proxy.base.trim_start_matches("http://");
        expect(found, "network", 4, &format!("the proxy {name} wants a user name and password"));
        let proxy = refuse(403);
        let found = ask(&json!({"custom_base_url": base, "proxy": proxy.base}));
        expect(found, "network", 4, "check the setting proxy, and that this proxy may reach that address");
    }
}

#[test]
fn a_key_of_the_other_region_is_auth_and_says_which() {
    let answer = |head: &str| match head.to_ascii_lowercase() {
        head if head.contains("host: us.posthog.com") => denied(401, NO_KEY.2).remove(0),
        head if head.starts_with("get /api/users/@me/ ") => {
            denied(403, "API key missing required scope 'user:read'").remove(0)
        }
        _ => Play::Close,
    };
    let server = serve_tls("signed_by_authority.pem", answer);
    let settings = json!({"region": "us", "proxy": tunnel(&server).base, "ca_file": pem("authority.pem")});
    expect(ask(&settings), "auth", 3, "set region to eu");
}

#[test]
fn a_key_that_no_region_knows_is_auth_even_when_the_other_one_is_slow() {
    let answer = |head: &str| match head.to_ascii_lowercase().contains("host: us.posthog.com") {
        true => denied(401, NO_KEY.2).remove(0),
        false => Play::Hang,
    };
    let server = serve_tls("signed_by_authority.pem", answer);
    let settings = json!({"region": "us", "proxy": tunnel(&server).base, "ca_file": pem("authority.pem")});
    expect(ask_in_time(&settings), "auth", 3, "check api_key");
}

#[test]
fn another_kind_of_key_is_auth_and_named() {
    let server = serve_by(project(scopes("[]"), &[NO_KEY]));
    let found = ask(&json!({"custom_base_url": server.base, "api_key": "phs_doctor_secret"}));
    assert!(!found.0["message"].as_str().unwrap().contains("region"), "{}", found.0);
    expect(found, "auth", 3, "a project secret key (phs_)");
}

#[test]
fn an_old_server_is_told_apart() {
    let old = |head: &str| match head {
        head if head.starts_with("GET /api/personal_api_keys/") => denied(404, "Endpoint not found.").remove(0),
        head if head.contains("/surveys/") => denied(404, "Endpoint not found.").remove(0),
        head if head.starts_with("GET") => json_answer(200, "", r#"{"results": []}"#),
        _ => answered(""),
    };
    let refused = std::sync::atomic::AtomicBool::new(false);
    let server = serve_by(move |head| {
        if head.starts_with("POST") && !refused.swap(true, std::sync::atomic::Ordering::SeqCst) {
            let detail = "1 validation error\nquery.HogQLQuery.modifiers.convertToProjectTimezone\n  Extra inputs are not permitted";
            return denied(400, detail).remove(0);
        }
        old(head)
    });
    let found = ask(&at(&server));
    warns(&found, &["an old PostHog"]);
    assert!(found.0.to_string().contains("not in this PostHog: surveys"), "{}", found.0);
}

#[test]
fn a_key_whose_description_fails_with_502_is_told_by_its_lists() {
    let html = Play::Raw(b"HTTP/1.1 502 X\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>".to_vec());
    let server = serve_by(project(html, &[("/cohorts/", 403, "API key missing required scope 'cohort:read'")]));
    let says =
        ["PostHog did not tell what the key may do", "502", "a scope that the key has not: cohorts (cohort:read)"];
    warns(&ask(&at(&server)), &says);
}

#[test]
fn a_key_whose_description_fails_with_500_is_told_by_its_lists() {
    let server = serve_by(project(error_answer(500, "", "error", "A server error occurred."), &[]));
    warns(&ask(&at(&server)), &["PostHog did not tell what the key may do", "HTTP 500"]);
}

#[test]
fn a_key_whose_description_is_throttled_is_no_lack_of_permission() {
    let throttled = error_answer(429, "Retry-After: 30\r\n", "throttled", "Request was throttled.");
    let server = serve_by(project(throttled, &[]));
    let found = ask(&at(&server));
    warns(&found, &["was not told: a run would wait: PostHog's request limit"]);
    assert!(!found.0.to_string().contains("the state is saved"), "{}", found.0);
    assert!(server.seen.lock().unwrap().len() <= 3, "no more requests than needed where they are counted");
}

#[test]
fn missing_scopes_absent_lists_and_failures_are_told_apart() {
    let server = serve_by(project(
        denied(404, "Endpoint not found.").remove(0),
        &[
            ("/cohorts/", 500, "A server error occurred."),
            ("/feature_flags/", 403, "API key missing required scope 'feature_flag:read'"),
            ("/session_recordings/", 404, "Endpoint not found."),
        ],
    ));
    let found = ask(&at(&server));
    let says = [
        "need a scope that the key has not: feature_flags (feature_flag:read); ",
        "not in this PostHog: session_recordings; ",
        "failed: cohorts (GET ",
        "HTTP 500: A server error occurred.",
    ];
    warns(&found, &says);
}

#[test]
fn a_list_that_this_posthog_has_not_is_found_though_the_key_has_its_scope() {
    let server = serve_by(project(scopes(r#"["*"]"#), &[("/session_recordings/", 404, "Endpoint not found.")]));
    let found = ask(&at(&server));
    assert!(found.0.to_string().contains("not in this PostHog: session_recordings"), "{}", found.0);
    assert!(server.seen.lock().unwrap().len() <= 8, "few requests");
}

#[test]
fn a_list_that_does_not_answer_is_named_in_time() {
    let server =
        serve_by(|head| if head.contains("/surveys/") { Play::Hang } else { project(scopes(r#"["*"]"#), &[])(head) });
    warns(&ask_in_time(&at(&server)), &["failed: surveys (no answer in time)"]);
}

#[test]
fn a_key_without_queries_is_told_what_it_can_read() {
    let server = serve_by(project(scopes(r#"["cohort:read", "feature_flag:read"]"#), &[NO_QUERY]));
    let (report, code) = ask(&at(&server));
    assert_eq!((report["category"].as_str().unwrap(), code), ("permission", 3), "{report}");
    let message = report["message"].as_str().unwrap();
    for part in [
        "add the scope query:read",
        "events (query:read)",
        "actions (action:read)",
        "can be read: cohorts, feature_flags",
    ] {
        assert!(message.contains(part), "{part}: {report}");
    }
}

#[test]
fn a_single_stream_needs_its_own_scope_only() {
    let cohorts = |names: &str| {
        let server = serve_by(project(scopes(names), &[NO_QUERY]));
        ask(&json!({"custom_base_url": server.base, "data_type": "cohorts"}))
    };
    warns(&cohorts(r#"["cohort:read"]"#), &[]);
    expect(cohorts(r#"["feature_flag:read"]"#), "permission", 3, "cohorts, the stream of data_type, cannot be read");
}

#[test]
fn a_stream_that_does_not_exist_is_config() {
    let found = ask(&json!({"custom_base_url": "http://127.0.0.1:9", "data_type": "person"}));
    expect(found, "config", 3, "setting data_type: there is no stream person");
}

#[test]
fn a_key_whose_description_does_not_come_is_said_in_time() {
    let server = serve_by(project(Play::Hang, &[]));
    warns(&ask_in_time(&at(&server)), &["was not told in time"]);
}
