//! Log-ins behind what servers pass over or refuse, and go on: empty lines, lines that are no commands, words and
//! shapes that few clients send.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dissect::activity::{Event, LIMIT, Observer};
use dissect::{
    End, Hint, Inspection, Plain, Prefix, Protection, Protocol, Segments, UnknownReason, Upgrade,
    inspect_stream,
};

use End::{Client, Server};

type Turn = (End, Vec<u8>);

fn say(end: End, bytes: impl AsRef<[u8]>) -> Turn {
    (end, bytes.as_ref().to_vec())
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let prefix =
        |bytes| Prefix { bytes, ended, midstream: false, segments: Segments::default(), sealed: None };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

/// What is said of the whole; and what is settled on the way is that.
fn inspect(turns: &[Turn]) -> Inspection {
    let side = |end| -> Vec<u8> {
        turns.iter().filter(|(from, _)| *from == end).flat_map(|(_, bytes)| bytes.clone()).collect()
    };
    let (client, server) = (side(Client), side(Server));
    let whole = look(&client, &server, true);
    let most = client.len().max(server.len());
    for at in (0..most.min(130)).chain((130..most.min(600)).step_by(31)).chain((600..most).step_by(997)) {
        let (c, s) = (client.len().min(at), server.len().min(at));
        for (c, s) in [(c, s), (c, server.len()), (client.len(), s), (c, 0), (0, s)] {
            let now = look(&client[..c], &server[..s], false);
            assert!(!now.settled || now.facts == whole.facts, "settled at {c}, {s}: {:?}", now.facts);
        }
    }
    whole
}

/// What goes on in it, which does not depend on the cuts.
fn read(turns: &[Turn], protection: Protection) -> Vec<String> {
    let mut found: Vec<Vec<String>> = [usize::MAX, 1, 7]
        .map(|cut| {
            let mut observer = Observer::new(protection).unwrap();
            let mut told = Vec::new();
            for (from, bytes) in turns {
                for piece in bytes.chunks(cut.min(bytes.len().max(1))) {
                    observer.feed(*from, piece, &|secret: &[u8]| secret.len() as u64);
                    assert!(observer.held() <= 2 * LIMIT);
                    told.extend(observer.take());
                }
            }
            told.iter().filter_map(describe).collect()
        })
        .into();
    found.dedup();
    assert_eq!(found.len(), 1, "another cut, another answer: {found:?}");
    found.remove(0)
}

fn describe(event: &Event) -> Option<String> {
    match event {
        Event::Operation(_) => None,
        Event::Authentication(answer) => Some(format!("{:?} {}", answer.outcome, answer.code)),
        Event::Credential(secret) => {
            Some(format!("{} in {}, {}", secret.kind.as_str(), secret.place, secret.fingerprint))
        }
    }
}

fn told(turns: &[Turn]) -> (Option<Protocol>, Vec<String>) {
    let facts = inspect(turns).facts;
    (facts.protocol, read(turns, facts.protection))
}

/// `bob:hunter2`
const BASIC: &str = "Authorization: Basic Ym9iOmh1bnRlcjI=\r\n";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const GRANTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn http(request: impl AsRef<[u8]>) -> [String; 3] {
    let turns = [say(Client, &request), say(Server, REFUSED), say(Client, &request), say(Server, GRANTED)];
    let (protocol, told) = told(&turns);
    let request = String::from_utf8_lossy(&request.as_ref()[..request.as_ref().len().min(300)]).into_owned();
    assert_eq!(protocol, Some(Protocol::Http), "{request:?}");
    told.try_into().unwrap_or_else(|told| panic!("{request:?}: {told:?}"))
}

fn is_a_guess(told: [String; 3], place: &str) {
    assert_eq!(told, [place.to_owned(), "Failed HTTP 401".into(), "Succeeded HTTP 200".into()]);
}

const IN_BASIC: &str = "password in HTTP Authorization header (Basic), 7";

#[test]
fn a_request_is_one_behind_empty_lines_and_with_any_method() {
    for empty in ["", "\r\n", "\n", "\r", "\r\n\r\n", "\n\r\n\r"] {
        for method in ["GET", "LIST", "FOO", "get", "MKACTIVITY", "MERGE", "VERSION-CONTROL", "GETT", "x.y"] {
            is_a_guess(http(format!("{empty}{method} /a HTTP/1.1\r\nHost: h\r\n{BASIC}\r\n")), IN_BASIC);
        }
    }
    for line in [
        "GET  /a HTTP/1.1",
        "GET\t/a\tHTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "FOO http://h/ HTTP/1.0",
    ] {
        is_a_guess(http(format!("{line}\r\nHost: h\r\n{BASIC}\r\n")), IN_BASIC);
    }
    is_a_guess(
        http("LIST /v1/secret HTTP/1.1\r\nX-Vault-Token: hvs.0123456789\r\n\r\n"),
        "api-key in HTTP header of an API key, 14",
    );
}

#[test]
fn what_only_begins_like_a_request_is_none() {
    for (client, server) in [
        ("FOO /a\r\n", "HTTP/1.1 400 \r\n\r\n"),
        ("FOO /a HTTP/2.0\r\n\r\n", "HTTP/1.1 400 \r\n\r\n"),
        ("FOO a HTTP/1.1\r\n\r\n", "HTTP/1.1 400 \r\n\r\n"),
        ("FOO /a HTTP/1.1\r\n\r\n", "imok"),
        ("FOO /a HTTP/1.1\r\n\r\n", "HTTP/2 200\r\n\r\n"),
        ("/a HTTP/1.1\r\n\r\n", "HTTP/1.1 400 \r\n\r\n"),
        (&format!("{} /a HTTP/1.1\r\n\r\n", "A".repeat(33)), "HTTP/1.1 400 \r\n\r\n"),
        ("\r\n\r\n\0GET /a HTTP/1.1\r\n\r\n", "HTTP/1.1 400 \r\n\r\n"),
    ] {
        assert_ne!(
            inspect(&[say(Client, client), say(Server, server)]).facts.protocol,
            Some(Protocol::Http),
            "{client:?}"
        );
    }
}

/// After a gap, too, where the line is one.
#[test]
fn a_request_of_any_method_is_found_behind_a_gap() {
    for (bytes, expected) in [
        (format!("\r\nLIST /a HTTP/1.1\r\n{BASIC}\r\n"), true),
        (format!("FOO http://h/a HTTP/1.1\r\n{BASIC}\r\n"), true),
        (format!("FOO a HTTP/1.1\r\n{BASIC}\r\n"), false),
        (format!("FOO /a\r\n{BASIC}\r\n"), false),
    ] {
        for cut in [1, 5, bytes.len()] {
            let mut observer =
                Observer::midstream(Protection::Plaintext(Plain::Protocol(Protocol::Http))).unwrap();
            for piece in bytes.as_bytes().chunks(cut) {
                observer.feed(Client, piece, &|_: &[u8]| 0);
            }
            assert_eq!(
                observer.take().iter().any(|it| matches!(it, Event::Credential(_))),
                expected,
                "{bytes}"
            );
        }
    }
}

#[test]
fn a_folded_field_is_read_as_servers_do() {
    for folded in [
        "Authorization:\r\n Basic Ym9iOmh1bnRlcjI=\r\n",
        "Authorization: Basic\r\n\tYm9iOmh1bnRlcjI=\r\n",
        "Authorization: Basic\n   Ym9iOmh1bnRlcjI=\r\n",
        "Authorization:\r\n \r\n Basic\r\n Ym9iOmh1bnRlcjI=\r\n",
        // Others take the first line alone.
        "Authorization: Basic Ym9iOmh1bnRlcjI=\r\n more\r\n",
    ] {
        is_a_guess(http(format!("GET /a HTTP/1.1\r\n{folded}Host: h\r\n\r\n")), IN_BASIC);
    }
}

/// nginx takes heads of 32 kB, others more.
#[test]
fn a_head_is_read_however_long_it_is() {
    let many = format!("X-Filler: {}\r\n", "x".repeat(500));
    for filler in [
        many.repeat(44),
        many.repeat(72),
        format!("X: {}\r\n", "x".repeat(7000)).repeat(5),
        format!("X: {}\r\n", "x".repeat(12_283)),
        format!("X: {}\r\n", "x".repeat(12_284)),
        format!("X: {}\r\n", "x".repeat(40_000)),
        format!("X: {}\r\n {}\r\n", "x".repeat(15_000), "x".repeat(15_000)),
    ] {
        is_a_guess(http(format!("GET /a HTTP/1.1\r\n{filler}{BASIC}\r\n")), IN_BASIC);
    }
    let long = format!("Authorization: Negotiate {}\r\n", "A".repeat(20_000));
    let turns = [say(Client, format!("GET /a HTTP/1.1\r\n{long}\r\n")), say(Server, GRANTED)];
    assert_eq!(told(&turns).1, ["Succeeded HTTP 200"]);
}

#[test]
fn a_password_in_parts_or_in_chunks_is_found() {
    let place = "password in HTTP request body, 7";
    for field in ["name=\"password\"", "NAME=passwd; x=y", " name = \"pass\""] {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nbob\r\n\
            --b\r\ncontent-disposition: form-data;{field}\r\nContent-Type: text/plain\r\n\r\nhunter2\r\n--b--\r\n"
        );
        let head = "POST /a HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n";
        is_a_guess(http(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())), place);
        is_a_guess(http(format!("{head}{}", in_chunks(body.as_bytes(), 50))), place);
    }
    for (content, body) in [
        ("application/x-www-form-urlencoded", "user=bob&password=hunter2"),
        ("application/json", "{\"user\": \"bob\", \"password\": \"hunter2\"}"),
    ] {
        for size in [1, 3, 100] {
            let body = in_chunks(body.as_bytes(), size);
            is_a_guess(http(format!("POST /a HTTP/1.1\r\nContent-Type: {content}\r\n{body}")), place);
        }
        // What is behind the first 4 KiB is not looked at, and nothing is held of it.
        let large = [body.as_bytes(), b"&x=", &[b'x'; 50_000]].concat();
        is_a_guess(
            http(format!("POST /a HTTP/1.1\r\nContent-Type: {content}\r\n{}", in_chunks(&large, 900))),
            place,
        );
    }
}

