//! Both ends of a connection on this host, and what only looks like that: the same addresses in another
//! network namespace.

use proptest::prelude::*;

use super::*;
use crate::flows::Stream;

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

/// Others come, until a full table has pushed out all that was there.
fn crowd(rig: &mut Rig, base: u64, flows: u64) {
    for cookie in base..base + flows {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.9:{cookie}"), "10.0.0.2:9", false);
        rig.now_ns += SECOND;
        rig.feed(Kind::Open, FlowEvent { at_ns: rig.now_ns, opened_ns: rig.now_ns, ..open });
        rig.records();
    }
}

/// A full table pushes out the one end, and the other is heard of for the first time: it is asked what is wrong with it,
/// and says all that it carries.
#[test]
fn what_one_end_had_counted_when_it_was_pushed_out_counts_no_more_at_the_other() {
    for passive in [false, true] {
        let mut rig = Rig::new(CoreSettings { capacity: 4, closed_keep: 0, ..settings() });
        let client = rig.event(Kind::Progress, 1, CLIENT, SERVER, false);
        let server = rig.event(Kind::Progress, 2, SERVER, CLIENT, true);
        let [first, second] = if passive { [server, client] } else { [client, server] };
        at(&mut rig, Kind::Progress, first, 40, 40);
        rig.records();
        crowd(&mut rig, 10, 5);
        assert!(!rig.core.holds(first.cookie));
        assert_eq!(rig.core.total_bytes(), (40, 40));
        at(&mut rig, Kind::Progress, second, 30, 30);
        assert_eq!(rig.core.total_bytes(), (40, 40));
        rig.capture(&second, !passive, 0, REQUEST);
        rig.capture(&second, passive, 0, RESPONSE);
        rig.records();
        rig.pass(4 * SECOND);
        assert_eq!((rig.core.total_bytes(), plaintexts(&rig)), ((40, 40), vec![1]), "{passive}");
        at(&mut rig, Kind::Progress, second, 70, 70);
        assert_eq!(rig.core.total_bytes(), (70, 70));
        at(&mut rig, Kind::Close, second, 100, 100);
        let told = rig.records();
        let of_second: Vec<u64> = flows(&told).iter().map(|(_, flow)| flow.sent.bytes).collect();
        assert_eq!(of_second.last(), Some(&100), "told in full");
        at(&mut rig, Kind::Close, first, 100, 100);
        rig.records();
        assert_eq!(rig.core.total_bytes(), (100, 100));
        // Neither knew who is at the other end: each has a stream of its own.
        let streams = rig.core.streams.iter().filter(|stream| stream.key.port == 8080);
        let (count, bytes) = streams.fold((0, 0), |sum, it| (sum.0 + it.flows, sum.1 + it.client_bytes));
        assert_eq!((count, bytes), (1, 100));
    }
}

/// A connection of the same addresses in another network namespace hides no more than it carried, however often both are
/// pushed out.
#[test]
fn what_was_pushed_out_hides_no_more_than_it_carried() {
    let mut rig = Rig::new(CoreSettings { capacity: 4, closed_keep: 0, ..settings() });
    rig.core.sums = Sums::new(400, 1);
    let fake = FlowEvent { netns: 2, ..rig.event(Kind::Open, 1, FAR, SERVER, false) };
    rig.feed(Kind::Open, fake);
    at(&mut rig, Kind::Progress, fake, 7, 0);
    rig.records();
    let real = FlowEvent { opened_ns: rig.now_ns, ..rig.event(Kind::Progress, 2, SERVER, FAR, true) };
    for round in 1..=4 {
        crowd(&mut rig, 100 * round, 5);
        at(&mut rig, Kind::Progress, real, 0, 1000 * round);
        rig.records();
        if round % 2 == 0 {
            crowd(&mut rig, 100 * round + 50, 5);
        }
        at(&mut rig, Kind::Progress, fake, 7, 0);
        rig.records();
    }
    at(&mut rig, Kind::Close, fake, 7, 0);
    at(&mut rig, Kind::Close, real, 0, 5000);
    rig.records();
    rig.pass(61 * SECOND);
    assert_eq!(rig.core.total_bytes(), (5000, 0));
}

