//! A URL that is told: the record is posted, a status of 2xx comes back.

use std::path::Path;
use std::time::Duration;

use ureq::Agent;

use crate::https;

pub(super) struct Webhook {
    agent: Agent,
    url: String,
}

impl Webhook {
    /// # Errors
    /// The setting that is wrong, and how.
    pub fn new(url: &str, ca: Option<&Path>, timeout: Duration) -> Result<Webhook, (&'static str, String)> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let tls = scheme.as_deref() == Some("https");
        if !tls && scheme.as_deref() != Some("http") {
            // Without the value: it may hold a secret.
            return Err(("webhook", "expected https://… (or http://…)".to_owned()));
        }
        if !tls && ca.is_some() {
            return Err((
                "ca",
                "nothing is verified by it: the webhook is http://, expected https://…".to_owned(),
            ));
        }
        let key = if ca.is_some() { "ca" } else { "webhook" };
        let agent = https::agent(tls, ca, timeout).map_err(|what| (key, what))?;
        Ok(Webhook { agent, url: url.to_owned() })
    }

    /// The host alone: what follows may hold a secret.
    pub fn host(&self) -> &str {
        https::host(&self.url)
    }

    pub fn post(&self, record: &[u8]) -> Result<(), String> {
        let answer = self.agent.post(&self.url).content_type("application/json").send(record);
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{} answers {}", self.host(), answer.status())),
            Err(error) => Err(format!("{}: {error}", self.host())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_address_is_not_repeated() {
        let refused = Webhook::new("hooks.example/services/SECRET", None, Duration::from_secs(1));
        assert_eq!(refused.err(), Some(("webhook", "expected https://… (or http://…)".to_owned())));
        assert!(Webhook::new("HTTP://localhost/x", None, Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn certificates_that_verify_nothing_are_refused() {
        let refused =
            Webhook::new("http://localhost/x", Some(Path::new("/dev/null")), Duration::from_secs(1));
        assert_eq!(refused.err().map(|(key, _)| key), Some("ca"));
    }
}
