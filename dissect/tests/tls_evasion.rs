//! Plaintext in all places of TLS where no stack has any: no "yes". And what stacks do have there, odd as it is,
//! takes none away.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod exchange;

use dissect::{Protection, inspect_sample};
use exchange::{
    APPLICATION_DATA, CHANGE_CIPHER_SPEC, Exchange, HANDSHAKE, HEARTBEAT, VERSIONS, Version, extensions_13,
    is_yes, message, noise, record, sealed, server_hello,
};

const TEXT: &[u8] = b"and now for something in the clear, that nobody has encrypted. ";

/// Each record put in at each place of either side.
fn in_each_place(version: Version, records: &[Vec<u8>]) -> Vec<(String, Exchange)> {
    let mut all = Vec::new();
    let whole = Exchange::used(version);
    for (n, extra) in records.iter().enumerate() {
        for at in 1..=whole.client.len() {
            let mut exchange = whole.clone();
            exchange.client.insert(at, extra.clone());
            all.push((format!("{version:?}, {n} at {at} of the client"), exchange));
        }
        for at in 1..=whole.server.len() {
            let mut exchange = whole.clone();
            exchange.server.insert(at, extra.clone());
            all.push((format!("{version:?}, {n} at {at} of the server"), exchange));
        }
    }
    all
}

fn none_is_a_yes(all: Vec<(String, Exchange)>) {
    let yes: Vec<String> =
        all.into_iter().filter(|(_, exchange)| is_yes(&exchange.facts())).map(|(what, _)| what).collect();
    assert!(yes.is_empty(), "{yes:#?}");
}

fn all_are_a_yes(all: Vec<(String, Exchange)>) {
    let no: Vec<String> = all
        .into_iter()
        .map(|(what, exchange)| (what, exchange.facts()))
        .filter(|(_, facts)| !is_yes(facts))
        .map(|(what, facts)| format!("{what}: {:?} {:?}", facts.protection, facts.detail))
        .collect();
    assert!(no.is_empty(), "{no:#?}");
}

#[test]
fn heartbeats_hide_nothing() {
    let text = TEXT.repeat(4);
    let beat = [&[1, 0, text.len() as u8][..], &text, &noise(16)].concat();
    for version in VERSIONS {
        none_is_a_yes(in_each_place(version, &[record(HEARTBEAT, &text), record(HEARTBEAT, &beat)]));
    }
}

/// A byte at a time.
#[test]
fn change_cipher_spec_hides_nothing() {
    let each: Vec<u8> = TEXT.iter().flat_map(|byte| record(CHANGE_CIPHER_SPEC, &[*byte])).collect();
    for version in VERSIONS {
        none_is_a_yes(in_each_place(version, &[each.clone(), record(CHANGE_CIPHER_SPEC, TEXT)]));
    }
}

/// Messages that do not belong where they are.
#[test]
fn messages_of_a_handshake_hide_nothing() {
    let text = TEXT.repeat(4);
    let records = [
        record(HANDSHAKE, &text),
        record(HANDSHAKE, &message(99, &text)),
        record(HANDSHAKE, &message(0, &text)),
        record(HANDSHAKE, &message(8, &text)),
        record(HANDSHAKE, &[&message(24, &[0])[..], &text].concat()),
        record(HANDSHAKE, &[1, 0, 0x40, 0]),
    ];
    for version in VERSIONS {
        none_is_a_yes(in_each_place(version, &records));
    }
    // In TLS 1.3 all others are encrypted; up to TLS 1.2 each comes once, at its place.
    let others = [4, 11, 12, 13, 15, 16, 20, 22, 23].map(|kind| record(HANDSHAKE, &message(kind, &text)));
    none_is_a_yes(in_each_place(Version::Tls13, &others));
    for kind in [11, 12, 16] {
        let twice = message(kind, &noise(33));
        let mut early = in_each_place(Version::Tls12, &[record(HANDSHAKE, &[&twice[..], &twice].concat())]);
        // Behind ChangeCipherSpec it could be anything that is encrypted.
        early.retain(|(place, _)| place.contains("at 1") || place.contains("at 2"));
        none_is_a_yes(early);
    }
}

