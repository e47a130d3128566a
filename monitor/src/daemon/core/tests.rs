//! The core, driven by hand: events and answers in, records out, no clock but the argument.

#![allow(clippy::unwrap_used)]

mod again;
mod before;
mod clocks;
mod ends;
mod findings;
mod flood;
mod following;
mod hidden;
mod named;
mod owners;
mod policies;
mod postponed;
mod quiet_day;
mod realms;
mod streams;
mod taken_over;
mod udp;
mod unanswered;

use super::*;
use crate::event::to_bytes;
use crate::identity::{SocketSeen, TcpCounts};
use crate::model::{AlertState, AlertView, FlowView, Interface, Tunnel, TunnelKind};

const SECOND: u64 = 1_000_000_000;

struct Rig {
    core: Core,
    now_ns: u64,
}

fn tunnel() -> Tunnel {
    Tunnel {
        kind: TunnelKind::Wireguard,
        name: "wg0".into(),
        evidence: "the route".into(),
        interface: Some(Interface { index: WG0, vrf: None }),
    }
}

fn settings() -> CoreSettings {
    CoreSettings {
        counts_only: false,
        own_netns: Some(1),
        capacity: 64,
        closed_keep: 64,
        udp_idle_ns: 60 * SECOND,
        tcp_budget: 8192,
        handshake_budget: 65_536,
        interval_ns: 0,
        loopback_alerts: false,
        repeat_every_s: 300,
        resolve_after_s: 300,
        failures: (5, 60),
        detect: crate::config::Detect::default(),
        sampling: crate::config::Sampling::default(),
        streams: 64,
        measured_streams: 64,
        reset_histograms_ns: 0,
    }
}

impl Rig {
    fn new(settings: CoreSettings) -> Self {
        let mut core = Core::new(settings, "boot".into(), Arc::new(Policy::builtin()), Clock::now());
        // The host's, and a container's.
        for netns in [1, 2] {
            core.realm_is((netns, 0, None), Realm::ROOT, SECOND);
        }
        Rig { core, now_ns: SECOND }
    }

    /// An event of a connection from `local` to `remote`; the client's unless `passive`.
    fn event(&self, kind: Kind, cookie: u64, local: &str, remote: &str, passive: bool) -> FlowEvent {
        let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
        FlowEvent {
            kind: kind as u8,
            transport: 6,
            flags: if passive { 0 } else { flow_flag::ACTIVE },
            cookie,
            netns: 1,
            at_ns: self.now_ns,
            opened_ns: self.now_ns,
            local: to_bytes(local.ip()),
            remote: to_bytes(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
            owner: Owner { tgid: 40 + cookie as u32, seen_ns: 1, ..Owner::default() },
            ..FlowEvent::default()
        }
    }

    fn feed(&mut self, kind: Kind, event: FlowEvent) {
        self.core.event(Event::Flow(kind, event), self.now_ns);
    }

    /// The answer to whose it is.
    fn owned(&mut self, open: &FlowEvent, identity: Identity) {
        let (key, seen, identity) = (key_of(open), seen_of(&open.owner), Arc::new(identity));
        self.core.found(Found::Owner { key, seen, identity }, self.now_ns);
    }

    fn capture(&mut self, event: &FlowEvent, sent: bool, offset: u32, data: &[u8]) {
        let head = CaptureHead {
            kind: Kind::Capture as u8,
            transport: event.transport,
            flags: if sent { capture_flag::SENT } else { 0 },
            len: data.len() as u32,
            payload_len: data.len() as u32,
            cookie: event.cookie,
            netns: event.netns,
            at_ns: self.now_ns,
            offset,
            local: event.local,
            remote: event.remote,
            local_port: event.local_port,
            remote_port: event.remote_port,
            sent_device: event.sent_device,
            ..CaptureHead::default()
        };
        self.core.event(Event::Capture(head, data.into()), self.now_ns);
    }

    /// Answers every look-up with a process of that pid, and gives what was written.
    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let output = self.core.take_output();
            records.extend(output.records);
            if output.lookups.is_empty() {
                return records;
            }
            for lookup in output.lookups {
                let identity = |pid: u32| {
                    Arc::new(Identity {
                        pid: Some(pid),
                        name: Some(format!("p{pid}")),
                        uid: Some(pid),
                        ..Identity::default()
                    })
                };
                let found = match lookup {
                    Lookup::Owner { key, seen } => Found::Owner { key, seen, identity: identity(seen.tgid) },
                    Lookup::User { key, socket } => {
                        Found::User { key, identity: Some(identity(socket.maker)) }
                    }
                    Lookup::Listener { cookie, seen } => {
                        Found::Listener { cookie, identity: identity(seen.tgid) }
                    }
                    Lookup::Tunnel { key, .. } => Found::Tunnel { key, way: Way::Through(tunnel()) },
                    Lookup::Sockets => {
                        Found::Sockets { seen: Vec::new(), rest: Rest::Unseen, began_ns: self.now_ns }
                    }
                    // Those of tests that answer are known by then; each has all addresses.
                    Lookup::Namespace { socket: SocketKey { netns, cookie, local, .. }, checks_address } => {
                        let address = checks_address.then_some(local.ip());
                        let realm = self.core.realm_of_namespace(netns);
                        Found::Namespace { netns, cookie, address, realm }
                    }
                };
                self.core.found(found, self.now_ns);
            }
        }
    }

    fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.core.tick(self.now_ns, Clock::now());
    }
}

