//! QUIC: what its Initial packets tell, whatever order they come in.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod datagrams;
#[path = "../../fuzz/src/quic.rs"]
mod initials;

use datagrams::{Datagrams, fixture, look};
use dissect::{Cipher, EarlyData, End, Protection, TlsFacts, UnknownReason};
use initials::Connection;
use proptest::prelude::*;

fn tls(name: &str) -> TlsFacts {
    let (client, server) = fixture(name);
    look(&client, &server).facts.tls.unwrap()
}

const ESTABLISHED: [&str; 8] = [
    "quic_compatible_version",
    "quic_long_hello",
    "quic_negotiated_version",
    "quic_post_quantum",
    "quic_post_quantum_retry",
    "quic_retry",
    "quic_retry_long_hello",
    "quic_v2",
];

#[test]
fn the_hellos_tell_who_how_and_what_for() {
    for name in ["quic_compatible_version", "quic_long_hello", "quic_negotiated_version", "quic_retry"] {
        let (client, server) = fixture(name);
        let found = look(&client, &server);
        assert!(found.settled, "{name}");
        assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Quic), "{name}");
        let tls = found.facts.tls.unwrap();
        assert_eq!(tls.version_protocol.as_deref(), Some("quic"), "{name}");
        assert_eq!(tls.version.as_deref(), Some("1.3"), "{name}");
        assert_eq!(tls.cipher.as_deref(), Some("TLS_AES_256_GCM_SHA384"), "{name}");
        assert_eq!(tls.group.as_deref(), Some("secp256r1"), "{name}");
        assert_eq!(tls.server_name.as_deref(), Some("quic.example.org"), "{name}");
        assert_eq!(tls.alpn.as_deref(), Some("h3"), "{name}");
        assert_eq!(tls.retried, name == "quic_retry", "{name}");
    }
    assert!(tls("quic_retry_long_hello").retried);
}

/// quinn with rustls: a key share of 1.2 kB in two datagrams, and frames of one hello out of order.
#[test]
fn a_post_quantum_hello_is_put_together() {
    let tls = tls("quic_post_quantum");
    assert_eq!(tls.group.as_deref(), Some("X25519MLKEM768"));
    assert_eq!((tls.post_quantum, tls.post_quantum_offered), (Some(true), Some(true)));
    assert!(tls.ja4.unwrap().starts_with("q13d"), "JA4 of a QUIC hello");
    assert!(tls.ja4s.unwrap().starts_with("q13"), "JA4S of a QUIC hello");
    assert_eq!(tls.server_name.as_deref(), Some("localhost"));
    assert_eq!(tls.alpn.as_deref(), Some("h3"));
}

#[test]
fn versions_are_named() {
    for (name, version) in [
        ("quic_v2", "QUIC version 2"),
        ("quic_compatible_version", "QUIC version 2 to quic.example.org"),
        ("quic_negotiated_version", "QUIC version 1 to quic.example.org"),
    ] {
        let (client, server) = fixture(name);
        assert_eq!(look(&client, &server).facts.detail.as_deref(), Some(version), "{name}");
    }
}

#[test]
fn a_refusal_in_an_initial_packet_is_told() {
    let (client, server) = fixture("quic_no_common_alpn");
    let found = look(&client, &server);
    assert_eq!(found.facts.protection, Protection::Unknown(UnknownReason::Handshake));
    let alert = found.facts.tls.unwrap().alert.unwrap();
    assert_eq!((alert.from, alert.description.as_deref()), (End::Server, Some("no_application_protocol")));
}

/// The second connection of a client sends 0-RTT packets before it has an answer.
#[test]
fn early_data_is_told() {
    let tls = tls("quic_early_data");
    assert_eq!((tls.early_data, tls.resumed), (Some(EarlyData::Offered), Some(true)));
}

