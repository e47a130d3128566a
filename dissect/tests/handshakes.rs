//! Handshakes made by hand, where no server was to be had, and how soon a real one is settled.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::{
    Cipher, ClientCertificateState, EarlyData, Hint, Inspection, Plain, Prefix, Protection, Reassembly,
    UnknownReason, inspect_datagrams, inspect_stream,
};
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn look(client: &[u8], server: &[u8]) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended: false, midstream: false, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

fn record(kind: u8, version: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, version[0], version[1]][..], &length, payload].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

fn server_hello(version: [u8; 2], suite: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let mut body = [&version[..], &[7; 32], &[0], &suite, &[0]].concat();
    if !extensions.is_empty() {
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
    }
    message(2, &body)
}

/// Bytes that look like ciphertext.
fn noise(n: usize) -> Vec<u8> {
    (0..n as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// ChangeCipherSpec and a Finished of SSL 3 or TLS up to 1.2.
fn finished(version: [u8; 2]) -> Vec<u8> {
    [record(20, version, &[1]), record(22, version, &noise(56))].concat()
}

#[test]
fn ssl_3_by_a_hello_in_the_ssl_2_format() {
    let specs = [0, 0, 4, 0, 0, 5, 1, 0, 0x80];
    let hello = [&[1, 3, 0, 0, 9, 0, 0, 0, 16][..], &specs, &noise(16)].concat();
    let mut client = [&[0x80, hello.len() as u8][..], &hello].concat();
    client.extend(record(22, [3, 0], &message(16, &noise(128))));
    client.extend(finished([3, 0]));
    let flight = [server_hello([3, 0], [0, 5], &[]), message(11, &noise(700)), message(14, &[])];
    let mut server = record(22, [3, 0], &flight.concat());
    server.extend(finished([3, 0]));
    // Settled by one record more than Finished, at its place.
    client.extend(record(23, [3, 0], &noise(40)));
    server.extend(record(23, [3, 0], &noise(80)));
    let found = look(&client, &server);
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
    let tls = found.facts.tls.unwrap();
    assert_eq!((tls.version.as_deref(), tls.version_protocol.as_deref()), (Some("3.0"), Some("ssl")));
    assert_eq!(tls.cipher.as_deref(), Some("TLS_RSA_WITH_RC4_128_SHA"));
    assert!(found.settled);
}

/// RFC 5246 section 7.4.2: with this suite a server has to show a certificate, unless a session goes on.
#[test]
fn a_server_without_a_certificate_is_known() {
    let version = [3, 3];
    let hello = &fixture("tls12_ecdhe.client");
    let hello = &hello[..5 + usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
    let data = |n| record(23, version, &noise(n));
    let client =
        [hello, &record(22, version, &message(16, &noise(33))), &finished(version), &data(40)].concat();
    let server = |flight: &[Vec<u8>]| {
        let hello = server_hello(version, [0xc0, 0x2f], &[]);
        [record(22, version, &[&[hello][..], flight].concat().concat()), finished(version), data(80)].concat()
    };
    let (key, done) = (message(12, &noise(100)), message(14, &[]));
    for (flight, no_certificate, resumed) in [
        (vec![key.clone(), done.clone()], true, Some(false)),
        (vec![message(11, &[0, 0, 0]), key.clone(), done.clone()], true, Some(false)),
        (vec![message(11, &noise(700)), key, done], false, Some(false)),
        // There was no session that could go on.
        (vec![], true, None),
    ] {
        let tls = look(&client, &server(&flight)).facts.tls.unwrap();
        assert!(tls.established);
        assert_eq!((tls.showed_no_certificate, tls.resumed), (no_certificate, resumed));
    }
}

/// The server's side of a TLS 1.3 handshake with another group, answering a real ClientHello.
fn with_group(group: [u8; 2]) -> Inspection {
    let client = fixture("tls13.client");
    let share = [&group[..], &[0, 4], &noise(4)].concat();
    let extensions = [&[0, 43, 0, 2, 3, 4, 0, 51, 0, 8][..], &share].concat();
    let hello = server_hello([3, 3], [0x13, 2], &extensions);
    // In two records, as a hello longer than one may be.
    let mut server = record(22, [3, 3], &hello[..20]);
    server.extend(record(22, [3, 3], &hello[20..]));
    server.extend(record(20, [3, 3], &[1]));
    server.extend(record(23, [3, 3], &noise(400)));
    look(&client, &server)
}

#[test]
fn post_quantum_groups_have_names() {
    for (group, name) in
        [([0x11, 0xec], "X25519MLKEM768"), ([0x11, 0xeb], "SecP256r1MLKEM768"), ([0x7a, 1], "0x7a01")]
    {
        let found = with_group(group);
        assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
        assert_eq!(found.facts.tls.unwrap().group.as_deref(), Some(name));
    }
}

#[test]
fn a_suite_that_was_not_offered_is_no_answer() {
    let client = fixture("tls13.client");
    let mut server = record(22, [3, 3], &server_hello([3, 3], [0xc0, 0x01], &[]));
    server.extend(finished([3, 3]));
    let found = look(&client, &server);
    assert_eq!(found.facts.protection, Protection::Unknown(UnknownReason::Handshake));
}

/// Sizes and fields as in the WireGuard paper, section 5.4.
#[test]
fn wireguard_is_an_answered_handshake_and_data() {
    let initiation = [&[1, 0, 0, 0][..], b"aaaa", &noise(140)].concat();
    let response = [&[2, 0, 0, 0][..], b"bbbb", b"aaaa", &noise(80)].concat();
    let data = [&[4, 0, 0, 0][..], b"bbbb", &noise(24)].concat();
    let look = |client: &[&[u8]], server: &[&[u8]]| inspect_datagrams(client, server, Hint::default());
    assert_eq!(look(&[&initiation], &[]).facts.protection, Protection::Unknown(UnknownReason::Handshake));
    let through = look(&[&initiation, &data], &[&response]);
    assert_eq!(through.facts.protection, Protection::Encrypted(Cipher::Wireguard));
    let back = [&[4, 0, 0, 0][..], b"aaaa", &noise(24)].concat();
    let through = look(&[&initiation, &data, &data], &[&response, &back, &back]);
    assert_eq!(through.facts.protection, Protection::Encrypted(Cipher::Wireguard));
    assert!(through.settled);
    let words = "gar nicht verschl\u{fc}sselt, wie jeder sehen kann, der hinsieht";
    let readable = [&[4, 0, 0, 0][..], b"bbbb", &[1, 0, 0, 0, 0, 0, 0, 0], words.as_bytes()].concat();
    let not = look(&[&initiation, &readable], &[&response]);
    assert_eq!(not.facts.protection, Protection::Plaintext(Plain::Readable));
    let other = [&[4, 0, 0, 0][..], b"cccc", &noise(24)].concat();
    let not = look(&[&initiation, &other], &[&response]);
    assert_eq!(not.facts.protection, Protection::Unknown(UnknownReason::Handshake));
}

/// A flow is settled by its first kilobytes, and does not wait for its end.
#[test]
fn the_first_4_kib_settle_what_was_established() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let still_open = [
        "tls13_client_refuses",
        "tls12_client_refuses",
        "tls13_no_client_certificate",
        "tls12_no_common_cipher",
        "tls_version_refused",
        "ssh_nothing_in_common",
        "ssh_only_greeted",
    ];
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".client") else { continue };
        let (client, server) = (fixture(&file), fixture(&format!("{name}.server")));
        let found = look(&client[..client.len().min(4096)], &server[..server.len().min(4096)]);
        assert_eq!(found.settled, !still_open.contains(&name), "{name}: {found:?}");
    }
}

