//! Dialogues put together at random out of what both sides may say in them: what was settled stays, wherever the
//! pieces are cut and in whatever order the sides come.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use std::path::Path;

use dissect::{Hint, Inspection, Prefix, Protection, inspect_stream};
use proptest::collection::vec;
use proptest::prelude::*;

/// Words of one protocol: a client's and a server's.
struct Words {
    client: &'static [&'static [u8]],
    server: &'static [&'static [u8]],
}

const WORDS: &[Words] = &[
    Words {
        client: &[
            b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='a'>",
            b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"<starttls>",
            b"</starttls>",
            b"<auth mechanism='PLAIN'>AGEAYg==</auth>",
            b"<iq type='get'/>",
            b"</stream:stream>",
        ],
        server: &[
            b"<stream:stream xmlns='jabber:client' from='a'>",
            b"<stream:features>",
            b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"</stream:features>",
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"<proceed>",
            b"</proceed>",
            b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"<success/>",
        ],
    },
    Words {
        client: &[
            b"EHLO a\r\n",
            b"STARTTLS\r\n",
            b"NOOP\r\n",
            b"AUTH PLAIN AGEAYg==\r\n",
            b"MAIL FROM:<a@b>\r\n",
            b"QUIT\r\n",
            b"BDAT 3\r\n",
        ],
        server: &[
            b"220 a ESMTP\r\n",
            b"250-a\r\n",
            b"250-STARTTLS\r\n",
            b"250 OK\r\n",
            b"220 go\r\n",
            b"454 no\r\n",
            b"500 what\r\n",
            b"235 in\r\n",
        ],
    },
    Words {
        client: &[
            b"a1 CAPABILITY\r\n",
            b"a2 STARTTLS\r\n",
            b"a3 LOGIN a b\r\n",
            b"a4 NOOP\r\n",
            b"a5 AUTHENTICATE PLAIN\r\n",
            b"AGEAYg==\r\n",
        ],
        server: &[
            b"* OK [CAPABILITY IMAP4rev1 STARTTLS] a\r\n",
            b"* OK a\r\n",
            b"* CAPABILITY IMAP4rev1 STARTTLS\r\n",
            b"a1 OK\r\n",
            b"a2 OK go\r\n",
            b"a2 NO\r\n",
            b"a3 NO\r\n",
            b"* BAD\r\n",
            b"+ \r\n",
        ],
    },
    Words {
        client: &[
            b"CAPA\r\n",
            b"STLS\r\n",
            b"USER a\r\n",
            b"PASS b\r\n",
            b"AUTH PLAIN\r\n",
            b"AGEAYg==\r\n",
            b"QUIT\r\n",
            b"AUTH TLS\r\n",
            b"FEAT\r\n",
        ],
        server: &[
            b"+OK POP3 a\r\n",
            b"+OK\r\n",
            b"-ERR\r\n",
            b"STLS\r\n.\r\n",
            b"220 FTP a\r\n",
            b"211-\r\n AUTH TLS\r\n",
            b"211 end\r\n",
            b"234 go\r\n",
            b"331 pass\r\n",
            b"530 no\r\n",
            b"+ \r\n",
        ],
    },
    Words {
        client: &[
            b"GET / HTTP/1.1\r\nHost: a\r\n",
            b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n",
            b"Connection: Upgrade\r\n",
            b"Upgrade: TLS/1.0\r\n",
            b"Upgrade: h2c\r\n",
            b"Upgrade: websocket\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"Content-Length: 3\r\n",
            b"abc",
        ],
        server: &[
            b"HTTP/1.1 101 Switching Protocols\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 407 Proxy Authentication Required\r\n",
            b"HTTP/1.1 403 Forbidden\r\n",
            b"HTTP/1.1 100 Continue\r\n",
            b"Content-Length: 2\r\n",
            b"ok",
            b"HTTP/1.1 426 Upgrade Required\r\n",
        ],
    },
    Words {
        client: &[
            b"CONNECT {\"verbose\":false}\r\n",
            b"PING\r\n",
            b"SUB a 1\r\n",
            b"AUTH a\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"*2\r\n$4\r\nAUTH\r\n$1\r\na\r\n",
            b"get a\r\n",
        ],
        server: &[
            b"INFO {\"version\":\"2.10.1\",\"tls_required\":true}\r\n",
            b"INFO {\"version\":\"2.10.1\"",
            b",\"tls_available\":true}\r\n",
            b"+OK\r\n",
            b"-ERR 'Authorization Violation'\r\n",
            b"PONG\r\n",
            b"+PONG\r\n",
            b"-NOAUTH a\r\n",
            b"END\r\n",
        ],
    },
    Words {
        client: &[
            b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037",
            b"\x30\x0c\x02\x01\x02\x60\x07\x02\x01\x03\x04\x00\x80\x00",
            b"\x30\x05\x02\x01\x03\x42\x00",
            b"\x30\x25\x02\x01\x04\x63\x20\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00\x87\x0bobjectClass0\x00",
        ],
        server: &[
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x04\x65\x07\x0a\x01\x00\x04\x00\x04\x00",
        ],
    },
    Words {
        client: &[
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x00\x00\x00\x08\x04\xd2\x16\x30",
            b"\x00\x00\x00\x12\x00\x03\x00\x00user\x00abc\x00\x00",
            b"p\x00\x00\x00\x07ab\x00",
            b"Q\x00\x00\x00\x0dSELECT 1\x00",
        ],
        server: &[
            b"S",
            b"N",
            b"G",
            b"R\x00\x00\x00\x08\x00\x00\x00\x03",
            b"R\x00\x00\x00\x08\x00\x00\x00\x00",
            b"E\x00\x00\x00\x0eSFATAL\x00C0\x00\x00",
            b"Z\x00\x00\x00\x05I",
        ],
    },
    Words {
        client: &[
            b"AMQP\x00\x00\x09\x01",
            b"AMQP\x02\x01\x00\x00",
            b"AMQP\x00\x01\x00\x00",
            b"AMQP\x03\x01\x00\x00",
            b"\x03\x00\x00\x13\x0e\xe0\0\0\0\0\0\x01\x00\x08\x00\x0b\0\0\0",
            b"\x12\x01\x00\x1a\0\0\0\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\0\0\0\0\0\0\x01",
            b"\x05\x02\x00\x02",
            b"\x01\x01a\x01b",
            b"\x05\x01\x00\x03\x01a\x01\xbb",
            b"\x04\x01\x01\xbb\x00\x00\x00\x01a\0",
        ],
        server: &[
            b"AMQP\x02\x01\x00\x00",
            b"AMQP\x00\x01\x00\x00",
            b"AMQP\x00\x00\x09\x01",
            b"\x03\x00\x00\x13\x0e\xd0\0\0\0\0\0\x02\x00\x08\x00\x01\0\0\0",
            b"\x03\x00\x00\x0b\x06\xd0\0\0\0\0\0\x03\x00",
            b"\x04\x01\x00\x1a\0\0\0\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\0\0\0\0\0\0\x01",
            b"\x05\x02",
            b"\x05\x00",
            b"\x01\x00",
            b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
            b"\x00\x5a\0\0\0\0\0\0",
            b"\x00\x5b\0\0\0\0\0\0",
        ],
    },
];