#[test]
fn short_records_of_text_are_no_encryption() {
    let ascii =
        |length| TEXT.chunks(length).flat_map(|part| record(APPLICATION_DATA, part)).collect::<Vec<_>>();
    let wide: Vec<u8> = TEXT.repeat(4).iter().flat_map(|byte| [*byte, 0]).collect();
    let wide: Vec<u8> = wide.chunks(20).flat_map(|part| record(APPLICATION_DATA, part)).collect();
    for version in VERSIONS {
        let records = [ascii(9), ascii(16), ascii(17), ascii(23), wide.clone()];
        let mut behind = Vec::new();
        for (n, extra) in records.iter().enumerate() {
            behind.push((format!("{version:?} {n} client"), Exchange::used(version).with(extra, &[])));
            behind.push((format!("{version:?} {n} server"), Exchange::used(version).with(&[], extra)));
        }
        none_is_a_yes(behind);
    }
}

/// Behind a front that looks random.
#[test]
fn records_that_go_on_readably_are_no_encryption() {
    let wide: Vec<u8> = TEXT.iter().flat_map(|byte| [*byte, 0]).collect();
    let accents: Vec<u8> =
        TEXT.iter().enumerate().map(|(n, byte)| if n % 20 == 7 { 0xe9 } else { *byte }).collect();
    let zeros = vec![0; 200];
    for version in VERSIONS {
        let mut behind = Vec::new();
        for (n, tail) in [wide.repeat(2), accents.repeat(3), zeros.clone()].iter().enumerate() {
            for front in [72, 100, 300] {
                let extra = record(APPLICATION_DATA, &[&noise(front)[..], tail].concat());
                behind.push((
                    format!("{version:?} {n} {front} client"),
                    Exchange::used(version).with(&extra, &[]),
                ));
                behind.push((
                    format!("{version:?} {n} {front} server"),
                    Exchange::used(version).with(&[], &extra),
                ));
            }
        }
        none_is_a_yes(behind);
    }
}

/// Three records from the middle of a connection are the start of what has to be records to its end.
#[test]
fn a_chain_of_records_in_a_sample_does_not_hide_what_follows() {
    let chain = [90, 120, 150].map(|length| sealed(APPLICATION_DATA, length)).concat();
    assert!(matches!(inspect_sample(&chain, &[]).facts.protection, Protection::Encrypted(_)));
    let text = TEXT.repeat(20);
    for behind in [text.clone(), record(APPLICATION_DATA, &text)] {
        for front in [&b""[..], &noise(50)] {
            let sample = [front, &chain, &behind].concat();
            let found = inspect_sample(&sample, &[]).facts;
            assert!(!is_yes(&found), "{found:?}");
            assert!(!is_yes(&inspect_sample(&[], &sample).facts));
        }
    }
    let before = [&noise(600)[..], &text, &chain].concat();
    assert!(!is_yes(&inspect_sample(&before, &[]).facts));
    // What may follow data.
    for behind in
        [sealed(21, 26), sealed(HANDSHAKE, 40), vec![APPLICATION_DATA, 3, 3, 1], vec![23, 3, 3, 1, 0, 9]]
    {
        let found = inspect_sample(&[&chain[..], &behind].concat(), &[]).facts;
        assert!(is_yes(&found), "{behind:?}: {found:?}");
    }
}

