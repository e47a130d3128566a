//! Datagrams of several kinds on one flow: STUN and a relay's frames around DTLS, media beside it, and what
//! can be read among what cannot.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod datagrams;

use datagrams::{Datagrams, fixture, look};
use dissect::{Cipher, ClientCertificateState, Facts, Plain, Protection, Protocol, UnknownReason};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

/// What is said in the end; on the way, whichever end's datagrams come first, nothing that was settled
/// changes.
fn told(client: &[Vec<u8>], server: &[Vec<u8>]) -> Facts {
    let last = look(client, server).facts;
    for c in 0..=client.len() {
        for s in 0..=server.len() {
            let now = look(&client[..c], &server[..s]);
            if now.settled {
                assert_eq!(now.facts, last, "settled at {c}/{s}");
            }
        }
    }
    last
}

const DTLS: Protection = Protection::Encrypted(Cipher::Dtls);
const READABLE: Protection = Protection::Plaintext(Plain::Readable);
const STUN: Protection = Protection::Plaintext(Plain::Protocol(Protocol::Stun));

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn stun(kind: [u8; 2], attributes: &[u8]) -> Vec<u8> {
    let length = (attributes.len() as u16).to_be_bytes();
    [&kind[..], &length, &[0x21, 0x12, 0xa4, 0x42], b"abcdefghijkl", attributes].concat()
}

fn check() -> Vec<u8> {
    stun([0, 1], b"\0\x06\0\x09user:name\0\0\0\x80\x28\0\x04\x01\x02\x03\x04")
}

fn checked() -> Vec<u8> {
    stun([1, 1], b"\0\x20\0\x08\0\x01\x11\x22\x33\x44\x55\x66")
}

/// With this in front of each, and once more at the end.
fn between(extra: &[u8], datagrams: &[Vec<u8>]) -> Datagrams {
    let led = datagrams.iter().flat_map(|datagram| [extra.to_vec(), datagram.clone()]);
    led.chain([extra.to_vec()]).collect()
}

fn framed(channel: u8, datagram: &[u8]) -> Vec<u8> {
    let length = (datagram.len() as u16).to_be_bytes();
    [&[0x40, channel, length[0], length[1]][..], datagram].concat()
}

/// In an indication: to or from the peer with this port, whose address is masked.
fn indicated(kind: u8, port: u8, datagram: &[u8]) -> Vec<u8> {
    let length = (datagram.len() as u16).to_be_bytes();
    let padding = vec![0; datagram.len().next_multiple_of(4) - datagram.len()];
    let peer = [0, 0x12, 0, 8, 0, 1, 0x21, port, 0x2b, 0x12, 0xa4, 0x43];
    stun([0, kind], &[&peer[..], &[0, 0x13, length[0], length[1]], datagram, &padding].concat())
}

#[test]
fn stun_alone_is_in_the_clear_and_stays_open() {
    let found = look(&[check(), check()], &[checked()]);
    assert_eq!((found.facts.protocol, found.facts.protection), (Some(Protocol::Stun), STUN));
    assert!(!found.settled);
    // Another number in the place of the cookie.
    let mut other = check();
    other[4] = 0x20;
    assert_ne!(look(&[other], &[]).facts.protocol, Some(Protocol::Stun));
}

#[test]
fn dtls_is_seen_behind_stun() {
    for name in ["dtls12", "dtls10"] {
        let (client, server) = fixture(name);
        let direct = look(&client, &server).facts;
        assert_eq!(direct.protection, DTLS);
        let facts = told(&between(&check(), &client), &between(&checked(), &server));
        assert_eq!(facts, direct, "{name}");
        let framed = |side: &[Vec<u8>]| side.iter().map(|d| framed(3, d)).collect::<Vec<_>>();
        let facts = told(&between(&check(), &framed(&client)), &between(&checked(), &framed(&server)));
        assert_eq!(facts, direct, "{name} over a relay");
        let indicated =
            |kind: u8, side: &[Vec<u8>]| side.iter().map(|d| indicated(kind, 9, d)).collect::<Vec<_>>();
        let tried = indicated(0x16, &[check()]);
        let facts = told(&[tried, indicated(0x16, &client)].concat(), &indicated(0x17, &server));
        assert_eq!(facts, direct, "{name} over a relay, without a channel");
    }
}