/// A field may stand anywhere in it, and across the parts that it is looked through in.
#[test]
fn a_password_behind_much_else_in_a_form_is_found() {
    let place = "password in HTTP request body, 7".to_owned();
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let is_found = |content: &str, body: &str| {
        let head = format!("POST /a HTTP/1.1\r\nContent-Type: {content}\r\n");
        let sized = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let found = [sized, format!("{head}{}", in_chunks(body.as_bytes(), 900))].map(|request| {
            let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Http))).unwrap();
            for piece in request.as_bytes().chunks(1000) {
                observer.feed(Client, piece, &|secret: &[u8]| secret.len() as u64);
                assert!(observer.held() <= 2 * LIMIT);
            }
            observer.feed(Client, b"GET /next HTTP/1.1\r\n\r\n", &|secret: &[u8]| secret.len() as u64);
            let next = Some("GET /next");
            let told = observer.take();
            assert!(
                told.iter().any(|it| matches!(it, Event::Operation(it) if it.object.as_deref() == next)),
                "the request behind it"
            );
            let secrets: Vec<String> = told.iter().filter_map(describe).collect();
            assert!(secrets.iter().all(|secret| *secret == place), "{secrets:?}");
            !secrets.is_empty()
        });
        assert_eq!(found[0], found[1], "in chunks or not");
        found[0]
    };
    let lengths = (4000..4200).step_by(3).chain((8100..8300).step_by(7)).chain([20_000, 60_000]);
    for length in lengths {
        let long = "x".repeat(length);
        let many = |between: &str, field: &str| vec![field; length / (field.len() + 1)].join(between);
        for (content, body) in [
            ("application/x-www-form-urlencoded", format!("a={long}&password=hunter2&b=c")),
            ("application/x-www-form-urlencoded", format!("{}&password=hunter2", many("&", "abc=d"))),
            ("application/json", format!("{{\"a\": \"{long}\", \"password\": \"hunter2\", \"b\": \"c\"}}")),
            ("application/json", format!("{{\"a\": [{}],\n\"password\": \"hunter2\"}}", many(",", "7"))),
            ("application/json", format!("{{{}, \"password\": \"hunter2\"}}", many(",", "\"a\": \"b\""))),
            (
                "multipart/form-data; boundary=b",
                format!("{}{}{}--b--\r\n", part("x", &long), part("password", "hunter2"), part("y", "z")),
            ),
            (
                "multipart/form-data; boundary=b",
                format!("{}{}--b--\r\n", part("x", &many("\r\n", "a line")), part("password", "hunter2")),
            ),
        ] {
            assert!(is_found(content, &body), "{content} {length}");
        }
    }
    // What is behind 64 KiB is not looked at.
    let long = "x".repeat(70_000);
    assert!(!is_found("application/x-www-form-urlencoded", &format!("a={long}&password=hunter2")));
    assert!(!is_found("text/plain", &format!("a={}&password=hunter2", "x".repeat(5000))));
}

fn in_chunks(body: &[u8], size: usize) -> String {
    let chunk = |part: &[u8]| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part));
    format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", body.chunks(size).map(chunk).collect::<String>())
}

