//! The client: one retry loop for every request of the tap, within the limits of PostHog.
//!
//! It sends the key to the configured address and nowhere else: redirects are not followed, no proxy is taken from the
//! environment, and addresses that a server sends (`next`) are not accepted here at all, only paths. It does not know what
//! an answer means: the caller's `read` parses and checks the body, and a body that it does not believe is asked for again
//! in the same loop as one that broke on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::blocking::Request;
use reqwest::header::CONTENT_TYPE;

use super::backoff;
use super::body::BodyLimit;
use super::connection::Connection;
pub use super::decision::Names;
use super::decision::{Refusal, RetryDecision};
use super::form::QueryForm;
use super::receive::{BUDGET_LEFT, BYTES_READ, Receiver};
use super::request::ReadBody;
pub use super::request::{Answer, Get, Incoming, OnSplit, Options, Query, RateClass};
use super::retry::{RetryPolicy, RetryState};
use super::usage::{Counters, Usage};
use super::wire::{number, unsent};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault};
use crate::posthog::pace::budget::{Budget, BudgetPermit, LEAST_MEASURE};
use crate::posthog::pace::rate::{Limiter, Rates, WaitReason};
use crate::posthog::pace::waits::Waits;
use crate::stop::Stop;

/// The client. Shared by reference between threads.
pub struct Client {
    connection: Connection,
    queries: Limiter,
    lists: Limiter,
    clickhouse_lists: Limiter,
    budget: Budget,
    started: Instant,
    counters: Counters,
    waits: Arc<Waits>,
    form: QueryForm,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", self.options()).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

/// One request of the loop: how to make it, and how to speak of it.
struct Ask<'a> {
    make: &'a dyn Fn() -> Result<(Request, Option<String>), Fault>,
    limiter: &'a Limiter,
    /// Its name in the log.
    label: String,
    /// Method and address, for errors.
    asked: String,
    is_query: bool,
    retry_policy: &'a RetryPolicy,
}

impl Client {
    /// A client for `options`, which nothing ends early.
    ///
    /// # Errors
    /// [`Kind::Config`] when the certificate file, the proxy's address, the key or the user agent cannot be used.
    pub fn new(options: Options) -> Result<Client> {
        let connection = Connection::new(options)?;
        Ok(Client {
            queries: Limiter::new(connection.options.query_rates),
            lists: Limiter::new(Rates::LISTS),
            clickhouse_lists: Limiter::new(Rates::CLICKHOUSE_LISTS),
            connection,
            budget: Budget::default(),
            started: clock::now(),
            counters: Counters::default(),
            waits: Arc::default(),
            form: QueryForm::default(),
        })
    }

    /// The same client; `stop` ends its waits and requests early.
    pub fn ended_by(self, stop: &Stop) -> Client {
        Client { connection: Connection { stop: stop.clone(), ..self.connection }, ..self }
    }

    /// Runs a query and reads its answer while it arrives. `read` checks the body, and has to read it to its end; what it
    /// does not believe is asked for again.
    ///
    /// # Errors
    /// [`Fault::Split`] when the same text would fail again, [`Fault::Fatal`], [`Fault::Stopped`].
    pub fn query<T>(
        &self,
        query: &Query<'_>,
        mut limit: BodyLimit<'_>,
        mut read: impl FnMut(&mut Incoming<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let path = format!("api/projects/{}/query/", self.connection.options.project_id);
        let url = self.connection.options.base.join(&path, &[]).map_err(Fault::internal)?;
        let mut wording = 1;
        loop {
            let ask = Ask {
                make: &|| {
                    let (body, id) = self.form.body(query, wording);
                    let request =
                        self.connection.http.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body);
                    Ok((request.build().map_err(|e| unsent(&e))?, id))
                },
                limiter: &self.queries,
                label: query.name.to_owned(),
                asked: format!("POST {url} ({})", query.name),
                is_query: true,
                retry_policy: query.retry_policy.as_ref().unwrap_or(&self.connection.options.retry_policy),
            };
            match (self.ask(&ask, &mut limit, &mut read), query.on_split) {
                (Err(Fault::Split(_)), OnSplit::Reword(texts)) if wording < texts => wording += 1,
                (outcome, _) => return outcome,
            }
        }
    }

