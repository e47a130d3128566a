//! The wrapped file key, in each copy, with a checksum: damage is not taken for a wrong key.

use jiff::Timestamp;

use super::record::{named, split_named};
use crate::keys::Wrapped;

pub const TABLE: &str = "envelope";
pub const KEY: &[u8] = b"envelope";

const VERSION: u8 = 1;

/// What opens a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub wrapped: Wrapped,
    /// When the file key was made.
    pub made: Timestamp,
}

impl Envelope {
    pub fn encode(&self) -> Vec<u8> {
        let Wrapped { kind, key_id, blob } = &self.wrapped;
        let mut bytes = vec![VERSION];
        bytes.extend(self.made.as_second().to_le_bytes());
        bytes.extend(named(kind.as_bytes(), &named(key_id.as_bytes(), blob)));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None`: damaged.
    pub fn decode(bytes: &[u8]) -> Option<Envelope> {
        let (bytes, sum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (version, rest) = bytes.split_first()?;
        let (made, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = split_named(rest)?;
        let (key_id, blob) = split_named(rest)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let wrapped = Wrapped { kind: text(kind)?, key_id: text(key_id)?, blob: blob.to_owned() };
        let made = Timestamp::from_second(i64::from_le_bytes(*made)).ok()?;
        (*version == VERSION).then_some(Envelope { wrapped, made })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_flipped_bit_of_an_envelope_is_found() {
        let wrapped = Wrapped { kind: "local".into(), key_id: "0123".into(), blob: vec![7; 60] };
        let envelope = Envelope { wrapped, made: Timestamp::from_second(1_700_000_000).unwrap() };
        let bytes = envelope.encode();
        assert_eq!(Envelope::decode(&bytes), Some(envelope));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Envelope::decode(&broken), None);
        }
        for length in 0..bytes.len() {
            assert_eq!(Envelope::decode(&bytes[..length]), None);
        }
    }
}
