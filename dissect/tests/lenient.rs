//! Log-ins written as real servers take them, and not as their documentation has it: each is told, and by the name of
//! its protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dissect::activity::{Event, Observer, Outcome};
use dissect::{End, Hint, Plain, Prefix, Protection, Protocol, inspect_stream};

fn look(client: &[u8], server: &[u8], ended: bool) -> dissect::Inspection {
    let prefix = |bytes| Prefix { bytes, ended, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

/// The protocol; what is settled on the way stays, whichever direction comes first.
fn protocol(client: &[u8], server: &[u8]) -> Option<Protocol> {
    let whole = look(client, server, false);
    for n in 0..=client.len() {
        for server in [&b""[..], &server[..server.len().min(3)], server] {
            let part = look(&client[..n], server, false);
            assert!(!part.settled || part.facts == whole.facts, "{n} of {client:?}: {part:?}");
        }
    }
    for n in 0..=server.len() {
        for client in [&b""[..], &client[..client.len().min(3)], client] {
            let part = look(client, &server[..n], false);
            assert!(!part.settled || part.facts == whole.facts, "{n} of {server:?}: {part:?}");
        }
    }
    match whole.facts.protection {
        Protection::Plaintext(Plain::Protocol(protocol)) => Some(protocol),
        _ => None,
    }
}

/// What is told of an exchange by an observer of what it is recognised as. Secrets are shown by themselves.
fn told(client: &[u8], server: &[u8]) -> String {
    let told = |cut: usize| {
        let Some(mut observer) = Observer::new(look(client, server, false).facts.protection) else {
            return String::new();
        };
        let mut secrets = std::sync::Mutex::new(Vec::new());
        let fingerprint = |secret: &[u8]| {
            let mut secrets = secrets.lock().unwrap();
            secrets.push(String::from_utf8_lossy(secret).into_owned());
            secrets.len() as u64 - 1
        };
        client.chunks(cut).for_each(|piece| observer.feed(End::Client, piece, &fingerprint));
        server.chunks(cut).for_each(|piece| observer.feed(End::Server, piece, &fingerprint));
        let events = observer.take();
        let secrets = secrets.get_mut().unwrap();
        let shown = events.iter().filter_map(|event| match event {
            Event::Authentication(log_in) if log_in.outcome == Outcome::Failed => {
                Some(format!("failed: {}", log_in.code))
            }
            Event::Authentication(log_in) => Some(format!("succeeded: {}", log_in.code)),
            Event::Credential(secret) => {
                Some(format!("{} {}", secret.kind.as_str(), secrets[secret.fingerprint as usize]))
            }
            Event::Operation(_) => None,
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let whole = told(1 << 20);
    assert_eq!(told(1), whole, "another cut of {:?}", String::from_utf8_lossy(client));
    whole
}

/// Each of these was taken for a log-in by Redis 7.
#[test]
fn redis_is_asked_to_log_in_in_any_way_it_takes() {
    for client in [
        "AUTH x1\r\n",
        "\r\nAUTH x1\r\n",
        " \t\r\n\n AUTH x1\n",
        "*2\rX$4\rXAUTH\rX$2\rXx1\rX",
        "*2\r\n$4\r\nAUTHab$2\r\nx1cd",
        "*-1\r\n*0\r\n\n*2\r\n$4\r\nAUTH\r\n$2\r\nx1\r\n",
        "*-77\rX*2\r\n$4\r\nAUTH\r\n$2\r\nx1\r\n",
        "\"AUTH\" \"x1\"\r\n",
        "'auth' 'x1'\r\n",
        "\"\\x41UTH\" \"\\x781\"\r\n",
        "A\"UTH\" x1\r\n",
        "\tAUTH x1\n",
        "AUTH\tx1\r\n",
        " AUTH \x0b\x0c\r x1 \r\n",
        "AUTH default x1\r\n",
        "*5\rX$5\rXHELLO\rX$1\rX3\rX$4\rXAUTH\rX$1\rXu\rX$2\rXx1\rX",
        "HELLO 3 \"AUTH\" u x1\r\n",
    ] {
        let client = client.as_bytes();
        let place = "password x1, ";
        for (server, outcome) in [
            ("-WRONGPASS invalid username-password pair or user is disabled.\r\n", "failed: Redis WRONGPASS"),
            ("-ERR invalid password\r\n", "failed: Redis ERR invalid password"),
            ("+OK\r\n", "succeeded: Redis OK"),
        ] {
            let shown = String::from_utf8_lossy(client);
            assert_eq!(protocol(client, server.as_bytes()), Some(Protocol::Redis), "{shown:?}, {server}");
            assert_eq!(told(client, server.as_bytes()), format!("{place}{outcome}"), "{shown:?}");
        }
    }
}

#[test]
fn a_long_line_of_redis_is_read_word_by_word() {
    let client = format!("{}AUTH{}x1{}\r\nPING\r\n", " ".repeat(3000), "\t".repeat(9000), " ".repeat(5000));
    let found = |protocol| {
        let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(protocol))).unwrap();
        client.as_bytes().chunks(1000).for_each(|piece| observer.feed(End::Client, piece, &|_: &[u8]| 0));
        observer.feed(End::Server, b"+OK\r\n+PONG\r\n", &|_: &[u8]| 0);
        observer.take()
    };
    assert!(matches!(&found(Protocol::Redis)[..], [Event::Credential(_), Event::Authentication(_)]));
    // A word that looks like the head of an array, at the end of what is there: it is of the line.
    for blanks in 4090..5000 {
        let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Redis))).unwrap();
        let client = format!("AUTH{}*2x\r\n", " ".repeat(blanks));
        client.as_bytes().chunks(1000).for_each(|piece| observer.feed(End::Client, piece, &|_: &[u8]| 0));
        observer.feed(End::Server, b"+OK\r\n", &|_: &[u8]| 0);
        assert!(
            matches!(&observer.take()[..], [Event::Credential(_), Event::Authentication(_)]),
            "behind {blanks}"
        );
    }
}

