//! The core: events and identities in; records, commands and look-ups out. One thread, no I/O, no
//! clock of its own.
//!
//! Must never: block, or grow with the traffic beyond its configured tables.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use monitor_common::{
    CaptureHead, Counters, Decision, FlowEvent, Kind, Owner, capture_flag, decision, flow_flag,
};

mod again;
mod captures;
mod decisions;
mod doubts;
mod existing;
mod forgotten;
mod held;
mod hidden;
mod lives;
mod messages;
mod named;
mod owners;
mod pushed_out;
mod realms;
pub(in crate::daemon) mod recent;
mod roles;
mod self_check;
mod silences;
mod steps;
mod sums;
mod tables;
mod taken_over;
mod telling;
#[cfg(test)]
mod tests;
mod throttle;
mod time;
pub(in crate::daemon) mod watching;

use again::EndedSockets;
use decisions::Decisions;
use doubts::Doubts;
use existing::{Gone, Look};
use held::Held;
use realms::Realms;
use recent::Recent;
use self_check::{SelfCheck, Silence};
use silences::Silences;
use sums::Sums;
use taken_over::{Before, Unfinished};
use throttle::Throttles;
use watching::Watching;

pub use messages::{Command, CoreSettings, Found, Lookup, Output, Rest};

use super::clock::Clock;
use super::loss::Losses;
use crate::alert::Alerts;
use crate::api::Word;
use crate::detect::{self, ConnectFailures, Finding, HandshakeFailures, Listener, NewServices};
use crate::event::{Event, address};
use crate::flows::{
    Flow, FlowId, FlowKey, FlowsReader, Interned, Judge, Marks, Scene, StreamKey, Streams, Table, key_of,
    key_of_capture,
};
use crate::hist::{Measures, Sample};
use crate::identity::{Executions, Existing, ProcessSeen, Realm, SocketCounts, SocketKey, TcpState, Way};
use crate::model::{
    Answer, Direction, FailReason, FlowAction, FlowState, Identity, LossRow, Record, Rule, Shared, Transport,
};
use crate::names::Names;
use crate::policy::Policy;

/// A flow whose owner or facts are not known after this time is told as it stands, ns.
const PATIENCE: u64 = 1_000_000_000;

/// Memory for captured bytes at a time, over all flows.
pub(crate) const EVIDENCE: usize = 16 << 20;

/// How long the other end of a UDP flow may take to be heard of, ns.
const UDP_TWIN: u64 = 30_000_000;

/// How old the totals of a quiet TCP connection may be, ns.
const REFRESH: u64 = 5_000_000_000;

/// Finding out takes longer the more processes there are. It gets one part of the time in so many, where
/// that does not make the totals older than [`OLDEST`].
const REFRESH_SHARE: u64 = 1000;
const OLDEST: u64 = 30_000_000_000;

/// Users of sockets are asked for at once if nobody was for so long, ns.
const USER_EVERY: u64 = 100_000_000;

/// Early captures of connections that are not accepted yet.
pub(in crate::daemon) const EARLY: usize = 4096;

/// Connections that end before the first look at the host is answered.
const ENDED_EARLY: usize = 65_536;

/// Listeners remembered whose connections are used by another process than made them.
const HANDED_OVER: usize = 65_536;

#[derive(Debug)]
struct ListenerEntry {
    address: SocketAddr,
    /// Of a listener from before us that one process holds.
    holder: Option<Arc<Identity>>,
    /// Whose network namespace one from before us is in, where that is known.
    realm: Option<Realm>,
}

struct EarlyCapture {
    head: CaptureHead,
    data: Box<[u8]>,
}

