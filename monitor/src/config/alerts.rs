//! The life of alerts, where they are kept, and who is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::Severity;

/// The life of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Seconds after which an alert that still holds is written again.
    pub repeat_every_s: u32,
    /// Seconds without a finding after which an alert is resolved.
    pub resolve_after_s: u32,
    /// Whether plaintext that never leaves the host is an alert.
    pub loopback: bool,
    /// The file in which alerts outlive the daemon; `None`: `/var/lib/streamwatch/state.redb`, or beside
    /// the API's socket where that is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Who is told of alerts.
    pub hooks: Vec<Hook>,
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts { repeat_every_s: 300, resolve_after_s: 300, loopback: false, state: None, hooks: Vec::new() }
    }
}

/// One that is told of alerts; exactly one of `command`, `webhook` and `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hook {
    /// Program and arguments; the record is its standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The record is posted there, as JSON; `https` wants a certificate that can be verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Certificates (PEM) by which the webhook's is verified; `None`: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A line on standard error.
    pub log: bool,
    /// From this severity on.
    pub severity: Severity,
    /// How long one delivery may take.
    pub timeout_s: u32,
    /// Alerts that wait; what finds it full is counted.
    pub queue: u32,
}

impl Default for Hook {
    fn default() -> Self {
        Hook {
            command: None,
            webhook: None,
            ca: None,
            log: false,
            severity: Severity::Low,
            timeout_s: 10,
            queue: 256,
        }
    }
}
