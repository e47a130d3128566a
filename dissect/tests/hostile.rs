//! Bytes that nobody meant well: never a panic, never `Encrypted` without a handshake.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::{
    Hint, Inspection, Plain, Prefix, Protection, UnknownReason, Upgrade, inspect_datagrams, inspect_stream,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn look(client: &[u8], server: &[u8], ended: bool, midstream: bool) -> Inspection {
    look_each(client, server, ended, (midstream, midstream))
}

fn look_each(client: &[u8], server: &[u8], ended: bool, midstream: (bool, bool)) -> Inspection {
    let client = Prefix { bytes: client, ended, midstream: midstream.0, ..Prefix::default() };
    let server = Prefix { bytes: server, ended, midstream: midstream.1, ..Prefix::default() };
    inspect_stream(client, server, Hint::default())
}

fn encrypted(inspection: &Inspection) -> bool {
    matches!(inspection.facts.protection, Protection::Encrypted(_))
}

/// Records of TLS, as far as there are any.
fn records_of(bytes: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some([20..=24, 3, 0..=4, high, low]) = bytes.get(at..at + 5) {
        at += 5 + usize::from(u16::from_be_bytes([*high, *low]));
        count += 1;
    }
    count
}

/// Every string that leaves is short and can be shown.
fn presentable(inspection: &Inspection) -> bool {
    let facts = &inspection.facts;
    let mut strings: Vec<&str> = facts.detail.iter().map(String::as_str).collect();
    if let Some(tls) = &facts.tls {
        let some = [&tls.version, &tls.cipher, &tls.group, &tls.server_name, &tls.alpn];
        strings.extend(some.into_iter().flatten().map(String::as_str));
        strings.extend(tls.alpn_offered.iter().map(String::as_str));
        let more = [&tls.version_offered, &tls.signature, &tls.ja3, &tls.ja3s, &tls.ja4, &tls.ja4s];
        strings.extend(more.into_iter().flatten().map(String::as_str));
        for certificate in tls.server_certificates.iter().chain(&tls.client_certificates) {
            strings
                .extend([&certificate.subject, &certificate.issuer, &certificate.serial].map(String::as_str));
            strings.extend([&certificate.key_type, &certificate.signature_algorithm].map(String::as_str));
            strings.extend(certificate.alternative_names.iter().map(String::as_str));
        }
    }
    if let Some(ssh) = &facts.ssh {
        strings.extend([&ssh.client_version, &ssh.server_version].into_iter().flatten().map(String::as_str));
    }
    strings.iter().all(|s| s.len() <= 255 && !s.chars().any(char::is_control))
}

/// Openings that lead into every parser, so that random bytes get past the first comparison.
const OPENINGS: [&[u8]; 44] = [
    b"",
    b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
    b"\x80\x2e\x01\x03\x01",
    b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03",
    b"\x17\x03\x03\x00\x20",
    b"SSH-2.0-x\r\n\x00\x00\x00\x40\x04\x14",
    b"GET / HTTP/1.1\r\nHost: ",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 407 \r\ncontent-length: 18446744073709551615\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x05\x01",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    b"220 mail ESMTP\r\n",
    b"EHLO x\r\nSTARTTLS\r\n",
    b"220 x\r\n502 no\r\n250 ok\r\n220 go\r\n",
    b"FOO\r\nEHLO x\r\nSTARTTLS\r\n",
    b"+OK x\r\n-ERR no\r\n+OK go\r\n",
    b"FOO\r\nSTLS\r\n",
    b"* OK\r\n* BAD\r\na1 OK go\r\n",
    b"\r\n\nFOO /a HTTP/1.1\r\n\r\n",
    b"+OK POP3\r\n",
    b"* OK IMAP\r\n",
    b"\x30\x84\xff\xff\xff\xff\x02\x01\x01\x77",
    b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" as &[u8],
    b"<stream:stream xmlns='jabber:client'><starttls",
    b"\xc0\x00\x00\x00\x01\x08aaaaaaaa\x04bbbb\x00\x7f\xff\xff\xff",
    b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x60\x01\x00\x00\x54\x00\x00\x00\x00\x00\x00\x00\x54",
    b"\x01\x00\x00\x00aaaa",
    b"\x05\x02\x00\x02\x01\x01a\x01b\x05\x01\x00\x03",
    b"\x05\x02\x01\x00\x05\x00\x00\x01",
    b"\x05\x00\x05\x00\x00\x03",
    b"\x04\x01\x00\x50\x00\x00\x00\x01a\0",
    b"\x00\x5a\0\0\0\0\0\0",
    b"\x03\x00\x00\x13\x0e\xe0\0\0\0\0\0\x01\x00\x08\x00\x0b\0\0\0",
    b"\x03\x00\x00\x13\x0e\xd0\0\0\0\0\0\x02\x00\x08\x00\x01\0\0\0",
    b"\x03\x00\x00\x0b\x06\xd0\0\0\0\0\0\x03\x00",
    b"\x12\x01\x00\x1a\0\0\0\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\0\0\0\0\0\0\x01\x12\x01",
    b"\x04\x01\x00\x1a\0\0\0\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\0\0\0\0\0\0\x01\x12\x01",
    b"\0\0\0\x08\x04\xd2\x16\x30\0\0",
    b"G\0\0\0\x20\x60",
    b"\x00\x01\x00\x00\x21\x12\xa4\x42aaaaaaaaaaaa",
    b"\x40\x00\x00",
];

