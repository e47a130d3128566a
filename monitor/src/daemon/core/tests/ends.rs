//! Both ends of a connection on this host, and what only looks like that: the same addresses in another
//! network namespace.

use proptest::prelude::*;

use super::*;

/// The client's address, on the other side of the world.
const FAR: &str = "203.0.113.5:5555";

fn at(rig: &mut Rig, kind: Kind, event: FlowEvent, sent_bytes: u64, received_bytes: u64) {
    rig.now_ns += SECOND / 1000;
    rig.feed(kind, FlowEvent { kind: kind as u8, sent_bytes, received_bytes, at_ns: rig.now_ns, ..event });
}

fn plaintexts(rig: &Rig) -> Vec<u64> {
    let open = rig.core.alerts.open().into_iter().filter(|alert| alert.rule == Rule::Plaintext);
    open.map(|alert| alert.count).collect()
}

/// A server here talks to somebody elsewhere, while a client in a namespace of its own has that one's address.
fn fooled(rig: &mut Rig) -> (FlowEvent, FlowEvent) {
    let fake = FlowEvent { netns: 2, ..rig.event(Kind::Open, 1, FAR, SERVER, false) };
    rig.feed(Kind::Open, fake);
    rig.now_ns += SECOND / 1000;
    let real = rig.event(Kind::Open, 2, SERVER, FAR, true);
    rig.feed(Kind::Open, real);
    rig.records();
    (fake, real)
}

#[test]
fn a_connection_is_not_hidden_by_another_with_its_addresses() {
    for fake_ends_first in [true, false] {
        for fake_goes_on in [true, false] {
            let mut rig = Rig::new(settings());
            let (fake, real) = fooled(&mut rig);
            rig.capture(&real, false, 0, REQUEST);
            rig.capture(&real, true, 0, RESPONSE);
            rig.pass(SECOND);
            rig.records();
            if fake_ends_first && !fake_goes_on {
                at(&mut rig, Kind::Close, fake, 3, 4);
            }
            at(&mut rig, Kind::Close, real, 1_000_000, 50);
            if !fake_ends_first && !fake_goes_on {
                at(&mut rig, Kind::Close, fake, 3, 4);
            }
            rig.records();
            rig.pass(61 * SECOND);
            let told = (plaintexts(&rig), rig.core.total_bytes().1);
            assert_eq!(told, (vec![1], 1_000_000), "{fake_ends_first} {fake_goes_on}");
        }
    }
}

/// Whether the two are told as the two ends of one connection.
fn are_paired(rig: &Rig, client: &FlowEvent, server: &FlowEvent) -> bool {
    let id = |event: &FlowEvent| rig.core.table.id(&key_of(event)).unwrap();
    let (client, server) = (id(client), id(server));
    let twin = |of: FlowId| rig.core.table.get(of).unwrap().twin;
    let paired = twin(client) == Some(server);
    assert_eq!(paired, twin(server) == Some(client));
    paired
}

