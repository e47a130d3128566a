//! Flows that go on: captures after the first bytes to their readers, what those find to the
//! detectors, and rates to theirs.

use std::hash::{BuildHasher, RandomState};

use dissect::activity::{Event as Happened, Operation};
use dissect::{End, Facts, Protection};

use super::*;
use crate::config;
use crate::detect::{AuthFailures, Departure, Scans, Totals, Traffic};
use crate::flows::Evidence;
use crate::status::SamplingView;
use crate::watch::{Sampling, Watch};

/// Different operations of one flow that are remembered.
const OPERATIONS: usize = 64;

/// Bytes of messages that are not whole, held at a time over all flows.
pub(in crate::daemon) const HELD: usize = 64 << 20;

/// A flow that moved bytes within this time is read on, ns.
const LATELY: u64 = 2_000_000_000;

/// Readers, and the detectors that they feed.
pub struct Watching {
    sampling: Sampling,
    auth_failures: AuthFailures,
    scans: Scans,
    traffic: Traffic,
    /// The key of fingerprints: drawn at the start, never told.
    key: RandomState,
    flows: u64,
    /// Bytes held, as of the last second; and flows that had to let go of theirs.
    pub(in crate::daemon) held: usize,
    pub(in crate::daemon) cut: u64,
}

impl Watching {
    pub fn new(detect: &config::Detect, sampling: &config::Sampling) -> Self {
        Watching {
            sampling: Sampling::new(sampling),
            auth_failures: AuthFailures::new(&detect.auth_failures),
            scans: Scans::new(&detect.scans),
            traffic: Traffic::new(&detect.traffic),
            key: RandomState::new(),
            flows: 0,
            held: 0,
            cut: 0,
        }
    }

    pub fn cost(&self) -> SamplingView {
        self.sampling.cost(self.flows)
    }

    /// Connections that fail at many places.
    pub fn failed(&mut self, flow: &Arc<FlowView>, now_ns: u64) -> Vec<Finding> {
        self.scans.failed(flow, now_ns)
    }
}

impl Core {
    /// A flow is settled: its first bytes are read for what goes on in it, and it is read on where
    /// that is worth it. Gives what the kernel is to be told, if anything.
    pub(super) fn begin_watch(&mut self, key: FlowKey, evidence: &Evidence, now_ns: u64) -> Option<Decision> {
        let settle = Decision { action: decision::SETTLE, ..Decision::default() };
        let Watching { sampling, key: secret, .. } = &mut self.watching;
        let Some(flow) = self.table.get_mut(&key) else { return Some(settle) };
        let protection = flow.facts.protection;
        let mut watch = match (evidence.first_bytes(), protection) {
            (None, _) => None,
            (Some(_), Protection::Encrypted(_)) => Watch::encrypted(sampling, now_ns),
            (Some((client, server, midstream)), _) => {
                let limit = self.settings.tcp_budget;
                let fingerprint = |bytes: &[u8]| secret.hash_one(bytes);
                Watch::plaintext(protection, (client, server), midstream, limit, sampling, &fingerprint)
            }
        };
        let wanted = match &mut watch {
            Some(watch) => watch.begin(sampling, now_ns),
            None => Some(settle),
        };
        flow.watch = watch.map(Box::new);
        wanted
    }

    /// A capture of a flow that is read on; false where it is none.
    pub(super) fn watch_capture(
        &mut self,
        key: FlowKey,
        head: &CaptureHead,
        data: &[u8],
        now_ns: u64,
    ) -> bool {
        let Watching { sampling, key: secret, .. } = &mut self.watching;
        let Some(flow) = self.table.get_mut(&key) else { return false };
        let sent = head.flags & capture_flag::SENT != 0;
        let from = if flow.from_client(sent) { End::Client } else { End::Server };
        let Some(watch) = &mut flow.watch else { return false };
        flow.last_ns = flow.last_ns.max(head.at_ns);
        let place = (head.generation, head.offset);
        let fingerprint = |bytes: &[u8]| secret.hash_one(bytes);
        let wanted = watch.capture(from, place, data, sampling, &fingerprint, now_ns);
        if let Some(plain) = watch.is_in_the_clear() {
            flow.facts = Arc::new(Facts {
                protection: Protection::Plaintext(plain),
                detail: Some("it began encrypted, and goes on in the clear".to_owned()),
                ..(*flow.facts).clone()
            });
            flow.watch = None;
        }
        if let Some(decision) = wanted {
            self.out.commands.push(Command::Decide { key, decision });
        }
        self.advance(key, now_ns);
        true
    }

