//! Real bytes from `fixtures/plain` (its README says where each comes from), and promises that hold for
//! any bytes.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod properties;

use std::path::Path;

use super::{DATAGRAM, STREAM};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol, UnknownReason};

/// A recorded exchange and what has to be said of it.
struct Exchange {
    name: &'static str,
    protocol: Protocol,
    upgraded_at: Option<(usize, usize)>,
    upgrade_offered: bool,
    upgrade_refused: bool,
    detail: Option<&'static str>,
}

const fn plain(name: &'static str, protocol: Protocol, detail: Option<&'static str>) -> Exchange {
    Exchange { name, protocol, upgraded_at: None, upgrade_offered: false, upgrade_refused: false, detail }
}

const STREAMS: &[Exchange] = &[
    plain("postgresql_plain", Protocol::Postgresql, Some("client did not ask for TLS")),
    Exchange {
        upgraded_at: Some((8, 1)),
        upgrade_offered: true,
        ..plain("postgresql_tls", Protocol::Postgresql, None)
    },
    Exchange {
        upgrade_offered: true,
        upgrade_refused: true,
        ..plain("postgresql_refused", Protocol::Postgresql, Some("client asked for TLS, server refused"))
    },
    Exchange {
        upgraded_at: Some((36, 104)),
        upgrade_offered: true,
        ..plain("mysql_tls", Protocol::Mysql, Some("MariaDB 10.11.19 server, TLS"))
    },
    Exchange {
        upgrade_offered: true,
        ..plain("mysql_declined", Protocol::Mysql, Some("MariaDB 10.11.19 server, TLS offered, not used"))
    },
    plain("mysql_plain", Protocol::Mysql, Some("MariaDB 10.11.19 server, no TLS offered")),
    plain("nats_plain", Protocol::Nats, Some("NATS 2.9.10 server, no TLS offered")),
    Exchange {
        upgraded_at: Some((0, 325)),
        upgrade_offered: true,
        ..plain("nats_tls", Protocol::Nats, Some("NATS 2.9.10 server, TLS"))
    },
    plain("redis_resp2", Protocol::Redis, Some("first command SET")),
    plain("redis_resp3", Protocol::Redis, Some("first command HELLO")),
    plain("redis_inline", Protocol::Redis, None),
    plain("memcached_text", Protocol::Memcached, None),
    plain("memcached_get", Protocol::Memcached, None),
    plain("memcached_binary", Protocol::Memcached, Some("binary protocol")),
    plain("mqtt311", Protocol::Mqtt, Some("MQTT 3.1.1")),
    plain("mqtt5", Protocol::Mqtt, Some("MQTT 5")),
    plain("rsync", Protocol::Rsync, None),
    plain("git", Protocol::Git, Some("git-upload-pack")),
    plain("dns_tcp", Protocol::Dns, None),
    plain("kafka", Protocol::Kafka, Some("client confluent-kafka-python 2.16.1-rdkafka-2.16.0")),
    plain("mongodb", Protocol::Mongodb, None),
    plain("cassandra", Protocol::Cassandra, Some("CQL of DataStax Enterprise v2")),
    plain("cassandra_v4", Protocol::Cassandra, Some("CQL v4")),
    plain("cassandra_startup", Protocol::Cassandra, Some("CQL v4")),
    plain("zookeeper", Protocol::Zookeeper, None),
    plain("zookeeper_word", Protocol::Zookeeper, None),
    plain("stomp", Protocol::Stomp, None),
    plain("amqp091", Protocol::Amqp, Some("AMQP 0-9-1")),
    plain("amqp10", Protocol::Amqp1, Some("AMQP 1.0")),
    plain("syslog5424", Protocol::Syslog, None),
    plain("syslog3164", Protocol::Syslog, None),
    plain("syslog_counted", Protocol::Syslog, None),
    plain("statsd_tcp", Protocol::Statsd, None),
    plain("telnet", Protocol::Telnet, None),
    plain("bgp", Protocol::Bgp, None),
];

fn fixture(name: &str, side: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plain").join(format!("{name}.{side}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn prefix(bytes: &[u8]) -> Prefix<'_> {
    Prefix { bytes, ended: false, midstream: false, ..Prefix::default() }
}

fn ask(client: Prefix<'_>, server: Prefix<'_>) -> Vec<Probe> {
    STREAM.iter().map(|probe| probe(client, server, Hint::default())).collect()
}

