//! A PostHog for tests and for the demo: rows in memory, answered over real HTTP. Queries are *evaluated*, so a query of
//! the tap that asks for the wrong rows gets the wrong rows, and one that this fake does not understand is refused with the
//! reason. Where it stands for ClickHouse or PostHog (hashes, orders, texts) it is held to vectors taken from the real ones.
//!
//! ```text
//! http.rs    bytes on a socket          api.rs    paths, keys, scopes, limits
//! query.rs   the query endpoint         sql/      what it answers
//! rest.rs    lists of objects           faults.rs answers gone wrong on demand
//! world.rs   all that is stored         events.rs realistic events
//! ```

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

mod api;
pub(crate) mod events;
mod faults;
mod http;
mod limits;
mod query;
pub(crate) mod rest;
#[cfg(test)]
mod selftest;
mod sql;
mod world;

pub(crate) use events::Event;
pub(crate) use faults::{Fault, NAMES as FAULTS};
pub(crate) use sql::cityhash64;
pub(crate) use sql::zone::{DAY_MICROS, HOUR_MICROS, Zone, parse_micros};
pub(crate) use world::{Held, Identity, NEW_STORAGE, Options, Request, World};

/// A time as microseconds since 1970, from RFC 3339 text.
pub(crate) fn micros(text: &str) -> i64 {
    parse_micros(text).unwrap_or_else(|| panic!("not a time: {text}"))
}

/// An answer that says no: the status and the fields of PostHog's error body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) attr: Option<String>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, detail: &str) -> Refusal {
        let kind = match status {
            400 => "validation_error",
            401 | 403 => "authentication_error",
            429 => "throttled_error",
            500.. => "server_error",
            _ => "invalid_request",
        };
        Refusal { status, kind, code, detail: detail.to_owned(), attr: None, headers: Vec::new() }
    }

    pub(crate) fn at(mut self, attr: impl Into<String>) -> Refusal {
        self.attr = Some(attr.into());
        self
    }

    pub(crate) fn timeout() -> Refusal {
        Refusal::new(504, "error", faults::TIMEOUT)
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let Refusal { kind, code, detail, attr, .. } = self;
        serde_json::json!({"type": kind, "code": code, "detail": detail, "attr": attr}).to_string().into_bytes()
    }
}

/// The ordinary 400.
pub(crate) fn refuse(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(400, "invalid_input", detail.as_ref())
}

/// A running fake. It serves until the process ends; many can run side by side.
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    url: String,
}

impl Fake {
    pub(crate) fn start(options: Options) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World::new(options)));
        let served = Arc::clone(&world);
        thread::spawn(move || http::serve(&listener, &served));
        Fake { world, url }
    }

    /// The base URL, without a slash at its end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A key that may read everything.
    pub(crate) fn key(&self) -> &'static str {
        api::FULL_KEY
    }

    /// Everything else: rows, clock, log, faults, keys.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        // A panic in one connection's thread must not hide the reason of the test that caused it.
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
