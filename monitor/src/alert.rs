//! Findings to alerts: one key, opened once, repeated at a bounded rate, resolved when the condition
//! is gone. Pure: the clock is an argument.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::detect::Finding;
use crate::model::{AlertState, AlertView, FlowView, Rule, Severity};

/// Alerts held at a time.
pub const HELD: usize = 16_384;

#[derive(Debug)]
struct Alert {
    rule: Rule,
    severity: Severity,
    reason: String,
    remedy: String,
    count: u64,
    first_ns: u64,
    last_ns: u64,
    told_ns: u64,
    /// Open flows that show the condition.
    holds: u32,
    resolved: bool,
    flow: Option<Arc<FlowView>>,
}

/// All alerts, open and lately resolved.
#[derive(Debug)]
pub struct Alerts {
    alerts: HashMap<String, Alert>,
    repeat_ns: u64,
    resolve_ns: u64,
    /// Alerts ever opened.
    pub raised: u64,
    /// Findings that found the book full.
    pub refused: u64,
}

impl Alerts {
    pub fn new(repeat_every_s: u32, resolve_after_s: u32) -> Self {
        Alerts {
            alerts: HashMap::new(),
            repeat_ns: u64::from(repeat_every_s) * 1_000_000_000,
            resolve_ns: u64::from(resolve_after_s) * 1_000_000_000,
            raised: 0,
            refused: 0,
        }
    }

    /// Takes a finding; returns the alert where it is to be told. With `hold`, the alert stays open
    /// until [`Alerts::release`].
    pub fn find(
        &mut self,
        finding: Finding,
        hold: bool,
        now_ns: u64,
        wall: impl Fn(u64) -> Timestamp,
    ) -> Option<AlertView> {
        let key = finding.key();
        if !self.alerts.contains_key(&key) && self.alerts.len() >= HELD {
            self.alerts.retain(|_, alert| !alert.resolved);
            if self.alerts.len() >= HELD {
                self.refused += 1;
                return None;
            }
        }
        let fresh = self.alerts.get(&key).is_none_or(|alert| alert.resolved);
        let previous = self.alerts.remove(&key);
        let (count, first_ns, told_ns, holds, severity) = match &previous {
            Some(alert) if !fresh => (
                alert.count + 1,
                alert.first_ns,
                alert.told_ns,
                alert.holds,
                alert.severity.max(finding.severity),
            ),
            _ => (1, now_ns, now_ns, 0, finding.severity),
        };
        let worse = previous.as_ref().is_some_and(|alert| !fresh && finding.severity > alert.severity);
        let due = self.repeat_ns > 0 && now_ns.saturating_sub(told_ns) >= self.repeat_ns;
        let repeat = !fresh && (worse || due);
        // What is told is the worst of what was found.
        let finding = match previous {
            Some(alert) if !fresh && alert.severity > finding.severity => {
                Finding { reason: alert.reason, remedy: alert.remedy, flow: alert.flow, ..finding }
            }
            _ => finding,
        };
        let alert = Alert {
            rule: finding.rule,
            severity,
            reason: finding.reason,
            remedy: finding.remedy,
            count,
            first_ns,
            last_ns: now_ns,
            told_ns: if fresh || repeat { now_ns } else { told_ns },
            holds: holds + u32::from(hold),
            resolved: false,
            flow: finding.flow,
        };
        self.raised += u64::from(fresh);
        let told = (fresh || repeat).then(|| {
            let state = if fresh { AlertState::Opened } else { AlertState::Repeated };
            view(&key, &alert, state, &wall)
        });
        self.alerts.insert(key, alert);
        told
    }

    /// A flow that held an alert open has ended.
    pub fn release(&mut self, key: &str, now_ns: u64) {
        if let Some(alert) = self.alerts.get_mut(key) {
            alert.holds = alert.holds.saturating_sub(1);
            alert.last_ns = now_ns;
        }
    }

