//! How long to go on with one request: the state of its attempts is a value, and what follows from a bad answer is
//! arithmetic. Errors are counted; waits that the server asks for are not, but they are bounded in time.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::request::Sent;
use crate::error::{Error, Kind};
use crate::posthog::fault::{Cause, Failure, Fault, OptionalKey, Refusal, Verdict};

/// A slow answer is asked for once more as it is; the next one means that it is too much.
const SLOW_ATTEMPTS: u32 = 2;
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
pub struct Patience {
    /// Attempts per request before an error is final.
    pub max_attempts: u32,
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

impl Default for Patience {
    fn default() -> Self {
        Patience {
            max_attempts: 8,
            max_error_time: Duration::from_secs(900),
            max_wait: Duration::from_secs(3600),
            backoff: Backoff { base: Duration::from_secs(1), limit: Duration::from_secs(30) },
            concurrency: Backoff { base: Duration::from_secs(2), limit: Duration::from_secs(30) },
            on_budget: OnBudget::Wait,
            max_sent: u64::MAX,
        }
    }
}

impl Patience {
    /// One attempt, no waits: for checks that must end within seconds.
    #[must_use]
    pub fn none() -> Patience {
        Patience { max_attempts: 1, max_wait: Duration::ZERO, ..Patience::default() }
    }

    /// The same with no more than so many attempts: for answers that one can do without.
    #[must_use]
    pub fn at_most(self, attempts: u32) -> Patience {
        Patience { max_attempts: self.max_attempts.min(attempts.max(1)), ..self }
    }

    /// The same until the client has sent so many requests in all, whatever they were for.
    #[must_use]
    pub fn until_sent(self, max_sent: u64) -> Patience {
        Patience { max_sent, ..self }
    }

    /// Fails if a wait for the byte budget is not wanted or too long.
    pub(crate) fn allows_budget_wait(&self, wait: Duration) -> Result<(), Fault> {
        if self.on_budget == OnBudget::Stop || wait > self.max_wait {
            return Err(stopped(wait, "the project's hourly byte budget is nearly used up"));
        }
        Ok(())
    }
}

/// What to do before the next attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) wait: Duration,
    /// What waits like this one are for.
    pub(crate) kind: &'static str,
    pub(crate) why: String,
}

