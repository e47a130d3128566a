//! The objects `tls`, `certificate` and their parts.
//!
//! <https://schema.ocsf.io/1.3.0/objects/tls>, `certificate`, `fingerprint`, `san`.

use dissect::{Certificate, TlsFacts};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct TlsObject<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja3_hash: Option<Fingerprint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja3s_hash: Option<Fingerprint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<CertificateObject<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sans: Vec<San<'a>>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_dur: Option<u64>,
}

/// Algorithm 1 is MD5, 3 is SHA-256.
#[derive(Serialize)]
struct Fingerprint<'a> {
    algorithm_id: u8,
    algorithm: &'static str,
    value: &'a str,
}

impl<'a> Fingerprint<'a> {
    fn md5(value: &'a str) -> Self {
        Fingerprint { algorithm_id: 1, algorithm: "MD5", value }
    }

    fn sha256(value: &'a str) -> Self {
        Fingerprint { algorithm_id: 3, algorithm: "SHA-256", value }
    }
}

#[derive(Serialize)]
struct CertificateObject<'a> {
    subject: &'a str,
    issuer: &'a str,
    serial_number: &'a str,
    fingerprints: [Fingerprint<'a>; 1],
    is_self_signed: bool,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_time: Option<i64>,
}

impl<'a> CertificateObject<'a> {
    fn new(certificate: &'a Certificate) -> Self {
        let time = |seconds: i64| if seconds == 0 { None } else { seconds.checked_mul(1000) };
        CertificateObject {
            subject: &certificate.subject,
            issuer: &certificate.issuer,
            serial_number: &certificate.serial,
            fingerprints: [Fingerprint::sha256(&certificate.sha256)],
            is_self_signed: certificate.self_signed,
            created_time: time(certificate.not_before),
            expiration_time: time(certificate.not_after),
        }
    }
}

#[derive(Serialize)]
struct San<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
}

impl<'a> TlsObject<'a> {
    /// The object requires a version: without one there is none.
    pub fn new(facts: &'a TlsFacts, handshake_ns: Option<u64>) -> Option<Self> {
        let version = facts.version.as_deref()?;
        let certificate = facts.server_certificates.first();
        let names = certificate.map(|it| it.alternative_names.as_slice()).unwrap_or_default();
        Some(TlsObject {
            version,
            cipher: facts.cipher.as_deref(),
            sni: facts.server_name.as_deref(),
            ja3_hash: facts.ja3.as_deref().map(Fingerprint::md5),
            ja3s_hash: facts.ja3s.as_deref().map(Fingerprint::md5),
            certificate: certificate.map(CertificateObject::new),
            sans: names
                .iter()
                .filter_map(|it| it.split_once(':'))
                .map(|(kind, name)| San { kind, name })
                .collect(),
            handshake_dur: handshake_ns.map(|ns| ns / 1_000_000),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::samples;

    #[test]
    fn a_certificate_and_its_names() {
        let flow = samples::mutual_flow();
        let object = TlsObject::new(flow.facts.tls.as_ref().unwrap(), Some(1_500_000)).unwrap();
        let json = serde_json::to_value(object).unwrap();
        assert_eq!(json["certificate"]["fingerprints"][0]["value"], "aa11");
        assert_eq!(json["certificate"]["expiration_time"], 1_798_761_600_000_i64);
        assert_eq!(json["sans"][0], serde_json::json!({ "type": "DNS", "name": "api.example.org" }));
        assert_eq!(json["ja3_hash"]["algorithm_id"], 1);
    }
}
