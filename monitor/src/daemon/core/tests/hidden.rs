//! Log-ins over SSH, of which only the facts of the flow tell.

use super::*;

/// A connection of the one client, up to what both said; with ChaCha20, segment by segment.
fn connect(rig: &mut Rig, cookie: u64, client: &[u8], server: &[u8], sizes: [&[usize]; 2]) -> FlowEvent {
    let open = FlowEvent {
        owner: Owner { tgid: 40, seen_ns: 1, ..Owner::default() },
        ..rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false)
    };
    rig.feed(Kind::Open, open);
    for (sent, bytes, sizes) in [(true, client, sizes[0]), (false, server, sizes[1])] {
        let mut at = 0;
        for size in sizes {
            rig.capture(&open, sent, at as u32, &bytes[at..at + size]);
            at += size;
        }
        assert_eq!(at, bytes.len());
    }
    open
}

fn failures(rig: &mut Rig) -> Vec<AlertView> {
    let records = rig.records();
    alerts(&records).into_iter().filter(|alert| alert.rule == Rule::AuthFailures).cloned().collect()
}

/// What was guessed is told while the guesser still uses it.
#[test]
fn a_guess_that_works_is_told_while_the_session_goes_on() {
    const REFUSED: [&[u8]; 2] = [
        include_bytes!("../../../../../dissect/fixtures/ssh/chacha20_refused_key.client"),
        include_bytes!("../../../../../dissect/fixtures/ssh/chacha20_refused_key.server"),
    ];
    const LET_IN: [&[u8]; 2] = [
        include_bytes!("../../../../../dissect/fixtures/ssh/chacha20_key.client"),
        include_bytes!("../../../../../dissect/fixtures/ssh/chacha20_key.server"),
    ];
    let mut rig = Rig::new(settings());
    for cookie in 1..=5 {
        assert_eq!(failures(&mut rig).len(), 0, "before the fifth");
        let sizes: [&[usize]; 2] = [&[41, 1400, 1208, 16, 44, 60, 140], &[41, 1088, 1564, 44, 76, 76]];
        let open = connect(&mut rig, cookie, REFUSED[0], REFUSED[1], sizes);
        rig.records();
        let (sent_bytes, received_bytes) = (REFUSED[0].len() as u64, REFUSED[1].len() as u64);
        rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, ..open });
    }
    let told = failures(&mut rig);
    assert_eq!(told.len(), 1, "{told:?}");
    let sizes: [&[usize]; 2] = [
        &[41, 1400, 1208, 16, 44, 60, 140, 308, 112, 52, 36, 36, 60],
        &[41, 1088, 1564, 44, 76, 100, 28, 248, 176, 72, 124],
    ];
    let open = connect(&mut rig, 6, LET_IN[0], LET_IN[1], sizes);
    let mut told = failures(&mut rig);
    rig.pass(2 * PATIENCE);
    told.extend(failures(&mut rig));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].reason.contains("after 5 failures within 60 s: the guess worked"), "{}", told[0].reason);
    // Once.
    rig.feed(Kind::Close, open);
    rig.pass(2 * PATIENCE);
    assert_eq!(failures(&mut rig).len(), 0);
}
