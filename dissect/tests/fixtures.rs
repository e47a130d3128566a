//! Captured exchanges: what each is, whatever way its bytes arrive. `fixtures/README.md` says where
//! they come from.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod datagrams;

use dissect::{
    Cipher, ClientCertificate, Facts, Hint, Inspection, Prefix, Protection, TlsFacts, inspect_stream,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn names(extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|f| f.strip_suffix(extension).map(Into::into)).collect();
    names.sort();
    names
}

fn stream(name: &str) -> (Vec<u8>, Vec<u8>) {
    let read = |side: &str| std::fs::read(folder().join(format!("{name}.{side}"))).unwrap();
    (read("client"), read("server"))
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended, midstream: false, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

/// One line a fixture, in the order of their names.
fn all_facts() -> String {
    let streams = names(".client").into_iter().map(|name| {
        let (client, server) = stream(&name);
        (name, look(&client, &server, true).facts)
    });
    let datagrams = names(".client.datagrams").into_iter().map(|name| {
        let (client, server) = datagrams::fixture(&name);
        (name, datagrams::look(&client, &server).facts)
    });
    streams.chain(datagrams).map(|(name, facts)| describe(&name, &facts)).collect()
}

fn describe(name: &str, facts: &Facts) -> String {
    let mut line = format!("{name}: {:?}", facts.protection);
    if let Some(protocol) = facts.protocol {
        line += &format!(", {}", protocol.as_str());
    }
    if let Some(tls) = &facts.tls {
        let parts =
            [&tls.version_protocol, &tls.version, &tls.cipher, &tls.group, &tls.server_name, &tls.alpn];
        let parts: Vec<&str> = parts.iter().map(|part| part.as_deref().unwrap_or("-")).collect();
        line += &format!(", [{}] offered {:?}", parts.join(" "), tls.alpn_offered);
        line += &format!(", established {}, resumed {:?}", tls.established, tls.resumed);
        line += &in_depth(tls);
    }
    if let Some(ssh) = &facts.ssh {
        line += &format!(", {:?} {:?}", ssh.client_version, ssh.server_version);
    }
    if let Some(upgrade) = &facts.upgrade {
        line += &format!(", upgrade {upgrade:?}");
    }
    line + &format!(", {}\n", facts.detail.as_deref().unwrap_or("no detail"))
}

fn in_depth(tls: &TlsFacts) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".into());
    let mut text = format!(
        ", up to {}, post-quantum {:?} of {:?}, signature {}, ja3 {} {}, ja4 {} {}",
        part(&tls.version_offered),
        tls.post_quantum,
        tls.post_quantum_offered,
        part(&tls.signature),
        part(&tls.ja3),
        part(&tls.ja3s),
        part(&tls.ja4),
        part(&tls.ja4s),
    );
    if tls.retried {
        text += ", retried";
    }
    if let Some(early_data) = tls.early_data {
        text += &format!(", early data {early_data:?}");
    }
    if let Some(alert) = &tls.alert {
        text += &format!(", alert {:?} from {:?}", alert.description, alert.from);
    }
    for (whose, chain) in [("server", &tls.server_certificates), ("client", &tls.client_certificates)] {
        for certificate in chain {
            text += &format!(
                ", {whose} certificate {:?} {:?} {} {}",
                certificate.subject,
                certificate.alternative_names,
                certificate.key_type,
                certificate.signature_algorithm
            );
        }
    }
    let ClientCertificate { state, basis } = tls.client_certificate;
    text + &format!(", client certificate {state:?} {basis:?}")
}

/// `expected.txt` stands beside the fixtures: what each capture says, for people to read. With BLESS
/// in the environment it is written anew: read the difference before committing it.
#[test]
fn every_fixture_is_what_it_is_said_to_be() {
    let found = all_facts();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(folder().join("expected.txt"), &found).unwrap();
    }
    let expected = std::fs::read_to_string(folder().join("expected.txt")).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_split_and_no_order_changes_the_answer(cuts in proptest::collection::vec((any::<bool>(), 1usize..400), 0..60), tiny in any::<bool>()) {
        for name in names(".client") {
            let (client, server) = stream(&name);
            let last = look(&client, &server, true);
            let (mut c, mut s) = (0usize, 0usize);
            let mut settled: Option<(Inspection, usize, usize)> = None;
            let all = cuts.iter().copied().chain([(true, usize::MAX), (false, usize::MAX)]);
            for (from_client, n) in all {
                let n = if tiny { n % 23 } else { n };
                if from_client {
                    c = c.saturating_add(n).min(client.len());
                } else {
                    s = s.saturating_add(n).min(server.len());
                }
                let now = look(&client[..c], &server[..s], false);
                if let Some((before, bc, bs)) = &settled {
                    prop_assert_eq!(before, &now, "{} settled at {}/{} and changed at {}/{}", name, bc, bs, c, s);
                }
                if now.settled && settled.is_none() {
                    settled = Some((now, c, s));
                }
            }
            if let Some((settled, c, s)) = settled {
                prop_assert_eq!(&settled.facts, &last.facts, "{} settled at {}/{}", name, c, s);
            }
        }
    }

    /// From anywhere in the middle, too: nothing that was settled changes.
    #[test]
    fn a_view_from_the_middle_keeps_what_it_settled(
        from in 0usize..3000,
        cuts in proptest::collection::vec((any::<bool>(), 1usize..300), 0..40),
    ) {
        for name in names(".client") {
            let (client, server) = stream(&name);
            let (client, server) = (&client[from.min(client.len())..], &server[from.min(server.len())..]);
            let look = |c: usize, s: usize, ended: bool| {
                let prefix = |bytes| Prefix { bytes, ended, midstream: true, ..Prefix::default() };
                inspect_stream(prefix(&client[..c]), prefix(&server[..s]), Hint::default())
            };
            let (mut c, mut s) = (0usize, 0usize);
            let mut settled: Option<Inspection> = None;
            for (from_client, n) in cuts.iter().copied().chain([(true, usize::MAX), (false, usize::MAX)]) {
                if from_client {
                    c = c.saturating_add(n).min(client.len());
                } else {
                    s = s.saturating_add(n).min(server.len());
                }
                let now = look(c, s, false);
                if let Some(before) = &settled {
                    prop_assert_eq!(before, &now, "{} from {}", name, from);
                } else if now.settled {
                    settled = Some(now);
                }
            }
            if let Some(settled) = settled {
                prop_assert_eq!(settled.facts, look(client.len(), server.len(), true).facts, "{} from {}", name, from);
            }
        }
    }

    #[test]
    fn datagrams_keep_what_they_settled(turns in proptest::collection::vec(any::<bool>(), 0..40)) {
        for name in names(".client.datagrams") {
            let (client, server) = datagrams::fixture(&name);
            let (mut c, mut s) = (0usize, 0usize);
            let mut settled: Option<Inspection> = None;
            let rest = std::iter::repeat_n(true, client.len()).chain(std::iter::repeat_n(false, server.len()));
            for from_client in turns.iter().copied().chain(rest) {
                if from_client {
                    c = (c + 1).min(client.len());
                } else {
                    s = (s + 1).min(server.len());
                }
                let now = datagrams::look(&client[..c], &server[..s]);
                if let Some(before) = &settled {
                    prop_assert_eq!(before, &now, "{}", name);
                } else if now.settled {
                    settled = Some(now);
                }
            }
        }
    }
}