/// The attempts of one request so far.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    patience: &'a Patience,
    /// The last one.
    sent: Sent,
    /// The time that attempts and the waits between them took; not what was waited for limits.
    spent: Duration,
    failed: u32,
    slow: u32,
    refused: u32,
    waited: Duration,
    dropped: Vec<OptionalKey>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(patience: &'a Patience) -> Self {
        Attempts {
            patience,
            sent: Sent::at(Instant::now()),
            spent: Duration::ZERO,
            failed: 0,
            slow: 0,
            refused: 0,
            waited: Duration::ZERO,
            dropped: Vec::new(),
        }
    }

    /// An attempt begins: whatever it had to wait for is over.
    pub(crate) fn begin(&mut self) -> &Sent {
        self.sent = Sent::at(Instant::now());
        &self.sent
    }

    /// Notes that an optional key was dropped for this request; false if that happened before.
    pub(crate) fn drop_key(&mut self, key: OptionalKey) -> bool {
        let new = !self.dropped.contains(&key);
        self.dropped.push(key);
        new
    }

    /// What follows from `verdict`: a pause and another attempt, or the end. `random` is drawn from `[0, 1)`.
    pub(crate) fn after(&mut self, verdict: Verdict, asked: &str, random: f64) -> Result<Pause, Fault> {
        match verdict {
            Verdict::Final(fault) => Err(fault),
            Verdict::Again(cause, told, why) => self.failed(cause, told, (&why, asked), random),
            Verdict::Slow(why) => {
                self.slow += 1;
                if self.slow >= SLOW_ATTEMPTS {
                    return Err(Fault::Split(why));
                }
                self.failed(Cause::Timeout, None, (&why, asked), random)
            }
            Verdict::Wait(refusal, told, why) => self.refused(refusal, told, &why, random),
            // The client drops keys itself, before it comes here.
            Verdict::Without(_, why) => self.failed(Cause::Request, None, (&why, asked), random),
        }
    }

    fn failed(
        &mut self,
        cause: Cause,
        told: Option<Duration>,
        (why, asked): (&str, &str),
        random: f64,
    ) -> Result<Pause, Fault> {
        self.failed += 1;
        let limit = self.patience.max_attempts;
        self.spent = self.spent.saturating_add(self.sent.elapsed());
        if self.failed >= limit || self.spent >= self.patience.max_error_time {
            let times = if self.failed == 1 { "once".to_owned() } else { format!("{} times", self.failed) };
            let error = Error::new(Kind::Service, format!("{asked} failed {times}, the last time with: {why}"));
            return Err(Fault::Fatal(Failure { cause, error }));
        }
        let mut wait = self.patience.backoff.wait(self.failed, random);
        if let Some(told) = told.filter(|told| *told > wait) {
            wait = told;
            self.told(wait, "PostHog asks to come back later after a failure")?;
        } else {
            self.spent = self.spent.saturating_add(wait);
        }
        let why = format!("{asked} failed ({why}); attempt {} of {limit} follows", self.failed + 1);
        Ok(Pause { wait, kind: "requests that failed are sent again", why })
    }

    fn refused(&mut self, refusal: Refusal, told: Option<Duration>, why: &str, random: f64) -> Result<Pause, Fault> {
        self.refused += 1;
        let backoff = self.patience.concurrency.wait(self.refused, random);
        let (wait, reason) = match refusal {
            Refusal::Throttle => (told.map_or(backoff, |told| told.max(LEAST_WAIT)), "PostHog's request limit"),
            Refusal::Concurrency => {
                (told.map_or(backoff, |told| told.max(LEAST_WAIT)), "too many queries run in this project")
            }
            Refusal::Budget => {
                let wait = told.map_or(backoff, |told| told.max(LEAST_WAIT));
                self.patience.allows_budget_wait(wait)?;
                (wait, "the project's hourly byte budget is used up")
            }
        };
        self.told(wait, reason)?;
        Ok(Pause { wait, kind: reason, why: format!("{reason} ({why})") })
    }

    /// Counts a wait that the server asks for; fails if it is more than is wanted.
    fn told(&mut self, wait: Duration, reason: &str) -> Result<(), Fault> {
        self.waited = self.waited.saturating_add(wait);
        // One wait of the allowed length is fine, and what a busy project adds to it; the same again is not.
        if wait > self.patience.max_wait || self.waited > self.patience.max_wait.saturating_mul(2) {
            return Err(stopped(wait, reason));
        }
        Ok(())
    }
}

