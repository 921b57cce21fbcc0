//! A text that must never be printed: the key, and a proxy address with a password in it.

use std::fmt;

use crate::log;

/// A secret. Its `Debug` form is `***`, it has no `Display`, and making one registers the text with [`log::conceal`], so
/// that it is also removed from what a server or a library says about it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text` and conceals it in every later line of the log.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        log::conceal(&text);
        Secret(text)
    }

    /// The text itself, for the one place that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_and_is_concealed() {
        let secret = Secret::new("phx_printed_by_nobody");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(log::without_secrets("it is phx_printed_by_nobody"), "it is ***");
    }
}
