//! Requests to services that hold keys: over TLS whose certificate is verified, or to loopback; bounded in
//! time and size.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use super::KeyError;
use crate::https;
use crate::record::is_active;

/// Longest answer.
const LONGEST: u64 = 256 << 10;

/// A service at a URL.
pub struct Service {
    pub agent: Agent,
    /// Without a slash at the end.
    pub base: String,
}

impl Service {
    /// # Errors
    /// The URL is none that secrets may go to, or there are no certificates.
    pub fn new(
        field: &'static str,
        url: &str,
        ca: Option<&Path>,
        timeout: Duration,
    ) -> Result<Service, KeyError> {
        let refused = |why: &str| KeyError::Setting { field, what: why.to_owned() };
        let uri: Uri = url.parse().map_err(|_| refused("is no URL"))?;
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(refused("expected https://HOST[:PORT], without a user or a query"));
        }
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if uri.host().is_some_and(is_loopback) => false,
            _ => return Err(refused("expected https://… (http:// only for loopback)")),
        };
        if !tls && ca.is_some() {
            return Err(refused("nothing is verified by its ca: expected https://…"));
        }
        let agent = https::agent(tls, ca, timeout).map_err(|why| refused(&why))?;
        Ok(Service { agent, base: url.trim_end_matches('/').to_owned() })
    }

    pub fn host(&self) -> &str {
        https::host(&self.base)
    }

    /// What went wrong on the way, or JSON. `reason` gives the service's own word for a refusal.
    pub fn answer(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
        reason: impl Fn(&Value) -> Option<String>,
    ) -> Result<Value, KeyError> {
        let (status, body) = self.body(answer)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if (200..300).contains(&status) && !value.is_null() {
            return Ok(value);
        }
        let reason = reason(&value).map(|text| harmless(&text)).unwrap_or_default();
        let told = format!("{} answers {status} {reason}", self.host()).trim_end().to_owned();
        // Sealed, overloaded, or throttled: it may be otherwise later.
        Err(if status >= 500 || status == 429 {
            KeyError::Unreachable(told)
        } else {
            KeyError::Refused(told)
        })
    }

    /// Status and body.
    pub fn body(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), KeyError> {
        let unreachable = |error: ureq::Error| KeyError::Unreachable(format!("{}: {error}", self.host()));
        let mut answer = answer.map_err(unreachable)?;
        let body = answer.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(unreachable)?;
        Ok((answer.status().as_u16(), Zeroizing::new(body)))
    }
}

/// By its name alone: what a name is looked up to is another's word.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Somebody else's text, for one line of ours.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|character| !is_active(*character)).take(120).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn secrets_go_over_tls_or_stay_on_this_host() {
        let service = |url: &str| Service::new("state.vault.address", url, None, Duration::from_secs(1));
        for url in ["http://127.0.0.1:8200", "http://[::1]:8200/", "http://localhost"] {
            assert!(service(url).is_ok(), "{url}");
        }
        for url in [
            "http://vault.example.org",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "https://user:password@127.0.0.1",
            "http://127.0.0.1/?token=x",
            "ftp://127.0.0.1",
            "127.0.0.1:8200",
            "",
        ] {
            let told = service(url).err().unwrap().to_string();
            assert!(told.starts_with("state.vault.address: ") && !told.contains("password"), "{url}: {told}");
        }
        let ca = Some(Path::new("/dev/null"));
        let told = Service::new("state.vault.address", "http://localhost", ca, Duration::from_secs(1)).err();
        assert!(told.unwrap().to_string().contains("nothing is verified by its ca"));
    }
}