#[test]
fn the_guess_that_works_is_told_of_thousands_in_a_row() {
    let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Redis))).unwrap();
    (0..5000).for_each(|_| observer.feed(End::Client, b"AUTH x1\r\n", &|_: &[u8]| 0));
    observer.feed(End::Client, b"PING\r\n", &|_: &[u8]| 0);
    for _ in 0..4999 {
        observer.feed(End::Server, b"-WRONGPASS invalid\r\n", &|_: &[u8]| 0);
        observer.take();
    }
    observer.feed(End::Server, b"+OK\r\n+PONG\r\n", &|_: &[u8]| 0);
    let [Event::Authentication(log_in)] = &observer.take()[..] else { panic!("one log-in") };
    assert_eq!(log_in.outcome, Outcome::Succeeded);
}

#[test]
fn what_is_no_command_does_not_hide_the_log_in_behind_it() {
    let unknown = "-ERR unknown command 'FOO', with args beginning with: 'bar' \r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let auth = "*2\r\n$4\r\nAUTH\r\n$2\r\nx1\r\n";
    for client in ["FOO bar\r\n", "*1\r\n$5\r\n?!/()\r\n", "*1\r\n$0\r\n\r\n", "*1\rX$3\rXFOO\rX"] {
        let (client, server) = (format!("{client}{auth}"), format!("{unknown}{wrong}"));
        assert_eq!(protocol(client.as_bytes(), server.as_bytes()), Some(Protocol::Redis), "{client:?}");
        assert_eq!(
            told(client.as_bytes(), server.as_bytes()),
            "password x1, failed: Redis WRONGPASS",
            "{client:?}"
        );
    }
}

