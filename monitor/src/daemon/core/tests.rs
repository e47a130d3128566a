//! The core, driven by hand: events and answers in, records out, no clock but the argument.

#![allow(clippy::unwrap_used)]

mod again;
mod clocks;
mod ends;
mod flood;
mod following;
mod hidden;
mod named;
mod owners;
mod policies;
mod quiet_day;
mod taken_over;
mod udp;

use super::*;
use crate::event::to_bytes;
use crate::model::{AlertState, AlertView, FlowView, Tunnel, TunnelKind};

const SECOND: u64 = 1_000_000_000;

struct Rig {
    core: Core,
    now_ns: u64,
}

fn tunnel() -> Tunnel {
    Tunnel { kind: TunnelKind::Wireguard, name: "wg0".into(), evidence: "the route".into() }
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
        let core = Core::new(settings, "boot".into(), Arc::new(Policy::builtin()), Clock::now());
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
                    Lookup::Sockets => Found::Sockets { seen: None, began_ns: self.now_ns },
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

const CLIENT: &str = "10.0.0.1:40000";
const SERVER: &str = "10.0.0.2:8080";
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: example.org\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn plaintext_is_one_alert_a_stream_with_a_count() {
    let mut rig = Rig::new(settings());
    let mut told = Vec::new();
    for cookie in 1..=3 {
        let mut open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        open.owner.tgid = 7;
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
        told.extend(rig.records());
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 10, received_bytes: 20, ..open });
        told.extend(rig.records());
    }
    let alerts = alerts(&told);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].rule, alerts[0].state), (Rule::Plaintext, AlertState::Opened));
    assert_eq!(rig.core.alerts.open()[0].count, 3);
    let stream = rig.core.streams.iter().next().unwrap();
    assert_eq!((stream.flows, stream.open, stream.client_bytes, stream.server_bytes), (3, 0, 30, 60));
}

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
fn plaintext_within_a_tunnel_is_encrypted_and_no_alert_until_it_leaves_it() {
    let mut rig = Rig::new(settings());
    rig.core.found(Found::Tunnels(true), rig.now_ns);
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, REQUEST);
    rig.capture(&open, false, 0, RESPONSE);
    let told = rig.records();
    assert!(alerts(&told).is_empty());
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!(flow.verdict.encrypted.answer, Answer::Yes);
    assert_eq!(flow.verdict.encrypted.reason, "WireGuard tunnel wg0 (http in the clear inside)");
    assert_eq!(flow.tunnel.as_deref(), Some(&tunnel()));
    // It is looked at again, and what cannot be found out changes nothing.
    rig.pass(SECOND);
    let again = rig.core.take_output().lookups;
    let Some(key) = again.iter().find_map(|lookup| match lookup {
        Lookup::Tunnel { key, .. } => Some(*key),
        _ => None,
    }) else {
        panic!("{again:?}")
    };
    rig.core.found(Found::Tunnel { key, way: Way::Unknown }, rig.now_ns);
    assert!(alerts(&rig.records()).is_empty());
    rig.core.found(Found::Tunnel { key, way: Way::Direct }, rig.now_ns);
    assert_eq!(alerts(&rig.records()).len(), 1);
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
    assert_eq!(stream.key.to_string(), "p41 → p42:8080/tcp");
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

/// The rest of it was not captured: it may have gone through.
#[test]
fn a_handshake_that_was_not_seen_to_its_end_did_not_fail() {
    let hello =
        [&[22, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3][..], &[7; 32], &[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0]].concat();
    for lost in [0, 2] {
        let mut rig = Rig::new(settings());
        let sizes = FlowEvent { lost_captures: lost, sent_bytes: hello.len() as u64, ..FlowEvent::default() };
        let mut told = Vec::new();
        for cookie in 1..=6 {
            let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
            let open = FlowEvent { owner: Owner { tgid: 40, seen_ns: 1, ..Owner::default() }, ..open };
            rig.feed(Kind::Open, open);
            rig.capture(&open, true, 0, &hello);
            let FlowEvent { lost_captures, sent_bytes, .. } = sizes;
            rig.feed(Kind::Close, FlowEvent { lost_captures, sent_bytes, ..open });
            told.extend(rig.records());
        }
        let failures = alerts(&told).iter().filter(|alert| alert.rule == Rule::ConnectFailures).count();
        let (_, flow) = *flows(&told).last().unwrap();
        assert_eq!(failures > 0, lost == 0, "lost: {lost}: {:?}", flow.facts);
        assert_eq!(flow.facts.is_established(), (lost == 0).then_some(false));
    }
}

