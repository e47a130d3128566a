//! Who makes a network namespace gives it the addresses of peers elsewhere: only what is in one namespace, or in those of one
//! maker, is put together.

use super::*;

/// The client's address, on the other side of the world.
const FAR: &str = "203.0.113.5:5555";
const HOST: u64 = 1;
const CONTAINER: u64 = 2;
const USERS: u64 = 3;
const NOBODY_KNOWS: u64 = 4;

const POLICY: &str = "[[service]]\nname = \"s\"\nports = [8080]\n[[service.client]]\nprocess = \"p41\"\n";

fn realm(inode: u64) -> Realm {
    Realm::of_user_namespace(inode).unwrap()
}

fn learn(rig: &mut Rig, netns: u64, realm: Realm) {
    has(rig, netns, None, realm);
    // It has the address of the client in these tests.
    has(rig, netns, Some("203.0.113.5"), realm);
}

fn has(rig: &mut Rig, netns: u64, address: Option<&str>, realm: Realm) {
    let address = address.map(|address| address.parse().unwrap());
    rig.core.found(Found::Namespace { netns, cookie: 0, address, realm: Some(realm) }, rig.now_ns);
}

fn with_policy() -> Rig {
    let mut rig = Rig::new(settings());
    let policy = Policy::parse(std::path::Path::new("p.toml"), POLICY).unwrap();
    rig.core.set_policy(Arc::new(policy), rig.now_ns);
    learn(&mut rig, USERS, realm(4_026_531_999));
    rig
}

/// What a process in `client_in` says from there, and what the server hears from that address.
struct Ends {
    client: FlowEvent,
    server: FlowEvent,
}

fn ends(rig: &mut Rig, transport: u8, client_in: u64, server_in: u64, client_first: bool) -> Ends {
    let of = |event: FlowEvent, netns| FlowEvent { transport, netns, detail: 7, ..event };
    let mut client = of(rig.event(Kind::Open, 1, FAR, SERVER, false), client_in);
    client.established_ns = rig.now_ns;
    let server = of(rig.event(Kind::Open, 2, SERVER, FAR, true), server_in);
    for event in if client_first { [client, server] } else { [server, client] } {
        rig.feed(Kind::Open, event);
    }
    rig.capture(&server, false, 0, REQUEST);
    rig.capture(&server, true, 0, RESPONSE);
    Ends { client, server }
}

fn told(rig: &Rig, event: &FlowEvent) -> (Option<u32>, Option<String>, Answer) {
    let flow = rig.core.table.get(rig.core.table.id(&key_of(event)).unwrap()).unwrap();
    let peer = flow.peer.clone().unwrap_or_default();
    (peer.pid, peer.missing.clone(), flow.verdict.authorised.answer)
}

/// How the server's flow was told at its end.
fn server_end(records: &[Record]) -> &FlowView {
    let is_it = |(action, flow): &(FlowAction, &FlowView)| {
        *action == FlowAction::FlowClosed && flow.direction == Direction::Ingress
    };
    flows(records).into_iter().find(is_it).unwrap().1
}

const UDP: u8 = 17;
const BOTH: [u8; 2] = [6, UDP];

#[test]
fn only_ends_in_namespaces_of_one_maker_are_put_together() {
    for transport in BOTH {
        for client_first in [true, transport == 6] {
            for (client_in, server_in, expected) in [
                (HOST, HOST, true),
                (CONTAINER, HOST, true),
                (HOST, CONTAINER, true),
                (USERS, USERS, true),
                (USERS, HOST, false),
                (HOST, USERS, false),
            ] {
                let mut rig = with_policy();
                let Ends { server, client } = ends(&mut rig, transport, client_in, server_in, client_first);
                rig.records();
                rig.pass(3 * SECOND);
                rig.records();
                let case = format!("{transport} {client_in} {server_in}");
                let answer = if expected { Answer::Yes } else { Answer::No };
                assert_eq!(told(&rig, &server), (expected.then_some(41), None, answer), "{case}");
                assert_eq!(told(&rig, &client).0, expected.then_some(42), "{case}");
            }
        }
    }
}

