//! Flows of datagrams put together at random out of what may come in them: what was settled stays, whatever comes
//! behind it and in whatever order the sides come.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod datagrams;
#[path = "../../fuzz/src/quic.rs"]
mod initials;

use std::sync::LazyLock;

use datagrams::{Datagrams, fixture, look};
use dissect::{Facts, Protection};
use initials::Connection;
use proptest::collection::vec;
use proptest::prelude::*;

const TEXT: &[u8] = b"said in the clear, to whom it may concern, in a datagram or in a few. ";

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A record of DTLS 1.2 (RFC 6347 section 4.1).
fn record(kind: u8, epoch: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9][..], &length, payload].concat()
}

/// A message of its handshake, whole (section 4.2.2).
fn message(kind: u8, number: u8, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    record(22, 0, &[&[kind][..], length, &[0, number, 0, 0, 0], length, body].concat())
}

/// A CRYPTO frame (RFC 9000 section 19.6).
fn crypto(offset: u16, data: &[u8]) -> Vec<u8> {
    [&[0, 6][..], &(offset | 0x4000).to_be_bytes(), &(data.len() as u16 | 0x4000).to_be_bytes(), data]
        .concat()
}

/// Hellos of TLS 1.3 for QUIC, to this host, and an answer.
fn hello(name: &[u8]) -> Vec<u8> {
    let list = [&[0, (name.len() + 3) as u8, 0, 0, name.len() as u8][..], name].concat();
    let extensions = [&[0, 0, 0, list.len() as u8][..], &list, &[0, 43, 0, 3, 2, 3, 4, 0, 57, 0, 0]].concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, extensions.len() as u8], &extensions].concat();
    [&[1, 0, 0, body.len() as u8][..], &body].concat()
}

fn answer() -> Vec<u8> {
    let extensions = [&[0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 29, 0, 32][..], &[9; 32]].concat();
    let body = [&[3, 3][..], &[8; 32], &[0, 0x13, 1, 0, 0, extensions.len() as u8], &extensions].concat();
    [&[2, 0, 0, body.len() as u8][..], &body].concat()
}

/// What may come in a flow of one kind: of either end.
struct Sorts {
    client: Datagrams,
    server: Datagrams,
}

fn dtls() -> Sorts {
    let (mut client, mut server) = fixture("dtls12");
    let ticket = |bytes: &[u8]| [&[0, 0, 1, 0, 0, bytes.len() as u8][..], bytes].concat();
    let odd = [
        record(20, 0, &[1]),
        record(21, 0, &[2, 40]),
        record(21, 1, &noise(40)),
        record(23, 1, &noise(60)),
        record(23, 1, &TEXT[..20]),
        record(23, 1, TEXT),
        record(23, 0, &noise(60)),
        record(26, 0, &[0, 0]),
        message(4, 5, &ticket(&noise(120))),
        message(4, 5, &ticket(TEXT)),
        message(11, 2, &noise(100)),
        message(0, 0, &[]),
        message(3, 0, &[0xfe, 0xff, 4, 1, 2, 3, 4]),
        [&[0x2c, 0, 1, 0, 40][..], &noise(40)].concat(),
    ];
    client.extend(odd.clone());
    server.extend(odd);
    Sorts { client, server }
}

fn quic() -> Sorts {
    let mut connection = Connection::new(false);
    let [one, other] = [&b"one.example"[..], b"two.example"].map(hello);
    let mut client: Datagrams = [
        crypto(0, &one),
        crypto(0, &other),
        crypto(20, &one[20..]),
        crypto(0, &one[..60]),
        crypto(60, &noise(20)),
        vec![0x1c, 0x41, 0x28, 0, 0],
    ]
    .iter()
    .map(|frames| connection.datagram(true, frames))
    .collect();
    let mut server: Datagrams =
        [crypto(0, &answer()), crypto(3, &noise(9)), crypto(0, &one), vec![0x1c, 0x02, 0, 0]]
            .iter()
            .map(|frames| connection.datagram(false, &[&[0], &frames[..]].concat()))
            .collect();
    for sealed in [noise(60), noise(24), TEXT.to_vec()] {
        client.push(connection.datagram(true, &[&[6], &sealed[..]].concat()));
        server.push(connection.datagram(false, &[&[6], &sealed[..]].concat()));
    }
    // Other versions, and packets of the handshake with noise and with text.
    for body in [noise(60), TEXT.to_vec()] {
        let long = |first: u8| {
            [&[first, 0, 0, 0, 1, 8][..], b"firstdst", &[6], b"client", &[body.len() as u8]].concat()
        };
        client.push([long(0xe0), body.clone()].concat());
        client.push([long(0xd0), body.clone()].concat());
        server.push([long(0xe0), body].concat());
    }
    server
        .push([&[0x80, 0, 0, 0, 0, 6][..], b"client", &[8], b"firstdst", &[0x6b, 0x33, 0x43, 0xcf]].concat());
    Sorts { client, server }
}

