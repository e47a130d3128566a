//! Who has room in the table of alerts, and what gives way where there is none.

use std::sync::Arc;

use jiff::Timestamp;

use super::parties::Parties;
use super::{Alert, Alerts, HELD, OWN, view};
use crate::alert::Change;
use crate::model::{AlertState, AlertView, Rule, Severity};

impl Alerts {
    /// Whether a party may have another alert: as many as are free, so that a noisy one leaves room. What is
    /// about the monitor itself is nobody's noise.
    pub(super) fn has_room(&self, rule: Rule, party: &str) -> bool {
        if is_own(rule) {
            return self.alerts.len() < HELD;
        }
        self.parties.count(party) < (HELD - OWN).saturating_sub(self.alerts.len())
    }

    /// Of a party that may have no more, the least severe alert gives way to a worse one, the oldest of those first;
    /// one that somebody knows of does not. Whoever was told of it is told that it is not held any more. False: all are
    /// as bad.
    pub(super) fn gives_up(&mut self, party: &str, severity: Severity) -> bool {
        let known = |key: &&String| self.alerts.get(*key).is_some_and(|alert| alert.acknowledged.is_some());
        let Some(key) = self.parties.less_severe(party, severity).find(|key| !known(key)).cloned() else {
            return false;
        };
        let Some(alert) = self.alerts.remove(&key) else { return false };
        self.parties.remove(&alert.party, (alert.severity, alert.number));
        self.given_up += 1;
        self.stale.remove(&key);
        self.changes.push(Change::Closed(key.clone()));
        self.gone.push((key, alert));
        true
    }

    /// Those that were given up, as they are told: under the cursors of now, since the row is told in their order.
    pub(super) fn tell_gone(&mut self, now: Timestamp) -> Vec<AlertView> {
        let gone = std::mem::take(&mut self.gone).into_iter();
        // What was opened again meanwhile is open.
        let over = gone.filter(|(key, _)| !self.alerts.contains_key(key)).collect::<Vec<_>>();
        let tell = |(key, mut alert): (String, Alert)| {
            alert.cursor = self.journal.next(now);
            alert.reason =
                format!("given up for a worse one, since there is no room for more: {}", alert.reason);
            view(&key, &alert, AlertState::Resolved)
        };
        over.into_iter().map(tell).collect()
    }

    pub(super) fn forget(&mut self, mut gone: impl FnMut(&str, &Alert) -> bool) {
        let parties = &mut self.parties;
        self.alerts.retain(|key, alert| {
            let goes = gone(key, alert);
            if goes {
                parties.remove(&alert.party, (alert.severity, alert.number));
            }
            !goes
        });
    }

    pub(super) fn put(&mut self, key: String, mut alert: Alert) {
        self.numbers += 1;
        alert.number = self.numbers;
        if !is_own(alert.rule) {
            self.parties.add(alert.party.clone(), (alert.severity, alert.number), key.clone());
        }
        if let Some(before) = self.alerts.insert(key, alert) {
            self.parties.remove(&before.party, (before.severity, before.number));
        }
    }
}

impl Alert {
    /// It is so severe from now on, and of this party.
    pub(super) fn becomes(&mut self, parties: &mut Parties, key: &str, severity: Severity, party: Arc<str>) {
        if !is_own(self.rule) && (self.severity, &self.party) != (severity, &party) {
            parties.remove(&self.party, (self.severity, self.number));
            parties.add(party.clone(), (severity, self.number), key.to_owned());
        }
        (self.severity, self.party) = (severity, party);
    }
}

/// What the monitor finds of itself is nobody's.
fn is_own(rule: Rule) -> bool {
    matches!(rule, Rule::MonitorTampered | Rule::EvidenceLost)
}
