//! SSH: what was negotiated, and whether the client logged in. `fixtures/ssh/README.md` says what
//! happened in each session.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::SshAuthenticationState::{self as State, Begun, Failed, Succeeded, Unknown};
use dissect::{Cipher, Hint, Inspection, Prefix, Protection, SshFacts, UnknownReason, inspect_stream};
use proptest::prelude::*;
use std::path::Path;

/// Name, how the log-in ended as far as can be told, and attempts that were turned down.
const SESSIONS: [(&str, State, Option<u32>); 19] = [
    ("banner", Succeeded, Some(1)),
    ("dropbear_client", Begun, None),
    ("dropbear_server", Begun, None),
    ("group_exchange", Succeeded, Some(0)),
    ("key_cbc_etm", Succeeded, Some(0)),
    // The lengths of packets are encrypted.
    ("key_chacha20", Begun, None),
    ("key_encrypt_and_mac", Begun, None),
    ("key_etm", Succeeded, Some(0)),
    ("key_gcm", Succeeded, Some(0)),
    // Questions and answers can be as long as a refusal.
    ("keyboard_interactive", Failed, None),
    ("keyscan", Unknown, None),
    ("no_session", Succeeded, None),
    // Whether its first request is an attempt is not known.
    ("paramiko_client", Succeeded, None),
    ("paramiko_client_refused", Failed, None),
    ("paramiko_server", Succeeded, Some(2)),
    ("refused_key", Failed, Some(1)),
    ("third_key", Succeeded, Some(2)),
    ("too_many_attempts", Failed, Some(6)),
    ("wrong_passwords", Failed, Some(3)),
];

