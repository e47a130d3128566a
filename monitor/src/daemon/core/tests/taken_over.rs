//! A daemon goes on where another was: what the first look at the host finds, and what stands in the ring, are put
//! together so that each connection begins and ends once.

use super::*;
use crate::sink::Past;

/// What the first look says of the client's end of a connection.
pub(super) fn found(rig: &Rig, bytes: u64) -> Found {
    let socket = SocketSeen {
        remote: SERVER.parse().unwrap(),
        tcp: Some(TcpCounts { bytes_acked: bytes + 1, ..TcpCounts::default() }),
        ..bound(Transport::Tcp, TcpState::Established, 1, CLIENT)
    };
    let existing = Existing {
        socket,
        netns: 1,
        realm: Some(Realm::ROOT),
        direction: Some(Direction::Egress),
        holders: Vec::new(),
    };
    // The look takes its time: it began after the take-over, and found what came up meanwhile.
    Found::Existing { sockets: vec![existing], at_ns: rig.now_ns }
}

/// What is told of flows, with the client's bytes.
fn told(rig: &mut Rig) -> Vec<(FlowAction, u64)> {
    let records = rig.records();
    flows(&records).iter().map(|(action, flow)| (*action, flow.sent.bytes)).collect()
}

/// A later look, which does not find it.
fn is_not_found(rig: &mut Rig) {
    let began_ns = rig.now_ns;
    rig.core.found(Found::Sockets { seen: Vec::new(), rest: Rest::Nothing, began_ns }, rig.now_ns);
}

/// The same, with all read that came before.
fn is_gone(rig: &mut Rig) {
    is_not_found(rig);
    rig.core.heard_until(rig.now_ns);
}

/// On a busy machine ends may stand in the ring, and beside it, for seconds.
#[test]
fn a_connection_that_a_look_does_not_find_ends_once_all_that_came_before_is_read() {
    for took_over in [true, false] {
        let mut rig = Rig::new(settings());
        if took_over {
            rig.core.take_over(Past::default(), rig.now_ns);
        }
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        let answer = found(&rig, 100);
        if took_over {
            rig.core.found(answer, rig.now_ns);
        } else {
            rig.feed(Kind::Open, open);
        }
        told(&mut rig);
        rig.now_ns += 5 * SECOND;
        // Others' ends found no room.
        let counters = Counters { overflow_full: 1, ..Counters::default() };
        rig.core.event(Event::Counters(Box::new(counters)), rig.now_ns);
        rig.pass(SECOND / 10);
        let began_ns = rig.now_ns;
        rig.pass(SECOND);
        rig.core.found(Found::Sockets { seen: Vec::new(), rest: Rest::Nothing, began_ns }, rig.now_ns);
        // It ended while the look was made.
        rig.core.heard_until(rig.now_ns - 1);
        rig.pass(SECOND);
        assert_eq!(told(&mut rig), []);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 120, ..open });
        rig.core.heard_until(rig.now_ns);
        let ends: Vec<_> = told(&mut rig).into_iter().filter(|it| it.0 == FlowAction::FlowClosed).collect();
        assert_eq!(ends, [(FlowAction::FlowClosed, 120)], "{took_over}");
    }
}

/// What stood in the ring while its part was told, and what a first look found, are not taken for gone.
#[test]
fn a_connection_that_is_taken_in_behind_its_part_of_a_look_goes_on() {
    let mut rig = Rig::new(settings());
    rig.core.take_over(Past::default(), rig.now_ns);
    let open = rig.event(Kind::Open, 7, "10.0.0.1:40007", SERVER, false);
    // Ends found no room: whatever is not there is gone.
    let counters = Counters { overflow_full: 1, ..Counters::default() };
    rig.now_ns += 5 * SECOND;
    rig.core.event(Event::Counters(Box::new(counters)), rig.now_ns);
    rig.pass(SECOND / 10);
    let began_ns = rig.now_ns;
    let part = [7, 1].map(|cookie| socket_counts(cookie, TcpState::Established, TcpCounts::default()));
    rig.core.found(Found::Sockets { seen: part.to_vec(), rest: Rest::Follows, began_ns }, rig.now_ns);
    rig.feed(Kind::Open, open);
    let at_start = found(&rig, 5);
    let Found::Existing { sockets, .. } = at_start else { unreachable!() };
    rig.core.found(Found::Existing { sockets, at_ns: began_ns - 4 * SECOND }, rig.now_ns);
    rig.core.found(Found::Sockets { seen: Vec::new(), rest: Rest::Nothing, began_ns }, rig.now_ns);
    rig.core.heard_until(rig.now_ns);
    let closed = |rig: &mut Rig| told(rig).iter().filter(|it| it.0 == FlowAction::FlowClosed).count();
    assert_eq!(closed(&mut rig), 0);
    // A look that finds neither, of what was lost since.
    rig.now_ns += 10 * SECOND;
    let counters = Counters { overflow_full: 2, ..Counters::default() };
    rig.core.event(Event::Counters(Box::new(counters)), rig.now_ns);
    rig.pass(SECOND / 10);
    is_gone(&mut rig);
    assert_eq!(closed(&mut rig), 2);
}