/// What a server greets with, lines with its answers, and what is told.
struct Mail {
    protocol: Protocol,
    greetings: &'static [&'static str],
    /// No commands, or ones that the server does not know.
    refused: &'static [(&'static str, &'static str)],
    log_in: &'static [(&'static str, &'static str)],
    told: &'static [&'static str],
    upgrade: (&'static str, &'static str),
}

const MAIL: [Mail; 4] = [
    Mail {
        protocol: Protocol::Pop3,
        greetings: &["+OK Dovecot ready.\r\n", "+OK POP3 server ready <1.2@h>\r\n", "+OK\r\n"],
        refused: &[
            ("FOO\r\n", "-ERR Unknown command.\r\n"),
            ("\r\n", "-ERR Unknown command.\r\n"),
            ("\x01\x02\r\n", "-ERR Unknown command.\r\n"),
            ("UTF8\r\n", "-ERR Unknown command.\r\n"),
            ("UTF8\r\n", "+OK\r\n"),
            ("LANG *\r\n", "-ERR Unknown command.\r\n"),
            ("LANG\r\n", "+OK languages\r\nen\r\n.\r\n"),
            ("AUTH\r\n", "+OK\r\nPLAIN\r\n.\r\n"),
            ("AUTH\r\n", "-ERR no\r\n"),
        ],
        log_in: &[
            ("USER bob\r\n", "+OK\r\n"),
            ("PASS hunter2\r\n", "-ERR [AUTH] failed.\r\n"),
            ("PASS hunter22\r\n", "+OK in\r\n"),
        ],
        told: &[
            "password in POP3 PASS, 7",
            "Failed POP3 -ERR",
            "password in POP3 PASS, 8",
            "Succeeded POP3 +OK",
        ],
        upgrade: ("STLS\r\n", "+OK Begin TLS negotiation now.\r\n"),
    },
    Mail {
        protocol: Protocol::Imap,
        greetings: &["* OK [CAPABILITY IMAP4rev1 STARTTLS] Dovecot ready.\r\n", "* OK \r\n"],
        refused: &[
            ("FOO\r\n", "FOO BAD Error in IMAP command received by server.\r\n"),
            ("FOO\r\n", "* BAD Error in IMAP command received by server.\r\n"),
            ("\r\n", "* BAD Error in IMAP command received by server.\r\n"),
            // Passed over without a word.
            ("\r\n", ""),
            ("\x01\x02\r\n", "\x01\x02 BAD Error in IMAP command received by server.\r\n"),
            ("a BAR\r\n", "a BAD Error in IMAP command BAR: Unknown command.\r\n"),
            ("#1-x_$ CAPABILITY\r\n", "* CAPABILITY IMAP4rev1 STARTTLS\r\n#1-x_$ OK done\r\n"),
        ],
        log_in: &[
            ("#a LOGIN bob hunter2\r\n", "#a NO [AUTHENTICATIONFAILED] failed.\r\n"),
            ("#b LOGIN bob hunter22\r\n", "#b OK in\r\n"),
        ],
        told: &[
            "password in IMAP LOGIN, 7",
            "Failed IMAP NO",
            "password in IMAP LOGIN, 8",
            "Succeeded IMAP OK",
        ],
        upgrade: ("#1-x_$ STARTTLS\r\n", "#1-x_$ OK Begin TLS negotiation now.\r\n"),
    },
    Mail {
        protocol: Protocol::Smtp,
        greetings: &["220 mx ESMTP Postfix\r\n", "220 mx ready\r\n", "220 ftp.example.org ESMTP\r\n"],
        refused: &[
            ("FOO\r\n", "502 5.5.2 Error: command not recognized\r\n"),
            ("\r\n", "500 5.5.2 Error: bad syntax\r\n"),
            ("\r\n", ""),
            ("\x01\x02\r\n", "500 5.5.2 Error: bad syntax\r\n"),
            ("NOOP\r\n", "250 2.0.0 Ok\r\n"),
            ("USER bob\r\n", "502 5.5.2 Error: command not recognized\r\n"),
            ("SYST\r\n", "502 5.5.2 Error: command not recognized\r\n"),
            ("EHLO a\r\n", "250-mx\r\n250 STARTTLS\r\n"),
        ],
        log_in: &[
            ("AUTH PLAIN AGJvYgBodW50ZXIy\r\n", "535 5.7.8 Error: authentication failed\r\n"),
            ("AUTH PLAIN AGJvYgBodW50ZXIyMg==\r\n", "235 2.7.0 Authentication successful\r\n"),
        ],
        told: &[
            "password in SMTP AUTH PLAIN, 7",
            "Failed SMTP 535",
            "password in SMTP AUTH PLAIN, 8",
            "Succeeded SMTP 235",
        ],
        upgrade: ("STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n"),
    },
    Mail {
        protocol: Protocol::Ftp,
        greetings: &["220 (vsFTPd 3.0.5)\r\n", "220 ready\r\n", "220 smtp.example.org FTP server\r\n"],
        refused: &[
            ("FOO\r\n", "530 Please login with USER and PASS.\r\n"),
            ("\r\n", "500 what\r\n"),
            ("\x01\x02\r\n", "500 what\r\n"),
            ("EHLO a\r\n", "530 Please login with USER and PASS.\r\n"),
            ("EHLO a\r\n", "500 EHLO not understood\r\n"),
            ("AUTH PLAIN\r\n", "500 no\r\n"),
        ],
        log_in: &[
            ("USER bob\r\n", "331 Please specify the password.\r\n"),
            ("PASS hunter2\r\n", "530 Login incorrect.\r\n"),
            ("USER bob\r\n", "331 Please specify the password.\r\n"),
            ("PASS hunter22\r\n", "230 Login successful.\r\n"),
        ],
        told: &["password in FTP PASS, 7", "Failed FTP 530", "password in FTP PASS, 8", "Succeeded FTP 230"],
        upgrade: ("AUTH TLS\r\n", "234 Proceed with negotiation.\r\n"),
    },
];

/// Greeted, then lines that are refused, twice.
fn behind(greeting: &str, (line, answer): (&str, &str), then: &[(&str, &str)]) -> Vec<Turn> {
    let mut turns = vec![say(Server, greeting)];
    for (line, answer) in [(line, answer); 2].iter().chain(then) {
        turns.extend([say(Client, line), say(Server, answer)]);
    }
    turns
}

#[test]
fn mail_and_files_are_told_by_greeting_and_answers_whatever_the_client_says_first() {
    for mail in &MAIL {
        for greeting in mail.greetings {
            for refused in mail.refused {
                let turns = behind(greeting, *refused, mail.log_in);
                let (protocol, told) = told(&turns);
                assert_eq!(protocol, Some(mail.protocol), "{greeting:?} {refused:?}");
                let told: Vec<&str> =
                    told.iter().map(String::as_str).filter(|told| !told.contains("text")).collect();
                let told = &told[told.len().saturating_sub(mail.told.len())..];
                assert_eq!(told, mail.told, "{greeting:?} {refused:?}");
            }
            let (protocol, told) = told(&behind_nothing(greeting, mail.log_in));
            assert_eq!(protocol, Some(mail.protocol), "{greeting:?}");
            assert_eq!(told, mail.told, "{greeting:?}");
        }
    }
}

