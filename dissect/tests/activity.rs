//! Recorded exchanges of real servers: what each did, however its bytes are cut; and bytes that nobody
//! meant well. `fixtures/activity/README.md` says where they come from.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::activity::{CredentialKind, EVENTS, Event, LIMIT, Observer, Outcome, TopicNames, Verb};
use dissect::{End, Hint, Plain, Prefix, Protection, Protocol, inspect_stream};
use proptest::prelude::*;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

/// Secrets in the recorded exchanges: none may show.
const SECRETS: [&str; 7] = [
    "opensesame-7",
    "wrong-horse-1",
    "wrong-horse-2",
    "another-secret-9",
    "0123456789abcdef0123",
    "k-5f3c8a9d7e1b",
    "abc-def-1234",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/activity")
}

fn fingerprint(secret: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    secret.hash(&mut hasher);
    hasher.finish()
}

type Exchange = Vec<(End, Vec<u8>)>;

fn exchanges() -> Vec<(String, Exchange)> {
    let mut all: Vec<(String, Exchange)> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".exchange").map(String::from)
        })
        .map(|name| {
            let bytes = std::fs::read(folder().join(format!("{name}.exchange"))).unwrap();
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            while let [direction, a, b, c, d, after @ ..] = rest {
                let (piece, next) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
                pieces.push((if *direction == b'c' { End::Client } else { End::Server }, piece.to_vec()));
                rest = next;
            }
            (name, pieces)
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

fn side(exchange: &Exchange, end: End) -> Vec<u8> {
    exchange.iter().filter(|(from, _)| *from == end).flat_map(|(_, piece)| piece.clone()).collect()
}

fn protection(exchange: &Exchange) -> Protection {
    let (client, server) = (side(exchange, End::Client), side(exchange, End::Server));
    let prefix = |bytes| Prefix { bytes, ended: true, midstream: false, ..Prefix::default() };
    inspect_stream(prefix(&client), prefix(&server), Hint::default()).facts.protection
}

fn observe<'a>(protection: Protection, pieces: impl IntoIterator<Item = (End, &'a [u8])>) -> Vec<Event> {
    let mut observer = Observer::new(protection).unwrap();
    for (from, piece) in pieces {
        observer.feed(from, piece, &fingerprint);
        assert!(observer.held() <= 2 * LIMIT);
    }
    observer.take()
}

fn whole(exchange: &Exchange) -> Vec<Event> {
    observe(protection(exchange), exchange.iter().map(|(from, piece)| (*from, &piece[..])))
}

fn describe(event: &Event) -> String {
    match event {
        Event::Operation(operation) => {
            let object = operation.object.as_deref().unwrap_or("-");
            format!("{} {} {object}", operation.verb.as_str(), operation.kind)
        }
        Event::Authentication(authentication) => {
            let nothing = if authentication.presented { "" } else { ", nothing presented" };
            format!("{:?}: {}{nothing}", authentication.outcome, authentication.code)
        }
        Event::Credential(credential) => format!("{} in {}", credential.kind.as_str(), credential.place),
    }
}

/// `expected.txt` stands beside the exchanges. With BLESS in the environment it is written anew.
#[test]
fn every_exchange_shows_what_happened() {
    let mut found = String::new();
    for (name, exchange) in exchanges() {
        found += &format!("{name}\n");
        for event in whole(&exchange) {
            found += &format!("  {}\n", describe(&event));
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(folder().join("expected.txt"), &found).unwrap();
    }
    let expected = std::fs::read_to_string(folder().join("expected.txt")).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn no_secret_is_in_anything_that_leaves() {
    let mut credentials = 0;
    for (name, exchange) in exchanges() {
        let protection = protection(&exchange);
        let mut observer = Observer::new(protection).unwrap();
        for (from, piece) in &exchange {
            observer.feed(*from, piece, &fingerprint);
            let shown = format!("{observer:?}");
            assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{name}: {shown}");
        }
        let events = observer.take();
        credentials += events.iter().filter(|event| matches!(event, Event::Credential(_))).count();
        let shown = format!("{events:?}") + &serde_json::to_string(&events).unwrap();
        assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{name}: {shown}");
    }
    assert!(credentials > 20, "only {credentials} credentials were found: nothing was tested");
}

fn sorted(mut events: Vec<Event>) -> Vec<String> {
    let mut lines: Vec<String> = events.drain(..).map(|event| format!("{event:?}")).collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The pieces cut anew, their order kept.
    #[test]
    fn no_cut_changes_what_is_found(cuts in proptest::collection::vec(1usize..300, 1..80), tiny in any::<bool>()) {
        for (name, exchange) in exchanges() {
            let expected = whole(&exchange);
            let mut sizes = cuts.iter().cycle().map(|n| if tiny { n % 7 + 1 } else { *n });
            let mut pieces = Vec::new();
            for (from, piece) in &exchange {
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    let (head, tail) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                    pieces.push((*from, head));
                    rest = tail;
                }
            }
            prop_assert_eq!(observe(protection(&exchange), pieces), expected, "{}", name);
        }
    }

    /// After a gap anywhere, nothing is found that the whole does not show: no failure and no success
    /// is invented. (Of a log-in the second half alone may show, so kinds and codes are compared.)
    #[test]
    fn a_view_from_the_middle_invents_nothing(from in 0usize..4000, to in 0usize..4000) {
        for (name, exchange) in exchanges() {
            let expected = whole(&exchange);
            let (client, server) = (side(&exchange, End::Client), side(&exchange, End::Server));
            let mut observer = Observer::midstream(protection(&exchange)).unwrap();
            observer.feed(End::Client, &client[from.min(client.len())..], &fingerprint);
            observer.feed(End::Server, &server[to.min(server.len())..], &fingerprint);
            for event in observer.take() {
                if let Event::Authentication(found) = event {
                    let known = expected.iter().any(|event| {
                        matches!(event, Event::Authentication(known) if known.outcome == found.outcome)
                    });
                    prop_assert!(known, "{}: {:?}", name, found);
                }
            }
        }
    }

    /// Any bytes, in any protocol, after any real beginning.
    #[test]
    fn any_bytes_are_read_without_a_panic_and_within_bounds(
        pick in any::<prop::sample::Index>(),
        cut in 0usize..2000,
        rest in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..600)), 0..12),
        gap in any::<bool>(),
    ) {
        let all = exchanges();
        let (_, exchange) = &all[pick.index(all.len())];
        let protection = protection(exchange);
        let mut observer = Observer::new(protection).unwrap();
        let mut left = cut;
        for (from, piece) in exchange {
            let n = piece.len().min(left);
            left -= n;
            observer.feed(*from, &piece[..n], &fingerprint);
        }
        for (from_client, bytes) in rest {
            let from = if from_client { End::Client } else { End::Server };
            if gap {
                observer.gap(from);
            }
            observer.feed(from, &bytes, &fingerprint);
            prop_assert!(observer.held() <= 2 * LIMIT);
        }
        let events = observer.take();
        prop_assert!(events.len() <= EVENTS);
        for event in &events {
            if let Event::Operation(operation) = event
                && let Some(object) = &operation.object
            {
                prop_assert!(object.len() <= 255 && !object.chars().any(char::is_control));
            }
        }
    }
}

