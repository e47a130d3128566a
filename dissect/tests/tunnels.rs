//! Encryption that begins behind something else: SOCKS, RDP, TDS and PostgreSQL. Each exchange is cut at
//! every byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::{
    Cipher, Facts, Hint, Inspection, Plain, Prefix, Protection, Protocol, UnknownReason, Upgrade,
    inspect_stream,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

/// What is said in the end; on the way, however the two are cut, nothing that was settled changes, and
/// nothing is called encrypted that is not in the end.
fn told(client: &[u8], server: &[u8]) -> Facts {
    let last = look(client, server, true).facts;
    let most = client.len().max(server.len());
    // At every byte where one protocol leads into the other, and then not at each.
    let cuts = (0..=most).filter(|n| *n < 150 || n % 23 == 0);
    for (c, s) in cuts.flat_map(|n| [(n, n), (n, most), (most, n)]) {
        let (c, s) = (c.min(client.len()), s.min(server.len()));
        let now = look(&client[..c], &server[..s], false);
        if now.settled {
            assert_eq!(now.facts, last, "settled at {c}/{s}");
        }
        if matches!(now.facts.protection, Protection::Encrypted(_)) {
            assert_eq!(now.facts.protection, last.protection, "at {c}/{s}");
        }
    }
    last
}

fn clear(protocol: Protocol) -> Protection {
    Protection::Plaintext(Plain::Protocol(protocol))
}

const TLS: Protection = Protection::Encrypted(Cipher::Tls);
const NOT_READ: Protection = Protection::Unknown(UnknownReason::NotRead);
const HANDSHAKE: Protection = Protection::Unknown(UnknownReason::Handshake);

/// As far as it takes to see what it is.
fn tls() -> (Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (fixture("tls13.client"), fixture("tls13.server"));
    client.truncate(1500);
    server.truncate(3000);
    (client, server)
}

const NAMED: &[u8] = b"\x05\x01\x00\x03\x0fwww.example.org\x01\xbb";
const GRANTED: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x30\x39";

/// The ways to ask for a tunnel and to get it: client, server, and what is said of it.
fn tunnels() -> Vec<(Vec<u8>, Vec<u8>, &'static str)> {
    let join = |parts: &[&[u8]]| parts.concat();
    vec![
        (join(&[b"\x05\x01\x00", NAMED]), join(&[b"\x05\x00", GRANTED]), "SOCKS 5 to www.example.org:443"),
        (
            join(&[b"\x05\x02\x00\x02", b"\x01\x05alice\x07hunter2", NAMED]),
            join(&[b"\x05\x02", b"\x01\x00", GRANTED]),
            "SOCKS 5 with a password in the clear to www.example.org:443",
        ),
        (
            join(&[b"\x05\x01\x00", b"\x05\x01\x00\x04", &[0; 15], b"\x01\x00\x50"]),
            join(&[b"\x05\x00", b"\x05\x00\x00\x04", &[0; 18]]),
            "SOCKS 5 to [::1]:80",
        ),
        (
            b"\x04\x01\x01\xbb\x0a\x00\x00\x01alice\0".to_vec(),
            b"\0\x5a\0\0\0\0\0\0".to_vec(),
            "SOCKS 4 to 10.0.0.1:443",
        ),
        (
            b"\x04\x01\x01\xbb\x00\x00\x00\x01alice\0www.example.org\0".to_vec(),
            b"\0\x5a\0\0\0\0\0\0".to_vec(),
            "SOCKS 4 to www.example.org:443",
        ),
    ]
}

fn within(detail: &Facts, words: &str) -> bool {
    detail.detail.as_deref().is_some_and(|detail| detail.contains(words))
}