/// To the client a ticket is any bytes: what can be read there was sent in the clear, whoever agreed to it.
#[test]
fn a_ticket_that_can_be_read_is_no_sign_of_encryption() {
    let (client, server) = fixture("dtls12");
    // A header of the record, one of the message, a lifetime and a length stand before it.
    let (at, end) = (13 + 12 + 6, 13 + 194);
    assert_eq!((server[2][0], server[2][13]), (22, 4), "the server's last flight begins with a ticket");
    let with_ticket = |ticket: &[u8]| -> Datagrams {
        let mut server = server.clone();
        server[2][at..end].fill_with({
            let mut bytes = ticket.iter().copied().chain(noise(200));
            move || bytes.next().unwrap()
        });
        server
    };
    assert_eq!(told(&client, &with_ticket(&noise(180))).protection, DTLS);
    let words = b"nothing of this is encrypted, by anyone";
    for ticket in [&words[..], &words.repeat(4), &[&noise(40)[..], &words.repeat(4)].concat(), &[0; 200]] {
        let facts = told(&client, &with_ticket(ticket));
        assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
        assert!(facts.detail.unwrap().contains("a ticket that can be read"));
    }
}

/// The host that tried first need not be the client of DTLS.
#[test]
fn either_end_may_begin_dtls_behind_stun() {
    let (client, server) = fixture("dtls12");
    let direct = look(&client, &server).facts.tls.unwrap();
    let facts = told(&between(&check(), &server), &between(&checked(), &client));
    assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Dtls), DTLS));
    let tls = facts.tls.unwrap();
    assert_eq!((&tls.cipher, &tls.version), (&direct.cipher, &direct.version));
    // It is the flow's client that showed a certificate.
    assert_eq!(tls.client_certificates, direct.server_certificates);
    assert!(!tls.client_certificates.is_empty() && tls.server_certificates.is_empty());
    assert_eq!(tls.client_certificate.state, ClientCertificateState::Presented);
    assert!(tls.showed_no_certificate);
    // Without STUN it would be somebody's answer to nothing.
    assert_ne!(look(&server, &client).facts.protection, DTLS);
}

#[test]
fn each_peer_of_a_relay_has_an_encryption_of_its_own() {
    let (client, server) = fixture("dtls12");
    let framed_by =
        |channel: u8, side: &[Vec<u8>]| side.iter().map(|d| framed(channel, d)).collect::<Vec<_>>();
    assert_ne!(told(&framed_by(1, &client), &framed_by(2, &server)).protection, DTLS);
    // Another one is told something in the clear.
    let words = framed(2, b"nothing of this is encrypted, by anyone");
    let mixed = between(&words, &framed_by(1, &client));
    assert_eq!(told(&[&[check()], &mixed[1..]].concat(), &framed_by(1, &server)).protection, READABLE);
    // What cannot be read may still be in nobody's keys: media, and a few words.
    for said in [rtp(&noise(120)), b"PIN 4711".to_vec()] {
        let client = [&[check()][..], &framed_by(1, &client), &[framed(2, &said)]].concat();
        let facts = told(&client, &framed_by(1, &server));
        assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque), "{said:?}");
        assert!(facts.detail.unwrap().contains("for another peer"));
    }
}

/// With a header extension, and keys or not.
fn rtp(payload: &[u8]) -> Vec<u8> {
    [&[0x90, 0x6f, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 0xbe, 0xde, 0, 1, 0x51, 0, 1, 0][..], payload].concat()
}

/// Both, with media of this profile offered and chosen.
fn agreed_on_srtp(client: &[Vec<u8>], server: &[Vec<u8>], profile: u8) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut client, mut server) = (client.to_vec(), server.to_vec());
    for hello in [0, 1] {
        client[hello] = with_srtp(client[hello].clone(), extensions_at(&client[hello]), profile);
    }
    // The ServerHello is the first record of its datagram.
    let end = 13 + usize::from(u16::from_be_bytes([server[1][11], server[1][12]]));
    let session = usize::from(server[1][25 + 2 + 32]);
    let hello = with_srtp(server[1][..end].to_vec(), 25 + 2 + 32 + 1 + session + 3, profile);
    server[1] = [&hello[..], &server[1][end..]].concat();
    (client, server)
}