/// Everything that the client said first, then the server: passwords wait until their kind is known.
#[test]
fn the_client_may_be_read_before_the_server() {
    for (name, exchange) in exchanges() {
        // Here the client's own words do not say how long they are.
        if name.starts_with("imap") {
            continue;
        }
        let (client, server) = (side(&exchange, End::Client), side(&exchange, End::Server));
        let found = observe(protection(&exchange), [(End::Client, &client[..]), (End::Server, &server[..])]);
        let outcomes = |events: &[Event]| -> Vec<String> {
            events.iter().filter(|e| matches!(e, Event::Authentication(_))).map(describe).collect()
        };
        let expected = whole(&exchange);
        assert_eq!(outcomes(&found), outcomes(&expected), "{name}");
        assert_eq!(sorted(found).len(), sorted(expected).len(), "{name}");
    }
}

fn plaintext(protocol: Protocol) -> Protection {
    Protection::Plaintext(Plain::Protocol(protocol))
}

fn kafka_message(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// No broker with SASL is at hand that records can be made of: by the message definitions.
#[test]
fn kafka_sasl_by_its_definition() {
    let client = [
        kafka_message(&[&[0, 17, 0, 1, 0, 0, 0, 1, 0, 1, b'c'], b"\0\x05PLAIN"]),
        kafka_message(&[&[0, 36, 0, 2, 0, 0, 0, 2, 0, 1, b'c', 0], b"\x15\0alice\0wrong-horse-1", &[0]]),
    ];
    let server = [
        kafka_message(&[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1], b"\0\x05PLAIN"]),
        kafka_message(&[&[0, 0, 0, 2, 0, 0, 58, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
    ];
    let events = observe(
        plaintext(Protocol::Kafka),
        [(End::Client, &client.concat()[..]), (End::Server, &server.concat()[..])],
    );
    let shown: Vec<String> = events.iter().map(describe).collect();
    assert_eq!(
        shown,
        ["password in Kafka SaslAuthenticate (PLAIN)", "Failed: Kafka 58 (SASL_AUTHENTICATION_FAILED)"]
    );
}

/// SaslHandshake, version 0.
fn kafka_handshake(mechanism: &[u8]) -> Vec<u8> {
    kafka_message(&[&[0, 17, 0, 0, 0, 0, 0, 1, 0, 1, b'c', 0, mechanism.len() as u8], mechanism])
}

/// DeleteTopics of `payments`.
fn kafka_delete() -> Vec<u8> {
    kafka_message(&[
        &[0, 20, 0, 0, 0, 0, 0, 2, 0, 1, b'c', 0, 0, 0, 1, 0, 8],
        b"payments",
        &[0, 0, 0x75, 0x30],
    ])
}

/// A broker that wants no SASL refuses version 0 of the handshake, and goes on: what follows is a request like any other.
#[test]
fn kafka_hides_no_request_behind_a_handshake_of_sasl() {
    let (handshake, delete) = (kafka_handshake, kafka_delete());
    let unknown = kafka_message(&[&[0, 120, 0, 0, 0, 0, 0, 2, 0, 1, b'c']]);
    let told = |client: &[u8]| {
        let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
        client.chunks(7).for_each(|piece| observer.feed(End::Client, piece, &fingerprint));
        let told: Vec<String> = observer.take().iter().map(describe).collect();
        (told, observer.is_in_step())
    };
    let deleted = "admin topic payments".to_owned();
    for mechanism in [&b"PLAIN"[..], b"SCRAM-SHA-256", b"GSSAPI", b"FOO"] {
        let first = handshake(mechanism);
        assert_eq!(told(&[&first[..], &delete].concat()), (vec![deleted.clone()], true));
        assert_eq!(told(&[&first[..], &unknown].concat()), (Vec::new(), false));
        // Bytes of GSSAPI are no text, nor a request.
        let token = kafka_message(&[&[0x60, 0x82, 1, 2, 3, 0, 0, 1, 2, 3]]);
        assert_eq!(told(&[&first[..], &token].concat()).1, mechanism == b"GSSAPI");
    }
    let plain = kafka_message(&[b"\0alice\0wrong-horse-1"]);
    let password = "password in Kafka SASL PLAIN".to_owned();
    let client = [&handshake(b"PLAIN")[..], &plain, &delete].concat();
    assert_eq!(told(&client), (vec![password, deleted.clone()], true));
    let scram = kafka_message(&[b"n,,n=alice,r=0123456789"]);
    assert_eq!(told(&[&handshake(b"SCRAM-SHA-256")[..], &scram, &delete].concat()), (vec![deleted], true));
}

/// KIP-43: messages of a mechanism between version 0 of SaslHandshake and the first request, as many as it has.
#[test]
fn kafka_requests_behind_bare_messages_of_any_mechanism_are_read() {
    let (handshake, delete) = (kafka_handshake, kafka_delete());
    let deleted = "admin topic payments".to_owned();
    let taken = "Succeeded: Kafka SASL ok".to_owned();
    let answered = kafka_message(&[&[0, 0, 0, 2, 0, 0, 0, 0]]);
    let bearer = b"n,,\x01auth=Bearer 0123456789abcdef\x01\x01";
    let wrapped = [&[5, 4, 4, 0xff, 0, 12][..], &[0x9d; 26]].concat();
    // What each side says in turn, the client first; GSSAPI's last message is not answered.
    type Exchange<'a> = (&'a [u8], &'a [&'a [u8]], &'a [String]);
    let exchanges: [Exchange<'_>; 3] = [
        (
            b"SCRAM-SHA-256",
            &[b"n,,n=alice,r=a", b"r=ab,s=cw==,i=4096", b"c=biws,r=ab,p=cA==", b"v=cHJvb2Y="],
            &[],
        ),
        (b"GSSAPI", &[&[0x60, 0x82, 1, 2, 3], &[0x60, 0x82, 3, 2, 1], b"", &wrapped, &wrapped], &[]),
        (b"OAUTHBEARER", &[bearer, b""], &["bearer-token in Kafka SASL OAUTHBEARER".to_owned()]),
    ];
    for (mechanism, said, secrets) in exchanges {
        let mut turns = vec![
            (End::Client, handshake(mechanism)),
            (
                End::Server,
                kafka_message(&[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, mechanism.len() as u8], mechanism]),
            ),
        ];
        let ends = [End::Client, End::Server].into_iter().cycle();
        turns.extend(ends.zip(said).map(|(end, token)| (end, kafka_message(&[token]))));
        let unanswered = turns.clone();
        turns.extend([(End::Client, delete.clone()), (End::Server, answered.clone())]);
        for cut in [1, 7, usize::MAX] {
            let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
            for (from, bytes) in &turns {
                bytes.chunks(cut.min(bytes.len())).for_each(|it| observer.feed(*from, it, &fingerprint));
            }
            observer.end();
            let mut told: Vec<String> = observer.take().iter().map(describe).collect();
            let mut expected = [secrets, &[taken.clone(), deleted.clone()]].concat();
            told.sort();
            expected.sort();
            assert_eq!(told, expected, "{mechanism:?}");
            assert!(observer.is_in_step());
        }
        // Where nobody asks for anything behind it, GSSAPI says nothing of how it ended.
        let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
        unanswered.iter().for_each(|(from, bytes)| observer.feed(*from, bytes, &fingerprint));
        observer.end();
        let told: Vec<String> = observer.take().iter().map(describe).collect();
        assert!(!told.iter().any(|it| it.starts_with("Failed")), "{told:?}");
        // What is neither of the mechanism nor a request may have been anything.
        for other in [&[0x27, 0x10, 0, 0, 0, 0, 0, 3, 0, 0][..], &[0xff; 12]] {
            let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
            unanswered.iter().for_each(|(from, bytes)| observer.feed(*from, bytes, &fingerprint));
            observer.feed(End::Client, &kafka_message(&[other]), &fingerprint);
            assert!(!observer.is_in_step());
        }
    }
}

/// Version 0 of SaslHandshake: what follows bears no header, and a broker that refuses it ends the connection.
#[test]
fn kafka_sasl_without_headers_ends_where_it_is_refused() {
    let client = [
        kafka_message(&[&[0, 17, 0, 0, 0, 0, 0, 1, 0, 1, b'c'], b"\0\x05PLAIN"]),
        kafka_message(&[b"\0alice\0wrong-horse-1"]),
    ];
    let handshake = kafka_message(&[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1], b"\0\x05PLAIN"]);
    let taken = [handshake.clone(), kafka_message(&[])].concat();
    for (server, outcome) in
        [(&handshake, "Failed: Kafka SASL, ended without an answer"), (&taken, "Succeeded: Kafka SASL ok")]
    {
        let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
        for (from, bytes) in [(End::Client, &client.concat()), (End::Server, server)] {
            observer.feed(from, bytes, &|secret: &[u8]| secret.len() as u64);
        }
        observer.end();
        observer.end();
        let shown: Vec<String> = observer.take().iter().map(describe).collect();
        assert_eq!(shown, ["password in Kafka SASL PLAIN", outcome]);
    }
    // Nothing is made of an end where some was not read.
    let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
    observer.feed(End::Client, &client.concat(), &|secret: &[u8]| secret.len() as u64);
    observer.gap(End::Server);
    observer.end();
    assert!(observer.take().iter().all(|event| matches!(event, Event::Credential(_))));
}