#[test]
fn whose_namespace_nobody_knows_is_no_yes_and_no_no() {
    for transport in BOTH {
        for (client_in, server_in) in [(NOBODY_KNOWS, HOST), (HOST, NOBODY_KNOWS), (NOBODY_KNOWS, 5)] {
            for client_first in [true, transport == 6] {
                let mut rig = with_policy();
                let Ends { server, .. } = ends(&mut rig, transport, client_in, server_in, client_first);
                let before = rig.records();
                assert!(flows(&before).is_empty(), "told before it is known, or for a second");
                rig.pass(2 * SECOND);
                rig.records();
                let (pid, missing, answer) = told(&rig, &server);
                let case = format!("{transport} {client_in} {server_in} {client_first}");
                assert_eq!((pid, answer), (None, Answer::Unknown), "{case}");
                assert!(missing.is_some_and(|it| it.contains("network namespace")), "{case}");
            }
        }
    }
}

#[test]
fn what_is_learnt_of_a_namespace_is_taken_in_time_and_late() {
    for transport in BOTH {
        for wait_s in [0, 3] {
            for (maker, expected) in [(Realm::ROOT, true), (realm(4_026_532_000), false)] {
                let mut rig = with_policy();
                let Ends { server, .. } = ends(&mut rig, transport, NOBODY_KNOWS, HOST, true);
                rig.records();
                rig.pass(wait_s * SECOND);
                rig.records();
                learn(&mut rig, NOBODY_KNOWS, maker);
                rig.pass(SECOND);
                rig.records();
                let answer = if expected { Answer::Yes } else { Answer::No };
                assert_eq!(told(&rig, &server), (expected.then_some(41), None, answer), "{wait_s}");
            }
        }
    }
}

#[test]
fn what_ends_before_its_namespace_is_known_has_an_unknown_other_end() {
    for ends_itself in [true, false] {
        let mut rig = with_policy();
        let Ends { server, .. } = ends(&mut rig, 6, NOBODY_KNOWS, HOST, true);
        rig.records();
        let mut records = Vec::new();
        if ends_itself {
            rig.feed(Kind::Close, server);
            records.extend(rig.records());
            rig.pass(2 * SECOND);
        } else {
            rig.core.shut_down(rig.now_ns, false);
        }
        records.extend(rig.records());
        let ended = server_end(&records);
        assert_eq!(ended.verdict.authorised.answer, Answer::Unknown);
        assert!(ended.peer.as_ref().is_some_and(|peer| peer.pid.is_none() && peer.missing.is_some()));
    }
}

/// After an upgrade under load the ring holds what was seconds ago, and whose a namespace is is asked only then.
#[test]
fn what_is_read_late_waits_for_the_answer_all_the_same() {
    for is_answered in [true, false] {
        let mut rig = with_policy();
        rig.now_ns += 20 * SECOND;
        let of = |event: FlowEvent, netns| {
            let opened_ns = event.opened_ns - 10 * SECOND;
            FlowEvent { transport: 6, netns, detail: 7, opened_ns, established_ns: opened_ns, ..event }
        };
        let client = of(rig.event(Kind::Close, 1, FAR, SERVER, false), NOBODY_KNOWS);
        let server = of(rig.event(Kind::Close, 2, SERVER, FAR, true), HOST);
        [client, server].into_iter().for_each(|event| rig.feed(Kind::Close, event));
        assert!(flows(&rig.records()).is_empty(), "told before it is known");
        rig.pass(SECOND / 2);
        assert!(flows(&rig.records()).is_empty(), "told before it is known");
        if is_answered {
            learn(&mut rig, NOBODY_KNOWS, Realm::ROOT);
        }
        rig.pass(SECOND);
        let records = rig.records();
        let ended = server_end(&records);
        let pid = ended.peer.as_ref().and_then(|peer| peer.pid);
        let (answer, expected) = if is_answered { (Answer::Yes, Some(41)) } else { (Answer::Unknown, None) };
        assert_eq!((pid, ended.verdict.authorised.answer), (expected, answer));
    }
}