#[test]
fn a_greeting_in_the_clear_is_no_alert_while_an_upgrade_may_follow() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, "10.0.0.2:2525", false);
    rig.feed(Kind::Open, open);
    rig.capture(&open, false, 0, b"220 mail.example.org ESMTP\r\n");
    rig.pass(SECOND);
    assert!(alerts(&rig.records()).is_empty());
    rig.pass(2 * SECOND);
    let records = rig.records();
    assert_eq!(alerts(&records).len(), 1, "it stays in the clear: {records:?}");
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
fn what_fails_is_told_and_counted() {
    let mut rig = Rig::new(settings());
    let mut told = Vec::new();
    for cookie in 1..=5 {
        let mut open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        open.owner.tgid = 7;
        rig.feed(Kind::Open, open);
        let failed = FlowEvent { flags: flow_flag::ACTIVE | flow_flag::ANSWERED, ..open };
        rig.feed(Kind::Failed, failed);
        told.extend(rig.records());
    }
    let failed: Vec<_> =
        flows(&told).into_iter().filter(|(action, _)| *action == FlowAction::ConnectionFailed).collect();
    assert_eq!(failed.len(), 5);
    assert!(failed.iter().all(|(_, flow)| flow.failure == Some(FailReason::Refused)));
    let alerts = alerts(&told);
    assert_eq!(alerts.iter().map(|alert| alert.rule).collect::<Vec<_>>(), [Rule::ConnectFailures]);
}

/// Nothing of a flow holds what is said of many places.
#[test]
fn a_scan_by_a_client_here_is_resolved_when_it_is_quiet() {
    let mut rig = Rig::new(settings());
    for port in 1..40 {
        let remote = format!("10.0.0.2:{port}");
        let mut open = rig.event(Kind::Open, port, CLIENT, &remote, false);
        open.owner.tgid = 7;
        rig.feed(Kind::Open, open);
        let flags = flow_flag::ACTIVE | flow_flag::ANSWERED;
        rig.feed(Kind::Failed, FlowEvent { flags, ..open });
        rig.records();
    }
    let open = |rig: &Rig| rig.core.alerts.open();
    let scans = |rig: &Rig| open(rig).iter().filter(|alert| alert.key.contains("many ports")).count();
    assert_eq!(scans(&rig), 1);
    rig.pass(400 * SECOND);
    assert_eq!(scans(&rig), 0);
}