fn opening() -> impl Strategy<Value = Vec<u8>> {
    (0..OPENINGS.len(), vec(any::<u8>(), 0..300), any::<bool>()).prop_map(|(index, rest, text)| {
        let rest = rest.into_iter().map(|b| if text { b % 96 + 32 } else { b });
        OPENINGS[index].iter().copied().chain(rest).collect()
    })
}

/// What alerts there are (RFC 8446 section 6).
const DESCRIPTIONS: [u8; 16] = [0, 10, 20, 22, 40, 42, 46, 47, 48, 51, 70, 80, 90, 100, 112, 120];

/// Payloads of records of alerts: mostly such as stacks send, alone, or two in one record or in two; seldom
/// anything else.
fn alerts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let legal = || {
        (1u8..=2, prop::sample::select(DESCRIPTIONS.to_vec())).prop_map(|(level, of)| vec![level, of]).boxed()
    };
    prop_oneof![
        1 => Just(Vec::new()),
        4 => legal().prop_map(|one| vec![one]),
        3 => (legal(), legal()).prop_map(|(one, other)| vec![one, other]),
        3 => (legal(), legal()).prop_map(|(one, other)| vec![[one, other].concat()]),
        1 => vec(vec(any::<u8>(), 0..5), 1..3),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_all_that_leaves_is_presentable(client in opening(), server in opening(), ended: bool, midstream: (bool, bool)) {
        prop_assert!(presentable(&look_each(&client, &server, ended, midstream)));
        let one = inspect_datagrams(&[&client, &server], &[&server, &client], Hint::default());
        prop_assert!(presentable(&one));
    }

    #[test]
    fn random_bytes_are_never_encrypted(client in vec(any::<u8>(), 0..600), server in vec(any::<u8>(), 0..600), ended: bool, midstream: (bool, bool)) {
        prop_assert!(!encrypted(&look_each(&client, &server, ended, midstream)));
        prop_assert!(!encrypted(&inspect_datagrams(&[&client], &[&server], Hint::default())));
    }

    #[test]
    fn readable_text_is_never_encrypted(client in "[ -~\r\n]{0,300}", server in "[ -~\r\n]{0,300}", ended: bool, midstream: bool) {
        prop_assert!(!encrypted(&look(client.as_bytes(), server.as_bytes(), ended, midstream)));
    }

    /// What opens like a protocol and goes on at random: what was settled stays, but for a yes that is taken back.
    #[test]
    fn settled_answers_stay(client in opening(), server in opening(), cuts in vec((any::<bool>(), 1usize..60), 0..30), midstream: (bool, bool)) {
        let (mut c, mut s) = (0usize, 0usize);
        let mut settled: Option<Inspection> = None;
        for (from_client, n) in cuts.into_iter().chain([(true, 1000), (false, 1000)]) {
            if from_client { c = (c + n).min(client.len()) } else { s = (s + n).min(server.len()) }
            let now = look_each(&client[..c], &server[..s], false, midstream);
            if let Some(before) = &settled {
                if encrypted(before) && !encrypted(&now) {
                    return Ok(());
                }
                prop_assert_eq!(before, &now);
            } else if now.settled {
                settled = Some(now);
            }
        }
        if let Some(settled) = settled {
            let whole = look_each(&client, &server, true, midstream);
            prop_assert!(settled.facts == whole.facts || encrypted(&settled) && !encrypted(&whole));
        }
    }

    /// Certificates with any bytes changed: whatever they say can be shown, and nothing panics.
    #[test]
    fn spoilt_certificates_do_no_harm(at in 80usize..1000, bytes in vec(any::<u8>(), 1..40), name in prop::sample::select(vec!["tls12_ecdhe", "tls12_mutual", "tls12_ecdsa", "tls10"])) {
        let (mut client, mut server) = (fixture(&format!("{name}.client")), fixture(&format!("{name}.server")));
        for side in [&mut client, &mut server] {
            let end = (at + bytes.len()).min(side.len());
            if at < end {
                side[at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
        prop_assert!(presentable(&look(&client, &server, true, false)));
    }

    /// A handshake and a protected record behind it, then plaintext where the next one should begin.
    #[test]
    fn a_handshake_for_show_does_not_hide_what_follows(name in prop::sample::select(vec!["tls13", "tls12_ecdhe", "tls13_mutual", "tls13_resumed"]), server_too: bool) {
        // Up to the first protected record, included.
        let begun = |bytes: &[u8]| {
            let (mut at, mut switched) = (0, false);
            while let Some(header) = bytes.get(at..at + 5) {
                at += 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
                if header[0] == 23 || header[0] == 22 && switched {
                    break;
                }
                switched |= header[0] == 20;
            }
            bytes[..at.min(bytes.len())].to_vec()
        };
        let (client, server) = (fixture(&format!("{name}.client")), fixture(&format!("{name}.server")));
        let text = b"and now for something in the clear, hidden behind a handshake ".repeat(40);
        let client = [&begun(&client)[..], &text].concat();
        let server = if server_too { [&begun(&server)[..], &text].concat() } else { server };
        prop_assert!(!encrypted(&look(&client, &server, true, false)));
    }

    /// The same behind what settles the answer, or behind alerts in the clear, where it was captured with it: as
    /// it is, or as a record.
    #[test]
    fn nothing_hides_what_follows_in_the_clear(
        name in prop::sample::select(vec!["tls13", "tls12_ecdhe", "tls13_mutual", "tls13_resumed"]),
        random in vec(any::<u8>(), 24..200),
        records in 0usize..4,
        alerts in alerts(),
        framed: bool,
        (client_too, server_too) in prop::sample::select(vec![(true, true), (true, false), (false, true)]),
        ended: bool,
    ) {
        let text = b"and now for something in the clear, hidden behind a handshake ".repeat(40);
        let record = |kind: u8, payload: &[u8]| {
            [&[kind, 3, 3][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
        };
        let behind = |bytes: Vec<u8>, too: bool| {
            let mut whole = bytes;
            if too {
                whole.extend(record(23, &random).repeat(records));
                for payload in &alerts {
                    whole.extend(record(21, payload));
                }
                if framed { whole.extend(record(23, &text)) } else { whole.extend_from_slice(&text) }
            }
            whole
        };
        let client = behind(fixture(&format!("{name}.client")), client_too);
        let server = behind(fixture(&format!("{name}.server")), server_too);
        prop_assume!(records_of(&client) <= 32 && records_of(&server) <= 32);
        prop_assert!(!encrypted(&look(&client, &server, ended, false)));
    }

    /// Records whose first bytes look protected, and that go on in words.
    #[test]
    fn a_record_that_goes_on_in_words_is_not_encrypted(front in vec(any::<u8>(), 0..400), name in prop::sample::select(vec!["tls13", "tls12_ecdhe"])) {
        let text = b"and now for something in the clear, behind what looks protected ".repeat(4);
        let payload = [&front[..], &text].concat();
        let record = [&[23, 3, 3][..], &(payload.len() as u16).to_be_bytes(), &payload].concat();
        let client = [fixture(&format!("{name}.client")), record.clone()].concat();
        let server = [fixture(&format!("{name}.server")), record].concat();
        prop_assert!(!encrypted(&look(&client, &server, true, false)));
    }

    /// A handshake that is broken off anywhere, and goes on in the clear: not encrypted.
    #[test]
    fn a_handshake_that_goes_on_in_the_clear_is_not_encrypted(cut in 0usize..1500, name in prop::sample::select(vec!["tls13", "tls12_ecdhe", "tls10", "tls13_mutual"])) {
        let (client, server) = (fixture(&format!("{name}.client")), fixture(&format!("{name}.server")));
        let hello = 5 + usize::from(u16::from_be_bytes([client[3], client[4]]));
        let mut client = client[..hello].to_vec();
        let mut server = server[..cut.min(server.len())].to_vec();
        client.extend_from_slice(&b"and now for something in the clear ".repeat(100));
        server.extend_from_slice(&b"and now for something in the clear ".repeat(100));
        prop_assert!(!encrypted(&look(&client, &server, true, false)));
    }
}

#[test]
fn records_that_hold_text_are_not_encrypted() {
    let client_hello = fixture("tls13.client");
    let server_hello = fixture("tls13.server");
    let first = |bytes: &[u8]| bytes[..5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]))].to_vec();
    let text = b"this is a record of application data, in the clear. ";
    let mut record = vec![23, 3, 3, 0, text.len() as u8];
    record.extend_from_slice(text);
    let (mut client, mut server) = (first(&client_hello), first(&server_hello));
    client.extend(record.repeat(5));
    server.extend(record.repeat(5));
    assert!(!encrypted(&look(&client, &server, true, false)));
    assert!(!encrypted(&look(&record.repeat(5), &record.repeat(5), true, true)));
}

#[test]
fn one_side_of_a_handshake_is_not_encrypted() {
    for name in ["tls13", "tls12_ecdhe", "ssh_login", "smtp_starttls"] {
        let (client, server) = (fixture(&format!("{name}.client")), fixture(&format!("{name}.server")));
        assert!(!encrypted(&look(&client, &[], true, false)), "{name}");
        assert!(!encrypted(&look(&[], &server, true, false)), "{name}");
    }
}

#[test]
fn an_established_connection_shows_from_its_middle() {
    let server = fixture("tls13_mutual.server");
    // The records after the handshake begin with the first of 16 kB or so; find record starts.
    let starts: Vec<usize> = {
        let (mut at, mut starts) = (0, Vec::new());
        while let Some(header) = server.get(at..at + 5) {
            starts.push(at);
            at += 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
        }
        starts
    };
    let after_hello = starts.iter().find(|at| server[**at] == 23).unwrap();
    let inspection = look(&[], &server[*after_hello..], true, true);
    assert!(encrypted(&inspection));
    assert_eq!(inspection.facts.tls.unwrap().version, None);
    // From inside a record, too: the next ones chain.
    assert!(encrypted(&look(&[], &server[after_hello + 9..], true, true)));
    // Two records are not enough.
    let two = &server[*after_hello..starts[starts.iter().position(|s| s == after_hello).unwrap() + 2]];
    assert!(!encrypted(&look(&[], two, true, true)));
}

#[test]
fn what_is_left_is_readable_opaque_too_little_or_silent() {
    let unknown = |reason| Protection::Unknown(reason);
    let readable = Protection::Plaintext(Plain::Readable);
    let noise: Vec<u8> = (0..600u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let structured: Vec<u8> = (0..600u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(look(b"", b"", false, false).facts.protection, unknown(UnknownReason::Silent));
    assert_eq!(look(b"\x07", b"", true, false).facts.protection, unknown(UnknownReason::TooFew));
    assert_eq!(look(b"ping", b"pong", true, false).facts.protection, readable);
    assert_eq!(look(b"my own protocol says hello\n", b"", false, false).facts.protection, readable);
    assert_eq!(look(&noise, &noise, false, false).facts.protection, unknown(UnknownReason::Opaque));
    assert_eq!(look(&structured, b"", true, false).facts.protection, readable);
    assert_eq!(look(&noise, b"", true, true).facts.protection, unknown(UnknownReason::OpenedBefore));
}

/// Open and silent before we started: its handshake is there in full.
#[test]
fn a_handshake_seen_whole_counts_whenever_the_connection_was_opened() {
    let whole = look(&fixture("tls13.client"), &fixture("tls13.server"), false, true);
    assert!(encrypted(&whole) && whole.settled);
}

#[test]
fn half_of_a_connection_says_what_it_can() {
    let start = fixture("tls13.client");
    let hello = 5 + usize::from(u16::from_be_bytes([start[3], start[4]]));
    let record = [&[23, 3, 3, 0, 32][..], &start[11..43]].concat().repeat(4);
    let lost = look_each(&start[..hello], &record, true, (false, true));
    assert!(encrypted(&lost));
    assert_eq!(lost.facts.tls.unwrap().server_name.as_deref(), Some("www.example.org"));
    let unanswered = look_each(&start[..hello], &[], true, (false, true));
    assert_eq!(unanswered.facts.protection, Protection::Unknown(UnknownReason::FirstBytesLost));
    let web = look_each(&fixture("http_get.client"), b"\x00\x01", true, (false, true));
    assert_eq!(web.facts.protection, Protection::Plaintext(Plain::Protocol(dissect::Protocol::Http)));
    let directory = look_each(&fixture("ldap_simple_bind.client"), &record, true, (false, true));
    assert!(!encrypted(&directory));
}

/// A greeting or a command that is too long for one is none, whether its end has come by now or not.
#[test]
fn the_late_end_of_a_line_that_is_too_long_changes_no_settled_answer() {
    let long = [&b"* OK [CAPABILITY IMAP4rev1] "[..], &[b'x'; 3000], b"\r\na1 OK done\r\n"].concat();
    let command = [&b"a1 CAPABILITY "[..], &[b'x'; 1200], b"\r\na2 LOGIN who secret\r\n"].concat();
    let short = b"* OK IMAP4rev1 ready\r\n* CAPABILITY IMAP4rev1 STARTTLS\r\na1 OK done\r\na2 OK in\r\n";
    let asks = [&b"a1 CAPABILITY\r\na2 STARTTLS\r\n"[..], &fixture("tls13.client")].concat();
    stays_settled(&asks, &long);
    stays_settled(&command, short);
}

/// A proxy refused, whatever else its answer says.
#[test]
fn a_tunnel_that_was_refused_stays_refused_when_the_length_of_the_answer_is_none() {
    let connect = b"CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n\r\n";
    for length in [&b"0\xff"[..], b"-1", b"", b"99999999999999999999999", b"7, 8"] {
        let refused = [b"HTTP/1.1 403 Forbidden\r\nContent-Length: ", length, b"\r\n\r\n"].concat();
        assert_eq!(look(connect, &refused, true, false).facts.upgrade, Some(Upgrade::Refused));
        stays_settled(connect, &refused);
        // No length says where the next answer begins.
        let asked = [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: ", length].concat();
        let asked = [&asked[..], b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", &fixture("tls13.server")].concat();
        let again = [&connect[..], connect, &fixture("tls13.client")].concat();
        assert!(!encrypted(&look(&again, &asked, true, false)));
        stays_settled(&again, &asked);
    }
}

#[test]
fn a_request_line_that_is_none_while_it_comes_is_none_when_it_has_come() {
    for line in [&b"CONNECT ?a\r\0 HTTP/1.1\r\n\r\n"[..], b"GET /a\x01b HTTP/1.1\r\n\r\n"] {
        assert!(!matches!(look(line, b"", true, false).facts.protocol, Some(dissect::Protocol::Http)));
        stays_settled(line, b"220 mail.example.org ready\r\n");
    }
}

/// A proxy that answers CONNECT with anything but a tunnel has refused it, whatever else the client asked for.
#[test]
fn an_upgrade_that_is_asked_for_with_connect_is_none() {
    let asked = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nUpgrade: TLS/1.0\r\n\r\n";
    let answer = [&b"HTTP/1.1 101 Switching Protocols\r\n\r\n"[..], b"no TLS"].concat();
    assert_eq!(look(asked, &answer, true, false).facts.upgrade, Some(Upgrade::Refused));
    stays_settled(asked, &answer);
}

/// What a server of XMPP says behind its features offers nothing, and its first answer to STARTTLS counts.
#[test]
fn what_xmpp_says_later_changes_no_settled_answer() {
    let stream = b"<stream:stream xmlns='jabber:client'>";
    let logs_in = [&stream[..], b"<auth>a</auth>"].concat();
    let late = [&stream[..], b"<stream:features></stream:features><starttls/>"].concat();
    assert_eq!(look(&logs_in, &late, true, false).facts.upgrade, None);
    stays_settled(&logs_in, &late);
    let asks = [&stream[..], b"<starttls/>"].concat();
    let both = [&stream[..], b"<stream:features></stream:features><failure/><proceed/>"].concat();
    assert_eq!(look(&asks, &both, true, false).facts.upgrade, Some(Upgrade::Refused));
    stays_settled(&asks, &both);
}

/// However they are cut, and whichever comes first.
fn stays_settled(client: &[u8], server: &[u8]) {
    let last = look(client, server, true, false);
    for n in 0..=client.len().max(server.len()) {
        let (c, s) = (client.len().min(n), server.len().min(n));
        for (c, s) in [(c, s), (client.len(), s), (c, server.len())] {
            let now = look(&client[..c], &server[..s], false, false);
            if now.settled {
                assert_eq!(now.facts, last.facts, "{c} {s}");
            }
        }
    }
}
