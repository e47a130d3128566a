//! Versions of TLS, in order.

use std::fmt;

use dissect::TlsFacts;
use serde::{Deserialize, Serialize};

/// A version, the oldest first. DTLS counts as the TLS that it is made after (RFC 4347, 6347, 9147),
/// QUIC as TLS 1.3 (RFC 9001).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum TlsVersion {
    /// SSL 2 and 3.
    #[serde(rename = "ssl")]
    Ssl,
    #[serde(rename = "1.0")]
    V1_0,
    #[serde(rename = "1.1")]
    V1_1,
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

impl TlsVersion {
    /// As negotiated; `None`: not seen, or not known to this program.
    pub fn of(tls: &TlsFacts) -> Option<TlsVersion> {
        let version = tls.version.as_deref()?;
        Some(match (tls.version_protocol.as_deref(), version) {
            (Some("ssl"), _) => TlsVersion::Ssl,
            (Some("quic"), "1.3") => TlsVersion::V1_3,
            (Some("dtls"), "1.0") => TlsVersion::V1_1,
            (_, "1.0") => TlsVersion::V1_0,
            (_, "1.1") => TlsVersion::V1_1,
            (_, "1.2") => TlsVersion::V1_2,
            (_, "1.3") => TlsVersion::V1_3,
            _ => return None,
        })
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            TlsVersion::Ssl => "SSL",
            TlsVersion::V1_0 => "TLS 1.0",
            TlsVersion::V1_1 => "TLS 1.1",
            TlsVersion::V1_2 => "TLS 1.2",
            TlsVersion::V1_3 => "TLS 1.3",
        })
    }
}