#[test]
fn what_goes_through_socks_decides() {
    let (tls_client, tls_server) = tls();
    let (web_client, web_server) = (fixture("http_get.client"), fixture("http_get.server"));
    for (ask, grant, name) in tunnels() {
        let through =
            |client: &[u8], server: &[u8]| told(&[&ask[..], client].concat(), &[&grant[..], server].concat());
        let facts = through(&tls_client, &tls_server);
        assert_eq!((facts.protection, &facts.upgrade), (TLS, &Some(Upgrade::Taken)), "{name}");
        let direct = look(&tls_client, &tls_server, true).facts;
        assert_eq!(facts.tls, direct.tls, "{name}");
        assert!(within(&facts, &format!("through {name}")), "{facts:?}");
        let facts = through(&web_client, &web_server);
        assert_eq!(facts.protection, clear(Protocol::Http), "{name}");
        let facts = through(b"", b"");
        assert_eq!(facts.protection, clear(Protocol::Socks), "{name}");
        let facts = through(b"some words of no known protocol\n", b"");
        assert_eq!(facts.protection, Protection::Plaintext(Plain::Readable), "{name}");
        // A tunnel within the tunnel.
        let facts = through(&[&ask[..], &tls_client].concat(), &[&grant[..], &tls_server].concat());
        assert_eq!(facts.protection, TLS, "{name}");
    }
}

#[test]
fn what_socks_refuses_stays_in_the_clear() {
    let (tls_client, tls_server) = tls();
    for (client, server) in [
        (&b"\x05\x01\x00"[..], &b"\x05\xff"[..]),
        (&[b"\x05\x01\x00", NAMED].concat(), b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0"),
        (b"\x05\x01\x02\x01\x05alice\x07hunter2", b"\x05\x02\x01\x01"),
        (b"\x04\x01\x01\xbb\x0a\x00\x00\x01alice\0", b"\0\x5b\0\0\0\0\0\0"),
        // For datagrams.
        (b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0", &[b"\x05\x00", GRANTED].concat()),
    ] {
        let facts = told(client, server);
        assert_eq!(facts.protection, clear(Protocol::Socks), "{facts:?}");
        let facts = told(&[client, &tls_client].concat(), &[server, &tls_server].concat());
        assert_eq!(facts.protection, clear(Protocol::Socks), "{facts:?}");
    }
}

#[test]
fn what_only_begins_like_socks_is_judged_by_what_it_is() {
    let (tls_client, tls_server) = tls();
    // TLS where a request should be, and behind a request where an answer should be.
    let facts = told(&[b"\x05\x01\x00", &tls_client[..]].concat(), &[b"\x05\x00", &tls_server[..]].concat());
    assert_eq!(facts.protection, TLS);
    let words = b"nothing of this is encrypted, nor said to be";
    let facts = told(&[b"\x05\x01\x00", &words[..]].concat(), &[b"\x05\x00", &words[..]].concat());
    assert_eq!(facts.protection, Protection::Plaintext(Plain::Readable));
    let facts = told(&[b"\x05\x01\x00", NAMED, words].concat(), &[b"\x05\x00", &words[..]].concat());
    assert_eq!(facts.protection, Protection::Plaintext(Plain::Readable));
    // Another choice than was offered is no answer.
    assert_ne!(told(b"\x05\x01\x00\x05\x01", b"\x05\x02").protocol, Some(Protocol::Socks));
    // GSSAPI may encrypt all that follows.
    assert_eq!(
        told(b"\x05\x01\x01\x01\x01\x00\x04abcd", b"\x05\x01\x01\x01\x00\x04abcd").protection,
        NOT_READ
    );
}

#[test]
fn who_logs_in_to_a_proxy_is_not_told() {
    let (tls_client, tls_server) = tls();
    for (ask, grant, _) in tunnels() {
        for inner in [(&tls_client[..], &tls_server[..]), (b"", b""), (b"GET / HTTP/1.1\r\n\r\n", b"")] {
            let (client, server) = ([&ask[..], inner.0].concat(), [&grant[..], inner.1].concat());
            for n in 0..client.len() {
                for s in [0, 2, 4, grant.len().min(8), server.len()] {
                    let told =
                        format!("{:?}", look(&client[..n], &server[..s.min(server.len())], true).facts);
                    assert!(!told.contains("alice") && !told.contains("hunter2"), "{told}");
                }
            }
        }
    }
}

/// TPKT and X.224.
fn x224(kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = 11 + rest.len() as u8;
    [&[3, 0, 0, length, length - 5, kind, 0, 0, 0, 0, 0][..], rest].concat()
}

const COOKIE: &[u8] = b"Cookie: mstshash=alice\r\n";

#[test]
fn rdp_is_as_encrypted_as_was_agreed_upon() {
    let (tls_client, tls_server) = tls();
    let ask = x224(0xe0, &[COOKIE, &[1, 0, 8, 0, 3, 0, 0, 0]].concat());
    for (which, how) in
        [(1, "RDP, then TLS"), (2, "RDP with CredSSP, then TLS"), (8, "RDP with CredSSP, then TLS")]
    {
        let granted = x224(0xd0, &[2, 0x1f, 8, 0, which, 0, 0, 0]);
        let facts = told(&[&ask[..], &tls_client].concat(), &[&granted[..], &tls_server].concat());
        assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Rdp), TLS));
        assert_eq!(facts.upgrade, Some(Upgrade::Taken));
        assert!(within(&facts, how) && !within(&facts, "alice"), "{facts:?}");
        assert_eq!(facts.tls, look(&tls_client, &tls_server, true).facts.tls);
        // Granted, and not taken.
        let words = b"\x03\0\0\x2cnothing of this is encrypted, nor will be";
        let facts = told(&[&ask[..], words].concat(), &[&granted[..], words].concat());
        assert_eq!((facts.protection, facts.upgrade), (clear(Protocol::Rdp), Some(Upgrade::NotTaken)));
    }
    // Not answered, and refused.
    assert_eq!(told(&ask, b"").protection, HANDSHAKE);
    let refused = x224(0xd0, &[3, 0, 8, 0, 5, 0, 0, 0]);
    assert_eq!(told(&ask, &refused).protection, HANDSHAKE);
    let words = b"said in the clear all the same, behind a refusal";
    assert_eq!(told(&[&ask[..], words].concat(), &refused).protection, clear(Protocol::Rdp));
}