fn session(name: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ssh");
    let read = |side: &str| std::fs::read(folder.join(format!("{name}.{side}"))).unwrap();
    (read("client"), read("server"))
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended, midstream: false, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

fn ssh(name: &str) -> SshFacts {
    let (client, server) = session(name);
    look(&client, &server, true).facts.ssh.unwrap()
}

/// Everything up to and with NEWKEYS.
fn in_the_clear(side: &[u8]) -> &[u8] {
    let mut at = side.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    loop {
        let length = u32::from_be_bytes(*side[at..].first_chunk().unwrap()) as usize;
        let message = side[at + 5];
        at += 4 + length;
        if message == 21 {
            return &side[..at];
        }
    }
}

/// Found by the fuzz target `stream`: what was settled as encrypted could still turn out to be text.
#[test]
fn nothing_is_settled_before_both_sides_were_seen_not_to_be_text() {
    let (client, server) = session("key_chacha20");
    let server = [in_the_clear(&server), &b"and now in words ".repeat(20)].concat();
    let whole = look(&client, &server, true);
    assert!(matches!(whole.facts.protection, Protection::Plaintext(_)), "{:?}", whole.facts);
    for end in in_the_clear(&server).len()..server.len() {
        let found = look(&client, &server[..end], false);
        assert!(!found.settled || found.facts == whole.facts, "settled at {end} as {:?}", found.facts);
    }
}

#[test]
fn how_the_log_in_ended() {
    for (name, state, failures) in SESSIONS {
        let found = ssh(name).authentication;
        assert_eq!((found.state, found.failures), (state, failures), "{name}");
    }
}

/// Only the end of both directions makes a log-in that did not come a failed one.
#[test]
fn what_goes_on_has_not_failed() {
    for (name, ..) in SESSIONS {
        let (client, server) = session(name);
        let found = look(&client, &server, false).facts.ssh.unwrap();
        assert_ne!(found.authentication.state, Failed, "{name}");
    }
}

#[test]
fn algorithms_are_those_negotiated() {
    let gcm = ssh("key_gcm");
    assert_eq!(gcm.key_exchange.as_deref(), Some("sntrup761x25519-sha512"));
    assert_eq!((gcm.post_quantum, gcm.host_key.as_deref()), (Some(true), Some("ssh-ed25519")));
    assert_eq!(gcm.client_cipher.as_deref(), Some("aes256-gcm@openssh.com"));
    assert_eq!((gcm.client_mac, gcm.server_mac), (None, None));
    let etm = ssh("key_etm");
    assert_eq!(etm.server_cipher.as_deref(), Some("aes256-ctr"));
    assert_eq!(etm.server_mac.as_deref(), Some("hmac-sha2-256-etm@openssh.com"));
    let group = ssh("group_exchange");
    assert_eq!(group.key_exchange.as_deref(), Some("diffie-hellman-group-exchange-sha256"));
    assert_eq!(group.post_quantum, Some(false));
    let paramiko = ssh("paramiko_server");
    assert_eq!(paramiko.host_key.as_deref(), Some("rsa-sha2-512"));
    // Dropbear's list begins with a marker that both ends may have.
    assert_eq!(ssh("dropbear_server").key_exchange.as_deref(), Some("curve25519-sha256"));
}

/// A KEXINIT with these lists: key exchange, host key, and cipher, MAC and compression of both ways.
fn kexinit(lists: [&str; 5]) -> Vec<u8> {
    let [key_exchange, host_key, cipher, mac, compression] = lists;
    let mut payload = [&[20u8][..], &[9; 16]].concat();
    for list in [key_exchange, host_key, cipher, cipher, mac, mac, compression, compression, "", ""] {
        payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    packet(&payload)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let length = u32::try_from(payload.len() + padding + 1).unwrap();
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

fn negotiate(client: [&str; 5], server: [&str; 5]) -> Inspection {
    look(&by_hand(client, 30), &by_hand(server, 31), false)
}

/// Up to NEWKEYS, with this message of the key exchange.
fn by_hand(lists: [&str; 5], message: u8) -> Vec<u8> {
    let key: Vec<u8> = (0..32u8).map(|n| n.wrapping_mul(151) ^ 0xa5).collect();
    let exchange = packet(&[&[message, 0, 0, 0, 32][..], &key].concat());
    [&b"SSH-2.0-made_by_hand\r\n"[..], &kexinit(lists), &exchange, &packet(&[21])].concat()
}

const LISTS: [&str; 5] =
    ["curve25519-sha256", "ssh-ed25519", "chacha20-poly1305@openssh.com", "hmac-sha1", "none"];

/// NEWKEYS alone: there are none.
#[test]
fn keys_that_were_not_exchanged_encrypt_nothing() {
    let without = [&b"SSH-2.0-made_by_hand\r\n"[..], &kexinit(LISTS), &packet(&[21])].concat();
    let (client, server) = (by_hand(LISTS, 30), by_hand(LISTS, 31));
    let protection = |client: &[u8], server: &[u8]| look(client, server, true).facts.protection;
    assert_eq!(protection(&client, &server), Protection::Encrypted(Cipher::Ssh));
    for (client, server) in [(&without, &server), (&client, &without), (&without, &without)] {
        assert_eq!(protection(client, server), Protection::Unknown(UnknownReason::Handshake));
    }
}

/// Wherever words begin, and however few of them there are.
#[test]
fn words_behind_the_keys_are_seen() {
    let (client, server) = session("key_chacha20");
    let keys_at = in_the_clear(&client).len();
    let words = b"in the clear, after all. ";
    for (from, times, ended) in
        [(0, 1, true), (64, 6, true), (64, 6, false), (200, 6, false), (320, 6, false)]
    {
        let client = [&client[..keys_at + from], &words.repeat(times)].concat();
        let found = look(&client, &server, ended);
        assert!(!matches!(found.facts.protection, Protection::Encrypted(_)), "{from}, {times}: {found:?}");
    }
}

#[test]
fn the_clients_first_choice_that_the_server_has_counts() {
    let client = [
        "kexguess2@matt.ucc.asn.au,ext-info-c,a,mlkem768x25519-sha256,curve25519-sha256",
        "rsa-sha2-512,ssh-ed25519",
        "aes128-ctr,3des-cbc",
        "hmac-md5,hmac-sha1",
        "none",
    ];
    let server = [
        "curve25519-sha256,mlkem768x25519-sha256,kexguess2@matt.ucc.asn.au,ext-info-c",
        "ssh-ed25519",
        "3des-cbc,aes128-ctr",
        "hmac-sha1",
        "zlib@openssh.com,none",
    ];
    let found = negotiate(client, server);
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Ssh));
    let ssh = found.facts.ssh.unwrap();
    assert_eq!(ssh.key_exchange.as_deref(), Some("mlkem768x25519-sha256"));
    assert_eq!((ssh.post_quantum, ssh.host_key.as_deref()), (Some(true), Some("ssh-ed25519")));
    assert_eq!(
        (ssh.client_cipher.as_deref(), ssh.client_mac.as_deref()),
        (Some("aes128-ctr"), Some("hmac-sha1"))
    );
}

/// RFC 4253 section 7.1: a key exchange counts only if there is a host key that it can do with.
#[test]
fn a_key_exchange_needs_its_host_key() {
    let client = ["curve25519-sha256,gss-group14-sha1-x", "ssh-rsa,null", "aes128-ctr", "hmac-sha1", "none"];
    let server =
        ["curve25519-sha256,gss-group14-sha1-x", "ssh-ed25519,null", "aes128-ctr", "hmac-sha1", "none"];
    let ssh = negotiate(client, server).facts.ssh.unwrap();
    assert_eq!((ssh.key_exchange.as_deref(), ssh.host_key), (Some("gss-group14-sha1-x"), None));
    let unknown = ["kex-of-tomorrow@example.org", "ssh-ed25519", "aes128-ctr", "hmac-sha1", "none"];
    assert_eq!(negotiate(unknown, unknown).facts.ssh.unwrap().post_quantum, None);
}

/// Everything up to NEWKEYS, and then text.
#[test]
fn what_goes_on_in_the_clear_is_not_encrypted() {
    let words = b"in the clear, after all. ".repeat(20);
    let (client, server) =
        ([by_hand(LISTS, 30), words.clone()].concat(), [by_hand(LISTS, 31), words].concat());
    for ended in [false, true] {
        let found = look(&client, &server, ended);
        assert!(!matches!(found.facts.protection, Protection::Encrypted(_)), "{found:?}");
    }
}

/// In messages of no meaning, or more of the key exchange.
#[test]
fn nothing_hides_in_front_of_the_keys() {
    let (client, server) = (by_hand(LISTS, 30), by_hand(LISTS, 31));
    let words = b"in the clear, after all. ".repeat(20);
    let newkeys = packet(&[21]).len();
    let with = |side: &[u8], extra: &[u8]| {
        let at = side.len() - newkeys;
        [&side[..at], extra, &side[at..]].concat()
    };
    let led = |head: &[u8]| packet(&[head, &words].concat());
    let many: Vec<u8> = (0..40).flat_map(|_| packet(b"\x02\0\0\0\x08in words")).collect();
    for extra in
        [led(&[2, 0, 0, 1, 0xf4]), led(&[3]), led(&[4, 1, 0, 0, 1, 0xf4]), led(&[33, 0, 0, 1, 0xf4]), many]
    {
        for (client, server) in
            [(with(&client, &extra), server.clone()), (client.clone(), with(&server, &extra))]
        {
            let found = look(&client, &server, true);
            assert!(
                !matches!(found.facts.protection, Protection::Encrypted(_)),
                "{:?} {found:?}",
                &extra[..12]
            );
        }
    }
    // In what ends the exchange, and behind the lists.
    let named = |payload: &[u8]| packet(&[payload, &words].concat());
    let in_the_last = [&client[..client.len() - newkeys], &named(&[21])].concat();
    let lists = kexinit(LISTS);
    let longer = named(&lists[5..lists.len() - usize::from(lists[4])]);
    let begins = b"SSH-2.0-made_by_hand\r\n".len();
    let behind_lists = [&client[..begins], &longer, &client[begins + lists.len()..]].concat();
    // Who could do with GSSAPI has not done so.
    let mut could = LISTS;
    could[0] = "curve25519-sha256,gss-group14-sha256-x";
    let could = with(&by_hand(could, 30), &led(&[33, 0, 0, 1, 0xf4]));
    for client in [in_the_last, behind_lists, could] {
        let found = look(&client, &server, true);
        assert!(!matches!(found.facts.protection, Protection::Encrypted(_)), "{found:?}");
    }
    // What stacks do send there takes nothing away: padding, and half a request for a group (RFC 4419 section 5).
    for extra in [packet(&[&[2, 0, 0, 0, 40][..], &[0; 40]].concat()), packet(&[30, 0, 0, 8, 0])] {
        let found = look(&with(&client, &extra), &server, true);
        assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Ssh));
    }
    let extra = packet(&[&[2, 0, 0, 0, 8][..], &[0x91, 0x3c, 0xe7, 0x05, 0x88, 0xd2, 0x4f, 0xb6]].concat());
    let found = look(&with(&client, &extra), &server, true);
    assert_eq!(found.facts.protection, Protection::Encrypted(Cipher::Ssh));
}