/// The sequence number of the client's first byte is the same at both ends, and the server is up once its client is.
#[test]
fn who_has_the_addresses_of_a_connection_and_not_its_numbers_is_not_its_other_end() {
    let answered = |rig: &mut Rig, client: &FlowEvent, number: u32| {
        rig.now_ns += 1000;
        let kind = Kind::Established;
        rig.feed(kind, FlowEvent { kind: kind as u8, established_ns: rig.now_ns, detail: number, ..*client });
    };
    let accepted = |rig: &mut Rig, number: u32| {
        rig.now_ns += 1000;
        let server = rig.event(Kind::Open, 2, SERVER, FAR, true);
        let server = FlowEvent { established_ns: rig.now_ns, detail: number, ..server };
        rig.feed(Kind::Open, server);
        server
    };
    let begun = |rig: &mut Rig| {
        let client = FlowEvent { netns: 2, ..rig.event(Kind::Open, 1, FAR, SERVER, false) };
        rig.feed(Kind::Open, client);
        client
    };
    for (of_client, of_server, expected) in
        [(Some(7), 7, true), (Some(7), 8, false), (None, 7, false), (Some(0), 7, true), (Some(7), 0, true)]
    {
        let mut rig = Rig::new(settings());
        let client = begun(&mut rig);
        if let Some(number) = of_client {
            answered(&mut rig, &client, number);
        }
        let server = accepted(&mut rig, of_server);
        assert_eq!(are_paired(&rig, &client, &server), expected, "{of_client:?} {of_server}");
    }
    // A server that takes data with the first packet (TCP Fast Open) is up before its client is.
    for (number, expected) in [(7, true), (8, false)] {
        let mut rig = Rig::new(settings());
        let client = begun(&mut rig);
        let server = accepted(&mut rig, 7);
        assert!(!are_paired(&rig, &client, &server));
        answered(&mut rig, &client, number);
        assert_eq!(are_paired(&rig, &client, &server), expected);
    }
    // A number that is known late parts those that were taken for one before.
    let mut rig = Rig::new(settings());
    let client = begun(&mut rig);
    answered(&mut rig, &client, 0);
    let server = accepted(&mut rig, 7);
    assert!(are_paired(&rig, &client, &server));
    for (number, expected) in [(7, true), (8, false)] {
        let kind = Kind::Progress;
        at(&mut rig, kind, FlowEvent { detail: number, ..client }, 0, 0);
        assert_eq!(are_paired(&rig, &client, &server), expected);
    }
}

#[test]
fn what_only_one_end_shows_is_told_while_the_connection_is_open() {
    let mut rig = Rig::new(settings());
    let (_, real) = fooled(&mut rig);
    rig.capture(&real, false, 0, REQUEST);
    rig.capture(&real, true, 0, RESPONSE);
    for _ in 0..20 {
        rig.pass(SECOND / 2);
        rig.records();
    }
    assert_eq!(plaintexts(&rig), [1]);
    assert_eq!(rig.core.streams.iter().next().unwrap().verdict.encrypted.answer, Answer::No);
}

#[test]
fn what_began_before_its_client_or_asked_for_it_too_is_no_other_end() {
    for passive in [true, false] {
        let mut rig = Rig::new(settings());
        let real = rig.event(Kind::Open, 2, SERVER, FAR, passive);
        rig.feed(Kind::Open, real);
        rig.now_ns += SECOND / 1000;
        let fake = FlowEvent { netns: 2, ..rig.event(Kind::Open, 1, FAR, SERVER, false) };
        rig.feed(Kind::Open, fake);
        at(&mut rig, Kind::Close, fake, 3, 4);
        rig.records();
        at(&mut rig, Kind::Close, real, 1000, 50);
        rig.records();
        let (client, server) = rig.core.total_bytes();
        assert_eq!(client + server, 1057, "{passive}");
        assert_eq!(rig.core.streams.iter().map(|stream| stream.flows).sum::<u64>(), 2);
    }
}

/// In whichever order they end, soon after one another or long after.
#[test]
fn real_ends_count_once_in_any_order() {
    for server_ends_first in [true, false] {
        for last_is_late in [true, false] {
            let mut rig = Rig::new(settings());
            let client = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
            rig.feed(Kind::Open, client);
            let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
            rig.feed(Kind::Open, server);
            for (event, sent) in [(client, true), (server, false)] {
                rig.capture(&event, sent, 0, REQUEST);
                rig.capture(&event, !sent, 0, RESPONSE);
            }
            rig.records();
            let mut ends = [(server, 6, 5), (client, 5, 6)];
            if !server_ends_first {
                ends.reverse();
            }
            for (place, (event, sent, received)) in ends.into_iter().enumerate() {
                at(&mut rig, Kind::Close, event, sent, received);
                rig.records();
                if place == 0 && last_is_late {
                    // What its socket tells meanwhile.
                    let (event, sent, received) = ends[1];
                    at(&mut rig, Kind::Progress, event, sent, received);
                    rig.pass(100 * SECOND);
                }
            }
            rig.pass(100 * SECOND);
            assert_eq!(rig.core.total_bytes(), (5, 6));
            assert_eq!(rig.core.streams.iter().map(|stream| stream.flows).sum::<u64>(), 1);
            assert_eq!(plaintexts(&rig), [1]);
        }
    }
}

