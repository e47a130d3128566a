//! Findings to alerts: one key, opened once, repeated at a bounded rate, resolved when the condition
//! is gone and has been for a while, opened again. Pure: the clock is an argument.
//!
//! What is told has a place in a row ([`Rest`] of which can be asked for); what must outlive the daemon
//! is given out as [`Change`]s. An alert that somebody acknowledged is not repeated until then, unless it
//! gets worse.

mod journal;
mod parties;
mod room;
mod saved;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::quality::RandomState;
use jiff::Timestamp;

pub use journal::{KEPT, Rest};
pub use saved::{Change, Saved, SavedAlert};

use crate::detect::Finding;
use crate::flows::FlowId;
use crate::model::{Acknowledgement, AlertState, AlertView, FlowView, ListenerView, Rule, Severity};
use journal::Journal;
use parties::Parties;

/// Alerts held at a time.
pub const HELD: usize = 16_384;

/// Of those, for what the monitor finds of itself, whatever others fill.
const OWN: usize = 64;

/// Counts of open alerts are kept as often as this, ns; what is told is kept at once.
const KEEP_EVERY: u64 = 5_000_000_000;

/// What an open alert shows (its reason, and the flow behind it) is of the last of the worst, and at most
/// this much older than the last one that came, ns.
const SHOWN_FOR: u64 = 1_000_000_000;

/// Who keeps an alert open: it is not resolved before each of them lets it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A flow that shows the condition.
    Flow(FlowId),
    /// The detector itself, which says when it is over.
    Detector,
}

#[derive(Debug)]
struct Alert {
    rule: Rule,
    severity: Severity,
    reason: String,
    remedy: String,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    last_ns: u64,
    told_ns: u64,
    /// The next finding is told, however lately the last one was.
    news: bool,
    /// When what it shows was found.
    shown_ns: u64,
    /// Who shows the condition still.
    holders: HashSet<Holder, RandomState>,
    resolved: bool,
    cursor: u64,
    acknowledged: Option<Acknowledgement>,
    flow: Option<Arc<FlowView>>,
    listener: Option<Arc<ListenerView>>,
    /// Who of this host it is about; empty: nobody in particular.
    party: Arc<str>,
    /// As the how manieth it was opened.
    number: u64,
}

/// All alerts, open and lately resolved.
#[derive(Debug)]
pub struct Alerts {
    alerts: HashMap<String, Alert, RandomState>,
    /// What each party of this host has: one may have as many as there is room for others.
    parties: Parties,
    /// Alerts ever put here.
    numbers: u64,
    /// Those that were given up for worse ones, and are still to be told.
    gone: Vec<(String, Alert)>,
    journal: Journal,
    changes: Vec<Change>,
    /// Some are resolved, and could go.
    some_resolved: bool,
    /// Open alerts whose counts have changed since they were kept.
    stale: HashSet<String, RandomState>,
    kept_ns: u64,
    repeat_ns: u64,
    resolve_ns: u64,
    /// Alerts ever opened.
    pub raised: u64,
    /// Findings that came.
    pub found: u64,
    /// Findings that found the book full.
    pub refused: u64,
    /// Open alerts that gave way to worse ones.
    pub given_up: u64,
}

impl Alerts {
    pub fn new(repeat_every_s: u32, resolve_after_s: u32) -> Self {
        Alerts {
            alerts: HashMap::default(),
            parties: Parties::default(),
            numbers: 0,
            gone: Vec::new(),
            journal: Journal::default(),
            changes: Vec::new(),
            some_resolved: false,
            stale: HashSet::default(),
            kept_ns: 0,
            repeat_ns: u64::from(repeat_every_s) * 1_000_000_000,
            resolve_ns: u64::from(resolve_after_s) * 1_000_000_000,
            raised: 0,
            found: 0,
            refused: 0,
            given_up: 0,
        }
    }

    /// Takes over what was kept. What was open is open still, and is resolved like any other when it is
    /// not found again. What was opened meanwhile, because this comes late, is put together with it, and
    /// given out to be kept.
    pub fn restore(&mut self, open: Vec<SavedAlert>, told: Vec<SavedAlert>, now_ns: u64) {
        let late = !self.alerts.is_empty();
        self.journal.restore(told.into_iter().map(|told| Arc::new(told.view())).collect());
        for (place, open) in open.into_iter().enumerate() {
            let key = open.key.clone();
            if place >= HELD - OWN && !self.alerts.contains_key(&key) {
                // What is not held is resolved by nobody: it is found again, or is over.
                self.changes.push(Change::Closed(key));
                continue;
            }
            if let Some(alert) = self.alerts.get_mut(&open.key).filter(|alert| !alert.resolved) {
                alert.count = alert.count.saturating_add(open.count);
                alert.first = alert.first.min(open.first_seen);
                if open.severity > alert.severity {
                    alert.becomes(&mut self.parties, &key, open.severity, alert.party.clone());
                    (alert.reason, alert.remedy) = (open.reason, open.remedy);
                }
                if open.severity >= alert.severity && alert.acknowledged.is_none() {
                    alert.acknowledged = open.acknowledged;
                }
                self.keep(&key);
                continue;
            }
            let alert = Alert {
                rule: open.rule,
                severity: open.severity,
                reason: open.reason,
                remedy: open.remedy,
                count: open.count,
                first: open.first_seen,
                last: open.last_seen,
                last_ns: now_ns,
                told_ns: now_ns,
                news: false,
                shown_ns: now_ns,
                holders: HashSet::default(),
                resolved: false,
                cursor: open.cursor,
                acknowledged: open.acknowledged,
                flow: None,
                listener: None,
                party: Arc::default(),
                number: 0,
            };
            self.put(open.key, alert);
            if late {
                self.keep(&key);
            }
        }
    }