/// Lengths that are none decide nothing.
#[test]
fn broken_packets_tell_nothing_of_a_log_in() {
    let (client, mut server) = session("refused_key");
    let last = server.len() - 1;
    server.truncate(last);
    assert_eq!(look(&client, &server, true).facts.ssh.unwrap().authentication.state, Begun);
    server.extend([0xff; 40]);
    assert_ne!(look(&client, &server, true).facts.ssh.unwrap().authentication.state, Failed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_split_and_no_order_changes_the_answer(
        cuts in proptest::collection::vec((any::<bool>(), 1usize..400), 0..60),
        tiny in any::<bool>(),
    ) {
        for (name, ..) in SESSIONS {
            let (client, server) = session(name);
            let last = look(&client, &server, true);
            let (mut c, mut s) = (0usize, 0usize);
            let mut settled: Option<Inspection> = None;
            let all = cuts.iter().copied().chain([(true, usize::MAX), (false, usize::MAX)]);
            for (from_client, n) in all {
                let n = if tiny { n % 23 } else { n };
                if from_client {
                    c = c.saturating_add(n).min(client.len());
                } else {
                    s = s.saturating_add(n).min(server.len());
                }
                let now = look(&client[..c], &server[..s], false);
                if let Some(before) = &settled {
                    prop_assert_eq!(before, &now, "{}", name);
                } else if now.settled {
                    settled = Some(now);
                }
            }
            if let Some(settled) = settled {
                prop_assert_eq!(&settled.facts, &last.facts, "{}", name);
            }
        }
    }

    /// Cut off anywhere and ended there, as by a loss: never another success, and no success of a
    /// session that had none.
    #[test]
    fn a_part_of_a_session_claims_no_success_that_was_not(client_to in 0usize..8192, server_to in 0usize..8192) {
        for (name, state, _) in SESSIONS {
            let (client, server) = session(name);
            let (c, s) = (client_to.min(client.len()), server_to.min(server.len()));
            let found = look(&client[..c], &server[..s], true).facts.ssh.map(|ssh| ssh.authentication.state);
            prop_assert!(found != Some(Succeeded) || state == Succeeded, "{}", name);
        }
    }
}
