//! What is said in the clear before a tunnel or an upgrade: credentials and log-ins there are told whatever follows,
//! once, however the bytes are cut; and the answer stays that of what follows.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::activity::{Before, Event, LIMIT, Observer};
use dissect::{
    Cipher, End, Hint, Inspection, Layer, LayerKind, Plain, Prefix, Protection, Protocol, UnknownReason,
    inspect_stream,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

const SECRET: &str = "hunter2-S3cret";
/// `alice:hunter2-S3cret`
const BASIC: &str = "YWxpY2U6aHVudGVyMi1TM2NyZXQ=";

fn fingerprint(secret: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    secret.hash(&mut hasher);
    hasher.finish()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn tls() -> (Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (fixture("tls13.client"), fixture("tls13.server"));
    client.truncate(1500);
    server.truncate(3000);
    (client, server)
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

/// The event in a word, with what it went before.
fn shown(event: &Event) -> String {
    match event {
        Event::Operation(operation) => operation.object.clone().unwrap_or("-".into()),
        Event::Authentication(answer) => {
            let nothing = if answer.presented { "" } else { ", nothing presented" };
            let at = answer.at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            format!("{:?}: {}{nothing}{at}", answer.outcome, answer.code)
        }
        Event::Credential(credential) => {
            let before = match credential.before {
                None => "",
                Some(Before::Tunnel) => ", before a tunnel",
                Some(Before::Upgrade) => ", before an upgrade",
            };
            format!("{} in {}{before}", credential.kind.as_str(), credential.place)
        }
    }
}

/// What is found once it is settled, and nothing of it shows a secret.
fn found(client: &[u8], server: &[u8], inspection: &Inspection) -> Vec<String> {
    let protection = inspection.facts.protection;
    let observer = Observer::behind(&inspection.layers, (client, server), protection, false, &fingerprint);
    let Some(mut observer) = observer else { return Vec::new() };
    observer.feed(End::Client, client, &fingerprint);
    observer.feed(End::Server, server, &fingerprint);
    assert!(observer.held() <= 2 * LIMIT);
    let events = observer.take();
    let told =
        format!("{observer:?} {events:?} {} {:?}", serde_json::to_string(&events).unwrap(), inspection.facts);
    for secret in [SECRET, BASIC, "alice"] {
        assert!(!told.contains(secret), "{told}");
    }
    events.iter().map(shown).collect()
}

/// What is found in the whole, and it is what is found as soon as it is settled, at whatever byte that is.
fn told(client: &[u8], server: &[u8]) -> (Protection, Vec<String>) {
    let last = look(client, server, true);
    let whole = found(client, server, &last);
    let most = client.len().max(server.len());
    let cuts = (0..=most).filter(|n| *n < 250 || n % 23 == 0);
    for (c, s) in cuts.flat_map(|n| [(n, n), (n, most), (most, n)]) {
        let (client, server) = (&client[..c.min(client.len())], &server[..s.min(server.len())]);
        let now = look(client, server, false);
        let here = found(client, server, &now);
        if now.settled && !matches!(now.facts.protection, Protection::Plaintext(_)) {
            assert_eq!(here, whole, "settled at {c}/{s}");
            assert_eq!(now.layers, last.layers, "settled at {c}/{s}");
        }
        // Nothing is told early that is not told in the end, but of a silent tunnel what it was asked for with.
        if now.layers == last.layers {
            let is_told = |event: &String| event.starts_with("CONNECT") || whole.contains(event);
            assert!(here.iter().all(is_told), "at {c}/{s}: {here:?}, not {whole:?}");
        }
    }
    (last.facts.protection, whole)
}

fn connect(credentials: &str) -> String {
    format!("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n{credentials}\r\n")
}

fn with_basic() -> String {
    connect(&format!("Proxy-Authorization: Basic {BASIC}\r\n"))
}

const GRANTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const ASKED: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno";
const TLS: Protection = Protection::Encrypted(Cipher::Tls);
const PROXY_PASSWORD: &str = "password in HTTP Proxy-Authorization header (Basic), before a tunnel";

const SOCKS: &[u8] = b"\x05\x02\x00\x02\x01\x05alice\x0ehunter2-S3cret\x05\x01\x00\x03\x09a.example\x01\xbb";
const SOCKS_GRANTED: &[u8] = b"\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x30\x39";
const SOCKS_PASSWORD: &str = "password in SOCKS 5 password (RFC 1929), before a tunnel";

fn upgrade(to: &str) -> String {
    format!(
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {to}\r\nAuthorization: Basic {BASIC}\r\n\r\n"
    )
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
const UPGRADE_PASSWORD: &str = "password in HTTP Authorization header (Basic), before an upgrade";

/// Behind these TLS begins: what each says, and what is told of it.
fn ways() -> Vec<(Vec<u8>, Vec<u8>, Vec<&'static str>)> {
    let join = |parts: &[&str]| parts.concat().into_bytes();
    let (succeeded, behind) = ("Succeeded: HTTP 200", "Succeeded: HTTP 200 at a.example:443");
    vec![
        (join(&[&with_basic()]), join(&[GRANTED]), vec![PROXY_PASSWORD, succeeded]),
        // Asked for, and given; and given twice.
        (
            join(&[&connect(""), &with_basic()]),
            join(&[ASKED, GRANTED]),
            vec![PROXY_PASSWORD, "Failed: HTTP 407, nothing presented", succeeded],
        ),
        (
            join(&[&with_basic(), &with_basic()]),
            join(&[ASKED, GRANTED]),
            vec![PROXY_PASSWORD, "Failed: HTTP 407", succeeded],
        ),
        // A proxy behind a proxy, with the same password: each is told for itself.
        (
            join(&[&with_basic(), &with_basic(), &with_basic()]),
            join(&[GRANTED, ASKED, GRANTED]),
            vec![PROXY_PASSWORD, succeeded, "Failed: HTTP 407 at a.example:443", behind],
        ),
        (
            [SOCKS, SOCKS].concat(),
            [SOCKS_GRANTED, SOCKS_GRANTED].concat(),
            vec![
                SOCKS_PASSWORD,
                "Succeeded: SOCKS 5 status 0",
                "Succeeded: SOCKS 5 status 0 at a.example:443",
            ],
        ),
        (
            [with_basic().as_bytes(), SOCKS].concat(),
            [GRANTED.as_bytes(), SOCKS_GRANTED].concat(),
            vec![PROXY_PASSWORD, succeeded, SOCKS_PASSWORD, "Succeeded: SOCKS 5 status 0 at a.example:443"],
        ),
        (
            join(&[&with_basic(), &with_basic()]),
            join(&[GRANTED, GRANTED]),
            vec![PROXY_PASSWORD, succeeded, behind],
        ),
        (SOCKS.to_vec(), SOCKS_GRANTED.to_vec(), vec![SOCKS_PASSWORD, "Succeeded: SOCKS 5 status 0"]),
        (
            [b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", SOCKS, with_basic().as_bytes()].concat(),
            [SOCKS_GRANTED, GRANTED.as_bytes()].concat(),
            vec![SOCKS_PASSWORD, "Succeeded: SOCKS 5 status 0", PROXY_PASSWORD, behind],
        ),
        (join(&[&upgrade("TLS/1.2")]), join(&[SWITCHED]), vec![UPGRADE_PASSWORD]),
        // Nothing is there to be told.
        (join(&[&connect("")]), join(&[GRANTED]), vec![]),
        ([b"\x05\x02\x00\x02", &SOCKS[26..]].concat(), [b"\x05\x00", &SOCKS_GRANTED[4..]].concat(), vec![]),
        (b"\x04\x01\x01\xbb\x0a\x00\x00\x01alice\0".to_vec(), b"\0\x5a\0\0\0\0\0\0".to_vec(), vec![]),
    ]
}

#[test]
fn what_goes_before_a_tunnel_is_told_and_what_is_inside_decides() {
    let (tls_client, tls_server) = tls();
    let inside = look(&tls_client, &tls_server, true).facts;
    for (client, server, expected) in ways() {
        let (client, server) = ([&client[..], &tls_client].concat(), [&server[..], &tls_server].concat());
        assert_eq!(told(&client, &server), (TLS, expected.into_iter().map(String::from).collect()));
        assert_eq!(look(&client, &server, true).facts.tls, inside.tls);
    }
}

/// A handshake that is not completed, words, noise, nothing: the password was there all the same.
#[test]
fn whatever_is_in_the_tunnel_the_password_before_it_is_told() {
    let noise: Vec<u8> = (0..600_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let half = &tls().0[..300];
    let words = b"some words of no known protocol\n".repeat(4);
    for (client, server, expected) in ways() {
        if matches!(expected.first(), None | Some(&UPGRADE_PASSWORD)) {
            continue;
        }
        for (inside, protection) in [
            (&noise[..], Protection::Unknown(UnknownReason::Opaque)),
            (half, Protection::Unknown(UnknownReason::Handshake)),
            (&words, Protection::Plaintext(Plain::Readable)),
        ] {
            let (now, events) = told(&[&client[..], inside].concat(), &server);
            assert_eq!(now, protection);
            assert!(expected.iter().all(|it| events.iter().any(|event| event == it)), "{events:?}");
        }
        let (_, events) = told(&client, &server);
        assert!(expected.iter().all(|it| events.iter().any(|event| event == it)), "{events:?}");
    }
}

/// It is asked of somebody else, and somebody else answers: of the proxy nothing is said by it.
#[test]
fn of_what_goes_through_a_tunnel_in_the_clear_credentials_and_log_ins_are_told_and_at_whom() {
    let request = format!("DELETE /b HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {BASIC}\r\n\r\n");
    let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let client = format!("{}{request}", with_basic());
    let (protection, events) = told(client.as_bytes(), format!("{GRANTED}{answer}").as_bytes());
    assert_eq!(protection, Protection::Plaintext(Plain::Protocol(Protocol::Http)));
    assert_eq!(
        events,
        [
            "CONNECT a.example:443",
            PROXY_PASSWORD,
            "Succeeded: HTTP 200",
            "password in HTTP Authorization header (Basic)",
            "Failed: HTTP 401 at a.example:443"
        ]
    );
    // A proxy that refuses, behind one that does not.
    let client = [SOCKS, with_basic().as_bytes()].concat();
    let (_, events) = told(&client, &[SOCKS_GRANTED, ASKED.as_bytes()].concat());
    let expected = [
        SOCKS_PASSWORD,
        "Succeeded: SOCKS 5 status 0",
        "password in HTTP Proxy-Authorization header (Basic)",
    ];
    assert_eq!(events[..3], expected);
    assert_eq!(events[3..], ["Failed: HTTP 407 at a.example:443"]);
}

/// A load balancer's header is no conversation: what follows is between the same two.
#[test]
fn behind_a_proxy_header_a_connection_is_read_as_without() {
    let request = format!("GET /b HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {BASIC}\r\n\r\n");
    let client = format!("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n{request}");
    let (_, events) = told(client.as_bytes(), b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(events, ["GET /b", "password in HTTP Authorization header (Basic)", "Failed: HTTP 401"]);
}

#[test]
fn what_goes_before_another_protocol_in_the_clear_is_told() {
    for (to, protocol, next) in [
        ("h2c", Protocol::Http2, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..]),
        ("websocket", Protocol::Websocket, b"\x81\x85\x01\x02\x03\x04abcde"),
    ] {
        let client = [upgrade(to).as_bytes(), next].concat();
        let (protection, events) = told(&client, SWITCHED.as_bytes());
        assert_eq!(protection, Protection::Plaintext(Plain::Protocol(protocol)));
        assert_eq!(events, ["GET /a", UPGRADE_PASSWORD], "{to}");
    }
}

#[test]
fn a_proxy_that_refuses_a_password_is_a_log_in_that_failed() {
    let (protection, events) = told(&SOCKS[..26], b"\x05\x02\x01\x01");
    assert_eq!(protection, Protection::Plaintext(Plain::Protocol(Protocol::Socks)));
    assert_eq!(events, ["password in SOCKS 5 password (RFC 1929)", "Failed: SOCKS 5 status 1"]);
    // One connection after another, and more on one than are tried to get in.
    for times in 1..6 {
        let (protection, events) =
            told(with_basic().repeat(times).as_bytes(), ASKED.repeat(times).as_bytes());
        assert_eq!(protection, Protection::Plaintext(Plain::Protocol(Protocol::Http)));
        let failures = events.iter().filter(|event| *event == "Failed: HTTP 407").count();
        assert_eq!(failures, times, "{events:?}");
        assert_eq!(events.iter().filter(|event| event.starts_with("password")).count(), 1, "{events:?}");
    }
}

/// As GSSAPI has it (RFC 1961), a message begins like one with a password.
#[test]
fn what_is_no_password_is_not_told_as_one() {
    let client = b"\x05\x02\x01\x02\x01\x01\x00\x04abcdefghijkl";
    assert_eq!(told(client, b"\x05\x01\x01\x01\x00\x04abcd").1, Vec::<String>::new());
    // Not asked for, and not offered.
    assert_eq!(told(b"\x05\x01\x00\x01\x05alice\x0ehunter2-S3cret", b"\x05\x00").1, Vec::<String>::new());
}

/// A tunnel that the proxy connects back through is not read; the password for it is.
#[test]
fn a_password_for_a_tunnel_that_is_not_read_is_told() {
    let mut client = SOCKS.to_vec();
    client[27] = 2;
    let (protection, events) = told(&client, SOCKS_GRANTED);
    assert_eq!(protection, Protection::Unknown(UnknownReason::NotRead));
    assert_eq!(events, [SOCKS_PASSWORD, "Succeeded: SOCKS 5 status 0"]);
}

/// Of every recorded upgrade nothing is told that was within TLS, nor anything made up of what went before.
#[test]
fn recorded_upgrades_show_no_more_than_they_did() {
    let mut upgrades = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".client") else { continue };
        let (client, server) = (fixture(&format!("{name}.client")), fixture(&format!("{name}.server")));
        let inspection = look(&client, &server, true);
        if inspection.layers.is_empty() || inspection.facts.protection != TLS {
            continue;
        }
        upgrades += 1;
        let expected: &[&str] = match name {
            "socks5_tls" => &[SOCKS_PASSWORD, "Succeeded: SOCKS 5 status 0"],
            _ => &[],
        };
        let events = found(&client, &server, &inspection);
        assert!(events.is_empty() || events == expected, "{name}: {events:?}");
    }
    assert!(upgrades > 6, "only {upgrades}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Layers that nobody agreed upon, over any bytes: nothing but what is there is read.
    #[test]
    fn no_layer_reads_beyond_what_is_there(
        which in any::<prop::sample::Index>(),
        ends in vec((any::<bool>(), 0..200_usize, 0..200_usize), 0..5),
        client in vec(any::<u8>(), 0..200),
        server in vec(any::<u8>(), 0..60),
    ) {
        let (mut said, mut answered, _) = which.get(&ways()).clone();
        said.extend(client);
        answered.extend(server);
        let layers: Vec<Layer> = ends.into_iter().map(|(socks, client_at, server_at)| {
            let protocol = if socks { Protocol::Socks } else { Protocol::Http };
            Layer { kind: LayerKind::Tunnel(protocol), client_at, server_at }
        }).collect();
        for protection in [TLS, Protection::Plaintext(Plain::Protocol(Protocol::Http))] {
            let observer = Observer::behind(&layers, (&said, &answered), protection, false, &fingerprint);
            let Some(mut observer) = observer else { continue };
            observer.feed(End::Client, &said, &fingerprint);
            observer.feed(End::Server, &answered, &fingerprint);
            prop_assert!(observer.held() <= 2 * LIMIT);
            let events = observer.take();
            let shown = format!("{events:?}");
            prop_assert!(!shown.contains(SECRET), "{}", shown);
        }
    }
}
