//! Peers of UDP sockets that the kernel counts, and that are not in the table.

use monitor_common::UdpFlow;

use super::*;

fn udp(rig: &Rig, cookie: u64) -> FlowEvent {
    let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
    FlowEvent { transport: 17, sent_packets: 1, sent_bytes: 100, ..open }
}

/// What the kernel counts of it.
fn totals(event: &FlowEvent, sent_bytes: u64) -> UdpFlow {
    UdpFlow {
        sent_packets: sent_bytes / 100,
        sent_bytes,
        received_packets: 0,
        received_bytes: 0,
        opened_ns: event.opened_ns,
        last_tick: 0,
        sent_budget: 0,
        received_budget: 0,
        lost_captures: 0,
        generation: 0,
        flags: u32::from(flow_flag::ACTIVE),
        sent_device: event.sent_device,
        received_device: event.received_device,
        reserved: 0,
        local: event.local,
    }
}

fn sweep(rig: &mut Rig, event: &FlowEvent, sent_bytes: u64) -> Vec<Command> {
    rig.core.event(Event::UdpLeft(key_of(event), totals(event, sent_bytes)), rig.now_ns);
    let mut commands = rig.core.take_output().commands;
    commands.retain(|command| !matches!(command, Command::Decide { .. }));
    commands
}

fn sent(rig: &mut Rig) -> u64 {
    rig.pass(2 * SECOND);
    rig.records();
    rig.core.total_bytes().0
}

#[test]
fn a_peer_whose_first_word_was_lost_counts_and_ends_when_it_is_idle() {
    let mut rig = Rig::new(settings());
    rig.core.found(Found::Existing { sockets: Vec::new(), at_ns: rig.now_ns }, rig.now_ns);
    let lost = udp(&rig, 1);
    assert!(sweep(&mut rig, &lost, 500).is_empty());
    assert_eq!(sent(&mut rig), 500);
    sweep(&mut rig, &lost, 700);
    rig.pass(100 * SECOND);
    let commands = rig.core.take_output().commands;
    assert!(commands.iter().any(|command| matches!(command, Command::EndUdpIfIdle { packets: 5, .. })));
    let ended = Event::Udp { key: key_of(&lost), totals: Some(totals(&lost, 700)), ended: true };
    rig.core.event(ended, rig.now_ns);
    assert_eq!(sent(&mut rig), 700);
    // Read before that, and come after it.
    sweep(&mut rig, &lost, 700);
    assert_eq!((sent(&mut rig), rig.core.open_flows()), (700, 0));
    // The next one may be lost, too.
    let next = udp(&rig, 1);
    sweep(&mut rig, &next, 300);
    assert_eq!(sent(&mut rig), 1000);
}

#[test]
fn a_peer_that_had_to_leave_a_full_table_is_freed_and_counts_once() {
    let mut rig = Rig::new(CoreSettings { capacity: 1, ..settings() });
    let first = udp(&rig, 1);
    rig.feed(Kind::Open, first);
    assert_eq!(sent(&mut rig), 100);
    rig.pass(20 * SECOND);
    let second = udp(&rig, 2);
    rig.feed(Kind::Open, second);
    assert_eq!((sent(&mut rig), rig.core.table.evicted), (200, 1));
    // All of it is counted: it need not come back.
    let commands = sweep(&mut rig, &first, 100);
    assert!(matches!(commands[..], [Command::EndUdpIfIdle { packets: 1, .. }]), "{commands:?}");
    assert_eq!(rig.core.table.evicted, 1);
    // It was used meanwhile.
    let key = key_of(&first);
    rig.core.event(Event::Udp { key, totals: Some(totals(&first, 300)), ended: false }, rig.now_ns);
    assert_eq!(sent(&mut rig), 400);
    // So the other one had to leave, and that is idle.
    assert_eq!(sweep(&mut rig, &second, 100).len(), 1);
    let key = key_of(&second);
    rig.core.event(Event::Udp { key, totals: Some(totals(&second, 100)), ended: true }, rig.now_ns);
    let again = FlowEvent { opened_ns: rig.now_ns, ..second };
    sweep(&mut rig, &again, 50);
    assert_eq!(sent(&mut rig), 450);
}

/// WireGuard: both ends agree, and one of them says one thing more.
#[test]
fn what_is_encrypted_and_quiet_is_settled() {
    let noise = |n: usize| (0..n).map(|at| (at * 167 + at / 3 * 89) as u8).collect::<Vec<u8>>();
    let message = |kind: u8, indices: &[u8], length: usize| {
        let mut bytes = [&[kind, 0, 0, 0], indices].concat();
        bytes.extend(noise(length - bytes.len()));
        bytes
    };
    let mut rig = Rig::new(settings());
    let open = udp(&rig, 1);
    rig.feed(Kind::Open, open);
    for (sent, bytes) in [
        (true, message(1, b"here", 148)),
        (false, message(2, b"therhere", 92)),
        (true, message(4, b"ther", 96)),
    ] {
        rig.capture(&open, sent, 0, &bytes);
    }
    rig.pass(SECOND);
    let settled = |records: &[Record]| {
        let of_flow = flows(records);
        of_flow.iter().any(|(action, flow)| {
            *action == FlowAction::FlowSettled && flow.verdict.encrypted.answer == Answer::Yes
        })
    };
    assert!(!settled(&rig.records()), "more may come that can be read");
    rig.pass(4 * SECOND);
    assert!(settled(&rig.records()));
    assert_eq!(rig.core.held.total(), 0);
}

/// All that was said was captured: nothing of it is in doubt.
#[test]
fn a_handshake_in_datagrams_that_nobody_answers_is_told_as_that() {
    let mut rig = Rig::new(settings());
    let open = udp(&rig, 1);
    rig.feed(Kind::Open, open);
    let mut hello = vec![1, 0, 0, 0, b'h', b'e', b'r', b'e'];
    hello.extend((0..140).map(|at: u32| (at * 167 + at / 3 * 89) as u8));
    rig.capture(&open, true, 0, &hello);
    let ended = Event::Udp { key: key_of(&open), totals: Some(totals(&open, 200)), ended: true };
    rig.core.event(ended, rig.now_ns);
    let records = rig.records();
    let (_, flow) = *flows(&records).last().unwrap();
    assert_eq!(flow.facts.protection, dissect::Protection::Unknown(dissect::UnknownReason::Handshake));
    assert_eq!(flow.facts.detail.as_deref(), Some("WireGuard handshake, not completed so far"));
}

/// The word of it was lost; the totals that are read at the socket's end tell it.
#[test]
fn totals_tell_that_datagrams_went_around_a_tunnel() {
    let mut rig = Rig::new(settings());
    rig.core.found(Found::Tunnels(true), rig.now_ns);
    let mut open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    (open.transport, open.sent_device) = (17, WG0);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, REQUEST);
    rig.pass(SECOND);
    let answer = |records: &[Record]| flows(records).last().unwrap().1.verdict.encrypted.answer;
    assert_eq!(answer(&rig.records()), Answer::Yes);
    open.sent_device = ETH0;
    let totals = Some(totals(&open, 200));
    rig.core.event(Event::Udp { key: key_of(&open), totals, ended: true }, rig.now_ns);
    assert_eq!(answer(&rig.records()), Answer::No);
}
