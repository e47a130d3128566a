//! Flows that go on: captures after the first bytes to their readers, what those find to the
//! detectors, and rates to theirs.

use std::hash::{BuildHasher, RandomState};

use dissect::activity::{Broker, Event as Happened};
use dissect::{End, Facts, Layer, Protection};
use foldhash::quality::RandomState as Quick;

use super::*;
use crate::alert::Change;
use crate::alert::Holder;
use crate::config;
use crate::detect::{AuthFailures, Departure, Scans, Totals, Traffic};
use crate::flows::Evidence;
use crate::model::FlowView;
use crate::status::SamplingView;
use crate::watch::{Sampling, Watch};
use roles::Doings;

/// Flows that are read on at a time; those that come when there are so many are read no further than
/// their first bytes allow.
pub(in crate::daemon) const WATCHED: usize = 65_536;

/// Bytes of messages that are not whole, held at a time over all flows.
pub(crate) const HELD: usize = 8 << 20;

/// A flow that moved bytes within this time is read on, ns.
const LATELY: u64 = 2_000_000_000;

/// Readers, and the detectors that they feed. What a flow has here, it has under its socket's cookie:
/// few flows have anything.
pub struct Watching {
    sampling: Sampling,
    pub auth_failures: AuthFailures,
    pub(super) scans: Scans,
    pub(in crate::daemon) traffic: Traffic,
    /// The key of fingerprints: drawn at the start, never told.
    key: RandomState,
    watches: HashMap<u64, Box<Watch>, Quick>,
    /// What clients asked for, where that could be read and a policy wants to know.
    doings: HashMap<u64, Doings, Quick>,
    /// Of clients that did nothing so far.
    nothing: Doings,
    /// Alerts that stay open as long as a flow does, next to those of [`Flow::holds`].
    holds: HashMap<u64, Vec<String>, Quick>,
    /// When it was last looked who may be read on.
    second_ns: u64,
    /// Flows that were to be read on.
    pub(in crate::daemon) asked: u64,
    /// Flows that found too many others.
    pub(in crate::daemon) refused: u64,
    /// Bytes held, as of the last second; and flows that had to let go of theirs.
    pub(in crate::daemon) held: usize,
    pub(in crate::daemon) cut: u64,
}

/// What was found in a flow waits for so long to be told, while it is not known whether it goes through a tunnel, ns.
const WAY_WANTED: u64 = 30_000_000_000;

/// The first look into a flow that is encrypted comes as long after its first bytes, ns.
const FIRST_GLANCE: u64 = 2_000_000_000;

impl Watching {
    pub fn new(detect: &config::Detect, sampling: &config::Sampling) -> Self {
        Watching {
            sampling: Sampling::new(sampling),
            auth_failures: AuthFailures::new(&detect.auth_failures),
            scans: Scans::new(&detect.scans),
            traffic: Traffic::new(&detect.traffic),
            key: RandomState::new(),
            watches: HashMap::default(),
            doings: HashMap::default(),
            nothing: Doings::default(),
            holds: HashMap::default(),
            second_ns: 0,
            asked: 0,
            refused: 0,
            held: 0,
            cut: 0,
        }
    }

    pub fn cost(&self) -> SamplingView {
        self.sampling.cost(self.watches.len() as u64)
    }

    /// Flows that are read on.
    pub fn watched(&self) -> usize {
        self.watches.len()
    }

    /// Connections that fail at many places.
    pub fn failed(&mut self, flow: &Arc<FlowView>, now_ns: u64) -> Vec<Finding> {
        self.scans.failed(flow, now_ns)
    }

    /// A flow is settled: its first bytes are read for what goes on in it, or before it (`layers`), and it is read on
    /// where that is worth it. Gives what the kernel is to be told, if anything. With `ended`, no more will come.
    pub fn begin(
        &mut self,
        flow: &Flow,
        evidence: &Evidence,
        layers: &[Layer],
        limit: u32,
        ended: bool,
    ) -> Option<Decision> {
        let settle = Some(Decision { action: decision::SETTLE, ..Decision::default() });
        let (protection, now_ns) = (flow.facts.protection, flow.captured_ns);
        let Some((client, server, midstream)) = evidence.first_bytes() else { return settle };
        let in_the_clear = matches!(protection, Protection::Plaintext(_));
        if !in_the_clear && layers.is_empty() {
            return settle;
        }
        let fingerprint = |bytes: &[u8]| self.key.hash_one(bytes);
        let sampling = &mut self.sampling;
        let first = (client, server);
        let spoken = (protection, layers);
        let watch = Watch::plaintext(spoken, asked(flow), first, midstream, limit, sampling, &fingerprint);
        let watch = watch.filter(|watch| in_the_clear || watch.has_found());
        let Some(mut watch) = watch else { return settle };
        self.asked += 1;
        if self.watches.len() >= WATCHED {
            self.refused += 1;
            return settle;
        }
        let wanted = if ended || watch.is_done() {
            watch.pause(now_ns);
            settle
        } else {
            watch.begin(sampling, now_ns)
        };
        self.watches.insert(flow.cookie(), Box::new(watch));
        wanted
    }

