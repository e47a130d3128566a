//! One flow.
//!
//! A million of them may be open, so each byte counts: what a flow has for a moment only, or seldom, is
//! boxed; what many flows say alike is shared.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dissect::{Facts, Protection};
use jiff::Timestamp;
use monitor_common::{FlowEvent, Kind, Owner, flow_flag};

use super::seldom::Seldom;
use super::{Addresses, Detected, Endpoint, Evidence, FlowId, FlowKey, Holds, Judge, Marks, Space, StreamId};
use crate::identity::{ProcessSeen, Realm, TcpCounts, TcpState};
use crate::inventory::Place;
use crate::model::{
    Count, Direction, FailReason, FlowState, FlowView, Identity, Reach, Transport, Tunnel, Verdict, reach,
};
use crate::policy;
use crate::tunnel::{Course, Devices, Passed};
use crate::verdict::Seen;

/// How long a flow in the clear may take to go on with an upgrade to TLS, ns.
const UPGRADE_PATIENCE: u64 = 2_000_000_000;

/// How long what follows a handshake is waited for, ns.
const FOLLOWED: u64 = 10_000_000_000;

/// IPv4's unspecified address, as the events have it.
const UNSPECIFIED_V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];

/// One flow, as the events so far tell it.
#[derive(Debug)]
pub struct Flow {
    // What listings filter and sort by comes first: they read it of each flow there is, and pay for each line of the
    // cache. (Fields of one alignment lie as they are declared.)
    pub sent: Count,
    pub received: Count,
    pub verdict: Arc<Verdict>,
    /// `None`: being looked up.
    pub owner: Option<Arc<Identity>>,
    /// Who is at the other end, where that is on this host and known.
    pub peer: Option<Arc<Identity>>,
    pub facts: Arc<Facts>,
    /// CLOCK_MONOTONIC ns; 0: not yet, or not seen.
    pub opened_ns: u64,
    last_ns: u64,
    cookie: u64,
    pub netns: u64,
    /// Whose that is; `None`: not known yet. See `core/realms.rs`.
    pub realm: Option<Realm>,
    /// When the process behind the socket was seen, and which it is; 0: none was.
    maker_seen_ns: u64,
    maker: u32,
    /// Of the process that made the socket; 0: nobody saw it. Whose share of the tables this takes: it never
    /// changes while the flow is in one. The lower half of the kernel's number, in which no two cgroups that
    /// are there are alike (`__kernfs_new_node` in fs/kernfs/dir.c); the upper half counts its wraps.
    pub cgroup: u32,
    /// As [`Flow::opened_ns`], and so those that follow.
    pub established_ns: u64,
    pub first_client_ns: u64,
    pub first_server_ns: u64,
    /// The last piece of evidence.
    pub captured_ns: u64,
    /// When a handshake was first seen to have begun, where that was seen before its end; after its end,
    /// how long it took. See `handshake`.
    handshake_ns: u64,
    /// The last interval record, ms: it counts anew after 49 days, and an interval is a day at most.
    progress_ms: u32,
    /// Client's and server's bytes that the stream has counted. Of one that does not count: those that its other
    /// end had counted when that ended.
    pub accounted: (u64, u64),
    seldom: Seldom,
    pub decision: Option<Arc<policy::Decision>>,
    /// Where its packets were seen.
    devices: Devices,
    /// The same connection's other socket, where that is on this host too.
    pub twin: Option<FlowId>,
    pub stream: Option<StreamId>,
    pub rtt_us: u32,
    pub retransmits: u32,
    /// Sequence number of the first byte of who connected, the same at both ends; 0: unknown.
    first_of_client: u32,
    /// Alerts of its stream that stay open as long as this flow does.
    pub holds: Holds,
    pub seen: Seen,
    local: Endpoint,
    remote: Endpoint,
    /// Where the inventory counts it.
    pub in_ledger: Place,
    handshake: Handshake,
    pub transport: Transport,
    pub direction: Direction,
    pub state: FlowState,
    pub failure: Option<FailReason>,
    pub settled: bool,
    /// Whether it is settled which stream it counts in, if any: fixed once.
    pub assigned: bool,
    pub marks: Marks,
    /// The last look at all sockets that found it, or told of its socket before it was taken in; 0: none. Of 255 in turn:
    /// where it is taken for a later one's, its end is found by the look after that.
    pub looked: u8,
    /// What was found already.
    pub detected: Detected,
}