/// Fetch of version 13 names topics by id, and Metadata tells the ids.
#[test]
fn kafka_topics_by_id() {
    let id = [7u8; 16];
    let metadata = kafka_message(&[&[0, 3, 0, 12, 0, 0, 0, 1, 0, 1, b'c', 0], &[0]]);
    let answer = kafka_message(&[
        &[0, 0, 0, 1, 0],
        &[0, 0, 0, 0],
        // One broker, the cluster, the controller.
        &[2, 0, 0, 0, 1, 2, b'h', 0, 0, 0x23, 0x84, 0, 0],
        &[0, 0, 0, 0, 1],
        // One topic without partitions.
        &[2, 0, 0, 9],
        b"payments",
        &id,
        &[0, 1, 0, 0, 0, 0, 0, 0],
    ]);
    let fetch = kafka_message(&[
        &[0, 1, 0, 13, 0, 0, 0, 2, 0, 1, b'c', 0],
        &[0xff; 4],
        &[0; 4 + 4 + 4 + 1 + 8],
        &[2],
        &id,
        &[1, 0, 1, 1, 0],
    ]);
    let pieces = [(End::Client, &metadata[..]), (End::Server, &answer[..]), (End::Client, &fetch[..])];
    let shown: Vec<String> = observe(plaintext(Protocol::Kafka), pieces).iter().map(describe).collect();
    assert_eq!(shown, ["read topic payments"]);
    // The names come over another connection, before or after.
    let names = TopicNames::default();
    let reader = || Observer::new(plaintext(Protocol::Kafka)).unwrap().sharing(&names);
    let (mut early, mut other, mut late) = (reader(), reader(), reader());
    early.feed(End::Client, &fetch, &fingerprint);
    assert!(early.take().is_empty() && !early.is_in_step(), "it is not known what was read");
    for (from, piece) in &pieces[..2] {
        other.feed(*from, piece, &fingerprint);
    }
    for reader in [&mut early, &mut late] {
        reader.feed(End::Client, &fetch, &fingerprint);
        assert_eq!(reader.take().iter().map(describe).collect::<Vec<_>>(), ["read topic payments"]);
        assert!(reader.is_in_step());
    }
}