/// What ends lines, what pads, what is cut short, what no protocol says; and TLS.
const OTHERS: &[&[u8]] =
    &[b"\r\n", b"\n", b" ", b">", b"/>", b"\r\n\r\n", b"\0", b"\x16\x03\x01", b"\x15\x03"];

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

/// `tls`: a side's part of a handshake, as a word.
fn said(words: &'static [&'static [u8]], tls: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        2 => prop::sample::select(OTHERS).prop_map(<[u8]>::to_vec),
        1 => (prop::sample::select(words), any::<prop::sample::Index>())
            .prop_map(|(word, at)| word[..at.index(word.len() + 1)].to_vec()),
        1 => Just(tls),
    ];
    // Most begin as they should.
    (any::<bool>(), vec(word, 0..8))
        .prop_map(move |(begins, said)| [if begins { words[0] } else { &[] }, &said.concat()].concat())
}

fn dialogue() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (0..WORDS.len()).prop_flat_map(|index| {
        let Words { client, server } = &WORDS[index];
        (said(client, fixture("tls13.client")), said(server, fixture("tls13.server")))
    })
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let [client, server] = [client, server].map(|bytes| Prefix { bytes, ended, ..Prefix::default() });
    inspect_stream(client, server, Hint::default())
}

fn is_yes(inspection: &Inspection) -> bool {
    matches!(inspection.facts.protection, Protection::Encrypted(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn settled_answers_stay_whatever_is_said(
        (client, server) in dialogue(),
        cuts in vec((any::<bool>(), 1usize..60), 0..30),
    ) {
        let (mut c, mut s) = (0, 0);
        let mut settled: Option<Inspection> = None;
        for (from_client, n) in cuts.into_iter().chain([(true, 1 << 16), (false, 1 << 16)]) {
            if from_client { c = client.len().min(c + n) } else { s = server.len().min(s + n) }
            let now = look(&client[..c], &server[..s], false);
            match &settled {
                Some(before) if is_yes(before) && !is_yes(&now) => return Ok(()),
                Some(before) => prop_assert_eq!(&before.facts, &now.facts),
                None if now.settled => settled = Some(now),
                None => {}
            }
        }
        if let Some(settled) = settled {
            let whole = look(&client, &server, true);
            prop_assert!(settled.facts == whole.facts || is_yes(&settled) && !is_yes(&whole), "{whole:?}");
        }
    }
}