    /// What the client of a flow was seen to do, and whether that is all that it did.
    pub(super) fn seen(&self, flow: &Flow) -> Option<(&Doings, bool)> {
        let cookie = flow.cookie();
        let watch = self.watches.get(&cookie);
        let doings = match self.doings.get(&cookie) {
            Some(doings) => doings,
            None => watch.filter(|watch| watch.reads_activity()).map(|_| &self.nothing)?,
        };
        Some((doings, self.is_whole(flow)))
    }

    /// Whether all that the client of a flow has sent was read. What speaks something else by now is read no more.
    fn is_whole(&self, flow: &Flow) -> bool {
        let watch = self.watches.get(&flow.cookie());
        watch.is_some_and(|watch| watch.has_read_client(flow.bytes().0))
            && flow.seen == crate::verdict::Seen::default()
    }

    /// Whether what the policy said of what the client does holds no more: more was sent than was read, or less.
    fn is_stale(&self, flow: &Flow) -> bool {
        self.doings.get(&flow.cookie()).is_some_and(|doings| doings.is_stale(self.is_whole(flow)))
    }

    /// Whether a flow is read on for what it shows.
    pub fn reads(&self, flow: &Flow) -> bool {
        self.watches.contains_key(&flow.cookie())
    }

    /// What a flow has here goes with it; the alerts that it held are given.
    pub fn forget(&mut self, flow: &Flow) -> Vec<String> {
        let cookie = flow.cookie();
        self.watches.remove(&cookie);
        self.doings.remove(&cookie);
        self.holds.remove(&cookie).unwrap_or_default()
    }
}

/// Who is asked: with the network namespace, since anybody may have an address in one of their own.
fn asked(flow: &Flow) -> Broker {
    let [_, (_, address)] = flow.ends();
    (flow.netns, address)
}

impl Core {
    /// A capture of a flow that is read on; false where it is none.
    pub(super) fn watch_capture(&mut self, id: FlowId, head: &CaptureHead, data: &[u8], now_ns: u64) -> bool {
        let Watching { sampling, key: secret, watches, .. } = &mut self.watching;
        let Some(watch) = watches.get_mut(&head.cookie) else { return false };
        let Some(mut flow) = self.table.get_mut(id) else { return false };
        let sent = head.flags & capture_flag::SENT != 0;
        let from = if flow.from_client(sent) { End::Client } else { End::Server };
        flow.heard(head.at_ns);
        let place = (head.generation, head.offset);
        let fingerprint = |bytes: &[u8]| secret.hash_one(bytes);
        let wanted = watch.capture(from, place, data, sampling, &fingerprint, now_ns);
        if let Some(plain) = watch.is_in_the_clear() {
            let facts = self.judge.share(Facts {
                protection: Protection::Plaintext(plain),
                detail: Some("it began encrypted, and goes on in the clear".to_owned()),
                ..(*flow.facts).clone()
            });
            flow.learn(facts);
            // From here on it is read like any other in the clear.
            let nothing: (&[u8], &[u8]) = (&[], &[]);
            let clear = Protection::Plaintext(plain);
            match Watch::plaintext((clear, &[]), asked(&flow), nothing, true, 0, sampling, &fingerprint) {
                Some(mut reader) => {
                    reader.pause(now_ns);
                    **watch = reader;
                }
                None => drop(watches.remove(&head.cookie)),
            }
        } else {
            if let Some(facts) = flow.facts.renegotiated(|| watch.renegotiates()) {
                flow.learn(self.judge.share(facts));
            }
            if watch.has_glanced() {
                flow.captured_ns = now_ns;
                watches.remove(&head.cookie);
            }
        }
        let key = flow.key();
        drop(flow);
        if let Some(decision) = wanted {
            self.out.commands.push(Command::Decide { key, decision });
        }
        self.advance(id, now_ns);
        true
    }

    /// Looks into a flow that was encrypted when it was last looked at, if that is a while ago.
    pub(super) fn glance(&mut self, id: FlowId, now_ns: u64) {
        if self.table.get(id).is_some_and(|flow| flow.evidence().is_some()) {
            // One end goes on beyond what is captured, the other has been silent since the handshake.
            self.inspect(id, true);
            self.advance(id, now_ns);
        }
        let Watching { sampling, watches, .. } = &mut self.watching;
        let Some(flow) = self.table.get(id) else { return };
        if watches.len() >= WATCHED || watches.contains_key(&flow.cookie()) {
            return;
        }
        if let Some((watch, decision)) = Watch::encrypted(sampling, now_ns) {
            watches.insert(flow.cookie(), Box::new(watch));
            self.out.commands.push(Command::Decide { key: flow.key(), decision });
        }
    }