/// What is known of a handshake's time.
#[derive(Clone, Copy, Debug)]
enum Handshake {
    None,
    /// When it began, CLOCK_MONOTONIC ns.
    Since,
    /// How long it took, ns.
    Took,
}

/// The lower half.
fn milliseconds(ns: u64) -> u32 {
    (ns / 1_000_000) as u32
}

/// SYN and FINs, which the kernel counts as a byte each, of a socket whose storage was refused: the programs
/// could not note them. What state a connection was closed from says whose FIN was taken
/// (include/net/tcp_states.h; `tcp_rcv_state_process` in net/ipv4/tcp_input.c). Gives what is too much of sent
/// and received bytes. Wrong by the peer's FIN where the kernel gave up waiting for it (tcp_fin_timeout).
fn unmarked(event: &FlowEvent, active: bool) -> (u64, u64) {
    const FIN_WAIT2: u32 = 5;
    const CLOSE_WAIT: u32 = 8;
    const LAST_ACK: u32 = 9;
    const CLOSING: u32 = 11;
    let ended = event.kind == Kind::Close as u8;
    let ours = ended && matches!(event.detail, FIN_WAIT2 | LAST_ACK | CLOSING);
    let theirs = ended && matches!(event.detail, FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING);
    (u64::from(active) + u64::from(ours), u64::from(theirs))
}

impl Flow {
    /// A flow from the first event that names it.
    pub fn from_event(event: &FlowEvent, judge: &mut Judge) -> Flow {
        let transport = if event.transport == 17 { Transport::Udp } else { Transport::Tcp };
        let before_start = event.flags & flow_flag::MIDSTREAM != 0;
        // In mid-stream nobody says who began it: the higher port is the client's, as a rule.
        let is_said = event.flags & flow_flag::ACTIVE != 0;
        let active = is_said || (before_start && event.local_port > event.remote_port);
        let seen = Seen { before_start, ..Seen::default() };
        let facts = judge.silent();
        let verdict = judge.judge(&facts, seen, None, Course::Direct);
        let mut flow = Flow {
            cookie: event.cookie,
            netns: event.netns,
            realm: None,
            maker_seen_ns: event.owner.seen_ns,
            maker: event.owner.tgid,
            cgroup: event.owner.cgroup as u32,
            opened_ns: if event.opened_ns == 0 { event.at_ns } else { event.opened_ns },
            established_ns: 0,
            last_ns: event.at_ns,
            first_client_ns: 0,
            first_server_ns: 0,
            captured_ns: 0,
            handshake_ns: 0,
            progress_ms: 0,
            sent: Count::default(),
            received: Count::default(),
            accounted: (0, 0),
            seldom: Seldom::default(),
            owner: None,
            peer: None,
            facts,
            decision: None,
            devices: Devices::default(),
            verdict,
            twin: None,
            stream: None,
            rtt_us: 0,
            retransmits: 0,
            first_of_client: 0,
            holds: Holds::default(),
            seen,
            local: local_address(event),
            remote: Endpoint::new(event.remote, event.remote_port),
            in_ledger: Place::default(),
            handshake: Handshake::None,
            transport,
            direction: if active { Direction::Egress } else { Direction::Ingress },
            state: FlowState::Opening,
            failure: None,
            settled: false,
            assigned: false,
            marks: Marks::default(),
            looked: 0,
            detected: Detected::default(),
        };
        flow.marks.set(Marks::BEGUN_BY_GUESS, before_start && !is_said && transport == Transport::Tcp);
        flow.seldom.set_owner_seen((event.owner.tgid != 0).then_some(event.owner));
        flow.update(event);
        flow
    }

