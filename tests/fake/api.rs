//! Paths, keys and scopes: who may ask for what, and which part of the fake answers.

use std::sync::Mutex;

use serde_json::{Value as Json, json};

use super::faults;
use super::http::{Call, Reply, gzip};
use super::world::{Request, World};
use super::{Refusal, query, rest};

pub(crate) const FULL_KEY: &str = "phx_fake_full";
pub(crate) const BAD_KEY: &str = "Personal API key found in request Authorization header is invalid.";

/// The project with data. 2 belongs to somebody else, 3 is empty, others do not exist.
pub(crate) const PROJECT: u64 = 1;
const FOREIGN: u64 = 2;
const EMPTY: u64 = 3;

/// A personal API key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: &'static str,
    /// `*` or `object:read`.
    pub(crate) scopes: &'static [&'static str],
    /// The only projects that it may read; all when empty.
    pub(crate) projects: &'static [u64],
}

impl Key {
    pub(crate) fn usual() -> Vec<Key> {
        vec![
            Key { text: FULL_KEY, scopes: &["*"], projects: &[] },
            Key { text: "phx_fake_query_only", scopes: &["query:read"], projects: &[] },
            Key { text: "phx_fake_no_query", scopes: &["insight:read", "user:read"], projects: &[] },
            Key { text: "phx_fake_other_project", scopes: &["*"], projects: &[EMPTY] },
        ]
    }

    /// Refuses when the key lacks `scope`, or may not read `project`.
    fn permit(&self, scope: &str, project: Option<u64>) -> Result<(), Refusal> {
        let denied = |text: &str| Err(Refusal::new(403, "permission_denied", text));
        if project == Some(FOREIGN) {
            return denied("You don't have access to the project.");
        }
        if let Some(id) = project.filter(|id| !self.projects.is_empty() && !self.projects.contains(id)) {
            return denied(&format!("API key does not have access to the requested project: ID {id}."));
        }
        if !self.scopes.iter().any(|held| *held == "*" || *held == scope) {
            return denied(&format!("API key missing required scope '{scope}'"));
        }
        Ok(())
    }
}

/// Answers one call and logs it.
pub(crate) fn answer(world: &Mutex<World>, call: &Call) -> Reply {
    let mut world = world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut request = Request { method: call.method.clone(), path: call.path.clone(), ..Request::default() };
    let body = String::from_utf8_lossy(&call.body).into_owned();
    let fault = world.faults.pick(&call.path, &body);
    request.fault = fault.as_ref().map(|fault| fault.name);
    let mut reply = match fault.as_ref().and_then(faults::instead) {
        Some(reply) => {
            request.sql = query::text(&call.body);
            remember(&mut world, &request, &reply);
            reply
        }
        None => route(&mut world, call, &mut request).unwrap_or_else(|refusal| {
            request.detail = Some(refusal.detail.clone());
            Reply::refused(&refusal)
        }),
    };
    request.status = reply.status;
    request.body_bytes = reply.body.len();
    let date = chrono::DateTime::from_timestamp_micros(world.now).unwrap();
    reply = reply.header("Date", &date.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let wants_gzip = call.header("accept-encoding").is_some_and(|value| value.contains("gzip"));
    let gzips = world.options.gzip && wants_gzip;
    world.log.push(request);
    drop(world);
    if let Some(fault) = fault {
        return faults::spoil(&fault, reply);
    }
    if gzips && reply.body.len() > 1024 {
        reply.body = gzip(&reply.body);
        reply = reply.header("Content-Encoding", "gzip");
    }
    reply
}

/// A failure for good that a fault made is remembered like a real one.
fn remember(world: &mut World, request: &Request, reply: &Reply) {
    let Some(sql) = request.sql.clone() else { return };
    let Ok(said) = serde_json::from_slice::<Json>(&reply.body) else { return };
    let code = if said["code"] == "too_many_bytes" { "too_many_bytes" } else { "error" };
    if faults::is_remembered(reply.status, code) {
        let refusal = Refusal::new(reply.status, code, said["detail"].as_str().unwrap_or_default());
        world.failures.entry(sql).or_insert((refusal, 0)).1 += 1;
    }
}

fn route(world: &mut World, call: &Call, request: &mut Request) -> Result<Reply, Refusal> {
    let key = authenticate(world, call)?;
    let (path, parameters) = call.path.split_once('?').unwrap_or((&call.path, ""));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let get = call.method == "GET";
    match parts.as_slice() {
        ["api", "users", "@me"] if get => {
            key.permit("user:read", None)?;
            Ok(Reply::json(rest::me(world.options.zone).to_string().into_bytes()))
        }
        ["api", "personal_api_keys", "@current"] if get => Ok(Reply::json(about_key(&key))),
        ["api", "projects" | "environments", id, rest @ ..] => {
            let project = project_id(id)?;
            in_project(world, call, request, &key, Place { project, rest, path, parameters })
        }
        _ => Err(Refusal::new(404, "not_found", "Endpoint not found.")),
    }
}

/// Where in a project a call goes.
struct Place<'a> {
    project: u64,
    rest: &'a [&'a str],
    path: &'a str,
    parameters: &'a str,
}