/// The state of the whole.
pub struct Core {
    pub(super) settings: CoreSettings,
    pub(super) boot_id: String,
    /// There are tunnels on this host: flows are asked about.
    pub(super) tunnels: bool,
    pub(super) clock: Clock,
    pub(super) table: Table,
    pub(super) streams: Streams,
    pub(super) overall: Measures,
    pub(super) alerts: Alerts,
    pub(super) policy: Arc<Policy>,
    pub(super) losses: Losses,
    pub(super) failed: u64,
    pub(super) out: Output,
    failures: ConnectFailures,
    handshakes: HandshakeFailures,
    services: NewServices,
    listeners: HashMap<u64, ListenerEntry>,
    /// Listeners that were told of, and those of them that found the table full.
    listeners_seen: u64,
    listeners_lost: u64,
    /// What the stages around the core lost, as of the last second.
    stage_rows: Vec<LossRow>,
    early: Vec<EarlyCapture>,
    /// Flows of whose first bytes there are more than were looked at.
    grown: Vec<FlowId>,
    /// The same, of those that are looked at with the next tick.
    postponed: Vec<FlowId>,
    /// Captures that were to wait, and those that found `early` full.
    early_seen: u64,
    pub(in crate::daemon) early_lost: u64,
    /// Captured bytes held for flows that are not settled.
    held: Held,
    /// Cgroups that fill more than their share of the table.
    throttles: Throttles,
    /// Flows judged early because that was too much.
    pub(in crate::daemon) evidence_cut: u64,
    /// Captures that nobody looked at.
    passed_over: u64,
    /// Flows that wait for something: an identity, facts, or their patience.
    waiting: Vec<FlowId>,
    /// How far the walk over all flows came, and when.
    walked: usize,
    walked_ns: u64,
    /// When the histograms last began.
    histograms_ns: u64,
    /// Ends were lost: every flow is to be looked for.
    sweep_all: bool,
    /// The look that was asked for is for that.
    sweeps: bool,
    sockets_asked: bool,
    /// The last look at all sockets, and what it did not find, while that ends.
    look: Look,
    gone: Option<Gone>,
    /// See [`Core::heard_until`].
    heard_ns: u64,
    /// The end is near: no time for shares.
    hurries: bool,
    /// Connections that ended before the first look at the host was answered, which may have found them.
    ended_early: Option<HashSet<u64>>,
    /// Flows that ended before the other end that counts for them.
    doubts: Doubts,
    /// Sockets whose connections ended: they may make others.
    ended_sockets: EndedSockets,
    /// When the sockets were last asked for.
    sockets_due_ns: u64,
    /// Listener owners whose accepted sockets are used by another process.
    handed_over: HashSet<(u32, u64)>,
    recent: Recent,
    realms: Realms,
    /// When processes executed something last.
    executions: Executions,
    /// When a walk for users was last asked for, and who waits for the next one.
    user_asked_ns: u64,
    users_wanted: Vec<FlowKey>,
    overflow_seen: u64,
    sums: Sums,
    judge: Judge,
    decisions: Decisions,
    identities: Interned<Identity>,
    pub(super) watching: Watching,
    silences: Silences,
    before: Before,
    self_check: SelfCheck,
    silence: Silence,
    /// Hooks that are not as they were left.
    pub(in crate::daemon) detached: Vec<crate::model::Tampered>,
    unfinished: Unfinished,
    pub(in crate::daemon) names: Names,
}

impl Core {
    pub fn new(settings: CoreSettings, boot_id: String, policy: Arc<Policy>, clock: Clock) -> Self {
        Core {
            table: Table::new(settings.capacity, settings.closed_keep),
            streams: Streams::new(settings.streams, settings.measured_streams),
            overall: Measures::default(),
            alerts: Alerts::new(settings.repeat_every_s, settings.resolve_after_s),
            failures: ConnectFailures::new(settings.failures.0, settings.failures.1),
            handshakes: HandshakeFailures::new(
                settings.detect.handshake_failures.threshold,
                settings.detect.handshake_failures.window_s,
            ),
            services: NewServices::default(),
            listeners: HashMap::new(),
            listeners_seen: 0,
            listeners_lost: 0,
            stage_rows: Vec::new(),
            losses: Losses::default(),
            failed: 0,
            early: Vec::new(),
            grown: Vec::new(),
            postponed: Vec::new(),
            early_seen: 0,
            early_lost: 0,
            held: Held::new(EVIDENCE),
            throttles: Throttles::default(),
            evidence_cut: 0,
            passed_over: 0,
            waiting: Vec::new(),
            walked: 0,
            walked_ns: 0,
            histograms_ns: 0,
            sweep_all: false,
            sweeps: false,
            sockets_asked: false,
            look: Look::default(),
            gone: None,
            hurries: false,
            heard_ns: 0,
            ended_early: Some(HashSet::new()),
            doubts: Doubts::default(),
            ended_sockets: EndedSockets::default(),
            sockets_due_ns: 0,
            handed_over: HashSet::new(),
            recent: Recent::default(),
            realms: Realms::default(),
            executions: Executions::default(),
            user_asked_ns: 0,
            users_wanted: Vec::new(),
            overflow_seen: 0,
            sums: Sums::new(2 * settings.capacity, settings.capacity / 4),
            judge: Judge::default(),
            decisions: Decisions::default(),
            identities: Interned::default(),
            silences: Silences::default(),
            before: Before::default(),
            self_check: SelfCheck::default(),
            silence: Silence::default(),
            detached: Vec::new(),
            unfinished: Unfinished::default(),
            watching: Watching::new(&settings.detect, &settings.sampling),
            names: Names::new(policy.resolvers().iter().copied()),
            out: Output::default(),
            settings,
            boot_id,
            tunnels: false,
            policy,
            clock,
        }
    }

