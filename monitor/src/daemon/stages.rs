//! Back-pressure, made visible: how full each stage is and was, and what found it full. In every stage,
//! and for every kind: offered = delivered + lost, once nothing waits in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::api;
use crate::model::LossRow;
use crate::sink::SinkCounters;
use crate::status::{ClientView, StageView};
use crate::tally::{Tallies, Tally};

use super::core::{Command, Lookup};
use super::link::Report;
use super::reader::ReaderCounters;

/// What the loader looks up: the kinds of [`Lookup`], and hashes of executables that these wait for.
const LOOKS: [&str; Lookup::KINDS.len() + 1] = {
    let mut names = [HASH; Lookup::KINDS.len() + 1];
    let mut kind = 0;
    while kind < Lookup::KINDS.len() {
        names[kind] = Lookup::KINDS[kind];
        kind += 1;
    }
    names
};

/// See [`LOOKS`].
pub const HASH: &str = "hash";

/// One bounded channel, watched.
#[derive(Debug)]
pub struct Stage {
    name: &'static str,
    capacity: u64,
    depth: AtomicU64,
    peak: AtomicU64,
    tallies: Tallies,
}

impl Stage {
    /// `kinds` of what goes through it.
    fn new(name: &'static str, capacity: usize, kinds: &'static [&'static str]) -> Self {
        Stage {
            name,
            capacity: capacity as u64,
            depth: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            tallies: Tallies::new(kinds),
        }
    }

    /// Batches between reader and core; events are counted.
    pub fn events(capacity: usize) -> Arc<Self> {
        Arc::new(Stage::new("events", capacity, &super::reader::KINDS))
    }

    pub fn lookups(capacity: usize) -> Arc<Self> {
        Arc::new(Stage::new("lookups", capacity, &Lookup::KINDS))
    }

    /// Look-ups as the loader does them; what waits is for a walk over all processes.
    pub fn looks(capacity: usize) -> Arc<Self> {
        Arc::new(Stage::new("looks", capacity, &LOOKS))
    }

    /// The counts of one kind of what the loader looks up.
    pub fn look(&self, kind: &str) -> &Tally {
        self.of(LOOKS.iter().position(|it| *it == kind).unwrap_or(0))
    }

    pub fn commands(capacity: usize) -> Arc<Self> {
        Arc::new(Stage::new("commands", capacity, &Command::KINDS))
    }

    /// Alerts on their way into the state file.
    pub fn changes(capacity: usize) -> Arc<Self> {
        Arc::new(Stage::new("state", capacity, &["change"]))
    }

    /// Alerts on their way to hooks.
    pub fn alerts(capacity: usize) -> Arc<Self> {
        Arc::new(Stage::new("hooks", capacity, &["alert"]))
    }

    /// Changes of the state that wait for a key or a disk; its capacity is in bytes.
    pub fn memory(bytes: usize) -> Self {
        Stage::new("state-memory", bytes, &["change"])
    }

    /// The counts of the `kind`th.
    pub fn of(&self, kind: usize) -> &Tally {
        self.tallies.of(kind)
    }

    /// The channel holds so much.
    pub fn observed(&self, depth: usize) {
        self.depth.store(depth as u64, Ordering::Relaxed);
        self.peak.fetch_max(depth as u64, Ordering::Relaxed);
    }

    /// One row a kind.
    pub fn rows(&self) -> Vec<LossRow> {
        self.tallies.rows(self.name)
    }

    /// As `status` shows it.
    pub fn view(&self) -> StageView {
        StageView {
            name: self.name.to_owned(),
            capacity: self.capacity,
            depth: self.depth.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            offered: self.tallies.offered(),
            dropped: self.tallies.lost(),
        }
    }
}

/// What the other process said of itself last.
#[derive(Debug, Default)]
pub struct Loader {
    last: Mutex<Report>,
    /// How many there were.
    heard: AtomicU64,
}

impl Loader {
    pub fn report(&self) -> Report {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often it said something of itself.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// How many changes of the state are on the disk; `None`: none can be kept now.
    pub fn kept(&self) -> Option<u64> {
        let report = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        report.state.kept.then_some(report.kept)
    }

    pub fn set(&self, report: Report) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = report;
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
}

/// All of them.
#[derive(Debug)]
pub struct Stages {
    pub reader: Arc<ReaderCounters>,
    pub events: Arc<Stage>,
    pub lookups: Arc<Stage>,
    pub commands: Arc<Stage>,
    pub changes: Arc<Stage>,
    /// Questions, and what their askers were told of alerts.
    pub api: Arc<api::Counters>,
    pub requests_capacity: usize,
    /// Alerts for hooks, on their way to those who deliver them.
    pub alerts: Arc<Stage>,
    /// What the loader does: the state, and hooks.
    pub loader: Arc<Loader>,
    pub sink: Arc<SinkCounters>,
    pub sink_capacity: usize,
}

impl Stages {
    pub fn views(&self) -> Vec<StageView> {
        let whole = |name: &str, capacity: usize, offered: u64, delivered: u64, lost: u64| StageView {
            name: name.to_owned(),
            capacity: capacity as u64,
            depth: offered.saturating_sub(delivered + lost),
            peak: 0,
            offered,
            dropped: lost,
        };
        let (reader, sink, asked) = (&self.reader.tallies, &self.sink, &self.api.requests);
        let told = self.api.followers.total();
        let reader =
            whole("reader", super::reader::BATCH, reader.offered(), reader.delivered(), reader.lost());
        let mut views = vec![
            // What has been read and not passed on is in its hands, and no queue.
            StageView { depth: 0, ..reader },
            self.events.view(),
            self.lookups.view(),
            self.commands.view(),
            whole("requests", self.requests_capacity, asked.offered(), asked.delivered(), asked.lost()),
            self.changes.view(),
            self.alerts.view(),
            whole("sink", self.sink_capacity, sink.offered(), sink.delivered(), sink.lost()),
            whole("followers", 0, told.offered, told.delivered, told.lost),
        ];
        views.extend(self.loader.report().stages);
        views
    }

    /// The clients that wait for alerts, one by one.
    pub fn clients(&self) -> Vec<ClientView> {
        self.api.followers.views()
    }

    /// What was offered to the stages behind the kernel, delivered and lost: one row a stage and kind.
    pub fn loss_rows(&self) -> Vec<LossRow> {
        let mut rows = self.reader.tallies.rows("reader");
        for stage in [&self.events, &self.lookups, &self.commands, &self.changes, &self.alerts] {
            rows.extend(stage.rows());
        }
        rows.push(self.api.requests.row("requests", "request"));
        rows.extend(self.sink.rows());
        rows.push(self.api.followers.total());
        rows.extend(self.loader.report().rows);
        rows.retain(|row| row.offered > 0);
        rows
    }
}