/// A hello of DTLS 1.2 with one more extension; the message's length, the fragment's, and the record's.
fn with_srtp(mut datagram: Vec<u8>, at_extensions: usize, profile: u8) -> Vec<u8> {
    datagram.extend([0, 14, 0, 5, 0, 2, 0, profile, 0]);
    for (at, size) in [(11, 2), (14, 3), (22, 3), (at_extensions, 2)] {
        let field = &mut datagram[at..at + size];
        let low = u16::from_be_bytes([field[size - 2], field[size - 1]]) + 9;
        field[size - 2..].copy_from_slice(&low.to_be_bytes());
    }
    datagram
}

/// Where the list of extensions of a ClientHello of DTLS begins.
fn extensions_at(datagram: &[u8]) -> usize {
    let mut at = 25 + 2 + 32;
    at += 1 + usize::from(datagram[at]);
    at += 1 + usize::from(datagram[at]);
    at += 2 + usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
    at + 1 + usize::from(datagram[at])
}

#[test]
fn media_are_encrypted_where_dtls_gave_them_keys() {
    let (client, server) = fixture("dtls12");
    let with = |side: &[Vec<u8>], media: &[u8]| [side, &[rtp(media)]].concat();
    // Nobody spoke of media.
    let facts = told(&with(&client, &noise(160)), &with(&server, &noise(160)));
    assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
    assert!(facts.detail.unwrap().contains("beside media"));
    // The server's hello is DTLS 1.2: what it does not say there was not agreed upon.
    let (offered, answered) = agreed_on_srtp(&client, &server, 1);
    let facts = told(&with(&offered, &noise(160)), &server);
    assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
    // Nor what the client did not offer.
    let (_, other) = agreed_on_srtp(&client, &server, 7);
    let facts = told(&with(&offered, &noise(160)), &other);
    assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
    let client = offered;
    assert_eq!(told(&client, &answered).protection, DTLS);
    let facts = told(&with(&client, &noise(160)), &with(&answered, &noise(160)));
    assert_eq!(facts.protection, DTLS);
    // The same silence over and over is no secret.
    let facts = told(&with(&client, &[0xd5; 160]), &with(&answered, &noise(160)));
    assert_eq!(facts.protection, READABLE);
    // Media that came without DTLS.
    let facts = told(&[check(), rtp(&noise(160))], &[checked(), rtp(&noise(160))]);
    assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
}

#[test]
fn media_that_are_only_signed_are_in_the_clear() {
    let (client, server) = fixture("dtls12");
    for profile in [5, 6] {
        let (client, server) = agreed_on_srtp(&client, &server, profile);
        let facts = told(&client, &server);
        assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
        let facts = told(&client, &[&server[..], &[rtp(&noise(160))]].concat());
        assert_eq!(facts.protection, Protection::Plaintext(Plain::Protocol(Protocol::Dtls)));
        assert!(facts.detail.unwrap().contains("media without encryption"));
    }
}

/// What a service might say beside what it encrypts.
const SAID: [&[u8]; 3] = [
    b"said in the clear, to whom it may concern",
    "gar nicht verschl\u{fc}sselt, wie man hier sieht".as_bytes(),
    b"ping",
];

/// A message of the handshake, with this number.
fn message(kind: u8, number: u8, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    record(22, 0, &[&[kind][..], length, &[0, number, 0, 0, 0], length, body].concat())
}