    /// Takes what was found in a flow that has its place in a stream.
    pub(super) fn harvest(&mut self, key: FlowKey, now_ns: u64) {
        let Some(flow) = self.table.get_mut(&key) else { return };
        let Some(watch) = &mut flow.watch else { return };
        if !flow.assigned {
            return;
        }
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else {
            // The other end of the connection stands for it.
            if flow.watch.take().is_some_and(|watch| watch.reads_activity()) && !flow.is_over() {
                self.settle(key);
            }
            return;
        };
        let happened = watch.take();
        if happened.is_empty() {
            return;
        }
        let (subject, clock) = (stream.key.to_string(), self.clock);
        let view = Arc::new(flow.view(&self.boot_id, now_ns, |ns| clock.wall(ns)));
        let now_s = clock.wall(now_ns).as_second();
        let mut findings = Vec::new();
        for event in happened {
            match event {
                Happened::Operation(operation) => remember(&mut flow.operations, operation),
                Happened::Authentication(answer) => {
                    let found = self.watching.auth_failures.answered(&view, &subject, &answer, now_ns);
                    findings.extend(found.map(|finding| (finding, false)));
                }
                Happened::Credential(credential) => {
                    let loopback = self.settings.loopback_alerts;
                    let found = detect::credential_in_clear(&view, &subject, &credential, now_s, loopback);
                    findings.extend(found.map(|finding| (finding, true)));
                }
            }
        }
        for (finding, holds) in findings {
            let alert = finding.key();
            let Some(flow) = self.table.get_mut(&key) else { return };
            let hold = holds && !flow.holds.contains(&alert);
            if hold {
                flow.holds.push(alert);
            }
            self.tell(finding, hold, now_ns);
        }
    }

    /// A flow is over: what its facts tell of a log-in that cannot be read.
    pub(super) fn judge_hidden_log_ins(&mut self, flow: &Flow, now_ns: u64) {
        if flow.facts.ssh.is_none() && flow.facts.tls.is_none() {
            return;
        }
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else { return };
        let subject = stream.key.to_string();
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        if let Some(finding) = self.watching.auth_failures.ended(&view, &subject, now_ns) {
            self.tell(finding, false, now_ns);
        }
    }

    /// Once a second: who may be read on, and how fast streams are.
    pub(super) fn watch_second(&mut self, now_ns: u64) {
        let Watching { sampling, key: secret, flows, held, cut, .. } = &mut self.watching;
        sampling.second();
        // What comes in a second is bounded by the rate of all flows together.
        let too_many = *held > HELD;
        (*flows, *held) = (0, 0);
        for flow in self.table.iter_mut() {
            let active = now_ns.saturating_sub(flow.last_ns) < LATELY;
            let Some(watch) = &mut flow.watch else { continue };
            *flows += u64::from(watch.reads_activity());
            let holds = watch.held();
            if too_many && holds > 0 {
                *cut += 1;
                let decision = watch.let_go(sampling, now_ns);
                self.out.commands.push(Command::Decide { key: flow.key, decision });
                continue;
            }
            *held += holds;
            let fingerprint = |bytes: &[u8]| secret.hash_one(bytes);
            if let Some(decision) = watch.tick(active, sampling, &fingerprint, now_ns) {
                self.out.commands.push(Command::Decide { key: flow.key, decision });
            }
        }
        if self.watching.traffic.is_due(now_ns) {
            self.rates(now_ns);
        }
    }

    fn rates(&mut self, now_ns: u64) {
        let totals = self.streams.iter().map(|stream| {
            let bytes = stream.client_bytes + stream.server_bytes;
            (stream.key.to_string(), Totals { flows: stream.flows, bytes, failures: stream.failed })
        });
        for departure in self.watching.traffic.interval(totals, now_ns) {
            match departure {
                Departure::Usual(alert) => self.alerts.release(&alert, now_ns),
                Departure::Finding(finding) => {
                    // Held until the detector says that it is usual again.
                    let hold = !self.alerts.is_open(&finding.key());
                    self.tell(finding, hold, now_ns);
                }
            }
        }
    }
}

fn remember(operations: &mut Vec<Operation>, operation: Operation) {
    if operations.len() < OPERATIONS && !operations.contains(&operation) {
        operations.push(operation);
    }
}
