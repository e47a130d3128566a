//! Handshakes made by hand, where no server was to be had, and how soon a real one is settled.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::{
    Cipher, Hint, Inspection, Prefix, Protection, UnknownReason, inspect_datagrams, inspect_stream,
};
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn look(client: &[u8], server: &[u8]) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended: false, midstream: false };
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
    let found = look(&client, &server);
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
    let tls = found.facts.tls.unwrap();
    assert_eq!((tls.version.as_deref(), tls.version_protocol.as_deref()), (Some("3.0"), Some("ssl")));
    assert_eq!(tls.cipher.as_deref(), Some("TLS_RSA_WITH_RC4_128_SHA"));
    assert!(found.settled);
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
    assert!(through.settled);
    let other = [&[4, 0, 0, 0][..], b"cccc", &noise(24)].concat();
    let not = look(&[&initiation, &other], &[&response]);
    assert_eq!(not.facts.protection, Protection::Unknown(UnknownReason::Handshake));
}

/// A flow is settled by its first kilobytes, and does not wait for its end.
#[test]
fn the_first_4_kib_settle_what_was_established() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let still_open =
        ["tls13_client_refuses", "tls12_client_refuses", "ssh_nothing_in_common", "ssh_only_greeted"];
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
    let prefix = |bytes, ended| Prefix { bytes, ended, midstream: false };
    let found = inspect_stream(prefix(&client, false), prefix(&server[..600], true), Hint::default());
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
    let (client, server) = (fixture("tls12_mutual.client"), fixture("tls12_mutual.server"));
    let found = inspect_stream(prefix(&client[..600], true), prefix(&server, false), Hint::default());
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Tls));
}