/// Two questions: one is answered in parts, the other refused between them.
#[test]
fn a_look_that_is_refused_changes_nothing_of_one_that_is_told_in_parts() {
    let mut rig = Rig::new(settings());
    rig.core.take_over(Past::default(), rig.now_ns);
    let Found::Existing { sockets, at_ns } = found(&rig, 5) else { unreachable!() };
    let sockets = [1, 2, 3].map(|cookie| {
        let mut existing = sockets[0].clone();
        existing.socket.cookie = cookie;
        existing.socket.local.set_port(40_000 + cookie as u16);
        existing
    });
    rig.core.found(Found::Existing { sockets: sockets.to_vec(), at_ns }, rig.now_ns);
    rig.records();
    rig.now_ns += 5 * SECOND;
    let began_ns = rig.now_ns;
    let part = |cookie| vec![socket_counts(cookie, TcpState::Established, TcpCounts::default())];
    for (seen, rest, began_ns) in [
        (part(1), Rest::Follows, began_ns),
        (Vec::new(), Rest::Unseen, began_ns + 1),
        (part(2), Rest::Follows, began_ns),
        (Vec::new(), Rest::Nothing, began_ns),
    ] {
        rig.core.found(Found::Sockets { seen, rest, began_ns }, rig.now_ns);
    }
    rig.core.heard_until(rig.now_ns);
    let closed = told(&mut rig).iter().filter(|(action, _)| *action == FlowAction::FlowClosed).count();
    assert_eq!((closed, rig.core.is_refreshing()), (1, false), "the one that is not there");
}

#[test]
fn a_connection_that_came_up_meanwhile_begins_and_ends_once() {
    let mut rig = Rig::new(settings());
    rig.core.take_over(Past::default(), rig.now_ns);
    rig.pass(SECOND / 10);
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.pass(SECOND / 100);
    let answer = found(&rig, 100);
    rig.core.found(answer, rig.now_ns);
    assert_eq!(told(&mut rig), []);
    // It ended, before its beginning is read.
    rig.pass(SECOND / 100);
    is_not_found(&mut rig);
    assert_eq!(told(&mut rig), []);
    rig.feed(Kind::Open, open);
    assert_eq!(
        told(&mut rig).iter().map(|(action, _)| *action).collect::<Vec<_>>(),
        [FlowAction::FlowOpened]
    );
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 120, ..open });
    let ends = told(&mut rig);
    assert_eq!(ends.last(), Some(&(FlowAction::FlowClosed, 120)));
    assert!(!ends.iter().any(|(action, _)| *action == FlowAction::FlowOpened), "{ends:?}");
    assert_eq!(rig.core.total_bytes(), (120, 0));
}

#[test]
fn a_connection_that_ended_before_the_look_was_answered_does_not_come_back() {
    let mut rig = Rig::new(settings());
    rig.core.take_over(Past::default(), rig.now_ns);
    rig.pass(SECOND / 10);
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    let answer = found(&rig, 100);
    rig.feed(Kind::Open, open);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 120, ..open });
    assert!(told(&mut rig).contains(&(FlowAction::FlowClosed, 120)));
    rig.core.found(answer, rig.now_ns);
    rig.pass(10 * SECOND);
    is_gone(&mut rig);
    assert_eq!(told(&mut rig), []);
    assert_eq!(rig.core.total_bytes(), (120, 0));
}

/// One that was there before, and of whose end nobody tells.
#[test]
fn a_connection_from_before_ends_when_it_is_gone() {
    let mut rig = Rig::new(settings());
    rig.core.take_over(Past::default(), rig.now_ns);
    let answer = found(&rig, 100);
    rig.core.found(answer, rig.now_ns);
    rig.pass(10 * SECOND);
    is_gone(&mut rig);
    let ends = told(&mut rig);
    assert_eq!(ends.last(), Some(&(FlowAction::FlowClosed, 100)));
    assert!(!ends.iter().any(|(action, _)| *action == FlowAction::FlowOpened), "the daemon before told it");
}

