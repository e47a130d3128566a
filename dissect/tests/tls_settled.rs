//! Exchanges of TLS with anything put in: what was settled stays, but for a yes, which may be taken back and does
//! not come again.

mod exchange;

use dissect::{Inspection, Plain, Protection};
use exchange::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, Exchange, HANDSHAKE, HEARTBEAT, Version, is_yes, look,
    message, noise, record, sealed,
};
use proptest::collection::vec;
use proptest::prelude::*;

const TEXT: &[u8] = b"and now for something in the clear, that nobody has encrypted. ";

/// One piece that does not belong, or does.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text =
        (1usize..200).prop_map(|length| TEXT.iter().copied().cycle().take(length).collect::<Vec<u8>>());
    let payload = prop_oneof![
        text,
        (0usize..200).prop_map(noise),
        vec(any::<u8>(), 0..6),
        (1usize..100).prop_map(|length| [noise(length), TEXT.to_vec()].concat()),
    ];
    let kind = prop::sample::select(vec![CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT]);
    let alert = (1u8..=2, prop::sample::select(vec![0u8, 20, 40, 90])).prop_map(|(level, of)| [level, of]);
    prop_oneof![
        3 => (kind, payload.clone()).prop_map(|(kind, payload)| record(kind, &payload)),
        3 => alert.clone().prop_map(|alert| record(ALERT, &alert)),
        1 => (alert.clone(), alert).prop_map(|(one, other)| record(ALERT, &[one, other].concat())),
        2 => (0u8..26, payload.clone()).prop_map(|(kind, body)| record(HANDSHAKE, &message(kind, &body))),
        2 => (17usize..80).prop_map(|length| sealed(APPLICATION_DATA, length)),
        1 => Just(record(CHANGE_CIPHER_SPEC, &[1])),
        2 => payload,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn settled_answers_stay_whatever_records_come(
        version in prop::sample::select(vec![Version::Tls12, Version::Tls13]),
        far in 0usize..4,
        extra in vec((any::<bool>(), any::<prop::sample::Index>(), piece()), 0..6),
        cuts in vec((any::<bool>(), 1usize..400), 0..40),
        client_ends_first in any::<bool>(),
    ) {
        let stages = [Exchange::hellos, Exchange::offered, Exchange::finished, Exchange::used];
        let mut exchange = stages[far](version);
        for (from_client, at, piece) in extra {
            let side = if from_client { &mut exchange.client } else { &mut exchange.server };
            side.insert(at.index(side.len() + 1), piece);
        }
        let (client, server) = exchange.bytes();
        let mut looks: Vec<Inspection> = Vec::new();
        let (mut c, mut s) = (0, 0);
        for (from_client, n) in cuts.into_iter().chain([(true, 1 << 16), (false, 1 << 16)]) {
            if from_client { c = client.len().min(c + n) } else { s = server.len().min(s + n) }
            looks.push(look(&client[..c], &server[..s], false));
        }
        looks.push(exchange::look_each(&client, &server, (client_ends_first, !client_ends_first)));
        looks.push(look(&client, &server, true));
        let mut settled: Option<Inspection> = None;
        for now in looks {
            match &settled {
                Some(before) if is_yes(&before.facts) && !is_yes(&now.facts) => {
                    settled = Some(Inspection { settled: false, ..now });
                }
                Some(before) if before.settled => prop_assert_eq!(&before.facts, &now.facts),
                Some(_) => prop_assert!(!is_yes(&now.facts), "a yes came back"),
                None if now.settled => settled = Some(now),
                None => {}
            }
        }
    }
}

/// A ServerHello that never ends, and behind it a record that looks protected until its later bytes can be read.
#[test]
fn without_a_hello_what_could_be_read_stays_readable() {
    let client = Exchange::hellos(Version::Tls12).bytes().0;
    let endless = record(HANDSHAKE, &[&[2, 0, 0xff, 0xff, 3, 3][..], &[0; 600]].concat());
    let later = record(APPLICATION_DATA, &[noise(600), TEXT.repeat(4)].concat());
    let server = [endless, later].concat();
    let mut settled: Option<Inspection> = None;
    for to in 0..=server.len() {
        let now = look(&client, &server[..to], false);
        if let Some(before) = &settled {
            assert_eq!(before.facts, now.facts, "with {to} bytes of the server");
        }
        settled = settled.or(Some(now).filter(|now| now.settled));
    }
    let Some(Inspection { facts, .. }) = settled else { panic!("never settled") };
    assert_eq!(facts.protection, Protection::Plaintext(Plain::Readable));
}