#[test]
fn rdp_without_tls_is_not_called_encrypted() {
    let connect_initial = [&b"\x03\0\0\x40\x02\xf0\x80\x7f\x65"[..], &[0x04; 55]].concat();
    let response = |security: &[u8]| {
        let body = [&b"\x02\xf0\x80\x7f\x66"[..], &[0x05; 40], security].concat();
        [&[3, 0, 0, 4 + body.len() as u8][..], &body].concat()
    };
    let none = response(b"\x02\x0c\x0c\0\0\0\0\0\0\0\0\0");
    let rc4 = response(&[&b"\x02\x0c\x20\0\x02\0\0\0\x02\0\0\0"[..], &[7; 20]].concat());
    for ask in
        [x224(0xe0, COOKIE), x224(0xe0, &[]), x224(0xe0, &[COOKIE, &[1, 0, 8, 0, 0, 0, 0, 0]].concat())]
    {
        for grant in [x224(0xd0, &[]), x224(0xd0, &[2, 0, 8, 0, 0, 0, 0, 0])] {
            let client = [&ask[..], &connect_initial].concat();
            let facts = told(&client, &[&grant[..], &rc4].concat());
            assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Rdp), NOT_READ));
            let facts = told(&client, &[&grant[..], &none].concat());
            assert_eq!(facts.protection, clear(Protocol::Rdp));
            // No message of the protocol: what it is.
            let words = b"none of this is encrypted, as anyone can see";
            let facts = told(&[&ask[..], words].concat(), &[&grant[..], words].concat());
            assert_eq!(facts.protection, clear(Protocol::Rdp));
        }
    }
    // A service that speaks the same transport, and is not RDP (S7).
    let s7 = x224(0xe0, &[0xc0, 1, 10, 0xc1, 2, 1, 0, 0xc2, 2, 1, 2]);
    assert_ne!(told(&s7, &x224(0xd0, &[0xc0, 1, 10])).protocol, Some(Protocol::Rdp));
}

fn packet(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&[kind, 1, length[0], length[1], 0, 0, 1, 0][..], payload].concat()
}

/// Version, encryption, and no more.
fn prelogin(kind: u8, encryption: u8) -> Vec<u8> {
    packet(kind, &[0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, encryption])
}

/// Handshakes of TLS are wrapped as far as the first record of data.
fn wrapped(bytes: &[u8], inside: usize) -> Vec<u8> {
    let handshake = bytes[..inside].chunks(700).flat_map(|part| packet(0x12, part));
    handshake.chain(bytes[inside..].iter().copied()).collect()
}

