//! The query endpoint: the request's strict form, the cache, the replay of failures, the envelope of an answer.

use serde_json::{Map, Value as Json, json};

use super::http::{Call, Reply};
use super::sql::select::{self, Answer, DEFAULT_LIMIT, Surroundings};
use super::sql::zone::Zone;
use super::world::{Request, World};
use super::{Refusal, faults, refuse};

const BODY_KEYS: &[&str] = &[
    "query",
    "refresh",
    "client_query_id",
    "name",
    "filters_override",
    "variables_override",
    "limit_context",
    "async",
];
const QUERY_KEYS: &[&str] = &[
    "kind",
    "query",
    "values",
    "modifiers",
    "filters",
    "variables",
    "explain",
    "name",
    "response",
    "tags",
    "version",
    "connectionId",
    "sendRawQuery",
];
const MODIFIERS: &[&str] = &[
    "convertToProjectTimezone",
    "personsOnEventsMode",
    "personsArgMaxVersion",
    "inCohortVia",
    "materializationMode",
    "optimizeJoinedFilters",
    "sessionTableVersion",
    "useMaterializedViews",
    "propertyGroupsMode",
    "debug",
    "timings",
];

/// An answer kept for the next one who asks the same.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    members: Vec<(&'static str, Vec<u8>)>,
    rows: usize,
}

/// The SQL of a request body, if it is a query.
pub(crate) fn text(body: &[u8]) -> Option<String> {
    let body: Json = serde_json::from_slice(body).ok()?;
    Some(body.pointer("/query/query")?.as_str()?.to_owned())
}

/// Answers a query. `with_data` is false for projects without any.
pub(crate) fn answer(world: &mut World, call: &Call, request: &mut Request, with_data: bool) -> Result<Reply, Refusal> {
    let body: Json = serde_json::from_slice(&call.body)
        .map_err(|e| Refusal::new(400, "malformed_request", &format!("JSON parse error - {e}")))?;
    let (sql, modifiers) = read(&body, world.options.refuses)?;
    request.sql = Some(sql.to_owned());
    world.limits.admit()?;
    if let Some((failure, times)) = world.failures.get_mut(sql) {
        *times += 1;
        let mut failure = failure.clone();
        failure.detail.push_str(&format!(
            " This query failed the same way {times} times in a row, so it was not run again. It can run again in about \
             5 minutes."
        ));
        return Err(failure);
    }
    let cache_key = format!("{}{modifiers:?}{sql}", u8::from(with_data));
    let forced = matches!(body.get("refresh"), Some(Json::Bool(true))) || body["refresh"] == "force_blocking";
    if let Some(stored) = world.cache.get(&cache_key).filter(|_| !forced).cloned() {
        (request.cached, request.rows) = (true, stored.rows);
        return Ok(Reply::json(envelope(&stored, true, world.log.len())));
    }
    world.limits.afford()?;
    let convert = modifiers.and_then(|modifiers| modifiers.get("convertToProjectTimezone"));
    let zone = if convert == Some(&Json::Bool(false)) { Zone::Utc } else { world.options.zone };
    let answer = evaluate(world, sql, zone, with_data).inspect_err(|failure| {
        request.faux_pas = if failure.detail.starts_with("OFFSET") { vec!["OFFSET".to_owned()] } else { Vec::new() };
    });
    let answer = match answer {
        Err(failure) if faults::is_remembered(failure.status, failure.code) => {
            world.failures.insert(sql.to_owned(), (failure.clone(), 1));
            return Err(failure);
        }
        answer => answer?,
    };
    world.limits.spend(answer.bytes_read);
    (request.rows, request.bytes_read, request.table) = (answer.rows.len(), answer.bytes_read, answer.table);
    request.faux_pas.clone_from(&answer.faux_pas);
    let mut reply_headers = vec![("X-PostHog-Query-Bytes-Read", answer.bytes_read.to_string())];
    if let Some(left) = world.limits.left() {
        reply_headers.push(("X-PostHog-Query-Budget-Remaining-Bytes", left.max(0).to_string()));
    } else {
        reply_headers.clear();
    }
    let stored = Stored { members: members(sql, &answer, world), rows: answer.rows.len() };
    let body = envelope(&stored, false, world.log.len());
    world.cache.insert(cache_key, stored);
    Ok(Reply { headers: reply_headers, ..Reply::json(body) })
}

type Asked<'a> = (&'a str, Option<&'a Map<String, Json>>);