#[test]
fn alerts_that_were_kept_and_not_written_are_written_by_the_next_one() {
    let mut rig = Rig::new(settings());
    for (cookie, server) in [(1, "192.0.2.7:80"), (2, "192.0.2.8:81")] {
        let open = rig.event(Kind::Open, cookie, CLIENT, server, false);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        rig.pass(10 * SECOND);
    }
    let records = rig.records();
    let cursors: Vec<u64> = alerts(&records).iter().map(|alert| alert.cursor).collect();
    assert!(cursors.len() >= 2, "{cursors:?}");
    let told = alerts(&records).into_iter().map(crate::alert::SavedAlert::of).collect();
    // It was killed when the first of them was written.
    let mut next = Rig::new(settings());
    next.core.restore(crate::alert::Saved { told, ..Default::default() }, next.now_ns);
    let mut past = Past::default();
    past.alerts = cursors[0];
    next.core.take_over(past, next.now_ns);
    let records = next.records();
    assert_eq!(alerts(&records).iter().map(|alert| alert.cursor).collect::<Vec<_>>(), cursors[1..]);
    // Of one that noted nothing, nothing is said again.
    let mut third = Rig::new(settings());
    third.core.take_over(Past::default(), third.now_ns);
    assert_eq!(alerts(&third.records()).len(), 0);
}

/// By their ports alone the client is the server.
const HIGHER: &str = "10.0.0.2:34700";
const LOWER: &str = "10.0.0.1:33000";

#[test]
fn who_began_what_ended_before_the_first_look_is_told_by_what_is_listened_on() {
    let told_of = |server: bool, listened_on: Option<&str>, looked: bool| {
        let mut rig = Rig::new(settings());
        let (local, remote) = if server { (HIGHER, LOWER) } else { (LOWER, HIGHER) };
        let end = FlowEvent {
            flags: flow_flag::MIDSTREAM,
            sent_bytes: 100 + u64::from(!server),
            ..rig.event(Kind::Close, 1, local, remote, true)
        };
        rig.feed(Kind::Progress, FlowEvent { kind: Kind::Progress as u8, ..end });
        rig.feed(Kind::Close, end);
        rig.owned(&end, Identity { pid: Some(41), executable: Some("/x".to_owned()), ..Identity::default() });
        rig.pass(SECOND);
        assert!(flows(&rig.records()).is_empty(), "told before the look");
        if looked {
            let listener = listened_on.map(|address| Existing {
                socket: bound(Transport::Tcp, TcpState::Listen, 90, address),
                netns: 1,
                realm: Some(Realm::ROOT),
                direction: None,
                holders: Vec::new(),
            });
            let sockets = listener.into_iter().collect();
            rig.core.found(Found::Existing { sockets, at_ns: rig.now_ns }, rig.now_ns);
            rig.pass(SECOND);
        } else {
            // Nobody looks.
            rig.pass(10 * SECOND);
        }
        let records = rig.records();
        let ends = flows(&records);
        let [.., (FlowAction::FlowClosed, flow)] = &ends[..] else { panic!("{ends:?}") };
        (flow.direction, flow.sent.bytes)
    };
    let server = (Direction::Ingress, 100);
    let client = (Direction::Egress, 100);
    for listened_on in ["0.0.0.0:34700", HIGHER] {
        assert_eq!(told_of(true, Some(listened_on), true), server);
        assert_eq!(told_of(false, Some(listened_on), true), client);
    }
    // Its ports are all there is.
    for (listened_on, looked) in [(None, true), (Some("0.0.0.0:80"), true), (None, false)] {
        assert_eq!(told_of(true, listened_on, looked).0, Direction::Egress);
        assert_eq!(told_of(false, listened_on, looked).0, Direction::Ingress);
    }
}

/// The look still found the client's socket, and no more the server's.
#[test]
fn who_began_at_one_end_is_known_at_the_other() {
    for look_comes_first in [true, false] {
        let mut rig = Rig::new(settings());
        let of = |event: FlowEvent| FlowEvent { flags: flow_flag::MIDSTREAM, ..event };
        let server = of(rig.event(Kind::Progress, 2, HIGHER, LOWER, true));
        let client = of(rig.event(Kind::Progress, 1, LOWER, HIGHER, true));
        let existing = Existing {
            socket: SocketSeen {
                remote: HIGHER.parse().unwrap(),
                ..bound(Transport::Tcp, TcpState::Established, 1, LOWER)
            },
            netns: 1,
            realm: Some(Realm::ROOT),
            direction: Some(Direction::Egress),
            holders: Vec::new(),
        };
        let look = Found::Existing { sockets: vec![existing], at_ns: rig.now_ns };
        if look_comes_first {
            rig.core.found(look, rig.now_ns);
            rig.feed(Kind::Progress, server);
            rig.feed(Kind::Close, FlowEvent { kind: Kind::Close as u8, ..server });
        } else {
            rig.feed(Kind::Progress, client);
            rig.feed(Kind::Progress, server);
            rig.feed(Kind::Close, FlowEvent { kind: Kind::Close as u8, ..server });
            rig.core.found(look, rig.now_ns);
        }
        rig.owned(
            &server,
            Identity { pid: Some(42), executable: Some("/x".to_owned()), ..Identity::default() },
        );
        rig.pass(2 * SECOND);
        let records = rig.records();
        let ends: Vec<_> =
            flows(&records).into_iter().filter(|(action, _)| *action == FlowAction::FlowClosed).collect();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].1.direction, Direction::Ingress, "{look_comes_first}");
    }
}
