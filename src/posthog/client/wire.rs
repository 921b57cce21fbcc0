//! What the HTTP library says, in our words: why there is no answer, what a header holds, what TLS is set up with.

use std::io;

use reqwest::header::HeaderMap;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::body::Cut;
use crate::posthog::fault::{Cause, Fault, Verdict};
use crate::posthog::request::Options;
use crate::posthog::secret::Secret;
use url::Url;

/// The verdict on a request that got no answer.
pub(super) fn unreachable(error: &reqwest::Error, options: &Options) -> Verdict {
    let text = chain(error);
    if text.contains("invalid peer certificate") {
        let advice = "set ca_file to the certificate authority of this server, and check its host name";
        return Verdict::fatal(
            Cause::Tls,
            Kind::Service,
            format!("the certificate of {} is not accepted: {text}; {advice}", options.base),
        );
    }
    if error.is_timeout() && !error.is_connect() {
        return Verdict::Slow(format!("no answer for {} s", options.request_timeout.as_secs()));
    }
    let cause = if error.is_dns() || text.contains("dns error") {
        Cause::Dns
    } else if error.is_timeout() {
        Cause::Timeout
    } else if text.contains("tls") || text.contains("TLS") || text.contains("HandshakeFailure") {
        Cause::Tls
    } else {
        Cause::Network
    };
    Verdict::Again(cause, None, text)
}

pub(super) fn unsent(error: &reqwest::Error) -> Fault {
    Fault::internal(Error::new(Kind::Internal, format!("making a request failed: {}", chain(error))))
}

pub(super) fn broken(cut: Cut) -> Verdict {
    match cut {
        Cut::TooLarge => Verdict::Final(Fault::Split("the answer is larger than max_response_mb".to_owned())),
        Cut::Stopped(error) => Verdict::Final(Fault::Stopped(error)),
        Cut::Broken(error) => {
            let text = format!("the body broke off: {}", chain(&error));
            if error.kind() == io::ErrorKind::TimedOut || text.contains("timed out") {
                Verdict::Slow(text)
            } else {
                Verdict::Again(Cause::Network, None, text)
            }
        }
    }
}

/// True unless the body plainly is not one whole JSON array or object; parsing it is the reader's part.
pub(super) fn looks_whole(body: &[u8]) -> bool {
    let trimmed = body.trim_ascii();
    matches!((trimmed.first(), trimmed.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')))
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

pub(super) fn unix_seconds(http_date: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc2822(http_date).ok().map(|date| date.timestamp())
}

/// The host that a redirect points to.
pub(super) fn host_of(location: &str, from: &Url) -> String {
    from.join(location).ok().and_then(|to| to.host_str().map(str::to_owned)).unwrap_or_else(|| "nowhere".to_owned())
}

pub(super) fn certificates(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>> {
    let refuse = |why: String| Error::new(Kind::Config, format!("ca_file {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|e| refuse(e.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| refuse(chain(&e)))?;
    if found.is_empty() { Err(refuse("holds no PEM certificate".to_owned())) } else { Ok(found) }
}

pub(super) fn proxy_of(proxy: &Secret) -> Result<reqwest::Proxy> {
    let scheme = proxy.expose().split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("http" | "https" | "socks5" | "socks5h")) {
        let text = "proxy: write it like http://proxy.example.com:3128 (also https, socks5, socks5h)";
        return Err(Error::new(Kind::Config, text));
    }
    reqwest::Proxy::all(proxy.expose()).map_err(|_| Error::new(Kind::Config, "proxy: this is not an address"))
}

/// An error with its causes, without the address that the library puts in front (ours is in the message already).
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    log::without_secrets(&parts.join(": "))
}
