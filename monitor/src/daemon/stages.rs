//! Back-pressure, made visible: how full each stage is and was, and what found it full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hook::Hooks;
use crate::model::LossRow;
use crate::sink::SinkCounters;
use crate::status::StageView;

use super::reader::ReaderCounters;
use super::state::Keeping;

/// One bounded channel, watched.
#[derive(Debug)]
pub struct Stage {
    name: &'static str,
    capacity: u64,
    depth: AtomicU64,
    peak: AtomicU64,
    offered: AtomicU64,
    dropped: AtomicU64,
}

impl Stage {
    pub fn new(name: &'static str, capacity: usize) -> Self {
        Stage {
            name,
            capacity: capacity as u64,
            depth: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// One thing was offered and the channel now holds `depth`.
    pub fn offered(&self, depth: usize) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        self.depth.store(depth as u64, Ordering::Relaxed);
        self.peak.fetch_max(depth as u64, Ordering::Relaxed);
    }

    /// What was offered found it full.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The depth as the consumer sees it.
    pub fn observed(&self, depth: usize) {
        self.depth.store(depth as u64, Ordering::Relaxed);
        self.peak.fetch_max(depth as u64, Ordering::Relaxed);
    }

    fn view(&self) -> StageView {
        StageView {
            name: self.name.to_owned(),
            capacity: self.capacity,
            depth: self.depth.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            offered: self.offered.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Stages {
    pub reader: Arc<ReaderCounters>,
    /// Batches between reader and core.
    pub events: Stage,
    pub lookups: Stage,
    pub commands: Stage,
    pub requests: Stage,
    /// Alerts on their way into the state file.
    pub changes: Stage,
    /// What waits there for a key or a disk.
    pub keeping: Arc<Keeping>,
    pub hooks: Hooks,
    pub sink: Arc<SinkCounters>,
    pub sink_capacity: usize,
}

impl Stages {
    pub fn views(&self) -> Vec<StageView> {
        let read = self.reader.read.load(Ordering::Relaxed);
        let undecodable = self.reader.undecodable.load(Ordering::Relaxed);
        let (offered, lost) = (self.sink.offered(), self.sink.lost());
        let sink = StageView {
            name: "sink".to_owned(),
            capacity: self.sink_capacity as u64,
            depth: offered.saturating_sub(self.sink.delivered() + lost),
            peak: 0,
            offered,
            dropped: lost,
        };
        let mut views = vec![
            StageView {
                name: "reader".to_owned(),
                capacity: super::reader::BATCH as u64,
                depth: 0,
                peak: 0,
                offered: read,
                dropped: undecodable,
            },
            self.events.view(),
            self.lookups.view(),
            self.commands.view(),
            self.requests.view(),
            self.changes.view(),
            self.keeping.memory.view(),
            sink,
        ];
        views.extend(self.hooks.views());
        views
    }

    /// What was lost behind the kernel.
    pub fn loss_rows(&self) -> Vec<LossRow> {
        self.views()
            .into_iter()
            .filter(|view| view.dropped > 0)
            .map(|view| LossRow {
                kind: match view.name.as_str() {
                    "sink" => "record",
                    "lookups" => "lookup",
                    "commands" => "command",
                    "requests" => "request",
                    "state" | "state-memory" => "change",
                    hook if hook.starts_with("hook ") => "alert",
                    _ => "event",
                }
                .to_owned(),
                stage: view.name,
                offered: view.offered,
                delivered: view.offered.saturating_sub(view.dropped),
                lost: view.dropped,
                lost_bytes: 0,
            })
            .collect()
    }
}
