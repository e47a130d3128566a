//! Everything that was told, in a row, so that a reader who comes back misses nothing and hears
//! nothing twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::AlertView;

/// Told alerts kept for readers who come back.
pub const KEPT: usize = 4096;

/// What was told last, by cursor.
#[derive(Debug, Default)]
pub struct Journal {
    told: VecDeque<Arc<AlertView>>,
    /// The last cursor given.
    last: u64,
    /// The greatest cursor that is no longer kept.
    gone: u64,
}

/// What a reader has not heard yet.
#[derive(Clone, Debug, Default)]
pub struct Rest {
    pub told: Vec<Arc<AlertView>>,
    /// The last cursor given: what comes later is greater.
    pub latest: u64,
    /// Something in between is no longer kept.
    pub incomplete: bool,
}

impl Journal {
    /// The next cursor: microseconds of the wall clock, so that it grows over restarts even where nothing
    /// was kept; and one more than the last where that is not enough.
    pub fn next(&mut self, now: Timestamp) -> u64 {
        let wall = u64::try_from(now.as_microsecond()).unwrap_or(0);
        self.last = wall.max(self.last + 1);
        self.last
    }

    /// Adds what was told under its cursor.
    pub fn add(&mut self, alert: Arc<AlertView>) {
        self.last = self.last.max(alert.cursor);
        if self.told.len() >= KEPT
            && let Some(oldest) = self.told.pop_front()
        {
            self.gone = oldest.cursor;
        }
        self.told.push_back(alert);
    }

    /// Adds what was told before anything that is here; what is here already stays as it is.
    pub fn restore(&mut self, told: Vec<Arc<AlertView>>) {
        let mut all: BTreeMap<u64, Arc<AlertView>> =
            told.into_iter().map(|alert| (alert.cursor, alert)).collect();
        all.extend(self.told.drain(..).map(|alert| (alert.cursor, alert)));
        for alert in all.into_values() {
            self.add(alert);
        }
    }

    pub fn latest(&self) -> u64 {
        self.last
    }

    /// What was told after a cursor.
    pub fn after(&self, cursor: u64) -> Rest {
        let from = self.told.partition_point(|alert| alert.cursor <= cursor);
        Rest {
            told: self.told.range(from..).cloned().collect(),
            latest: self.last,
            incomplete: cursor < self.gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;

    fn told(journal: &mut Journal) -> u64 {
        let cursor = journal.next(Timestamp::UNIX_EPOCH);
        journal.add(Arc::new(AlertView { cursor, ..samples::alert() }));
        cursor
    }

    #[test]
    fn a_reader_who_comes_back_misses_nothing_and_hears_nothing_twice() {
        let mut journal = Journal::default();
        let cursors: Vec<u64> = (0..10).map(|_| told(&mut journal)).collect();
        let rest = journal.after(cursors[3]);
        assert_eq!(rest.told.iter().map(|alert| alert.cursor).collect::<Vec<_>>(), cursors[4..]);
        assert_eq!((rest.latest, rest.incomplete), (cursors[9], false));
        assert!(journal.after(rest.latest).told.is_empty());
    }

    #[test]
    fn what_is_no_longer_kept_is_told_to_be_missing() {
        let mut journal = Journal::default();
        let first = told(&mut journal);
        for _ in 0..KEPT + 1 {
            told(&mut journal);
        }
        assert!(journal.after(first).incomplete);
        assert!(!journal.after(journal.latest() - 1).incomplete);
    }

    #[test]
    fn what_was_told_before_stands_before_what_was_told_since() {
        let mut before = Journal::default();
        let mut cursors: Vec<u64> = (0..3).map(|_| told(&mut before)).collect();
        let mut since = Journal { last: before.latest(), ..Journal::default() };
        cursors.push(told(&mut since));
        let all: Vec<_> = before.told.iter().chain(&since.told).cloned().collect();
        since.restore(all);
        assert_eq!(since.told.iter().map(|alert| alert.cursor).collect::<Vec<_>>(), cursors);
        assert_eq!(since.latest(), cursors[3]);
    }

    #[test]
    fn cursors_grow_over_a_restart() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let before = Journal::default().next(now);
        let later = now + std::time::Duration::from_millis(1);
        assert!(Journal::default().next(later) > before);
    }
}