    /// GETs a REST path and reads its whole answer.
    ///
    /// # Errors
    /// As [`Client::get_arriving`].
    pub fn get<T>(&self, get: &Get<'_>, mut read: impl FnMut(Answer) -> Result<T, Fault>) -> Result<T, Fault> {
        self.get_arriving(get, |incoming| read(incoming.whole()?))
    }

    /// GETs a REST path and reads its answer while it arrives. `read` has to read it to its end.
    ///
    /// # Errors
    /// [`Fault::Fatal`] or [`Fault::Stopped`]; [`Fault::Split`] only where the caller `can_split`.
    pub fn get_arriving<T>(
        &self,
        get: &Get<'_>,
        mut read: impl FnMut(&mut Incoming<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let url = self.connection.options.base.join(get.path, get.query).map_err(Fault::internal)?;
        let ask = Ask {
            make: &|| Ok((self.connection.http.get(url.clone()).build().map_err(|e| unsent(&e))?, None)),
            limiter: match get.class {
                RateClass::Lists => &self.lists,
                RateClass::ClickHouse => &self.clickhouse_lists,
            },
            label: get.path.to_owned(),
            asked: format!("GET {url}"),
            is_query: false,
            retry_policy: get.retry_policy.as_ref().unwrap_or(&self.connection.options.retry_policy),
        };
        let most = self.connection.options.max_list_bytes;
        let mut limit = BodyLimit::of(get.max_bytes.map_or(most, |bytes| bytes.min(most)));
        self.ask(&ask, &mut limit, &mut read).map_err(|fault| match fault {
            // A page that nobody can ask for in parts.
            Fault::Split(why) if !get.can_split => {
                let error = Error::new(Kind::Service, format!("GET {} failed: {why}", get.path));
                Fault::Fatal(Failure { cause: Cause::Server, error })
            }
            other => other,
        })
    }

    /// What was sent and received so far.
    pub fn usage(&self) -> Usage {
        self.counters.snapshot()
    }

    /// Requests that may still be sent within this policy.
    pub fn requests_left(&self, retry_policy: &RetryPolicy) -> u64 {
        retry_policy.max_sent.saturating_sub(self.usage().requests)
    }

    /// Its waits.
    pub fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }

    /// The pace of queries: the setting, or less if the server showed a lower tier.
    pub(crate) fn queries(&self) -> &Limiter {
        &self.queries
    }

    /// The options it was made from.
    pub fn options(&self) -> &Options {
        &self.connection.options
    }

    /// True when the server refused `convertToProjectTimezone` (an old self-hosted PostHog): times then carry the
    /// project's offset, and `toDate` is the project's day.
    pub fn modifiers_refused(&self) -> bool {
        self.form.is_without_modifiers()
    }

    /// The loop: one attempt after another until there is an answer that `read` believes, or a reason to give up.
    fn ask<T>(&self, ask: &Ask<'_>, limit: &mut BodyLimit<'_>, read: ReadBody<'_, T>) -> Result<T, Fault> {
        let mut retries = RetryState::new(ask.retry_policy);
        loop {
            self.check_allowance(ask)?;
            let decision = match self.attempt(ask, limit, read, &mut retries) {
                Ok(value) => return Ok(value),
                Err(decision) => decision,
            };
            if let RetryDecision::Without(key, why) = decision {
                self.form.leave_out(key, &why);
                // Dropped before and named again: then it is not the key.
                if !retries.drop_key(key) {
                    let error = Error::new(Kind::Service, format!("{} was answered with 400: {why}", ask.asked));
                    return Err(Fault::Fatal(Failure { cause: Cause::Request, error }));
                }
                continue;
            }
            // A failure is the server's, a refusal is of requests like this one.
            let is_failure = matches!(decision, RetryDecision::Again(..));
            if let RetryDecision::Wait(Refusal::Throttle, Some(wait), _) = &decision
                && ask.is_query
                && let Some(quota) = ask.limiter.learn(*wait)
            {
                log::warn(format!("this PostHog allows {quota} queries an hour; keeping to that"));
            }
            let pause = retries.after(decision, &ask.asked, backoff::random_unit())?;
            if pause.is_told && is_failure {
                for limiter in [&self.queries, &self.lists, &self.clickhouse_lists] {
                    limiter.hold(pause.wait);
                }
            } else if pause.is_told {
                ask.limiter.hold(pause.wait);
            }
            // Nobody waits for what is not sent.
            self.check_allowance(ask)?;
            self.counters.retry();
            self.pause(pause.wait, pause.kind, &pause.why)?;
        }
    }