/// Segmentation offload hands several datagrams over as one.
#[test]
fn datagrams_that_left_in_one_piece_are_taken_apart() {
    for name in ESTABLISHED {
        let (client, server) = fixture(name);
        let apart = look(&client, &server);
        let flight = client.iter().take_while(|d| d[0] & 0x80 != 0).count();
        let glued: Datagrams = [&[client[..flight].concat()], &client[flight..]].concat();
        assert_eq!(look(&glued, &server), apart, "{name}");
    }
}

/// One byte of the first packet changed: it is opened no more, and proves nothing.
#[test]
fn what_cannot_be_opened_is_not_encrypted() {
    let (mut client, server) = fixture("quic_v1");
    client[0][100] ^= 1;
    let found = look(&client, &server);
    assert!(!matches!(found.facts.protection, Protection::Encrypted(_)), "{found:?}");
}

/// A handshake, and then text where the sealed packets should be.
#[test]
fn a_handshake_that_goes_on_in_the_clear_is_not_encrypted() {
    let (mut client, server) = fixture("quic_v1");
    let id_length = usize::from(server[0][6 + usize::from(server[0][5])]);
    let id = &server[0][7 + usize::from(server[0][5])..][..id_length];
    let text = [&[0x40][..], id, b"this is said in the clear, over and over again"].concat();
    client.retain(|datagram| {
        datagram[0] & 0x80 != 0 && look(std::slice::from_ref(datagram), &[]).facts.tls.is_some()
    });
    client.push(text);
    let found = look(&client, &server);
    assert!(!matches!(found.facts.protection, Protection::Encrypted(_)), "{found:?}");
}

/// A CRYPTO frame (RFC 9000 section 19.6).
fn crypto(offset: u16, data: &[u8]) -> Vec<u8> {
    [&[0, 6][..], &(offset | 0x4000).to_be_bytes(), &(data.len() as u16 | 0x4000).to_be_bytes(), data]
        .concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn hello_to(name: &[u8], more: &[u8]) -> Vec<u8> {
    let list = [&[0, (name.len() + 3) as u8, 0, 0, name.len() as u8][..], name].concat();
    let extensions =
        [&[0, 0, 0, list.len() as u8][..], &list, &[0, 43, 0, 3, 2, 3, 4, 0, 57, 0, 0], more].concat();
    let head = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    message(1, &[&head, &(extensions.len() as u16).to_be_bytes()[..], &extensions].concat())
}

/// Initial packets with these frames of the client, an answer, and two packets of data each way.
fn connection(of_client: &[Vec<u8>]) -> (Datagrams, Datagrams) {
    let mut connection = Connection::new(false);
    let client = of_client.iter().map(|frames| connection.datagram(true, frames)).collect::<Vec<_>>();
    let extensions = [&[0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 29, 0, 32][..], &[9; 32]].concat();
    let answer = [&[3, 3][..], &[8; 32], &[0, 0x13, 1, 0, 0, extensions.len() as u8], &extensions].concat();
    let server = vec![connection.datagram(false, &crypto(0, &message(2, &answer)))];
    let mut noise = (0u32..).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8 | 0x80);
    let mut data = |from_client| {
        let sealed: Vec<u8> = [6].into_iter().chain(noise.by_ref().take(60)).collect();
        connection.datagram(from_client, &sealed)
    };
    let [client_data, server_data] =
        [true, false].map(|from_client| vec![data(from_client), data(from_client)]);
    ([client, client_data].concat(), [server, server_data].concat())
}

