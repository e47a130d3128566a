//! Requests of brokers and of Redis that a server may read otherwise than we do, or that ask for more than they
//! name first.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dissect::activity::{Event, Observer};
use dissect::{End, Plain, Protection, Protocol};

/// `write queue a`; `?` at the end: there may be more.
fn told(protocol: Protocol, client: &[u8]) -> String {
    let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(protocol))).unwrap();
    observer.feed(End::Client, client, &|_: &[u8]| 0);
    let mut shown: Vec<String> = observer
        .take()
        .into_iter()
        .filter_map(|event| match event {
            Event::Operation(operation) => Some(operation.to_string()),
            _ => None,
        })
        .collect();
    if !observer.is_in_step() {
        shown.push("?".into());
    }
    shown.join(", ")
}

/// Each of these ended the connections of others, on Redis 7.
#[test]
fn words_of_redis_in_quotes_do_not_hide() {
    for (command, expected) in [
        ("CLIENT KILL TYPE normal", "admin command CLIENT"),
        ("CLIENT 'KILL' TYPE normal", "admin command CLIENT, ?"),
        ("CLIENT \"K\\x49LL\" TYPE normal", "admin command CLIENT, ?"),
        ("CLIENT K\"ILL\" TYPE normal", "admin command CLIENT, ?"),
        ("CLIENT KILL\tTYPE normal", "admin command CLIENT, ?"),
        ("CLIENT UNBLOCK 5", "admin command CLIENT"),
        ("CLIENT GETNAME", ""),
        ("GET a", "read command GET"),
        ("*1\r\n$4\r\nPING", ""),
        ("*1\rX$4\r\nPING", "?"),
        (" GET a", "read command GET"),
        ("GET 'a", "?"),
    ] {
        assert_eq!(told(Protocol::Redis, format!("{command}\r\n").as_bytes()), expected, "{command}");
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 0, 1][..], &(payload.len() as u32).to_be_bytes(), payload, &[0xce]].concat()
}

/// RabbitMQ, "Sender-selected Distribution".
#[test]
fn a_message_to_further_queues_is_no_message_to_one() {
    let publish = frame(1, &[&[0, 60, 0, 40, 0, 0, 0][..], b"\x08payments", &[0]].concat());
    let properties = |table: &[u8]| {
        let length = (table.len() as u32).to_be_bytes();
        frame(2, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 0][..], &length, table].concat())
    };
    for (table, expected) in [
        (&b"\x02idS\0\0\0\x017"[..], "write queue payments"),
        (b"\x02CCA\0\0\0\x0bS\0\0\0\x06orders", "write queue payments, ?"),
        (b"\x03BCCA\0\0\0\x0bS\0\0\0\x06orders", "write queue payments, ?"),
    ] {
        let client = [&b"AMQP\0\0\x09\x01"[..], &publish, &properties(table), &frame(3, b"7")].concat();
        assert_eq!(told(Protocol::Amqp, &client), expected);
    }
}

/// However much stands before it.
#[test]
fn a_will_behind_what_could_be_read_is_known() {
    let packet = |name: &[u8], cut: usize| {
        let name = [&(name.len() as u16).to_be_bytes()[..], name].concat();
        let body = [&b"\0\x04MQTT\x04\x04\0\x3c"[..], &name, b"\0\x08payments\0\x017"].concat();
        let body = &body[..body.len() - cut];
        let length = [body.len() as u8 | 0x80, (body.len() >> 7) as u8 | 0x80, (body.len() >> 14) as u8];
        [&[0x10][..], &length, body].concat()
    };
    for length in [1, 5000, 16_370, 60_000] {
        assert_eq!(told(Protocol::Mqtt, &packet(&vec![b'a'; length], 0)), "write topic payments");
        // One that ends too early.
        for cut in 4..13 {
            assert_eq!(told(Protocol::Mqtt, &packet(&vec![b'a'; length], cut)), "?", "{cut}");
        }
    }
}

#[test]
fn control_characters_in_a_line_of_nats_are_known() {
    assert_eq!(told(Protocol::Nats, b"SUB a 1\r\nPUB\tb 1\r\n7\r\n"), "read subject a, write subject b");
    assert_eq!(told(Protocol::Nats, b"PING\rSUB a 1\r\n"), "?");
}

/// What is published to where a broker takes orders is no message.
#[test]
fn orders_to_a_broker_are_no_messages() {
    for (subject, expected) in [
        ("orders.new", "write"),
        ("$KV.settings.a", "write"),
        ("$JS.API.STREAM.INFO.ORDERS", "write"),
        ("$JS.API.CONSUMER.MSG.NEXT.ORDERS.mine", "write"),
        ("$JS.API.STREAM.MSG.GET.ORDERS", "write"),
        ("$JS.ACK.API.STREAM.DELETE", "write"),
        ("$JS.API.STREAM.DELETE.ORDERS", "admin"),
        ("$JS.eu.API.STREAM.DELETE.ORDERS", "admin"),
        ("$JS.API.STREAM.PURGE.ORDERS", "admin"),
        ("$JS.API.STREAM.MSG.DELETE.ORDERS", "admin"),
        ("$JS.API.META.LEADER.STEPDOWN", "admin"),
        ("$SYS.REQ.SERVER.PING", "admin"),
    ] {
        let said = told(Protocol::Nats, format!("PUB {subject} 1\r\n7\r\n").as_bytes());
        assert_eq!(said, format!("{expected} subject {subject}"));
    }
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
    for (topic, expected) in
        [("$CONTROL/dynamic-security/v1", "admin"), ("$CONTROL", "write"), ("a", "write")]
    {
        let body = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes(), b"{}"].concat();
        let packet = [&connect[..], &[0x30, body.len() as u8], &body].concat();
        assert_eq!(told(Protocol::Mqtt, &packet), format!("{expected} topic {topic}"));
    }
}

/// A session from before has subscriptions that nobody saw.
#[test]
fn a_session_of_mqtt_that_goes_on_may_read_what_it_had_subscribed_to() {
    let reads = |version: u8, flags: u8, acknowledged: &[u8]| {
        let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Mqtt))).unwrap();
        let connect = [&b"\x10\x0d\0\x04MQTT"[..], &[version, flags, 0, 60, 0, 1, b'a']].concat();
        observer.feed(End::Client, &connect, &|_: &[u8]| 0);
        observer.feed(End::Server, acknowledged, &|_: &[u8]| 0);
        observer.feed(End::Client, b"\x82\x06\0\x01\0\x01b\0", &|_: &[u8]| 0);
        (observer.take().len(), observer.is_in_step())
    };
    assert_eq!(reads(4, 2, b"\x20\x02\0\0"), (1, true));
    assert_eq!(reads(4, 0, b"\x20\x02\0\0"), (1, true));
    assert_eq!(reads(4, 0, b"\x20\x02\x01\0"), (1, false));
    assert!(!reads(5, 0, b"\x20\x03\x01\0\0").1);
    // MQTT 3.1 does not say.
    assert_eq!(reads(3, 2, b"\x20\x02\0\0"), (1, true));
    assert_eq!(reads(3, 0, b"\x20\x02\0\0"), (1, false));
    assert!(reads(3, 0, b"\x20\x02\0\x05").1, "it was refused");
}
