//! REST objects: invented, of PostHog's shape, in lists with PostHog's envelopes.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::sql::zone::Zone;
use super::{Refusal, cityhash64};

/// Kind, how many there are at the start, scope.
const KINDS: &[(&str, usize, &str)] = &[
    ("cohorts", 137, "cohort:read"),
    ("feature_flags", 230, "feature_flag:read"),
    ("annotations", 12, "annotation:read"),
    ("actions", 105, "action:read"),
    ("insights", 215, "insight:read"),
    ("dashboards", 23, "dashboard:read"),
    ("experiments", 7, "experiment:read"),
    ("surveys", 3, "survey:read"),
    ("event_definitions", 0, "event_definition:read"),
    ("property_definitions", 0, "property_definition:read"),
    ("groups_types", 3, "group:read"),
    ("persons", 120, "person:read"),
    ("session_recordings", 40, "session_recording:read"),
];

pub(crate) fn scope(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, ..)| *known == kind).map(|(_, _, scope)| *scope)
}

/// A list as it is asked for.
pub(crate) struct List<'a> {
    pub(crate) kind: &'a str,
    /// The URL without its parameters.
    pub(crate) url: String,
    pub(crate) parameters: &'a str,
}

/// How `next` misleads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Next {
    #[default]
    Honest,
    /// It names a host of the inner network, as behind a proxy.
    OtherHost,
    /// It leads back to the same page.
    Loop,
    /// Pages hold one object less than asked for, and `next` says so.
    ShortPages,
}

#[derive(Debug)]
pub(crate) struct Objects {
    kinds: BTreeMap<String, Vec<Json>>,
    pub(crate) next: Next,
}

impl Objects {
    pub(crate) fn new() -> Objects {
        let made = |(kind, count, _): &(&str, usize, &str)| {
            ((*kind).to_owned(), (1..=*count).map(|id| object(kind, id)).collect())
        };
        let mut objects = Objects { kinds: KINDS.iter().map(made).collect(), next: Next::Honest };
        for (of, name, kind) in PROPERTIES {
            objects.define_property(of, name, Some(kind));
        }
        objects
    }

    /// The objects of a kind, to change at will. Property definitions are kept as `property_definitions:<of>`.
    pub(crate) fn of(&mut self, kind: &str) -> &mut Vec<Json> {
        self.kinds.entry(kind.to_owned()).or_default()
    }

    /// Adds a property definition; `of` is event, person, group or session.
    pub(crate) fn define_property(&mut self, of: &str, name: &str, kind: Option<&str>) {
        let id = id_text(&format!("{of}/{name}"));
        self.of(&format!("property_definitions:{of}")).push(json!({
            "id": id, "name": name, "is_numerical": kind == Some("Numeric"), "property_type": kind, "tags": [],
            "is_seen_on_filtered_events": null, "hidden": false, "verified": false,
        }));
    }