    /// Has an alert written down as it stands.
    fn keep(&mut self, key: &str) {
        self.stale.remove(key);
        if let Some(alert) = self.alerts.get(key).filter(|alert| !alert.resolved) {
            self.changes.push(Change::Open(SavedAlert::of(&view(key, alert, state_of(alert)))));
        }
    }

    /// The end: counts that have changed since they were written down.
    pub fn keep_all(&mut self) {
        for key in std::mem::take(&mut self.stale) {
            self.keep(&key);
        }
    }

    /// Takes a finding; returns the alert where it is to be told. With `hold`, the alert stays open
    /// until [`Alerts::release`] by the same.
    pub fn find(
        &mut self,
        finding: Finding,
        hold: Option<Holder>,
        now_ns: u64,
        wall: impl Fn(u64) -> Timestamp,
    ) -> Option<AlertView> {
        self.found += 1;
        let key = finding.key();
        let known = self.alerts.get(&key).map(|alert| alert.party.clone());
        // What was kept has no party until it is found again.
        let party = known.clone().filter(|party| !party.is_empty()).unwrap_or_else(|| party_of(&finding));
        if known.is_none() && !self.has_room(finding.rule, &party) {
            if std::mem::take(&mut self.some_resolved) {
                self.forget(|_, alert| alert.resolved);
            }
            if !self.has_room(finding.rule, &party) && !self.gives_up(&party, finding.severity) {
                self.refused += 1;
                return None;
            }
        }
        let now = wall(now_ns);
        if let Some(alert) = self.alerts.get_mut(&key).filter(|alert| !alert.resolved) {
            alert.count += 1;
            (alert.last, alert.last_ns) = (now, now_ns);
            alert.holders.extend(hold);
            let worse = finding.severity > alert.severity;
            // What is told is the worst of what was found.
            alert.becomes(&mut self.parties, &key, finding.severity.max(alert.severity), party);
            if finding.severity >= alert.severity {
                alert.shown_ns = now_ns;
                (alert.reason, alert.remedy) = (finding.reason, finding.remedy);
                (alert.flow, alert.listener) = (finding.flow, finding.listener);
            }
            if worse || alert.acknowledged.as_ref().is_some_and(|known| known.until <= now) {
                alert.acknowledged = None;
            }
            let due = std::mem::take(&mut alert.news)
                || self.repeat_ns > 0 && now_ns.saturating_sub(alert.told_ns) >= self.repeat_ns;
            if !worse && (!due || alert.acknowledged.is_some()) {
                self.stale.insert(key);
                return None;
            }
            alert.told_ns = now_ns;
            return self.told(&key, AlertState::Repeated, now);
        }
        self.raised += 1;
        let alert = Alert {
            rule: finding.rule,
            severity: finding.severity,
            reason: finding.reason,
            remedy: finding.remedy,
            count: 1,
            first: now,
            last: now,
            last_ns: now_ns,
            told_ns: now_ns,
            news: false,
            shown_ns: now_ns,
            holders: hold.into_iter().collect(),
            resolved: false,
            cursor: 0,
            acknowledged: None,
            flow: finding.flow,
            listener: finding.listener,
            party,
            number: 0,
        };
        self.put(key.clone(), alert);
        self.told(&key, AlertState::Opened, now)
    }

    /// What is found next under this key happened anew: it is told, also where its alert is open.
    pub fn expect_news(&mut self, key: &str) {
        if let Some(alert) = self.alerts.get_mut(key) {
            alert.news = true;
        }
    }

    /// A finding that would only be counted, because its alert is open, as bad, and was told and renewed not
    /// long ago: counted, so that it need not be put into words. False: it is for [`Alerts::find`].
    pub fn again(
        &mut self,
        key: &str,
        severity: Severity,
        holder: Holder,
        now_ns: u64,
        wall: impl Fn(u64) -> Timestamp,
    ) -> bool {
        let Some(alert) = self.alerts.get_mut(key).filter(|alert| !alert.resolved) else { return false };
        let now = wall(now_ns);
        let due = self.repeat_ns > 0 && now_ns.saturating_sub(alert.told_ns) >= self.repeat_ns;
        let shows = severity < alert.severity || now_ns.saturating_sub(alert.shown_ns) < SHOWN_FOR;
        let known_no_more = alert.acknowledged.as_ref().is_some_and(|known| known.until <= now);
        if severity > alert.severity || due || !shows || known_no_more {
            return false;
        }
        self.found += 1;
        alert.count += 1;
        (alert.last, alert.last_ns) = (now, now_ns);
        alert.holders.insert(holder);
        if !self.stale.contains(key) {
            self.stale.insert(key.to_owned());
        }
        true
    }

