//! What a fault is: why a request has no answer, and what its caller can do about that. Which answer of PostHog means which
//! fault is said in `http/decision.rs`.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind};

/// Why a request has no answer, named after what the caller does about it.
#[derive(Debug)]
pub enum Fault {
    /// The same text would fail again: ask for less.
    Split(TooMuch),
    /// Nothing that we can do helps.
    Fatal(Failure),
    /// The run ends: a signal, or a time limit.
    Stopped(Error),
    /// PostHog asks for a longer wait than is wanted: the run ends with its state saved.
    WaitTooLong {
        /// What the wait is for.
        reason: &'static str,
        /// How long it would be.
        wait: Duration,
    },
    /// A body that cannot be true. Only a reader of bodies returns this; the client asks again and, in the end, makes it
    /// [`Fault::Fatal`].
    Untrusted(String),
}

impl Fault {
    /// The fault of a reader that does not believe an answer.
    pub fn untrusted(why: impl Into<String>) -> Fault {
        Fault::Untrusted(why.into())
    }

    /// The fault of a reader that found an error of ours.
    pub fn internal(error: Error) -> Fault {
        Fault::Fatal(Failure { cause: Cause::Internal, error })
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Split(why) => Error::new(Kind::Service, format!("the query cannot be made small enough: {why}")),
            Fault::Fatal(failure) => failure.error,
            Fault::Stopped(error) => error,
            Fault::WaitTooLong { reason, wait } => {
                let text = format!(
                    "stopped because {reason} and the next request would have to wait {} s (see max_wait_minutes and \
                     budget); the state is saved and the next run continues",
                    wait.as_secs()
                );
                Error::new(Kind::Stopped, text)
            }
            Fault::Untrusted(why) => Error::new(Kind::Service, format!("PostHog's answer cannot be trusted: {why}")),
        }
    }
}

/// What of a request was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The answer is larger than `max_response_mb`.
    AnswerBytes,
    /// The bytes that ClickHouse would read.
    ReadBytes,
    /// The server's time.
    Time,
    /// The server's memory.
    Memory,
    /// The server did not say.
    Unsaid,
}

/// A request that was too much. Its text says what the server said.
#[derive(Clone, Debug)]
pub struct TooMuch {
    /// What there was too much of.
    pub of: Resource,
    said: String,
}

impl TooMuch {
    /// Too much of this resource, by these words.
    pub fn new(of: Resource, said: impl Into<String>) -> TooMuch {
        TooMuch { of, said: said.into() }
    }

    /// The same with `what:` in front of its text.
    pub fn context(self, what: &str) -> TooMuch {
        TooMuch { said: format!("{what}: {}", self.said), ..self }
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

/// A failure for good: the error to end with, and its cause for those who go on without this answer (discovery) or
/// explain it (doctor).
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// The line to end with.
    pub error: Error,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

/// Why a request failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The key is unknown here.
    Key,
    /// The key lacks this scope.
    Scope(String),
    /// The key or its user may not read this project.
    Access,
    /// There is no such project here.
    Project,
    /// There is no such path here (an older PostHog, or not a PostHog).
    Missing,
    /// A billing limit.
    Quota,
    /// The request is refused as it stands.
    Request,
    /// The query names a column that is not there. The text begins with its name, or a part of it; where the name ends is
    /// known to who asked, because a name may hold anything.
    UnknownColumn(String),
    /// The query names a table that is not there.
    UnknownTable,
    /// The server sends us elsewhere.
    Redirect,
    /// The host's name has no address.
    Dns,
    /// No connection, or it broke.
    Network,
    /// The server's certificate or TLS version.
    Tls,
    /// The proxy of the settings, or one on the way.
    Proxy,
    /// Something in front of PostHog lets nobody through who shows only the key.
    Gate,
    /// No answer in time.
    Timeout,
    /// The server fails.
    Server,
    /// Answers that cannot be true.
    Untrusted,
    /// As many requests were sent as the caller allowed.
    Allowance,
    /// A fault of ours.
    Internal,
}

impl Cause {
    /// The request is refused as it stands, whatever of it is refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Cause::Request | Cause::UnknownColumn(_) | Cause::UnknownTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_too_long_ends_the_run_with_its_state() {
        let fault = Fault::WaitTooLong { reason: "PostHog's request limit", wait: Duration::from_secs(7200) };
        let error = Error::from(fault);
        assert_eq!(error.kind(), Kind::Stopped);
        assert_eq!(
            error.to_string(),
            "stopped because PostHog's request limit and the next request would have to wait 7200 s (see max_wait_minutes \
             and budget); the state is saved and the next run continues"
        );
    }
}
