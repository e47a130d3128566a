//! Rules, and alerts: what was found by them, how bad it is, and what somebody said of it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FlowView, Identity};

/// How bad it is; the numbers of `event.severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low = 1,
    Medium = 2,
    High = 3,
    Critical = 4,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// What was done to a hook of ours, to a map or to the directory where they have names, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tampered {
    /// "hook sent", "map EVENTS".
    pub part: Cow<'static, str>,
    /// The cgroup hook that it is; empty: none.
    pub attach: Cow<'static, str>,
    pub what: Cow<'static, str>,
    /// It does its work all the same: only its name is not as it was.
    pub works: bool,
    /// It was put right, or why it could not be; `None`: that was not wanted.
    pub restored: Option<Result<(), String>>,
}

/// The rules; `as_str` is the promised id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    Plaintext,
    UnexpectedPeer,
    WeakTls,
    WeakCipher,
    NotPostQuantum,
    ClientCertMissing,
    CertExpiring,
    CertExpired,
    ConnectFailures,
    EvidenceLost,
    MonitorTampered,
    NewService,
    AuthFailures,
    CredentialInClear,
    TrafficSpike,
    TrafficStopped,
}

impl Rule {
    pub const ALL: [Rule; 16] = [
        Rule::Plaintext,
        Rule::UnexpectedPeer,
        Rule::WeakTls,
        Rule::WeakCipher,
        Rule::NotPostQuantum,
        Rule::ClientCertMissing,
        Rule::CertExpiring,
        Rule::CertExpired,
        Rule::ConnectFailures,
        Rule::EvidenceLost,
        Rule::MonitorTampered,
        Rule::NewService,
        Rule::AuthFailures,
        Rule::CredentialInClear,
        Rule::TrafficSpike,
        Rule::TrafficStopped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Plaintext => "plaintext",
            Rule::UnexpectedPeer => "unexpected-peer",
            Rule::WeakTls => "weak-tls",
            Rule::WeakCipher => "weak-cipher",
            Rule::NotPostQuantum => "not-post-quantum",
            Rule::ClientCertMissing => "client-cert-missing",
            Rule::CertExpiring => "cert-expiring",
            Rule::CertExpired => "cert-expired",
            Rule::ConnectFailures => "connect-failures",
            Rule::EvidenceLost => "evidence-lost",
            Rule::MonitorTampered => "monitor-tampered",
            Rule::NewService => "new-service",
            Rule::AuthFailures => "auth-failures",
            Rule::CredentialInClear => "credential-in-clear",
            Rule::TrafficSpike => "traffic-spike",
            Rule::TrafficStopped => "traffic-stopped",
        }
    }

    /// `rule.name`: a short title.
    pub fn title(self) -> &'static str {
        match self {
            Rule::Plaintext => "Data in the clear",
            Rule::UnexpectedPeer => "Unexpected peer",
            Rule::WeakTls => "Old version of TLS",
            Rule::WeakCipher => "Weak cryptography",
            Rule::NotPostQuantum => "Key exchange not post-quantum",
            Rule::ClientCertMissing => "Client certificate missing",
            Rule::CertExpiring => "Certificate about to expire",
            Rule::CertExpired => "Certificate expired",
            Rule::ConnectFailures => "Connections that never come up",
            Rule::EvidenceLost => "Evidence lost",
            Rule::MonitorTampered => "Monitor tampered with",
            Rule::NewService => "New service",
            Rule::AuthFailures => "Log-ins that fail",
            Rule::CredentialInClear => "Credential in the clear",
            Rule::TrafficSpike => "Unusually much traffic",
            Rule::TrafficStopped => "Traffic has stopped",
        }
    }

    /// `rule.description`.
    pub fn description(self) -> &'static str {
        match self {
            Rule::Plaintext => "A stream carries readable data to or from another host without encryption.",
            Rule::UnexpectedPeer => {
                "A client or a service that the policy does not name for the other end, or a certificate \
                 that is not one for the name that was asked for."
            }
            Rule::WeakTls => {
                "A stream uses a version of TLS that is deprecated or that the policy rules out."
            }
            Rule::WeakCipher => {
                "A stream uses a cipher suite, key or signature that is weak or that the policy rules out."
            }
            Rule::NotPostQuantum => {
                "A stream's key exchange does not withstand a quantum computer: what is recorded now can be \
                 read then."
            }
            Rule::ClientCertMissing => {
                "The policy wants both ends to have certificates, and the client presented none."
            }
            Rule::CertExpiring => "A certificate expires soon.",
            Rule::CertExpired => "A certificate has expired, or is not valid yet.",
            Rule::ConnectFailures => {
                "Connections or TLS handshakes of one client with one service keep failing."
            }
            Rule::EvidenceLost => "The monitor lost events, so part of what happened was not seen.",
            Rule::MonitorTampered => {
                "A hook of the monitor was detached or replaced, or what it says does not arrive any more."
            }
            Rule::NewService => {
                "This host serves on a port that was not served before and is not in the policy."
            }
            Rule::AuthFailures => "Log-ins of one client at one service keep failing.",
            Rule::CredentialInClear => {
                "A password, token or key crossed a stream that anybody on the way can read."
            }
            Rule::TrafficSpike => "A stream carries far more than it usually does.",
            Rule::TrafficStopped => "A stream that always carried something is silent.",
        }
    }
}

/// Where an alert stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Opened,
    Repeated,
    Resolved,
}

/// A finding with a key and a life.
#[derive(Clone, Debug)]
pub struct AlertView {
    /// Stable: rule and stream.
    pub key: String,
    pub rule: Rule,
    pub severity: Severity,
    pub state: AlertState,
    /// What happened, for people, one sentence.
    pub reason: String,
    /// What to do, one sentence.
    pub remedy: String,
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Its place in the row of everything that was told: grows, over restarts too.
    pub cursor: u64,
    /// Somebody knows of it: until then it is not repeated.
    pub acknowledged: Option<Acknowledgement>,
    /// Somebody does not want to hear of it: no hook is told, and no terminal.
    pub silenced: Option<Silence>,
    /// The flow that shows it.
    pub flow: Option<Arc<FlowView>>,
    /// The listening socket that shows it.
    pub listener: Option<Arc<ListenerView>>,
}

/// A TCP socket that listens, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerView {
    pub address: SocketAddr,
    pub owner: Identity,
}

/// That somebody knows of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// User id of whoever asked.
    pub by: u32,
    pub at: Timestamp,
    pub until: Timestamp,
    pub why: String,
}

/// That nobody is to be told of alerts that fulfil a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: u64,
    pub filter: String,
    /// User id of whoever asked.
    pub by: u32,
    pub at: Timestamp,
    pub until: Timestamp,
    pub why: String,
}