    fn check_allowance(&self, ask: &Ask<'_>) -> Result<(), Fault> {
        if self.requests_left(ask.retry_policy) > 0 {
            return Ok(());
        }
        let text = format!("{} was not sent (again): as many requests were sent as are allowed", ask.asked);
        Err(Fault::Fatal(Failure { cause: Cause::Allowance, error: Error::new(Kind::Service, text) }))
    }

    /// One attempt: within the limits, send, check, read.
    fn attempt<T>(
        &self,
        ask: &Ask<'_>,
        limit: &mut BodyLimit<'_>,
        read: ReadBody<'_, T>,
        retries: &mut RetryState<'_>,
    ) -> Result<T, RetryDecision> {
        self.connection.stop.check().map_err(|e| RetryDecision::Final(Fault::Stopped(e)))?;
        ask.limiter
            .acquire(|wait, hold| {
                let kind = match hold {
                    WaitReason::Minute => "keeping below the limit of requests a minute",
                    WaitReason::Hour => "keeping below the limit of requests an hour",
                    WaitReason::Refusal => "PostHog asked another request to come back later",
                };
                self.pause(wait, kind, kind)
            })
            .map_err(RetryDecision::Final)?;
        let permit = if ask.is_query { Some(self.spare_budget().map_err(RetryDecision::Final)?) } else { None };
        let timer = retries.begin();
        let (request, id) = (ask.make)().map_err(RetryDecision::Final)?;
        self.counters.request();
        let response = self.connection.send(request, id.as_deref())?;
        if let Some(permit) = permit {
            let header = |name| number(response.headers(), name);
            permit.end(clock::since(self.started), header(BUDGET_LEFT), header(BYTES_READ));
        }
        let (label, asked) = (&ask.label, &ask.asked);
        let receiver = Receiver { connection: &self.connection, counters: &self.counters, label, asked, timer };
        receiver.receive(response, limit, read)
    }

    /// Waits before a query that the hourly byte budget would not cover.
    fn spare_budget(&self) -> Result<BudgetPermit<'_>, Fault> {
        let pause = |wait| {
            // A short wait shows how fast the budget comes back; that is known before a run is stopped.
            if wait > LEAST_MEASURE {
                self.connection.options.retry_policy.allows_budget_wait(wait)?;
            }
            let why = "the project's hourly byte budget is nearly used up";
            self.pause(wait, why, why)
        };
        self.budget.permit(|| clock::since(self.started), pause)
    }

    /// Every wait of the client: told, counted, ended by a stop. `why` is what is said of this one, `kind` of many.
    fn pause(&self, wait: Duration, kind: &'static str, why: &str) -> Result<(), Fault> {
        // A stopped run does not announce what it does not wait for.
        self.connection.stop.check().map_err(Fault::Stopped)?;
        let begun = clock::now();
        match self.waits.begin(begun, wait, kind, why) {
            Some(line) => log::info(line),
            None => log::debug(format!("waiting {:.3} s: {why}", wait.as_secs_f64())),
        }
        let ended = self.connection.stop.sleep(wait).map_err(Fault::Stopped);
        self.waits.end(clock::now(), begun + wait, kind);
        self.counters.waited(clock::since(begun));
        ended
    }
}

#[cfg(test)]
mod front_tests;
#[cfg(test)]
pub(crate) mod server_tests;
#[cfg(test)]
pub(crate) mod tests;
