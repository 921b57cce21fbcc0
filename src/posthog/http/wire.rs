//! What the HTTP library says, in our words: why there is no answer, what a header holds, what TLS is set up with.

use std::error::Error as _;
use std::io;

use reqwest::header::HeaderMap;

use super::body::Cut;
use super::decision::{RetryDecision, wants_password};
use super::request::Options;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::fault::{Cause, Fault, Resource};
use crate::posthog::secret::Secret;
use url::Url;

/// What rustls says of a handshake that failed.
const HANDSHAKE: &[&str] = &[
    "received corrupt message",
    "received fatal alert",
    "received unexpected",
    "peer is incompatible",
    "peer misbehaved",
    "tls handshake eof",
];

/// The decision on a request that got no answer.
pub(super) fn unreachable(error: &reqwest::Error, options: &Options) -> RetryDecision {
    let proxy = options.proxy_name();
    // The first line repeats the address, which is in the message already.
    let why = error.source().map_or_else(|| chain(error), chain);
    let text = match &proxy {
        Some(proxy) => format!("through the proxy {proxy}: {why}"),
        None => why,
    };
    if text.contains("invalid peer certificate") {
        let text =
            format!("the certificate of {} is not accepted: {text}; {}", options.base, certificate_advice(&text));
        return RetryDecision::fatal(Cause::Tls, Kind::Service, text);
    }
    if error.is_timeout() && !error.is_connect() {
        return RetryDecision::Slow(format!("no answer for {} s", options.request_timeout.as_secs()));
    }
    if text.contains("InvalidContentType") {
        let advice = "what answers there does not speak TLS: check the port, or write http:// in custom_base_url";
        return RetryDecision::Again(Cause::Tls, None, format!("{text}; {advice}"));
    }
    if HANDSHAKE.iter().any(|part| text.contains(part)) {
        let advice = "the server has to speak TLS 1.2 or 1.3; check what stands in between";
        return RetryDecision::Again(Cause::Tls, None, format!("{text}; {advice}"));
    }
    if text.contains("proxy authorization required") {
        return RetryDecision::fatal(Cause::Proxy, Kind::Service, wants_password(&options.base, proxy.as_deref()));
    }
    if text.contains("resolving for socks proxy") {
        let advice = "socks5:// looks names up here, socks5h:// lets the proxy do it";
        return RetryDecision::Again(Cause::Dns, None, format!("{text}; {advice}"));
    }
    let cause = match proxy {
        // The proxy looks up the host's name, and says no more of why it does not get there.
        Some(_) if error.is_connect() => Cause::Proxy,
        None if error.is_dns() || text.contains("dns error") || text.contains("invalid dns name") => Cause::Dns,
        _ if error.is_timeout() => Cause::Timeout,
        _ => Cause::Network,
    };
    RetryDecision::Again(cause, None, text)
}

/// What to do about a certificate, by what is wrong with it.
fn certificate_advice(text: &str) -> &'static str {
    if text.contains("CaUsedAsEndEntity") {
        "it says of itself that it is an authority (CA:TRUE, which openssl req -x509 writes), and such a certificate is never \
         taken for a server's, not from ca_file either; make it anew with -addext basicConstraints=critical,CA:FALSE and a \
         subjectAltName, and set ca_file to it"
    } else if text.contains("certificate expired") || text.contains("not valid yet") {
        "renew it, or set this machine's clock"
    } else if text.contains("not valid for") || text.contains("NotValidForName") {
        "write the host in custom_base_url as the certificate names it (subjectAltName)"
    } else {
        "set ca_file to the certificate authority of this server, or to its certificate if that is self-signed; check also \
         that nothing in between replaces certificates"
    }
}

pub(super) fn unsent(error: &reqwest::Error) -> Fault {
    Fault::internal(Error::new(Kind::Internal, format!("making a request failed: {}", chain(error))))
}

pub(super) fn broken(cut: Cut) -> RetryDecision {
    match cut {
        Cut::TooLarge => RetryDecision::split(Resource::AnswerBytes, "the answer is larger than max_response_mb"),
        Cut::Stopped(error) => RetryDecision::Final(Fault::Stopped(error)),
        Cut::Broken(error) => {
            let text = format!("the body broke off: {}", chain(&error));
            if error.kind() == io::ErrorKind::TimedOut || text.contains("timed out") {
                RetryDecision::Slow(text)
            } else {
                RetryDecision::Again(Cause::Network, None, text)
            }
        }
    }
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

/// An error with its causes, without secrets.
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
