//! The report of the doctor in lines, for a person.

use std::fmt::Write as _;

use serde_json::Value;

/// A line for each finding, one for each stream, and a last one that says whether a run can work.
pub fn lines(report: &Value) -> String {
    let mut out = String::new();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    for check in report["checks"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "{:<8} {}: {}", text(check, "status"), text(check, "name"), text(check, "message"));
        for stream in check["streams"].as_array().into_iter().flatten() {
            let (name, scope, why) = (text(stream, "name"), text(stream, "scope"), text(stream, "why"));
            let _ = match why.as_str() {
                "" => writeln!(out, "  ok     {name}: {scope}"),
                why => writeln!(out, "  --     {name}: {scope} ({why})"),
            };
        }
    }
    let is_healthy = report["status"] == "healthy";
    let verdict = if is_healthy { "a run can work" } else { "a run would fail" };
    let _ = writeln!(out, "{verdict} (looked at for {} ms)", report["latency_ms"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_finding_and_each_stream_has_a_line() {
        let report = json!({"status": "healthy", "latency_ms": 12, "checks": [
            {"name": "query", "status": "ok", "message": "the key can query the project"},
            {"name": "streams", "status": "warning", "message": "some cannot be read", "streams": [
                {"name": "events", "scope": "query:read"},
                {"name": "cohorts", "scope": "cohort:read", "why": "the key lacks the scope"}]},
        ]});
        let wanted = "ok       query: the key can query the project\n\
                      warning  streams: some cannot be read\n\
                      \x20 ok     events: query:read\n\
                      \x20 --     cohorts: cohort:read (the key lacks the scope)\n\
                      a run can work (looked at for 12 ms)\n";
        assert_eq!(lines(&report), wanted);
    }
}