    /// Whether [`Core::glance`] is to look into it: after two seconds first, then each time it has lasted as long
    /// again, and `sampling.encrypted_every_s` apart at most.
    pub(super) fn is_to_be_glanced_at(sampling: &config::Sampling, flow: &Flow, now_ns: u64) -> bool {
        let most_ns = u64::from(sampling.encrypted_every_s) * 1_000_000_000;
        let age_ns = flow.captured_ns.saturating_sub(flow.opened_ns);
        let every_ns = age_ns.max(FIRST_GLANCE).min(most_ns);
        every_ns > 0
            && (flow.settled || flow.facts.tls.is_some())
            && flow.transport == Transport::Tcp
            && matches!(flow.facts.protection, Protection::Encrypted(_))
            && now_ns.saturating_sub(flow.captured_ns) >= every_ns
            && now_ns.saturating_sub(flow.last_ns()) < LATELY
            && !flow.is_over()
    }

    /// Which way the packets of a flow go is not known, and what was found in it has waited for that for too long.
    pub(super) fn has_waited_for_its_way(watching: &Watching, flow: &Flow, now_ns: u64) -> bool {
        flow.marks.has(Marks::WAY_UNKNOWN)
            && now_ns.saturating_sub(flow.opened_ns) >= WAY_WANTED
            && watching.reads(flow)
    }

    /// Takes what was found in a flow that has its place in a stream.
    pub(super) fn harvest(&mut self, id: FlowId, now_ns: u64) {
        if self.watching.watches.is_empty() {
            return;
        }
        let Some(flow) = self.table.get(id) else { return };
        // Within a tunnel, a secret is not in the clear.
        let awaits_way = flow.marks.has(Marks::WAY_UNKNOWN)
            && !flow.is_over()
            && now_ns.saturating_sub(flow.opened_ns) < WAY_WANTED;
        drop(flow);
        if !awaits_way {
            self.harvest_now(id, now_ns);
        }
    }

    /// The same, whether it is known or not which way its packets go.
    pub(super) fn harvest_now(&mut self, id: FlowId, now_ns: u64) {
        let Some(flow) = self.table.get(id) else { return };
        let cookie = flow.cookie();
        let Some(watch) = self.watching.watches.get_mut(&cookie) else { return };
        if !flow.assigned {
            return;
        }
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else {
            // The other end of the connection stands for it.
            let over = flow.is_over();
            drop(flow);
            if watch.reads_activity() {
                self.watching.watches.remove(&cookie);
                if !over {
                    self.settle(id);
                }
            }
            return;
        };
        // Of an end that nobody saw it is not known how much came before it.
        if flow.is_over() && !flow.seen.end_concluded {
            watch.end(flow.bytes());
        }
        let mut happened = watch.take();
        if watch.is_done() {
            self.watching.watches.remove(&cookie);
        }
        let asks = !self.policy.is_empty();
        if !asks {
            happened.retain(|event| !matches!(event, Happened::Operation(_)));
        }
        let is_stale = self.watching.is_stale(&flow);
        if happened.is_empty() {
            let over = flow.is_over();
            drop(flow);
            if is_stale || over && self.policy.wants().facts {
                // All that it has sent is known only now.
                self.hold_against_roles(id, now_ns);
            }
            return;
        }
        let subject = stream.subject.clone();
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        let is_way_unknown = flow.marks.has(Marks::WAY_UNKNOWN);
        drop(flow);
        let (operations, happened): (Vec<_>, Vec<_>) =
            happened.into_iter().partition(|event| matches!(event, Happened::Operation(_)));
        let mut did_more = false;
        for event in operations {
            if let Happened::Operation(operation) = event {
                did_more |= self.watching.doings.entry(cookie).or_default().add(operation);
            }
        }
        let findings = self.found_in(&view, &subject, happened, is_way_unknown, now_ns);
        for (finding, holds) in findings {
            let alert = finding.key();
            let mut hold = false;
            if holds {
                let held = self.watching.holds.entry(cookie).or_default();
                hold = !held.contains(&alert);
                if hold {
                    held.push(alert);
                }
            }
            self.tell(finding, hold.then_some(Holder::Flow(id)), now_ns);
        }
        if did_more || is_stale {
            self.hold_against_roles(id, now_ns);
        }
    }

