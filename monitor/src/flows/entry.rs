//! One flow.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dissect::{Facts, UnknownReason};
use jiff::Timestamp;
use monitor_common::{FlowEvent, Owner, UdpKey, flow_flag};

use super::{Evidence, StreamId};
use crate::event::{address, to_bytes};
use crate::identity::{TcpCounts, TcpState};
use crate::model::{Count, Direction, FailReason, FlowState, FlowView, Identity, Transport, Verdict};
use crate::policy;
use crate::verdict::{self, Seen};
use crate::watch::Watch;

/// The socket cookie, and for UDP the peer and the local port. TCP leaves those zero.
pub type FlowKey = UdpKey;

/// How long a flow in the clear may take to go on with an upgrade to TLS, ns.
const UPGRADE_PATIENCE: u64 = 2_000_000_000;

/// Which records of a flow were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub opened: bool,
    pub settled: bool,
    /// Monotonic time of the last interval record.
    pub progress_ns: u64,
}

/// One flow, as the events so far tell it.
#[derive(Debug)]
pub struct Flow {
    pub key: FlowKey,
    pub transport: Transport,
    pub direction: Direction,
    pub state: FlowState,
    pub failure: Option<FailReason>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub netns: u64,
    pub owner_seen: Owner,
    /// `None`: being looked up.
    pub owner: Option<Arc<Identity>>,
    /// The same connection's other socket, where that is on this host too.
    pub twin: Option<FlowKey>,
    /// Who is at the other end, where that is on this host and known.
    pub peer: Option<Arc<Identity>>,
    pub sent: Count,
    pub received: Count,
    /// CLOCK_MONOTONIC ns, all.
    pub opened_ns: u64,
    pub established_ns: u64,
    pub closed_ns: Option<u64>,
    pub last_ns: u64,
    pub rtt_us: u32,
    pub retransmits: u32,
    pub seen: Seen,
    pub evidence: Option<Box<Evidence>>,
    pub facts: Arc<Facts>,
    pub settled: bool,
    pub first_client_ns: u64,
    pub first_server_ns: u64,
    /// The last piece of evidence.
    pub captured_ns: u64,
    pub stream: Option<StreamId>,
    /// Whether it is settled which stream it counts in, if any: fixed once.
    pub assigned: bool,
    /// Client's and server's bytes that the stream has counted.
    pub accounted: (u64, u64),
    pub told: Told,
    pub decision: Option<policy::Decision>,
    pub verdict: Arc<Verdict>,
    /// What the verdict rests on.
    basis: Option<Basis>,
    /// What was found already.
    pub detected: Detected,
    /// Reads on after the first bytes.
    pub watch: Option<Box<Watch>>,
    /// What its client asked for, where that could be read; different ones, bounded.
    pub operations: Vec<dissect::activity::Operation>,
    /// Alerts that stay open as long as this flow does.
    pub holds: Vec<String>,
}

/// What a verdict was judged by.
#[derive(Debug)]
struct Basis {
    facts: Arc<Facts>,
    seen: Seen,
    decided: bool,
}

/// Rules that looked at a flow and need not look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    pub plaintext: bool,
    pub unexpected: bool,
}

impl Flow {
    /// A flow from the first event that names it.
    pub fn from_event(event: &FlowEvent, budget: u32) -> Flow {
        let transport = if event.transport == 17 { Transport::Udp } else { Transport::Tcp };
        let before_start = event.flags & flow_flag::MIDSTREAM != 0;
        // In mid-stream nobody says who began it: the higher port is the client's, as a rule.
        let active =
            event.flags & flow_flag::ACTIVE != 0 || (before_start && event.local_port > event.remote_port);
        let seen = Seen { before_start, ..Seen::default() };
        let facts = Facts::unknown(UnknownReason::Silent);
        let verdict = Arc::new(verdict::judge(&facts, seen, None));
        let mut flow = Flow {
            key: key_of(event),
            transport,
            direction: if active { Direction::Egress } else { Direction::Ingress },
            state: FlowState::Opening,
            failure: None,
            local: local_address(event),
            remote: address(event.remote, event.remote_port),
            netns: event.netns,
            owner_seen: event.owner,
            owner: None,
            twin: None,
            peer: None,
            sent: Count::default(),
            received: Count::default(),
            opened_ns: if event.opened_ns == 0 { event.at_ns } else { event.opened_ns },
            established_ns: 0,
            closed_ns: None,
            last_ns: event.at_ns,
            rtt_us: 0,
            retransmits: 0,
            seen,
            evidence: Some(Box::new(Evidence::new(transport, budget))),
            facts: Arc::new(facts),
            settled: false,
            first_client_ns: 0,
            first_server_ns: 0,
            captured_ns: 0,
            stream: None,
            assigned: false,
            accounted: (0, 0),
            told: Told::default(),
            decision: None,
            verdict,
            basis: None,
            detected: Detected::default(),
            watch: None,
            operations: Vec::new(),
            holds: Vec::new(),
        };
        flow.update(event);
        flow
    }