    /// Its first bytes, or room for as many of each direction; `None`: it is settled, and they are gone.
    pub fn evidence_from(&mut self, budget: u32) -> Option<&mut Evidence> {
        if self.settled && self.evidence().is_none() {
            return None;
        }
        let transport = self.transport;
        Some(self.seldom.evidence_or(|| Evidence::new(transport, budget)))
    }

    /// `None`: nothing was captured yet, or, where it is settled, no more is wanted ([`Flow::evidence_from`]).
    pub fn evidence(&self) -> Option<&Evidence> {
        self.seldom.evidence()
    }

    pub fn evidence_mut(&mut self) -> Option<&mut Evidence> {
        self.seldom.evidence_mut()
    }

    pub fn take_evidence(&mut self) -> Option<Box<Evidence>> {
        self.seldom.take_evidence()
    }

    pub fn key(&self) -> FlowKey {
        match self.transport {
            Transport::Tcp => FlowKey { cookie: self.cookie, ..FlowKey::default() },
            Transport::Udp => FlowKey {
                cookie: self.cookie,
                remote: self.remote.bytes(),
                remote_port: self.remote.port(),
                local_port: self.local.port(),
                reserved: 0,
            },
        }
    }

    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    pub fn local(&self) -> SocketAddr {
        self.local.socket()
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote.socket()
    }

    /// Ours, and the other one.
    pub fn endpoints(&self) -> (Endpoint, Endpoint) {
        (self.local, self.remote)
    }

    /// Where it is found by its addresses.
    pub fn addresses(&self) -> Addresses {
        self.addresses_in(self.space())
    }

    /// The same, were it in that space.
    pub fn addresses_in(&self, space: Space) -> Addresses {
        (self.transport, self.local, self.remote, space)
    }

    /// Where its addresses mean the same.
    pub fn space(&self) -> Space {
        self.space_of(self.realm)
    }

    /// The same, were its network namespace of that realm.
    pub fn space_of(&self, realm: Option<Realm>) -> Space {
        // Until it is known whether it has the address, it may not be among those of its namespace either.
        let netns = if realm.is_none() && self.claimed_address().is_some() { 0 } else { self.netns };
        Space::new(realm, netns, reach(self.local.ip()) == Reach::Loopback, self.cookie)
    }

    /// An address that it says to have, and may not have: datagrams need no answer that would come there.
    pub fn claimed_address(&self) -> Option<IpAddr> {
        let claims = self.transport == Transport::Udp && self.direction == Direction::Egress;
        Some(self.local.ip()).filter(|ip| claims && reach(*ip) != Reach::Loopback)
    }

    /// The process that the kernel saw at the socket; 0: none.
    pub fn maker(&self) -> u32 {
        self.maker
    }

    /// An interval record is written now.
    pub fn told_progress(&mut self, now_ns: u64) {
        self.progress_ms = milliseconds(now_ns);
    }

    /// Whether the last interval record is so long ago.
    pub fn is_progress_due(&self, now_ns: u64, interval_ns: u64) -> bool {
        let passed_ms = milliseconds(now_ns).wrapping_sub(self.progress_ms);
        u64::from(passed_ms) * 1_000_000 >= interval_ns
    }

    /// As the resolver wants it. Once the owner is known, only which process it was and when it was seen
    /// is left.
    pub fn process_seen(&self) -> ProcessSeen {
        let owner = self.seldom.owner_seen().copied().unwrap_or_default();
        ProcessSeen {
            tgid: self.maker,
            uid: owner.uid,
            comm: owner.comm,
            seen_ns: self.maker_seen_ns,
            cgroup: owner.cgroup,
        }
    }

    /// Who is behind it.
    pub fn set_owner(&mut self, identity: Arc<Identity>) {
        self.owner = Some(identity);
        self.seldom.set_owner_seen(None);
    }

    /// Who is taken to be behind it while nobody answers: an answer may still come.
    pub fn presume_owner(&mut self, identity: Arc<Identity>) {
        self.owner = Some(identity);
    }

