//! What the sink was offered, delivered and lost, by kind of record.

use crate::model::{LossRow, Record};
use crate::tally::{Tallies, Tally};

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

    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Flow => "flow",
            Kind::Alert => "alert",
            Kind::Loss => "loss",
            Kind::Throttle => "throttle",
        }
    }
}

/// Counts of all kinds, shared by the sender, the writing thread and `status`.
#[derive(Debug)]
pub struct SinkCounters {
    tallies: Tallies,
}

impl Default for SinkCounters {
    fn default() -> Self {
        const NAMES: [&str; Kind::ALL.len()] = {
            let mut names = [""; Kind::ALL.len()];
            let mut kind = 0;
            while kind < Kind::ALL.len() {
                names[kind] = Kind::ALL[kind].as_str();
                kind += 1;
            }
            names
        };
        SinkCounters { tallies: Tallies::new(&NAMES) }
    }
}

impl SinkCounters {
    pub fn of(&self, kind: Kind) -> &Tally {
        self.tallies.of(kind as usize)
    }

    /// Over all kinds.
    pub fn offered(&self) -> u64 {
        self.tallies.offered()
    }

    /// Over all kinds.
    pub fn delivered(&self) -> u64 {
        self.tallies.delivered()
    }

    /// Over all kinds.
    pub fn lost(&self) -> u64 {
        self.tallies.lost()
    }

    /// One row a kind, for `status` and loss records.
    pub fn rows(&self) -> Vec<LossRow> {
        self.tallies.rows("sink")
    }

    /// Nothing more is delivered: what waits is lost.
    pub(super) fn close(&self) {
        Kind::ALL.into_iter().for_each(|kind| self.of(kind).settle(Tally::lose));
    }
}
