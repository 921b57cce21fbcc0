//! How long to go on with one request: the state of its attempts is a value, and what follows from a bad answer is
//! arithmetic. Errors are counted; waits that the server asks for are not, but they are bounded in time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::decision::{Refusal, RetryDecision};
use super::envelope::OptionalKey;
use crate::error::{Error, Kind};
use crate::posthog::fault::{Cause, Failure, Fault, Resource, TooMuch};

/// A slow answer is asked for once more as it is; the next one means that it is too much.
const SLOW_ATTEMPTS: u32 = 2;
/// Attempts where another page comes than PostHog's, and PostHog never answered: a page to log in at stays one.
const FOREIGN_ATTEMPTS: u32 = 3;
/// What to do where no answer comes.
pub(super) const REACH: &str = "check that this machine may reach that address; behind a proxy, give the setting proxy";
/// A server that asks to come back at once is asked after this.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// What to do when the hourly byte budget is used up, or does not cover the next queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBudget {
    /// Wait for it to refill.
    Wait,
    /// End the run with its state saved.
    Stop,
}

/// How long a client goes on when answers are bad.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts per request before an error is final.
    pub max_attempts: u32,
    /// The same where nobody could be connected to: then no other request would be answered either.
    pub max_connects: u32,
    /// The total time of one request's failing attempts.
    pub max_error_time: Duration,
    /// The longest wait that the server or its byte budget may ask for, and half of what one request may wait in all; a
    /// longer one ends the run with its state saved.
    pub max_wait: Duration,
    /// Waits between failed attempts.
    pub backoff: Backoff,
    /// Waits when too many queries run at the same time.
    pub concurrency: Backoff,
    /// What a used-up byte budget means.
    pub on_budget: OnBudget,
    /// How many requests the client may have sent in all, retries included: the next one is not sent.
    pub max_sent: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            max_attempts: 8,
            max_connects: 8,
            max_error_time: Duration::from_secs(900),
            max_wait: Duration::from_secs(3600),
            backoff: Backoff { base: Duration::from_secs(1), limit: Duration::from_secs(30) },
            concurrency: Backoff { base: Duration::from_secs(2), limit: Duration::from_secs(30) },
            on_budget: OnBudget::Wait,
            max_sent: u64::MAX,
        }
    }
}

impl RetryPolicy {
    /// One attempt, no waits: for checks that must end within seconds.
    pub fn none() -> RetryPolicy {
        RetryPolicy { max_attempts: 1, max_connects: 1, max_wait: Duration::ZERO, ..RetryPolicy::default() }
    }

    /// The same with no more than so many attempts where somebody answers: for answers that one can do without.
    pub fn at_most(self, attempts: u32) -> RetryPolicy {
        RetryPolicy { max_attempts: self.max_attempts.min(attempts.max(1)), ..self }
    }

    /// The same until the client has sent so many requests in all, whatever they were for.
    pub fn until_sent(self, max_sent: u64) -> RetryPolicy {
        RetryPolicy { max_sent, ..self }
    }

    /// Fails if a wait for the byte budget is not wanted or too long.
    pub(crate) fn allows_budget_wait(&self, wait: Duration) -> Result<(), Fault> {
        if self.on_budget == OnBudget::Stop || wait > self.max_wait {
            return Err(Fault::WaitTooLong { reason: "the project's hourly byte budget is nearly used up", wait });
        }
        Ok(())
    }
}

/// A request since it was sent. The time in which its reader could take nothing does not count: the server is not slow then.
#[derive(Debug)]
pub struct RequestTimer {
    at: Instant,
    held: Cell<Duration>,
}

impl RequestTimer {
    pub(crate) fn at(at: Instant) -> RequestTimer {
        RequestTimer { at, held: Cell::default() }
    }

    /// The time that it took so far.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed().saturating_sub(self.held.get())
    }

    /// From `since` until now, nothing could be taken.
    pub(crate) fn was_held(&self, since: Instant) {
        self.held.set(self.held.get().saturating_add(since.elapsed()));
    }
}

/// What to do before the next attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) wait: Duration,
    /// What waits like this one are for.
    pub(crate) kind: &'static str,
    pub(crate) why: String,
    /// The server asked for it.
    pub(crate) is_told: bool,
}

