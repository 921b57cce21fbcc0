//! Where PostHog is: the base address that the key may be sent to. It refuses an address that would send the key in
//! clear text over a network, that carries credentials, or that belongs to PostHog's capture hosts, which cannot be read.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Kind, Result, one_line};
use crate::log::without_secrets;
use url::Url;

/// PostHog Cloud in the United States.
pub const US: &str = "https://us.posthog.com";
/// PostHog Cloud in the European Union.
pub const EU: &str = "https://eu.posthog.com";

/// A checked base address. Its path ends with a slash, so relative paths can be joined to it (installs below a sub-path).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads an address as people write it: with or without a trailing slash, with a port or a sub-path.
    ///
    /// # Errors
    /// [`Kind::Config`] for anything that is not an `https://` address of a server, unless it is `http://` to this machine
    /// or `allow_insecure_http` is set.
    pub fn parse(text: &str, allow_insecure_http: bool) -> Result<BaseUrl> {
        let text = text.trim();
        let refuse = |why: &str| Err(Error::new(Kind::Config, format!("the address {} {why}", shown(text))));
        let Ok(mut url) = Url::parse(text) else {
            return refuse("cannot be understood; write it like https://posthog.example.com");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("carries a user name or password; remove them and use api_key");
        }
        let Some(host) = url.host_str().map(str::to_owned) else {
            return refuse("names no host; write it like https://posthog.example.com");
        };
        match url.scheme() {
            "https" => {}
            "http" if allow_insecure_http || is_loopback(&host) => {}
            "http" => {
                return refuse(
                    "would send the key unencrypted; use https://, or set allow_insecure_http to true where the network is trusted",
                );
            }
            _ => return refuse("is neither https:// nor http://"),
        }
        if host.ends_with(".i.posthog.com") {
            return refuse("only takes events in; reading works at https://us.posthog.com or https://eu.posthog.com");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("has a query or fragment; give the address alone");
        }
        let path = format!("{}/", install_path(url.path()));
        url.set_path(&path);
        Ok(BaseUrl(url))
    }

    /// The address of `path` (relative, as `api/projects/1/query/`) with `query` pairs.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the path leaves this host.
    pub fn join(&self, path: &str, query: &[(String, String)]) -> Result<Url> {
        let mut url = self
            .0
            .join(path.trim_start_matches('/'))
            .ok()
            .filter(|url| url.origin() == self.0.origin())
            .ok_or_else(|| Error::new(Kind::Internal, format!("the path {} leaves {self}", one_line(path))))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// True where what is sent can be read on the way.
    pub fn is_clear_text(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The host's name.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The same region's counterpart on PostHog Cloud, if this is one of the two: where a key that is unknown here may
    /// have come from.
    pub fn other_region(&self) -> Option<BaseUrl> {
        let other = match self.host() {
            "us.posthog.com" | "app.posthog.com" => EU,
            "eu.posthog.com" => US,
            _ => return None,
        };
        BaseUrl::parse(other, false).ok()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// The part of a path below which PostHog is installed. People paste the address of the API or of a project's page; only
/// what stands before it is the base.
fn install_path(path: &str) -> String {
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let is_pasted = |at: &usize| segments.get(*at..).is_some_and(is_own_path);
    let end = (0..segments.len()).find(is_pasted).unwrap_or(segments.len());
    segments.into_iter().take(end).collect::<Vec<_>>().join("/")
}

/// Whether these segments are a path of PostHog's own. An install's path may look much like one (`/api-gateway/posthog`,
/// `/projects/posthog`), and what is cut from it would send the key to another service of the same host.
fn is_own_path(segments: &[&str]) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match segments {
        ["api"] => true,
        ["api", "projects" | "environments" | "organizations" | "users" | "personal_api_keys", rest @ ..] => {
            rest.first().is_none_or(|id| is_number(id) || id.starts_with('@'))
        }
        ["project", id, ..] => is_number(id),
        _ => false,
    }
}

/// An address for a message: without what stands before an `@`, on one line, cut.
fn shown(text: &str) -> String {
    let without_user = match text.rsplit_once('@') {
        Some((user, host)) => {
            let scheme = user.split_once("://").map(|(scheme, _)| scheme);
            let scheme = scheme.filter(|scheme| scheme.chars().all(|c| c.is_ascii_alphabetic()));
            scheme.map_or_else(|| format!("***@{host}"), |scheme| format!("{scheme}://***@{host}"))
        }
        None => text.to_owned(),
    };
    format!("\"{}\"", one_line(&without_secrets(&without_user).chars().take(200).collect::<String>()))
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(url: &str) -> String {
        BaseUrl::parse(url, false).map_or_else(|e| format!("! {e}"), |u| u.to_string())
    }

    #[test]
    fn a_password_is_shown_in_no_form_of_an_address() {
        for address in
            ["https://u:hunter2@h", "HTTPS:\\\\u:hunter2@h", "x:hunter2@y", "https:u:hunter2@h", "u:hunter2@h://x@y"]
        {
            assert!(!shown(address).contains("hunter2"), "{}", shown(address));
        }
    }

    #[test]
    fn addresses_as_people_write_them() {
        for (given, expected) in [
            ("https://us.posthog.com", "https://us.posthog.com"),
            (" https://us.posthog.com/ ", "https://us.posthog.com"),
            ("https://ph.example.com:8443/sub/path", "https://ph.example.com:8443/sub/path"),
            ("https://ph.example.com/sub/api/projects/2/", "https://ph.example.com/sub"),
            ("https://eu.posthog.com/project/12/insights", "https://eu.posthog.com"),
            ("http://127.0.0.1:8010", "http://127.0.0.1:8010"),
            ("http://[::1]:8010/", "http://[::1]:8010"),
            ("http://localhost/", "http://localhost"),
        ] {
            assert_eq!(text(given), expected);
        }
    }

    #[test]
    fn a_sub_path_that_looks_like_one_of_posthog_is_kept_whole() {
        for kept in [
            "https://h.example/api-gateway/posthog",
            "https://h.example/apis/ph",
            "https://h.example/api/gateway/posthog",
            "https://h.example/api/projects/posthog",
            "https://h.example/projects/posthog",
            "https://h.example/project-x",
            "https://h.example/project/x",
            "https://h.example/project",
        ] {
            assert_eq!(text(kept), kept);
        }
        for (pasted, base) in [
            ("https://h.example/apis/ph/api/projects/1/query/", "https://h.example/apis/ph"),
            ("https://h.example/projects/posthog/project/12/insights", "https://h.example/projects/posthog"),
            ("https://h.example/api-gateway/api/", "https://h.example/api-gateway"),
            ("https://h.example/sub/api/projects/@current/cohorts/", "https://h.example/sub"),
            ("https://h.example/api/projects", "https://h.example"),
        ] {
            assert_eq!(text(pasted), base);
        }
    }

    #[test]
    fn addresses_that_would_leak_the_key_are_refused_without_printing_it() {
        for bad in [
            "http://ph.example.com",
            "http://127.0.0.1.example.com",
            "https://user:pass@us.posthog.com",
            "ftp://us.posthog.com",
            "us.posthog.com",
            "https://us.i.posthog.com",
            "https://us.posthog.com/?key=1",
            "",
        ] {
            assert!(text(bad).starts_with("! the address"), "{bad}: {}", text(bad));
        }
        assert!(!text("https://user:hunter22@us.posthog.com").contains("hunter22"));
        assert!(BaseUrl::parse("http://ph.internal", true).is_ok());
    }

    #[test]
    fn paths_are_joined_below_the_sub_path_and_stay_on_the_host() {
        let base = BaseUrl::parse("https://ph.example.com/sub", false).unwrap();
        let query = [("limit".to_owned(), "1".to_owned()), ("q".to_owned(), "a b&c".to_owned())];
        assert_eq!(
            base.join("/api/projects/1/cohorts/", &query).unwrap().as_str(),
            "https://ph.example.com/sub/api/projects/1/cohorts/?limit=1&q=a+b%26c"
        );
        assert!(base.join("https://evil.example.com/x", &[]).is_err());
    }

    #[test]
    fn the_other_region_is_known_for_cloud_only() {
        assert_eq!(BaseUrl::parse(US, false).unwrap().other_region().unwrap().to_string(), EU);
        assert!(BaseUrl::parse("https://ph.example.com", false).unwrap().other_region().is_none());
    }
}
