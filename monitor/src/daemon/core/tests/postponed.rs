//! Looks that are put off to the next tick: a handshake under way, and more of the same.

use dissect::{Protection, UnknownReason};

use super::*;
use crate::model::FlowAction;

const CLIENT_SIDE: &[u8] = include_bytes!("../../../../../dissect/fixtures/tls12_ecdhe.client");
const SERVER_SIDE: &[u8] = include_bytes!("../../../../../dissect/fixtures/tls12_ecdhe.server");

/// A connection whose client began a handshake, and was looked at; and what came of it since, which was not.
fn under_way() -> (Rig, FlowEvent) {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    let hello = 5 + usize::from(u16::from_be_bytes([CLIENT_SIDE[3], CLIENT_SIDE[4]]));
    let (first, rest) = CLIENT_SIDE.split_at(hello);
    rig.capture(&open, true, 0, first);
    assert_eq!(protection(&rig, &open), Protection::Unknown(UnknownReason::Handshake));
    rig.capture(&open, false, 0, SERVER_SIDE);
    rig.capture(&open, true, hello as u32, rest);
    (rig, open)
}

fn protection(rig: &Rig, open: &FlowEvent) -> Protection {
    rig.core.table.get(rig.core.table.id(&key_of(open)).unwrap()).unwrap().facts.protection
}

#[test]
fn a_handshake_is_looked_at_when_it_begins_and_with_the_next_tick() {
    let (mut rig, open) = under_way();
    assert_eq!(protection(&rig, &open), Protection::Unknown(UnknownReason::Handshake));
    assert!(rig.core.is_waiting(), "nobody has to say anything more");
    rig.pass(50_000_000);
    assert!(matches!(protection(&rig, &open), Protection::Encrypted(_)));
    assert!(rig.core.postponed.is_empty());
}

#[test]
fn one_that_ends_before_is_looked_at_then() {
    let (mut rig, open) = under_way();
    let close = FlowEvent { kind: Kind::Close as u8, at_ns: rig.now_ns, ..open };
    rig.feed(Kind::Close, close);
    let closed = rig.records().into_iter().find_map(|record| match record {
        Record::Flow { flow, action: FlowAction::FlowClosed, .. } => Some(flow.facts.protection),
        _ => None,
    });
    assert!(matches!(closed, Some(Protection::Encrypted(_))), "{closed:?}");
}

/// What it says at first is looked at with each packet: who begins in the clear is told at once.
#[test]
fn of_what_goes_on_alike_less_and_less_is_looked_at() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    let line = [b'q'; 100];
    let mut looks = Vec::new();
    for number in 0..40 {
        rig.capture(&open, true, number * 100, &line);
        if rig.core.postponed.is_empty() {
            looks.push(number);
        }
    }
    assert_eq!(looks, [0, 1, 2, 3, 4]);
    rig.pass(50_000_000);
    assert!(rig.core.postponed.is_empty());
}