fn behind_nothing(greeting: &str, then: &[(&str, &str)]) -> Vec<Turn> {
    let mut turns = vec![say(Server, greeting)];
    turns.extend(then.iter().flat_map(|(line, answer)| [say(Client, line), say(Server, answer)]));
    turns
}

fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    std::fs::read(path).unwrap()
}

/// Whatever is refused before, or does not log in.
#[test]
fn tls_behind_starttls_is_seen_whatever_the_client_says_first() {
    let tls = [say(Client, fixture("tls13.client")), say(Server, fixture("tls13.server"))];
    for mail in &MAIL {
        for greeting in mail.greetings {
            for refused in mail.refused {
                // A name is said before it.
                if refused.0.starts_with("USER") {
                    continue;
                }
                if mail.protocol == Protocol::Ftp && refused.0.starts_with("AUTH") {
                    continue;
                }
                let asked = behind(greeting, *refused, &[mail.upgrade]);
                let facts = inspect(&[&asked[..], &tls].concat()).facts;
                assert_eq!(facts.protocol, Some(mail.protocol), "{greeting:?} {refused:?}");
                assert!(
                    matches!(facts.protection, Protection::Encrypted(_)),
                    "{greeting:?} {refused:?}: {facts:?}"
                );
                assert_eq!(facts.upgrade, Some(Upgrade::Taken));
                // Words in the place of TLS stay words.
                let words = say(Client, "a line in the clear, and another one\r\n".repeat(3));
                let facts = inspect(&[&asked[..], &[words]].concat()).facts;
                assert_eq!(
                    facts.protection,
                    Protection::Plaintext(Plain::Protocol(mail.protocol)),
                    "{refused:?}"
                );
                // So do they behind a refusal.
                let no = match mail.protocol {
                    Protocol::Pop3 => "-ERR no\r\n",
                    Protocol::Imap => "#1-x_$ NO no\r\n",
                    _ => "454 no\r\n",
                };
                let turned_down = behind(greeting, *refused, &[(mail.upgrade.0, no)]);
                let facts = inspect(&[&turned_down[..], &tls].concat()).facts;
                assert!(!matches!(facts.protection, Protection::Encrypted(_)), "{greeting:?} {refused:?}");
            }
        }
    }
}

/// Answers of Redis, and services that greet as mail does.
#[test]
fn what_only_answers_like_mail_is_not_called_so() {
    for (client, server, protocol) in [
        ("SET a b\r\nSET c d\r\n", "+OK\r\n+OK\r\n", Some(Protocol::Redis)),
        (
            "*2\r\n$4\r\nAUTH\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$4\r\nUSER\r\n$1\r\na\r\n",
            "+OK\r\n+OK\r\n",
            Some(Protocol::Redis),
        ),
        ("AUTH secret\r\nSET a b\r\n", "+OK\r\n+OK\r\n", Some(Protocol::Redis)),
        ("flushall\r\nUSER a\r\n", "+OK\r\n-ERR unknown command 'USER'\r\n", None),
        ("\r\nset a b\r\nUSER a\r\n", "+OK\r\n-ERR unknown command 'USER'\r\n", Some(Protocol::Redis)),
        ("JSON.SET a $ 1\r\nUSER a\r\n", "+OK\r\n-ERR unknown command 'USER'\r\n", None),
        ("CLIENT x\r\nDEFINE * word\r\n", "220 dictd 1.12\r\n250 ok\r\n552 no match\r\n", None),
    ] {
        let facts = inspect(&[say(Client, client), say(Server, server)]).facts;
        assert_eq!(facts.protocol, protocol, "{client:?}");
        assert_ne!(facts.protection, Protection::Unknown(UnknownReason::Silent));
    }
}

/// Commands of the other protocol are answered by refusals of many kinds.
#[test]
fn a_refusal_does_not_tell_files_from_mail() {
    let first = |lines: &[(&'static str, &'static str)], greeting| told(&behind_nothing(greeting, lines));
    let (name, password) = (("USER bob\r\n", "331 Password.\r\n"), ("PASS hunter2\r\n", "530 no\r\n"));
    let in_ftp = ["password in FTP PASS, 7", "Failed FTP 530"].map(String::from);
    for answer in ["500 no\r\n", "504 no\r\n", "530 Please login with USER and PASS.\r\n", "534 no\r\n"] {
        for greeting in ["220 (vsFTPd 3.0.5)\r\n", "220 ready\r\n"] {
            if greeting == "220 ready\r\n" && answer == "534 no\r\n" {
                continue;
            }
            for line in ["AUTH PLAIN\r\n", "AUTH LOGIN\r\n"] {
                let (protocol, told) = first(&[(line, answer), name, password], greeting);
                assert_eq!(protocol, Some(Protocol::Ftp), "{greeting:?} {answer:?}");
                assert!(told.ends_with(&in_ftp), "{greeting:?} {answer:?} {told:?}");
            }
        }
    }
    let log_in = ("AUTH PLAIN AGJvYgBodW50ZXIy\r\n", "535 5.7.8 failed\r\n");
    let in_smtp = ["password in SMTP AUTH PLAIN, 7", "Failed SMTP 535"].map(String::from);
    for answer in ["421 no\r\n", "530 5.7.0 no\r\n", "550 no\r\n", "554 no\r\n"] {
        for greeting in ["220 mx ESMTP\r\n", "220 mx ready\r\n"] {
            if greeting == "220 mx ready\r\n" && answer.starts_with("530") {
                continue;
            }
            for line in ["USER a\r\n", "PASS a\r\n"] {
                let (protocol, told) = first(&[(line, answer), log_in], greeting);
                assert_eq!(protocol, Some(Protocol::Smtp), "{greeting:?} {answer:?}");
                assert!(told.ends_with(&in_smtp), "{greeting:?} {answer:?} {told:?}");
            }
        }
    }
}

