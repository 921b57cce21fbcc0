//! A finding of the doctor: its kind of trouble, its text, and the words for a fault.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::posthog::fault::{Cause, Fault};

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Ok,
    Auth,
    Permission,
    Network,
    Timeout,
    Config,
    RateLimit,
    Unknown,
}

impl Category {
    pub(super) fn name(self) -> &'static str {
        match self {
            Category::Ok => "ok",
            Category::Auth => "auth",
            Category::Permission => "permission",
            Category::Network => "network",
            Category::Timeout => "timeout",
            Category::Config => "config",
            Category::RateLimit => "rate_limit",
            Category::Unknown => "unknown",
        }
    }

    /// 0: healthy. 3: the owner of the key and the settings can mend it. 4: the network or PostHog has to.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Category::Ok => 0,
            Category::Auth | Category::Permission | Category::Config => Kind::Config.exit_code(),
            Category::Network | Category::Timeout | Category::RateLimit | Category::Unknown => {
                Kind::Service.exit_code()
            }
        }
    }

    pub(super) fn of(cause: &Cause) -> Category {
        match cause {
            Cause::Key => Category::Auth,
            Cause::Scope(_) | Cause::Access | Cause::Project => Category::Permission,
            Cause::Dns | Cause::Network | Cause::Tls | Cause::Proxy => Category::Network,
            Cause::Timeout => Category::Timeout,
            Cause::Missing | Cause::Redirect | Cause::Gate => Category::Config,
            Cause::Quota => Category::RateLimit,
            Cause::Request
            | Cause::UnknownColumn(_)
            | Cause::UnknownTable
            | Cause::Server
            | Cause::Untrusted
            | Cause::Allowance
            | Cause::Internal => Category::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Warning,
    Error,
}

/// One finding.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) category: Category,
    pub(super) message: String,
    latency: Duration,
    /// The streams one by one, where it is about them.
    streams: Vec<Value>,
}

impl Finding {
    pub(super) fn fine(name: &'static str, message: impl Into<String>, since: Instant) -> Finding {
        let message = message.into();
        Finding {
            name,
            status: Status::Ok,
            category: Category::Ok,
            message,
            latency: since.elapsed(),
            streams: Vec::new(),
        }
    }

    pub(super) fn warning(name: &'static str, message: impl Into<String>, since: Instant) -> Finding {
        Finding { status: Status::Warning, ..Finding::fine(name, message, since) }
    }

    pub(super) fn error(name: &'static str, category: Category, message: impl Into<String>, since: Instant) -> Finding {
        Finding { status: Status::Error, category, ..Finding::fine(name, message, since) }
    }

    /// The same finding, about these streams.
    pub(super) fn about(self, streams: Vec<Value>) -> Finding {
        Finding { streams, ..self }
    }

    /// The same finding where a run can do without.
    pub(super) fn into_warning(self) -> Finding {
        Finding { status: Status::Warning, category: Category::Ok, ..self }
    }

    pub(super) fn failed(name: &'static str, fault: Fault, since: Instant) -> Finding {
        let (category, text) = explain(fault);
        Finding::error(name, category, text, since)
    }

    pub(super) fn to_value(&self) -> Value {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Error => "error",
        };
        let mut value =
            json!({"name": self.name, "status": status, "message": self.message, "latency_ms": millis(self.latency)});
        if !self.streams.is_empty() {
            value["streams"] = json!(self.streams);
        }
        value
    }
}

/// The kind of trouble of a fault, and its text.
pub(super) fn explain(fault: Fault) -> (Category, String) {
    let (category, advice) = match &fault {
        Fault::Fatal(failure) => (Category::of(&failure.cause), advice(&failure.cause)),
        // Nobody stops a doctor but the limits: one attempt, no waits.
        Fault::Stopped(_) | Fault::WaitTooLong { .. } => (Category::RateLimit, ""),
        Fault::Split(_) => (Category::Timeout, ""),
        Fault::Untrusted(_) => (Category::Unknown, ""),
    };
    let text = match fault {
        // Here nothing was stopped.
        Fault::WaitTooLong { reason, wait } => {
            format!("a run would wait: {reason} and the next request would have to wait {} s", wait.as_secs())
        }
        fault => format!("{}{advice}", Error::from(fault)),
    };
    (category, text)
}

/// Advice where the error of a run has none.
fn advice(cause: &Cause) -> &'static str {
    match cause {
        Cause::Server => " - PostHog or what stands before it fails; try again, and look at its status page",
        _ => "",
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
