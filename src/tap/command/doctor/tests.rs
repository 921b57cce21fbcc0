use super::*;
use crate::error::Kind;
use crate::posthog::http::client::tests::{Play, error_answer, json_answer, serve};

pub(super) const NOW: Micros = 1_800_000_000_000_000;
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn with(settings: &Value) -> Result<Config> {
    let mut all = json!({"api_key": "phx_doctor_test_key", "project_id": 7});
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Config::of(&all, NOW)
}

fn config(base: &str) -> Result<Config> {
    with(&json!({"custom_base_url": base}))
}

/// What the doctor says of a server that gives these answers to the first requests.
fn examine_server(script: Vec<Play>) -> (Value, u8) {
    let server = serve(script);
    let found = run(config(&server.base), TIMEOUT, NOW);
    assert!(!found.0.to_string().contains("phx_doctor_test_key"));
    found
}

pub(super) fn expect(found: (Value, u8), category: &str, code: u8, says: &str) {
    let (report, exit_code) = found;
    assert_eq!((report["category"].as_str().unwrap(), exit_code), (category, code), "{report}");
    assert_eq!(report["status"], if code == 0 { "healthy" } else { "error" });
    assert!(report["message"].as_str().unwrap().contains(says), "{report}");
}

pub(super) fn answered(headers: &str) -> Play {
    json_answer(200, headers, r#"{"results":[[1800000000]],"columns":["now"]}"#)
}

pub(super) fn denied(status: u16, detail: &str) -> Vec<Play> {
    vec![error_answer(status, "", "x", detail)]
}

#[test]
fn a_wrong_key_is_auth() {
    let detail = "Personal API key found in request Authorization header is invalid.";
    expect(examine_server(denied(401, detail)), "auth", 3, "check api_key");
}

#[test]
fn a_project_token_is_auth_before_any_request() {
    let error = Error::new(Kind::Config, "setting api_key: this is a project token (phc_)");
    expect(run(Err(error.about("api_key")), TIMEOUT, NOW), "auth", 3, "phc_");
}

#[test]
fn a_wrong_setting_is_config() {
    expect(run(Err(Error::new(Kind::Config, "setting region: no")), TIMEOUT, NOW), "config", 3, "setting region");
}

#[test]
fn a_missing_scope_is_permission() {
    let detail = "API key missing required scope 'query:read'";
    expect(examine_server(denied(403, detail)), "permission", 3, "add the scope query:read");
}

#[test]
fn another_project_is_permission() {
    expect(examine_server(denied(404, "Project not found.")), "permission", 3, "check project_id 7");
    expect(examine_server(denied(403, "You don't have access to the project.")), "permission", 3, "not a member");
}

#[test]
fn another_service_and_a_redirect_are_config() {
    let html = Play::Raw(b"HTTP/1.1 404 X\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>".to_vec());
    expect(examine_server(vec![html]), "config", 3, "not the address of a PostHog");
    let redirect = "HTTP/1.1 302 X\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n";
    expect(examine_server(vec![Play::Raw(redirect.into())]), "config", 3, "elsewhere.example");
}

#[test]
fn a_time_without_end_is_taken_for_a_day() {
    let server = serve(denied(500, "A server error occurred."));
    expect(run(config(&server.base), Duration::MAX, NOW), "unknown", 4, "HTTP 500");
}

#[test]
fn a_limit_is_rate_limit_and_is_not_waited_for() {
    let throttled = error_answer(429, "Retry-After: 1800\r\n", "throttled", "Request was throttled.");
    expect(examine_server(vec![throttled]), "rate_limit", 4, "a run would wait: PostHog's request limit");
    let headers = "X-PostHog-Query-Bytes-Read: 5\r\nX-PostHog-Query-Budget-Remaining-Bytes: 0\r\n";
    expect(examine_server(vec![answered(headers)]), "rate_limit", 4, "byte budget is used up");
}

#[test]
fn nobody_there_is_network_and_silence_is_timeout() {
    let (_socket, nobody) = crate::posthog::http::client::tests::nobody();
    expect(run(config(&format!("http://{nobody}")), TIMEOUT, NOW), "network", 4, "may reach that address");
    let server = serve(vec![Play::Hang]);
    expect(run(config(&server.base), Duration::from_millis(300), NOW), "timeout", 4, "");
}

#[test]
fn a_failing_server_and_nonsense_are_unknown() {
    expect(examine_server(denied(500, "A server error occurred.")), "unknown", 4, "HTTP 500");
    expect(examine_server(vec![json_answer(200, "", "{}")]), "unknown", 4, "not one of PostHog");
}

#[test]
fn a_budget_that_is_nearly_used_up_is_a_warning_with_its_bytes() {
    let headers = "X-PostHog-Query-Bytes-Read: 5\r\nX-PostHog-Query-Budget-Remaining-Bytes: 1000\r\n";
    expect(examine_server(vec![answered(headers)]), "ok", 0, "only 1000 bytes are left");
}

#[test]
fn a_budget_above_that_of_a_free_organization_is_told() {
    let headers = "X-PostHog-Query-Bytes-Read: 5\r\nX-PostHog-Query-Budget-Remaining-Bytes: 150000000000\r\n";
    let (report, _) = examine_server(vec![answered(headers)]);
    assert!(
        report
            .to_string()
            .contains("150000 MB left of the project's hourly byte budget, more than the 20 GB of a free")
    );
}

#[test]
fn a_healthy_project_says_what_is_left_and_what_is_missing() {
    let scopes = json_answer(200, "", r#"{"scopes": ["query:read", "cohort:write"], "scoped_teams": [7]}"#);
    let headers = "Date: Fri, 01 Jan 2027 00:00:00 GMT\r\nX-PostHog-Query-Bytes-Read: 5\r\n\
                   X-PostHog-Query-Budget-Remaining-Bytes: 20000000000\r\n";
    // Project, key and the list of cohorts are asked side by side: any may come first, and one answer does for all.
    let (report, code) = examine_server(vec![answered(headers), scopes.clone(), scopes.clone(), scopes]);
    assert_eq!(code, 0, "{report}");
    let text = report.to_string();
    assert!(text.contains("keeps to 2400 queries an hour (requests_per_hour)"), "{text}");
    assert!(text.contains("20000 MB left") && !text.contains("of a free"), "{text}");
    assert!(text.contains("feature_flags (feature_flag:read)") && !text.contains("cohorts ("), "{text}");
    assert!(report["message"].as_str().unwrap().contains("clock is"), "{text}");
    assert_eq!(report["timestamp"], "2027-01-15T08:00:00.000000Z");
    let names: Vec<&str> = report["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names[..4], ["config", "query", "limits", "clock"]);
}