    /// Goes by what the kernel says of what processes execute.
    pub fn follow(&mut self, executions: Executions) {
        self.executions = executions;
    }

    /// Flows in the table.
    pub fn open_flows(&self) -> usize {
        self.table.len()
    }

    /// Whether the connection with this cookie is in the table.
    pub fn holds(&self, cookie: u64) -> bool {
        self.table.id(&FlowKey { cookie, ..FlowKey::default() }).is_some()
    }

    /// Takes what the last steps gave.
    pub fn take_output(&mut self) -> Output {
        self.out.changes.extend(self.alerts.take_changes());
        let mut out = std::mem::take(&mut self.out);
        // A decision is a system call: none for what has ended meanwhile.
        out.commands.retain(|command| match command {
            Command::Decide { key, .. } => {
                self.table.id(key).and_then(|id| self.table.get(id)).is_some_and(|flow| !flow.is_over())
            }
            _ => true,
        });
        out
    }

    /// Takes the questions alone.
    pub(in crate::daemon) fn take_lookups(&mut self) -> Vec<Lookup> {
        std::mem::take(&mut self.out.lookups)
    }

    pub(in crate::daemon) fn wall(&self) -> impl Fn(u64) -> Timestamp + Copy + use<> {
        let clock = self.clock;
        move |ns| clock.wall(ns)
    }

    /// Payload bytes of what streams have counted, by how they were protected.
    pub(in crate::daemon) fn class_bytes(&self) -> Vec<crate::inventory::ClassView> {
        self.sums.ledger.views()
    }

    /// Client's and server's payload bytes of everything seen.
    pub fn total_bytes(&self) -> (u64, u64) {
        let (mut client, mut server) = self.sums.bytes;
        // What no stream has counted yet waits.
        let waiting: HashSet<FlowId> = self.waiting.iter().copied().collect();
        for flow in waiting.into_iter().filter_map(|id| self.table.get(id)) {
            if flow.assigned {
                continue;
            }
            let other = self.other_end(&flow);
            if other.leaves_it_to(&flow) {
                let (c, s) = self.sums.uncounted(&flow, &other);
                client += c;
                server += s;
            }
        }
        (client, server)
    }

    /// One event from the kernel.
    pub fn event(&mut self, event: Event, now_ns: u64) {
        self.events([event], now_ns);
    }

    /// Events from the kernel, in the order in which they came. First bytes that come one after the other are
    /// looked at once.
    pub fn events(&mut self, events: impl IntoIterator<Item = Event>, now_ns: u64) {
        self.take(events, now_ns);
        self.look_at_grown(now_ns);
    }

    /// The same, but that what has come of first bytes is still to be looked at ([`Core::look_at_grown`]).
    pub(in crate::daemon) fn take(&mut self, events: impl IntoIterator<Item = Event>, now_ns: u64) {
        events.into_iter().for_each(|event| self.take_event(event, now_ns));
    }