    /// Whether an answer about who made it, or is taken to be behind it, is still to come.
    pub fn awaits_owner(&self) -> bool {
        self.owner.is_none() || self.seldom.owner_seen().is_some()
    }

    /// The process behind the listener that accepted it, where no event named one.
    pub fn set_maker(&mut self, pid: u32) {
        self.maker = pid;
    }

    /// Another process used the socket than the one that made it: who that is has to be looked up.
    pub fn handed_to(&mut self, user: Owner) {
        self.maker = user.tgid;
        self.maker_seen_ns = user.seen_ns;
        self.seldom.set_owner_seen(Some(user));
        self.owner = None;
    }

    /// When something was heard of it last, CLOCK_MONOTONIC ns; of one that is closed, its end.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Something was heard of it.
    pub fn heard(&mut self, at_ns: u64) {
        if !self.marks.has(Marks::CLOSED) {
            self.last_ns = self.last_ns.max(at_ns);
        }
    }

    /// When it ended, CLOCK_MONOTONIC ns; 0: not yet.
    pub fn closed_ns(&self) -> u64 {
        if self.marks.has(Marks::CLOSED) { self.last_ns } else { 0 }
    }

    /// This was its end.
    pub fn closed(&mut self, at_ns: u64) {
        self.marks.set(Marks::CLOSED, true);
        self.last_ns = at_ns;
    }

