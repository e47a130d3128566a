//! What earlier looks at a connection found out of its records saves work: it changes no answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use std::path::Path;

use dissect::{Hint, Inspection, Prefix, Sealed, inspect_stream};
use proptest::collection::vec;
use proptest::prelude::*;

const HANDSHAKES: [&str; 12] = [
    "tls13",
    "tls13_mutual",
    "tls13_resumed",
    "tls12_ecdhe",
    "tls12_mutual",
    "tls12_ecdsa",
    "tls10",
    "tls12_resumed",
    "tls12_null",
    "connect_tls",
    "proxy_protocol_tls",
    "smtp_starttls",
];

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn look(client: &[u8], server: &[u8], ended: bool, sealed: Option<&[Sealed; 2]>) -> Inspection {
    let prefix = |bytes, sealed| Prefix { bytes, ended, sealed, ..Prefix::default() };
    let [of_client, of_server] = [0, 1].map(|side| sealed.map(|sealed| &sealed[side]));
    inspect_stream(prefix(client, of_client), prefix(server, of_server), Hint::default())
}

/// A record of application data that looks sealed, but for what is put in.
fn record(length: usize, at: usize, readable: &[u8]) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let noise = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut payload: Vec<u8> = (0..length).map(noise).collect();
    for (to, from) in payload.iter_mut().skip(at).zip(readable) {
        *to = *from;
    }
    [&[23, 3, 3][..], &(length as u16).to_be_bytes(), &payload].concat()
}

/// What can be read, or only almost.
fn readable() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"user=alice&password=correct-horse-battery-staple; ".repeat(4)),
        Just(vec![7; 130]),
        "[ -~]{20,90}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn an_earlier_look_changes_no_answer(
        name in prop::sample::select(HANDSHAKES.to_vec()),
        records in vec((any::<bool>(), 1usize..700, 0usize..600, readable()), 0..6),
        spoilt in vec((any::<bool>(), 0usize..3000, any::<u8>()), 0..2),
        cuts in vec((any::<bool>(), 1usize..400), 1..50),
        ended: bool,
    ) {
        let mut sides = [fixture(&format!("{name}.client")), fixture(&format!("{name}.server"))];
        for (by_client, length, at, readable) in &records {
            sides[usize::from(!by_client)].extend(record(*length, *at, readable));
        }
        for (by_client, at, byte) in spoilt {
            if let Some(spoilt) = sides[usize::from(!by_client)].get_mut(at) {
                *spoilt = byte;
            }
        }
        let sealed = [Sealed::default(), Sealed::default()];
        let mut there = [0_usize; 2];
        let whole = [(true, usize::MAX), (false, usize::MAX)];
        for (from_client, n) in cuts.into_iter().chain(whole) {
            let side = usize::from(!from_client);
            there[side] = sides[side].len().min(there[side].saturating_add(n));
            let (client, server) = (&sides[0][..there[0]], &sides[1][..there[1]]);
            prop_assert_eq!(look(client, server, false, Some(&sealed)), look(client, server, false, None));
            if ended {
                prop_assert_eq!(look(client, server, true, Some(&sealed)), look(client, server, true, None));
            }
        }
    }
}