    fn take_event(&mut self, event: Event, now_ns: u64) {
        if self.is_self_check(&event, now_ns) {
            return;
        }
        match event {
            Event::Flow(kind, event) => {
                self.flow_event(kind, &event, now_ns);
            }
            Event::Capture(head, data) => {
                self.capture(head, data, now_ns);
            }
            Event::Counters(counters) => self.counters(&counters, now_ns),
            Event::UdpLeft(key, totals) => self.udp_left(&key, &totals, now_ns),
            Event::Tampered(hooks) => self.tampered(hooks, now_ns),
            Event::Udp { key, totals, ended } => {
                let Some((id, mut flow)) = self.table.find_mut(&key) else {
                    self.udp_apart(&key, totals, ended, now_ns);
                    return;
                };
                let (mut seen_elsewhere, mut captures_lost) = (false, 0);
                if let Some(totals) = totals {
                    if flow.sent.packets + flow.received.packets
                        < totals.sent_packets + totals.received_packets
                    {
                        flow.heard(now_ns);
                    }
                    flow.sent.bytes = totals.sent_bytes;
                    flow.sent.packets = totals.sent_packets;
                    flow.received.bytes = totals.received_bytes;
                    flow.received.packets = totals.received_packets;
                    let lost = totals.lost_captures.saturating_sub(flow.seen.lost_captures);
                    flow.seen.lost_captures += lost;
                    seen_elsewhere = flow.seen_on(totals.sent_device, totals.received_device);
                    captures_lost = if flow.seen.before_start { 0 } else { lost };
                }
                drop(flow);
                self.captures_lost(id, captures_lost, now_ns);
                if ended {
                    self.close(id, now_ns, FlowState::Closed);
                } else if seen_elsewhere {
                    self.advance(id, now_ns);
                } else {
                    self.account(id, false);
                }
            }
        }
    }

    /// Everything as it stands, for listings: live flows, then the last closed ones.
    pub fn flows(&self, now_ns: u64) -> FlowsReader {
        self.table.reader(Scene {
            boot_id: self.boot_id.as_str().into(),
            now_ns,
            wall_offset_ns: self.clock.offset_ns(),
        })
    }
}

/// What is wrong with how a flow is encrypted.
fn posture(
    policy: &Policy,
    names: &Names,
    flow: &Flow,
    settings: &crate::config::Detect,
    now: Timestamp,
) -> Vec<detect::Fault> {
    let [(_, client), (_, server)] = flow.ends();
    let required = named::of(policy, names, flow).with(|facts, seen| policy.required(facts, seen));
    detect::posture(&flow.facts, (client, server), settings, &required, now)
}

/// A reset is a refusal; an application that waited and gave up had no answer; and where the kernel
/// gave up by itself before its retries were through (two take three seconds), the network said no.
/// Why a connection never came up; `None`: the kernel could not note it.
fn fail_reason(event: &FlowEvent) -> Option<FailReason> {
    let has = |flag| event.flags & flag != 0;
    if has(flow_flag::NOT_SENT) {
        Some(FailReason::Unreachable)
    } else if has(flow_flag::ANSWERED) {
        Some(FailReason::Refused)
    } else if has(flow_flag::TIMED_OUT) {
        Some(FailReason::TimedOut)
    } else if has(flow_flag::GAVE_UP) {
        // Nobody answered, and the client was less patient than the kernel.
        Some(if event.retransmits > 0 { FailReason::TimedOut } else { FailReason::Abandoned })
    } else if has(flow_flag::NO_STORAGE) {
        None
    } else {
        Some(FailReason::Unreachable)
    }
}

pub(super) fn seen_of(owner: &Owner) -> ProcessSeen {
    ProcessSeen {
        tgid: owner.tgid,
        uid: owner.uid,
        comm: owner.comm,
        seen_ns: owner.seen_ns,
        cgroup: owner.cgroup,
    }
}

fn carries_data(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::Established
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::Closing
            | TcpState::LastAck
    )
}

/// Who the kernel saw, where nobody looked it up.
pub fn unseen(seen: &ProcessSeen) -> Identity {
    let known = seen.tgid != 0;
    Identity {
        pid: known.then_some(seen.tgid),
        uid: seen.known_uid(),
        name: known.then(|| seen.name()),
        missing: Some("it was not looked up".to_owned()),
        ..Identity::default()
    }
}

fn socket_of(flow: &Flow) -> SocketKey {
    SocketKey {
        transport: flow.transport,
        netns: flow.netns,
        local: flow.local(),
        remote: flow.remote(),
        cookie: flow.cookie(),
        // The first process makes sockets for others.
        maker: if flow.maker() == 1 { 0 } else { flow.maker() },
    }
}