/// EncryptedExtensions that take up the server's name are as long as an alert would be with the longer tag.
#[test]
fn extensions_with_a_short_tag_are_no_alert() {
    let mut exchange = Exchange::hellos(Version::Tls13);
    exchange.client[0] = with_suite(&exchange.client[0], [0x13, 5]);
    exchange.server = vec![record(HANDSHAKE, &server_hello([0x13, 5], &extensions_13()))];
    exchange.server.extend([19, 830, 285, 45, 120].map(|length| sealed(APPLICATION_DATA, length)));
    exchange.client.extend([45, 90].map(|length| sealed(APPLICATION_DATA, length)));
    let facts = exchange.facts();
    assert!(is_yes(&facts), "{facts:?}");
    // With that tag an alert is shorter.
    exchange.server.truncate(1);
    exchange.server.push(sealed(APPLICATION_DATA, 11));
    assert!(exchange.facts().tls.unwrap().alert.is_some());
}

/// A hello that offers this suite in the place of its first.
fn with_suite(hello: &[u8], suite: [u8; 2]) -> Vec<u8> {
    let mut hello = hello.to_vec();
    let suites = 43 + 1 + usize::from(hello[43]) + 2;
    hello[suites..suites + 2].copy_from_slice(&suite);
    hello
}

/// What stacks send besides.
#[test]
fn odd_and_right_is_still_a_yes() {
    let one = |what: &str, exchange: Exchange| (what.to_owned(), exchange);
    let mut all = Vec::new();
    for version in VERSIONS {
        let tag = if version == Version::Tls13 { 17 } else { 24 };
        // Empty fragments, a byte and the rest, KeyUpdate, close_notify; behind the handshake, and behind data.
        for lengths in
            [vec![tag], vec![tag; 6], vec![tag + 1, 400], vec![tag + 5], vec![tag + 2], vec![tag + 2; 2]]
        {
            let extra: Vec<u8> =
                lengths.iter().flat_map(|length| sealed(APPLICATION_DATA, *length)).collect();
            for exchange in [Exchange::used(version), Exchange::finished(version)] {
                all.push(one("data", exchange.with(&extra, &extra)));
            }
        }
    }
    // ChangeCipherSpec that means nothing.
    all.extend(in_each_place(Version::Tls13, &[record(CHANGE_CIPHER_SPEC, &[1])]));
    // HelloRequest, which is passed over.
    let mut asked = Exchange::used(Version::Tls12);
    asked.server.insert(1, record(HANDSHAKE, &message(0, &[])));
    all.push(one("a request for a hello", asked));
    // Everything that a server may send up to TLS 1.2, and a client: in a record each, and cut anywhere.
    let server = [(23, 20), (11, 700), (22, 400), (12, 300), (13, 60), (14, 0)];
    let client = [(23, 20), (11, 500), (16, 33), (15, 264)];
    let messages =
        |kinds: &[(u8, usize)]| kinds.iter().flat_map(|(kind, n)| message(*kind, &noise(*n))).collect();
    let (server, client): (Vec<u8>, Vec<u8>) = (messages(&server), messages(&client));
    for part in [1, 3, 5, 100, 5000] {
        let mut full = Exchange::used(Version::Tls12);
        full.server.splice(1..2, server.chunks(part).map(|part| record(HANDSHAKE, part)));
        let at = full.server.len() - 3;
        full.server.insert(at, record(HANDSHAKE, &message(4, &noise(180))));
        full.client.splice(1..2, client.chunks(part).map(|part| record(HANDSHAKE, part)));
        all.push((format!("all messages, in parts of {part}"), full));
    }
    // A session that goes on, with a new ticket.
    let mut resumed = Exchange::used(Version::Tls12);
    resumed.server[1] = record(HANDSHAKE, &message(4, &noise(180)));
    resumed.client.remove(1);
    all.push(one("a session that goes on", resumed));
    all_are_a_yes(all);
}

/// DER: a tag, a length of two bytes, and what it holds.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag, 0x82][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// Each entry led by its length in three bytes, and all of them together.
fn chain(entries: &[&[u8]]) -> Vec<u8> {
    let led = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[1..], bytes].concat();
    led(&entries.iter().flat_map(|entry| led(entry)).collect::<Vec<u8>>())
}