    /// Resolves what has been quiet for long enough.
    pub fn tick(&mut self, now_ns: u64, wall: impl Fn(u64) -> Timestamp) -> Vec<AlertView> {
        let mut told = Vec::new();
        let resolve_ns = self.resolve_ns;
        for (key, alert) in &mut self.alerts {
            if !alert.resolved && alert.holds == 0 && now_ns.saturating_sub(alert.last_ns) >= resolve_ns {
                alert.resolved = true;
                alert.told_ns = now_ns;
                told.push(view(key, alert, AlertState::Resolved, &wall));
            }
        }
        // Resolved ones stay for listings for as long again.
        self.alerts.retain(|_, alert| {
            !alert.resolved || now_ns.saturating_sub(alert.told_ns) < resolve_ns.max(60_000_000_000)
        });
        told
    }

    /// What is wrong now, worst first.
    pub fn open(&self, wall: impl Fn(u64) -> Timestamp) -> Vec<AlertView> {
        let mut open: Vec<AlertView> = self
            .alerts
            .iter()
            .filter(|(_, alert)| !alert.resolved)
            .map(|(key, alert)| {
                let state = if alert.count > 1 { AlertState::Repeated } else { AlertState::Opened };
                view(key, alert, state, &wall)
            })
            .collect();
        open.sort_by(|a, b| {
            b.severity.cmp(&a.severity).then(a.first_seen.cmp(&b.first_seen)).then(a.key.cmp(&b.key))
        });
        open
    }

    /// Whether this alert is open.
    pub fn is_open(&self, key: &str) -> bool {
        self.alerts.get(key).is_some_and(|alert| !alert.resolved)
    }

    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    pub fn open_count(&self) -> u64 {
        self.alerts.values().filter(|alert| !alert.resolved).count() as u64
    }
}

fn view(key: &str, alert: &Alert, state: AlertState, wall: &impl Fn(u64) -> Timestamp) -> AlertView {
    AlertView {
        key: key.to_owned(),
        rule: alert.rule,
        severity: alert.severity,
        state,
        reason: alert.reason.clone(),
        remedy: alert.remedy.clone(),
        count: alert.count,
        first_seen: wall(alert.first_ns),
        last_seen: wall(alert.last_ns),
        flow: alert.flow.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn finding() -> Finding {
        Finding {
            rule: Rule::Plaintext,
            subject: "curl → 10.0.0.2:80/tcp".into(),
            severity: Severity::High,
            reason: "r".into(),
            remedy: "m".into(),
            flow: None,
        }
    }

    fn wall(_: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn opened_once_repeated_at_a_bounded_rate_resolved_and_opened_again() {
        let mut alerts = Alerts::new(10, 30);
        assert_eq!(alerts.find(finding(), false, 0, wall).map(|a| a.state), Some(AlertState::Opened));
        for second in 1..10 {
            assert!(alerts.find(finding(), false, second * SECOND, wall).is_none());
        }
        let repeated = alerts.find(finding(), false, 10 * SECOND, wall).expect("told again");
        assert_eq!((repeated.state, repeated.count), (AlertState::Repeated, 11));
        assert!(alerts.tick(39 * SECOND, wall).is_empty());
        assert_eq!(alerts.tick(40 * SECOND, wall).len(), 1);
        assert!(alerts.tick(41 * SECOND, wall).is_empty());
        assert_eq!(
            alerts.find(finding(), false, 42 * SECOND, wall).map(|a| (a.state, a.count)),
            Some((AlertState::Opened, 1))
        );
    }

    #[test]
    fn what_gets_worse_is_told_at_once_and_the_worst_stays() {
        let mut alerts = Alerts::new(300, 300);
        alerts.find(finding(), false, 0, wall);
        let worse = Finding { severity: Severity::Critical, reason: "public".into(), ..finding() };
        let told = alerts.find(worse, false, SECOND, wall).expect("told");
        assert_eq!((told.state, told.severity, told.count), (AlertState::Repeated, Severity::Critical, 2));
        assert!(alerts.find(finding(), false, 2 * SECOND, wall).is_none());
        assert_eq!(alerts.open(wall)[0].reason, "public");
    }

    #[test]
    fn an_open_flow_holds_its_alert() {
        let mut alerts = Alerts::new(10, 30);
        alerts.find(finding(), true, 0, wall);
        assert!(alerts.tick(100 * SECOND, wall).is_empty());
        alerts.release(&finding().key(), 100 * SECOND);
        assert!(alerts.tick(129 * SECOND, wall).is_empty());
        assert_eq!(alerts.tick(130 * SECOND, wall).len(), 1);
    }
}
