//! What follows a handshake of TLS: looked at in captures that come later, and let go of in time.

use super::*;

const CLIENT_SIDE: &[u8] = include_bytes!("../../../../../dissect/fixtures/tls12_ecdhe.client");
const SERVER_SIDE: &[u8] = include_bytes!("../../../../../dissect/fixtures/tls12_ecdhe.server");
const LINE: &[u8] = b"a line that anybody on the way can read\n";

/// A connection whose handshake went through, with what each end has said.
fn connected() -> (Rig, FlowEvent) {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, CLIENT_SIDE);
    rig.capture(&open, false, 0, SERVER_SIDE);
    rig.core.look_at_grown(rig.now_ns);
    assert!(is_encrypted(&rig, &open));
    assert!(rig.core.held.total() > 0, "what follows is waited for");
    (rig, open)
}

fn is_encrypted(rig: &Rig, open: &FlowEvent) -> bool {
    let flow = rig.core.table.get(rig.core.table.id(&key_of(open)).unwrap()).unwrap();
    matches!(flow.facts.protection, dissect::Protection::Encrypted(_))
}

fn says(rig: &mut Rig, open: &FlowEvent, offset: u32, bytes: &[u8]) {
    rig.capture(open, true, CLIENT_SIDE.len() as u32 + offset, bytes);
    rig.core.look_at_grown(rig.now_ns);
}

fn is_told_to_stop(rig: &mut Rig) -> bool {
    let commands = rig.core.take_output().commands;
    commands.iter().any(
        |command| matches!(command, Command::Decide { decision, .. } if decision.action == decision::SETTLE),
    )
}

#[test]
fn a_line_in_the_clear_takes_the_yes_back_at_once() {
    let (mut rig, open) = connected();
    says(&mut rig, &open, 0, LINE);
    assert!(!is_encrypted(&rig, &open));
}

#[test]
fn enough_of_one_end_is_enough() {
    let (mut rig, open) = connected();
    let record = |fill: u8| {
        let mut record = vec![23, 3, 3, 2, 0];
        record.extend((0..512_u32).map(|at| (at * 167 + at / 3 * 89) as u8 ^ fill));
        record
    };
    says(&mut rig, &open, 0, &record(7));
    assert!(rig.core.held.total() > 0 && !is_told_to_stop(&mut rig));
    says(&mut rig, &open, 517, &record(11));
    says(&mut rig, &open, 2 * 517, &record(13));
    assert_eq!((rig.core.held.total(), is_encrypted(&rig, &open)), (0, true));
    assert!(is_told_to_stop(&mut rig));
}

/// A little of it every few seconds does not have it waited for without end.
#[test]
fn it_is_waited_for_no_longer_than_it_may() {
    let (mut rig, open) = connected();
    // What begins like a record is looked at later.
    let text = b"text in what begins like one";
    let record = [&[23, 3, 3, 0, text.len() as u8][..], text].concat();
    for at in 0..4 {
        rig.pass(4 * SECOND);
        says(&mut rig, &open, at * record.len() as u32, &record);
    }
    assert_eq!(rig.core.held.total(), 0);
    assert!(!is_encrypted(&rig, &open));
    assert!(is_told_to_stop(&mut rig));
}
