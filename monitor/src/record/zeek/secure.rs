//! `ssl.log`, `x509.log` and `ssh.log`.
//!
//! Fields: <https://docs.zeek.org/en/master/logs/ssl.html>, `x509.html`, `ssh.html`; `ja3`, `ja3s` and
//! `ja4` as the packages of those names add them.

use dissect::{Certificate, SshAuthenticationState, SshFacts, TlsFacts};
use serde::Serialize;

use super::{Connection, seconds};
use crate::model::FlowView;
use crate::record::write_line;

/// Appends what is known of the handshake of a flow that has ended.
pub(super) fn encode(flow: &FlowView, out: &mut Vec<u8>) {
    if let Some(tls) = &flow.facts.tls {
        write_line(out, &Ssl::new(flow, tls));
        for (certificates, client) in [(&tls.server_certificates, false), (&tls.client_certificates, true)] {
            for (at, certificate) in certificates.iter().enumerate() {
                write_line(out, &X509::new(flow, certificate, at == 0, client));
            }
        }
    }
    if let Some(ssh) = &flow.facts.ssh {
        write_line(out, &SshLine::new(flow, ssh));
    }
}

#[derive(Serialize)]
struct Ssl<'a> {
    _path: &'static str,
    ts: f64,
    #[serde(flatten)]
    id: Connection<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_alert: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    established: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cert_chain_fps: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    client_cert_chain_fps: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni_matches_cert: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja3: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja3s: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4s: Option<&'a str>,
}

impl<'a> Ssl<'a> {
    fn new(flow: &'a FlowView, tls: &'a TlsFacts) -> Self {
        let server = tls.server_certificates.first();
        let client = tls.client_certificates.first();
        let name = tls.server_name.as_deref().filter(|_| !tls.encrypted_client_hello);
        Ssl {
            _path: "ssl",
            ts: seconds(flow.opened_at),
            id: Connection::new(flow),
            version: tls.version.as_deref().map(|it| version(tls.version_protocol.as_deref(), it)),
            cipher: tls.cipher.as_deref(),
            curve: tls.group.as_deref(),
            server_name: tls.server_name.as_deref(),
            resumed: tls.resumed,
            last_alert: tls.alert.as_ref().and_then(|alert| alert.description.as_deref()),
            next_protocol: tls.alpn.as_deref(),
            established: flow.facts.is_established(),
            cert_chain_fps: fingerprints(&tls.server_certificates),
            client_cert_chain_fps: fingerprints(&tls.client_certificates),
            subject: server.map(|it| it.subject.as_str()),
            issuer: server.map(|it| it.issuer.as_str()),
            client_subject: client.map(|it| it.subject.as_str()),
            client_issuer: client.map(|it| it.issuer.as_str()),
            sni_matches_cert: server
                .zip(name)
                .and_then(|(it, name)| crate::posture::says_whether_for(it, name)),
            ja3: tls.ja3.as_deref(),
            ja3s: tls.ja3s.as_deref(),
            ja4: tls.ja4.as_deref(),
            ja4s: tls.ja4s.as_deref(),
        }
    }
}

fn fingerprints(certificates: &[Certificate]) -> Vec<&str> {
    certificates.iter().map(|it| it.sha256.as_str()).collect()
}

/// `TLSv13`, `SSLv3`, `DTLSv12`.
fn version(protocol: Option<&str>, version: &str) -> String {
    let prefix = match protocol {
        Some("ssl") => "SSLv",
        Some("dtls") => "DTLSv",
        _ => "TLSv",
    };
    let digits = version.strip_suffix(".0").unwrap_or(version);
    format!("{prefix}{}", digits.replace('.', ""))
}

#[derive(Serialize)]
struct X509<'a> {
    _path: &'static str,
    ts: f64,
    /// SHA-256.
    fingerprint: &'a str,
    #[serde(rename = "certificate.serial")]
    serial: String,
    #[serde(rename = "certificate.subject")]
    subject: &'a str,
    #[serde(rename = "certificate.issuer")]
    issuer: &'a str,
    #[serde(rename = "certificate.not_valid_before")]
    not_valid_before: f64,
    #[serde(rename = "certificate.not_valid_after")]
    not_valid_after: f64,
    #[serde(rename = "certificate.sig_alg")]
    sig_alg: &'a str,
    #[serde(rename = "certificate.key_type")]
    key_type: &'static str,
    #[serde(rename = "certificate.key_length", skip_serializing_if = "Option::is_none")]
    key_length: Option<u32>,
    #[serde(rename = "san.dns", skip_serializing_if = "Vec::is_empty")]
    dns: Vec<&'a str>,
    #[serde(rename = "san.uri", skip_serializing_if = "Vec::is_empty")]
    uri: Vec<&'a str>,
    #[serde(rename = "san.email", skip_serializing_if = "Vec::is_empty")]
    email: Vec<&'a str>,
    #[serde(rename = "san.ip", skip_serializing_if = "Vec::is_empty")]
    ip: Vec<&'a str>,
    host_cert: bool,
    client_cert: bool,
    /// Not Zeek's: the connection that showed it.
    #[serde(flatten)]
    id: Connection<'a>,
}