    /// Takes over the totals of an event: they are cumulative, so the last one is the truth.
    pub fn update(&mut self, event: &FlowEvent) {
        self.heard(event.at_ns);
        // The kernel counts our SYN as a byte, and the programs take it off where they saw it leave.
        let syn = self.seen.before_start
            && self.direction == Direction::Egress
            && self.transport == Transport::Tcp
            && event.flags & flow_flag::ACTIVE == 0;
        let (mut extra_sent, mut extra_received) = (u64::from(syn), 0);
        if event.flags & flow_flag::NO_STORAGE != 0 && self.transport == Transport::Tcp {
            (extra_sent, extra_received) = unmarked(event, self.direction == Direction::Egress);
            // Nothing of it could be captured.
            self.seen.lost_captures = self.seen.lost_captures.max(1);
        }
        let sent = Count { bytes: event.sent_bytes.saturating_sub(extra_sent), packets: event.sent_packets };
        let received = Count {
            bytes: event.received_bytes.saturating_sub(extra_received),
            packets: event.received_packets,
        };
        // The end is told under the socket's lock: nothing read before is better.
        let last = event.kind == Kind::Close as u8 && event.flags & flow_flag::MIDSTREAM == 0;
        self.sent = if last { sent } else { self.sent.max(sent) };
        self.received = if last { received } else { self.received.max(received) };
        self.retransmits = self.retransmits.max(event.retransmits);
        if event.rtt_us != 0 {
            self.rtt_us = event.rtt_us;
        }
        if event.established_ns != 0 {
            self.established_ns = event.established_ns;
        }
        let tells_first =
            matches!(Kind::from_byte(event.kind), Some(Kind::Open | Kind::Established | Kind::Progress));
        if tells_first && self.transport == Transport::Tcp && event.detail != 0 {
            self.first_of_client = event.detail;
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
        self.seen_on(event.sent_device, event.received_device);
        if self.netns == 0 {
            self.netns = event.netns;
        }
        if self.maker == 0 && event.owner.tgid != 0 {
            self.maker = event.owner.tgid;
            self.maker_seen_ns = event.owner.seen_ns;
            self.seldom.set_owner_seen(self.owner.is_none().then_some(event.owner));
        }
        if self.state == FlowState::Opening
            && (self.established_ns != 0 || self.transport == Transport::Udp || self.seen.before_start)
        {
            self.state = FlowState::Open;
        }
        if event.local != [0; 16] {
            self.local = Endpoint::new(event.local, event.local_port);
        }
        if event.remote_port != 0 {
            self.remote = Endpoint::new(event.remote, event.remote_port);
        }
    }

    /// Who began a connection from before the start is known now. What it has sent was taken over by a guess: the kernel
    /// counts our SYN as a byte, and only who began it has sent one.
    pub fn turn(&mut self, direction: Direction) {
        if self.transport == Transport::Tcp && direction != self.direction && self.sent.bytes > 0 {
            match direction {
                Direction::Egress => self.sent.bytes -= 1,
                Direction::Ingress => self.sent.bytes += 1,
            }
        }
        self.direction = direction;
        self.marks.set(Marks::BEGUN_BY_GUESS, false);
    }

    /// What its other end is, is known: then it is no guess any more what this one is.
    pub fn is_other_end_of(&mut self, direction: Direction) {
        if self.marks.has(Marks::BEGUN_BY_GUESS) {
            self.turn(direction.reversed());
        }
    }

    /// Takes over what sock_diag tells of a connection that is up; true when a total moved. The
    /// kernel counts our SYN and the peer's FIN as a byte each.
    pub fn refresh(&mut self, state: TcpState, counts: &TcpCounts) -> bool {
        // Its end had the last word, whenever the kernel was asked.
        if self.is_over() {
            return false;
        }
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
        let own = (self.owner.as_ref(), self.local());
        let other = (self.peer.as_ref(), self.remote());
        match self.direction {
            Direction::Egress => [own, other],
            Direction::Ingress => [other, own],
        }
    }

    /// Payload bytes of client and server that count. A socket that is connected to itself sends as the client
    /// what it receives.
    pub fn countable(&self) -> (u64, u64) {
        match self.local == self.remote {
            true => (self.sent.bytes.max(self.received.bytes), 0),
            false => self.bytes(),
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

    /// Whether these can be the two sockets of one connection, which have each other's addresses: one asked for it,
    /// and the other was made after that. Anybody may have such addresses in a network namespace of their own: but
    /// not the numbers that the two ends have of each other.
    pub fn may_be_twin_of(&self, other: &Flow) -> bool {
        // A guess is no reason against it.
        let directions = match [self, other].map(|flow| flow.marks.has(Marks::BEGUN_BY_GUESS)) {
            [true, false] => (other.direction.reversed(), other.direction),
            [false, true] => (self.direction, self.direction.reversed()),
            _ => (self.direction, other.direction),
        };
        let (client, server) = match directions {
            (Direction::Egress, Direction::Ingress) => (self, other),
            (Direction::Ingress, Direction::Egress) => (other, self),
            _ => return false,
        };
        let (first, second) = (client.first_of_client, server.first_of_client);
        let is_one = match first != 0 && second != 0 {
            true => first == second,
            // Whoever is answered hears of it before the other end hears that.
            false => client.established_ns != 0 || server.established_ns == 0 || client.began_ns().is_none(),
        };
        is_one && Flow::is_in_order(client.began_ns(), server.began_ns())
    }

    /// Whether a server's socket can be of a connection, by when both began, where that is known.
    pub fn is_in_order(client_ns: Option<u64>, server_ns: Option<u64>) -> bool {
        client_ns.zip(server_ns).is_none_or(|(client, server)| client <= server)
    }

    /// When it began, CLOCK_MONOTONIC ns; `None`: that was not seen, or the first datagrams need not be told in
    /// their order.
    pub fn began_ns(&self) -> Option<u64> {
        let Seen { before_start, beginning_lost, pushed_out, .. } = self.seen;
        let seen = !before_start && !beginning_lost && !pushed_out;
        (seen && self.transport == Transport::Tcp).then_some(self.opened_ns)
    }

    /// Whether its facts can be acted on: they are settled, or nothing came that could change them
    /// for a while. What is in the clear now may be about to switch to TLS (STARTTLS and its kin).
    pub fn is_ripe(&self, now_ns: u64) -> bool {
        self.settled || (self.captured_ns != 0 && now_ns.saturating_sub(self.captured_ns) > UPGRADE_PATIENCE)
    }

    /// Datagrams that are encrypted as far as was seen, behind which no more came for a while to be held against
    /// that: some peers say one thing and are silent, and some are never answered.
    pub fn is_sealed_and_quiet(&self, now_ns: u64) -> bool {
        self.transport == Transport::Udp
            && !self.settled
            && matches!(self.facts.protection, Protection::Encrypted(_))
            && self.is_ripe(now_ns)
    }

    /// What follows its handshake was to be seen, and not enough came for a while.
    pub fn is_followed_in_vain(&self, now_ns: u64) -> bool {
        let since_ns = self.evidence().and_then(|evidence| evidence.follows_since());
        since_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) > FOLLOWED)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, FlowState::Closed | FlowState::Failed)
    }

