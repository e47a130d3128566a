//! What of an alert outlives the daemon.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::detect::Baseline;
use crate::model::{Acknowledgement, AlertState, AlertView, Rule, Severity, Silence};
use crate::wire::json;

/// An alert as it is kept: without the flow that showed it, which is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAlert {
    pub key: String,
    pub rule: Rule,
    pub severity: Severity,
    pub state: AlertState,
    pub reason: String,
    pub remedy: String,
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub cursor: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced: Option<Silence>,
}

impl SavedAlert {
    pub fn of(alert: &AlertView) -> Self {
        SavedAlert {
            key: alert.key.clone(),
            rule: alert.rule,
            severity: alert.severity,
            state: alert.state,
            reason: alert.reason.clone(),
            remedy: alert.remedy.clone(),
            count: alert.count,
            first_seen: alert.first_seen,
            last_seen: alert.last_seen,
            cursor: alert.cursor,
            acknowledged: alert.acknowledged.clone(),
            silenced: alert.silenced.clone(),
        }
    }

    pub fn view(self) -> AlertView {
        AlertView {
            key: self.key,
            rule: self.rule,
            severity: self.severity,
            state: self.state,
            reason: self.reason,
            remedy: self.remedy,
            count: self.count,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            cursor: self.cursor,
            acknowledged: self.acknowledged,
            silenced: self.silenced,
            flow: None,
            listener: None,
        }
    }
}

/// Something to be kept, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// An alert that is open, as it stands.
    Open(#[serde(with = "json")] SavedAlert),
    /// It is resolved.
    Closed(String),
    /// It was told.
    Told(#[serde(with = "json")] SavedAlert),
    /// All silences there are.
    Silences(#[serde(with = "json")] Vec<Silence>),
    /// The past traffic of a stream.
    Baseline(Baseline),
}

/// What was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    #[serde(with = "json")]
    pub open: Vec<SavedAlert>,
    #[serde(with = "json")]
    pub told: Vec<SavedAlert>,
    #[serde(with = "json")]
    pub silences: Vec<Silence>,
    /// By stream, encoded.
    pub baselines: Vec<(String, Vec<u8>)>,
    /// By service, encoded: in the file of `streamwatch audit`, and in no daemon's.
    pub certificates: Vec<(String, Vec<u8>)>,
}