    /// Takes over the totals of an event: they are cumulative, so the last one is the truth.
    pub fn update(&mut self, event: &FlowEvent) {
        self.last_ns = self.last_ns.max(event.at_ns);
        // The kernel counts our SYN as a byte, and the programs take it off where they saw it leave.
        let syn = self.seen.before_start
            && self.direction == Direction::Egress
            && self.transport == Transport::Tcp
            && event.flags & flow_flag::ACTIVE == 0;
        self.sent.bytes = self.sent.bytes.max(event.sent_bytes.saturating_sub(u64::from(syn)));
        self.sent.packets = self.sent.packets.max(event.sent_packets);
        self.received.bytes = self.received.bytes.max(event.received_bytes);
        self.received.packets = self.received.packets.max(event.received_packets);
        self.retransmits = self.retransmits.max(event.retransmits);
        if event.rtt_us != 0 {
            self.rtt_us = event.rtt_us;
        }
        if event.established_ns != 0 {
            self.established_ns = event.established_ns;
        }
        let (client, server) = match self.direction {
            Direction::Egress => (event.first_sent_ns, event.first_received_ns),
            Direction::Ingress => (event.first_received_ns, event.first_sent_ns),
        };
        if client != 0 {
            self.first_client_ns = client;
        }
        if server != 0 {
            self.first_server_ns = server;
        }
        self.seen.lost_captures = self.seen.lost_captures.max(event.lost_captures);
        if self.netns == 0 {
            self.netns = event.netns;
        }
        if self.owner_seen.tgid == 0 {
            self.owner_seen = event.owner;
        }
        if self.state == FlowState::Opening
            && (self.established_ns != 0 || self.transport == Transport::Udp || self.seen.before_start)
        {
            self.state = FlowState::Open;
        }
        if event.local != [0; 16] {
            self.local = address(event.local, event.local_port);
        }
        if event.remote_port != 0 {
            self.remote = address(event.remote, event.remote_port);
        }
    }

    /// Takes over what sock_diag tells of a connection that is up; true when a total moved. The
    /// kernel counts our SYN and the peer's FIN as a byte each.
    pub fn refresh(&mut self, state: TcpState, counts: &TcpCounts) -> bool {
        let fin = match state {
            TcpState::Established => 0,
            TcpState::CloseWait => 1,
            _ => return false,
        };
        let syn = u64::from(self.direction == Direction::Egress);
        let before = (self.sent.bytes, self.received.bytes);
        self.sent.bytes = before.0.max(counts.bytes_acked.saturating_sub(syn));
        self.received.bytes = before.1.max(counts.bytes_received.saturating_sub(fin));
        self.sent.packets = self.sent.packets.max(u64::from(counts.segments_sent));
        self.received.packets = self.received.packets.max(u64::from(counts.segments_received));
        self.retransmits = self.retransmits.max(counts.retransmits);
        (self.sent.bytes, self.received.bytes) != before
    }

    pub fn server_port(&self) -> u16 {
        match self.direction {
            Direction::Egress => self.remote.port(),
            Direction::Ingress => self.local.port(),
        }
    }

    /// Client and server: who, where that is on this host and known, and where.
    pub fn ends(&self) -> [(Option<&Arc<Identity>>, SocketAddr); 2] {
        let own = (self.owner.as_ref(), self.local);
        let other = (self.peer.as_ref(), self.remote);
        match self.direction {
            Direction::Egress => [own, other],
            Direction::Ingress => [other, own],
        }
    }

    /// Payload bytes of client and server.
    pub fn bytes(&self) -> (u64, u64) {
        match self.direction {
            Direction::Egress => (self.sent.bytes, self.received.bytes),
            Direction::Ingress => (self.received.bytes, self.sent.bytes),
        }
    }

    /// Whether a piece that our socket sent (or received) comes from the client.
    pub fn from_client(&self, sent: bool) -> bool {
        sent == (self.direction == Direction::Egress)
    }

    /// Whether this is the flow that stands for the connection in its stream: with both ends on this
    /// host, the client's.
    pub fn is_primary(&self) -> bool {
        self.twin.is_none() || self.direction == Direction::Egress
    }

