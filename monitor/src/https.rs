//! Clients of HTTP, all alike: no redirects, no proxy, bounded in time, and TLS whose certificates are
//! verified against a file or the system's.

use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::regular;

/// Where systems keep the certificates that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// With `tls`, the certificates are read now.
///
/// # Errors
/// There are none.
pub fn agent(tls: bool, ca: Option<&Path>, timeout: Duration) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .http_status_as_error(false)
        // A proxy of the environment would see who talks to whom.
        .proxy(None)
        .user_agent(concat!("streamwatch/", env!("CARGO_PKG_VERSION")));
    if tls {
        let roots = RootCerts::new_with_certs(&certificates(ca)?);
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().into())
}

/// The host of a URL alone: what follows may hold a secret.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
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
    let pem =
        regular::read(path, regular::LARGEST).map_err(|error| format!("{}: {error}", path.display()))?;
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