#[test]
fn nothing_hides_in_records_that_belong_to_no_keys() {
    let (client, server) = fixture("dtls12");
    let words = b"pay 100 EUR to mallory, and say nothing of it";
    let few = b"pay 100 EUR to eve..";
    let hidden = [
        record(20, 0, words),
        record(21, 0, words),
        record(21, 0, b"ab"),
        record(24, 0, words),
        record(25, 0, words),
        record(26, 0, words),
        message(11, 2, words),
        message(99, 30, words),
        [record(23, 1, few), record(23, 1, few)].concat(),
        [record(23, 1, &[&noise(8)[..], few].concat()), record(23, 1, &[&noise(8)[..], few].concat())]
            .concat(),
        [&b"\x01\0\0\x04"[..], few].concat(),
    ];
    for (n, datagram) in hidden.iter().enumerate() {
        for (from_client, at) in [(true, client.len()), (false, server.len()), (false, server.len() - 1)] {
            let (mut client, mut server) = (client.clone(), server.clone());
            let side = if from_client { &mut client } else { &mut server };
            side.insert(at, datagram.clone());
            let facts = told(&client, &server);
            assert_ne!(facts.protection, DTLS, "{n} {from_client} {at}");
        }
    }
    // A connection id, of whatever length, goes before a record's own (RFC 9146).
    let with_id = record(25, 1, &[&[1, 2, 3, 4, 0, 40][..], &noise(40)].concat());
    let with_id = [&with_id[..11], &with_id[13..]].concat();
    assert_eq!(told(&[&client[..], &[with_id]].concat(), &server).protection, DTLS);
    // The same client begins anew, with another hello, and the server answers it with another key.
    let mut another = client[0].clone();
    another[30] ^= 1;
    let begun_anew = [&client[..], &[another]].concat();
    assert_eq!(told(&begun_anew, &server).protection, DTLS);
    let last = server.iter().position(|datagram| datagram[0] == 22).unwrap();
    let mut answer = server[last + 1].clone();
    let at = answer.len().min(200) - 20;
    answer[at] ^= 1;
    let facts = told(&begun_anew, &[&server[..], &[answer]].concat());
    assert_eq!(facts.protection, Protection::Unknown(UnknownReason::Opaque));
    // Whatever comes late, or once more.
    for n in 0..client.len() {
        let mut client = client.clone();
        let late = client.remove(n);
        client.push(late);
        assert!(!matches!(told(&client, &server).protection, Protection::Plaintext(_)), "client {n}");
    }
    for n in 0..server.len() {
        let mut server = server.clone();
        let late = server.remove(n);
        server.push(late);
        assert!(!matches!(told(&client, &server).protection, Protection::Plaintext(_)), "server {n}");
    }
    // What stacks do send there takes nothing away.
    let acknowledged = [&[0, 16][..], &[0; 7], &[1], &[0; 7], &[3]].concat();
    let as_before = client[0].clone();
    for datagram in [record(20, 0, &[1]), record(21, 0, &[1, 0]), record(26, 0, &acknowledged), as_before] {
        let client = [&client[..], &[datagram]].concat();
        assert_eq!(told(&client, &server).protection, DTLS);
    }
}

#[test]
fn no_message_of_wireguard_is_text() {
    let initiation = [&[1, 0, 0, 0][..], b"aaaa", &noise(140)].concat();
    let response = [&[2, 0, 0, 0][..], b"bbbb", b"aaaa", &noise(80)].concat();
    let data = |to: &[u8], sealed: &[u8]| [&[4, 0, 0, 0][..], to, &[1, 0, 0, 0, 0, 0, 0, 0], sealed].concat();
    let flow = |[one, two]: [&[u8]; 2], first: &[u8], answer: &[u8]| {
        told(
            &[first.to_vec(), data(b"bbbb", one), data(b"bbbb", one)],
            &[answer.to_vec(), data(b"aaaa", two)],
        )
    };
    let noise_32 = noise(32);
    let sealed = [&noise_32[..], &noise_32[..]];
    let wireguard = Protection::Encrypted(Cipher::Wireguard);
    assert_eq!(flow(sealed, &initiation, &response).protection, wireguard);
    for few in [&b"sixteen letters."[..], b"twenty-three of letters"] {
        assert_ne!(flow([few, few], &initiation, &response).protection, wireguard);
    }
    let words = b"what is said in front of the keys is heard by all who listen. ".repeat(3);
    let [mut first, mut answer] = [initiation.clone(), response.clone()];
    first[8..140].copy_from_slice(&words[..132]);
    answer[12..76].copy_from_slice(&words[..64]);
    assert_ne!(flow(sealed, &first, &response).protection, wireguard);
    assert_ne!(flow(sealed, &initiation, &answer).protection, wireguard);
    let cookie = [&[3, 0, 0, 0][..], b"aaaa", &words[..56]].concat();
    let facts = told(
        &[initiation, data(b"bbbb", &noise_32), data(b"bbbb", &noise_32)],
        &[cookie, response, data(b"aaaa", &noise_32)],
    );
    assert_ne!(facts.protection, wireguard);
}