fn ticket(ticket: &[u8]) -> Vec<u8> {
    [&[0, 0, 1, 44][..], &(ticket.len() as u16).to_be_bytes(), ticket].concat()
}

/// TLS 1.2, and these messages in the place of those of the same kind, or where they belong.
fn with_messages(of_server: &[(u8, &[u8])], of_client: &[(u8, &[u8])]) -> Exchange {
    let mut exchange = Exchange::used(Version::Tls12);
    let messages = |order: &[u8], given: &[(u8, &[u8])], usual: &[(u8, Vec<u8>)]| -> Vec<u8> {
        let of = |kind: u8| {
            let given = given.iter().find(|it| it.0 == kind).map(|it| it.1.to_vec());
            let usual = || usual.iter().find(|it| it.0 == kind).map(|it| it.1.clone());
            given.or_else(usual).map(|body| message(kind, &body))
        };
        order.iter().filter_map(|kind| of(*kind)).flatten().collect()
    };
    let flight =
        messages(&[23, 11, 22, 12, 13, 14], of_server, &[(11, noise(700)), (12, noise(300)), (14, vec![])]);
    let answer = messages(&[23, 11, 21, 16, 15], of_client, &[(16, noise(33))]);
    let last = messages(&[4], of_server, &[]);
    let records =
        |bytes: &[u8]| bytes.chunks(1 << 14).flat_map(|part| record(HANDSHAKE, part)).collect::<Vec<u8>>();
    exchange.server[1] = records(&flight);
    exchange.client[1] = records(&answer);
    exchange.server.insert(2, records(&last));
    exchange
}