/// The refusal is of the line behind the empty one, or of the empty one.
#[test]
fn tls_is_seen_behind_an_empty_line_that_is_passed_over_and_a_refusal() {
    let tls = [say(Client, fixture("tls13.client")), say(Server, fixture("tls13.server"))];
    for (greeting, no, ask, go) in [
        ("220 mx ESMTP\r\n", "502 no\r\n", "STARTTLS\r\n", "220 go\r\n"),
        ("220 FTP\r\n", "500 no\r\n", "AUTH TLS\r\n", "234 go\r\n"),
        ("+OK POP3\r\n", "-ERR no\r\n", "STLS\r\n", "+OK go\r\n"),
    ] {
        for (empty, refused) in [("\r\n", 1), ("\r\n\r\n", 1), ("\r\n", 3), (" \r\n\r\n", 2)] {
            let lines = format!("{empty}{}{ask}", "FOO\r\n".repeat(refused));
            for answered in [refused, refused + empty.matches('\n').count()] {
                let answers = format!("{greeting}{}", no.repeat(answered));
                let asked = [say(Client, &lines), say(Server, format!("{answers}{go}"))];
                let facts = inspect(&[&asked[..], &tls].concat()).facts;
                assert!(
                    matches!(facts.protection, Protection::Encrypted(_)),
                    "{lines:?} {answers:?}: {facts:?}"
                );
                assert_eq!(facts.upgrade, Some(Upgrade::Taken));
            }
        }
    }
    // One that is granted in neither reading, whatever another is answered.
    let turns = [
        say(Client, "\r\nNOOP\r\nSTARTTLS\r\nAUTH PLAIN AGJvYgBodW50ZXIy\r\n"),
        say(Server, "220 mx ESMTP\r\n500 no\r\n250 ok\r\n454 no\r\n535 no\r\n"),
    ];
    let facts = inspect(&turns).facts;
    assert_eq!(facts.protection, Protection::Plaintext(Plain::Protocol(Protocol::Smtp)));
    assert_eq!(facts.upgrade, Some(Upgrade::Refused));
}

/// What a server does with lines that are empty.
type Heeds = fn(&str) -> bool;
const SERVERS: [Heeds; 3] = [|_| true, |_| false, |line| line != "\r\n"];

/// A dialogue with a server that answers only some empty lines.
fn dialogue(greeting: &str, no: &str, heeds: Heeds, lines: &[(&str, &str)]) -> Vec<Turn> {
    let mut turns = vec![say(Server, greeting)];
    for (line, answer) in lines {
        let is_empty = line.trim().is_empty();
        let answer = match (is_empty, heeds(line)) {
            (true, false) => "",
            (true, true) => no,
            (false, _) => answer,
        };
        turns.extend([say(Client, line), say(Server, answer)]);
    }
    turns
}

/// A greeting that names neither: what is answered tells, with an empty line answered or not.
#[test]
fn files_are_told_from_mail_behind_empty_lines_that_are_answered_or_not() {
    let (ftp_no, smtp_no) = ("500 no\r\n", "502 no\r\n");
    let ftp_log_in = [
        ("USER bob\r\n", "331 Password.\r\n"),
        ("PASS hunter2\r\n", "530 no\r\n"),
        ("PASS a\r\n", "530 no\r\n"),
    ];
    let smtp_log_in = [
        ("AUTH PLAIN AGJvYgBodW50ZXIy\r\n", "535 5.7.8 failed\r\n"),
        ("AUTH PLAIN AGJvYgBodW50ZXIy\r\n", "535 5.7.8 failed\r\n"),
    ];
    let ftp_lines = [
        ("FOO\r\n", ftp_no),
        ("AUTH PLAIN\r\n", "504 no\r\n"),
        ("EHLO a\r\n", ftp_no),
        ("NOOP\r\n", "200 ok\r\n"),
    ];
    let smtp_lines = [
        ("FOO\r\n", smtp_no),
        ("USER a\r\n", smtp_no),
        ("EHLO a\r\n", "250 mx\r\n"),
        ("NOOP\r\n", "250 ok\r\n"),
    ];
    for heeds in SERVERS {
        for empty in [&["\r\n"][..], &["\r\n", "\r\n"], &[" \r\n", "\r\n"], &["\r\n", " \r\n"]] {
            for (no, lines, log_in, protocol, failed) in [
                (ftp_no, &ftp_lines, &ftp_log_in[..], Protocol::Ftp, "Failed FTP 530"),
                (smtp_no, &smtp_lines, &smtp_log_in[..], Protocol::Smtp, "Failed SMTP 535"),
            ] {
                for said in lines.iter().map(Some).chain([None]) {
                    let said: Vec<(&str, &str)> = empty
                        .iter()
                        .map(|line| (*line, ""))
                        .chain(said.copied())
                        .chain(log_in.iter().copied())
                        .collect();
                    let turns = dialogue("220 ready\r\n", no, heeds, &said);
                    let (found, told) = told(&turns);
                    assert_eq!(found, Some(protocol), "{turns:?}");
                    assert_eq!(told.last().map(String::as_str), Some(failed), "{turns:?}");
                }
            }
        }
    }
}

/// What may be either is called neither.
#[test]
fn what_may_be_files_or_mail_is_named_by_its_greeting_alone() {
    let lines = "\r\nPWD\r\nEHLO a\r\n";
    // An empty line that is refused and PWD with its answer, or PWD refused and EHLO with its answer.
    let answers = "500 no\r\n250 what\r\n250 what\r\n";
    for (greeting, protocol) in [
        ("220 ready\r\n", None),
        ("220 mx ESMTP\r\n", Some(Protocol::Smtp)),
        ("220 FTP\r\n", Some(Protocol::Ftp)),
    ] {
        let turns = [say(Client, lines), say(Server, format!("{greeting}{answers}"))];
        let facts = inspect(&turns).facts;
        assert_eq!(facts.protocol, protocol, "{greeting:?}");
        assert!(matches!(facts.protection, Protection::Plaintext(_)), "{greeting:?}");
    }
}

/// A greeting names mail, the answers do not: whatever comes first, nothing that is settled changes.
#[test]
fn an_upgrade_that_may_be_of_the_other_protocol_is_not_settled() {
    inspect(&[
        say(Client, "STARTTLS\r\n \r\nAUTH TLS\r\nEHLO a\r\na LOGIN b c\r\nUSER a\r\n"),
        say(Server, "220 mx ESMTP\r\n234 go\r\n+OK hi\r\n220 mx ESMTP\r\n250-a\r\n* OK hi\r\n"),
    ]);
}

