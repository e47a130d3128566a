//! What the sink was offered, delivered and lost, by kind of record.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::{LossRow, Record};

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Flow,
    Alert,
    Loss,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Flow, Kind::Alert, Kind::Loss];

    pub fn of(record: &Record) -> Self {
        match record {
            Record::Flow { .. } => Kind::Flow,
            Record::Alert { .. } => Kind::Alert,
            Record::Loss(_) => Kind::Loss,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Flow => "flow",
            Kind::Alert => "alert",
            Kind::Loss => "loss",
        }
    }
}

/// One kind's counts. `offered - delivered - lost` is what still waits.
#[derive(Debug, Default)]
pub struct Tally {
    offered: AtomicU64,
    delivered: AtomicU64,
    lost: AtomicU64,
}

impl Tally {
    pub fn offered(&self) -> u64 {
        self.offered.load(Relaxed)
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(super) fn offer(&self) {
        self.offered.fetch_add(1, Relaxed);
    }

    pub(super) fn deliver(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
    }

    pub(super) fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Relaxed);
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

    /// One row a kind, for `status` and loss records. What still waits is in neither `delivered`
    /// nor `lost`, so it is left out of `offered` too.
    pub fn rows(&self) -> Vec<LossRow> {
        Kind::ALL
            .into_iter()
            .map(|kind| {
                let (delivered, lost) = (self.of(kind).delivered(), self.of(kind).lost());
                LossRow {
                    stage: "sink".into(),
                    kind: kind.as_str().into(),
                    offered: delivered + lost,
                    delivered,
                    lost,
                    lost_bytes: 0,
                }
            })
            .collect()
    }

    /// Nothing more is delivered: what waits is lost.
    pub(super) fn close(&self) {
        for tally in &self.tallies {
            let waiting = tally.offered().saturating_sub(tally.delivered() + tally.lost());
            tally.lose(waiting);
        }
    }
}
