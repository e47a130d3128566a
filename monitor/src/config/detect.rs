//! Thresholds of the detectors that look at log-ins, scans and rates; and what sampling may cost.

use serde::{Deserialize, Serialize};

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