    /// Judges again; true when an answer changed.
    pub fn judge(&mut self, judge: &mut Judge) -> bool {
        let course = match self.routed_into() {
            Some(tunnel) => Course::Into(tunnel, tunnel.passed(self.devices)),
            None if self.marks.has(Marks::WAY_UNKNOWN) => Course::Unknown,
            None => Course::Direct,
        };
        let verdict = judge.judge(&self.facts, self.seen, self.decision.as_ref(), course);
        if Arc::ptr_eq(&verdict, &self.verdict) {
            return false;
        }
        let changed = verdict != self.verdict;
        self.verdict = verdict;
        changed
    }

    /// What its packets go through, by their route as it was last looked up.
    pub fn routed_into(&self) -> Option<&Arc<Tunnel>> {
        self.seldom.routed_into()
    }

    pub fn route_into(&mut self, tunnel: Option<Arc<Tunnel>>) {
        self.seldom.set_routed_into(tunnel);
    }

    /// The tunnel that all its packets were seen to pass.
    pub fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        self.routed_into().filter(|tunnel| tunnel.passed(self.devices) == Passed::Through)
    }

    /// From now on it is unknown which way its packets go, until that is answered; false where they stay on this host.
    pub fn await_way(&mut self) -> bool {
        let leaves = !self.endpoints().1.ip().is_loopback();
        if leaves {
            self.marks.set(Marks::WAY_UNKNOWN, true);
            self.marks.set(Marks::WAY_AWAITED, true);
        }
        leaves
    }

    /// Which way its packets go is not known yet, though it was asked a while ago: nobody answered (a question may be
    /// refused, an answer be lost), or the answer was that nobody knows. Of the latter after twice as long each time.
    pub fn asks_for_its_way_again(&self, now_ns: u64) -> bool {
        let age_s = now_ns.saturating_sub(self.opened_ns) / 1_000_000_000;
        let is_unanswered = age_s > 0 && self.marks.has(Marks::WAY_AWAITED);
        self.marks.has(Marks::WAY_UNKNOWN) && (is_unanswered || age_s.is_power_of_two())
    }

    /// Where its packets were seen, as the kernel's events tell it; whether that changes what is said of its tunnel.
    pub fn seen_on(&mut self, sent_device: u32, received_device: u32) -> bool {
        let passed = |flow: &Flow| flow.routed_into().map(|tunnel| tunnel.passed(flow.devices));
        let before = passed(self);
        let changed = self.devices.learn(sent_device, received_device) && passed(self) != before;
        if changed {
            self.undecide();
        }
        changed
    }

    /// Forgets what the policy decided: who is at its ends, or the policy, has changed.
    pub fn undecide(&mut self) {
        self.decision = None;
        self.detected = Detected::default();
    }

    /// Takes over what the bytes say now, the last of which came at [`Flow::captured_ns`].
    pub fn learn(&mut self, facts: Arc<Facts>) {
        let encrypted = matches!(facts.protection, Protection::Encrypted(_));
        let begun = facts.tls.is_some() || facts.ssh.is_some();
        (self.handshake, self.handshake_ns) = match self.handshake {
            Handshake::None if begun && !encrypted => (Handshake::Since, self.captured_ns),
            // It was whole when it was first looked at.
            Handshake::None if begun && !self.seen.before_start && self.first_client_ns != 0 => {
                (Handshake::Took, self.captured_ns.saturating_sub(self.first_client_ns))
            }
            Handshake::Since if encrypted && !self.seen.before_start => {
                (Handshake::Took, self.captured_ns.saturating_sub(self.handshake_ns))
            }
            unchanged => (unchanged, self.handshake_ns),
        };
        self.in_ledger.leave();
        self.facts = facts;
        self.detected.remove(Detected::POSTURE);
    }

    /// From the client's hello until the handshake was seen to be through, ns.
    pub fn handshake_ns(&self) -> Option<u64> {
        matches!(self.handshake, Handshake::Took).then_some(self.handshake_ns)
    }

    /// How long it has lasted, at `now_ns`.
    pub fn duration_ns(&self, now_ns: u64) -> u64 {
        let end_ns = if self.closed_ns() == 0 { now_ns } else { self.closed_ns() };
        end_ns.saturating_sub(self.opened_ns)
    }

    /// Connect to established, ns.
    pub fn setup_ns(&self) -> Option<u64> {
        (self.established_ns != 0 && self.direction == Direction::Egress)
            .then(|| self.established_ns.saturating_sub(self.opened_ns))
    }

    /// As [`FlowView::id`].
    pub fn id(&self, boot_id: &str) -> String {
        match self.transport {
            Transport::Tcp if self.marks.has(Marks::AGAIN) => {
                format!("{}-{:x}", super::name::of(boot_id, self.cookie), self.opened_ns)
            }
            Transport::Tcp => super::name::of(boot_id, self.cookie),
            Transport::Udp => format!("{boot_id}-{:x}-{}-{}", self.cookie, self.local.port(), self.remote()),
        }
    }

    /// As the later stages see it. `wall` turns monotonic ns into a label for people.
    pub fn view(&self, boot_id: &str, now_ns: u64, wall: impl Fn(u64) -> Timestamp) -> FlowView {
        FlowView {
            id: self.id(boot_id),
            transport: self.transport,
            direction: self.direction,
            state: self.state,
            failure: self.failure,
            local: self.local(),
            remote: self.remote(),
            netns: self.netns,
            owner: self.owner.clone().unwrap_or_default(),
            peer: self.peer.clone(),
            sent: self.sent,
            received: self.received,
            opened_at: wall(self.opened_ns),
            closed_at: (self.closed_ns() != 0).then(|| wall(self.closed_ns())),
            duration_ns: self.duration_ns(now_ns),
            setup_ns: self.setup_ns(),
            handshake_ns: self.handshake_ns(),
            before_start: self.seen.before_start,
            rtt_us: (self.rtt_us != 0).then_some(self.rtt_us),
            retransmits: self.retransmits,
            facts: self.facts.clone(),
            tunnel: self.tunnel().cloned(),
            verdict: self.verdict.clone(),
        }
    }
}

