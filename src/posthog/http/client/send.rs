//! Requests on their way: sent so that a signal ends the wait for an answer, and queries that nobody waits for any more.

use std::sync::mpsc;
use std::time::Duration;

use reqwest::blocking::{Request, Response};

use super::Client;
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::http::decision::RetryDecision;
use crate::posthog::http::wire::unreachable;

/// How often a wait for an answer looks whether the run should end.
const STOP_LOOK: Duration = Duration::from_millis(100);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

impl Client {
    /// Sends on a thread of its own, so that a signal ends the wait for an answer at once.
    pub(super) fn send(&self, request: Request, id: Option<&str>) -> Result<Response, RetryDecision> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let http = self.http.clone();
        std::thread::Builder::new()
            .name("request".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                // Nobody waits any more if this fails.
                let _ = sender.send(http.execute(request));
            })
            .map_err(|e| RetryDecision::Again(Cause::Internal, None, format!("starting a thread failed: {e}")))?;
        loop {
            match receiver.recv_timeout(STOP_LOOK) {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(unreachable(&error, &self.options)),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.stop.check() {
                        if let Some(id) = id {
                            self.cancel(id);
                        }
                        return Err(RetryDecision::Final(Fault::Stopped(error)));
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(RetryDecision::Again(Cause::Network, None, "the request thread ended".to_owned()));
                }
            }
        }
    }

    /// Tells the server to stop a query whose answer nobody waits for. Best effort, at most two seconds.
    fn cancel(&self, id: &str) {
        let path = format!("api/projects/{}/query/{id}/", self.options.project_id);
        let Ok(url) = self.options.base.join(&path, &[]) else { return };
        let request = self.http.delete(url).timeout(CANCEL_TIMEOUT);
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let _ = sender.send(request.send().is_ok());
        });
        let _ = receiver.recv_timeout(CANCEL_TIMEOUT);
    }
}