    pub(crate) fn list(&self, list: &List<'_>, with_data: bool) -> Result<Json, Refusal> {
        let parameter = |name: &str| {
            let pairs = list.parameters.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).next_back()
        };
        let number = |name: &str| parameter(name).and_then(|text| text.parse::<usize>().ok());
        let of = parameter("type").unwrap_or("event");
        let kept = match list.kind {
            "property_definitions" => self.kinds.get(&format!("property_definitions:{of}")),
            kind => self.kinds.get(kind),
        };
        if list.kind == "property_definitions" && of == "group" && number("group_type_index").is_none() {
            return Err(Refusal::new(400, "invalid_input", "property_definitions of groups need group_type_index"));
        }
        let all = kept.filter(|_| with_data).map_or([].as_slice(), Vec::as_slice);
        if list.kind == "groups_types" {
            return Ok(all.into());
        }
        let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(100);
        let step = if self.next == Next::ShortPages { limit.max(2) - 1 } else { limit };
        let offset = number("offset").unwrap_or(0);
        let page: Vec<&Json> = all.iter().skip(offset).take(step).collect();
        let url = |offset: usize| self.link(list, limit, offset);
        let more = offset + step < all.len();
        let next = if more { url(if self.next == Next::Loop { offset } else { offset + step }) } else { Json::Null };
        let previous = if offset > 0 { url(offset.saturating_sub(step)) } else { Json::Null };
        Ok(match list.kind {
            "persons" => json!({"next": next, "previous": previous, "results": page}),
            "session_recordings" => json!({"has_next": more, "next": next, "results": page}),
            _ => json!({"count": all.len(), "next": next, "previous": previous, "results": page}),
        })
    }

    fn link(&self, list: &List<'_>, limit: usize, offset: usize) -> Json {
        let base = match self.next {
            Next::OtherHost => format!("http://posthog-web.internal:8000{}", path_of(&list.url)),
            _ => list.url.clone(),
        };
        let given = list
            .parameters
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("limit=") && !pair.starts_with("offset="));
        let given: String = given.map(|pair| format!("{pair}&")).collect();
        format!("{base}?{given}limit={limit}&offset={offset}").into()
    }
}

fn path_of(url: &str) -> &str {
    url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or("/")
}

fn id_text(seed: &str) -> String {
    let (a, b) = (cityhash64(seed.as_bytes()), cityhash64(format!("{seed}/").as_bytes()));
    super::sql::value::uuid_text(u128::from(a) << 64 | u128::from(b))
}

fn time(hours: usize) -> String {
    Zone::Utc.rfc3339(super::micros("2024-01-01T00:00:00Z") + hours as i64 * super::HOUR_MICROS + 123_456)
}

const PROPERTIES: &[(&str, &str, &str)] = &[
    ("event", "$browser", "String"),
    ("event", "$browser_version", "Numeric"),
    ("event", "$current_url", "String"),
    ("event", "$is_identified", "Boolean"),
    ("event", "$lib", "String"),
    ("event", "$os", "String"),
    ("event", "$screen_height", "Numeric"),
    ("event", "$screen_width", "Numeric"),
    ("event", "$time", "Numeric"),
    ("event", "big", "Numeric"),
    ("event", "currency", "String"),
    ("event", "is_trial", "Boolean"),
    ("event", "mixed", "String"),
    ("event", "plan", "String"),
    ("event", "price", "Numeric"),
    ("event", "quantity", "Numeric"),
    ("event", "signup_date", "DateTime"),
    ("event", "title", "String"),
    ("person", "age", "Numeric"),
    ("person", "email", "String"),
    ("person", "name", "String"),
    ("person", "plan", "String"),
    ("person", "vip", "Boolean"),
    ("group", "name", "String"),
    ("group", "seats", "Numeric"),
];

fn user() -> Json {
    json!({"id": 1, "uuid": id_text("user"), "distinct_id": "usr_1", "first_name": "Fake", "last_name": "",
        "email": "fake@example.com", "is_email_verified": true, "hedgehog_config": null,
        "role_at_organization": "engineering"})
}

const GROUP_TYPES: [&str; 3] = ["organization", "project", "instance"];