#[test]
fn one_unreadable_packet_among_readable_ones_is_no_yes() {
    let initiation = [&[1, 0, 0, 0][..], b"aaaa", &noise(140)].concat();
    let response = [&[2, 0, 0, 0][..], b"bbbb", b"aaaa", &noise(80)].concat();
    let data = |to: &[u8]| [&[4, 0, 0, 0][..], to, &[1, 0, 0, 0, 0, 0, 0, 0], &noise(64)].concat();
    let wireguard =
        (vec![initiation, data(b"bbbb"), data(b"bbbb")], vec![response, data(b"aaaa"), data(b"aaaa")]);
    let mut flows = vec![wireguard];
    for name in ["dtls12", "dtls10", "quic_v1", "quic_v2", "quic_retry", "quic_post_quantum"] {
        flows.push(fixture(name));
    }
    for (client, server) in flows {
        let direct = told(&client, &server);
        let Protection::Encrypted(_) = direct.protection else { panic!("{direct:?}") };
        // Behind the handshake, a header of its own is a disguise.
        let disguised = |said: &[u8]| match client[0][0] {
            1 => [&[4, 0, 0, 0][..], b"bbbb", &[9, 0, 0, 0, 0, 0, 0, 0], said].concat(),
            _ => said.to_vec(),
        };
        let sealed = |side: &[Vec<u8>]| match side[0][0] {
            1 | 2 => 1,
            22 => side.len(),
            _ => side.iter().position(|datagram| datagram[0] & 0x80 == 0).unwrap(),
        };
        for said in SAID {
            for (from_client, at) in
                [(true, sealed(&client)), (true, sealed(&client) + 1), (false, sealed(&server)), (false, 1)]
            {
                let (mut client, mut server) = (client.clone(), server.clone());
                let side = if from_client { &mut client } else { &mut server };
                side.insert(at.min(side.len()), said.to_vec());
                let facts = told(&client, &server);
                assert_eq!(facts.protection, READABLE, "{from_client} {at} {direct:?}");
            }
        }
        let mut mixed = client.clone();
        mixed.insert(sealed(&client), disguised(SAID[0]));
        assert_ne!(told(&mixed, &server).protection, direct.protection, "{direct:?}");
    }
}

/// A record of DTLS 1.2: its kind, its epoch, and what it holds.
fn record(kind: u8, epoch: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9][..], &length, payload].concat()
}

/// Words in records of DTLS, or behind one in its datagram.
#[test]
fn words_in_records_of_dtls_are_found_among_sealed_ones() {
    let (client, server) = fixture("dtls12");
    assert_eq!(told(&client, &server).protection, DTLS);
    let words = b"said in the clear, to whom it may concern, in a record ".repeat(2);
    for said in [
        record(23, 1, &words),
        record(23, 0, &words),
        record(22, 1, &words),
        [record(23, 1, &noise(60)), record(23, 1, &words)].concat(),
        [record(23, 1, &noise(60)), words.clone()].concat(),
        [record(20, 0, &[1]), words.clone()].concat(),
        // The first byte is that of a unified header.
        b"250 ok".to_vec(),
        [record(23, 1, &noise(60)), b"250 ok".to_vec()].concat(),
    ] {
        for (from_client, back) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
            let (mut client, mut server) = (client.clone(), server.clone());
            let side = if from_client { &mut client } else { &mut server };
            side.insert(side.len() - back, said.clone());
            let facts = told(&client, &server);
            assert_ne!(facts.protection, DTLS, "{from_client} {back} {said:?}");
        }
    }
    // What is sealed takes nothing back.
    for said in [record(23, 1, &noise(60)), [record(23, 1, &noise(60)), record(21, 1, &noise(30))].concat()] {
        let more = |side: &[Vec<u8>]| [side, std::slice::from_ref(&said)].concat();
        assert_eq!(told(&more(&client), &more(&server)).protection, DTLS);
    }
}