    /// Whether its facts can be acted on: they are settled, or nothing came that could change them
    /// for a while. What is in the clear now may be about to switch to TLS (STARTTLS and its kin).
    pub fn is_ripe(&self, now_ns: u64) -> bool {
        self.settled || (self.captured_ns != 0 && now_ns.saturating_sub(self.captured_ns) > UPGRADE_PATIENCE)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, FlowState::Closed | FlowState::Failed)
    }

    /// Judges again where something changed that the answers rest on; true when an answer did.
    pub fn judge(&mut self) -> bool {
        let basis = Basis { facts: self.facts.clone(), seen: self.seen, decided: self.decision.is_some() };
        let same = self.basis.as_ref().is_some_and(|old| {
            Arc::ptr_eq(&old.facts, &basis.facts) && old.seen == basis.seen && old.decided && basis.decided
        });
        if same {
            return false;
        }
        self.basis = Some(basis);
        let verdict = verdict::judge(&self.facts, self.seen, self.decision.as_ref());
        if verdict == *self.verdict {
            return false;
        }
        self.verdict = Arc::new(verdict);
        true
    }

    /// Forgets what the policy decided: who is at its ends, or the policy, has changed.
    pub fn undecide(&mut self) {
        self.decision = None;
        self.basis = None;
        self.detected = Detected::default();
    }

    /// How long it has lasted, at `now_ns`.
    pub fn duration_ns(&self, now_ns: u64) -> u64 {
        self.closed_ns.unwrap_or(now_ns).saturating_sub(self.opened_ns)
    }

    /// As the later stages see it. `wall` turns monotonic ns into a label for people.
    pub fn view(&self, boot_id: &str, now_ns: u64, wall: impl Fn(u64) -> Timestamp) -> FlowView {
        let id = match self.transport {
            Transport::Tcp => format!("{boot_id}-{:x}", self.key.cookie),
            Transport::Udp => {
                format!("{boot_id}-{:x}-{}-{}", self.key.cookie, self.local.port(), self.remote)
            }
        };
        FlowView {
            id,
            transport: self.transport,
            direction: self.direction,
            state: self.state,
            failure: self.failure,
            local: self.local,
            remote: self.remote,
            netns: self.netns,
            owner: self.owner.clone().unwrap_or_default(),
            peer: self.peer.clone(),
            sent: self.sent,
            received: self.received,
            opened_at: wall(self.opened_ns),
            closed_at: self.closed_ns.map(&wall),
            duration_ns: self.duration_ns(now_ns),
            setup_ns: (self.established_ns != 0 && self.direction == Direction::Egress)
                .then(|| self.established_ns.saturating_sub(self.opened_ns)),
            before_start: self.seen.before_start,
            rtt_us: (self.rtt_us != 0).then_some(self.rtt_us),
            retransmits: self.retransmits,
            facts: self.facts.clone(),
            verdict: self.verdict.clone(),
        }
    }
}

/// Our address; not chosen yet, it is unspecified, in the family of the remote one.
fn local_address(event: &FlowEvent) -> SocketAddr {
    let remote = address(event.remote, event.remote_port);
    if event.local == [0; 16] && remote.is_ipv4() {
        return SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), event.local_port);
    }
    address(event.local, event.local_port)
}

/// The key of the flow that an event is about.
pub fn key_of(event: &FlowEvent) -> FlowKey {
    if event.transport == 17 {
        FlowKey {
            cookie: event.cookie,
            remote: event.remote,
            remote_port: event.remote_port,
            local_port: event.local_port,
            reserved: 0,
        }
    } else {
        FlowKey { cookie: event.cookie, ..FlowKey::default() }
    }
}

/// The key of the flow that a capture is about.
pub fn key_of_capture(head: &monitor_common::CaptureHead) -> FlowKey {
    if head.transport == 17 {
        FlowKey {
            cookie: head.cookie,
            remote: head.remote,
            remote_port: head.remote_port,
            local_port: head.local_port,
            reserved: 0,
        }
    } else {
        FlowKey { cookie: head.cookie, ..FlowKey::default() }
    }
}

/// The key that a socket found at start-up has.
pub fn key_of_socket(transport: Transport, cookie: u64, local: SocketAddr, remote: SocketAddr) -> FlowKey {
    match transport {
        Transport::Tcp => FlowKey { cookie, ..FlowKey::default() },
        Transport::Udp => FlowKey {
            cookie,
            remote: to_bytes(remote.ip()),
            remote_port: remote.port(),
            local_port: local.port(),
            reserved: 0,
        },
    }
}