fn in_project(
    world: &mut World,
    call: &Call,
    request: &mut Request,
    key: &Key,
    place: Place<'_>,
) -> Result<Reply, Refusal> {
    let project = place.project;
    match (call.method.as_str(), place.rest) {
        ("GET", []) => {
            key.permit("project:read", Some(project))?;
            Ok(Reply::json(rest::project(project, world.options.zone).to_string().into_bytes()))
        }
        ("POST", ["query"] | ["query", _]) => {
            key.permit("query:read", Some(project))?;
            query::answer(world, call, request, project == PROJECT)
        }
        ("DELETE", ["query", _]) => Ok(Reply::json(b"{\"message\":\"Query task revoked\"}".to_vec())),
        ("GET", [kind]) => {
            let scope = rest::scope(kind).ok_or_else(|| Refusal::new(404, "not_found", "Endpoint not found."))?;
            key.permit(scope, Some(project))?;
            world.count_page();
            let host = call.header("host").unwrap_or("127.0.0.1");
            let list = rest::List { kind, url: format!("http://{host}{}", place.path), parameters: place.parameters };
            let body = world.objects.list(&list, project == PROJECT)?;
            request.rows = body["results"].as_array().map_or(0, Vec::len);
            Ok(Reply::json(body.to_string().into_bytes()))
        }
        ("GET", _) => Err(Refusal::new(404, "not_found", "Endpoint not found.")),
        (method, _) => Err(Refusal::new(405, "method_not_allowed", &format!("Method \"{method}\" not allowed."))),
    }
}

fn authenticate(world: &World, call: &Call) -> Result<Key, Refusal> {
    let text = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let refused = |code, text: &str| {
        let mut refusal = Refusal::new(401, code, text);
        refusal.headers.push(("WWW-Authenticate", "Bearer resource_metadata=\"/.well-known\"".to_owned()));
        refusal
    };
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Err(refused("not_authenticated", "Authentication credentials were not provided."));
    };
    let known = world.keys.iter().find(|key| key.text == text).cloned();
    known.ok_or_else(|| refused("authentication_failed", BAD_KEY))
}

fn project_id(text: &str) -> Result<u64, Refusal> {
    match text {
        "@current" => Ok(PROJECT),
        _ => match text.parse() {
            Ok(id @ (PROJECT | FOREIGN | EMPTY)) => Ok(id),
            _ => Err(Refusal::new(404, "not_found", "Project not found.")),
        },
    }
}

fn about_key(key: &Key) -> Vec<u8> {
    let about = json!({
        "id": "fake", "label": "tests", "mask_value": "phx_...full", "created_at": "2026-01-01T00:00:00Z",
        "last_used_at": null, "scopes": key.scopes, "scoped_teams": key.projects, "scoped_organizations": [],
    });
    about.to_string().into_bytes()
}
