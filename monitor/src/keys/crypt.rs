//! AES-256-GCM, keys derived from keys, and random bytes of the kernel.
//!
//! Sealed: `nonce (12) | ciphertext | tag (16)`. Nonces are random: NIST SP 800-38D, 8.3, limits a key to
//! 2^32 of them; who seals counts. A key is wiped when it is dropped, and is shown to nobody.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::KeyError;

const NONCE: usize = 12;

/// What HMAC-SHA-256 gives.
pub type Tag = [u8; 32];

/// 256 bits.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Out of the kernel's random bytes.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn random() -> Result<Key, KeyError> {
        let mut key = Key(Zeroizing::new([0; 32]));
        fill(&mut key.0[..])?;
        Ok(key)
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let mut key = Key(Zeroizing::new([0; 32]));
        if bytes.len() != key.0.len() {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    /// All bytes are alike: nobody's key, but what stands in a file that was never filled in.
    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(|byte| *byte == self.0[0])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// Another key for another purpose: HKDF-SHA-256 (RFC 5869).
    pub fn derive(&self, purpose: &str) -> Key {
        let mut key = Key(Zeroizing::new([0; 32]));
        // 32 bytes are less than the 8160 that HKDF can give: this cannot fail.
        let _ = Hkdf::<Sha256>::new(Some(b"streamwatch state"), self.bytes())
            .expand(purpose.as_bytes(), &mut key.0[..]);
        key
    }

    /// Which key this is, for people and files; says nothing of it.
    pub fn id(&self) -> String {
        self.derive("id").bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// HMAC-SHA-256 (RFC 2104) of parts, each with its length before it.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        // HMAC takes keys of every length: this cannot fail.
        let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(self.bytes()) else { return [0; 32] };
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Random bytes of the kernel.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), KeyError> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|error| KeyError::Refused(format!("the kernel gives no random bytes: {error}")))?;
    }
    Ok(())
}

/// Seals `plain`; `context` must be the same when it is opened.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn seal(key: &Key, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut nonce = [0; NONCE];
    fill(&mut nonce)?;
    let cipher = Aes256Gcm::new(key.bytes().into());
    let sealed = cipher
        .encrypt(Nonce::from_slice(&nonce), Payload { msg: plain, aad: context })
        .map_err(|_| KeyError::Refused("too long to be sealed".to_owned()))?;
    Ok([&nonce[..], &sealed].concat())
}

/// `None`: not sealed by this key in this context, or damaged.
pub fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    let cipher = Aes256Gcm::new(key.bytes().into());
    let plain = cipher.decrypt(Nonce::from_slice(nonce), Payload { msg: sealed, aad: context }).ok()?;
    Some(Zeroizing::new(plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_key_in_its_place_and_whole() {
        let key = Key::random().unwrap();
        let sealed = seal(&key, b"here", b"plain").unwrap();
        assert_eq!(open(&key, b"here", &sealed).unwrap().as_slice(), b"plain");
        assert_ne!(sealed, seal(&key, b"here", b"plain").unwrap(), "the same nonce twice");
        assert!(open(&key, b"there", &sealed).is_none());
        assert!(open(&Key::random().unwrap(), b"here", &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut broken = sealed.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, b"here", &broken).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, b"here", &sealed[..length]).is_none(), "{length} bytes");
        }
    }

    /// Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), appendix B.
    #[test]
    fn it_is_aes_256_gcm() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let key = Key::from_bytes(&bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"));
        let sealed = bytes(
            "cafebabefacedbaddecaf888522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        );
        let plain = open(&key.unwrap(), &bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2"), &sealed).unwrap();
        assert_eq!(plain[..8], bytes("d9313225f88406e5"));
        assert_eq!(plain.len(), 60);
    }

    #[test]
    fn keys_for_different_purposes_differ_and_none_is_shown() {
        let key = Key::from_bytes(&[7; 32]).unwrap();
        assert_ne!(key.derive("a").bytes(), key.derive("b").bytes());
        assert_ne!(key.tag(&[b"ab", b"c"]), key.tag(&[b"a", b"bc"]));
        assert_eq!(format!("{key:?}"), "Key");
        assert_eq!(key.id().len(), 16);
        assert!(!key.id().contains("0707"));
    }
}