/// The answers that are yes.
fn yes(answers: &[Probe]) -> Vec<&Found> {
    answers
        .iter()
        .filter_map(|answer| if let Probe::Yes(found) = answer { Some(found) } else { None })
        .collect()
}

#[test]
fn every_exchange_is_recognised_by_one_probe_alone() {
    for exchange in STREAMS {
        let (client, server) = (fixture(exchange.name, "client"), fixture(exchange.name, "server"));
        let answers = ask(prefix(&client), prefix(&server));
        let found = yes(&answers);
        assert_eq!(found.len(), 1, "{}: {found:?}", exchange.name);
        let found = found[0];
        assert_eq!(found.protocol, exchange.protocol, "{}", exchange.name);
        assert_eq!(found.upgraded_at, exchange.upgraded_at, "{}: {found:?}", exchange.name);
        assert_eq!(found.upgrade_offered, exchange.upgrade_offered, "{}: {found:?}", exchange.name);
        assert_eq!(found.upgrade_refused, exchange.upgrade_refused, "{}: {found:?}", exchange.name);
        assert_eq!(found.detail.as_deref(), exchange.detail, "{}", exchange.name);
        assert!(found.settled, "{}", exchange.name);
        if let Some((at, _)) = exchange.upgraded_at {
            assert_eq!(client.get(at..at + 2), Some(&[0x16, 3][..]), "{}: TLS starts there", exchange.name);
        }
    }
}

/// Once the whole exchange is there, nobody waits for more.
#[test]
fn the_other_probes_say_no_or_can_not_know_yet() {
    for exchange in STREAMS {
        let (client, server) = (fixture(exchange.name, "client"), fixture(exchange.name, "server"));
        let ended = |bytes| Prefix { bytes, ended: true, midstream: false, ..Prefix::default() };
        for (index, answer) in ask(ended(&client), ended(&server)).iter().enumerate() {
            assert_ne!(*answer, Probe::Maybe, "{}: probe {index}", exchange.name);
        }
        // A few bytes of a reply can be the start of much.
        if server.len() < 16 {
            continue;
        }
        let waiting: Vec<usize> = ask(prefix(&client), prefix(&server))
            .iter()
            .enumerate()
            .filter_map(|(index, answer)| (*answer == Probe::Maybe).then_some(index))
            .collect();
        assert_eq!(waiting, Vec::<usize>::new(), "{}", exchange.name);
    }
}

/// The one answer that is yes, or none.
fn only(client: &[u8], server: &[u8]) -> Option<Found> {
    let answers = ask(prefix(client), prefix(server));
    let found = yes(&answers);
    assert!(found.len() <= 1, "{found:?}");
    found.first().map(|found| (*found).clone())
}

#[test]
fn a_server_that_speaks_first_is_known_by_its_greeting() {
    for (name, protocol) in [("mysql_tls", Protocol::Mysql), ("nats_tls", Protocol::Nats)] {
        let found =
            only(b"", &fixture(name, "server")[..104.max(325 * usize::from(name == "nats_tls"))]).unwrap();
        assert_eq!((found.protocol, found.settled, found.upgrade_offered), (protocol, false, true), "{name}");
    }
    assert_eq!(only(b"", &fixture("telnet", "server")).unwrap().protocol, Protocol::Telnet);
    assert_eq!(only(b"", &fixture("rsync", "server")).unwrap().protocol, Protocol::Rsync);
}

#[test]
fn nats_says_when_an_offer_of_tls_was_not_taken() {
    let info = b"INFO {\"server_id\":\"A\",\"version\":\"2.10.1\",\"tls_available\":true}\r\n";
    let found = only(b"CONNECT {\"verbose\":false}\r\n", info).unwrap();
    assert_eq!(found.detail.as_deref(), Some("NATS 2.10.1 server, TLS offered, not used"));
    assert!(found.settled && found.upgrade_offered && found.upgraded_at.is_none());
}

#[test]
fn mysql_names_the_error_that_stands_for_a_greeting() {
    let found = only(b"", b"\x17\0\0\0\xff\x10\x04Too many connections").unwrap();
    assert_eq!(found.detail.as_deref(), Some("the server refused the connection with error 1040"));
}