/// Where the record of this number ends.
fn end_of(bytes: &[u8], records: usize) -> usize {
    (0..records).fold(0, |at, _| at + 5 + usize::from(u16::from_be_bytes([bytes[at + 3], bytes[at + 4]])))
}

#[test]
fn tds_is_as_encrypted_as_was_agreed_upon() {
    for (name, of_client, of_server) in [("tls12_ecdhe", 4, 6), ("tls13", 3, 6)] {
        let (client, server) = (fixture(&format!("{name}.client")), fixture(&format!("{name}.server")));
        let direct = look(&client, &server, true).facts;
        for (asked, granted) in [(1, 1), (0, 3), (3, 1), (1, 3)] {
            let client = [prelogin(0x12, asked), wrapped(&client, end_of(&client, of_client))].concat();
            let server = [prelogin(0x04, granted), wrapped(&server, end_of(&server, of_server))].concat();
            let facts = told(&client, &server);
            assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Tds), TLS), "{name}");
            assert_eq!((&facts.tls, &facts.upgrade), (&direct.tls, &Some(Upgrade::Taken)), "{name}");
            assert!(within(&facts, "TDS, then TLS 1."), "{facts:?}");
        }
    }
}

#[test]
fn tds_that_encrypts_the_log_in_alone_is_in_the_clear() {
    let (tls_client, tls_server) = tls();
    let query = packet(0x01, &b"s\0e\0l\0e\0c\0t\0 \0".repeat(6));
    let client = [prelogin(0x12, 0), wrapped(&tls_client, end_of(&tls_client, 2)), query.clone()].concat();
    let facts = told(&client, &[prelogin(0x04, 0), wrapped(&tls_server, end_of(&tls_server, 5))].concat());
    assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Tds), clear(Protocol::Tds)));
    assert!(within(&facts, "only the log-in is encrypted"));
    let login = packet(0x10, &[&[0x70, 0, 0, 0, 4, 0, 0, 0x74][..], &[0; 100]].concat());
    for (asked, granted, upgrade) in
        [(1, 2, Some(Upgrade::Refused)), (0, 2, Some(Upgrade::NotTaken)), (2, 2, None), (2, 0, None)]
    {
        let facts = told(&[prelogin(0x12, asked), login.clone()].concat(), &prelogin(0x04, granted));
        assert_eq!((facts.protection, facts.upgrade), (clear(Protocol::Tds), upgrade), "{asked} {granted}");
    }
    // Granted, and not taken.
    let facts = told(&[prelogin(0x12, 1), login.clone(), query].concat(), &prelogin(0x04, 1));
    assert_eq!((facts.protection, facts.upgrade), (clear(Protocol::Tds), Some(Upgrade::NotTaken)));
    // Not answered, so far.
    assert_eq!(look(&prelogin(0x12, 1), b"", false).facts.protection, HANDSHAKE);
}

#[test]
fn tds_whose_handshake_is_for_show_is_in_the_clear() {
    let (tls_client, tls_server) = tls();
    let rows = packet(0x04, &b"nothing of this is encrypted, row after row. ".repeat(30));
    let (of_client, of_server) = (end_of(&tls_client, 1), end_of(&tls_server, 2));
    let client = [prelogin(0x12, 1), wrapped(&tls_client[..of_client], of_client), rows.clone()].concat();
    let server = [prelogin(0x04, 1), wrapped(&tls_server[..of_server], of_server), rows].concat();
    assert_eq!(told(&client, &server).protection, clear(Protocol::Tds));
}

