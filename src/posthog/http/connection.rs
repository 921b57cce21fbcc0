//! The way to PostHog: an HTTP client that sends the key to one address, requests on their way, which a signal ends at once,
//! and queries that nobody waits for any more.

use std::sync::mpsc;
use std::time::Duration;

use reqwest::blocking::{Client as Http, Request, Response};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};

use super::decision::RetryDecision;
use super::request::Options;
use super::wire::{certificates, chain, proxy_of, unreachable};
use crate::error::{Error, Kind, Result};
use crate::posthog::fault::{Cause, Fault};
use crate::stop::Stop;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a wait for an answer looks whether the run should end.
const STOP_LOOK: Duration = Duration::from_millis(100);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to one PostHog.
pub(super) struct Connection {
    pub(super) http: Http,
    pub(super) options: Options,
    /// Ends waits and requests early.
    pub(super) stop: Stop,
}

impl Connection {
    /// The way that `options` describe, which nothing ends early.
    ///
    /// # Errors
    /// [`Kind::Config`] when the certificate file, the proxy's address, the key or the user agent cannot be used.
    pub(super) fn new(options: Options) -> Result<Connection> {
        // A second installation is refused by rustls and means the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", options.key.expose()))
            .map_err(|_| Error::new(Kind::Config, "api_key holds characters that no key has; copy it again"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let agent = HeaderValue::try_from(&options.user_agent)
            .map_err(|_| Error::new(Kind::Config, "user_agent holds characters that cannot be sent"))?;
        headers.insert(USER_AGENT, agent);
        let mut builder = Http::builder()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Before the request's own time is over, so that what is not reached is told from what is slow.
            .connect_timeout(CONNECT_TIMEOUT.min(options.request_timeout * 3 / 4))
            .timeout(options.request_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            // Shorter than the usual 60 to 75 seconds of servers and balancers, so that we close first.
            .pool_idle_timeout(Duration::from_secs(45));
        if options.is_without_tls() {
            // A machine without certificates of authorities needs none.
            builder = builder.tls_certs_only([]);
        } else if let Some(path) = &options.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        if let Some(proxy) = &options.proxy {
            builder = builder.proxy(proxy_of(proxy)?);
        }
        let http = builder
            .build()
            .map_err(|e| Error::new(Kind::Config, format!("setting up TLS failed: {}; see ca_file", chain(&e))))?;
        Ok(Connection { http, options, stop: Stop::new() })
    }

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
