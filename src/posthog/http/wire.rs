//! What the HTTP library says, in our words: why there is no answer, what a header holds, what TLS is set up with.

use std::error::Error as _;
use std::io;

use reqwest::header::{CONTENT_ENCODING, HeaderMap, WWW_AUTHENTICATE};

use super::body::Cut;
use super::decision::{CHECK_PROXY, Location, RetryDecision, wants_certificate, wants_password};
use super::envelope::shown;
use super::request::Options;
use super::retry::REACH;
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
        let advice = certificate_advice(&text, &options.names.address);
        let text = format!("the certificate of {} is not accepted: {text}; {advice}", options.base);
        return RetryDecision::fatal(Cause::Tls, Kind::Service, text);
    }
    if text.contains("CertificateRequired") {
        return RetryDecision::fatal(Cause::Tls, Kind::Service, wants_certificate(&options.base));
    }
    if error.is_timeout() && !error.is_connect() {
        return RetryDecision::Slow(format!("no answer for {} s", options.request_timeout.as_secs()));
    }
    if text.contains("proxy authorization required") {
        return RetryDecision::fatal(Cause::Proxy, Kind::Service, wants_password(&options.base, proxy.as_deref()));
    }
    let address = &options.names.address;
    let (cause, advice) = if text.contains("InvalidContentType") {
        (Cause::Tls, format!("what answers there does not speak TLS: check the port, or write http:// in {address}"))
    } else if HANDSHAKE.iter().any(|part| text.contains(part)) {
        (Cause::Tls, "the server has to speak TLS 1.2 or 1.3; check what stands in between".to_owned())
    } else if text.contains("resolving for socks proxy") {
        (Cause::Dns, "socks5:// looks names up here, socks5h:// lets the proxy do it".to_owned())
    } else if proxy.is_some() && error.is_connect() {
        // The proxy looks up the host's name, and says no more of why it does not get there.
        (Cause::Proxy, CHECK_PROXY.to_owned())
    } else if proxy.is_none() && is_of_names(error, &text) {
        (Cause::Dns, format!("check {address} and this machine's name server"))
    } else {
        (if error.is_timeout() { Cause::Timeout } else { Cause::Network }, REACH.to_owned())
    };
    RetryDecision::Unanswered { cause, why: text, advice, is_connected: !error.is_connect() }
}

fn is_of_names(error: &reqwest::Error, text: &str) -> bool {
    error.is_dns() || text.contains("dns error") || text.contains("invalid dns name")
}

/// What to do about a certificate, by what is wrong with it.
fn certificate_advice(text: &str, address: &str) -> String {
    let advice = if text.contains("CaUsedAsEndEntity") {
        "it says of itself that it is an authority (CA:TRUE, which openssl req -x509 writes), and such a certificate is never \
         taken for a server's, not from ca_file either; make it anew with -addext basicConstraints=critical,CA:FALSE and a \
         subjectAltName, and set ca_file to it"
    } else if text.contains("certificate expired") || text.contains("not valid yet") {
        "renew it, or set this machine's clock"
    } else if text.contains("not valid for") || text.contains("NotValidForName") {
        return format!("write the host in {address} as the certificate names it (subjectAltName)");
    } else {
        "set ca_file to the certificate authority of this server, or to its certificate if that is self-signed; check also \
         that nothing in between replaces certificates"
    };
    advice.to_owned()
}

pub(super) fn unsent(error: &reqwest::Error) -> Fault {
    Fault::internal(Error::new(Kind::Internal, format!("making a request failed: {}", chain(error))))
}

/// The decision on a body that was not read to its end. `asked` is what it was to answer.
pub(super) fn broken(cut: Cut, asked: &str) -> RetryDecision {
    match cut {
        Cut::TooLarge => RetryDecision::split(Resource::AnswerBytes, "the answer is larger than max_response_mb"),
        Cut::Stopped(error) => RetryDecision::Final(Fault::Stopped(error)),
        Cut::Unlabelled => other_encoding(asked, "gzip, without saying so"),
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

/// Whether a body is packed as gzip.
///
/// # Errors
/// The names of encodings that were not asked for.
pub(super) fn is_gzip(headers: &HeaderMap) -> Result<bool, String> {
    let all = headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let all = all.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let names: Vec<&str> = all.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "identity")).collect();
    match names.as_slice() {
        [] => Ok(false),
        // The old name of the same (RFC 9110, section 8.4.1.3).
        ["gzip" | "x-gzip"] => Ok(true),
        names => Err(names.join(", ")),
    }
}

/// The decision on an answer whose body cannot be unpacked.
pub(super) fn other_encoding(asked: &str, encoding: &str) -> RetryDecision {
    let text = format!(
        "the answer to {asked} is encoded as {}, which was not asked for; something in between does that, and has to be set \
         up to leave answers as they are",
        shown(encoding)
    );
    RetryDecision::fatal(Cause::Proxy, Kind::Service, text)
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

/// Where a redirect points, from this address.
pub(super) fn location(to: &str, from: &Url) -> Option<Location> {
    let mut to = from.join(to).ok()?;
    let mut from = from.clone();
    for url in [&mut to, &mut from] {
        url.set_query(None);
        url.set_fragment(None);
        // An address that cannot have a user has none.
        let _ = (url.set_username(""), url.set_password(None));
    }
    Some(if to == from {
        Location::Same
    } else if to.origin() == from.origin() {
        Location::OtherPath(to.to_string())
    } else {
        Location::Elsewhere(to.to_string())
    })
}

/// The ways in which servers send whoever is not logged in away: the schemes of `WWW-Authenticate`.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    // What stands in quotes is about one of them.
    let unquoted = all.map(|value| value.split('"').step_by(2).collect::<String>()).collect::<Vec<_>>().join(",");
    let words = unquoted.split(',').filter_map(|part| part.split_whitespace().next());
    words.filter(|word| !word.contains('=')).map(str::to_owned).collect()
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