    /// Who held an alert open does so no more. An alert that took the place of the one that it held is
    /// left alone.
    pub fn release(&mut self, key: &str, holder: Holder, now_ns: u64) {
        if let Some(alert) = self.alerts.get_mut(key)
            && alert.holders.remove(&holder)
        {
            alert.last_ns = now_ns;
        }
    }

    /// Somebody knows of an open alert. Gives it, to be told; `None`: there is no such alert.
    pub fn acknowledge(&mut self, key: &str, known: Acknowledgement) -> Option<AlertView> {
        let now = known.at;
        let alert = self.alerts.get_mut(key).filter(|alert| !alert.resolved)?;
        alert.acknowledged = Some(known);
        let state = state_of(alert);
        self.told(key, state, now)
    }

    /// Resolves what has been quiet for long enough.
    pub fn tick(&mut self, now_ns: u64, wall: impl Fn(u64) -> Timestamp) -> Vec<AlertView> {
        let resolve_ns = self.resolve_ns;
        let quiet = |alert: &Alert| {
            !alert.resolved && alert.holders.is_empty() && now_ns.saturating_sub(alert.last_ns) >= resolve_ns
        };
        let over: Vec<String> =
            self.alerts.iter().filter(|(_, alert)| quiet(alert)).map(|(key, _)| key.clone()).collect();
        let mut told = self.tell_gone(wall(now_ns));
        for key in over {
            if let Some(alert) = self.alerts.get_mut(&key) {
                alert.resolved = true;
                alert.told_ns = now_ns;
                self.some_resolved = true;
            }
            told.extend(self.told(&key, AlertState::Resolved, wall(now_ns)));
            self.stale.remove(&key);
            self.changes.push(Change::Closed(key));
        }
        // Resolved ones stay for listings for as long again.
        self.forget(|_, alert| {
            alert.resolved && now_ns.saturating_sub(alert.told_ns) >= resolve_ns.max(60_000_000_000)
        });
        if now_ns.saturating_sub(self.kept_ns) >= KEEP_EVERY {
            self.kept_ns = now_ns;
            self.keep_all();
        }
        told
    }

    /// What is wrong now, worst first.
    pub fn open(&self) -> Vec<AlertView> {
        let mut open: Vec<AlertView> = self
            .alerts
            .iter()
            .filter(|(_, alert)| !alert.resolved)
            .map(|(key, alert)| view(key, alert, state_of(alert)))
            .collect();
        open.sort_by(|a, b| {
            b.severity.cmp(&a.severity).then(a.first_seen.cmp(&b.first_seen)).then(a.key.cmp(&b.key))
        });
        open
    }

    /// What was told after a cursor.
    pub fn after(&self, cursor: u64) -> Rest {
        self.journal.after(cursor)
    }

    /// The last cursor given.
    pub fn latest(&self) -> u64 {
        self.journal.latest()
    }

    /// Puts what was told into the row, as it went out, and has it kept.
    pub fn note(&mut self, alert: Arc<AlertView>) {
        let saved = SavedAlert::of(&alert);
        if alert.state != AlertState::Resolved {
            self.changes.push(Change::Open(saved.clone()));
        }
        self.changes.push(Change::Told(saved));
        self.journal.add(alert);
    }

    /// What is to be kept since the last time.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
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

    /// Gives an alert its next place in the row.
    fn told(&mut self, key: &str, state: AlertState, now: Timestamp) -> Option<AlertView> {
        let cursor = self.journal.next(now);
        self.stale.remove(key);
        let alert = self.alerts.get_mut(key)?;
        alert.cursor = cursor;
        Some(view(key, alert, state))
    }
}

/// Who of this host a finding is about.
fn party_of(finding: &Finding) -> Arc<str> {
    let party = match (&finding.flow, &finding.listener) {
        (Some(flow), _) => Some(flow.owner.party()),
        (None, Some(listener)) => Some(listener.owner.party()),
        (None, None) => None,
    };
    party.unwrap_or_default().into()
}

fn state_of(alert: &Alert) -> AlertState {
    if alert.count > 1 { AlertState::Repeated } else { AlertState::Opened }
}

fn view(key: &str, alert: &Alert, state: AlertState) -> AlertView {
    AlertView {
        key: key.to_owned(),
        rule: alert.rule,
        severity: alert.severity,
        state,
        reason: alert.reason.clone(),
        remedy: alert.remedy.clone(),
        count: alert.count,
        first_seen: alert.first,
        // A wall clock that was set back does not make it end before it began.
        last_seen: alert.last.max(alert.first),
        cursor: alert.cursor,
        acknowledged: alert.acknowledged.clone(),
        silenced: None,
        flow: alert.flow.clone(),
        listener: alert.listener.clone(),
    }
}

#[cfg(test)]
mod tests;