/// The SQL and the modifiers of a body in the form that PostHog insists on.
fn read<'a>(body: &'a Json, refuses: &[&str]) -> Result<Asked<'a>, Refusal> {
    let required = || Refusal::new(400, "required", "This field is required.").at("query");
    let strict = |object: &Map<String, Json>, known: &[&str], at: &str| match object
        .keys()
        .find(|key| !known.contains(&key.as_str()))
    {
        Some(key) => {
            Err(Refusal::new(400, "extra_forbidden", "Extra inputs are not permitted").at(format!("{at}{key}")))
        }
        None => Ok(()),
    };
    let query = body.get("query").and_then(Json::as_object).ok_or_else(required)?;
    strict(body.as_object().ok_or_else(required)?, BODY_KEYS, "")?;
    if query.get("kind").and_then(Json::as_str) != Some("HogQLQuery") {
        return Err(Refusal::new(400, "parse_error", "1 validation error for QueryRequest").at("query"));
    }
    strict(query, QUERY_KEYS, "query.")?;
    if let Some(key) = refuses.iter().find(|key| body.get(**key).or_else(|| query.get(**key)).is_some()) {
        let detail = format!("1 validation error for QueryRequest\n{key}\n  Extra inputs are not permitted");
        return Err(Refusal::new(400, "parse_error", &detail).at("query"));
    }
    let refresh = body.get("refresh").unwrap_or(&Json::Null);
    let known = ["blocking", "force_blocking", "force_cache"].iter().any(|mode| refresh == mode);
    if !known && !refresh.is_null() && !refresh.is_boolean() {
        return Err(refuse("the fake answers blocking queries only").at("refresh"));
    }
    if query.get("values").is_some_and(|values| values.as_object().is_none_or(|values| !values.is_empty())) {
        return Err(refuse("the fake does not fill placeholders in").at("query.values"));
    }
    let modifiers = query.get("modifiers").and_then(Json::as_object);
    if let Some(modifiers) = modifiers {
        strict(modifiers, MODIFIERS, "query.modifiers.")?;
    }
    let sql = query.get("query").and_then(Json::as_str);
    Ok((sql.ok_or_else(|| Refusal::new(400, "missing", "Field required").at("query.query"))?, modifiers))
}

fn evaluate(world: &mut World, sql: &str, zone: Zone, with_data: bool) -> Result<Answer, Refusal> {
    if sql.to_ascii_uppercase().contains("FROM") {
        world.count_query();
    }
    let world = &*world;
    let tables = |name: &str| {
        let mut table = world.read_table(name)?;
        if !with_data {
            table.to_mut().rows.clear();
        }
        Some(table)
    };
    let (most_bytes_read, most_rows) = (world.options.most_bytes_read, world.options.most_rows);
    let sort_key = world.options.sort_key;
    let around = Surroundings { tables: &tables, now: world.now, zone, most_bytes_read, most_rows, sort_key };
    select::run(sql, &around)
}

/// The members of an answer, sorted by name as PostHog usually sends them.
fn members(sql: &str, answer: &Answer, world: &World) -> Vec<(&'static str, Vec<u8>)> {
    let mut rows = b"[".to_vec();
    for (at, row) in answer.rows.iter().enumerate() {
        rows.extend_from_slice(if at > 0 { b",[" } else { b"[" });
        for (at, (value, kind)) in row.iter().zip(&answer.types).enumerate() {
            if at > 0 {
                rows.push(b',');
            }
            kind.write_json(value, &mut rows);
        }
        rows.push(b']');
    }
    rows.push(b']');
    let types: Vec<Json> =
        answer.columns.iter().zip(&answer.types).map(|(name, kind)| json!([name, kind.to_string()])).collect();
    let paged = answer.has_more.is_some();
    let mut all: Vec<(&'static str, Vec<u8>)> = [
        ("cache_key", json!(format!("cache_1_{:016x}", super::cityhash64(sql.as_bytes())))),
        ("cache_target_age", Json::Null),
        ("calculation_trigger", Json::Null),
        ("clickhouse", json!(format!("{sql} SETTINGS readonly=2, max_execution_time=10"))),
        ("columns", json!(answer.columns)),
        ("error", Json::Null),
        ("explain", Json::Null),
        ("hasMore", json!(answer.has_more)),
        ("hogql", json!(sql)),
        ("last_refresh", json!(Zone::Utc.rfc3339(world.now))),
        ("limit", if paged { json!(DEFAULT_LIMIT) } else { Json::Null }),
        ("metadata", Json::Null),
        ("modifiers", json!({"convertToProjectTimezone": null, "personsOnEventsMode": "disabled"})),
        ("next_allowed_client_refresh", Json::Null),
        ("offset", if paged { json!(0) } else { Json::Null }),
        ("query", Json::Null),
        ("query_metadata", Json::Null),
        ("query_status", Json::Null),
        ("resolved_date_range", Json::Null),
        ("timezone", json!(world.options.zone.name())),
        ("timings", json!([{"k": ".", "t": 0.027_562}])),
        ("types", Json::Array(types)),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_string().into_bytes()))
    .collect();
    all.push(("results", rows));
    all
}

/// The members as one object. Their order changes from answer to answer; `types` comes after `results`.
fn envelope(stored: &Stored, cached: bool, turn: usize) -> Vec<u8> {
    let mut members: Vec<(&str, &[u8])> = stored.members.iter().map(|(name, text)| (*name, text.as_slice())).collect();
    members.push(("is_cached", if cached { b"true" } else { b"false" }));
    members.sort_unstable();
    match turn % 3 {
        0 => {}
        1 => members.rotate_left(turn % 17),
        _ => members.reverse(),
    }
    let types = members.iter().position(|(name, _)| *name == "types").unwrap();
    let types = members.remove(types);
    members.push(types);
    let mut out = Vec::new();
    for (name, text) in members {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend(format!("\"{name}\":").bytes());
        out.extend(text);
    }
    out.push(b'}');
    out
}
