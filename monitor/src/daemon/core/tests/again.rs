//! A socket that has one connection after the other: each is a flow of its own.

use super::*;

const OTHER: &str = "10.0.0.3:9090";

/// Ids and totals of the ends that were told.
fn ends(records: &[Record]) -> Vec<(String, String, u64)> {
    let ends = flows(records).into_iter().filter(|(action, _)| *action == FlowAction::FlowClosed);
    ends.map(|(_, flow)| (flow.id.clone(), flow.remote.to_string(), flow.sent.bytes)).collect()
}

fn both(rig: &mut Rig, first_is_known: bool, first_end_is_told: bool) -> Vec<(String, String, u64)> {
    let first = rig.event(Kind::Open, 7, CLIENT, SERVER, false);
    rig.feed(Kind::Open, first);
    rig.capture(&first, true, 0, REQUEST);
    rig.capture(&first, false, 0, RESPONSE);
    let mut told = if first_is_known { rig.records() } else { Vec::new() };
    rig.now_ns += SECOND / 100;
    let totals = FlowEvent { sent_bytes: 1000, at_ns: rig.now_ns, ..first };
    rig.feed(if first_end_is_told { Kind::Close } else { Kind::Progress }, totals);
    rig.now_ns += SECOND / 100;
    let second = rig.event(Kind::Open, 7, CLIENT, OTHER, false);
    rig.feed(Kind::Open, second);
    rig.now_ns += SECOND / 100;
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 10, at_ns: rig.now_ns, ..second });
    told.extend(rig.records());
    rig.pass(SECOND);
    told.extend(rig.records());
    assert_eq!(rig.core.open_flows(), 0);
    ends(&told)
}

#[test]
fn each_connection_of_a_socket_has_its_own_totals_and_id() {
    for (first_is_known, first_end_is_told) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut rig = Rig::new(settings());
        let ends = both(&mut rig, first_is_known, first_end_is_told);
        let [first, second] = ends.as_slice() else { panic!("{ends:?}") };
        assert_eq!((first.1.as_str(), first.2), (SERVER, 1000));
        assert_eq!((second.1.as_str(), second.2), (OTHER, 10));
        assert_eq!(first.0, "boot-7");
        assert!(second.0.starts_with("boot-7-"), "{ends:?}");
        assert_eq!(rig.core.total_bytes(), (1010, 0));
    }
}

/// It found the ring full.
#[test]
fn the_end_of_the_connection_before_ends_no_other() {
    let mut rig = Rig::new(settings());
    let first = rig.event(Kind::Open, 7, CLIENT, SERVER, false);
    rig.feed(Kind::Open, first);
    rig.feed(Kind::Progress, FlowEvent { sent_bytes: 400, ..first });
    rig.records();
    rig.now_ns += SECOND / 100;
    let close = FlowEvent { sent_bytes: 1000, at_ns: rig.now_ns, ..first };
    rig.now_ns += SECOND / 100;
    let second = rig.event(Kind::Open, 7, CLIENT, OTHER, false);
    rig.feed(Kind::Open, second);
    rig.feed(Kind::Progress, FlowEvent { sent_bytes: 10, ..second });
    rig.records();
    rig.feed(Kind::Close, close);
    rig.feed(Kind::Close, close);
    rig.records();
    assert_eq!((rig.core.open_flows(), rig.core.total_bytes()), (1, (1010, 0)));
}

#[test]
fn what_a_socket_had_counted_before_is_not_the_next_ones() {
    let mut rig = Rig::new(settings());
    let first = rig.event(Kind::Open, 7, CLIENT, SERVER, false);
    rig.feed(Kind::Open, first);
    rig.records();
    rig.now_ns += SECOND;
    let second = rig.event(Kind::Open, 7, CLIENT, OTHER, false);
    // Asked about before it began, and answered after that.
    let began_ns = rig.now_ns - 1;
    rig.feed(Kind::Open, second);
    rig.records();
    let counts = TcpCounts { bytes_acked: 5001, ..TcpCounts::default() };
    let seen = vec![socket_counts(7, TcpState::Established, counts)];
    rig.core.found(Found::Sockets { seen, rest: Rest::Nothing, began_ns }, rig.now_ns);
    assert_eq!(rig.core.total_bytes(), (0, 0));
}

#[test]
fn a_connection_after_one_that_was_pushed_out_counts_from_nothing() {
    let mut rig = Rig::new(CoreSettings { capacity: 2, ..settings() });
    let first = rig.event(Kind::Open, 7, CLIENT, SERVER, false);
    rig.feed(Kind::Open, first);
    rig.feed(Kind::Progress, FlowEvent { sent_bytes: 1000, ..first });
    rig.records();
    for cookie in 1..=2 {
        rig.pass(20 * SECOND);
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 41_000 + cookie), SERVER, false);
        rig.feed(Kind::Open, open);
        rig.records();
    }
    assert!(!rig.core.holds(7));
    let second = rig.event(Kind::Open, 7, CLIENT, OTHER, false);
    rig.feed(Kind::Open, second);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 10, ..second });
    rig.records();
    assert_eq!(rig.core.total_bytes(), (1010, 0));
}

/// A client that tries again with the same socket.
#[test]
fn each_try_has_its_own_id() {
    let mut rig = Rig::new(settings());
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let open = rig.event(Kind::Open, 7, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        rig.feed(Kind::Failed, FlowEvent { flags: flow_flag::ACTIVE | flow_flag::ANSWERED, ..open });
        let records = rig.records();
        ids.extend(flows(&records).iter().map(|(_, flow)| flow.id.clone()));
        rig.now_ns += SECOND;
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
}