/// A socket of the host, as it is found; without a peer.
fn bound(transport: Transport, state: TcpState, cookie: u64, local: &str) -> SocketSeen {
    SocketSeen {
        transport,
        ipv6: false,
        local: local.parse().unwrap(),
        remote: "0.0.0.0:0".parse().unwrap(),
        state,
        cookie,
        inode: 0,
        uid: 0,
        device: 0,
        mark: 0,
        cgroup: 0,
        tcp: None,
    }
}

fn flows(records: &[Record]) -> Vec<(FlowAction, &FlowView)> {
    records
        .iter()
        .filter_map(|record| match record {
            Record::Flow { flow, action, .. } => Some((*action, &**flow)),
            _ => None,
        })
        .collect()
}

fn alerts(records: &[Record]) -> Vec<&AlertView> {
    records
        .iter()
        .filter_map(|record| match record {
            Record::Alert { alert, .. } => Some(&**alert),
            _ => None,
        })
        .collect()
}

/// The index of the tunnel's interface, and of another.
const WG0: u32 = 5;
const ETH0: u32 = 2;
const CLIENT: &str = "10.0.0.1:40000";
const SERVER: &str = "10.0.0.2:8080";
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: example.org\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const LOG_IN: &[u8] = b"GET /a HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";

/// A TLS client at a server of HTTP: it is answered with readable bytes.
#[test]
fn a_stream_names_no_protocol_but_that_of_the_answer_that_it_shows() {
    let hello =
        [&[22, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 0]].concat();
    let html = b"<!DOCTYPE HTML>\n<html><title>Error response</title><p>Bad request version</p></html>\n";
    let shown = |conversations: &[[&[u8]; 2]]| {
        let mut rig = Rig::new(settings());
        for ([request, response], cookie) in conversations.iter().zip(1..) {
            let client = format!("10.0.0.1:{}", 40_000 + cookie);
            let mut open = rig.event(Kind::Open, cookie, &client, SERVER, false);
            open.owner.tgid = 7;
            rig.feed(Kind::Open, open);
            rig.capture(&open, true, 0, request);
            rig.capture(&open, false, 0, response);
            rig.records();
            let (sent_bytes, received_bytes) = (request.len() as u64, response.len() as u64);
            rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, ..open });
            rig.records();
        }
        let stream = rig.core.streams.iter().next().unwrap();
        assert_eq!(stream.flows, conversations.len() as u64);
        let view = stream.view(|_| jiff::Timestamp::UNIX_EPOCH);
        (view.protocol.unwrap_or_default(), view.verdict.encrypted.reason.clone())
    };
    let (http, odd) = ([REQUEST, RESPONSE], [&hello[..], &html[..]]);
    let expected = |protocol: &str, reason: &str| (protocol.to_owned(), reason.to_owned());
    let (of_http, of_odd) =
        (expected("http", "http in the clear"), expected("", "readable bytes of no known protocol"));
    assert_eq!(shown(&[odd]), of_odd);
    assert_eq!(shown(&[http, odd]), of_odd);
    assert_eq!(shown(&[odd, http]), of_http);
    assert_eq!(shown(&[http, [&hello[..], RESPONSE]]), of_odd);
    // What is not known takes nothing away.
    assert_eq!(shown(&[http, [b"", b""]]), of_http);
}