/// No socket of ours takes part; a client on this host is told by its own flow.
#[test]
fn a_scan_from_elsewhere_is_told_by_what_is_refused() {
    let refused = |rig: &mut Rig, port: u16, client: &str| {
        let event = FlowEvent {
            owner: Owner::default(),
            ..rig.event(Kind::Refused, 0, &format!("10.0.0.1:{port}"), client, true)
        };
        rig.feed(Kind::Refused, event);
        alerts(&rig.records()).into_iter().map(|alert| alert.key.clone()).collect::<Vec<_>>()
    };
    let mut rig = Rig::new(settings());
    let told: Vec<String> = (1..40).flat_map(|port| refused(&mut rig, port, "10.0.0.9:4000")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("10.0.0.9 → 10.0.0.1, many ports"), "{told:?}");
    assert!(rig.core.table.is_empty(), "nothing of it is a flow");
    let told: Vec<String> = (0..20).flat_map(|_| refused(&mut rig, 23, "10.0.0.8:4000")).collect();
    assert_eq!(told.len(), 1, "one service, refused again and again: {told:?}");
    let mut rig = Rig::new(settings());
    for port in 1..40 {
        let client = "10.0.0.9:4000";
        let open = rig.event(Kind::Open, u64::from(port), client, &format!("10.0.0.1:{port}"), false);
        rig.feed(Kind::Open, open);
        assert_eq!(refused(&mut rig, port, client), Vec::<String>::new());
    }
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

/// A log-in that did not come has failed only if the connection is over and all of it was seen.
#[test]
fn an_ssh_log_in_fails_with_the_whole_of_its_connection() {
    use dissect::SshAuthenticationState::{Begun, Failed};
    const FROM_CLIENT: &[u8] = include_bytes!("../../../../dissect/fixtures/ssh/refused_key.client");
    const FROM_SERVER: &[u8] = include_bytes!("../../../../dissect/fixtures/ssh/refused_key.server");
    let state = |received: Option<usize>| {
        let mut rig = Rig::new(settings());
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, FROM_CLIENT);
        rig.capture(&open, false, 0, FROM_SERVER);
        let mut told = rig.records();
        match received {
            Some(received) => {
                let (sent_bytes, received_bytes) = (FROM_CLIENT.len() as u64, received as u64);
                rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, ..open });
            }
            None => rig.core.shut_down(rig.now_ns, false),
        }
        told.extend(rig.records());
        let (_, flow) = *flows(&told).last().unwrap();
        flow.facts.ssh.as_ref().unwrap().authentication.state
    };
    assert_eq!(state(Some(FROM_SERVER.len())), Failed);
    assert_eq!(state(Some(FROM_SERVER.len() + 1)), Begun);
    assert_eq!(state(None), Begun);
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

#[test]
fn totals_from_the_kernel_reach_every_flow_share_by_share() {
    let mut rig = Rig::new(CoreSettings { capacity: 1 << 16, ..settings() });
    let flows = 40_000;
    for cookie in 1..=flows {
        let remote = format!("10.0.{}.{}:8080", cookie / 250, cookie % 250 + 1);
        let open = rig.event(Kind::Open, cookie, CLIENT, &remote, false);
        rig.feed(Kind::Open, open);
    }
    rig.records();
    let counts = TcpCounts { bytes_acked: 8, ..TcpCounts::default() };
    let seen = (1..=flows).map(|cookie| (cookie, (TcpState::Established, counts))).collect();
    rig.core.found(Found::Sockets { seen: Some(seen), began_ns: rig.now_ns }, rig.now_ns);
    for _ in 0..4 {
        rig.pass(SECOND / 20);
    }
    // The kernel counts the SYN.
    assert_eq!(rig.core.total_bytes().0, 7 * flows);
}

#[test]
fn a_loader_that_says_nothing_for_half_a_minute_is_told_and_told_again() {
    let mut rig = Rig::new(settings());
    for heard in 1..=100 {
        rig.core.look_for_loader(heard, rig.now_ns);
    }
    let mut look = |times: u32| {
        for _ in 0..times {
            rig.now_ns += SECOND;
            rig.core.look_for_loader(100, rig.now_ns);
        }
        let records = rig.records();
        alerts(&records).iter().map(|alert| (alert.rule, alert.severity)).collect::<Vec<_>>()
    };
    assert_eq!(look(29), []);
    assert_eq!(look(1), [(Rule::MonitorTampered, crate::model::Severity::Critical)]);
    look(29);
    assert_eq!(rig.core.open_alerts()[0].count, 1);
    rig.core.look_for_loader(100, rig.now_ns);
    assert_eq!(rig.core.open_alerts()[0].count, 2);
    for _ in 0..29 {
        rig.core.look_for_loader(101, rig.now_ns);
    }
    assert_eq!(rig.core.open_alerts()[0].count, 2);
}