/// However often, and whichever of them are answered.
#[test]
fn tls_is_seen_behind_empty_lines_of_which_some_are_answered() {
    let tls = [say(Client, fixture("tls13.client")), say(Server, fixture("tls13.server"))];
    for (greeting, no, ask, go) in [
        ("220 mx ESMTP\r\n", "502 no\r\n", "STARTTLS\r\n", "220 go\r\n"),
        ("220 FTP\r\n", "500 no\r\n", "AUTH TLS\r\n", "234 go\r\n"),
        ("+OK POP3\r\n", "-ERR no\r\n", "STLS\r\n", "+OK go\r\n"),
    ] {
        for heeds in SERVERS {
            for said in [
                &["\r\n", " \r\n", "FOO\r\n"][..],
                &[" \r\n", "\r\n", "FOO\r\n", "FOO\r\n"],
                &["\r\n", "FOO\r\n", "\r\n", " \r\n", "FOO\r\n"],
                &["FOO\r\n", "\r\n", "\r\n", " \r\n"],
            ] {
                let said: Vec<(&str, &str)> =
                    said.iter().map(|line| (*line, no)).chain([(ask, go)]).collect();
                let asked = dialogue(greeting, no, heeds, &said);
                let facts = inspect(&[&asked[..], &tls].concat()).facts;
                assert!(matches!(facts.protection, Protection::Encrypted(_)), "{asked:?}: {facts:?}");
                assert_eq!(facts.upgrade, Some(Upgrade::Taken));
                // Without it, nothing is called encrypted.
                let words = say(Client, "a line in the clear, and another one\r\n".repeat(3));
                let facts = inspect(&[&asked[..], &[words]].concat()).facts;
                assert!(matches!(facts.protection, Protection::Plaintext(_)), "{asked:?}: {facts:?}");
            }
        }
    }
}

/// Redis greets nobody, and asks for no more behind AUTH.
#[test]
fn a_bare_greeting_and_a_challenge_are_those_of_mail() {
    for challenge in ["+ \r\n", "+\r\n", "+ VXNlcm5hbWU6\r\n"] {
        let turns = behind_nothing(
            "+OK\r\n",
            &[
                ("AUTH PLAIN\r\n", challenge),
                ("AGJvYgBodW50ZXIy\r\n", "-ERR no\r\n"),
                ("AUTH PLAIN\r\n", challenge),
                ("AGJvYgBodW50ZXIyMg==\r\n", "+OK in\r\n"),
            ],
        );
        let (protocol, told) = told(&turns);
        assert_eq!(protocol, Some(Protocol::Pop3), "{challenge:?}");
        assert_eq!(
            told,
            [
                "password in POP3 AUTH PLAIN, 7",
                "Failed POP3 -ERR",
                "password in POP3 AUTH PLAIN, 8",
                "Succeeded POP3 +OK"
            ]
        );
    }
    // Redis' answer to a password of that name, and to what follows.
    for server in ["+OK\r\n$1\r\nb\r\n", "+OK\r\n:1\r\n"] {
        let facts = inspect(&[say(Client, "AUTH PLAIN\r\nGET a\r\n"), say(Server, server)]).facts;
        assert_eq!(facts.protocol, Some(Protocol::Redis), "{server:?}");
    }
}

/// All of what the client says, and then all answers; and one behind the other.
fn in_both_orders(protocol: Protocol, lines: &[(&str, &str)]) -> [Vec<String>; 2] {
    let in_turn: Vec<Turn> =
        lines.iter().flat_map(|(line, answer)| [say(Client, line), say(Server, answer)]).collect();
    let mut apart = in_turn.clone();
    apart.sort_by_key(|(from, _)| *from == Server);
    [in_turn, apart].map(|turns| read(&turns, Protection::Plaintext(Plain::Protocol(protocol))))
}

/// Rounds of other mechanisms are lines of the client's, too.
#[test]
fn each_log_in_is_told_whatever_was_refused_before_it() {
    let pop3 =
        |lines: &[(&str, &str)]| in_both_orders(Protocol::Pop3, &[&[("", "+OK hi\r\n")], lines].concat());
    let (no, failed) = ("-ERR no\r\n", "Failed POP3 -ERR");
    // Guesses by AUTH LOGIN and by a challenge, many times.
    let login = [
        ("AUTH LOGIN\r\n", "+ VXNlcm5hbWU6\r\n"),
        ("Ym9i\r\n", "+ UGFzc3dvcmQ6\r\n"),
        ("aHVudGVyMg==\r\n", no),
    ];
    let challenge = [("AUTH CRAM-MD5\r\n", "+ PDEuMkBoPg==\r\n"), ("Ym9iIDEyMzQ1Njc4\r\n", no)];
    for told in pop3(&login.repeat(50)) {
        assert_eq!(told.iter().filter(|told| *told == failed).count(), 50);
        assert!(told.contains(&"password in POP3 AUTH LOGIN, 7".to_owned()));
    }
    for told in pop3(&challenge.repeat(50)) {
        assert_eq!(told, vec![failed; 50]);
    }
    // A mechanism that is refused at once: the next line is a command.
    for auth in ["AUTH PLAIN\r\n", "AUTH LOGIN\r\n", "AUTH CRAM-MD5\r\n"] {
        for told in
            pop3(&[(auth, no), ("PASS hunter2\r\n", no), (auth, no), ("APOP bob 0123\r\n", "+OK\r\n")])
        {
            assert_eq!(told.len(), 5, "{told:?}");
            assert_eq!(told.last().map(String::as_str), Some("Succeeded POP3 +OK"), "{auth:?}");
            assert!(told.contains(&"password in POP3 PASS, 7".to_owned()), "{auth:?}");
        }
    }
    for auth in ["AUTH PLAIN\r\n", "AUTH LOGIN\r\n"] {
        let told = in_both_orders(
            Protocol::Smtp,
            &[
                (auth, "504 no\r\n"),
                ("AUTH PLAIN AGJvYgBodW50ZXIy\r\n", "535 no\r\n"),
                (auth, "504 no\r\n"),
                ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
                ("Ym9i\r\n", "334 UGFzc3dvcmQ6\r\n"),
                ("aHVudGVyMjI=\r\n", "235 in\r\n"),
            ],
        );
        for told in told {
            for wanted in ["password in SMTP AUTH PLAIN, 7", "password in SMTP AUTH LOGIN, 8"] {
                assert!(told.contains(&wanted.to_owned()), "{auth:?} {told:?}");
            }
        }
    }
    for auth in ["AUTHENTICATE PLAIN", "LOGIN {3}", "LOGIN bob {7}"] {
        let told = in_both_orders(
            Protocol::Imap,
            &[
                (&format!("a {auth}\r\n"), "a BAD no\r\n"),
                ("b LOGIN bob hunter2\r\n", "b NO no\r\n"),
                ("c LOGIN bob hunter22\r\n", "c OK in\r\n"),
            ],
        );
        for told in told {
            for wanted in ["password in IMAP LOGIN, 7", "Failed IMAP NO", "Succeeded IMAP OK"] {
                assert!(told.contains(&wanted.to_owned()), "{auth:?} {told:?}");
            }
        }
    }
    // What is no command does not wait for ever.
    let mut lines = vec![("a LOGIN\r\n", "a BAD no\r\n"); 40];
    lines.push(("b LOGIN bob hunter2\r\n", "b NO no\r\n"));
    assert_eq!(in_both_orders(Protocol::Imap, &lines)[0].last().map(String::as_str), Some("Failed IMAP NO"));
}