/// Our address; not chosen yet, it is unspecified, in the family of the remote one.
fn local_address(event: &FlowEvent) -> Endpoint {
    if event.local == [0; 16] && event.remote[..12] == UNSPECIFIED_V4[..12] {
        return Endpoint::new(UNSPECIFIED_V4, event.local_port);
    }
    Endpoint::new(event.local, event.local_port)
}

/// What a table of a million costs is mostly this.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Flow>() <= 288);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_who_began_a_connection_leaves_no_byte() {
        let close = |local_port, remote_port| FlowEvent {
            kind: Kind::Close as u8,
            transport: 6,
            flags: flow_flag::MIDSTREAM,
            local_port,
            remote_port,
            // With our SYN, if we sent one.
            sent_bytes: 101,
            received_bytes: 50,
            ..FlowEvent::default()
        };
        let sent = |ports: (u16, u16), direction| {
            let mut flow = Flow::from_event(&close(ports.0, ports.1), &mut Judge::default());
            flow.turn(direction);
            let first = flow.sent.bytes;
            flow.update(&close(ports.0, ports.1));
            assert_eq!((flow.sent.bytes, flow.received.bytes), (first, 50), "said once more it is the same");
            first
        };
        for ports in [(50_000, 443), (443, 50_000)] {
            assert_eq!(sent(ports, Direction::Egress), 100);
            assert_eq!(sent(ports, Direction::Ingress), 101);
        }
    }
}
