//! What the core answers: snapshots of what it holds.

use std::sync::Arc;

use rustix::system::uname;

use super::core::Core;
use super::stages::Stages;
use crate::api::Request;
use crate::hist::Measures;
use crate::status::{AlertCounts, FlowCounts, HistogramView, HookView, RingView, StatusView, Totals};

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct About {
    pub started_ns: u64,
    pub hooks: Vec<HookView>,
    pub ring_bytes: u64,
}

impl Core {
    /// Answers one question. Whoever asked and left is not missed.
    pub fn answer(&mut self, request: Request, about: &About, stages: &Stages, now_ns: u64) {
        match request {
            Request::Flows(reply) => drop(reply.send(self.flows(now_ns))),
            Request::Streams(reply) => {
                let wall = self.wall();
                drop(reply.send(self.streams.iter().map(|stream| Arc::new(stream.view(wall))).collect()));
            }
            Request::Alerts(reply) => {
                drop(reply.send(self.open_alerts()));
            }
            Request::AlertsAfter { after, reply } => drop(reply.send(self.rest(after))),
            Request::Acknowledge { key, word, reply } => {
                drop(reply.send(self.acknowledge(&key, word, now_ns)));
            }
            Request::Silence { filter, word, reply } => {
                drop(reply.send(self.silence(filter, word, now_ns)));
            }
            Request::Unsilence { id, reply } => drop(reply.send(self.unsilence(id))),
            Request::Silences(reply) => drop(reply.send(self.silences())),
            // Who waits for the disk is with the channels.
            Request::Kept(reply) => drop(reply.send(true)),
            Request::Histograms { reset, reply } => {
                let views = self.histogram_views();
                if reset {
                    self.reset_histograms();
                }
                drop(reply.send(views));
            }
            Request::Status(reply) => drop(reply.send(self.status(about, stages, now_ns))),
            Request::Policy(reply) => drop(reply.send(self.policy.show())),
        }
    }

    fn histogram_views(&self) -> Vec<HistogramView> {
        let mut views = self.overall.views(None);
        for stream in self.streams.iter() {
            if let Some(measures) = &stream.measures {
                views.extend(measures.views(Some(&stream.key.to_string())));
            }
        }
        views
    }

    /// Begins a new interval.
    pub fn reset_histograms(&mut self) {
        self.overall.clear();
        for stream in self.streams.iter_mut() {
            if let Some(measures) = stream.measures.as_deref_mut() {
                Measures::clear(measures);
            }
        }
    }

    /// Hooks as they were at the last look.
    fn hook_views(&self, about: &About) -> Vec<HookView> {
        let mut hooks = about.hooks.clone();
        for hook in &mut hooks {
            if let Some(tampered) = self.detached.iter().find(|tampered| tampered.attach == hook.name) {
                hook.attached = tampered.works;
                hook.detail = Some(format!("{} {}", tampered.part, tampered.what));
            }
        }
        hooks
    }

    fn status(&self, about: &About, stages: &Stages, now_ns: u64) -> StatusView {
        let loader = stages.loader.report();
        let (client_bytes, server_bytes) = self.total_bytes();
        // Those of the kernel are as of the last second, the others as of now.
        let mut loss = self.losses.rows();
        loss.retain(|row| row.stage == "kernel");
        loss.extend(self.table_losses());
        loss.extend(stages.loss_rows());
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: monitor_common::ABI_VERSION,
            kernel: uname().release().to_string_lossy().into_owned(),
            started_at: self.clock.wall(about.started_ns).to_string(),
            uptime_ns: now_ns.saturating_sub(about.started_ns),
            hooks: self.hook_views(about),
            ring: RingView { bytes: about.ring_bytes },
            stages: stages.views(),
            clients: stages.clients(),
            tables: self.table_views(),
            throttled: self.throttle_counts(),
            loss,
            flows: FlowCounts { open: self.table.len() as u64, seen: self.table.seen, failed: self.failed },
            streams: self.streams.len() as u64,
            alerts: AlertCounts { open: self.alerts.open_count(), raised: self.alerts.raised },
            totals: Totals { client_bytes, server_bytes, of_no_flow_bytes: self.losses.of_no_flow_bytes() },
            classes: self.class_bytes(),
            sampling: self.watching.cost(),
            state: loader.state,
            self_check: self.self_check_view(),
            worker: loader.worker,
            memory_bytes: loader.memory_bytes,
        }
    }
}