/// … and one that was pushed out so long ago that it is not remembered one by one: what it had counted counts twice, until
/// it is heard of again and can be told apart.
#[test]
fn what_a_forgotten_end_had_counted_counts_twice_until_it_is_heard_of_again() {
    for groups in [1, 1 << 20] {
        let mut rig = Rig::new(CoreSettings { capacity: 4, closed_keep: 0, ..settings() });
        rig.core.sums = Sums::new(8, groups);
        let client = rig.event(Kind::Progress, 1, CLIENT, SERVER, false);
        let server = rig.event(Kind::Progress, 2, SERVER, CLIENT, true);
        at(&mut rig, Kind::Progress, client, 40, 0);
        rig.records();
        crowd(&mut rig, 10, 20);
        at(&mut rig, Kind::Open, server, 0, 0);
        at(&mut rig, Kind::Progress, server, 0, 50);
        rig.records();
        rig.pass(2 * SECOND);
        assert_eq!(rig.core.total_bytes().0, 90);
        at(&mut rig, Kind::Progress, client, 60, 0);
        rig.records();
        rig.pass(2 * SECOND);
        at(&mut rig, Kind::Close, server, 0, 100);
        at(&mut rig, Kind::Close, client, 100, 0);
        rig.records();
        let unsure = rig.core.sums.forgotten.unsure.0;
        assert_eq!((rig.core.total_bytes().0, unsure), if groups == 1 { (140, 1) } else { (100, 0) });
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
        live(settings(), steps)?;
    }

    /// The same where one or both ends have to leave a full table, and are heard of again.
    #[test]
    fn connections_within_this_host_count_once_where_the_table_is_full(
        capacity in 8usize..16,
        steps in proptest::collection::vec((0usize..16, 0u8..4), 0..160),
    ) {
        live(CoreSettings { capacity, ..settings() }, steps)?;
    }

    /// … and whichever end is heard of first, and how late the other is: what they told before may have been lost.
    #[test]
    fn connections_within_this_host_count_once_whichever_end_is_heard_of_first(
        capacity in 8usize..16,
        steps in proptest::collection::vec((0usize..16, 1u64..4, 0u8..4), 0..240),
    ) {
        let mut rig = Rig::new(CoreSettings { capacity, closed_keep: 0, ..settings() });
        // All of them are remembered one by one.
        rig.core.sums = Sums::new(400, 1);
        let mut lives = vec![Life::default(); 16];
        let told = |lives: &[Life]| -> Vec<u64> { lives.chunks(2).map(|ends| ends[0].told.max(ends[1].told)).collect() };
        let ends = (0..16).map(|socket| (socket, 0, 0));
        for (socket, bytes, then) in steps.into_iter().chain(ends) {
            let other = told(&lives)[socket / 2];
            lives[socket].go_on(&mut rig, socket, bytes * 1000, other);
            match then {
                0 => drop(rig.records()),
                1 => rig.pass(SECOND / 4),
                2 => rig.pass(2 * SECOND),
                _ => {}
            }
            let (total, truth) = (rig.core.total_bytes().0, told(&lives).iter().sum());
            prop_assert!(total <= truth, "{} of {}", total, truth);
        }
        rig.records();
        rig.pass(70 * SECOND);
        rig.records();
        let truth: u64 = told(&lives).iter().sum();
        prop_assert_eq!(rig.core.open_flows(), 0);
        prop_assert_eq!(rig.core.total_bytes(), (truth, 7 * truth));
        let of = |what: fn(&Stream) -> u64| rig.core.streams.iter().map(what).sum::<u64>();
        prop_assert_eq!((of(|it| it.client_bytes), of(|it| it.server_bytes)), (truth, 7 * truth));
        prop_assert_eq!((of(|it| it.flows), of(|it| it.open)), (8, 0));
    }
}

/// One end of a connection: what it has told.
#[derive(Clone, Default)]
struct Life {
    open: Option<FlowEvent>,
    told: u64,
    ended: bool,
}

impl Life {
    /// It tells that it goes on, or, with no more to come, that it has ended. `other`: what its other end has told.
    fn go_on(&mut self, rig: &mut Rig, socket: usize, more: u64, other: u64) {
        if self.ended {
            return;
        }
        let passive = socket % 2 == 1;
        let client = format!("10.0.0.1:{}", 40_000 + socket / 2);
        let (local, remote) = if passive { (SERVER, &*client) } else { (&*client, SERVER) };
        let first = self.open.is_none();
        // The server's socket is made after the client asks for it, whichever is heard of first.
        let opened_ns = SECOND / 2 + socket as u64;
        let open = *self.open.get_or_insert_with(|| FlowEvent {
            opened_ns,
            ..rig.event(Kind::Open, socket as u64 + 1, local, remote, passive)
        });
        self.ended = more == 0;
        let kind = match (first, self.ended) {
            (true, false) if more == 1000 => Kind::Open,
            (_, true) => Kind::Close,
            _ => Kind::Progress,
        };
        // At the end both have seen the same; before that one knows of more, or of less.
        self.told = match kind {
            Kind::Open => 0,
            Kind::Close => END,
            _ => (self.told.max(other / 2) + more).min(END),
        };
        let (sent, received) = if passive { (7 * self.told, self.told) } else { (self.told, 7 * self.told) };
        at(rig, kind, open, sent, received);
    }
}

/// What a connection has moved in the end.
const END: u64 = 1_000_000;

/// What the kernel tells of eight connections.
fn live(settings: CoreSettings, steps: Vec<(usize, u8)>) -> Result<(), TestCaseError> {
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
        tell(&mut rig, socket, &mut begun[socket]);
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
