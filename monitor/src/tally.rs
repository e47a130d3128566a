//! What a stage was offered, what it passed on and what it lost, by kind. `offered - delivered - lost` is
//! what waits in it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::LossRow;

/// One kind's counts.
#[derive(Debug, Default)]
pub struct Tally {
    offered: AtomicU64,
    delivered: AtomicU64,
    lost: AtomicU64,
    lost_bytes: AtomicU64,
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

    pub fn offer(&self, count: u64) {
        self.offered.fetch_add(count, Relaxed);
    }

    pub fn deliver(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
    }

    pub fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Relaxed);
    }

    /// One was delivered, or is lost.
    pub fn settle_one(&self, is_delivered: bool) {
        if is_delivered { self.deliver(1) } else { self.lose(1) }
    }

    /// So many bytes of what was lost, where that can be told.
    pub fn lose_bytes(&self, bytes: u64) {
        self.lost_bytes.fetch_add(bytes, Relaxed);
    }

    /// What waits was delivered, or is lost: as `how` says.
    pub fn settle(&self, how: fn(&Tally, u64)) {
        how(self, self.offered().saturating_sub(self.delivered() + self.lost()));
    }

    /// For `status` and loss records. What still waits is in neither `delivered` nor `lost`, so it is left
    /// out of `offered` too.
    pub fn row(&self, stage: &str, kind: &str) -> LossRow {
        let (delivered, lost) = (self.delivered(), self.lost());
        LossRow {
            stage: stage.to_owned(),
            kind: kind.to_owned(),
            offered: delivered + lost,
            delivered,
            lost,
            lost_bytes: self.lost_bytes.load(Relaxed),
        }
    }
}

/// The counts of some kinds.
#[derive(Debug)]
pub struct Tallies {
    kinds: &'static [&'static str],
    tallies: Box<[Tally]>,
}

impl Tallies {
    pub fn new(kinds: &'static [&'static str]) -> Self {
        Tallies { kinds, tallies: kinds.iter().map(|_| Tally::default()).collect() }
    }

    /// The counts of the `kind`th; of the last, where there are not so many.
    pub fn of(&self, kind: usize) -> &Tally {
        &self.tallies[kind.min(self.tallies.len() - 1)]
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

    /// A row each, of those that there was anything of.
    pub fn rows(&self, stage: &str) -> Vec<LossRow> {
        let rows = self.kinds.iter().zip(&self.tallies).map(|(kind, tally)| tally.row(stage, kind));
        rows.filter(|row| row.offered > 0).collect()
    }
}