    /// What log-ins and secrets in a flow come to, and whether it holds the alert.
    fn found_in(
        &mut self,
        view: &Arc<FlowView>,
        subject: &str,
        happened: Vec<Happened>,
        is_way_unknown: bool,
        now_ns: u64,
    ) -> Vec<(Finding, bool)> {
        let now_s = self.clock.wall(now_ns).as_second();
        let loopback = self.settings.loopback_alerts;
        let mut findings = Vec::new();
        for event in happened {
            match event {
                Happened::Operation(_) => {}
                Happened::Authentication(answer) => {
                    let found = self.watching.auth_failures.answered(view, subject, &answer, now_ns);
                    findings.extend(found.map(|finding| (finding, false)));
                }
                Happened::Credential(credential) => {
                    let found = detect::credential_in_clear(view, subject, &credential, now_s, loopback);
                    let found = found.map(|mut found| {
                        if is_way_unknown {
                            found.reason += "; whether it goes through a tunnel is not known";
                        }
                        found
                    });
                    findings.extend(found.map(|finding| (finding, true)));
                }
            }
        }
        findings
    }

    /// A flow that is not in the table any more is let go: what was found in it, and waited, is told now.
    pub(super) fn harvest_last(&mut self, flow: &Flow, now_ns: u64) {
        let Some(watch) = self.watching.watches.get_mut(&flow.cookie()) else { return };
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else { return };
        let (happened, subject) = (watch.take(), stream.subject.clone());
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        let is_way_unknown = flow.marks.has(Marks::WAY_UNKNOWN);
        for (finding, _) in self.found_in(&view, &subject, happened, is_way_unknown, now_ns) {
            self.tell(finding, None, now_ns);
        }
    }

    /// What a client did is new: it is judged by it.
    fn hold_against_roles(&mut self, id: FlowId, now_ns: u64) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        let seen = self.watching.seen(&flow);
        let decision = roles::decide(&mut self.decisions, &self.policy, &self.names, &flow, seen);
        if flow.decision.as_ref() == Some(&decision) {
            return;
        }
        flow.decision = Some(decision);
        let changed = flow.judge(&mut self.judge);
        self.sums.account(&mut self.streams, &mut flow, changed);
        drop(flow);
        self.detect(id, now_ns);
    }

    /// Once a second: who may be read on, and how fast streams are.
    pub(super) fn watch_on(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.watching.second_ns) < PATIENCE {
            return;
        }
        self.watching.second_ns = now_ns;
        let Watching { sampling, key: secret, watches, held, cut, .. } = &mut self.watching;
        let fingerprint = |bytes: &[u8]| secret.hash_one(bytes);
        // What comes in a second is bounded by the rate of all flows together.
        let too_many = *held > HELD;
        *held = 0;
        watches.retain(|cookie, watch| {
            let key = FlowKey { cookie: *cookie, ..FlowKey::default() };
            let Some((_, mut flow)) = self.table.find_mut(&key) else { return false };
            let holds = watch.held();
            let decision = if too_many && holds > 0 {
                *cut += 1;
                Some(watch.let_go(sampling, now_ns))
            } else {
                *held += holds;
                let active = now_ns.saturating_sub(flow.last_ns()) < LATELY;
                watch.tick(active, sampling, &fingerprint, now_ns)
            };
            if let Some(decision) = decision {
                self.out.commands.push(Command::Decide { key, decision });
            }
            if watch.has_glanced() {
                flow.captured_ns = now_ns;
                return false;
            }
            true
        });
        if self.watching.traffic.is_due(now_ns) {
            self.rates(now_ns);
        }
        self.expire_silences(now_ns);
        self.end_throttles(now_ns);
    }

    fn rates(&mut self, now_ns: u64) {
        let totals = self.streams.iter().map(|stream| {
            // What it took over came when it came.
            let before = stream.taken_over;
            let totals = Totals {
                flows: stream.flows - before.flows,
                bytes: stream.client_bytes + stream.server_bytes - before.bytes,
                failures: stream.failed - before.failed,
                open: stream.open,
            };
            (stream.subject.to_string(), totals)
        });
        for departure in self.watching.traffic.interval(totals, now_ns, self.clock.wall(now_ns)) {
            match departure {
                Departure::Usual(alert) => self.alerts.release(&alert, Holder::Detector, now_ns),
                // Held until the detector says that it is usual again.
                Departure::Begins(finding) => self.tell(finding, Some(Holder::Detector), now_ns),
                Departure::GoesOn(finding) => self.tell(finding, None, now_ns),
            }
        }
        self.keep_baselines(now_ns);
    }

    /// Has the past of streams kept over a restart.
    fn keep_baselines(&mut self, now_ns: u64) {
        let baselines = self.watching.traffic.take_baselines(self.clock.wall(now_ns));
        self.out.changes.extend(baselines.into_iter().map(Change::Baseline));
    }

    /// The end: all that has changed.
    pub(super) fn keep_all_baselines(&mut self, now_ns: u64) {
        self.watching.traffic.keep_all();
        self.keep_baselines(now_ns);
    }
}