/// RFC 9000 section 2.2 forbids it, and which of them a server takes depends on it.
#[test]
fn of_two_hellos_at_one_place_none_is_told() {
    let [one, other] = [&b"one.example.org"[..], b"two.example.org"].map(|name| hello_to(name, &[]));
    let (client, server) = connection(&[crypto(0, &one), crypto(0, &one)]);
    let found = look(&client, &server);
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Quic));
    assert_eq!(found.facts.tls.unwrap().server_name.as_deref(), Some("one.example.org"));
    // A piece is enough, and so is one that comes first of all.
    let at = one.iter().zip(&other).position(|(a, b)| a != b).unwrap();
    let piece = crypto(at as u16, &other[at..at + 4]);
    for frames in [
        [crypto(0, &one), crypto(0, &other)],
        [crypto(0, &one), piece.clone()],
        [piece.clone(), crypto(0, &one)],
        [[crypto(0, &one), piece].concat(), crypto(0, &one)],
    ] {
        let (client, server) = connection(&frames);
        let found = look(&client, &server);
        assert!(found.settled);
        assert_eq!(found.facts.protection, Protection::Unknown(UnknownReason::Contradictory));
        assert_eq!(found.facts.tls, None);
        let unanswered = look(&client[..2], &[]).facts;
        assert_eq!(unanswered.protection, Protection::Unknown(UnknownReason::Contradictory));
    }
    // Behind what is settled it changes nothing.
    let (client, server) = connection(&[crypto(0, &one), crypto(0, &other)]);
    let late = [&client[..1], &client[2..], &client[1..2]].concat();
    let found = look(&late, &server);
    assert_eq!(found, look(&late[..3], &server));
    assert!(found.settled);
    // Nor where what comes behind those that are looked at settles it.
    let noise = vec![vec![0x11; 3], vec![0x12; 3]];
    let [one, data, other] = [&client[..1], &client[2..], &client[1..2]];
    let whole = look(&[one, &noise, data, other].concat(), &server);
    assert!(whole.settled);
    assert_eq!(whole, look(&[one, &noise, data].concat(), &server));
    assert_eq!(whole.facts.protection, Protection::Encrypted(Cipher::Quic));
}

/// A hello may hold kilobytes.
#[test]
fn words_in_a_hello_of_quic_are_no_yes() {
    let words = b"said in the clear, to whom it may concern, in a hello. ".repeat(20);
    let more = [&0x1234u16.to_be_bytes()[..], &(words.len() as u16).to_be_bytes(), &words].concat();
    let (client, server) = connection(&[crypto(0, &hello_to(b"one.example.org", &more))]);
    let facts = look(&client, &server).facts;
    assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque), "{facts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// All datagrams but the first of each side in any order, some of them twice: the same facts.
    #[test]
    fn order_and_repetition_change_nothing(seed in prop::collection::vec(any::<prop::sample::Index>(), 32)) {
        for name in ESTABLISHED {
            let (client, server) = fixture(name);
            let expected = look(&client, &server);
            let shuffle = |side: &[Vec<u8>]| {
                let mut rest = side[1..].to_vec();
                for (at, index) in seed.iter().enumerate().take(rest.len()) {
                    let other = index.index(rest.len());
                    rest.swap(at, other);
                }
                let again = seed[0].get(side).clone();
                [&side[..1], &rest, &[again]].concat()
            };
            prop_assert_eq!(look(&shuffle(&client), &shuffle(&server)), expected, "{}", name);
        }
    }

    /// Any byte changed, any datagram cut: never a panic, and never other facts than the true ones.
    #[test]
    fn damage_takes_away_and_adds_nothing(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in any::<bool>(),
        from_client in any::<bool>(),
    ) {
        for name in ESTABLISHED {
            let (mut client, mut server) = fixture(name);
            let whole = look(&client, &server).facts.tls.unwrap();
            let side = if from_client { &mut client } else { &mut server };
            let datagram = { let n = which.index(side.len()); &mut side[n] };
            let at = at.index(datagram.len());
            if cut { datagram.truncate(at) } else { datagram[at] ^= flip }
            let facts = look(&client, &server).facts;
            let Some(tls) = facts.tls else { continue };
            for (damaged, true_one) in [(tls.server_name, whole.server_name), (tls.group, whole.group), (tls.cipher, whole.cipher)] {
                prop_assert!(damaged.is_none() || damaged == true_one, "{}", name);
            }
        }
    }
}