fn stopped(wait: Duration, reason: &str) -> Fault {
    let text = format!(
        "stopped because {reason} and the next request would have to wait {} s (see max_wait_minutes and budget); the \
         state is saved and the next run continues",
        wait.as_secs()
    );
    Fault::Stopped(Error::new(Kind::Stopped, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience { max_attempts: 3, ..Patience::default() }
    }

    fn again() -> Verdict {
        Verdict::Again(Cause::Server, None, "HTTP 502: x".to_owned())
    }

    #[test]
    fn errors_are_counted_and_the_last_one_is_named() {
        let patience = patience();
        let mut attempts = Attempts::new(&patience);
        assert_eq!(attempts.after(again(), "GET x", 0.0).unwrap().wait, Duration::from_secs(1));
        assert_eq!(attempts.after(again(), "GET x", 1.0).unwrap().wait, Duration::from_secs(9));
        let Err(Fault::Fatal(failure)) = attempts.after(again(), "GET x", 0.0) else { panic!("a third attempt") };
        assert_eq!(failure.error.to_string(), "GET x failed 3 times, the last time with: HTTP 502: x");
        assert_eq!((failure.cause, failure.error.kind()), (Cause::Server, Kind::Service));
    }

    #[test]
    fn a_told_wait_is_kept_for_errors_too() {
        let patience = patience();
        let verdict = Verdict::Again(Cause::Server, Some(Duration::from_secs(20)), String::new());
        assert_eq!(Attempts::new(&patience).after(verdict, "x", 0.0).unwrap().wait, Duration::from_secs(20));
    }

    /// Neither told waits, nor those before an attempt, nor the time in which its reader could take nothing.
    #[test]
    fn waits_are_no_time_spent_on_errors() {
        let patience = Patience { max_error_time: Duration::from_secs(600), ..Patience::default() };
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        let mut attempts = Attempts::new(&patience);
        for _ in 0..3 {
            attempts.sent = Sent::at(ago(2000));
            attempts.begin();
            let verdict = Verdict::Again(Cause::Server, Some(Duration::from_secs(1200)), "503".to_owned());
            assert!(attempts.after(verdict, "x", 0.0).is_ok());
        }
        attempts.sent = Sent::at(ago(2000));
        attempts.sent.was_held(ago(1900));
        assert!(attempts.after(again(), "x", 0.0).is_ok());
        let mut slow = Attempts::new(&patience);
        slow.sent = Sent::at(ago(601));
        assert!(matches!(slow.after(again(), "x", 0.0), Err(Fault::Fatal(_))));
        let longer = Verdict::Again(Cause::Server, Some(Duration::from_secs(3601)), "503".to_owned());
        assert!(matches!(attempts.after(longer, "x", 0.0), Err(Fault::Stopped(e)) if e.kind() == Kind::Stopped));
    }

    #[test]
    fn waits_that_the_server_asks_for_are_not_errors_but_bounded() {
        let patience = patience();
        let mut attempts = Attempts::new(&patience);
        for _ in 0..100 {
            let verdict = Verdict::Wait(Refusal::Throttle, Some(Duration::ZERO), String::new());
            assert_eq!(attempts.after(verdict, "x", 0.5).unwrap().wait, LEAST_WAIT);
        }
        let hour = Duration::from_secs(3600);
        let verdict = || Verdict::Wait(Refusal::Throttle, Some(hour), String::new());
        assert_eq!(attempts.after(verdict(), "x", 0.5).unwrap().wait, hour);
        assert!(matches!(attempts.after(verdict(), "x", 0.5), Err(Fault::Stopped(e)) if e.kind() == Kind::Stopped));
        for long in [hour * 2, Duration::MAX] {
            let verdict = Verdict::Wait(Refusal::Throttle, Some(long), String::new());
            assert!(matches!(attempts.after(verdict, "x", 0.5), Err(Fault::Stopped(_))));
        }
    }

    #[test]
    fn a_used_up_budget_waits_or_stops_as_set() {
        let verdict = || Verdict::Wait(Refusal::Budget, Some(Duration::from_secs(60)), String::new());
        let patience = Patience::default();
        assert_eq!(Attempts::new(&patience).after(verdict(), "x", 0.5).unwrap().wait.as_secs(), 60);
        let patience = Patience { on_budget: OnBudget::Stop, ..Patience::default() };
        assert!(matches!(Attempts::new(&patience).after(verdict(), "x", 0.5), Err(Fault::Stopped(_))));
    }

    #[test]
    fn a_refusal_of_parallel_queries_waits_two_to_thirty_seconds() {
        let patience = Patience::default();
        let mut attempts = Attempts::new(&patience);
        for random in [0.0, 0.99, 0.5, 0.99] {
            let verdict = Verdict::Wait(Refusal::Concurrency, None, String::new());
            let wait = attempts.after(verdict, "x", random).unwrap().wait.as_secs();
            assert!((2..=30).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn the_second_slow_answer_means_less() {
        let patience = Patience::default();
        let mut attempts = Attempts::new(&patience);
        assert!(attempts.after(Verdict::Slow("524".to_owned()), "x", 0.0).is_ok());
        assert!(matches!(attempts.after(Verdict::Slow("524".to_owned()), "x", 0.0), Err(Fault::Split(_))));
    }
}
