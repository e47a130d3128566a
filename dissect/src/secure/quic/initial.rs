//! Opens Initial packets: their keys come from the client's first destination connection id and a
//! salt that the standard publishes (RFC 9001 section 5.2, RFC 9369 section 3.3), so anyone can. They
//! hide nothing; what they prove is that a packet is what it looks like.

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use super::packet::{Long, VERSION_1, VERSION_2};

/// What differs from version to version.
struct Version {
    salt: [u8; 20],
    /// Of the labels for key, iv and header protection.
    prefix: &'static str,
    retry_key: [u8; 16],
    retry_nonce: [u8; 12],
}

/// RFC 9001 sections 5.2 and 5.8.
const V1: Version = Version {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
        0xbb, 0x7f, 0x0a,
    ],
    prefix: "quic",
    retry_key: [
        0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e,
    ],
    retry_nonce: [0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb],
};

/// RFC 9369 section 3.3.
const V2: Version = Version {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
        0xbd, 0x2e, 0xd9,
    ],
    prefix: "quicv2",
    retry_key: [
        0x8f, 0xb4, 0xb0, 0x1b, 0x56, 0xac, 0x48, 0xe2, 0x60, 0xfb, 0xcb, 0xce, 0xad, 0x7c, 0xcc, 0x92,
    ],
    retry_nonce: [0xd8, 0x69, 0x69, 0xbc, 0x2d, 0x7c, 0x6d, 0x99, 0x90, 0xef, 0xb0, 0x4a],
};

/// Draft 29, the last one that was in wide use; up to 32 they are alike, and 33 and 34 are as version 1.
const DRAFT_29: Version = Version {
    salt: [
        0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11, 0xe0, 0x43,
        0x90, 0xa8, 0x99,
    ],
    prefix: "quic",
    retry_key: [
        0xcc, 0xce, 0x18, 0x7e, 0xd0, 0x9a, 0x09, 0xd0, 0x57, 0x28, 0x15, 0x5a, 0x6c, 0xb9, 0x6b, 0xe1,
    ],
    retry_nonce: [0xe5, 0x49, 0x30, 0xf9, 0x7f, 0x21, 0x36, 0xf0, 0x53, 0x0a, 0x8c, 0x1c],
};

fn version(number: u32) -> Option<&'static Version> {
    match number {
        VERSION_1 | 0xff00_0021 | 0xff00_0022 => Some(&V1),
        VERSION_2 => Some(&V2),
        0xff00_001d..=0xff00_0020 => Some(&DRAFT_29),
        _ => None,
    }
}

/// The keys of both ends.
pub(super) struct Keys {
    pub client: Direction,
    pub server: Direction,
}

impl Keys {
    /// `None` for versions whose salt we don't know.
    pub fn new(number: u32, destination: &[u8]) -> Option<Keys> {
        let version = version(number)?;
        let secret = Hkdf::<Sha256>::new(Some(&version.salt), destination);
        let direction = |label: &str| {
            let mut of_direction = [0; 32];
            expand(&secret, label, &mut of_direction)?;
            Direction::new(&Hkdf::from_prk(&of_direction).ok()?, version.prefix)
        };
        Some(Keys { client: direction("client in")?, server: direction("server in")? })
    }
}

/// The keys that one end seals with.
pub(super) struct Direction {
    payload: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

impl Direction {
    fn new(secret: &Hkdf<Sha256>, prefix: &str) -> Option<Direction> {
        let (mut key, mut iv, mut header) = ([0; 16], [0; 12], [0; 16]);
        expand(secret, &format!("{prefix} key"), &mut key)?;
        expand(secret, &format!("{prefix} iv"), &mut iv)?;
        expand(secret, &format!("{prefix} hp"), &mut header)?;
        Some(Direction { payload: Aes128Gcm::new(&key.into()), iv, header: Aes128::new(&header.into()) })
    }