#[test]
fn both_ends_on_this_host_count_once() {
    let mut rig = Rig::new(settings());
    let client = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    rig.feed(Kind::Open, client);
    rig.feed(Kind::Open, server);
    rig.capture(&client, true, 0, REQUEST);
    rig.capture(&server, false, 0, REQUEST);
    rig.records();
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 5, received_bytes: 6, ..client });
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 6, received_bytes: 5, ..server });
    let records = rig.records();
    assert_eq!(flows(&records).iter().filter(|(action, _)| *action == FlowAction::FlowClosed).count(), 2);
    assert_eq!(rig.core.streams.len(), 1);
    let stream = rig.core.streams.iter().next().unwrap();
    assert_eq!((stream.flows, stream.client_bytes, stream.server_bytes), (1, 5, 6));
    assert_eq!(stream.key.to_string(), "p41 (uid 41) → p42 (uid 42):8080/tcp");
    assert_eq!(rig.core.total_bytes(), (5, 6));
}

#[test]
fn an_end_that_is_heard_of_late_does_not_count_again() {
    let mut rig = Rig::new(settings());
    let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    rig.feed(Kind::Open, server);
    rig.capture(&server, false, 0, REQUEST);
    rig.capture(&server, true, 0, RESPONSE);
    rig.records();
    // The client's opening was lost: it is heard of when it closes, before or after the other end.
    let client = rig.event(Kind::Close, 1, CLIENT, SERVER, false);
    rig.pass(SECOND);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 6, received_bytes: 5, at_ns: rig.now_ns, ..server });
    rig.records();
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 5, received_bytes: 6, at_ns: rig.now_ns, ..client });
    rig.records();
    assert_eq!(rig.core.total_bytes(), (5, 6));
    assert_eq!(rig.core.streams.iter().map(|stream| stream.flows).sum::<u64>(), 1);
}

#[test]
fn a_close_whose_beginning_was_lost_has_exact_totals_and_is_not_called_watched() {
    let mut rig = Rig::new(settings());
    let close = rig.event(Kind::Close, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 1000, received_bytes: 2000, ..close });
    let records = rig.records();
    let (action, flow) = *flows(&records).last().unwrap();
    assert_eq!(action, FlowAction::FlowClosed);
    assert_eq!((flow.sent.bytes, flow.received.bytes), (1000, 2000));
    assert_eq!(flow.verdict.watched.answer, Answer::No);
    assert_eq!(flow.verdict.encrypted.answer, Answer::Unknown);
}

#[test]
fn lost_captures_make_watched_no_and_never_encrypted_yes() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.feed(Kind::Close, FlowEvent { lost_captures: 2, sent_bytes: 9, ..open });
    let records = rig.records();
    let (_, flow) = *flows(&records).last().unwrap();
    assert_eq!(flow.verdict.watched.answer, Answer::No);
    assert_eq!(flow.verdict.encrypted.answer, Answer::Unknown);
}

#[test]
fn a_full_table_pushes_out_the_oldest_counts_it_and_keeps_its_totals() {
    let mut rig = Rig::new(CoreSettings { capacity: 4, ..settings() });
    for cookie in 1..=6 {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        rig.feed(Kind::Open, open);
        rig.records();
        rig.feed(Kind::Progress, FlowEvent { sent_bytes: 10, ..open });
        rig.pass(20 * SECOND);
        rig.records();
    }
    assert_eq!((rig.core.table.len(), rig.core.table.evicted), (4, 2));
    // The end of a flow that was pushed out still brings its totals.
    let first = rig.event(Kind::Close, 1, "10.0.0.1:40001", SERVER, false);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 77, ..first });
    rig.records();
    assert_eq!(rig.core.total_bytes().0, 77 + 5 * 10);
    let stream = rig.core.streams.iter().map(|stream| stream.client_bytes).sum::<u64>();
    assert_eq!(stream, 77 + 5 * 10);
}

#[test]
fn data_that_came_before_accept_belongs_to_the_connection() {
    let mut rig = Rig::new(settings());
    let mut open = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    open.detail = 5000;
    let early = FlowEvent { cookie: 1, ..open };
    let head = CaptureHead {
        kind: Kind::Capture as u8,
        transport: 6,
        flags: capture_flag::LISTENER,
        len: REQUEST.len() as u32,
        cookie: early.cookie,
        netns: early.netns,
        at_ns: rig.now_ns,
        offset: 5000,
        local: early.local,
        remote: early.remote,
        local_port: early.local_port,
        remote_port: early.remote_port,
        ..CaptureHead::default()
    };
    rig.core.event(Event::Capture(head, REQUEST.into()), rig.now_ns);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, RESPONSE);
    let records = rig.records();
    let (_, flow) = *flows(&records).last().unwrap();
    assert_eq!(flow.facts.protocol, Some(dissect::Protocol::Http));
}