/// A log-in is never said to have succeeded that did not, and each that was turned down is told.
#[test]
fn log_ins_of_pop3_are_told_behind_empty_lines_that_are_answered_or_not() {
    let (no, ok) = ("-ERR no\r\n", "+OK\r\n");
    let guess = [("USER bob\r\n", ok), ("PASS hunter2\r\n", no)];
    let lists = [("CAPA\r\n", "+OK\r\nUSER\r\n.\r\n")];
    for heeds in SERVERS {
        for empty in ["\r\n", " \r\n", "\r\n\r\n", " \r\n\r\n\r\n"] {
            for first in [&[][..], &lists] {
                let mut said = first.to_vec();
                for _ in 0..4 {
                    said.extend(empty.split_inclusive('\n').map(|line| (line, "")));
                    said.extend(guess);
                    said.extend(first);
                }
                let in_turn = dialogue("+OK hi\r\n", no, heeds, &said);
                let mut apart = in_turn.clone();
                apart.sort_by_key(|(from, _)| *from == Server);
                for turns in [in_turn, apart] {
                    let told = read(&turns, Protection::Plaintext(Plain::Protocol(Protocol::Pop3)));
                    assert!(!told.iter().any(|told| told.starts_with("Succeeded")), "{empty:?} {told:?}");
                    let failed = told.iter().filter(|told| *told == "Failed POP3 -ERR").count();
                    assert_eq!(failed, 4, "{empty:?} {told:?}");
                }
            }
        }
    }
    // What follows one that is surely answered, or surely not, is known.
    for heeds in SERVERS {
        let said = [("\r\n", ""), ("USER bob\r\n", ok), ("PASS hunter2\r\n", no), ("PASS hunter22\r\n", ok)];
        let turns = dialogue("+OK hi\r\n", no, heeds, &said);
        let told = read(&turns, Protection::Plaintext(Plain::Protocol(Protocol::Pop3)));
        assert_eq!(
            told.iter().filter(|told| told.contains(" POP3 +") || told.contains(" POP3 -")).count(),
            2
        );
    }
}

/// A thousand lines may wait for their answers; of however many no more is held, and no log-in is made of them.
#[test]
fn log_ins_of_pop3_are_told_behind_many_lines_without_an_answer() {
    for (waiting, told) in [(1000, 4), (5000, 0)] {
        told_behind(waiting, told);
    }
}

fn told_behind(waiting: usize, failed: usize) {
    let guesses = 4;
    let client = ["NOOP\r\n".repeat(waiting), "USER bob\r\nPASS hunter2\r\n".repeat(guesses)].concat();
    let server = ["+OK hi\r\n".to_owned(), "+OK\r\n".repeat(waiting), "+OK\r\n-ERR no\r\n".repeat(guesses)];
    let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Pop3))).unwrap();
    observer.feed(Client, client.as_bytes(), &|_: &[u8]| 0);
    assert!(observer.held() <= 2048, "{}", observer.held());
    observer.feed(Server, server.concat().as_bytes(), &|_: &[u8]| 0);
    let told: Vec<String> = observer.take().iter().filter_map(describe).collect();
    assert_eq!(told.iter().filter(|told| *told == "Failed POP3 -ERR").count(), failed, "{told:?}");
    assert!(!told.iter().any(|told| told.starts_with("Succeeded")), "{told:?}");
}

/// Whether all that the client asked for was told.
fn tells_all(protocol: Protocol, client: &[u8], cut: usize) -> bool {
    let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(protocol))).unwrap();
    observer.feed(Server, b"", &|_: &[u8]| 0);
    client.chunks(cut).for_each(|piece| observer.feed(Client, piece, &|_: &[u8]| 0));
    observer.is_in_step()
}

#[test]
fn a_line_before_a_chunk_is_too_long_however_it_is_cut() {
    for (length, is_read) in [(255, true), (256, true), (257, false), (300, false)] {
        let line = format!("3;{}\r\n", "x".repeat(length - 3));
        let client = format!("PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{line}abc\r\n0\r\n\r\n");
        for cut in [1, 7, client.len()] {
            assert_eq!(tells_all(Protocol::Http, client.as_bytes(), cut), is_read, "{length} {cut}");
        }
    }
}

/// A field that names another method may stand behind what is looked at.
#[test]
fn a_form_in_parts_is_told_where_it_is_read_to_its_end() {
    let head = "POST /a HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n";
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    for (filler, is_read) in [(100, true), (5000, false)] {
        let body = format!("{}{}--b--\r\n", part("x", &"x".repeat(filler)), part("y", "DELETE"));
        let sized = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(tells_all(Protocol::Http, sized.as_bytes(), 100), is_read, "{filler}");
        let chunked = format!("{head}{}", in_chunks(body.as_bytes(), 500));
        assert!(!tells_all(Protocol::Http, chunked.as_bytes(), 100), "{filler}");
    }
}

/// As others end a line with it.
#[test]
fn a_return_within_a_long_line_of_redis_is_no_end_of_it() {
    for at in 4080..4110 {
        for (after, is_read) in [("\rDEL a\r\n", false), ("\r\n", true), (" b\r\n", true), ("\r\r\n", false)]
        {
            let client = format!("DEL {}{after}", "a ".repeat(at / 2 - 2) + &" ".repeat(at % 2));
            for cut in [1, 1000, client.len()] {
                let told = tells_all(Protocol::Redis, client.as_bytes(), cut);
                assert_eq!(told, is_read, "{at} {after:?} {cut}");
            }
        }
    }
}

#[test]
fn a_word_without_a_target_is_no_request_once_the_client_has_ended() {
    let answer = "HTTP/1.1 400 \r\n\r\n";
    for client in ["GET", "GET ", "GET http://h/a", "\r\n", "FOO", "FOO /a"] {
        for server in ["", answer] {
            let open = look(client.as_bytes(), server.as_bytes(), false);
            assert!(!open.settled, "{client:?}");
            let ended = look(client.as_bytes(), server.as_bytes(), true);
            assert_ne!(ended.facts.protocol, Some(Protocol::Http), "{client:?}");
            assert_ne!(ended.facts.protection, Protection::Unknown(UnknownReason::Silent), "{client:?}");
        }
    }
    // No more is waited for, though the server may go on.
    for client in ["GET http://h/a", "FOO", "FOO /a"] {
        let side = |bytes, ended| Prefix { bytes, ended, ..Prefix::default() };
        let found =
            inspect_stream(side(client.as_bytes(), true), side(answer.as_bytes(), false), Hint::default());
        assert!(found.settled, "{client:?}");
        assert_ne!(found.facts.protocol, Some(Protocol::Http), "{client:?}");
    }
    assert_eq!(look(b"GET /a", b"", true).facts.protocol, Some(Protocol::Http));
}