/// An attempt that failed.
struct Failed<'a> {
    cause: Cause,
    /// The least wait, as the server told it.
    told: Option<Duration>,
    why: &'a str,
    /// What to do if it goes on so.
    advice: &'a str,
    /// Attempts before it is final.
    limit: u32,
}

/// The attempts of one request so far.
#[derive(Debug)]
pub(crate) struct RetryState<'a> {
    retry_policy: &'a RetryPolicy,
    /// The last one.
    timer: RequestTimer,
    /// The time that attempts and the waits between them took; not what was waited for limits.
    spent: Duration,
    failed: u32,
    slow: u32,
    refused: u32,
    waited: Duration,
    dropped: Vec<OptionalKey>,
}

impl<'a> RetryState<'a> {
    pub(crate) fn new(retry_policy: &'a RetryPolicy) -> Self {
        RetryState {
            retry_policy,
            timer: RequestTimer::at(Instant::now()),
            spent: Duration::ZERO,
            failed: 0,
            slow: 0,
            refused: 0,
            waited: Duration::ZERO,
            dropped: Vec::new(),
        }
    }

    /// An attempt begins: whatever it had to wait for is over.
    pub(crate) fn begin(&mut self) -> &RequestTimer {
        self.timer = RequestTimer::at(Instant::now());
        &self.timer
    }

    /// Notes that an optional key was dropped for this request; false if that happened before.
    pub(crate) fn drop_key(&mut self, key: OptionalKey) -> bool {
        let new = !self.dropped.contains(&key);
        self.dropped.push(key);
        new
    }

    /// What follows from `decision`: a pause and another attempt, or the end. `random` is drawn from `[0, 1)`.
    pub(crate) fn after(&mut self, decision: RetryDecision, asked: &str, random: f64) -> Result<Pause, Fault> {
        match decision {
            RetryDecision::Final(fault) => Err(fault),
            RetryDecision::Again(cause, told, why) => {
                let failed = Failed { told, ..self.plain(cause, &why) };
                self.failed(&failed, asked, random)
            }
            RetryDecision::Foreign(why) => {
                let plain = self.plain(Cause::Untrusted, &why);
                let limit = plain.limit.min(FOREIGN_ATTEMPTS);
                self.failed(&Failed { limit, ..plain }, asked, random)
            }
            RetryDecision::Unanswered { cause, why, advice, is_connected } => {
                let plain = self.plain(cause, &why);
                let limit = if is_connected { plain.limit } else { self.retry_policy.max_connects };
                self.failed(&Failed { advice: &advice, limit, ..plain }, asked, random)
            }
            RetryDecision::Slow(why) => {
                self.slow += 1;
                if self.slow >= SLOW_ATTEMPTS {
                    return Err(Fault::Split(TooMuch::new(Resource::Time, why)));
                }
                let failed = Failed { advice: REACH, ..self.plain(Cause::Timeout, &why) };
                self.failed(&failed, asked, random)
            }
            RetryDecision::Wait(refusal, told, why) => self.refused(refusal, told, &why, random),
            // The client drops keys itself, before it comes here.
            RetryDecision::Without(_, why) => {
                let failed = self.plain(Cause::Request, &why);
                self.failed(&failed, asked, random)
            }
        }
    }

