//! What the sink was offered, delivered and lost, by kind of record.

use crate::model::{LossRow, Record};
use crate::tally::Tally;

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Flow,
    Alert,
    Loss,
    Throttle,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Flow, Kind::Alert, Kind::Loss, Kind::Throttle];

    pub fn of(record: &Record) -> Self {
        match record {
            Record::Flow { .. } => Kind::Flow,
            Record::Alert { .. } => Kind::Alert,
            Record::Loss(_) => Kind::Loss,
            Record::Throttle(_) => Kind::Throttle,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Flow => "flow",
            Kind::Alert => "alert",
            Kind::Loss => "loss",
            Kind::Throttle => "throttle",
        }
    }
}

/// Counts of all kinds, shared by the sender, the writing thread and `status`.
#[derive(Debug, Default)]
pub struct SinkCounters {
    tallies: [Tally; Kind::ALL.len()],
}

impl SinkCounters {
    pub fn of(&self, kind: Kind) -> &Tally {
        &self.tallies[kind as usize]
    }

    /// Over all kinds.
    pub fn offered(&self) -> u64 {
        self.tallies.iter().map(Tally::offered).sum()
    }

    /// Over all kinds.
    pub fn delivered(&self) -> u64 {
        self.tallies.iter().map(Tally::delivered).sum()
    }

    /// Over all kinds.
    pub fn lost(&self) -> u64 {
        self.tallies.iter().map(Tally::lost).sum()
    }

    /// One row a kind, for `status` and loss records.
    pub fn rows(&self) -> Vec<LossRow> {
        Kind::ALL.into_iter().map(|kind| self.of(kind).row("sink", kind.as_str())).collect()
    }

    /// Nothing more is delivered: what waits is lost.
    pub(super) fn close(&self) {
        for tally in &self.tallies {
            let waiting = tally.offered().saturating_sub(tally.delivered() + tally.lost());
            tally.lose(waiting);
        }
    }
}