/// A hello with one more extension.
fn with_extension(hello: &[u8], kind: u16, value: &[u8]) -> Vec<u8> {
    let body = &hello[9..];
    let mut at = 34 + 1 + usize::from(body[34]);
    match hello[5] {
        1 => {
            at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
            at += 1 + usize::from(body[at]);
        }
        _ => at += 3,
    }
    let extensions = body.get(at + 2..).unwrap_or(&[]);
    let new = [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat();
    let length = ((extensions.len() + new.len()) as u16).to_be_bytes();
    record(HANDSHAKE, &message(hello[5], &[&body[..at], &length[..], extensions, &new].concat()))
}

/// To who gets it a ticket is any bytes: what can be read there was sent in the clear, whoever agreed to it.
#[test]
fn a_ticket_that_can_be_read_is_no_sign_of_encryption() {
    let words = b"nothing of this is encrypted, by anyone";
    let told = |exchange: Exchange| {
        let facts = exchange.facts();
        assert!(!is_yes(&facts), "{facts:?}");
        assert!(facts.detail.unwrap().contains("a ticket that can be read"));
    };
    for shown in [&words[..], &TEXT.repeat(60), &[&noise(40)[..], &TEXT.repeat(4)].concat(), &[0; 200]] {
        told(with_messages(&[(4, &ticket(shown))], &[]));
        let mut resumed = Exchange::used(Version::Tls12);
        resumed.client.remove(1);
        resumed.client[0] = with_extension(&resumed.client[0], 35, shown);
        resumed.server.remove(1);
        told(resumed);
    }
    for sealed in [vec![], noise(16), noise(180), [b"the name of a key", &noise(170)[..]].concat()] {
        let facts = with_messages(&[(4, &ticket(&sealed))], &[]).facts();
        assert!(is_yes(&facts), "{facts:?}");
    }
}

/// Kilobytes of text where a message has numbers, keys or DER.
#[test]
fn messages_that_can_be_read_are_no_sign_of_encryption() {
    let text = TEXT.repeat(40);
    let string = der(0x0c, &text);
    let bodies = [
        text.clone(),
        chain(&[&text]),
        chain(&[&noise(600), &text]),
        [&[1][..], &(text.len() as u32).to_be_bytes()[1..], &text].concat(),
        [&[1][..], &(string.len() as u32).to_be_bytes()[1..], &string].concat(),
        [
            &[1, 1, 0, 2, 4, 1][..],
            &(text.len() as u16 + 2).to_be_bytes(),
            &(text.len() as u16).to_be_bytes(),
            &text,
        ]
        .concat(),
        [&[3, 0, 29, 32][..], &noise(32), &[4, 3], &(text.len() as u16).to_be_bytes(), &text].concat(),
        [&(text.len() as u16).to_be_bytes(), &text[..]].concat(),
    ];
    let mut all = Vec::new();
    for (n, body) in bodies.iter().enumerate() {
        for kind in [23, 11, 22, 12, 13] {
            all.push((format!("{n} in {kind} of the server"), with_messages(&[(kind, body)], &[])));
        }
        for kind in [23, 11, 21, 16, 15] {
            all.push((format!("{n} in {kind} of the client"), with_messages(&[], &[(kind, body)])));
        }
    }
    for version in VERSIONS {
        for kind in [0, 16, 21, 57, 0x1234] {
            let mut exchange = Exchange::used(version);
            exchange.client[0] = with_extension(&exchange.client[0], kind, &text);
            all.push((format!("{version:?}, extension {kind} of the client"), exchange));
            let mut exchange = Exchange::used(version);
            exchange.server[0] = with_extension(&exchange.server[0], kind, &text);
            all.push((format!("{version:?}, extension {kind} of the server"), exchange));
        }
    }
    none_is_a_yes(all);
}

/// Names and certificates are in the clear, by nature.
#[test]
fn names_in_messages_of_a_handshake_take_no_yes_away() {
    let name =
        der(0x30, &der(0x31, &der(0x30, &[&[6, 3, 0x55, 4, 3][..], &der(0x0c, &TEXT[..60])].concat())));
    let names: Vec<u8> =
        (0..20).flat_map(|_| [&(name.len() as u16).to_be_bytes()[..], &name].concat()).collect();
    let request = [&[1, 1, 0, 2, 4, 1][..], &(names.len() as u16).to_be_bytes(), &names].concat();
    // What signs an answer of OCSP is a certificate, with names of its own.
    let hosts: Vec<u8> = (0..60).flat_map(|_| [&[0x82, 60][..], &TEXT[..60]].concat()).collect();
    let certificate =
        der(0x30, &[der(0x30, &[der(4, &der(0x30, &hosts)), der(3, &noise(900))].concat())].concat());
    let inner = der(0x30, &[der(0x30, &noise_in_der()), der(0xa0, &der(0x30, &certificate))].concat());
    let answer = der(0x30, &[&[0x0a, 1, 0][..], &der(0xa0, &der(0x30, &der(4, &inner)))].concat());
    let status = [&[1][..], &(answer.len() as u32).to_be_bytes()[1..], &answer].concat();
    let several = [&[2][..], &chain(&[&answer, &[]])].concat();
    let mut all = vec![
        ("names of issuers".to_owned(), with_messages(&[(13, &request)], &[])),
        ("OCSP".to_owned(), with_messages(&[(22, &status)], &[])),
        ("several of OCSP".to_owned(), with_messages(&[(22, &several)], &[])),
        ("a certificate".to_owned(), with_messages(&[(11, &chain(&[&certificate, &certificate]))], &[])),
    ];
    for version in VERSIONS {
        for (kind, value) in [(0, &TEXT.repeat(4)[..]), (16, &TEXT.repeat(6)), (21, &[0; 900])] {
            let mut exchange = Exchange::used(version);
            exchange.client[0] = with_extension(&exchange.client[0], kind, value);
            all.push((format!("{version:?}, extension {kind}"), exchange));
        }
    }
    all_are_a_yes(all);
}

fn noise_in_der() -> Vec<u8> {
    der(4, &noise(700))
}