/// With less of the server's certificates than it takes to see its Finished: the client's shows.
#[test]
fn a_budget_spent_within_the_certificates_does_not_hide_the_encryption() {
    let (client, server) = (fixture("tls12_ecdhe.client"), fixture("tls12_ecdhe.server"));
    let prefix = |bytes, ended| Prefix { bytes, ended, midstream: false, ..Prefix::default() };
    let found = inspect_stream(prefix(&client, false), prefix(&server[..600], true), Hint::default());
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
    let (client, server) = (fixture("tls12_mutual.client"), fixture("tls12_mutual.server"));
    let found = inspect_stream(prefix(&client[..600], true), prefix(&server, false), Hint::default());
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
}

/// The handshake records of a direction with their payload cut in two at this place, each half in a
/// record of its own.
fn recut(bytes: &[u8], at: usize) -> Vec<u8> {
    let (mut rest, mut out, mut seen) = (bytes, Vec::new(), 0);
    while let [kind, a, b, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (payload, next) = after.split_at(length);
        // Behind the first of another kind, ciphertext may follow.
        if *kind != 22 {
            break;
        }
        let cut = at.saturating_sub(seen).min(length);
        for half in [&payload[..cut], &payload[cut..]] {
            if !half.is_empty() {
                out.extend(record(*kind, [*a, *b], half));
            }
        }
        seen += length;
        rest = next;
    }
    out.extend_from_slice(rest);
    out
}