    /// The frames of an Initial packet; `None`: it was not sealed with these keys, or is not whole.
    pub fn open(&self, long: &Long<'_>) -> Option<Vec<u8>> {
        const LONGEST_NUMBER: usize = 4;
        const TAG: usize = 16;
        let packet = long.packet?;
        let sample = packet.get(long.number_at + LONGEST_NUMBER..)?.first_chunk::<16>()?;
        let mut mask = (*sample).into();
        self.header.encrypt_block(&mut mask);
        let first = packet.first()? ^ (mask[0] & 0x0f);
        let number_length = usize::from(first & 3) + 1;
        let (header, sealed) = packet.split_at_checked(long.number_at + number_length)?;
        let mut header = header.to_vec();
        *header.first_mut()? = first;
        // Initial packets count from 0: the bytes that are there are the number.
        let mut nonce = self.iv;
        for at in 0..number_length {
            header[long.number_at + at] ^= mask[1 + at];
            nonce[12 - number_length + at] ^= header[long.number_at + at];
        }
        let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let mut payload = sealed.to_vec();
        let tag = Tag::from_slice(tag);
        let opened =
            self.payload.decrypt_in_place_detached(Nonce::from_slice(&nonce), &header, &mut payload, tag);
        opened.ok().map(|()| payload)
    }
}

/// HKDF-Expand-Label of RFC 8446 section 7.1, without a context.
fn expand(secret: &Hkdf<Sha256>, label: &str, out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = u8::try_from("tls13 ".len() + label.len()).ok()?;
    let info = [&length[..], &[label_length], b"tls13 ", label.as_bytes(), &[0]];
    secret.expand_multi_info(&info, out).ok()
}

/// Whether this Retry packet answers the Initial packets to `destination` (RFC 9001 section 5.8).
pub(super) fn is_retry_of(long: &Long<'_>, destination: &[u8]) -> bool {
    let verify = || {
        let version = version(long.version)?;
        let packet = long.packet?;
        let (packet, tag) = packet.split_at_checked(packet.len().checked_sub(16)?)?;
        let pseudo = [&[u8::try_from(destination.len()).ok()?][..], destination, packet].concat();
        let cipher = Aes128Gcm::new(&version.retry_key.into());
        let nonce = Nonce::from_slice(&version.retry_nonce);
        cipher.decrypt_in_place_detached(nonce, &pseudo, &mut [], Tag::from_slice(tag)).ok()
    };
    verify().is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::super::frames::{Frame, frames};
    use super::super::packet::Long;
    use super::{Keys, is_retry_of};

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// RFC 9001 appendix A.3, RFC 9369 appendix A.3: ACK, then a ServerHello.
    #[test]
    fn the_servers_initial_packets_of_the_standards_open() {
        let packets = [
            "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38c\
             c5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8\
             ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee",
        ];
        for hex in packets {
            let mut packet = bytes(&hex.replace(' ', ""));
            let long = Long::parse(&packet).unwrap();
            let keys = Keys::new(long.version, &DESTINATION).unwrap();
            let payload = keys.server.open(&long).unwrap();
            assert!(keys.client.open(&long).is_none());
            let Some(Frame::Crypto { offset: 0, data }) = frames(&payload).next() else { panic!() };
            assert_eq!((data[0], data.len()), (2, 90));
            *packet.last_mut().unwrap() ^= 1;
            assert!(keys.server.open(&Long::parse(&packet).unwrap()).is_none());
        }
    }

    /// RFC 9001 appendix A.4, RFC 9369 appendix A.4.
    #[test]
    fn the_retries_of_the_standards_are_authentic() {
        for hex in [
            "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
            "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6",
        ] {
            let packet = bytes(hex);
            let long = Long::parse(&packet).unwrap();
            assert!(is_retry_of(&long, &DESTINATION), "{hex}");
            assert!(!is_retry_of(&long, &DESTINATION[1..]), "{hex}");
        }
    }
}