#[test]
fn each_time_that_somebody_takes_a_hook_away_is_told() {
    let mut rig = Rig::new(settings());
    let mut told = |what: &'static str, restored: bool| {
        rig.now_ns += SECOND;
        let hook = crate::model::Tampered {
            part: "hook sent".into(),
            attach: "cgroup_inet_egress".into(),
            what: what.into(),
            works: restored,
            restored: restored.then_some(Ok(())),
        };
        rig.core.tampered(vec![hook], rig.now_ns);
        alerts(&rig.records()).iter().map(|alert| alert.reason.clone()).collect::<Vec<_>>()
    };
    // Put right each time: each is one of its own.
    for _ in 0..3 {
        assert_eq!(told("was detached", true).len(), 1);
    }
    let [reason] = &told("runs another program", true)[..] else { panic!("it was told once") };
    assert!(reason.contains("runs another program"), "{reason}");
    // Left as it is: once, and then every alerts.repeat seconds.
    assert_eq!(told("was detached", false).len(), 1);
    assert_eq!(told("was detached", false).len(), 0);
    assert_eq!(told("lost its pin", false).len(), 1);
}

/// It was asked before, and may have read its state before our FIN left and its counters after.
#[test]
fn what_the_kernel_said_of_a_socket_changes_nothing_after_its_end() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 7, ..open });
    let counts = TcpCounts { bytes_acked: 9, ..TcpCounts::default() };
    let seen = HashMap::from([(1, (TcpState::CloseWait, counts))]);
    rig.core.found(Found::Sockets { seen: Some(seen), began_ns: rig.now_ns }, rig.now_ns);
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
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    let owner = Owner { tgid: 99, seen_ns: 2, ..Owner::default() };
    rig.feed(Kind::Close, FlowEvent { owner, ..open });
    let told = rig.records();
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!(flow.state, FlowState::Closed);
    assert_eq!(flow.owner.pid, Some(99));
}

const LOG_IN: &[u8] = b"GET /a HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";

/// Seen at both ends, which are both on this host, in one connection after its first bytes.
#[test]
fn log_ins_that_fail_count_once_and_late() {
    let mut rig = Rig::new(settings());
    let client = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    rig.feed(Kind::Open, client);
    rig.feed(Kind::Open, server);
    let (mut asked, mut answered) = (0, 0);
    let mut told = Vec::new();
    let mut exchange = |rig: &mut Rig, request: &[u8], response: &[u8]| {
        for (event, passive) in [(&client, false), (&server, true)] {
            rig.capture(event, !passive, asked, request);
            rig.capture(event, passive, answered, response);
        }
        asked += request.len() as u32;
        answered += response.len() as u32;
        rig.pass(SECOND);
        told.extend(rig.records());
        told.iter()
            .filter(
                |record| matches!(record, Record::Alert { alert, .. } if alert.rule == Rule::AuthFailures),
            )
            .count()
    };
    assert_eq!(exchange(&mut rig, REQUEST, RESPONSE), 0);
    for _ in 0..4 {
        assert_eq!(exchange(&mut rig, LOG_IN, REFUSED), 0);
    }
    assert_eq!(exchange(&mut rig, LOG_IN, REFUSED), 1);
    let open = rig.core.alerts.open();
    let alert = open.iter().find(|alert| alert.rule == Rule::AuthFailures).unwrap();
    assert!(alert.reason.contains("5 times"), "{}", alert.reason);
    let credentials = open.iter().filter(|alert| alert.rule == Rule::CredentialInClear);
    assert_eq!(credentials.map(|alert| alert.count).collect::<Vec<_>>(), [1]);
}

/// What is silenced is marked, and the mark ends with the silence.
#[test]
fn silences_mark_what_they_cover() {
    let mut rig = Rig::new(settings());
    let word = crate::api::Word { by: 0, for_s: 60, why: "maintenance".into() };
    assert!(rig.core.silence("rule ==".into(), word.clone(), rig.now_ns).is_err());
    let made = rig.core.silence("rule == \"plaintext\"".into(), word, rig.now_ns).unwrap();
    let event = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, event);
    rig.capture(&event, true, 0, REQUEST);
    rig.capture(&event, false, 0, RESPONSE);
    let told = rig.records();
    assert_eq!(alerts(&told)[0].silenced.as_ref().map(|silence| silence.id), Some(made.id));
    assert_eq!(rig.core.open_alerts()[0].silenced.as_ref().map(|silence| silence.by), Some(0));
    rig.pass(61 * SECOND);
    assert!(rig.core.silences().is_empty());
    assert!(rig.core.open_alerts()[0].silenced.is_none());
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