#[test]
fn another_policy_judges_open_flows_again() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, REQUEST);
    rig.capture(&open, false, 0, RESPONSE);
    rig.records();
    let policy = "[[service]]\nname = \"web\"\nports = [8080]\n[[service.client]]\nprocess = \"other\"\n";
    let policy = Policy::parse(std::path::Path::new("p.toml"), policy).unwrap();
    rig.core.set_policy(Arc::new(policy), rig.now_ns);
    let records = rig.records();
    assert!(alerts(&records).iter().any(|alert| alert.rule == Rule::UnexpectedPeer), "{records:?}");
    rig.core.set_policy(Arc::new(Policy::builtin()), rig.now_ns);
    let stream = rig.core.streams.iter().next().unwrap();
    assert_eq!(stream.verdict.authorised.answer, Answer::Unknown, "an old policy's answer stays");
}

#[test]
fn a_capture_whose_flow_was_not_told_knows_who_began_it() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    let head = CaptureHead {
        kind: Kind::Capture as u8,
        transport: 6,
        flags: capture_flag::SENT | capture_flag::ACTIVE,
        len: REQUEST.len() as u32,
        cookie: 1,
        netns: 1,
        at_ns: rig.now_ns,
        local: open.local,
        remote: open.remote,
        local_port: open.local_port,
        remote_port: open.remote_port,
        ..CaptureHead::default()
    };
    rig.core.event(Event::Capture(head, REQUEST.into()), rig.now_ns);
    rig.feed(Kind::Close, open);
    let records = rig.records();
    let (_, flow) = *flows(&records).last().unwrap();
    assert_eq!(flow.direction, Direction::Egress);
    assert_eq!(flow.facts.protocol, Some(dissect::Protocol::Http));
}

#[test]
fn the_walk_in_shares_meets_every_flow_in_its_quiet_second() {
    let mut rig = Rig::new(CoreSettings { capacity: 4096, ..settings() });
    for cookie in 1..=1000 {
        let open = rig.event(Kind::Open, cookie, CLIENT, SERVER, false);
        rig.feed(Kind::Open, FlowEvent { transport: 17, ..open });
    }
    rig.records();
    let mut read: HashMap<u64, u32> = HashMap::new();
    for _ in 0..60 {
        rig.pass(SECOND / 20);
        for command in rig.core.take_output().commands {
            if let Command::ReadUdp { key } = command {
                *read.entry(key.cookie).or_default() += 1;
            }
        }
    }
    assert_eq!(read.len(), 1000);
    assert!(read.values().all(|times| (1..=2).contains(times)), "{read:?}");
}

fn socket_counts(cookie: u64, state: TcpState, counts: TcpCounts) -> SocketCounts {
    SocketCounts { cookie, state, counts }
}

#[test]
fn totals_from_the_kernel_reach_every_flow_part_by_part() {
    let mut rig = Rig::new(CoreSettings { capacity: 1 << 16, ..settings() });
    let flows = 40_000;
    for cookie in 1..=flows {
        let remote = format!("10.0.{}.{}:8080", cookie / 250, cookie % 250 + 1);
        let open = rig.event(Kind::Open, cookie, CLIENT, &remote, false);
        rig.feed(Kind::Open, open);
    }
    rig.records();
    let counts = TcpCounts { bytes_acked: 8, ..TcpCounts::default() };
    let seen: Vec<_> =
        (1..=flows).map(|cookie| socket_counts(cookie, TcpState::Established, counts)).collect();
    for part in seen.chunks(1000) {
        let found = Found::Sockets { seen: part.to_vec(), rest: Rest::Follows, began_ns: rig.now_ns };
        rig.core.found(found, rig.now_ns);
    }
    let found = Found::Sockets { seen: Vec::new(), rest: Rest::Nothing, began_ns: rig.now_ns };
    rig.core.found(found, rig.now_ns);
    // Share by share.
    for _ in 0..4 {
        rig.pass(SECOND / 20);
    }
    // The kernel counts the SYN.
    assert_eq!(rig.core.total_bytes().0, 7 * flows);
    assert_eq!(rig.core.table.len() as u64, flows);
}

/// It was asked before, and may have read its state before our FIN left and its counters after.
#[test]
fn what_the_kernel_said_of_a_socket_changes_nothing_after_its_end() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 7, ..open });
    let counts = TcpCounts { bytes_acked: 9, ..TcpCounts::default() };
    let seen = vec![socket_counts(1, TcpState::CloseWait, counts)];
    rig.core.found(Found::Sockets { seen, rest: Rest::Nothing, began_ns: rig.now_ns }, rig.now_ns);
    let records = rig.records();
    let told = flows(&records);
    let (action, flow) = told.last().unwrap();
    assert_eq!((*action, flow.sent.bytes), (FlowAction::FlowClosed, 7));
    assert_eq!(rig.core.total_bytes().0, 7);
}

