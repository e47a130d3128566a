//! Exchanges of TLS made by hand, a record at a time.

#![allow(dead_code, reason = "each file of tests takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::{Facts, Hint, Inspection, Prefix, Protection, inspect_stream};
use std::cell::Cell;
use std::path::Path;

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const APPLICATION_DATA: u8 = 23;
pub const HEARTBEAT: u8 = 24;

/// TLS_AES_128_GCM_SHA256, and TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256.
pub const SUITE_13: [u8; 2] = [0x13, 1];
pub const SUITE_12: [u8; 2] = [0xc0, 0x2f];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

pub const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// Bytes that look like ciphertext, other ones each time.
pub fn noise(length: usize) -> Vec<u8> {
    let step = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let next = || STATE.replace(step(STATE.get()));
    (0..length).map(|_| (next() >> 56) as u8).collect()
}

pub fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3][..], &length, payload].concat()
}

/// A protected record of so many bytes.
pub fn sealed(kind: u8, length: usize) -> Vec<u8> {
    record(kind, &noise(length))
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

pub fn server_hello(suite: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
    let body = [&[3, 3][..], &noise(32), &[0], &suite, &[0], &length, extensions].concat();
    message(2, &body)
}

/// `supported_versions` and `key_share` of TLS 1.3.
pub fn extensions_13() -> Vec<u8> {
    [&[0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 29, 0, 32][..], &noise(32)].concat()
}

/// Both directions, a record each, and how many of them end the hellos, and the handshake.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub client: Vec<Vec<u8>>,
    pub server: Vec<Vec<u8>>,
}

impl Exchange {
    /// The hellos alone.
    pub fn hellos(version: Version) -> Exchange {
        let (name, answer) = match version {
            Version::Tls12 => ("tls12_ecdhe.client", server_hello(SUITE_12, &[])),
            Version::Tls13 => ("tls13.client", server_hello(SUITE_13, &extensions_13())),
        };
        let client = fixture(name);
        let hello = client[..5 + usize::from(u16::from_be_bytes([client[3], client[4]]))].to_vec();
        Exchange { client: vec![hello], server: vec![record(HANDSHAKE, &answer)] }
    }

    /// As far as the server's last message before the client's answer.
    pub fn offered(version: Version) -> Exchange {
        let mut exchange = Exchange::hellos(version);
        match version {
            Version::Tls12 => {
                let flight = [message(11, &noise(700)), message(12, &noise(300)), message(14, &[])];
                exchange.server.push(record(HANDSHAKE, &flight.concat()));
            }
            Version::Tls13 => {
                exchange.server.push(record(CHANGE_CIPHER_SPEC, &[1]));
                exchange.server.extend([27, 830, 285, 53].map(|length| sealed(APPLICATION_DATA, length)));
            }
        }
        exchange
    }

    /// Both Finished.
    pub fn finished(version: Version) -> Exchange {
        let mut exchange = Exchange::offered(version);
        let switch = record(CHANGE_CIPHER_SPEC, &[1]);
        match version {
            Version::Tls12 => {
                exchange.client.push(record(HANDSHAKE, &message(16, &noise(33))));
                for side in [&mut exchange.client, &mut exchange.server] {
                    side.extend([switch.clone(), sealed(HANDSHAKE, 40)]);
                }
            }
            Version::Tls13 => exchange.client.extend([switch, sealed(APPLICATION_DATA, 53)]),
        }
        exchange
    }

    /// With data of both.
    pub fn used(version: Version) -> Exchange {
        let mut exchange = Exchange::finished(version);
        exchange.client.push(sealed(APPLICATION_DATA, 90));
        exchange.server.push(sealed(APPLICATION_DATA, 120));
        exchange
    }

    pub fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        (self.client.concat(), self.server.concat())
    }

    /// With this behind one end, or both.
    pub fn with(&self, client: &[u8], server: &[u8]) -> Exchange {
        let mut exchange = self.clone();
        exchange.client.push(client.to_vec());
        exchange.server.push(server.to_vec());
        exchange
    }

    /// What is said while more may come, and in the end.
    pub fn told(&self) -> [Inspection; 2] {
        let (client, server) = self.bytes();
        [false, true].map(|ended| look(&client, &server, ended))
    }

    pub fn facts(&self) -> Facts {
        let [open, ended] = self.told();
        assert_eq!(is_yes(&open.facts), is_yes(&ended.facts), "{open:?} {ended:?}");
        ended.facts
    }
}

pub fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    look_each(client, server, (ended, ended))
}

pub fn look_each(client: &[u8], server: &[u8], ended: (bool, bool)) -> Inspection {
    let prefix = |bytes, ended| Prefix { bytes, ended, ..Prefix::default() };
    inspect_stream(prefix(client, ended.0), prefix(server, ended.1), Hint::default())
}

pub fn is_yes(facts: &Facts) -> bool {
    matches!(facts.protection, Protection::Encrypted(_))
}

pub fn is_no(facts: &Facts) -> bool {
    matches!(facts.protection, Protection::Plaintext(_))
}