const GSSENC: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// A token of GSSAPI, led by its length.
fn token(first: u8, length: u32) -> Vec<u8> {
    let rest = (1..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    [&length.to_be_bytes()[..], &[first]].concat().into_iter().chain(rest).collect()
}

#[test]
fn postgresql_under_gssapi_is_not_called_plaintext() {
    let client = [GSSENC, &token(0x60, 700), &token(5, 80), &token(5, 90)].concat();
    let server = [b"G", &token(0x60, 150)[..], &token(5, 400)].concat();
    let facts = told(&client, &server);
    assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Postgresql), NOT_READ));
    assert_eq!(told(&client[..400], b"G").protection, HANDSHAKE);
    // No tokens, or such as anyone can read.
    let startup = b"\0\0\0\x20\0\x03\0\0user\0alice\0database\0a\0\0";
    assert_eq!(told(&[GSSENC, startup].concat(), b"G").protection, clear(Protocol::Postgresql));
    let words = [&64u32.to_be_bytes()[..], &b"SELECT * FROM t; ".repeat(4)[..64]].concat();
    let facts = told(&[GSSENC, &token(0x60, 700), &words].concat(), &[b"G", &token(0x60, 90)[..]].concat());
    assert_eq!(facts.protection, clear(Protocol::Postgresql));
    // Refused: TLS, or not.
    let (tls_client, tls_server) = tls();
    let facts = told(&[GSSENC, SSL, &tls_client].concat(), &[b"NS", &tls_server[..]].concat());
    assert_eq!((facts.protocol, facts.protection), (Some(Protocol::Postgresql), TLS));
    assert_eq!(told(&[GSSENC, startup].concat(), b"N").protection, clear(Protocol::Postgresql));
}

/// What the two ends begin with, each as far as the other agrees to it.
fn beginnings() -> Vec<(Vec<u8>, Vec<u8>)> {
    let ask = x224(0xe0, &[1, 0, 8, 0, 1, 0, 0, 0]);
    let mut all: Vec<_> = tunnels().into_iter().map(|(client, server, _)| (client, server)).collect();
    all.push((b"\x05\x02\x00\x02".to_vec(), b"\x05\x02".to_vec()));
    all.push((b"\x05\x02\x00\x02".to_vec(), b"\x05\x00".to_vec()));
    all.push((b"\x04\x01".to_vec(), b"\x00\x5a".to_vec()));
    for answer in [&[2, 0, 8, 0, 1, 0, 0, 0][..], &[2, 0, 8, 0, 0, 0, 0, 0], &[3, 0, 8, 0, 1, 0, 0, 0], &[]] {
        all.push((ask.clone(), x224(0xd0, answer)));
        all.push(([&ask[..], b"\x03\0"].concat(), [&x224(0xd0, answer)[..], b"\x03\0\0\x14"].concat()));
    }
    for granted in 0..4 {
        all.push((prelogin(0x12, 1), prelogin(0x04, granted)));
        all.push(([prelogin(0x12, 0), vec![0x12, 1, 0]].concat(), prelogin(0x04, granted)));
    }
    all.push((GSSENC.to_vec(), b"G".to_vec()));
    all.push(([GSSENC, b"\0\0\0\x14\x60"].concat(), b"G\0\0\0\x14".to_vec()));
    all.push(([GSSENC, SSL].concat(), b"NS".to_vec()));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Agreed upon, and then anything at all: what was settled stays, and nothing is called encrypted.
    #[test]
    fn whatever_follows_settled_answers_stay(
        which in any::<prop::sample::Index>(),
        client in vec(any::<u8>(), 0..120),
        server in vec(any::<u8>(), 0..120),
        text in any::<(bool, bool)>(),
        cuts in vec((any::<bool>(), 1usize..40), 0..20),
    ) {
        let (ask, grant) = which.get(&beginnings()).clone();
        let said = |bytes: Vec<u8>, text: bool| bytes.into_iter().map(move |b| if text { b % 95 + 32 } else { b });
        let client: Vec<u8> = ask.into_iter().chain(said(client, text.0)).collect();
        let server: Vec<u8> = grant.into_iter().chain(said(server, text.1)).collect();
        let last = look(&client, &server, true).facts;
        prop_assert!(!matches!(last.protection, Protection::Encrypted(_)));
        let (mut c, mut s) = (0, 0);
        let mut settled: Option<Inspection> = None;
        for (from_client, n) in cuts {
            if from_client { c = client.len().min(c + n) } else { s = server.len().min(s + n) }
            let now = look(&client[..c], &server[..s], false);
            if let Some(before) = &settled {
                prop_assert_eq!(before, &now);
            } else if now.settled {
                prop_assert_eq!(&now.facts, &last);
                settled = Some(now);
            }
        }
    }
}