/// Who has the addresses of a client takes its place from nobody.
#[test]
fn what_has_the_addresses_of_an_end_elsewhere_does_not_hide_it() {
    for (other, cookie) in [(USERS, 3), (NOBODY_KNOWS, 3)] {
        let mut rig = with_policy();
        let of = |event: FlowEvent, netns| FlowEvent { transport: UDP, netns, ..event };
        let client = of(rig.event(Kind::Open, 1, CLIENT, SERVER, false), CONTAINER);
        let false_one = of(rig.event(Kind::Open, cookie, CLIENT, SERVER, false), other);
        let server = of(rig.event(Kind::Open, 2, SERVER, CLIENT, true), HOST);
        [client, false_one, server].into_iter().for_each(|event| rig.feed(Kind::Open, event));
        rig.records();
        rig.pass(2 * SECOND);
        rig.records();
        assert_eq!(told(&rig, &server), (Some(41), None, Answer::Yes));
        assert_eq!(told(&rig, &false_one).0, None);
    }
}

#[test]
fn a_false_end_takes_nothing_from_the_totals() {
    for (other, capacity) in [(USERS, 64), (NOBODY_KNOWS, 64), (USERS, 4), (NOBODY_KNOWS, 4)] {
        let mut rig = Rig::new(CoreSettings { capacity, ..settings() });
        learn(&mut rig, USERS, realm(4_026_531_999));
        let of = |event: FlowEvent, netns| FlowEvent { transport: 6, netns, ..event };
        let client = of(rig.event(Kind::Open, 1, FAR, SERVER, false), other);
        rig.feed(Kind::Open, client);
        let moved = FlowEvent { sent_bytes: 1000, received_bytes: 10, ..client };
        rig.feed(if capacity == 64 { Kind::Close } else { Kind::Progress }, moved);
        rig.records();
        rig.pass(2 * SECOND);
        rig.records();
        if capacity < 64 {
            // A full table pushes it out.
            for cookie in 10..14 {
                rig.pass(20 * SECOND);
                let remote = format!("10.0.0.9:{cookie}");
                let open = rig.event(Kind::Open, cookie, CLIENT, &remote, false);
                rig.feed(Kind::Open, open);
                rig.records();
            }
            assert!(!rig.core.holds(1));
        }
        rig.now_ns += SECOND;
        let server = of(rig.event(Kind::Open, 2, SERVER, FAR, true), HOST);
        rig.feed(Kind::Open, server);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 10, received_bytes: 1000, ..server });
        rig.records();
        rig.pass(SECOND);
        rig.records();
        assert_eq!(rig.core.total_bytes(), (2000, 20), "{other} {capacity}");
    }
}

/// Datagrams need no answer: who sends them may give them the address of anybody (`IPV6_FREEBIND`).
#[test]
fn who_sends_with_an_address_that_its_namespace_has_not_is_nobodys_other_end() {
    for (client_in, server_in) in [(HOST, HOST), (CONTAINER, HOST), (USERS, USERS)] {
        for client_first in [true, false] {
            let mut rig = with_policy();
            has(&mut rig, client_in, Some("203.0.113.5"), Realm::NOWHERE);
            let Ends { server, client } = ends(&mut rig, UDP, client_in, server_in, client_first);
            rig.records();
            rig.pass(SECOND);
            rig.records();
            assert_eq!((told(&rig, &server), told(&rig, &client).0), ((None, None, Answer::No), None));
            // … until it has: what is taken out of it may be put into it.
            rig.pass(3 * SECOND);
            let of = |event: FlowEvent, netns| FlowEvent { transport: UDP, netns, ..event };
            let next = of(rig.event(Kind::Open, 11, FAR, "10.0.0.2:8081", false), client_in);
            let server = of(rig.event(Kind::Open, 12, "10.0.0.2:8081", FAR, true), server_in);
            [next, server].into_iter().for_each(|event| rig.feed(Kind::Open, event));
            rig.records();
            assert_eq!(told(&rig, &server).0, Some(51));
        }
    }
    // TCP has none to be answered that it has not.
    let mut rig = with_policy();
    has(&mut rig, HOST, Some("203.0.113.5"), Realm::NOWHERE);
    let Ends { server, .. } = ends(&mut rig, 6, HOST, HOST, true);
    rig.records();
    assert_eq!(told(&rig, &server).0, Some(41));
}

