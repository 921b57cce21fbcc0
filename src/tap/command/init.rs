//! `--init`: settings by a conversation on the terminal. It asks for the key, which is not echoed, finds the region and the
//! projects that the key may read, and writes a file that only its owner can read.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result, one_line};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::http::client::{Answer, Client, Get, Options, RateClass};
use crate::posthog::http::retry::RetryPolicy;
use crate::settings::{Given, Place};
use crate::tap::config::{Config, settings};

/// A person waits for each request.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks, and writes the settings to `path`.
///
/// # Errors
/// Without a terminal, with a file that is there already, with a key that nobody knows.
pub fn init(path: &Path) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Error::new(
            Kind::Usage,
            "--init asks on a terminal, and standard input is none; write the file by hand",
        ));
    }
    if path.exists() {
        let text = format!("{} is there already; name another file behind --init", path.display());
        return Err(Error::new(Kind::Config, text));
    }
    let address = ask("Address of a self-hosted PostHog (Enter: PostHog Cloud): ")?;
    say("A personal API key: PostHog, Settings, Personal API keys, with the scope query:read or more.\n")?;
    let key = ask_unseen("Key (phx_..., not shown): ")?;
    let (mut found, client) = find(&key, &address)?;
    say(&format!("The key is known at {}.\n", client.options().base))?;
    let about = get(&client, "api/personal_api_keys/@current/").unwrap_or_default();
    let scopes: Vec<&str> = about["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !scopes.is_empty() {
        say(&format!("Its scopes: {}\n", one_line(&scopes.join(", "))))?;
    }
    found["project_id"] = json!(choose(&projects(&client, &about))?);
    write(path, &found)?;
    say(&format!("Wrote {}, readable by you alone. What the doctor says:\n", path.display()))
}

/// Says which events a first run reads, and how to start one.
///
/// # Errors
/// [`Kind::Pipe`] when the terminal went away.
pub fn say_what_is_next(path: &Path) -> Result<()> {
    let path = path.display();
    say(&format!(
        "The first run reads the events of the last 30 days. For older ones, write a line like \"initial_since\": \"2026-01-01\",\n\
         into {path} before the first run. To run, now and as often as you like:\n  \
         target-parquet run -- tap-posthog --config {path}\n"
    ))
}

/// The settings that lead to the key, without the project, and the way there.
fn find(key: &str, address: &str) -> Result<(Value, Client)> {
    let places = match address {
        "" => vec![json!({"region": "us"}), json!({"region": "eu"})],
        address => vec![json!({"region": "self_hosted", "custom_base_url": address})],
    };
    let mut failure = Error::new(Kind::Config, "no key was given");
    for mut place in places {
        place["api_key"] = json!(key);
        let client = client(&place)?;
        match get(&client, "api/users/@me/") {
            // A key that lacks a scope is a known key.
            Ok(_) | Err(Fault::Fatal(Failure { cause: Cause::Scope(_) | Cause::Access, .. })) => {
                return Ok((place, client));
            }
            Err(fault) => failure = fault.into(),
        }
    }
    Err(failure)
}

fn client(place: &Value) -> Result<Client> {
    let mut given = Given::new(settings::TABLE);
    let mut place = place.as_object().cloned().unwrap_or_default();
    // No request here is about a project.
    place.insert("project_id".to_owned(), json!(1));
    given.overlay(place, &Place::File("your answers".to_owned()));
    let options = Config::from_settings(&given.read()?, 0)?.connection;
    Client::new(Options { retry_policy: RetryPolicy::none(), request_timeout: TIMEOUT, ..options })
}

fn get(client: &Client, path: &str) -> Result<Value, Fault> {
    let read = |answer: Answer| serde_json::from_slice(&answer.body).map_err(|e| Fault::untrusted(e.to_string()));
    client.get(&Get::new(path, RateClass::Lists), read)
}

/// The projects that the key may read, as far as PostHog tells: numbers and names.
fn projects(client: &Client, about: &Value) -> Vec<(u64, String)> {
    let numbers = about["scoped_teams"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let restricted: Vec<_> = numbers.map(|id| (id, String::new())).collect();
    if !restricted.is_empty() {
        return restricted;
    }
    let named =
        |project: &Value| Some((project["id"].as_u64()?, one_line(project["name"].as_str().unwrap_or_default())));
    let list = get(client, "api/projects/").unwrap_or_default();
    let listed: Vec<_> = list["results"].as_array().into_iter().flatten().filter_map(named).collect();
    if !listed.is_empty() {
        return listed;
    }
    get(client, "api/users/@me/").ok().and_then(|user| named(&user["team"])).into_iter().collect()
}

/// The project that the person means.
fn choose(projects: &[(u64, String)]) -> Result<u64> {
    for (id, name) in projects {
        say(&format!("  project {id} {name}\n"))?;
    }
    let (question, usual) = match projects.first() {
        Some((id, _)) => (format!("Project (Enter: {id}): "), Some(*id)),
        None => ("Project (the number in the address bar, /project/12345): ".to_owned(), None),
    };
    loop {
        let answer = ask(&question)?;
        match answer.parse().ok().or(usual.filter(|_| answer.is_empty())) {
            Some(id) if id > 0 => return Ok(id),
            _ => say("A number, please.\n")?,
        }
    }
}

/// Writes the settings into a new file of mode 600.
fn write(path: &Path, settings: &Value) -> Result<()> {
    let failed = |e: io::Error| Error::new(Kind::Config, format!("writing {} failed: {e}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(format!("{settings:#}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn say(text: &str) -> Result<()> {
    let text = log::without_secrets(text);
    let said = io::stderr().write_all(text.as_bytes());
    said.map_err(|e| Error::new(Kind::Pipe, format!("writing to the terminal failed: {e}")))
}

/// The answer of the person, without spaces around it.
fn ask(question: &str) -> Result<String> {
    say(question)?;
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(0) => Err(Error::new(Kind::Usage, "no answer came")),
        Ok(_) => Ok(answer.trim().to_owned()),
        Err(e) => Err(Error::new(Kind::Usage, format!("reading the answer failed: {e}"))),
    }
}

/// As [`ask`], and the terminal does not show what is typed.
fn ask_unseen(question: &str) -> Result<String> {
    let silence = Silence::begin()?;
    let answer = ask(question);
    drop(silence);
    say("\n")?;
    let answer = answer?;
    log::conceal(&answer);
    Ok(answer)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Silence> {
        let failed = |e| Error::new(Kind::Usage, format!("the terminal cannot be kept from showing the key: {e}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