/// Who has two requests of one number wait could have the answer to one taken for that to the other: what stands in records
/// that they wrote themselves, for the names of topics.
#[test]
fn an_answer_that_may_be_to_another_request_names_no_topic() {
    let id = [7u8; 16];
    let request = |key: u8, version: u8, number: u8, body: &[u8]| {
        let flexible: &[u8] = if key == 18 { &[] } else { &[0] };
        kafka_message(&[&[0, key, 0, version, 0, 0, 0, number, 0, 1, b'c'], flexible, body])
    };
    let metadata = |number| request(3, 12, number, &[0]);
    let produce = |acks: u8, number| request(0, 9, number, &[0, 0, acks, 0, 0, 0, 9, 1, 0]);
    let answer = |number: u8| {
        let topic: &[&[u8]] = &[&[2, 0, 0, 7], b"public", &id, &[0, 1, 0, 0, 0, 0, 0, 0]];
        let head: &[&[u8]] = &[&[0, 0, 0, number, 0], &[0; 4], &[1, 0, 0, 0, 0, 1]];
        kafka_message(&[head, topic].concat())
    };
    let fetch = kafka_message(&[
        &[0, 1, 0, 13, 0, 0, 0, 99, 0, 1, b'c', 0],
        &[0xff; 4],
        &[0; 4 + 4 + 4 + 1 + 8],
        &[2],
        &id,
        &[1, 0, 1, 1, 0],
    ]);
    let reads = |sent: &[Vec<u8>], answered: u8| {
        let mut observer = Observer::new(plaintext(Protocol::Kafka)).unwrap();
        sent.iter().for_each(|piece| observer.feed(End::Client, piece, &fingerprint));
        observer.feed(End::Server, &answer(answered), &fingerprint);
        observer.feed(End::Client, &fetch, &fingerprint);
        observer.take().iter().map(describe).collect::<Vec<_>>()
    };
    assert_eq!(reads(&[metadata(1)], 1), ["read topic public"]);
    assert_eq!(reads(&[metadata(2), metadata(1)], 1), ["read topic public"]);
    // One that asks for no answer does not wait for any.
    assert_eq!(reads(&[produce(0, 1), metadata(1)], 1), ["read topic public"]);
    assert!(reads(&[produce(1, 1), metadata(1)], 1).is_empty());
    assert!(reads(&[metadata(1), metadata(1)], 1).is_empty());
    let many: Vec<Vec<u8>> = (0..300u16).map(|_| request(18, 0, 200, &[])).collect();
    assert!(reads(&[&many[..1], &[metadata(1)]].concat(), 1) == ["read topic public"]);
    assert!(reads(&[&many[..], &[metadata(1)]].concat(), 1).is_empty());
    let numbered: Vec<Vec<u8>> = (0..=255u8).rev().map(|number| request(18, 0, number, &[])).collect();
    assert!(reads(&[&numbered[..255], &[metadata(0)]].concat(), 0) == ["read topic public"]);
    assert!(reads(&[&[request(18, 0, 7, &[])][..], &numbered[..0], &[metadata(7)]].concat(), 7).is_empty());
}

/// By RFC 5802 the broker's word on a proof may come without error 58, and its question is no answer.
#[test]
fn kafka_scram_ends_with_a_verdict() {
    let ask = |text: &[u8]| {
        let length = [text.len() as u8 + 1];
        kafka_message(&[&[0, 36, 0, 2, 0, 0, 0, 2, 0, 1, b'c', 0], &length, text, &[0]])
    };
    let answer = |text: &[u8]| {
        let length = [text.len() as u8 + 1];
        kafka_message(&[&[0, 0, 0, 2, 0, 0, 0, 0], &length, text, &[0; 9]])
    };
    for (verdict, expected) in [
        (&b"v=cHJvb2Y="[..], "Succeeded: Kafka SASL ok"),
        (b"e=invalid-proof", "Failed: Kafka SASL SCRAM error"),
    ] {
        let pieces = [
            (End::Client, ask(b"n,,n=alice,r=a")),
            (End::Server, answer(b"r=ab,s=cw==,i=4096")),
            (End::Client, ask(b"c=biws,r=ab,p=cA==")),
            (End::Server, answer(verdict)),
        ];
        let pieces = pieces.iter().map(|(from, piece)| (*from, &piece[..]));
        let shown: Vec<String> = observe(plaintext(Protocol::Kafka), pieces).iter().map(describe).collect();
        assert_eq!(shown, [expected]);
    }
}

/// MQTT 3.1.1, 3.2.2.3, and MQTT 5, 3.2.2.2.
#[test]
fn every_refusal_of_an_mqtt_broker_by_its_specification() {
    for (level, code, expected) in [
        (4, 4, "Failed: MQTT CONNACK 4"),
        (4, 5, "Failed: MQTT CONNACK 5"),
        (5, 0x86, "Failed: MQTT CONNACK 0x86"),
        (5, 0x87, "Failed: MQTT CONNACK 0x87"),
    ] {
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        // A user name and a password.
        let payload =
            [&[0, 4][..], b"MQTT", &[level, 0xc2, 0, 9], properties, b"\0\x01c\0\x01u\0\x01p"].concat();
        let connect = [&[0x10, payload.len() as u8][..], &payload].concat();
        let refused = [&[0x20, 2 + properties.len() as u8, 0, code][..], properties].concat();
        let events =
            observe(plaintext(Protocol::Mqtt), [(End::Client, &connect[..]), (End::Server, &refused[..])]);
        let shown: Vec<String> = events.iter().map(describe).collect();
        assert!(shown.iter().any(|one| one == expected), "{expected}: {shown:?}");
    }
}

fn mongodb_message(code_and_body: &[u8]) -> Vec<u8> {
    let length = (16 + 5 + code_and_body.len()) as u32;
    [&length.to_le_bytes()[..], &[0; 8], &2013u32.to_le_bytes(), &[0; 5], code_and_body].concat()
}

fn document(elements: &[u8]) -> Vec<u8> {
    let length = (4 + elements.len() + 1) as u32;
    [&length.to_le_bytes()[..], elements, &[0]].concat()
}