/// What the client was not told any more to have arrived.
#[test]
fn what_one_end_alone_saw_counts_once() {
    let mut rig = Rig::new(settings());
    let client = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, client);
    let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    rig.feed(Kind::Open, server);
    rig.records();
    at(&mut rig, Kind::Close, server, 0, 100);
    at(&mut rig, Kind::Close, client, 30, 0);
    rig.records();
    assert_eq!(rig.core.total_bytes(), (100, 0));
    let stream = rig.core.streams.iter().next().unwrap();
    assert_eq!((stream.flows, stream.open, stream.client_bytes), (1, 0, 100));
}

#[test]
fn what_a_socket_sends_to_itself_counts_once() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, CLIENT, false);
    rig.feed(Kind::Open, open);
    at(&mut rig, Kind::Progress, open, 50, 40);
    at(&mut rig, Kind::Close, open, 100, 100);
    rig.records();
    assert_eq!(rig.core.total_bytes(), (100, 0));
}

/// What happens to the two sockets of one connection, each in its order.
const LIFE: [Kind; 3] = [Kind::Open, Kind::Progress, Kind::Close];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Connections within this host, whose ends are heard of in any order that the kernel can tell them in, and
    /// answered for at any time.
    #[test]
    fn connections_within_this_host_count_once(
        steps in proptest::collection::vec((0usize..16, 0u8..4), 0..160),
    ) {
        live(settings(), steps, false)?;
    }

    /// The same where one or both ends have to leave a full table, and are heard of again.
    #[test]
    fn connections_within_this_host_count_once_where_the_table_is_full(
        capacity in 8usize..16,
        steps in proptest::collection::vec((0usize..16, 0u8..4), 0..160),
    ) {
        live(CoreSettings { capacity, ..settings() }, steps, true)?;
    }
}

/// What the kernel tells of eight connections. `together`: of the second end nothing stands between it and the first.
fn live(settings: CoreSettings, steps: Vec<(usize, u8)>, together: bool) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(settings);
    let mut begun: Vec<(usize, Option<FlowEvent>)> = vec![(0, None); 16];
    let rest = (0..16).flat_map(|socket| [(socket, 0), (socket, 0), (socket, 0)]);
    let rest = rest.clone().chain(rest).collect::<Vec<_>>();
    for (socket, then) in steps.into_iter().chain(rest) {
        // The server's socket is made after the client asks for it, and before that one can end.
        let (done, other) = (begun[socket].0, begun[socket ^ 1].0);
        let passive = socket % 2 == 1;
        if done == LIFE.len() || (other == 0 && (passive || LIFE[done] == Kind::Close)) {
            continue;
        }
        let both = [socket, socket ^ 1];
        for socket in if together && done == 0 { &both[..] } else { &both[..1] } {
            tell(&mut rig, *socket, &mut begun[*socket]);
        }
        match then {
            0 => drop(rig.records()),
            1 => rig.pass(SECOND / 4),
            _ => {}
        }
    }
    rig.records();
    rig.pass(70 * SECOND);
    rig.records();
    prop_assert_eq!(rig.core.open_flows(), 0);
    prop_assert_eq!(rig.core.total_bytes(), (8 * 2000, 8 * 7 * 2000));
    prop_assert_eq!(rig.core.streams.iter().map(|stream| stream.flows).sum::<u64>(), 8);
    prop_assert_eq!(rig.core.streams.iter().map(|stream| stream.open).sum::<u64>(), 0);
    Ok(())
}

/// The next that happens to a socket.
fn tell(rig: &mut Rig, socket: usize, (done, event): &mut (usize, Option<FlowEvent>)) {
    let (connection, passive) = (socket / 2, socket % 2 == 1);
    let (client, server) = (format!("10.0.0.1:{}", 40_000 + connection), "10.0.0.2:8080");
    let (local, remote) = if passive { (server, &*client) } else { (&*client, server) };
    let event =
        *event.get_or_insert_with(|| rig.event(Kind::Open, socket as u64 + 1, local, remote, passive));
    let bytes = *done as u64 * 1000;
    let (sent, received) = if passive { (7 * bytes, bytes) } else { (bytes, 7 * bytes) };
    at(rig, LIFE[*done], event, sent, received);
    *done += 1;
}