/// Object number `id` of a kind.
fn object(kind: &str, id: usize) -> Json {
    const NAMES: [&str; 6] = ["Weekly actives", "Signup funnel", "Überblick", "収益", "Churn 😀", "O'Neil \"test\""];
    let hash = cityhash64(format!("{kind}/{id}").as_bytes()) as usize;
    let name = format!("{} {id}", NAMES[hash % NAMES.len()]);
    let (created, updated) = (time(id), time(id + 24 * (1 + hash % 50)));
    let mut object = json!({"id": id, "name": name, "created_at": created, "created_by": user(), "deleted": false});
    let more = match kind {
        "cohorts" => json!({"description": "", "groups": [], "filters": {"properties": {"type": "OR", "values": []}},
            "query": null, "is_calculating": false, "last_calculation": updated, "errors_calculating": 0,
            "count": hash % 9000, "is_static": id.is_multiple_of(5), "cohort_type": null, "experiment_set": []}),
        "feature_flags" => {
            json!({"key": format!("flag-{id}"), "active": !hash.is_multiple_of(3), "updated_at": updated,
            "filters": {"groups": [{"properties": [], "rollout_percentage": hash % 101}], "multivariate": null},
            "version": 1, "last_modified_by": user(), "rollout_percentage": hash % 101, "tags": [],
            "ensure_experience_continuity": false, "status": "ACTIVE", "evaluation_runtime": "all"})
        }
        "annotations" => json!({"content": name, "date_marker": created, "creation_type": "USR",
            "dashboard_item": null, "updated_at": updated, "scope": "project"}),
        "actions" => json!({"description": "", "tags": [], "steps": [{"event": "$pageview", "url": "/pricing"}],
            "post_to_slack": false, "is_calculating": false, "last_calculated_at": created, "team_id": 1}),
        "insights" => json!({"short_id": format!("{hash:08x}"), "description": "", "updated_at": updated,
            "last_modified_at": updated, "last_modified_by": user(), "query": {"kind": "InsightVizNode"},
            "dashboards": [1 + id % 23], "tags": [], "favorited": false, "saved": true, "result": null}),
        "dashboards" => json!({"description": "", "pinned": id == 1, "last_accessed_at": updated, "tags": [],
            "is_shared": false, "creation_mode": "default", "team_id": 1}),
        "experiments" => json!({"description": "", "start_date": created, "end_date": null, "updated_at": updated,
            "feature_flag_key": format!("flag-{id}"), "parameters": {}, "archived": false, "type": "product"}),
        "surveys" => json!({"id": id_text(&format!("survey/{id}")), "description": "", "type": "popover",
            "questions": [{"type": "open", "question": "Why?"}], "start_date": created, "end_date": null,
            "archived": false, "conditions": null, "appearance": {}}),
        "groups_types" => json!({"group_type": GROUP_TYPES[(id - 1) % GROUP_TYPES.len()],
            "group_type_index": id - 1, "name_singular": null, "name_plural": null, "detail_dashboard": null,
            "default_columns": null}),
        "persons" => json!({"id": id_text(&format!("person/{id}")), "uuid": id_text(&format!("person/{id}")),
            "distinct_ids": [format!("user_{id}")], "properties": {"email": format!("user{id}@example.com"),
            "plan": if id.is_multiple_of(2) { "free" } else { "pro" }, "age": 18 + id % 60}, "last_seen_at": null}),
        _ => json!({"id": format!("rec-{id}"), "distinct_id": format!("user_{id}"), "viewed": false,
            "recording_duration": hash % 3600, "start_time": created, "end_time": updated, "click_count": hash % 50,
            "start_url": "https://app.example.com/", "person": null, "storage": "object_storage", "ongoing": false}),
    };
    let fields = object.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    object
}

pub(crate) fn project(id: u64, zone: Zone) -> Json {
    json!({"id": id, "uuid": id_text("project"), "organization": id_text("organization"), "project_id": id,
        "name": "Fake project", "api_token": "phc_fakeprojecttoken", "secret_api_token": "phs_never_show_this",
        "created_at": "2024-01-01T00:00:00.123456Z", "updated_at": "2026-01-01T00:00:00.000001Z",
        "timezone": zone.name(), "has_group_types": true, "group_types": [], "access_control": false,
        "person_on_events_querying_enabled": true, "live_events_token": "never_show_this_either"})
}

pub(crate) fn me(zone: Zone) -> Json {
    let mut me = user();
    let organization = json!({"id": id_text("organization"), "name": "Fake org", "slug": "fake-org"});
    me["team"] = json!({"id": 1, "name": "Fake project", "timezone": zone.name(), "api_token": "phc_fakeprojecttoken"});
    me["organization"] = organization.clone();
    me["organizations"] = json!([organization]);
    me
}
