//! What the sink was offered, delivered and lost, by kind of record.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
    untold: Mutex<Untold>,
}

/// What loss records said that were not delivered: the next one says it.
#[derive(Debug, Default)]
pub(super) struct Untold(Vec<LossRow>);

impl Untold {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One was lost that said this. To be called before it is counted: what counts the loss says this, too.
    pub fn keep(&mut self, rows: Vec<LossRow>) {
        add(&mut self.0, rows);
    }

    /// Puts it into the rows of the next one.
    pub fn say(&mut self, rows: &mut Vec<LossRow>) {
        add(rows, std::mem::take(&mut self.0));
    }
}

/// One row a stage and kind.
fn add(rows: &mut Vec<LossRow>, more: Vec<LossRow>) {
    for more in more {
        match rows.iter_mut().find(|row| row.stage == more.stage && row.kind == more.kind) {
            None => rows.push(more),
            Some(row) => {
                row.offered += more.offered;
                row.delivered += more.delivered;
                row.lost += more.lost;
                row.lost_bytes += more.lost_bytes;
            }
        }
    }
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
        SinkCounters { tallies: Tallies::new(&NAMES), untold: Mutex::default() }
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

    /// See [`super::SinkHandle::losses_are_told`].
    pub fn losses_are_told(&self) -> bool {
        let tally = self.of(Kind::Loss);
        // In this order: what a lost one said is kept before it is counted.
        tally.offered() == tally.delivered() + tally.lost() && self.untold().is_empty()
    }

    pub(super) fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is delivered: what waits is lost.
    pub(super) fn close(&self) {
        Kind::ALL.into_iter().for_each(|kind| self.of(kind).settle(Tally::lose));
    }
}
