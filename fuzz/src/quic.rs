//! Initial packets as either end seals them, with the keys that the standard publishes (RFC 9001 section 5.2,
//! RFC 9369 section 3.3): inputs become their frames.

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

const VERSION_1: u32 = 1;
const SALT_1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
    0xbb, 0x7f, 0x0a,
];
const VERSION_2: u32 = 0x6b33_43cf;
const SALT_2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
    0xbd, 0x2e, 0xd9,
];

const FIRST_DESTINATION: &[u8] = b"firstdst";
const CLIENT: &[u8] = b"client";
const SERVER: &[u8] = b"server";

/// Both ends of a connection.
pub struct Connection {
    version: u32,
    first: u8,
    client: Sealer,
    server: Sealer,
    /// Once the server has spoken, the client sends to its id.
    answered: bool,
}

impl Connection {
    pub fn new(second_version: bool) -> Connection {
        let (version, first, salt, prefix) = match second_version {
            false => (VERSION_1, 0xc0, SALT_1, "quic"),
            true => (VERSION_2, 0xd0, SALT_2, "quicv2"),
        };
        let secret = Hkdf::<Sha256>::new(Some(&salt), FIRST_DESTINATION);
        let sealer = |label: &str| Sealer::new(&secret, label, prefix);
        let [client, server] = [sealer("client in"), sealer("server in")];
        Connection { version, first, client, server, answered: false }
    }

    /// A datagram of an end. The first byte of the piece: whether it is an Initial packet whose frames are
    /// the rest, one of 1-RTT, or whatever it is.
    pub fn datagram(&mut self, from_client: bool, piece: &[u8]) -> Vec<u8> {
        let Some((head, rest)) = piece.split_first() else { return Vec::new() };
        let to = match (from_client, self.answered) {
            (true, false) => FIRST_DESTINATION,
            (true, true) => SERVER,
            (false, _) => CLIENT,
        };
        match head & 7 {
            6 => [&[0x40 | head >> 3 & 0x1f], to, rest].concat(),
            7 => rest.to_vec(),
            _ => {
                self.answered |= !from_client;
                let from = if from_client { CLIENT } else { SERVER };
                let sealer = if from_client { &mut self.client } else { &mut self.server };
                sealer.seal(self.version, self.first, to, from, rest)
            }
        }
    }
}

/// The keys of an end, and the number of its next packet.
struct Sealer {
    payload: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
    number: u16,
}

impl Sealer {
    fn new(secret: &Hkdf<Sha256>, label: &str, prefix: &str) -> Sealer {
        let mut own = [0; 32];
        expand(secret, label, &mut own);
        let own = Hkdf::from_prk(&own).expect("a secret of 32 bytes");
        let (mut key, mut iv, mut header) = ([0; 16], [0; 12], [0; 16]);
        expand(&own, &format!("{prefix} key"), &mut key);
        expand(&own, &format!("{prefix} iv"), &mut iv);
        expand(&own, &format!("{prefix} hp"), &mut header);
        Sealer { payload: Aes128Gcm::new(&key.into()), iv, header: Aes128::new(&header.into()), number: 0 }
    }

    fn seal(&mut self, version: u32, first: u8, to: &[u8], from: &[u8], frames: &[u8]) -> Vec<u8> {
        // Padding, so that there is a sample to protect the header with.
        let mut payload = frames.to_vec();
        payload.resize(payload.len().max(20), 0);
        let length = (2 + payload.len() + 16) as u16 | 0x4000;
        let mut header = vec![first | 1];
        header.extend(version.to_be_bytes());
        for id in [to, from] {
            header.push(id.len() as u8);
            header.extend(id);
        }
        header.push(0);
        header.extend(length.to_be_bytes());
        let number_at = header.len();
        let number = self.number.to_be_bytes();
        header.extend(number);
        let mut nonce = self.iv;
        nonce[10] ^= number[0];
        nonce[11] ^= number[1];
        self.number = self.number.wrapping_add(1);
        let tag = self
            .payload
            .encrypt_in_place_detached(Nonce::from_slice(&nonce), &header, &mut payload)
            .expect("a short payload");
        let mut packet = [header, payload, tag.to_vec()].concat();
        let mut mask = *<&aes::Block>::from(
            <&[u8; 16]>::try_from(&packet[number_at + 4..number_at + 20]).expect("16 bytes"),
        );
        self.header.encrypt_block(&mut mask);
        packet[0] ^= mask[0] & 0x0f;
        packet[number_at] ^= mask[1];
        packet[number_at + 1] ^= mask[2];
        packet
    }
}

/// HKDF-Expand-Label of RFC 8446 section 7.1, without a context.
fn expand(secret: &Hkdf<Sha256>, label: &str, out: &mut [u8]) {
    let length = (out.len() as u16).to_be_bytes();
    let info = [&length[..], &[(6 + label.len()) as u8], b"tls13 ", label.as_bytes(), &[0]];
    secret.expand_multi_info(&info, out).expect("short enough");
}

#[cfg(test)]
mod tests {
    use dissect::{Hint, inspect_datagrams};

    use super::*;

    /// What is sealed here opens there.
    #[test]
    fn a_hello_in_an_initial_packet_is_read() {
        let name = b"api.example.org";
        let list = [&[0, (name.len() + 3) as u8, 0, 0, name.len() as u8][..], name].concat();
        let extensions =
            [&[0, 0, 0, list.len() as u8][..], &list, &[0, 43, 0, 3, 2, 3, 4, 0, 57, 0, 0]].concat();
        let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, extensions.len() as u8], &extensions]
            .concat();
        let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
        let frame = [&[0, 6, 0, 0x40, hello.len() as u8][..], &hello].concat();
        for second_version in [false, true] {
            let datagram = Connection::new(second_version).datagram(true, &frame);
            let facts = inspect_datagrams(&[&datagram], &[], Hint::default()).facts;
            assert_eq!(
                facts.tls.and_then(|tls| tls.server_name).as_deref(),
                Some("api.example.org"),
                "{second_version}"
            );
        }
    }
}
