//! A full table of streams: those in which nothing goes on give way to new ones of the same party.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::flows::Stream;
use crate::model::Answer;

const ROOM: usize = 20;

fn rig() -> Rig {
    Rig::new(CoreSettings { capacity: 10_000, streams: ROOM, ..settings() })
}

/// One end of a connection of a user's to a server of that number.
fn open(rig: &mut Rig, cookie: u64, user: u32, server: u64) -> FlowEvent {
    let to = format!("10.9.{}.{}:80", server / 250, 1 + server % 250);
    let mut open = rig.event(Kind::Open, cookie, "10.0.0.1:30000", &to, false);
    open.owner.tgid = user;
    rig.feed(Kind::Open, open);
    open
}

fn whole(rig: &mut Rig, cookie: u64, user: u32, server: u64, bytes: u64) {
    let open = open(rig, cookie, user, server);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: bytes, ..open });
    rig.records();
}

fn stream<'a>(rig: &'a Rig, key: &str) -> Option<&'a Stream> {
    rig.core.streams.iter().find(|stream| stream.key.to_string() == key)
}

fn flows_of(rig: &Rig, key: &str) -> Option<u64> {
    stream(rig, key).map(|stream| stream.flows)
}

const OTHERS: &str = "uid:6 → (others):0/tcp";

#[test]
fn quiet_streams_make_room_for_new_ones_of_the_same_party_and_their_totals_stay() {
    let mut rig = rig();
    whole(&mut rig, 1, 7, 0, 1);
    // Half of what is free; the first of them carries most.
    for n in 0..ROOM as u64 {
        whole(&mut rig, 10 + n, 6, n, 1000 - n);
    }
    let held = rig.core.streams.len();
    assert!((9..ROOM).contains(&held) && flows_of(&rig, OTHERS).is_some_and(|flows| flows > 0));
    let before = flows_of(&rig, OTHERS).unwrap();

    // Nobody is quiet yet.
    rig.pass(2 * SECOND);
    whole(&mut rig, 100, 6, 600, 5);
    rig.pass(2 * SECOND);
    assert_eq!((rig.core.streams.gave_way, flows_of(&rig, OTHERS)), (0, Some(before + 1)));

    rig.pass(61 * SECOND);
    whole(&mut rig, 101, 6, 601, 5);
    rig.pass(2 * SECOND);
    // As many as found no room, those that carried least: the last that had a stream.
    assert_eq!(rig.core.streams.gave_way, 1);
    whole(&mut rig, 102, 6, 602, 7);
    assert_eq!(flows_of(&rig, "p6 (uid 6) → 10.9.2.103:80/tcp"), Some(1), "it has a stream of its own");
    assert_eq!(flows_of(&rig, "p6 (uid 6) → 10.9.0.1:80/tcp"), Some(1), "what carried most stays");
    assert_eq!(flows_of(&rig, "p7 (uid 7) → 10.9.0.1:80/tcp"), Some(1), "and so does what is another's");
    assert_eq!(rig.core.streams.len(), held);
    let sum: u64 = rig.core.streams.iter().map(|stream| stream.client_bytes).sum();
    assert_eq!((sum, rig.core.total_bytes().0), (1 + (981..=1000).sum::<u64>() + 5 + 5 + 7, sum));
    let row = rig.core.table_views().into_iter().find(|table| table.name == "streams").unwrap();
    assert_eq!(row.evicted, 1);
}

#[test]
fn who_comes_late_has_places_of_who_has_most() {
    let mut rig = rig();
    let mut cookie = 0;
    for user in 1..8 {
        for n in 0..ROOM as u64 {
            cookie += 1;
            whole(&mut rig, cookie, user, n, 1);
        }
    }
    assert!(rig.core.streams.len() >= ROOM);
    let of = |rig: &Rig, user: u32| {
        let name = format!("p{user} (uid {user})");
        rig.core.streams.iter().filter(|stream| stream.key.client.to_string() == name).count()
    };
    let most = of(&rig, 1);
    rig.pass(2 * SECOND);
    rig.pass(61 * SECOND);
    whole(&mut rig, 1000, 99, 0, 1);
    assert_eq!(of(&rig, 99), 0);
    rig.pass(2 * SECOND);
    // The first place is that of what all have beside, which is one more than there is room for.
    whole(&mut rig, 1001, 99, 1, 1);
    rig.pass(2 * SECOND);
    whole(&mut rig, 1002, 99, 2, 1);
    assert_eq!((of(&rig, 99), of(&rig, 1)), (1, most - 2));
    assert_eq!(rig.core.streams.iter().map(|stream| stream.flows).sum::<u64>(), cookie + 3);
}

