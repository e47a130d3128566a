//! What is said in the clear before a tunnel or an upgrade, of flows whose answers are about what follows.

use super::*;
use crate::model::Severity;

const TLS_CLIENT: &[u8] = include_bytes!("../../../../../dissect/fixtures/tls12_ecdhe.client");
const TLS_SERVER: &[u8] = include_bytes!("../../../../../dissect/fixtures/tls12_ecdhe.server");
/// `alice:Zq7x9-pAssw0rd`
const CONNECT: &[u8] = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\
    Proxy-Authorization: Basic YWxpY2U6WnE3eDktcEFzc3cwcmQ=\r\n\r\n";
const GRANTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const ASKED: &[u8] = b"HTTP/1.1 407 Asked\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
const UPGRADE: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade\r\n\
    Authorization: Basic YWxpY2U6WnE3eDktcEFzc3cwcmQ=\r\n\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n";
const SOCKS: &[u8] = b"\x05\x01\x02\x01\x05alice\x0eZq7x9-pAssw0rd\x05\x01\x00\x03\x09a.example\x01\xbb";
const SOCKS_GRANTED: &[u8] = b"\x05\x02\x01\x00\x05\x00\x00\x01\0\0\0\0\0\0";

/// A connection of the one client that says so much, in pieces of this size, and has TLS behind it if it is granted: what
/// is told of it.
pub(super) fn talk(
    rig: &mut Rig,
    cookie: u64,
    exchange: [&[u8]; 2],
    piece: usize,
    granted: bool,
) -> Vec<Record> {
    let open = FlowEvent {
        owner: Owner { tgid: 7, seen_ns: 1, ..Owner::default() },
        ..rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false)
    };
    rig.feed(Kind::Open, open);
    let mut bytes = [0_u32; 2];
    let inside: [&[u8]; 2] = if granted { [TLS_CLIENT, TLS_SERVER] } else { [b""; 2] };
    for (sides, piece) in [(exchange, piece), (inside, 4096)] {
        for (side, at) in sides.into_iter().zip([0, 1]) {
            for piece in side.chunks(piece) {
                rig.capture(&open, at == 0, bytes[at], piece);
                rig.core.look_at_grown(rig.now_ns);
                bytes[at] += piece.len() as u32;
            }
        }
    }
    let mut told = rig.records();
    rig.pass(5 * SECOND);
    told.extend(rig.records());
    let (sent_bytes, received_bytes) = (bytes[0].into(), bytes[1].into());
    rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, ..open });
    told.extend(rig.records());
    told
}

pub(super) fn of_rule(told: &[Record], rule: Rule) -> Vec<&AlertView> {
    alerts(told).into_iter().filter(|alert| alert.rule == rule).collect()
}

#[test]
fn a_password_before_a_tunnel_is_told_once_and_the_answer_is_that_of_what_is_inside() {
    let tunnel = "HTTP Proxy-Authorization header (Basic)";
    let before = ", for the proxy, before its tunnel";
    let upgraded = ", before the connection went on in another protocol";
    let twice = ([CONNECT, CONNECT].concat(), [ASKED, GRANTED].concat());
    for (exchange, place, when) in [
        ([CONNECT, GRANTED], tunnel, before),
        ([&twice.0, &twice.1], tunnel, before),
        ([SOCKS, SOCKS_GRANTED], "SOCKS 5 password (RFC 1929)", before),
        ([UPGRADE, SWITCHED], "HTTP Authorization header (Basic)", upgraded),
    ] {
        for piece in [4096, 1, 7] {
            let mut rig = Rig::new(settings());
            let told = talk(&mut rig, 1, exchange, piece, true);
            let found = of_rule(&told, Rule::CredentialInClear);
            assert_eq!(found.iter().filter(|alert| alert.state == AlertState::Opened).count(), 1, "{place}");
            let alert = found[0];
            assert!(alert.reason.contains(place) && alert.reason.contains(when), "{}", alert.reason);
            assert_eq!((alert.severity, alert.count), (Severity::High, 1), "{place}");
            assert!(of_rule(&told, Rule::AuthFailures).is_empty());
            let flows = flows(&told);
            let (_, flow) = flows.last().unwrap();
            assert_eq!(flow.verdict.encrypted.answer, Answer::Yes, "{place}: {:?}", flow.verdict.encrypted);
            assert_eq!(flow.verdict.authenticated.answer, Answer::Yes, "{place}");
            // Where it comes in one piece, it is never taken for plaintext; where it does not, not in the end.
            let plaintext = of_rule(&told, Rule::Plaintext);
            assert!(plaintext.is_empty() || piece < 4096, "{place}: {plaintext:?}");
            let last = plaintext.last().map(|alert| alert.state);
            assert!(last.is_none_or(|state| state == AlertState::Resolved), "{place} {piece}: {plaintext:?}");
            let shown = format!("{told:?}");
            for secret in ["Zq7x9-pAssw0rd", "YWxpY2U6WnE3eDktcEFzc3cwcmQ"] {
                assert!(!shown.contains(secret), "{place}");
            }
            assert_eq!(rig.core.watching.watched(), 0);
        }
    }
}

