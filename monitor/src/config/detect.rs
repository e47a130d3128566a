//! Thresholds of the detectors; and what sampling may cost.

use serde::{Deserialize, Serialize};

use crate::posture::TlsVersion;

/// Thresholds of the detectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detect {
    pub auth_failures: AuthFailures,
    pub connect_failures: ConnectFailures,
    pub handshake_failures: HandshakeFailures,
    pub weak_tls: WeakTls,
    pub weak_cipher: WeakCipher,
    pub post_quantum: PostQuantum,
    pub certificates: Certificates,
    pub scans: Scans,
    pub traffic: Traffic,
}

/// When failing connections are an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectFailures {
    /// Failed connections of one stream within the window.
    pub threshold: u32,
    pub window_s: u32,
}

impl Default for ConnectFailures {
    fn default() -> Self {
        ConnectFailures { threshold: 5, window_s: 60 }
    }
}

/// When failing TLS handshakes are an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandshakeFailures {
    /// Failed handshakes of one stream within the window.
    pub threshold: u32,
    pub window_s: u32,
}

impl Default for HandshakeFailures {
    fn default() -> Self {
        HandshakeFailures { threshold: 5, window_s: 60 }
    }
}

/// Which versions of TLS are an alert. Below 1.2 always is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeakTls {
    /// The oldest version wanted.
    pub minimum: TlsVersion,
}

/// Which suites and keys are an alert, beyond those that always are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeakCipher {
    /// CBC suites whose MAC is made with SHA-1.
    pub cbc_sha1: bool,
    /// Suites without forward secrecy: RSA key transport, fixed Diffie-Hellman keys.
    pub static_keys: bool,
    /// RSA keys of certificates with fewer bits.
    pub rsa_bits: u32,
}

impl Default for WeakCipher {
    fn default() -> Self {
        WeakCipher { cbc_sha1: false, static_keys: true, rsa_bits: 2048 }
    }
}

/// Whether a key exchange that is not post-quantum is an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostQuantum {
    pub enabled: bool,
}

/// What of certificates is an alert, beyond those that have expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certificates {
    /// Days before its end from which a certificate is an alert, the longest time first: each is worse
    /// than the one before.
    pub expiring_days: Vec<u32>,
    /// Hours: a certificate made for no more is renewed by a machine, and never about to expire.
    pub short_lived_h: u32,
    /// Self-signed certificates of servers, outside loopback.
    pub self_signed: bool,
    /// Certificates that are not for the name that the client asked for, outside loopback.
    pub names: bool,
}

impl Default for Certificates {
    fn default() -> Self {
        Certificates { expiring_days: vec![30, 7, 1], short_lived_h: 12, self_signed: true, names: true }
    }
}

/// When failed log-ins are an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthFailures {
    /// Failures of one stream within the window.
    pub threshold: u32,
    pub window_s: u32,
}

impl Default for AuthFailures {
    fn default() -> Self {
        AuthFailures { threshold: 5, window_s: 60 }
    }
}

/// When connections that fail at many places are a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scans {
    /// Ports of one host, or hosts at one port, at which one client failed within the window.
    pub targets: u32,
    pub window_s: u32,
}

impl Default for Scans {
    fn default() -> Self {
        Scans { targets: 15, window_s: 60 }
    }
}

/// When the traffic of a stream departs from its own past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    pub sensitivity: Sensitivity,
    /// Seconds over which a rate is taken.
    pub interval_s: u32,
    /// Seconds for which a new stream is only watched.
    pub warm_up_s: u32,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { sensitivity: Sensitivity::Medium, interval_s: 10, warm_up_s: 300 }
    }
}

/// How far from the usual is out of the ordinary, in plain words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    Off,
    /// Ten times the usual, and a stop of two minutes.
    Low,
    /// Five times the usual, and a stop of one minute.
    #[default]
    Medium,
    /// Three times the usual, and a stop of half a minute.
    High,
}

/// What is captured of flows after their first bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Of one flow in the clear; four seconds' worth may come at once.
    pub flow_bytes_per_s: u32,
    /// Of all flows together.
    pub total_bytes_per_s: u32,
    /// Seconds between two looks into an encrypted flow that has lasted for a while; 0: none at all.
    pub encrypted_every_s: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { flow_bytes_per_s: 16_384, total_bytes_per_s: 4 << 20, encrypted_every_s: 10 }
    }
}