impl<'a> X509<'a> {
    fn new(flow: &'a FlowView, certificate: &'a Certificate, first: bool, client: bool) -> Self {
        let names = |prefix: &str| -> Vec<&'a str> {
            certificate.alternative_names.iter().filter_map(|name| name.strip_prefix(prefix)).collect()
        };
        X509 {
            _path: "x509",
            ts: seconds(flow.opened_at),
            fingerprint: &certificate.sha256,
            serial: certificate.serial.to_uppercase(),
            subject: &certificate.subject,
            issuer: &certificate.issuer,
            not_valid_before: certificate.not_before as f64,
            not_valid_after: certificate.not_after as f64,
            sig_alg: &certificate.signature_algorithm,
            key_type: key_type(&certificate.key_type),
            key_length: (certificate.key_bits != 0).then_some(certificate.key_bits),
            dns: names("DNS:"),
            uri: names("URI:"),
            email: names("email:"),
            ip: names("IP:"),
            host_cert: first && !client,
            client_cert: first && client,
            id: Connection::new(flow),
        }
    }
}

/// Zeek's words are OpenSSL's.
fn key_type(name: &str) -> &'static str {
    match name.split(' ').next().unwrap_or_default() {
        "RSA" => "rsa",
        "RSA-PSS" => "rsa-pss",
        "EC" => "ecdsa",
        "DSA" => "dsa",
        "Ed25519" => "ed25519",
        "Ed448" => "ed448",
        _ => "unknown",
    }
}

#[derive(Serialize)]
struct SshLine<'a> {
    _path: &'static str,
    ts: f64,
    #[serde(flatten)]
    id: Connection<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher_alg: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_alg: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kex_alg: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key_alg: Option<&'a str>,
}

impl<'a> SshLine<'a> {
    fn new(flow: &'a FlowView, ssh: &'a SshFacts) -> Self {
        let auth_success = match ssh.authentication.state {
            SshAuthenticationState::Succeeded => Some(true),
            SshAuthenticationState::Failed => Some(false),
            SshAuthenticationState::Begun | SshAuthenticationState::Unknown => None,
        };
        SshLine {
            _path: "ssh",
            ts: seconds(flow.opened_at),
            id: Connection::new(flow),
            version: ssh.server_version.as_deref().and_then(|it| match it.strip_prefix("SSH-")?.as_bytes() {
                [b'2', b'.', ..] => Some(2),
                [b'1', b'.', b'9', b'9', ..] => Some(2),
                [b'1', b'.', ..] => Some(1),
                _ => None,
            }),
            auth_success,
            auth_attempts: ssh.authentication.failures.map(|it| it + u32::from(auth_success == Some(true))),
            client: ssh.client_version.as_deref(),
            server: ssh.server_version.as_deref(),
            cipher_alg: ssh.client_cipher.as_deref(),
            mac_alg: ssh.client_mac.as_deref(),
            kex_alg: ssh.key_exchange.as_deref(),
            host_key_alg: ssh.host_key.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;
    use crate::record::samples;

    fn lines(flow: &FlowView) -> Vec<Value> {
        let mut out = Vec::new();
        encode(flow, &mut out);
        std::str::from_utf8(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn versions_have_zeeks_names() {
        assert_eq!(version(Some("ssl"), "3.0"), "SSLv3");
        assert_eq!(version(Some("tls"), "1.0"), "TLSv1");
        assert_eq!(version(Some("dtls"), "1.2"), "DTLSv12");
    }

    #[test]
    fn a_handshake_with_certificates_gives_a_line_each() {
        let lines = lines(&samples::mutual_flow());
        let paths: Vec<_> = lines.iter().map(|line| line["_path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["ssl", "x509", "x509"]);
        assert_eq!(lines[0]["cert_chain_fps"][0], "aa11");
        assert_eq!(lines[0]["client_subject"], "CN=batch");
        assert_eq!(lines[0]["sni_matches_cert"], true);
        assert_eq!(lines[0]["ja3"], "771,4865");
        assert_eq!(lines[1]["san.dns"][0], "api.example.org");
        assert_eq!(lines[1]["certificate.key_type"], "ecdsa");
        assert_eq!(lines[1]["host_cert"], true);
        assert_eq!(lines[2]["client_cert"], true);
        assert_eq!(lines[2]["san.uri"][0], "spiffe://example.org/batch");
    }

    #[test]
    fn ssh_gives_a_line() {
        let line = lines(&samples::ssh_flow()).remove(0);
        assert_eq!(line["_path"], "ssh");
        assert_eq!(line["version"], 2);
        assert_eq!(line["auth_success"], true);
        assert_eq!(line["auth_attempts"], 2);
        assert_eq!(line["kex_alg"], "sntrup761x25519-sha512@openssh.com");
    }
}