#[test]
fn mongodb_error_18_by_its_specification() {
    let start = document(b"\x10saslStart\0\x01\0\0\0\x02mechanism\0\x0e\0\0\0SCRAM-SHA-256\0");
    let failed = document(
        &[&b"\x01ok\0\0\0\0\0\0\0\0\0"[..], b"\x02errmsg\0\x02\0\0\0x\0", b"\x10code\0\x12\0\0\0"].concat(),
    );
    let insert = document(b"\x02insert\0\x02\0\0\0t\0");
    let events = observe(
        plaintext(Protocol::Mongodb),
        [
            (End::Client, &mongodb_message(&start)[..]),
            (End::Server, &mongodb_message(&failed)[..]),
            (End::Client, &mongodb_message(&insert)[..]),
        ],
    );
    let shown: Vec<String> = events.iter().map(describe).collect();
    assert_eq!(shown, ["Failed: MongoDB 18 (AuthenticationFailed)", "write command insert"]);
}

fn http(request: &str) -> Vec<Event> {
    observe(plaintext(Protocol::Http), [(End::Client, request.as_bytes())])
}

#[test]
fn tokens_say_what_they_are_for_and_are_not_told() {
    // {"alg":"none"}.{"exp":4102444800,"iat":1700000000,"scope":"read *","aud":"payments"}
    let token = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMCwic2NvcGUiOiJyZWFkICoiLCJhdWQiOiJwYXltZW50cyJ9.";
    let events = http(&format!("GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"));
    let found = events.iter().find_map(|event| match event {
        Event::Credential(credential) => Some(credential),
        _ => None,
    });
    let credential = found.unwrap();
    assert_eq!(credential.kind, CredentialKind::JsonWebToken);
    let facts = credential.token.as_ref().unwrap();
    assert_eq!(facts.algorithm.as_deref(), Some("none"));
    assert_eq!((facts.expires_at, facts.issued_at), (Some(4_102_444_800), Some(1_700_000_000)));
    assert_eq!(
        (facts.scopes.as_slice(), facts.audience.as_slice()),
        (&["read".into(), "*".into()][..], &["payments".into()][..])
    );
    assert!(!format!("{events:?}").contains("eyJ"));
}

#[test]
fn secrets_by_their_shape() {
    let line = |secret: &str| {
        let text = format!("key={secret} end\n");
        observe(Protection::Plaintext(Plain::Readable), [(End::Client, text.as_bytes())])
    };
    let cases = [
        (format!("AKIA{}", "IOSFODNN7EXAMPLE"), CredentialKind::AwsKey),
        (format!("AIza{}", "a".repeat(35)), CredentialKind::GcpKey),
        (format!("ghp_{}", "b".repeat(36)), CredentialKind::GithubToken),
        (format!("github_pat_{}", "c".repeat(82)), CredentialKind::GithubToken),
        (format!("xoxb-{}", "1234567890-abcdefghij"), CredentialKind::SlackToken),
        ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), CredentialKind::PrivateKey),
    ];
    for (secret, kind) in cases {
        let events = line(&secret);
        assert!(
            matches!(&events[..], [Event::Credential(found)] if found.kind == kind),
            "{secret}: {events:?}"
        );
        assert!(!format!("{events:?}").contains(&secret));
    }
    for harmless in ["AKIAtooshort", "ghp_short", "xoxb-1", "eyJust a word", "-----BEGIN CERTIFICATE-----"] {
        assert_eq!(line(harmless), [], "{harmless}");
    }
}

#[test]
fn signatures_and_digests_are_no_secrets() {
    for header in [
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/x/s3/aws4_request, Signature=ab",
        "Authorization: Digest username=\"a\", response=\"0123456789abcdef\"",
        "Cookie: lang=en; _ga=GA1.2.3.4567890123; csrftoken=abcdefabcdefabcd",
    ] {
        let events = http(&format!("GET /a HTTP/1.1\r\n{header}\r\n\r\n"));
        assert!(matches!(&events[..], [Event::Operation(_)]), "{header}: {events:?}");
    }
}

#[test]
fn a_path_is_told_without_what_may_be_secret() {
    let reset = format!("GET /reset/{}?token=hunter2 HTTP/1.1\r\n\r\n", "a1".repeat(20));
    let shown: Vec<String> = http(&reset).iter().map(describe).collect();
    assert_eq!(shown, ["bearer-token in URL query", "read path GET /reset/…"]);
}