/// Redis takes lines of up to 64 KiB, and goes on behind those that are no command: it is read from the start where it
/// answers as nobody else does.
#[test]
fn a_line_that_no_client_of_redis_begins_with_does_not_hide_the_log_in_behind_it() {
    let unknown = "-ERR unknown command 'F-1', with args beginning with: 'bar,' 'and' \r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let long = format!("foo {}\r\n", "x".repeat(2000));
    let longer = format!("foo{}\r\n", " x".repeat(15_000));
    for line in
        ["F-1 bar, and much else of the kind\r\n", "foo bar and much else of the kind\r\n", &long, &longer]
    {
        for log_in in ["AUTH x1\r\n", "*2\r\n$4\r\nAUTH\r\n$2\r\nx1\r\n", "HELLO 3 AUTH default x1\r\n"] {
            for (answer, outcome) in [(wrong, "failed: Redis WRONGPASS"), ("+OK\r\n", "succeeded: Redis OK")]
            {
                let (client, server) = (format!("{line}{log_in}"), format!("{unknown}{answer}"));
                assert_eq!(
                    told(client.as_bytes(), server.as_bytes()),
                    format!("password x1, {outcome}"),
                    "{:?} {log_in:?}",
                    &line[..30]
                );
            }
        }
        // It may be anybody's.
        let client = format!("{line}AUTH x1\r\n");
        for server in ["-ERR what?\r\n+OK\r\n", "+OK\r\n+OK\r\n", "500 no\r\n", ""] {
            assert_eq!(told(client.as_bytes(), server.as_bytes()), "", "{server:?}");
        }
    }
}