#[test]
fn a_stream_with_an_open_flow_gives_way_to_nobody() {
    let mut rig = rig();
    let mut held = Vec::new();
    for n in 0..ROOM as u64 {
        held.push(open(&mut rig, 10 + n, 6, n));
        rig.records();
    }
    rig.pass(120 * SECOND);
    whole(&mut rig, 100, 6, 600, 5);
    rig.pass(2 * SECOND);
    assert_eq!(rig.core.streams.gave_way, 0);
    for open in held {
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 3, ..open });
    }
    rig.records();
    assert_eq!(rig.core.streams.iter().map(|stream| stream.client_bytes).sum::<u64>(), 3 * ROOM as u64 + 5);
}

#[test]
fn what_gave_way_is_answered_for_by_the_worst_and_is_nothing_that_happens_now() {
    let mut rig = rig();
    // In the clear, and little of it.
    let clear = open(&mut rig, 1, 6, 0);
    rig.capture(&clear, true, 0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.pass(2 * SECOND);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 27, ..clear });
    rig.records();
    let of_clear = "p6 (uid 6) → 10.9.0.1:80/tcp";
    assert_eq!(stream(&rig, of_clear).map(|stream| stream.verdict.encrypted.answer), Some(Answer::No));
    for n in 1..ROOM as u64 {
        whole(&mut rig, 10 + n, 6, n, 1000);
    }
    // In vain.
    rig.pass(2 * SECOND);
    rig.pass(61 * SECOND);
    whole(&mut rig, 100, 6, 600, 5);
    rig.pass(2 * SECOND);
    assert!(stream(&rig, of_clear).is_none());
    let others = stream(&rig, OTHERS).unwrap();
    assert_eq!(others.verdict.encrypted.answer, Answer::No);
    // Rates leave out what came long ago.
    assert_eq!((others.taken_over.flows, others.taken_over.bytes), (1, 27));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes and goes: each byte is in one stream, and no more streams are held than there is room for.
    #[test]
    fn whoever_gives_way_the_sums_stay(
        steps in proptest::collection::vec((0u64..400, 1u32..4, 0u8..8), 1..400),
    ) {
        let mut rig = rig();
        let (mut sent, mut begun) = (0, HashMap::new());
        for (cookie, (server, user, then)) in steps.into_iter().enumerate() {
            let cookie = cookie as u64 + 1;
            let open = open(&mut rig, cookie, user, server);
            rig.records();
            begun.insert(cookie, open);
            // Some stay open for long.
            let ends: Vec<u64> = begun.keys().copied().filter(|it| then > 1 && it % 7 != 0 || then > 6).collect();
            for cookie in ends {
                if let Some(open) = begun.remove(&cookie) {
                    sent += cookie;
                    rig.feed(Kind::Close, FlowEvent { sent_bytes: cookie, ..open });
                }
            }
            rig.records();
            match then {
                3 => rig.pass(2 * SECOND),
                4 => rig.pass(61 * SECOND),
                _ => {}
            }
        }
        for (cookie, open) in begun {
            sent += cookie;
            rig.feed(Kind::Close, FlowEvent { sent_bytes: cookie, ..open });
        }
        rig.records();
        let sum = |of: fn(&Stream) -> u64| rig.core.streams.iter().map(of).sum::<u64>();
        prop_assert_eq!((sum(|stream| stream.client_bytes), rig.core.total_bytes().0), (sent, sent));
        prop_assert_eq!(sum(|stream| stream.open), 0);
        // And one for what each party has beside.
        prop_assert!(rig.core.streams.len() <= ROOM + 4);
        prop_assert_eq!(rig.core.streams.iter().count(), rig.core.streams.len());
    }
}