/// Each datagram of a socket may have another source (`IPV6_PKTINFO`).
#[test]
fn an_address_that_a_socket_takes_later_is_looked_at_as_well() {
    for (realm, expected) in [(Realm::NOWHERE, None), (Realm::ROOT, Some(41))] {
        let mut rig = with_policy();
        let of = |event: FlowEvent| FlowEvent { transport: UDP, netns: HOST, ..event };
        let client = of(rig.event(Kind::Open, 1, "10.0.0.1:5555", SERVER, false));
        rig.feed(Kind::Open, client);
        rig.records();
        has(&mut rig, HOST, Some("203.0.113.5"), realm);
        let moved = of(rig.event(Kind::Progress, 1, FAR, SERVER, false));
        rig.feed(Kind::Progress, moved);
        let server = of(rig.event(Kind::Open, 2, SERVER, FAR, true));
        rig.feed(Kind::Open, server);
        rig.records();
        assert_eq!(told(&rig, &server).0, expected);
    }
}

#[test]
fn an_address_is_asked_for_once_and_again_after_a_minute() {
    let mut rig = with_policy();
    let asked = |rig: &mut Rig, cookie: u64| {
        let open = rig.event(Kind::Open, cookie, FAR, &format!("10.0.0.2:{cookie}"), false);
        rig.feed(Kind::Open, FlowEvent { transport: UDP, ..open });
        let lookups = rig.core.take_lookups();
        lookups.iter().filter(|it| matches!(it, Lookup::Namespace { checks_address: true, .. })).count()
    };
    assert_eq!([asked(&mut rig, 1), asked(&mut rig, 2)], [1, 0]);
    has(&mut rig, HOST, Some("203.0.113.5"), Realm::ROOT);
    rig.now_ns += 59 * SECOND;
    assert_eq!(asked(&mut rig, 3), 0);
    rig.now_ns += 2 * SECOND;
    assert_eq!([asked(&mut rig, 4), asked(&mut rig, 5)], [1, 0]);
    // Meanwhile it is as it was.
    let flow = rig.core.table.get(rig.core.table.id(&rig.core.table.peers(5)[0]).unwrap()).unwrap();
    assert_eq!(flow.realm, Some(Realm::ROOT));
}

/// A client of root's, here or in a container, is told by its own flow: what is refused to it is nobody's elsewhere.
#[test]
fn who_has_the_addresses_of_a_scan_in_a_namespace_of_their_own_does_not_hide_it() {
    for (client_in, expected) in [(HOST, 0), (CONTAINER, 0), (USERS, 1), (NOBODY_KNOWS, 1)] {
        let mut rig = with_policy();
        let mut told = Vec::new();
        for port in 1_u16..40 {
            let (here, there) = (format!("10.0.0.1:{port}"), "203.0.113.5:4000");
            let client = rig.event(Kind::Open, u64::from(port), there, &here, false);
            rig.feed(Kind::Open, FlowEvent { netns: client_in, ..client });
            let refused = rig.event(Kind::Refused, 0, &here, there, true);
            rig.feed(Kind::Refused, FlowEvent { owner: Owner::default(), ..refused });
            told.extend(rig.records());
        }
        let scans = alerts(&told).into_iter().filter(|alert| alert.key.contains("many ports")).count();
        assert_eq!(scans, expected, "{client_in}");
    }
}