#[test]
fn what_others_say_is_not_taken_for_redis() {
    for (client, server) in [
        ("AUTH PLAIN AGB1c2VyAHgx\r\n", "+OK\r\n+OK\r\n"),
        ("AUTH\r\n", "+OK\r\n+OK\r\nPLAIN\r\n.\r\n"),
        ("FOO bar\r\n", "+OK\r\n"),
        ("FOO bar\r\n", "-ERR Unknown command.\r\n"),
        ("FOO bar\r\n", "500 what?\r\n"),
        ("\r\n\r\nwho is there, and what for?\r\n", "+OK\r\n"),
        ("\"AUTH\"x y\r\n", "+OK\r\n"),
        ("*2\n$4\nAUTH\n$2\nx1\n", "+OK\r\n"),
        ("**bold** words and more\r\n", "+OK\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "+OK\r\n"),
    ] {
        let found = protocol(client.as_bytes(), server.as_bytes());
        assert_ne!(found, Some(Protocol::Redis), "{client:?}, {server:?}");
    }
    assert_eq!(protocol(b"AUTH x1\r\nSET k v\r\n", b"+OK\r\n+OK\r\n"), Some(Protocol::Redis));
    assert_eq!(protocol(b"AUTH PLAIN AGB1c2VyAHgx\r\n", b"+OK\r\n+OK\r\n"), Some(Protocol::Pop3));
}

fn startup(version: u32, parameters: &[u8]) -> Vec<u8> {
    let length = (9 + parameters.len()) as u32;
    [&length.to_be_bytes()[..], &version.to_be_bytes(), parameters, b"\0"].concat()
}

/// Each of these was let in by PostgreSQL 15.
#[test]
fn postgresql_is_asked_to_log_in_in_any_way_it_takes() {
    let user = b"user\0postgres\0";
    let odd = |name: &[u8]| startup(3 << 16, &[name, b"\0y\0", user].concat());
    let encrypted = |first: &[u8]| [first, &startup(3 << 16 | 77, user)].concat();
    for (start, answer) in [
        (startup(3 << 16, user), &b""[..]),
        (startup(3 << 16 | 10, user), b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0"),
        (startup(3 << 16 | 100, user), b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0"),
        (startup(3 << 16 | 5000, user), b"v\0\0\0\x0c\0\0\0\x02\0\0\0\0"),
        (startup(3 << 16 | 0xffff, user), b""),
        (odd(b"0x"), b""),
        (odd(b".a"), b""),
        (odd(b"\x01\xff"), b""),
        (encrypted(b"\0\0\0\x08\x04\xd2\x16\x2f"), b"N"),
        (encrypted(b"\0\0\0\x0c\x04\xd2\x16\x2fabcd"), b"N"),
        (encrypted(b"\0\0\0\x0a\x04\xd2\x16\x30ab\0\0\0\x08\x04\xd2\x16\x2f"), b"NN"),
    ] {
        let client = [&start[..], b"p\0\0\0\x07x1\0"].concat();
        for (end, outcome) in [
            (&b"E\0\0\0\x1dSFATAL\0VFATAL\0C28P01\0Mx\0\0"[..], "failed: PostgreSQL 28P01"),
            (b"R\0\0\0\x08\0\0\0\0", "succeeded: PostgreSQL authentication ok"),
        ] {
            let server = [answer, b"R\0\0\0\x08\0\0\0\x03", end].concat();
            assert_eq!(protocol(&client, &server), Some(Protocol::Postgresql), "{start:?}");
            assert_eq!(told(&client, &server), format!("password x1, {outcome}"), "{start:?}");
        }
    }
}

#[test]
fn what_others_say_is_not_taken_for_postgresql() {
    let odd = startup(3 << 16 | 10, b"\x01a\0b\0");
    for server in [&b""[..], b"\0\0\0\x0c\0\0\0\x07", b"HTTP/1.1 400 Bad Request\r\n", b"Not this one"] {
        assert_ne!(protocol(&odd, server), Some(Protocol::Postgresql), "{server:?}");
        assert!(look(&odd, server, true).facts.protocol.is_none(), "{server:?}");
    }
    assert_ne!(protocol(&startup(3 << 16 | 10, b""), b"R\0\0\0\x08\0\0\0\x03"), Some(Protocol::Postgresql));
}

/// X.690 with a length in so many octets more than one; 0: as short as it can be.
fn ber(tag: u8, content: &[&[u8]], octets: u8) -> Vec<u8> {
    let content = content.concat();
    let length = (content.len() as u64).to_be_bytes();
    let length = match octets {
        0 => vec![content.len() as u8],
        _ => [&[0x80 | octets][..], &length[8 - usize::from(octets)..]].concat(),
    };
    [&[tag][..], &length, &content].concat()
}

/// slapd 2.5 lets in whoever writes the lengths within a message in up to eight octets.
#[test]
fn ldap_is_asked_to_log_in_with_lengths_of_any_form() {
    for outer in 0..=8 {
        for inner in 0..=8 {
            for (id, own) in [(&b"\x01"[..], inner), (b"\x01", 0), (b"", 0), (b"\0\0\x01", 8)] {
                let bind = ber(
                    0x60,
                    &[b"\x02\x01\x03", &ber(4, &[b"cn=a"], own), &ber(0x80, &[b"x1"], inner)],
                    inner,
                );
                let client = ber(0x30, &[&ber(2, &[id], own), &bind], outer);
                for (code, outcome) in
                    [(49, "failed: LDAP 49 (invalidCredentials)"), (0, "succeeded: LDAP 0")]
                {
                    let number = u8::from(!id.is_empty());
                    let server = [0x30, 12, 2, 1, number, 0x61, 7, 10, 1, code, 4, 0, 4, 0];
                    assert_eq!(protocol(&client, &server), Some(Protocol::Ldap), "{client:?}");
                    assert_eq!(told(&client, &server), format!("password x1, {outcome}"), "{client:?}");
                }
            }
        }
    }
}

#[test]
fn a_name_of_ldap_too_long_to_be_read_hides_no_guess_that_worked() {
    for (name, shown) in [(3000, "password x1, succeeded: LDAP 0"), (9000, "succeeded: LDAP 0")] {
        let name = [&b"cn=a"[..], &b" ".repeat(name)].concat();
        let bind = ber(0x60, &[b"\x02\x01\x03", &ber(4, &[&name], 4), &ber(0x80, &[b"x1"], 1)], 4);
        let client = ber(0x30, &[b"\x02\x01\x01", &bind, &ber(0xa0, &[&b"\0".repeat(5000)], 4)], 4);
        assert_eq!(told(&client, &[0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, 0, 4, 0, 4, 0]), shown);
    }
}

/// What follows is TLS, and not in the clear.
#[test]
fn starttls_of_ldap_is_known_in_any_form() {
    let name = b"1.3.6.1.4.1.1466.20037";
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    for octets in [0, 1, 5, 8] {
        let ask = ber(0x30, &[b"\x02\x02\0\x01", &ber(0x77, &[&ber(0x80, &[name], octets)], octets)], octets);
        let root = ber(0x63, &[&ber(4, &[b""], octets), b"\x0a\x01\0"], octets);
        let root = ber(0x30, &[b"\x02\x01\0", &root], octets);
        let client = [&root[..], &ask, hello].concat();
        let server = [0x30, 12, 2, 1, 1, 0x78, 7, 10, 1, 0, 4, 0, 4, 0];
        let found = look(&client, &server, false).facts;
        assert!(matches!(found.protection, Protection::Unknown(_)), "{octets}: {found:?}");
    }
}

/// nats-server reads JSON as Go does: escapes, and letters that are the same where case does not matter.
#[test]
fn nats_is_asked_to_log_in_in_json_of_any_form() {
    let info = "INFO {\"server_id\":\"A\",\"version\":\"2.10.1\",\"auth_required\":true}\r\n";
    for connect in [
        r#"{"user":"bob","pass":"x1"}"#,
        r#"{"us\u0065r":"bob","pa\u0073s":"x1"}"#,
        r#"{"user":"bob","\u0050\u0041\u0053\u0053" : "\u00781"}"#,
        r#"{"user":"bob","pa\u017fs":"x1"}"#,
        "{\"user\":\"bob\",\"pa\u{17f}s\":\"x1\"}",
        r#"{"a\"b":"\\","user":"bob","p\u0061ss":"x\u0031"}"#,
    ] {
        let client = format!("CONNECT {connect}\r\nPING\r\n");
        for (answer, outcome) in [
            ("-ERR 'Authorization Violation'\r\n", "failed: NATS Authorization Violation"),
            ("PONG\r\n", "succeeded: NATS connected"),
        ] {
            let server = format!("{info}{answer}");
            assert_eq!(protocol(client.as_bytes(), server.as_bytes()), Some(Protocol::Nats), "{connect}");
            assert_eq!(
                told(client.as_bytes(), server.as_bytes()),
                format!("password x1, {outcome}"),
                "{connect}"
            );
        }
    }
    // A token, and a signature.
    for connect in [r#"{"auth\u005ftoken":"x1"}"#, r#"{"nkey":"U","s\u0069g": "x1"}"#, r#"{"SIG":"x1"}"#] {
        let client = format!("CONNECT {connect}\r\nPING\r\n");
        let told = told(client.as_bytes(), format!("{info}PONG\r\n").as_bytes());
        assert!(told.ends_with("succeeded: NATS connected"), "{connect}: {told}");
    }
}

/// Escapes of JSON that are none stay, and no letter is made of half a pair.
#[test]
fn secrets_in_json_are_told_as_they_are_read() {
    let info = "INFO {\"server_id\":\"A\",\"version\":\"2.10.1\"}\r\n";
    for (value, read) in [
        (r"\ud83d\ude00", "\u{1f600}"),
        (r"\ud83dx", "\u{fffd}x"),
        (r"\ud83d\u0041", "\u{fffd}A"),
        (r"\ude00", "\u{fffd}"),
        (r"\u00", "\\u00"),
        (r"\u00zz", "\\u00zz"),
        (r#"a\"b\\c\/d\te"#, "a\"b\\c/d\te"),
    ] {
        let client = format!("CONNECT {{\"pass\":\"{value}\"}}\r\n");
        assert_eq!(told(client.as_bytes(), info.as_bytes()), format!("password {read}"), "{value}");
    }
}
