//! Alerts that are told, and what people say of them.

use jiff::SignedDuration;

use super::*;
use crate::alert::{Change, Rest, Saved};
use crate::model::{Acknowledgement, AlertView, Silence};

impl Core {
    /// Takes over what was kept by the daemon before: at the start, or late, where the key was not there.
    /// Gives how many baselines were damaged.
    pub fn restore(&mut self, saved: Saved, now_ns: u64) -> usize {
        self.alerts.restore(saved.open, saved.told, now_ns);
        if self.silences.restore(saved.silences) {
            self.out.changes.push(Change::Silences(self.silences.all()));
        }
        self.watching.traffic.restore(saved.baselines, self.clock.wall(now_ns))
    }

    /// Gives an alert to everybody who listens, and puts it into the row.
    pub(super) fn announce(&mut self, mut alert: AlertView, now_ns: u64) {
        alert.silenced = self.silences.of(&alert);
        let alert = Arc::new(alert);
        self.alerts.note(alert.clone());
        self.out.records.push(Record::Alert { alert, at: self.clock.wall(now_ns) });
    }

    /// Open alerts, as listings show them.
    pub(in crate::daemon) fn open_alerts(&self) -> Vec<Arc<AlertView>> {
        let open = self.alerts.open().into_iter();
        open.map(|alert| Arc::new(AlertView { silenced: self.silences.of(&alert), ..alert })).collect()
    }

    /// What was told after a cursor; without one, what is open.
    pub(in crate::daemon) fn rest(&self, after: Option<u64>) -> Rest {
        match after {
            Some(cursor) => self.alerts.after(cursor),
            None => Rest { told: self.open_alerts(), latest: self.alerts.latest(), incomplete: false },
        }
    }

    /// Somebody knows of an alert.
    pub(in crate::daemon) fn acknowledge(
        &mut self,
        key: &str,
        word: Word,
        now_ns: u64,
    ) -> Result<Arc<AlertView>, String> {
        let (at, until) = self.span(word.for_s, now_ns);
        let known = Acknowledgement { by: word.by, at, until, why: word.why };
        let Some(alert) = self.alerts.acknowledge(key, known) else {
            return Err(format!("no open alert has the key {key:?}"));
        };
        let told = Arc::new(alert.clone());
        self.announce(alert, now_ns);
        Ok(told)
    }

    /// Nobody is to be told of what fulfils a filter.
    pub(in crate::daemon) fn silence(
        &mut self,
        filter: String,
        word: Word,
        now_ns: u64,
    ) -> Result<Silence, String> {
        let (at, until) = self.span(word.for_s, now_ns);
        let silence = Silence { id: 0, filter, by: word.by, at, until, why: word.why };
        let added = self.silences.add(silence)?;
        self.out.changes.push(Change::Silences(self.silences.all()));
        Ok(added)
    }

    pub(in crate::daemon) fn unsilence(&mut self, id: u64) -> Result<Silence, String> {
        let removed = self.silences.remove(id).ok_or_else(|| format!("there is no silence {id}"))?;
        self.out.changes.push(Change::Silences(self.silences.all()));
        Ok(removed)
    }

    pub(in crate::daemon) fn silences(&self) -> Vec<Silence> {
        self.silences.all()
    }

    pub(super) fn expire_silences(&mut self, now_ns: u64) {
        if self.silences.expire(self.clock.wall(now_ns)) {
            self.out.changes.push(Change::Silences(self.silences.all()));
        }
    }

    fn span(&self, for_s: u64, now_ns: u64) -> (Timestamp, Timestamp) {
        let at = self.clock.wall(now_ns);
        let until = at.saturating_add(SignedDuration::from_secs(i64::try_from(for_s).unwrap_or(i64::MAX)));
        (at, until.unwrap_or(Timestamp::MAX))
    }
}