/// TLS fixtures that begin with a record: every one of them.
fn tls_fixtures() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".client") else { continue };
        let (client, server) = (fixture(&file), fixture(&format!("{name}.server")));
        if client.first() == Some(&22) && name.starts_with("tls1") {
            all.push((name.to_owned(), client, server));
        }
    }
    assert!(all.len() > 10);
    all
}

/// Every hello in two records, cut at every byte; the server's whole flight too.
#[test]
fn records_cut_anywhere_give_the_same_facts() {
    for (name, client, server) in tls_fixtures() {
        let ended = |client: &[u8], server: &[u8]| {
            let prefix = |bytes| Prefix { bytes, ended: true, midstream: false, ..Prefix::default() };
            inspect_stream(prefix(client), prefix(server), Hint::default()).facts
        };
        let whole = ended(&client, &server);
        for at in 1..client.len().min(1200) {
            assert_eq!(ended(&recut(&client, at), &server), whole, "{name}, client cut at {at}");
        }
        for at in (1..server.len().min(1600)).step_by(3) {
            assert_eq!(ended(&client, &recut(&server, at)), whole, "{name}, server cut at {at}");
        }
    }
}

/// Two segments, cut at every byte, in either order.
#[test]
fn segments_cut_anywhere_in_any_order_give_the_same_facts() {
    for (name, client, server) in tls_fixtures() {
        let whole = look(&client, &server).facts;
        for at in 1..client.len().min(700) {
            for late_first in [false, true] {
                let mut together = Reassembly::new(1 << 16);
                let pieces = [(0, &client[..at]), (at as u32, &client[at..])];
                let order = if late_first { [1, 0] } else { [0, 1] };
                for piece in order {
                    together.push(pieces[piece].0, pieces[piece].1);
                }
                assert_eq!(look(together.prefix(), &server).facts, whole, "{name} cut at {at}");
            }
        }
    }
}

