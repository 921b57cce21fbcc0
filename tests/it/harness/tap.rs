//! The tap. Every run is checked for what must hold always: whole Singer lines, a SCHEMA before its records, the key
//! nowhere, no careless query.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{Run, tap_posthog};
use crate::fake::Fake;

/// The tap, its files, and the fake that it reads.
pub(crate) struct Tap<'a> {
    fake: &'a Fake,
    pub(crate) dir: TempDir,
    pub(crate) config: Json,
    pub(crate) state: Option<String>,
    pub(crate) catalog: Option<String>,
    pub(crate) args: Vec<&'static str>,
}

impl<'a> Tap<'a> {
    /// A tap that reads all of the fake's project, as fast as it can.
    pub(crate) fn new(fake: &'a Fake) -> Tap<'a> {
        let config = json!({
            "api_key": fake.key(), "project_id": 1, "region": "self_hosted", "custom_base_url": fake.url(),
            "initial_since": "2026-01-01T00:00:00Z", "requests_per_minute": 100_000,
            "requests_per_hour": 1_000_000, "data_type": "events",
        });
        Tap { fake, dir: tempfile::tempdir().unwrap(), config, state: None, catalog: None, args: Vec::new() }
    }

    /// With another value for a setting; null removes it.
    pub(crate) fn set(mut self, name: &str, value: impl Into<Json>) -> Tap<'a> {
        match value.into() {
            Json::Null => {
                self.config.as_object_mut().unwrap().shift_remove(name);
            }
            value => self.config[name] = value,
        }
        self
    }

    pub(crate) fn state(mut self, state: &Json) -> Tap<'a> {
        self.state = Some(state.to_string());
        self
    }

    pub(crate) fn arg(mut self, arg: &'static str) -> Tap<'a> {
        self.args.push(arg);
        self
    }

    /// The command, with its files written.
    pub(crate) fn command(&self) -> Command {
        let mut command = tap_posthog();
        let mut file = |flag: &str, text: &str| {
            let path = self.dir.path().join(flag.trim_start_matches('-')).with_extension("json");
            std::fs::write(&path, text).unwrap();
            make_private(&path);
            command.arg(flag).arg(path);
        };
        match &self.config {
            Json::String(text) => file("--config", text),
            config => file("--config", &config.to_string()),
        }
        if let Some(state) = &self.state {
            file("--state", state);
        }
        if let Some(catalog) = &self.catalog {
            file("--catalog", catalog);
        }
        command.args(&self.args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self) -> Run {
        let run = Run::of(self.command().output().unwrap());
        self.check(&run);
        run
    }

    pub(crate) fn spawn(&self) -> Child {
        self.command().spawn().unwrap()
    }

    /// What holds for every run, however it ended.
    pub(crate) fn check(&self, run: &Run) {
        let key = self.config["api_key"].as_str().unwrap_or(self.fake.key());
        for (name, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            assert!(!text.contains(key), "the key stands in {name}");
        }
        assert_eq!(self.fake.world().faux_pas(), Vec::<String>::new());
        let mut known = Vec::new();
        for message in run.messages() {
            let stream = message["stream"].as_str().map(str::to_owned);
            match (message["type"].as_str(), stream) {
                (Some("SCHEMA"), Some(stream)) => known.push(stream),
                (Some("RECORD" | "ACTIVATE_VERSION"), Some(stream)) => {
                    assert!(known.contains(&stream), "a record of {stream} before its schema");
                }
                (Some("STATE"), None) => assert!(message["value"].is_object(), "{message}"),
                _ => panic!("not a Singer message: {message}"),
            }
        }
    }
}

/// Nobody else may read the file; otherwise the tap warns about the key in it.
fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A catalog of one stream with these fields; `metadata` is the stream's, `more` other entries.
pub(crate) fn catalog(stream: &str, keys: &[&str], fields: &Json, metadata: &Json, more: &[Json]) -> String {
    let mut selected = json!({"selected": true});
    selected.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let entries: Vec<Json> =
        [json!({"breadcrumb": [], "metadata": selected})].into_iter().chain(more.iter().cloned()).collect();
    json!({"streams": [{"tap_stream_id": stream, "stream": stream, "key_properties": keys, "metadata": entries,
        "schema": {"type": "object", "properties": fields}}]})
    .to_string()
}

pub(crate) fn with_catalog<'a>(fake: &'a Fake, catalog: String) -> Tap<'a> {
    let mut tap = Tap::new(fake).set("data_type", Json::Null);
    tap.catalog = Some(catalog);
    tap
}

/// A catalog that reads a stream by this replication key, and the state of an earlier run.
pub(crate) fn incremental(stream: &str, keys: &[&str], by: &str) -> (String, Json) {
    let text = json!({"type": "string"});
    let time = json!({"type": ["null", "string"], "format": "date-time"});
    let mut fields: serde_json::Map<String, Json> = keys.iter().map(|key| ((*key).to_owned(), text.clone())).collect();
    fields.insert(by.to_owned(), time);
    let metadata = json!({"replication-method": "INCREMENTAL", "replication-key": by});
    let bookmark = json!({"replication_key": by, "replication_key_value": "2026-08-14T12:00:00.000000Z"});
    (catalog(stream, keys, &Json::Object(fields), &metadata, &[]), json!({"bookmarks": {stream: bookmark}}))
}
