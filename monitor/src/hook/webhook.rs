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
    pub fn new(url: &str, ca: Option<&Path>, timeout: Duration) -> Result<Webhook, String> {
        let tls = url.starts_with("https://");
        if !tls && !url.starts_with("http://") {
            return Err(format!("webhook = {url:?}: expected https://… (or http://…)"));
        }
        Ok(Webhook { agent: https::agent(tls, ca, timeout)?, url: url.to_owned() })
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