/// Text that looks like the beginning of a secret over and over, and a head that comes byte by byte: the
/// work stays in proportion.
#[test]
fn bytes_made_to_be_slow_are_not() {
    for word in ["eyJ.", "xoxb-", "AIza-", "ghp_ "] {
        let body = word.repeat(1000);
        let request = format!(
            "POST / HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut observer = Observer::new(plaintext(Protocol::Http)).unwrap();
        for _ in 0..500 {
            observer.feed(End::Client, request.as_bytes(), &fingerprint);
        }
        assert!(observer.take().len() <= EVENTS);
    }
    let mut observer = Observer::new(plaintext(Protocol::Http)).unwrap();
    observer.feed(End::Client, b"GET /a HTTP/1.1\r\n", &fingerprint);
    for _ in 0..15_000 {
        observer.feed(End::Client, b"a", &fingerprint);
    }
    observer.feed(End::Client, b": b\r\n\r", &fingerprint);
    observer.feed(End::Client, b"\n", &fingerprint);
    assert_eq!(observer.take().len(), 1);
}

/// A message that is larger than anything held is passed over, and what follows it is read.
#[test]
fn large_bodies_are_passed_over() {
    let length = 10 * LIMIT;
    let put = format!("PUT /a HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    let mut client = put.into_bytes();
    client.extend(std::iter::repeat_n(b'x', length));
    client.extend(b"DELETE /b HTTP/1.1\r\n\r\n");
    let events = observe(plaintext(Protocol::Http), client.chunks(1000).map(|piece| (End::Client, piece)));
    let shown: Vec<String> = events.iter().map(describe).collect();
    assert_eq!(shown, ["write path PUT /a", "write path DELETE /b"]);
}

#[test]
fn what_stands_in_a_body_is_no_answer() {
    let body = "HTTP/1.1 401 Unauthorized\r\n\r\n";
    let server = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for server in [server, chunked] {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let events = observe(
            plaintext(Protocol::Http),
            [(End::Client, &request[..]), (End::Server, server.as_bytes())],
        );
        assert!(events.iter().all(|event| !matches!(event, Event::Authentication(_))), "{events:?}");
    }
}

/// The thousandth request counts like the first, and so does one in a later sample.
#[test]
fn a_failure_is_found_however_late() {
    let mut observer = Observer::new(plaintext(Protocol::Http)).unwrap();
    let request = b"GET /a HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n";
    for _ in 0..1000 {
        observer.feed(End::Client, request, &fingerprint);
        observer.feed(End::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", &fingerprint);
    }
    observer.take();
    let failed = |observer: &mut Observer| {
        observer.feed(End::Client, request, &fingerprint);
        observer.feed(End::Server, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", &fingerprint);
        let is_failure = |event: &Event| matches!(event, Event::Authentication(found) if found.outcome == Outcome::Failed && found.presented);
        observer.take().iter().filter(|event| is_failure(event)).count()
    };
    assert_eq!(failed(&mut observer), 1);
    observer.gap(End::Client);
    observer.gap(End::Server);
    assert_eq!(failed(&mut observer), 1);
}

#[test]
fn statements_by_kind() {
    let query = |sql: &str| {
        let startup = [&8u32.to_be_bytes()[..], &(3u32 << 16).to_be_bytes()].concat();
        let message = [b"Q", &((sql.len() + 5) as u32).to_be_bytes()[..], sql.as_bytes(), &[0]].concat();
        let pieces = [(End::Client, &startup[..]), (End::Client, &message[..])];
        observe(plaintext(Protocol::Postgresql), pieces)
            .into_iter()
            .filter_map(|event| match event {
                Event::Operation(operation) => Some((operation.verb, operation.object.unwrap())),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let one = |verb, kind: &str| vec![(verb, kind.to_owned())];
    assert_eq!(query("select 1"), one(Verb::Read, "SELECT"));
    assert_eq!(query("/* DELETE */ -- DROP\n select 'INSERT; DROP'"), one(Verb::Read, "SELECT"));
    assert_eq!(query("with a as (select 1) insert into t select * from a"), one(Verb::Write, "INSERT"));
    assert_eq!(query("begin; update t set a = 1; commit").as_slice(), one(Verb::Write, "UPDATE"));
    assert_eq!(query("copy t to stdout"), one(Verb::Read, "COPY"));
    assert_eq!(query("copy t (a) from stdin"), one(Verb::Write, "COPY"));
    assert_eq!(
        query("create function f() returns int as $x$ delete from t; $x$ language sql"),
        one(Verb::Admin, "CREATE")
    );
    assert_eq!(query("set search_path = a; show all"), []);
}

/// What the statement hides from a naive reader is found, or known to be hidden.
#[test]
fn statements_do_not_hide() {
    let (postgresql, mysql) = (Protocol::Postgresql, Protocol::Mysql);
    for (protocol, text, expected) in [
        (postgresql, "select /* /* */ ' */ 1; drop table t; --'", "read SELECT, admin DROP"),
        (postgresql, "select '\\'; drop table t; --'", "read SELECT, admin DROP"),
        (postgresql, "select e'\\'; drop table t; --'", "read SELECT"),
        (postgresql, "select 1 # 2; drop table t", "read SELECT, admin DROP"),
        (postgresql, "select a$$; drop table t; -- $$", "read SELECT, admin DROP"),
        (postgresql, "select $1; drop table t; -- $1", "read SELECT, admin DROP"),
        (postgresql, "select $x$; drop table t; $x$", "read SELECT"),
        (postgresql, "prepare p as delete from t", "write DELETE"),
        (postgresql, "declare c cursor for select 1 for update", "read SELECT"),
        (postgresql, "explain analyze insert into t values (1)", "write INSERT"),
        (postgresql, "copy t to program 'sh'", "admin COPY"),
        (postgresql, "with a as (select 1) select * from a", "read SELECT"),
        (postgresql, "select 1; frobnicate", "read SELECT, ?"),
        (mysql, "select 1 /*!50000 into outfile '/tmp/x' */", "write SELECT, ?"),
        (mysql, "select '\\'; drop table t; --'", "read SELECT, ?"),
        (mysql, "select 1--1; drop table t", "read SELECT, admin DROP"),
        (mysql, "select 1 -- ; drop table t", "read SELECT"),
        (mysql, "prepare p from 'delete from t'", "write DELETE"),
        (mysql, "prepare p from @text", "?"),
        (mysql, "execute immediate 'drop table t'", "admin DROP"),
        (mysql, "set session a = 1, global b = 2", "admin SET"),
    ] {
        let mut observer = Observer::new(plaintext(protocol)).unwrap();
        let message = match protocol {
            Protocol::Postgresql => {
                let startup = [&8u32.to_be_bytes()[..], &(3u32 << 16).to_be_bytes()].concat();
                observer.feed(End::Client, &startup, &fingerprint);
                [b"Q", &((text.len() + 5) as u32).to_be_bytes()[..], text.as_bytes(), &[0]].concat()
            }
            _ => [&[text.len() as u8 + 1, 0, 0, 0, 3], text.as_bytes()].concat(),
        };
        observer.feed(End::Client, &message, &fingerprint);
        let mut shown: Vec<String> = observer.take().iter().map(describe).collect();
        shown.iter_mut().for_each(|line| *line = line.replace("statement ", ""));
        if !observer.is_in_step() {
            shown.push("?".into());
        }
        assert_eq!(shown.join(", "), expected, "{text}");
    }
}

/// What is not told is known not to have been: nobody takes silence for innocence.
#[test]
fn what_is_passed_over_is_known() {
    let mqtt = |packet: &[u8]| [&[0x10, 13, 0, 4], &b"MQTT"[..], &[5, 2, 0, 9, 0, 0, 0], packet].concat();
    let produce = |rest: &[u8]| {
        kafka_message(&[&[0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 9], rest])
    };
    let topic = |name: &[u8]| [&[0, name.len() as u8], name, &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
    let long = vec![0; 8000];
    for (protocol, bytes, expected) in [
        (Protocol::Redis, b"*1\r\n$4\r\nPING\r\n*1\r\n$7\r\nFT.DROP\r\n".to_vec(), "?"),
        (Protocol::Redis, b"*2\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n".to_vec(), "admin command CLIENT"),
        (Protocol::Kafka, kafka_message(&[&[0, 58, 0, 0, 0, 0, 0, 1, 0xff, 0xff]]), "?"),
        (
            Protocol::Kafka,
            produce(&[&[0, 0, 0, 1][..], &topic(b"a"), &8000u32.to_be_bytes(), &long].concat()),
            "write topic a",
        ),
        (
            Protocol::Kafka,
            produce(
                &[&[0, 0, 0, 2][..], &topic(b"a"), &8000u32.to_be_bytes(), &long, &topic(b"b"), &[0; 4]]
                    .concat(),
            ),
            "write topic a, ?",
        ),
        (
            Protocol::Kafka,
            produce(&[&[0, 0, 0, 2][..], &topic(b"a"), &[0; 4], &topic(b"b"), &[0; 4]].concat()),
            "write topic a, write topic b",
        ),
        (Protocol::Mqtt, mqtt(b"\x82\x17\0\x01\0\0\x11$share/g/payments\0"), "read topic payments"),
        // By its alias, which was given before, or was not.
        (
            Protocol::Mqtt,
            mqtt(b"\x30\x07\0\x01t\x03\x23\0\x01\x30\x06\0\0\x03\x23\0\x01\x30\x06\0\0\x03\x23\0\x02"),
            "write topic t, write topic -",
        ),
        (
            Protocol::Nats,
            b"SUB _INBOX.a.* 1\r\nSUB _INBOX.> 2\r\nPUB _INBOX.b 0\r\n\r\n".to_vec(),
            "read subject _INBOX.>",
        ),
    ] {
        let mut observer = Observer::new(plaintext(protocol)).unwrap();
        observer.feed(End::Client, &bytes, &fingerprint);
        let mut shown: Vec<String> = observer.take().iter().map(describe).collect();
        if !observer.is_in_step() {
            shown.push("?".into());
        }
        assert_eq!(shown.join(", "), expected, "{protocol:?}");
    }
}

/// RFC 9112 section 2.2: a CR may be missing in front of any LF, and servers take that.
#[test]
fn a_head_may_end_without_a_carriage_return() {
    for end in ["\r\n\r\n", "\n\n", "\n\r\n", "\r\n\n"] {
        let found = http(&format!(
            "GET /public/a HTTP/1.1\r\nHost: x{end}POST /payments/x HTTP/1.1\r\nHost: x\r\n\r\n"
        ));
        let found: Vec<String> = found.iter().map(describe).collect();
        assert_eq!(found, ["read path GET /public/a", "write path POST /payments/x"], "{end:?}");
    }
}

/// The path that is asked for, whatever else looks like one.
#[test]
fn a_url_within_a_url_is_not_the_path() {
    for (target, expected) in [
        ("/private?next=http://a.example/public/", "read path GET /private"),
        ("/private/http://a.example/public/", "read path GET /private/http://a.example/public/"),
        ("http://a.example/public/?b=http://c/d", "read path GET /public/"),
        ("/public/..;a=b/private", "read path GET /public/../private"),
    ] {
        let shown: Vec<String> =
            http(&format!("GET {target} HTTP/1.1\r\n\r\n")).iter().map(describe).collect();
        assert_eq!(shown, [expected], "{target}");
    }
}

/// HTTP/2 frames of both ends; a section of headers each.
struct Http2 {
    encoder: [loona_hpack::Encoder<'static>; 2],
}

impl Http2 {
    fn headers(&mut self, from: End, stream: u32, fields: &[(&str, &str)], cut: usize) -> Vec<u8> {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let block = self.encoder[usize::from(from == End::Server)].encode(fields);
        // One frame, or two with padding and a priority in the first.
        let (first, second) = block.split_at(cut.min(block.len()));
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let length = (payload.len() as u32).to_be_bytes();
            [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
        };
        if second.is_empty() {
            return frame(1, 4, first);
        }
        let padded = [&[3], &[0; 5][..], first, &[0; 3]].concat();
        [frame(1, 0x28, &padded), frame(9, 4, second)].concat()
    }
}

fn http2(cut: usize) -> Vec<(End, Vec<u8>)> {
    let mut ends = Http2 { encoder: [loona_hpack::Encoder::new(), loona_hpack::Encoder::new()] };
    let post = |path| [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    let token = ("authorization", "Bearer opensesame-opensesame");
    let request = |path| {
        post(path).into_iter().chain([("content-type", "application/grpc"), token]).collect::<Vec<_>>()
    };
    let answer = [(":status", "200"), ("content-type", "application/grpc")];
    let data = [&[0, 0, 5, 0, 0, 0, 0, 0, 1], &b"\0\0\0\0\0"[..]].concat();
    vec![
        (End::Client, [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()),
        (End::Server, vec![0, 0, 0, 4, 0, 0, 0, 0, 0]),
        (End::Client, ends.headers(End::Client, 1, &request("/pay.Payments/Send"), cut)),
        (End::Client, data),
        (End::Server, ends.headers(End::Server, 1, &answer, cut)),
        (End::Server, ends.headers(End::Server, 1, &[("grpc-status", "16")], cut)),
        (End::Client, ends.headers(End::Client, 3, &request("/pay.Payments/Read"), cut)),
        (End::Server, ends.headers(End::Server, 3, &answer, cut)),
        (End::Server, ends.headers(End::Server, 3, &[("grpc-status", "0")], cut)),
        (End::Client, ends.headers(End::Client, 5, &[(":method", "GET"), (":path", "/a?b=c")], cut)),
        (End::Server, ends.headers(End::Server, 5, &[(":status", "103")], cut)),
        (End::Server, ends.headers(End::Server, 5, &[(":status", "401")], cut)),
        (
            End::Client,
            ends.headers(End::Client, 7, &[(":method", "GET /public"), (":path", "/private")], cut),
        ),
    ]
}

#[test]
fn http_2_and_grpc_by_their_definition() {
    let expected = [
        "bearer-token in HTTP Authorization header",
        "write path POST /pay.Payments/Send",
        "Failed: gRPC 16 (UNAUTHENTICATED)",
        "write path POST /pay.Payments/Read",
        "Succeeded: gRPC 0",
        "read path GET /a",
        "Failed: HTTP 401, nothing presented",
        "write path -",
    ];
    for cut in [0, 1, 5, 1000] {
        for piece in [1, 7, 10_000] {
            let exchange = http2(cut);
            let pieces =
                exchange.iter().flat_map(|(from, bytes)| bytes.chunks(piece).map(|piece| (*from, piece)));
            let found = observe(plaintext(Protocol::Http2), pieces);
            assert_eq!(found.iter().map(describe).collect::<Vec<_>>(), expected, "{cut} {piece}");
        }
    }
    // After a gap nothing is said, since nothing can be known.
    let mut observer = Observer::new(plaintext(Protocol::Grpc)).unwrap();
    for (position, (from, bytes)) in http2(1000).iter().enumerate() {
        if position == 5 {
            observer.gap(End::Client);
        }
        observer.feed(*from, bytes, &fingerprint);
    }
    assert!(!observer.is_in_step());
    let shown: Vec<String> = observer.take().iter().map(describe).collect();
    assert!(shown.iter().all(|line| !line.contains("Read") && !line.contains("/a")), "{shown:?}");
}

/// RFC 7540 section 3.2: the request that asks for it is answered on stream 1.
#[test]
fn http_2_that_http_1_turns_to_is_read() {
    let ask = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    let basic = "Authorization: Basic Ym9iOmh1bnRlcjI=\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let before = ("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
    for (presents, status, first) in [
        ("", "401", "Failed: HTTP 401, nothing presented"),
        (basic, "401", "Failed: HTTP 401"),
        (basic, "200", "Succeeded: HTTP 200"),
    ] {
        for is_first in [true, false] {
            let mut ends = Http2 { encoder: [loona_hpack::Encoder::new(), loona_hpack::Encoder::new()] };
            let token =
                [(":method", "GET"), (":path", "/b"), ("authorization", "Bearer opensesame-opensesame")];
            let mut exchange: Vec<(End, Vec<u8>)> = vec![
                (End::Client, [ask, presents, "\r\n"].concat().into()),
                (End::Server, switched.into()),
                (End::Server, vec![0, 0, 0, 4, 0, 0, 0, 0, 0]),
                (End::Server, ends.headers(End::Server, 1, &[(":status", status)], 1000)),
                (
                    End::Client,
                    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat(),
                ),
                (End::Client, ends.headers(End::Client, 3, &token, 1000)),
                (End::Server, ends.headers(End::Server, 3, &[(":status", "403")], 1000)),
            ];
            let mut expected = vec!["read path GET /a"];
            if !is_first {
                exchange.splice(0..0, [(End::Client, before.0.into()), (End::Server, before.1.into())]);
                expected.insert(0, "read path GET /0");
            }
            if !presents.is_empty() {
                expected.push("password in HTTP Authorization header (Basic)");
            }
            let then = ["bearer-token in HTTP Authorization header", "read path GET /b", "Failed: HTTP 403"];
            let in_order = [&expected[..], &[first], &then].concat();
            let sides_apart = [&expected[..], &then[..2], &[first], &then[2..]].concat();
            let mut apart = exchange.clone();
            apart.sort_by_key(|(from, _)| *from == End::Server);
            for (exchange, expected) in [(&exchange, in_order), (&apart, sides_apart)] {
                for piece in [1, 7, 10_000] {
                    let pieces = exchange
                        .iter()
                        .flat_map(|(from, bytes)| bytes.chunks(piece).map(|piece| (*from, piece)));
                    let found = observe(plaintext(Protocol::Http), pieces);
                    assert_eq!(found.iter().map(describe).collect::<Vec<_>>(), expected, "{piece}");
                }
                // As it is inspected: it is HTTP/2, and what is said of it does not depend on when it is settled.
                let side = |end| -> Vec<u8> {
                    exchange
                        .iter()
                        .filter(|(from, _)| *from == end)
                        .flat_map(|(_, bytes)| bytes.clone())
                        .collect()
                };
                let (client, server) = (side(End::Client), side(End::Server));
                for held in [&client[..ask.len() + presents.len() + 2], &client[..]].iter() {
                    if !is_first {
                        continue;
                    }
                    let prefix = |bytes| Prefix { bytes, ..Prefix::default() };
                    let inspection = inspect_stream(prefix(held), prefix(&server), Hint::default());
                    assert_eq!(inspection.facts.protocol, Some(Protocol::Http2));
                    assert!(inspection.settled);
                    let protection = inspection.facts.protection;
                    let (layers, held) = (&inspection.layers, (*held, &server[..]));
                    let mut observer =
                        Observer::behind(layers, held, protection, false, &fingerprint).unwrap();
                    observer.feed(End::Client, &client, &fingerprint);
                    observer.feed(End::Server, &server, &fingerprint);
                    assert!(!observer.is_in_step(), "servers may do something else with the first request");
                    let told: Vec<String> = observer.take().iter().map(describe).collect();
                    for wanted in then.iter().chain(&["read path GET /a"]) {
                        assert!(told.iter().any(|told| told == wanted), "{wanted} {told:?}");
                    }
                }
            }
        }
    }
    // Not asked for, refused, or something else: nothing is read as that.
    let pri = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (request, answer) in [
        ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", switched),
        ("GET /a HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", switched),
        ("GET /a HTTP/1.1\r\nUpgrade: h2c, websocket\r\n\r\n", "HTTP/1.1 101 \r\nUpgrade: websocket\r\n\r\n"),
    ] {
        let mut ends = Http2 { encoder: [loona_hpack::Encoder::new(), loona_hpack::Encoder::new()] };
        let status = ends.headers(End::Server, 1, &[(":status", "401")], 1000);
        let pieces = [
            (End::Client, request.as_bytes()),
            (End::Server, answer.as_bytes()),
            (End::Server, &status),
            (End::Client, pri.as_bytes()),
        ];
        let found = observe(plaintext(Protocol::Http), pieces);
        assert_eq!(found.iter().map(describe).collect::<Vec<_>>(), ["read path GET /a"], "{request}");
    }
}

proptest! {
    /// Whatever the bytes of a frame, and whatever they do to the table of headers.
    #[test]
    fn any_http_2_is_read_without_a_panic(
        cut in 0usize..40,
        frames in proptest::collection::vec(
            (any::<bool>(), proptest::sample::select(vec![0u8, 1, 1, 1, 4, 5, 9]), any::<u8>(),
             proptest::collection::vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let mut observer = Observer::new(plaintext(Protocol::Http2)).unwrap();
        for (from, bytes) in http2(cut) {
            observer.feed(from, &bytes, &fingerprint);
        }
        for (from_client, kind, flags, payload) in frames {
            let from = if from_client { End::Client } else { End::Server };
            let frame = [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 9], &payload[..]].concat();
            observer.feed(from, &frame, &fingerprint);
            prop_assert!(observer.held() <= 2 * LIMIT);
        }
        prop_assert!(observer.take().len() <= EVENTS);
    }
}