fn recorded(name: &str) -> Sorts {
    let (client, server) = fixture(name);
    Sorts { client, server }
}

/// In the clear, or of no protocol.
fn others() -> Datagrams {
    let stun = |kind: u8, attributes: &[u8]| {
        [&[kind, 1, 0, attributes.len() as u8, 0x21, 0x12, 0xa4, 0x42][..], b"abcdefghijkl", attributes]
            .concat()
    };
    vec![
        stun(0, b"\0\x06\0\x09user:name\0\0\0"),
        stun(1, b"\0\x20\0\x08\0\x01\x11\x22\x33\x44\x55\x66"),
        [&[0x40, 1, 0, TEXT.len() as u8][..], TEXT].concat(),
        [&[0x80, 0x6f][..], &noise(50)].concat(),
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01".to_vec(),
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01".to_vec(),
        b"\0\x01\0\0\0\x01\0\0get a\r\n".to_vec(),
        b"<34>1 2003-10-11T22:14:15.003Z h su - ID47 - text\n".to_vec(),
        b"a.b.c:1|c\n".to_vec(),
        b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n".to_vec(),
        [&[0x23][..], &[0; 47]].concat(),
        [&[1, 0, 0, 0][..], b"aaaa", &noise(140)].concat(),
        [&[2, 0, 0, 0][..], b"bbbb", b"aaaa", &noise(80)].concat(),
        [&[4, 0, 0, 0][..], b"bbbb", &[1, 0, 0, 0, 0, 0, 0, 0], &noise(64)].concat(),
        [&[4, 0, 0, 0][..], b"aaaa", &[1, 0, 0, 0, 0, 0, 0, 0], TEXT].concat(),
        TEXT.to_vec(),
        b"ping".to_vec(),
        noise(40),
        noise(3),
        Vec::new(),
    ]
}

static SORTS: LazyLock<Vec<Sorts>> = LazyLock::new(|| {
    let alone = Sorts { client: others(), server: others() };
    let recorded = ["dtls10", "quic_v1", "quic_retry", "quic_v2"].map(recorded);
    [dtls(), quic(), alone].into_iter().chain(recorded).collect()
});

static OTHERS: LazyLock<Datagrams> = LazyLock::new(others);

/// Datagrams of one kind in any order, many of them in theirs, some cut, and a few others.
fn side(usual: &'static [Vec<u8>], first: usize) -> impl Strategy<Value = Datagrams> {
    let one = prop_oneof![
        6 => prop::sample::select(usual),
        1 => prop::sample::select(&OTHERS[..]),
        1 => (prop::sample::select(usual), any::<prop::sample::Index>())
            .prop_map(|(datagram, at)| datagram[..at.index(datagram.len() + 1)].to_vec()),
    ];
    (0..=first.min(usual.len()), vec(one, 0..7))
        .prop_map(move |(first, more)| [&usual[..first], &more].concat())
}

fn flow() -> impl Strategy<Value = (Datagrams, Datagrams)> {
    (0..SORTS.len()).prop_flat_map(|index| {
        let Sorts { client, server } = &SORTS[index];
        // Of those that are made up, one may begin.
        let first = if (1..3).contains(&index) { 1 } else { usize::MAX };
        (side(client, first), side(server, first))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn settled_answers_stay_whatever_datagrams_come(
        (client, server) in flow(),
        turned in prop::bool::weighted(0.1),
        turns in vec(any::<bool>(), 24),
    ) {
        let (client, server) = if turned { (server, client) } else { (client, server) };
        let (mut c, mut s) = (0, 0);
        let mut settled: Option<Facts> = None;
        let rest = (0..client.len()).map(|_| true).chain((0..server.len()).map(|_| false));
        for from_client in turns.into_iter().chain(rest) {
            if from_client { c = client.len().min(c + 1) } else { s = server.len().min(s + 1) }
            let now = look(&client[..c], &server[..s]);
            match &settled {
                Some(before) => prop_assert_eq!(before, &now.facts, "{} {}", c, s),
                None if now.settled => settled = Some(now.facts),
                None => {}
            }
        }
        // Text in the first datagrams of all is no encryption.
        if client.iter().chain(&server).take(2).any(|datagram| datagram.starts_with(TEXT)) {
            let facts = look(&client, &server).facts;
            prop_assert!(!matches!(facts.protection, Protection::Encrypted(_)), "{:?}", facts);
        }
    }
}
