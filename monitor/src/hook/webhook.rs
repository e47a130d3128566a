//! A URL that is told: the record is posted, a status of 2xx comes back.

use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the certificates that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

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
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .max_redirects(0)
            // A proxy of the environment would see who talks to whom.
            .proxy(None)
            .user_agent(concat!("streamwatch/", env!("CARGO_PKG_VERSION")));
        if tls {
            let roots = RootCerts::new_with_certs(&certificates(ca)?);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Webhook { agent: config.build().into(), url: url.to_owned() })
    }

    /// The host alone: what follows may hold a secret.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        authority.rsplit('@').next().unwrap_or(authority)
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

fn certificates(ca: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let path = match ca {
        Some(path) => path,
        None => SYSTEM
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .ok_or("no certificates of the system were found: name a file with ca = \"…\"")?,
    };
    let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certificates)
}