#[test]
fn mysql_tells_the_product_from_the_builders_suffix() {
    let mut greeting = b"\x4a\0\0\0\x0a8.0.36-0ubuntu0.22.04.1\0".to_vec();
    greeting.extend([8, 0, 0, 0]);
    greeting.extend(b"abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15");
    greeting.extend([0; 10]);
    greeting.extend(b"abcdefghijkl\0");
    let found = only(b"", &greeting).unwrap();
    assert_eq!(found.detail.as_deref(), Some("MySQL 8.0.36 server, TLS offered"));
}

#[test]
fn amqp_1_takes_or_refuses_tls() {
    let ask_tls = b"AMQP\x02\x01\0\0";
    assert!(!only(ask_tls, b"").unwrap().settled);
    assert_eq!(only(ask_tls, ask_tls).unwrap().upgraded_at, Some((8, 8)));
    assert!(only(ask_tls, b"AMQP\x03\x01\0\0").unwrap().upgrade_refused);
}

#[test]
fn postgresql_follows_each_request_for_encryption() {
    let gss = b"\0\0\0\x08\x04\xd2\x16\x30";
    let tls = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let startup = b"\0\0\0\x0f\0\x03\0\0user\0a\0\0";
    let said = |client: &[&[u8]], server: &[u8]| only(&client.concat(), server).unwrap();
    assert_eq!(said(&[gss, tls, b"\x16\x03"], b"NS").upgraded_at, Some((16, 2)));
    let granted = said(&[gss, b"\0\0\x02\0"], b"G");
    assert_eq!(
        (granted.upgraded_at, granted.hidden, granted.settled),
        (None, Some(UnknownReason::Handshake), false)
    );
    assert!(said(&[gss, tls, startup], b"NN").upgrade_refused);
    assert!(!said(&[gss, startup], b"N").upgrade_refused, "TLS was not asked for");
    assert!(!said(&[tls], b"N").settled);
    let cancel = only(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02", b"").unwrap();
    assert_eq!(cancel.detail.as_deref(), Some("cancels a query, in the clear"));
}

#[test]
fn kafka_is_proven_by_its_handshake_or_by_an_answer_of_the_same_number() {
    let metadata = b"\0\0\0\x0f\0\x03\0\0\0\0\0\x07\0\x01a\0\0\0\0";
    assert_eq!(only(metadata, b""), None);
    assert_eq!(only(metadata, b"\0\0\0\x0c\0\0\0\x07").unwrap().protocol, Protocol::Kafka);
    assert_eq!(only(metadata, b"\0\0\0\x0c\0\0\0\x08"), None);
    let sasl = b"\0\0\0\x12\0\x11\0\x01\0\0\0\x01\0\x01a\0\x05PLAIN";
    assert_eq!(only(sasl, b"").unwrap().protocol, Protocol::Kafka);
}

#[test]
fn a_session_of_zookeeper_is_no_request_of_kafka() {
    let (client, server) = (fixture("zookeeper", "client"), [0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 0x75, 0x30]);
    assert_eq!(only(&client, &server).unwrap().protocol, Protocol::Zookeeper);
}

#[test]
fn memcached_names_its_binary_protocol_only_with_fitting_lengths() {
    let mut get = [&b"\x80\0\0\x01\0\0\0\0\0\0\0\x01"[..], &[0; 12], b"k"].concat();
    assert_eq!(only(&get, b"").unwrap().protocol, Protocol::Memcached);
    get[4] = 8;
    assert_eq!(only(&get, b""), None);
}

/// In the middle of a connection, strong evidence still names a protocol.
#[test]
fn an_open_connection_is_named_by_a_whole_message() {
    let cases: [(&[u8], &[u8], Protocol); 8] = [
        (b"Q\0\0\0\x0dSELECT 1\0", b"", Protocol::Postgresql),
        (b"", b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I", Protocol::Postgresql),
        (b"\x09\0\0\0\x03SELECT 1", b"", Protocol::Mysql),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", Protocol::Redis),
        (b"", b"MSG room 1 2\r\n21\r\n", Protocol::Nats),
        (b"\x08\0\0\0\0\0\0\xce", b"", Protocol::Amqp),
        (b"\0\0\0\x08\x02\0\0\0", b"", Protocol::Amqp1),
        (b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b", b"", Protocol::Zookeeper),
    ];
    for (client, server, protocol) in cases {
        let part = |bytes| Prefix { bytes, ended: false, midstream: true, ..Prefix::default() };
        let answers = ask(part(client), part(server));
        let named: Vec<Protocol> = yes(&answers).iter().map(|found| found.protocol).collect();
        assert_eq!(named, [protocol]);
    }
}

/// Where one direction was never seen, the other names the right protocol or none.
#[test]
fn one_direction_alone_is_never_taken_for_another_protocol() {
    let mut named = 0;
    for exchange in STREAMS {
        let (client, server) = (fixture(exchange.name, "client"), fixture(exchange.name, "server"));
        let part = |bytes| Prefix { bytes, ended: true, midstream: false, ..Prefix::default() };
        for (client, server) in [(&client[..], &b""[..]), (b"", &server)] {
            for found in yes(&ask(part(client), part(server))) {
                assert_eq!(found.protocol, exchange.protocol, "{}", exchange.name);
                named += 1;
                // TLS that was asked for is never called clear text because the answer is missing.
                let asked = exchange.upgraded_at.is_some() && !client.is_empty();
                assert!(!asked || found.upgraded_at.is_some(), "{}: {found:?}", exchange.name);
            }
        }
    }
    assert!(named > STREAMS.len(), "{named}");
}

#[test]
fn what_others_say_is_none_of_these() {
    let flows: [(&[u8], &[u8]); 8] = [
        (b"GET /set HTTP/1.1\r\nHost: example.org\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03abcdefghijklmnop",
            b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03abcdefghijk",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        (b"EHLO example.org\r\nQUIT\r\n", b"220 mail.example.org ESMTP ready\r\n250 mail\r\n"),
        (b"AUTH PLAIN\r\nQUIT\r\n", b"+OK POP3 server ready\r\n"),
        (b"a1 CAPABILITY\r\n", b"* OK IMAP4rev1 ready\r\n"),
        (
            b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0",
        ),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 Connection established\r\n\r\n"),
    ];
    for (client, server) in flows {
        assert_eq!(only(client, server), None, "{}", String::from_utf8_lossy(client));
    }
}

#[test]
fn datagrams_are_recognised_by_one_probe_alone() {
    let zeros = |count: usize| vec![0_u8; count];
    let query = fixture("dns_udp", "client");
    let announcement =
        b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x04host\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x01"
            .to_vec();
    let dhcp = [&[1, 1, 6, 0][..], &zeros(232), &[0x63, 0x82, 0x53, 0x63, 53, 1, 1]].concat();
    let time = [&[0x23][..], &zeros(39), &[0xe9, 0, 0, 1, 0, 0, 0, 1]].concat();
    let full = [&[0xe3, 2, 6, 0xe9][..], &[7; 36], &[0xe9, 0, 0, 1, 0, 0, 0, 1]].concat();
    let answer = [&[0x24, 2, 6, 0xe9][..], &[9; 20], &full[40..48], &[9; 16]].concat();
    let solicit = b"\x01\x12\x34\x56\0\x01\0\x0a\0\x03\0\x01\x02\0\0\0\0\x01\0\x08\0\x02\0\0".to_vec();
    let cases: [(&[u8], &[u8], u16, Protocol); 12] = [
        (&solicit, b"", 547, Protocol::Dhcp),
        (&query, b"", 53, Protocol::Dns),
        (&query, b"", 5353, Protocol::Mdns),
        (&announcement, b"", 0, Protocol::Mdns),
        (&dhcp, b"", 67, Protocol::Dhcp),
        (&time, b"", 123, Protocol::Ntp),
        (&full, &answer, 123, Protocol::Ntp),
        (b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n", b"", 1900, Protocol::Ssdp),
        (b"\0\x01\0\0\0\x01\0\0get k\r\n", b"", 0, Protocol::Memcached),
        (b"<34>1 2003-10-11T22:14:15.003Z host su - ID47 - failed", b"", 0, Protocol::Syslog),
        (b"<34>Oct 11 22:14:15 host su: failed", b"", 0, Protocol::Syslog),
        (b"page.views:1|c|@0.1|#env:dev\npage.time:32.5|ms", b"", 0, Protocol::Statsd),
    ];
    for (client, server, server_port, protocol) in cases {
        let servers: &[&[u8]] = if server.is_empty() { &[] } else { &[server] };
        let answers: Vec<Probe> =
            DATAGRAM.iter().map(|probe| probe(&[client], servers, Hint { server_port })).collect();
        let named: Vec<Protocol> = yes(&answers).iter().map(|found| found.protocol).collect();
        assert_eq!(named, [protocol], "{}", String::from_utf8_lossy(client));
        assert!(!answers.contains(&Probe::Maybe), "{protocol:?}");
    }
}