/// A handshake of DTLS 1.2 whose protected records are none: those of DTLS 1.3, too short, or readable.
#[test]
fn what_only_looks_like_dtls_is_not_encrypted() {
    let (client, server) = datagrams::fixture("dtls12");
    assert!(matches!(datagrams::look(&client, &server).facts.protection, Protection::Encrypted(_)));
    let in_the_clear = |datagrams: &[Vec<u8>]| -> Vec<Vec<u8>> {
        // The epoch of a record that stands first, and what comes with ChangeCipherSpec.
        let shown = |datagram: &&Vec<u8>| datagram[3..5] == [0, 0];
        datagrams.iter().filter(shown).map(|datagram| cut_at_epoch_1(datagram).to_vec()).collect()
    };
    let number = [0, 1, 0, 0, 0, 0, 0, 7];
    let old = |payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[23, 0xfe, 0xfd][..], &number, &length, payload].concat()
    };
    let noise: Vec<u8> = (0..40u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let words = "gar nicht verschl\u{fc}sselt, wie jeder sehen kann, der hinsieht";
    for (last, encrypted) in [
        (old(&noise), true),
        ([&[0x2c, 1, 2][..], &noise].concat(), false),
        (old(&noise[..12]), false),
        (old(words.as_bytes()), false),
    ] {
        let with = |datagrams: &[Vec<u8>]| [in_the_clear(datagrams), vec![last.clone()]].concat();
        let found = datagrams::look(&with(&client), &with(&server)).facts.protection;
        assert_eq!(matches!(found, Protection::Encrypted(_)), encrypted, "{last:?}");
    }
}

/// Without the records of the next epoch.
fn cut_at_epoch_1(datagram: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(header) = datagram.get(at..at + 13)
        && header[3..5] == [0, 0]
    {
        at += 13 + usize::from(u16::from_be_bytes([header[11], header[12]]));
    }
    &datagram[..at]
}

/// One side at once and the other byte by byte, both ways round.
#[test]
fn single_bytes_change_nothing_that_was_settled() {
    for name in names(".client") {
        let (client, server) = stream(&name);
        let (client, server) = (&client[..client.len().min(900)], &server[..server.len().min(900)]);
        let by_client = (0..=client.len()).map(|n| (n, server.len()));
        let by_server = (0..=server.len()).map(|n| (client.len(), n));
        for steps in [by_client.collect::<Vec<_>>(), by_server.collect()] {
            let mut settled: Option<Inspection> = None;
            for (c, s) in steps {
                let now = look(&client[..c], &server[..s], false);
                if let Some(before) = &settled {
                    assert_eq!(before, &now, "{name} at {c}/{s}");
                } else if now.settled {
                    settled = Some(now);
                }
            }
        }
    }
}

/// No false alarm from the middle of an encrypted connection, and none the other way.
#[test]
fn a_view_from_the_middle_confuses_nothing() {
    for name in names(".client") {
        let (client, server) = stream(&name);
        let facts = look(&client, &server, true).facts;
        // Refused by an alert that only its length tells, and that the middle does not show as one.
        let hidden_end = facts
            .tls
            .as_ref()
            .and_then(|tls| tls.alert.as_ref())
            .is_some_and(|alert| alert.description.is_none());
        let whole = if hidden_end { Protection::Encrypted(Cipher::Tls) } else { facts.protection };
        for from in 0..client.len().max(server.len()) {
            let middle = |bytes| Prefix { bytes, ended: true, midstream: true, ..Prefix::default() };
            let (client, server) = (&client[from.min(client.len())..], &server[from.min(server.len())..]);
            let found = inspect_stream(middle(client), middle(server), Hint::default()).facts.protection;
            if matches!(found, Protection::Encrypted(_)) {
                assert_eq!(found, whole, "{name} from {from}");
            }
        }
    }
}