    fn plain<'f>(&self, cause: Cause, why: &'f str) -> Failed<'f> {
        Failed { cause, told: None, why, advice: "", limit: self.retry_policy.max_attempts }
    }

    fn failed(&mut self, failed: &Failed<'_>, asked: &str, random: f64) -> Result<Pause, Fault> {
        let Failed { cause, told, why, advice, limit } = failed;
        self.failed += 1;
        self.spent = self.spent.saturating_add(self.timer.elapsed());
        if self.failed >= *limit || self.spent >= self.retry_policy.max_error_time {
            let times = if self.failed == 1 { "once".to_owned() } else { format!("{} times", self.failed) };
            let advice = if advice.is_empty() { String::new() } else { format!(" - {advice}") };
            let text = format!("{asked} failed {times}, the last time with: {why}{advice}");
            let error = Error::new(Kind::Service, text);
            return Err(Fault::Fatal(Failure { cause: cause.clone(), error }));
        }
        let mut wait = self.retry_policy.backoff.wait(self.failed, random);
        let longer = told.filter(|told| *told > wait);
        if let Some(told) = longer {
            wait = told;
            self.told(wait, "PostHog asks to come back later after a failure")?;
        } else {
            self.spent = self.spent.saturating_add(wait);
        }
        let why = format!("{asked} failed ({why}); attempt {} of {limit} follows", self.failed + 1);
        Ok(Pause { wait, kind: "requests that failed are sent again", why, is_told: longer.is_some() })
    }

    fn refused(&mut self, refusal: Refusal, told: Option<Duration>, why: &str, random: f64) -> Result<Pause, Fault> {
        self.refused += 1;
        let backoff = self.retry_policy.concurrency.wait(self.refused, random);
        let (wait, reason) = match refusal {
            Refusal::Throttle => (told.map_or(backoff, |told| told.max(LEAST_WAIT)), "PostHog's request limit"),
            Refusal::Concurrency => {
                (told.map_or(backoff, |told| told.max(LEAST_WAIT)), "too many queries run in this project")
            }
            Refusal::Budget => {
                let wait = told.map_or(backoff, |told| told.max(LEAST_WAIT));
                self.retry_policy.allows_budget_wait(wait)?;
                (wait, "the project's hourly byte budget is used up")
            }
        };
        self.told(wait, reason)?;
        Ok(Pause { wait, kind: reason, why: format!("{reason} ({why})"), is_told: told.is_some() })
    }

    /// Counts a wait that the server asks for; fails if it is more than is wanted.
    fn told(&mut self, wait: Duration, reason: &'static str) -> Result<(), Fault> {
        self.waited = self.waited.saturating_add(wait);
        // One wait of the allowed length is fine, and what a busy project adds to it; the same again is not.
        if wait > self.retry_policy.max_wait || self.waited > self.retry_policy.max_wait.saturating_mul(2) {
            return Err(Fault::WaitTooLong { reason, wait });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry_policy() -> RetryPolicy {
        RetryPolicy { max_attempts: 3, ..RetryPolicy::default() }
    }

    fn again() -> RetryDecision {
        RetryDecision::Again(Cause::Server, None, "HTTP 502: x".to_owned())
    }

    #[test]
    fn errors_are_counted_and_the_last_one_is_named() {
        let retry_policy = retry_policy();
        let mut retries = RetryState::new(&retry_policy);
        assert_eq!(retries.after(again(), "GET x", 0.0).unwrap().wait, Duration::from_secs(1));
        assert_eq!(retries.after(again(), "GET x", 1.0).unwrap().wait, Duration::from_secs(9));
        let Err(Fault::Fatal(failure)) = retries.after(again(), "GET x", 0.0) else { panic!("a third attempt") };
        assert_eq!(failure.error.to_string(), "GET x failed 3 times, the last time with: HTTP 502: x");
        assert_eq!((failure.cause, failure.error.kind()), (Cause::Server, Kind::Service));
    }

    /// A request that one can do without is given up soon where it is answered; where nobody is there, no other request
    /// would be answered either.
    #[test]
    fn who_cannot_be_connected_to_is_tried_as_long_as_usual_and_the_error_says_what_to_do() {
        let retry_policy = RetryPolicy { max_connects: 4, ..retry_policy().at_most(2) };
        let mut retries = RetryState::new(&retry_policy);
        let refused = |is_connected| RetryDecision::Unanswered {
            cause: Cause::Network,
            why: "Connection refused".to_owned(),
            advice: "start it".to_owned(),
            is_connected,
        };
        for _ in 0..3 {
            assert!(retries.after(refused(false), "GET x", 0.0).is_ok());
        }
        let Err(Fault::Fatal(failure)) = retries.after(refused(false), "GET x", 0.0) else { panic!("a fifth attempt") };
        let text = "GET x failed 4 times, the last time with: Connection refused - start it";
        assert_eq!(failure.error.to_string(), text);
        let mut retries = RetryState::new(&retry_policy);
        assert!(retries.after(refused(true), "GET x", 0.0).is_ok());
        assert!(retries.after(refused(true), "GET x", 0.0).is_err());
        assert_eq!(RetryPolicy::none().max_connects, 1);
    }

    #[test]
    fn a_told_wait_is_kept_for_errors_too() {
        let retry_policy = retry_policy();
        let decision = RetryDecision::Again(Cause::Server, Some(Duration::from_secs(20)), String::new());
        assert_eq!(RetryState::new(&retry_policy).after(decision, "x", 0.0).unwrap().wait, Duration::from_secs(20));
    }

    /// Neither told waits, nor those before an attempt, nor the time in which its reader could take nothing.
    #[test]
    fn waits_are_no_time_spent_on_errors() {
        let retry_policy = RetryPolicy { max_error_time: Duration::from_secs(600), ..RetryPolicy::default() };
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        let mut retries = RetryState::new(&retry_policy);
        for _ in 0..3 {
            retries.timer = RequestTimer::at(ago(2000));
            retries.begin();
            let decision = RetryDecision::Again(Cause::Server, Some(Duration::from_secs(1200)), "503".to_owned());
            assert!(retries.after(decision, "x", 0.0).is_ok());
        }
        retries.timer = RequestTimer::at(ago(2000));
        retries.timer.was_held(ago(1900));
        assert!(retries.after(again(), "x", 0.0).is_ok());
        let mut slow = RetryState::new(&retry_policy);
        slow.timer = RequestTimer::at(ago(601));
        assert!(matches!(slow.after(again(), "x", 0.0), Err(Fault::Fatal(_))));
        let longer = RetryDecision::Again(Cause::Server, Some(Duration::from_secs(3601)), "503".to_owned());
        assert!(matches!(retries.after(longer, "x", 0.0), Err(Fault::WaitTooLong { .. })));
    }

    #[test]
    fn waits_that_the_server_asks_for_are_not_errors_but_bounded() {
        let retry_policy = retry_policy();
        let mut retries = RetryState::new(&retry_policy);
        for _ in 0..100 {
            let decision = RetryDecision::Wait(Refusal::Throttle, Some(Duration::ZERO), String::new());
            assert_eq!(retries.after(decision, "x", 0.5).unwrap().wait, LEAST_WAIT);
        }
        let hour = Duration::from_secs(3600);
        let decision = || RetryDecision::Wait(Refusal::Throttle, Some(hour), String::new());
        assert_eq!(retries.after(decision(), "x", 0.5).unwrap().wait, hour);
        assert!(matches!(retries.after(decision(), "x", 0.5), Err(Fault::WaitTooLong { .. })));
        for long in [hour * 2, Duration::MAX] {
            let decision = RetryDecision::Wait(Refusal::Throttle, Some(long), String::new());
            assert!(matches!(retries.after(decision, "x", 0.5), Err(Fault::WaitTooLong { .. })));
        }
    }

    #[test]
    fn a_used_up_budget_waits_or_stops_as_set() {
        let decision = || RetryDecision::Wait(Refusal::Budget, Some(Duration::from_secs(60)), String::new());
        let retry_policy = RetryPolicy::default();
        assert_eq!(RetryState::new(&retry_policy).after(decision(), "x", 0.5).unwrap().wait.as_secs(), 60);
        let retry_policy = RetryPolicy { on_budget: OnBudget::Stop, ..RetryPolicy::default() };
        assert!(matches!(RetryState::new(&retry_policy).after(decision(), "x", 0.5), Err(Fault::WaitTooLong { .. })));
    }

    #[test]
    fn a_refusal_of_parallel_queries_waits_two_to_thirty_seconds() {
        let retry_policy = RetryPolicy::default();
        let mut retries = RetryState::new(&retry_policy);
        for random in [0.0, 0.99, 0.5, 0.99] {
            let decision = RetryDecision::Wait(Refusal::Concurrency, None, String::new());
            let wait = retries.after(decision, "x", random).unwrap().wait.as_secs();
            assert!((2..=30).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn the_second_slow_answer_means_less() {
        let retry_policy = RetryPolicy::default();
        let mut retries = RetryState::new(&retry_policy);
        assert!(retries.after(RetryDecision::Slow("524".to_owned()), "x", 0.0).is_ok());
        assert!(matches!(retries.after(RetryDecision::Slow("524".to_owned()), "x", 0.0), Err(Fault::Split(_))));
    }
}