/// It goes on for long, and is looked into like any other that is encrypted.
#[test]
fn it_is_told_while_the_tunnel_lives_and_what_is_inside_is_looked_at_later() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, &[CONNECT, TLS_CLIENT].concat());
    rig.capture(&open, false, 0, &[GRANTED, TLS_SERVER].concat());
    rig.core.look_at_grown(rig.now_ns);
    let mut told = rig.records();
    let mut samples = 0;
    for _ in 0..8 {
        rig.pass(SECOND);
        let progress = rig.event(Kind::Progress, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Progress, FlowEvent { sent_bytes: rig.now_ns / SECOND * 100_000, ..progress });
        let output = rig.core.take_output();
        samples += output.commands.iter().filter(
            |command| matches!(command, Command::Decide { decision, .. } if decision.action == decision::SAMPLE),
        ).count();
        told.extend(output.records);
    }
    assert_eq!(of_rule(&told, Rule::CredentialInClear).len(), 1);
    assert!(samples > 0, "it was never looked into");
}

#[test]
fn guessing_at_a_proxy_is_told() {
    // On one connection, and on one after the other.
    let many = ([CONNECT; 5].concat(), [ASKED; 5].concat());
    let mut rig = Rig::new(settings());
    let told = talk(&mut rig, 1, [&many.0, &many.1], 4096, false);
    assert_eq!(of_rule(&told, Rule::AuthFailures).len(), 1);
    for exchange in [[CONNECT, ASKED], [SOCKS, b"\x05\x02\x01\x01"]] {
        let mut rig = Rig::new(settings());
        for cookie in 1..5 {
            assert!(of_rule(&talk(&mut rig, cookie, exchange, 4096, false), Rule::AuthFailures).is_empty());
        }
        let told = talk(&mut rig, 5, exchange, 4096, false);
        let found = of_rule(&told, Rule::AuthFailures);
        assert_eq!((found.len(), found[0].severity), (1, Severity::High), "{}", found[0].reason);
        // The guess that works.
        let right = if exchange[0] == SOCKS { [SOCKS, SOCKS_GRANTED] } else { [CONNECT, GRANTED] };
        let told = talk(&mut rig, 6, right, 4096, true);
        let found = of_rule(&told, Rule::AuthFailures);
        assert!(found.iter().any(|alert| alert.reason.contains("the guess worked")), "{found:?}");
    }
}

/// The first lets everybody in who has its password; guessed is at the second.
#[test]
fn guessing_at_a_proxy_behind_a_proxy_is_told_of_that_one() {
    let (said, refused) = ([CONNECT, CONNECT].concat(), [GRANTED, ASKED].concat());
    let mut rig = Rig::new(settings());
    for cookie in 1..5 {
        let told = talk(&mut rig, cookie, [&said, &refused], 4096, false);
        assert!(of_rule(&told, Rule::AuthFailures).is_empty());
    }
    let told = talk(&mut rig, 5, [&said, &refused], 4096, false);
    let found = of_rule(&told, Rule::AuthFailures);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].key.ends_with(" → a.example:443"), "{}", found[0].key);
    assert!(found[0].reason.contains("log in at a.example:443, through "), "{}", found[0].reason);
    let told = talk(&mut rig, 6, [&said, &[GRANTED, GRANTED].concat()], 4096, true);
    let found = of_rule(&told, Rule::AuthFailures);
    assert!(found.iter().all(|alert| alert.key.ends_with(" → a.example:443")), "{found:?}");
    assert!(found.iter().any(|alert| alert.reason.contains("the guess worked")), "{found:?}");
}

/// A header of a load balancer is no conversation: what is behind it is, if that can be read.
#[test]
fn a_flow_of_which_nothing_is_read_is_not_counted_as_read_on() {
    const HEADER: &[u8] = b"PROXY TCP4 10.0.0.9 10.0.0.2 5 8080\r\n";
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (with_tls, with_request) = ([HEADER, TLS_CLIENT].concat(), [HEADER, REQUEST].concat());
    for (exchange, reads) in [
        ([HEADER, b""], 0),
        ([&with_tls, TLS_SERVER], 0),
        ([TLS_CLIENT, TLS_SERVER], 0),
        ([REQUEST, b""], 1),
        ([&with_request, b""], 1),
        ([CONNECT, ASKED], 1),
    ] {
        let mut rig = Rig::new(settings());
        talk(&mut rig, 1, exchange, 4096, false);
        assert_eq!(rig.core.watching.asked, reads, "{}", exchange[0].escape_ascii());
    }
}