/// The answer about who made the socket can come after the event that says who used it.
#[test]
fn a_late_answer_about_the_maker_does_not_undo_who_closed_it() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, SERVER, CLIENT, true);
    rig.feed(Kind::Open, open);
    let owner = Owner { tgid: 99, seen_ns: 2, ..Owner::default() };
    rig.feed(Kind::Close, FlowEvent { owner, ..open });
    let told = rig.records();
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!(flow.state, FlowState::Closed);
    assert_eq!(flow.owner.pid, Some(99));
}

/// What a client does in the clear decides, and what was passed over is no yes.
#[test]
fn roles_are_held_against_what_a_client_does() {
    const POLICY: &str = "[[service]]\nname = \"web\"\nports = [8080]\n\n[[service.client]]\n\
                          process = \"p41\"\nmay = [\"read\"]\npath = \"/a\"\n";
    let answer = |requests: &[&[u8]], sent_bytes: Option<u64>| {
        let mut rig = Rig::new(settings());
        let policy = Policy::parse(std::path::Path::new("p.toml"), POLICY).unwrap();
        rig.core.set_policy(Arc::new(policy), rig.now_ns);
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        let mut told = Vec::new();
        let (mut asked, mut answered) = (0, 0);
        for request in requests {
            rig.capture(&open, true, asked, request);
            rig.capture(&open, false, answered, REFUSED);
            asked += request.len() as u32;
            answered += REFUSED.len() as u32;
            rig.pass(SECOND);
            told.extend(rig.records());
        }
        let (sent_bytes, received_bytes) = (sent_bytes.unwrap_or(asked.into()), answered.into());
        rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, ..open });
        told.extend(rig.records());
        let (_, flow) = *flows(&told).last().unwrap();
        let unexpected = alerts(&told).iter().filter(|alert| alert.rule == Rule::UnexpectedPeer).count();
        (flow.verdict.authorised.answer, unexpected)
    };
    const READ: &[u8] = b"GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n";
    const WRITE: &[u8] = b"PUT /a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    const ELSEWHERE: &[u8] = b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(answer(&[READ, READ], None), (Answer::Yes, 0));
    assert_eq!(answer(&[READ, READ, WRITE], None), (Answer::No, 1));
    assert_eq!(answer(&[ELSEWHERE], None), (Answer::No, 1));
    assert_eq!(answer(&[READ, READ], Some(100_000)), (Answer::Unknown, 0));
}

/// A yes holds while all is read: not from when more is sent than was, or what is sent is no requests any more.
#[test]
fn a_role_that_was_kept_is_unknown_from_when_it_is_not_read_any_more() {
    const POLICY: &str = "[[service]]\nname = \"web\"\nports = [8080]\n\n[[service.client]]\n\
                          process = \"p41\"\nmay = [\"read\"]\n";
    const READ: &[u8] = b"GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n";
    const OTHER: &[u8] = b"GET /a/b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const SWITCHES: &[u8] = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    for switches in [false, true] {
        let mut rig = Rig::new(settings());
        let policy = Policy::parse(std::path::Path::new("p.toml"), POLICY).unwrap();
        rig.core.set_policy(Arc::new(policy), rig.now_ns);
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, READ);
        rig.capture(&open, false, 0, OK);
        let (mut sent, mut received) = (READ.len() as u64, OK.len() as u64);
        rig.pass(SECOND);
        rig.feed(Kind::Progress, FlowEvent { sent_bytes: sent, received_bytes: received, ..open });
        rig.pass(SECOND);
        rig.records();
        let answer = |rig: &Rig| {
            let stream = rig.core.streams.iter().next().unwrap();
            stream.verdict.authorised.answer
        };
        assert_eq!(answer(&rig), Answer::Yes);
        if switches {
            rig.capture(&open, true, sent as u32, OTHER);
            rig.capture(&open, false, received as u32, SWITCHES);
            (sent, received) = (sent + OTHER.len() as u64, received + SWITCHES.len() as u64);
        }
        let more = FlowEvent { sent_bytes: sent + 50_000, received_bytes: received, ..open };
        rig.feed(Kind::Progress, more);
        rig.pass(SECOND);
        rig.records();
        assert_eq!(answer(&rig), Answer::Unknown, "while it goes on, switches: {switches}");
        rig.feed(Kind::Close, more);
        let told = rig.records();
        let (_, flow) = *flows(&told).last().unwrap();
        assert_eq!(flow.verdict.authorised.answer, Answer::Unknown, "at its end, switches: {switches}");
    }
}