/// A packet of MySQL.
fn packet(number: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [&(payload.len() as u32).to_le_bytes()[..3], &[number], payload].concat()
}

/// Where a command should begin, MySQL and MariaDB take number 0 alone; who else speaks like them may take others.
#[test]
fn no_number_of_a_packet_hides_what_is_asked_of_mysql() {
    const MYSQL: Protection = Protection::Plaintext(Plain::Protocol(Protocol::Mysql));
    let plugin = b"mysql_clear_password\0";
    let head = [&0x0008_a200u32.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23], b"bob\0"].concat();
    let log_in = [&head[..], &[8], b"hunter2\0", plugin].concat();
    let ok = [0, 0, 0, 2, 0, 0, 0];
    let refused = b"\xff\x15\x04#28000Access denied";
    let switch = [&[0xfe][..], plugin].concat();
    let greeting = packet(0, [&b"\x0a8.0.36\0\x08\0\0\0"[..], &[9; 40]].concat());
    let told = |turns: &[Turn]| {
        let found = [usize::MAX, 1, 7].map(|cut| {
            let mut observer = Observer::new(MYSQL).unwrap();
            for (from, bytes) in turns {
                for piece in bytes.chunks(cut.min(bytes.len())) {
                    observer.feed(*from, piece, &|secret: &[u8]| secret.len() as u64);
                }
            }
            let told = observer.take();
            let operations = told.iter().filter_map(|event| match event {
                Event::Operation(it) => Some(format!("{} {:?}", it.verb.as_str(), it.object)),
                _ => None,
            });
            let told: Vec<_> = told.iter().filter_map(describe).chain(operations).collect();
            (told, observer.is_in_step())
        });
        assert!(found.iter().all(|it| *it == found[0]), "{found:?}");
        found[0].clone()
    };
    let password = "password in MySQL authentication packet, 7".to_owned();
    let (good, bad) = ("Succeeded MySQL OK".to_owned(), "Failed MySQL 1045".to_owned());
    let delete = "write Some(\"DELETE\")".to_owned();
    let start = |number| {
        vec![
            say(Server, &greeting),
            say(Client, packet(number, &log_in)),
            say(Server, packet(number + 1, ok)),
        ]
    };
    for number in [0, 1, 7] {
        assert_eq!(told(&start(number)), (vec![password.clone(), good.clone()], true), "{number}");
    }
    // A query, and more of one that is too long for a packet.
    for number in [1, 2, 200] {
        let turns = [start(1), vec![say(Client, packet(number, b"\x03delete from t"))]].concat();
        assert_eq!(told(&turns), (vec![password.clone(), good.clone(), delete.clone()], false), "{number}");
    }
    // A file that the server asked for is no command, and what follows its end is one.
    let load = "write Some(\"LOAD\")".to_owned();
    let file = [
        start(1),
        vec![
            say(Client, packet(0, b"\x03load data local infile 'a' into table t")),
            say(Server, packet(1, b"\xfba")),
            say(Client, packet(2, b"\x03delete from u")),
            say(Client, packet(3, b"")),
            say(Server, packet(4, ok)),
        ],
    ]
    .concat();
    assert_eq!(told(&file), (vec![password.clone(), good.clone(), load.clone()], true));
    let behind = [file, vec![say(Client, packet(4, b"\x03delete from t"))]].concat();
    assert_eq!(told(&behind), (vec![password.clone(), good.clone(), load, delete], false));
    // Logging in as somebody else: the password with it, or behind a switch; servers let guess three times.
    let rest = [&b"\0a\0-\0"[..], plugin].concat();
    let change = |answer: &[u8]| [&b"\x11root\0"[..], &[answer.len() as u8], answer, &rest[1..]].concat();
    let changes = [
        start(1),
        vec![
            say(Client, packet(0, change(b"hunter22\0"))),
            say(Server, packet(1, refused)),
            say(Client, packet(0, change(b""))),
            say(Server, packet(1, &switch)),
            say(Client, packet(2, b"hunter222\0")),
            say(Server, packet(3, refused)),
            say(Client, packet(0, change(b""))),
            say(Server, packet(1, &switch)),
            say(Client, packet(2, b"hunter2222\0")),
            say(Server, packet(3, ok)),
        ],
    ]
    .concat();
    let secret = |n: usize| format!("password in MySQL authentication packet, {n}");
    assert_eq!(
        told(&changes),
        (vec![password, good.clone(), secret(8), bad.clone(), secret(9), bad, secret(10), good], true)
    );
}

/// A will, an identifier and a name of MQTT take 64 KiB each; a client of AMQP says what it likes of itself.
#[test]
fn a_password_behind_much_else_is_told_of_brokers() {
    let field = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let long = |length: usize| field(&vec![b'x'; length]);
    let protection = |protocol| Protection::Plaintext(Plain::Protocol(protocol));
    for length in [3, 4000, 5000, 16_384, 65_535] {
        for (version, properties) in [(4, &[][..]), (5, &[3, 0x21, 0, 9])] {
            let will = [if version == 5 { &[0][..] } else { &[] }, &field(b"t"), &long(length)].concat();
            let name = [&b"\0\x04MQTT"[..], &[version, 0xc4, 0, 60], properties].concat();
            let body = [name, long(length), will, long(length), field(b"hunter2")].concat();
            let size = [0, 7, 14]
                .map(|shift| (body.len() >> shift) as u8 & 0x7f | if shift < 14 { 0x80 } else { 0 });
            let connect = [&[0x10][..], &size, &body].concat();
            let ping = [0xc0, 0];
            let turns = [say(Client, [&connect[..], &ping].concat()), say(Server, b"\x20\x02\0\x05")];
            let told = read(&turns, protection(Protocol::Mqtt));
            assert_eq!(told, ["password in MQTT CONNECT, 7", "Failed MQTT CONNACK 5"], "{length} {version}");
        }
    }
    for length in [3, 4000, 5000, 16_000] {
        let [all, value] = [length + 7, length].map(|length| (length as u32).to_be_bytes());
        let table = [&all[..], b"\x01aS", &value].concat();
        let response = b"\0bob\0hunter2";
        let body = [
            &[0, 10, 0, 11][..],
            &table,
            &vec![b'x'; length],
            b"\x05PLAIN",
            &(response.len() as u32).to_be_bytes(),
            response,
            b"\x05en_US",
        ]
        .concat();
        let frame = [&[1, 0, 0][..], &(body.len() as u32).to_be_bytes(), &body, &[0xce]].concat();
        let turns = [say(Client, [&b"AMQP\0\0\x09\x01"[..], &frame].concat())];
        assert_eq!(read(&turns, protection(Protocol::Amqp)), ["password in AMQP PLAIN, 7"], "{length}");
    }
}