/// What the kernel programs saw no namespace of is where its socket is.
#[test]
fn a_socket_from_before_us_is_where_it_was_found() {
    for (of_listener, expected) in [(Realm::ROOT, true), (realm(4_026_531_999), false)] {
        let mut rig = with_policy();
        let before = |socket| Existing {
            socket,
            netns: 7,
            realm: Some(of_listener),
            direction: None,
            holders: Vec::new(),
        };
        let sockets = [
            before(bound(Transport::Tcp, TcpState::Listen, 90, "0.0.0.0:8080")),
            before(bound(Transport::Udp, TcpState::Close, 91, SERVER)),
        ];
        rig.core.found(Found::Existing { sockets: sockets.into(), at_ns: rig.now_ns }, rig.now_ns);
        for (transport, cookie) in [(6, 2), (UDP, 91)] {
            let of = |event: FlowEvent, netns| FlowEvent { transport, netns, ..event };
            let mut client = of(rig.event(Kind::Open, u64::from(transport), CLIENT, SERVER, false), HOST);
            client.established_ns = rig.now_ns;
            let server = of(rig.event(Kind::Open, cookie, SERVER, CLIENT, true), 0);
            rig.feed(Kind::Open, client);
            rig.feed(Kind::Open, server);
            rig.records();
            let pid = 40 + u32::from(transport);
            assert_eq!(told(&rig, &server).0, expected.then_some(pid), "{transport}");
        }
    }
}

/// A daemon that takes over reads of them before it knows the listeners.
#[test]
fn what_listeners_from_before_us_accepted_is_where_they_are_once_they_are_known() {
    for (of_listener, expected) in
        [(Some(Realm::ROOT), true), (Some(realm(4_026_531_999)), false), (None, false)]
    {
        let mut rig = with_policy();
        rig.core.ended_early = Some(HashSet::new());
        let client = FlowEvent { detail: 7, ..rig.event(Kind::Close, 1, CLIENT, SERVER, false) };
        let client = FlowEvent { established_ns: client.opened_ns, ..client };
        let server = FlowEvent { detail: 7, netns: 0, ..rig.event(Kind::Close, 2, SERVER, CLIENT, true) };
        [client, server].into_iter().for_each(|event| rig.feed(Kind::Close, event));
        assert!(flows(&rig.records()).is_empty(), "told before it is known");
        let another = FlowEvent { netns: 0, ..rig.event(Kind::Open, 3, SERVER, "10.0.0.1:5556", true) };
        rig.feed(Kind::Open, another);
        let asked = rig.core.take_lookups();
        assert!(!asked.iter().any(|it| matches!(it, Lookup::Namespace { .. })), "asked for one by one");
        let socket = bound(Transport::Tcp, TcpState::Listen, 90, "0.0.0.0:8080");
        let existing =
            Existing { socket, netns: 7, realm: of_listener, direction: None, holders: Vec::new() };
        rig.core.found(Found::Existing { sockets: vec![existing], at_ns: rig.now_ns }, rig.now_ns);
        rig.pass(2 * SECOND);
        let records = rig.records();
        let ended = server_end(&records);
        let pid = ended.peer.as_ref().and_then(|peer| peer.pid);
        assert_eq!(pid, expected.then_some(41), "{of_listener:?}");
        let unknown = of_listener.is_none();
        assert_eq!(ended.verdict.authorised.answer == Answer::Unknown, unknown, "{of_listener:?}");
    }
}