/// The same connection behind a PROXY header, inside a tunnel, and after STARTTLS: the same facts, and
/// the same wish for more, counted from the start.
#[test]
fn what_is_in_front_changes_nothing() {
    for (name, client, server) in tls_fixtures() {
        let direct = look(&client, &server);
        for cut in [server.len(), server.len().min(900)] {
            let (plain, cut) = (look(&client, &server[..cut]), cut);
            let proxied = [&b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 443\r\n"[..], &client].concat();
            let header = proxied.len() - client.len();
            let found = look(&proxied, &server[..cut]);
            assert_eq!(found.facts.tls, plain.facts.tls, "{name} behind PROXY");
            let behind = |wanted: u32, at: usize| if wanted == 0 { 0 } else { wanted + at as u32 };
            assert_eq!(found.wants.client, behind(plain.wants.client, header), "{name}");
            assert_eq!(found.wants.server, plain.wants.server, "{name}");
            let (ask, grant) = (
                &b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"[..],
                &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            );
            let found = look(&[ask, &client].concat(), &[grant, &server[..cut]].concat());
            assert_eq!(found.facts.tls, plain.facts.tls, "{name} in a tunnel");
            assert_eq!(found.wants.server, behind(plain.wants.server, grant.len()), "{name}");
        }
        let asked = [&b"EHLO a\r\nSTARTTLS\r\n"[..], &client].concat();
        let granted =
            [&b"220 mail.example ESMTP\r\n250-mail.example\r\n250 STARTTLS\r\n220 go ahead\r\n"[..], &server]
                .concat();
        assert_eq!(look(&asked, &granted).facts.tls, direct.facts.tls, "{name} after STARTTLS");
    }
}

/// A chain of 20 kB, of which only the beginning is there: how much it takes, in the end no more.
#[test]
fn a_long_chain_says_what_it_wants() {
    let (client, server) = (fixture("tls12_ecdhe.client"), fixture("tls12_ecdhe.server"));
    let hello = 5 + usize::from(u16::from_be_bytes([server[3], server[4]]));
    let client_hello = 5 + usize::from(u16::from_be_bytes([client[3], client[4]]));
    let chain = [&[0, 0x4e, 0x20][..], &[0, 0x4e, 0x1d], &noise(19_997)].concat();
    let flight = [message(11, &chain), message(12, &noise(300)), message(14, &[])].concat();
    let mut long = server[..hello].to_vec();
    for part in flight.chunks(16_384) {
        long.extend(record(22, [3, 3], part));
    }
    let found = look(&client[..client_hello], &long[..8192]);
    assert!(found.wants.server as usize > hello + 20_003, "{:?}", found.wants);
    assert!((found.wants.server as usize) < hello + 20_003 + 16_384);
    let found = look(&client[..client_hello], &long);
    assert_eq!(found.facts.tls.unwrap().server_certificates.len(), 1);
    // TLS 1.3 wants nothing once it is through.
    let found = look(&fixture("tls13.client"), &fixture("tls13.server"));
    assert_eq!((found.wants.client, found.wants.server), (0, 0));
}

/// SSL 2 itself: named, and not called encrypted.
#[test]
fn ssl_2_is_recognised_and_not_trusted() {
    let hello =
        [&[1, 0, 2, 0, 9, 0, 0, 0, 16][..], &[1, 0, 0x80, 7, 0, 0xc0, 3, 0, 0x80], &noise(16)].concat();
    let client = [&[0x80, hello.len() as u8][..], &hello].concat();
    let found = look(&client, &[]);
    assert_eq!(found.facts.tls.unwrap().version_offered.as_deref(), Some("2.0"));
    let answer = [&[4, 0, 1, 0, 2, 0, 40, 0, 3, 0, 16][..], &noise(40), &[7, 0, 0xc0], &noise(16)].concat();
    let server = [&[0x80, answer.len() as u8][..], &answer].concat();
    let found = look(&client, &server);
    assert_eq!(found.facts.protection, Protection::Unknown(UnknownReason::Handshake));
    let tls = found.facts.tls.unwrap();
    assert_eq!((tls.version.as_deref(), tls.version_protocol.as_deref()), (Some("2.0"), Some("ssl")));
    assert_eq!(tls.server_certificates.len(), 1);
}

/// Early data, refused by a HelloRetryRequest: it comes before the second hello.
#[test]
fn early_data_before_a_second_hello_is_passed_over() {
    let (client, server) = (fixture("tls13_retry.client"), fixture("tls13_retry.server"));
    let first = 5 + usize::from(u16::from_be_bytes([client[3], client[4]]));
    // An early_data extension at the end of the first hello.
    let mut hello = client[..first].to_vec();
    hello.extend([0, 42, 0, 0]);
    for (at, width) in [(3, 2), (6, 3)] {
        let field = &mut hello[at..at + width];
        let value = field.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)) + 4;
        field.copy_from_slice(&value.to_be_bytes()[8 - width..]);
    }
    let session = 43 + 1 + usize::from(hello[43]);
    let suites = session + 2 + usize::from(u16::from_be_bytes([hello[session], hello[session + 1]]));
    let extensions = suites + 1 + usize::from(hello[suites]);
    let total = u16::from_be_bytes([hello[extensions], hello[extensions + 1]]) + 4;
    hello[extensions..extensions + 2].copy_from_slice(&total.to_be_bytes());
    let early = record(23, [3, 3], &noise(200));
    let found = look(&[&hello[..], &early, &early, &client[first..]].concat(), &server);
    let tls = found.facts.tls.unwrap();
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
    assert_eq!(tls.early_data, Some(EarlyData::Rejected));
    assert!(tls.retried);
    assert_eq!(tls.client_certificate.state, ClientCertificateState::NotRequested);
}