/// Words in a packet of QUIC with the header of a handshake.
#[test]
fn words_in_packets_of_a_handshake_of_quic_are_no_yes() {
    for name in ["quic_v1", "quic_retry"] {
        let (client, server) = fixture(name);
        let quic = told(&client, &server).protection;
        assert_eq!(quic, Protection::Encrypted(Cipher::Quic));
        let words = b"said in the clear, to whom it may concern, in a packet ".repeat(2);
        for first in [0xe0, 0xd0, 0xc3] {
            let token: &[u8] = if first == 0xc3 { &[0] } else { &[] };
            let length = (0x4000 | words.len() as u16).to_be_bytes();
            let packet =
                [&[first, 0, 0, 0, 1, 8][..], &[7; 8], &[8], &[9; 8], token, &length, &words].concat();
            for from_client in [true, false] {
                let (mut client, mut server) = (client.clone(), server.clone());
                let side = if from_client { &mut client } else { &mut server };
                side.insert(1, packet.clone());
                let facts = told(&client, &server);
                assert_ne!(facts.protection, quic, "{name} {first:x} {from_client}");
            }
        }
    }
}

/// Text in the place of a sealed packet, with the header that it would have.
#[test]
fn words_behind_a_header_of_quic_are_found_among_sealed_packets() {
    let (mut client, server) = fixture("quic_retry");
    let last = client.iter().position(|datagram| datagram[0] & 0x80 == 0).unwrap();
    let length = usize::from(server[1][6 + usize::from(server[1][5])]);
    let words = [&client[last][..=length], b"said in the clear, to whom it may concern"].concat();
    client.insert(last + 1, words);
    assert!(!matches!(told(&client, &server).protection, Protection::Encrypted(_)));
}

static SORTS: LazyLock<Datagrams> = LazyLock::new(all_sorts);

/// Everything above, each by itself.
fn all_sorts() -> Datagrams {
    let mut all: Datagrams = SAID.iter().map(|said| said.to_vec()).collect();
    for name in ["dtls12", "quic_v1"] {
        let (client, server) = fixture(name);
        for side in [client, server] {
            all.extend(side.iter().map(|datagram| framed(1, datagram)));
            all.extend(side.iter().map(|datagram| indicated(0x16, 7, datagram)));
            all.extend(side);
        }
    }
    all.extend([
        check(),
        checked(),
        framed(2, SAID[0]),
        indicated(0x17, 8, SAID[0]),
        noise(40),
        vec![0x80; 50],
    ]);
    all.push([&[1, 0, 0, 0][..], b"aaaa", &noise(140)].concat());
    all.push([&[2, 0, 0, 0][..], b"bbbb", b"aaaa", &noise(80)].concat());
    all.push([&[4, 0, 0, 0][..], b"bbbb", &[1, 0, 0, 0, 0, 0, 0, 0], &noise(64)].concat());
    all.push([&[4, 0, 0, 0][..], b"aaaa", &[1, 0, 0, 0, 0, 0, 0, 0], SAID[1]].concat());
    all.push(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01".to_vec());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A handshake, or none, with any of them in between and behind it: what was settled stays.
    #[test]
    fn whatever_comes_between_settled_answers_stay(
        which in 0usize..5,
        turned: bool,
        extra in vec((any::<bool>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..8),
        turns in vec(any::<bool>(), 32),
    ) {
        let flow = ["dtls12", "dtls10", "quic_v1", "quic_retry"].get(which).map(|name| fixture(name));
        let (mut client, mut server) = flow.unwrap_or_default();
        if turned {
            std::mem::swap(&mut client, &mut server);
        }
        for (from_client, sort, at) in extra {
            let side = if from_client { &mut client } else { &mut server };
            side.insert(at.index(side.len() + 1), sort.get(&SORTS[..]).clone());
        }
        let (mut c, mut s) = (0, 0);
        let mut settled: Option<Facts> = None;
        let rest = (0..client.len()).map(|_| true).chain((0..server.len()).map(|_| false));
        for from_client in turns.into_iter().chain(rest) {
            if from_client { c = client.len().min(c + 1) } else { s = server.len().min(s + 1) }
            let now = look(&client[..c], &server[..s]);
            if let Some(before) = &settled {
                prop_assert_eq!(before, &now.facts, "{} {}", c, s);
            } else if now.settled {
                settled = Some(now.facts);
            }
        }
    }
}