#[test]
fn an_answer_is_for_all_that_wait_for_it() {
    for client_in in [NOBODY_KNOWS, HOST] {
        let mut rig = Rig::new(CoreSettings { capacity: 1 << 13, ..settings() });
        for number in 0..1500 {
            let remote = format!("10.0.0.1:{}", 1000 + number);
            let server_in = HOST + NOBODY_KNOWS - client_in;
            let of = |event: FlowEvent, netns| FlowEvent {
                transport: 6,
                netns,
                detail: 7,
                established_ns: event.opened_ns,
                ..event
            };
            let client = of(rig.event(Kind::Open, 2 * number + 1, &remote, SERVER, false), client_in);
            let server = of(rig.event(Kind::Open, 2 * number + 2, SERVER, &remote, true), server_in);
            [client, server].into_iter().for_each(|event| rig.feed(Kind::Open, event));
        }
        assert!(flows(&rig.records()).is_empty(), "told before it is known");
        learn(&mut rig, NOBODY_KNOWS, Realm::ROOT);
        rig.pass(SECOND / 2);
        rig.records();
        let named = (0..3000).filter(|cookie| {
            let key = FlowKey { cookie: cookie + 1, ..FlowKey::default() };
            let flow = rig.core.table.get(rig.core.table.id(&key).unwrap()).unwrap();
            flow.peer.as_ref().is_some_and(|peer| peer.pid.is_some())
        });
        assert_eq!(named.count(), 3000, "{client_in}");
    }
}

#[test]
fn a_question_about_a_namespace_is_asked_once_and_again_while_it_matters() {
    let mut rig = with_policy();
    let mut asked = 0;
    let mut count = |rig: &mut Rig| {
        let lookups = rig.core.take_lookups();
        asked += lookups.iter().filter(|it| matches!(it, Lookup::Namespace { .. })).count();
        asked
    };
    for cookie in 1..=100 {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{cookie}"), SERVER, false);
        rig.feed(Kind::Open, FlowEvent { netns: NOBODY_KNOWS, ..open });
    }
    assert_eq!(count(&mut rig), 1);
    for _ in 0..20 {
        rig.pass(SECOND);
    }
    assert_eq!(count(&mut rig), 3, "after four and eight seconds");
    for cookie in 1..=100 {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{cookie}"), SERVER, false);
        rig.feed(Kind::Close, FlowEvent { netns: NOBODY_KNOWS, ..open });
    }
    rig.records();
    for _ in 0..100 {
        rig.pass(SECOND);
    }
    assert_eq!(count(&mut rig), 3);
}

/// Who has namespaces without number that nobody finds.
#[test]
fn questions_that_nobody_answers_are_bounded_and_leave_room_for_others() {
    let mut rig = Rig::new(CoreSettings { capacity: 1 << 16, ..settings() });
    let mut asked = HashSet::new();
    let mut ask = |rig: &mut Rig, netns: u64, cookie: u64| {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 1 + cookie % 60_000), SERVER, false);
        rig.feed(Kind::Open, FlowEvent { netns, ..open });
        asked.extend(rig.core.take_lookups().into_iter().filter_map(|it| match it {
            Lookup::Namespace { socket, .. } => Some(socket.netns),
            _ => None,
        }));
        asked.contains(&netns)
    };
    let all = (0..5000).filter(|at| ask(&mut rig, 1000 + at, *at)).count();
    assert_eq!(all, 4096);
    assert!(!ask(&mut rig, NOBODY_KNOWS, 5001));
    rig.now_ns += 5 * SECOND;
    assert!(ask(&mut rig, NOBODY_KNOWS, 5002));
    for cookie in 6000..26_000 {
        ask(&mut rig, 999, cookie);
    }
    // One of these waits no less.
    let server = rig.event(Kind::Open, 5003, SERVER, "10.0.0.1:5003", true);
    rig.feed(Kind::Open, server);
    learn(&mut rig, NOBODY_KNOWS, Realm::ROOT);
    let flow =
        rig.core.table.get(rig.core.table.id(&FlowKey { cookie: 5002, ..FlowKey::default() }).unwrap());
    let (realm, twin) = flow.map(|flow| (flow.realm, flow.twin)).unwrap();
    assert!(realm == Some(Realm::ROOT) && twin.is_some());
}
