//! What two KEXINITs lead to (RFC 4253 section 7.1).

use super::exchange::{Algorithms, Offer};

/// Lists of hostile length: 64 names are more than anyone has.
const MOST: usize = 64;

/// What both sides agreed upon, for want of a better choice by rule.
pub(super) struct Negotiated<'a> {
    pub key_exchange: &'a [u8],
    /// `None`: the key exchange does without (GSSAPI).
    pub host_key: Option<&'a [u8]>,
    pub to_server: Direction<'a>,
    pub to_client: Direction<'a>,
}

/// Of one direction.
pub(super) struct Direction<'a> {
    pub cipher: &'a [u8],
    /// `None`: the cipher authenticates by itself.
    pub mac: Option<&'a [u8]>,
    pub compression: &'a [u8],
}

impl<'a> Negotiated<'a> {
    /// `None`: they have nothing in common, and the connection fails.
    pub fn from(client: &Offer<'a>, server: &Offer<'a>) -> Option<Self> {
        let host_key = first_common(client.host_key, server.host_key);
        let signing = names(client.host_key).any(|name| has(server.host_key, name) && name != b"null");
        let key_exchange = names(client.key_exchange).find(|name| {
            !is_marker(name) && has(server.key_exchange, name) && (signing || !needs_signature(name))
        })?;
        if host_key.is_none() && needs_signature(key_exchange) {
            return None;
        }
        Some(Negotiated {
            key_exchange,
            host_key: host_key.filter(|name| *name != b"null"),
            to_server: Direction::from(&client.to_server, &server.to_server)?,
            to_client: Direction::from(&client.to_client, &server.to_client)?,
        })
    }
}

impl<'a> Direction<'a> {
    fn from(client: &Algorithms<'a>, server: &Algorithms<'a>) -> Option<Self> {
        let cipher = first_common(client.cipher, server.cipher)?;
        let mac = match authenticates(cipher) {
            true => None,
            false => Some(first_common(client.mac, server.mac)?),
        };
        Some(Direction { cipher, mac, compression: first_common(client.compression, server.compression)? })
    }

    /// Where the lengths of packets are encrypted as well: how many bytes a packet takes.
    pub fn shape(&self) -> Option<Shape> {
        if self.compression == b"zlib" {
            return None;
        }
        match (self.cipher, self.mac) {
            // OpenSSH's PROTOCOL.chacha20poly1305: the length and the tag stand outside.
            (b"chacha20-poly1305@openssh.com" | b"chacha20-poly1305", _) => {
                Some(Shape { block: 8, inside: 0, around: 4 + 16 })
            }
            // RFC 4253 section 6: the length is encrypted along.
            (cipher, Some(mac)) => {
                Some(Shape { block: block_of(cipher)?, inside: 4, around: tag_over_plaintext(mac)? })
            }
            _ => None,
        }
    }

    /// Where the lengths of packets can be read.
    pub fn framing(&self) -> Option<Framing> {
        if self.compression == b"zlib" {
            // From the first packet on: lengths tell nothing of what is within.
            return None;
        }
        let block = block_of(self.cipher)?;
        match self.mac {
            // RFC 5647 section 7.3: the length goes unencrypted.
            None => Some(Framing { block, tag: 16 }),
            Some(mac) => Some(Framing { block, tag: etm_tag(mac)? }),
        }
    }
}

/// Packets whose length is in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    /// The length is a multiple of it.
    pub block: u32,
    /// Bytes behind each packet.
    pub tag: usize,
}

/// How many bytes a packet takes whose length is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// What is padded is a multiple of it.
    pub block: u32,
    /// Bytes of the length among what is padded, and bytes around that.
    pub inside: u32,
    pub around: u32,
}

fn block_of(cipher: &[u8]) -> Option<u32> {
    Some(match cipher {
        name if name.starts_with(b"aes") || name.starts_with(b"AEAD_AES_") => 16,
        b"3des-ctr" | b"3des-cbc" => 8,
        name if name.starts_with(b"camellia") => 16,
        b"rijndael-cbc@lysator.liu.se" => 16,
        _ => return None,
    })
}

/// Bytes of a MAC over what is not encrypted yet (RFC 4253 section 6.4, RFC 6668, OpenSSH's PROTOCOL).
fn tag_over_plaintext(mac: &[u8]) -> Option<u32> {
    Some(match mac {
        b"hmac-sha2-256" => 32,
        b"hmac-sha2-512" => 64,
        b"hmac-sha1" => 20,
        b"hmac-sha1-96" | b"hmac-md5-96" => 12,
        b"hmac-md5" | b"umac-128@openssh.com" => 16,
        b"umac-64@openssh.com" => 8,
        _ => return None,
    })
}

/// Encrypt-then-MAC (OpenSSH's PROTOCOL, section 1.6): bytes of the MAC.
fn etm_tag(mac: &[u8]) -> Option<usize> {
    Some(match mac.strip_suffix(b"-etm@openssh.com")? {
        b"hmac-sha2-256" => 32,
        b"hmac-sha2-512" => 64,
        b"hmac-sha1" => 20,
        b"hmac-sha1-96" | b"hmac-md5-96" => 12,
        b"hmac-md5" | b"umac-128" => 16,
        b"umac-64" => 8,
        b"hmac-ripemd160" => 20,
        _ => return None,
    })
}

/// Ciphers with an authentication tag of their own: what MACs were agreed upon does not count.
fn authenticates(cipher: &[u8]) -> bool {
    matches!(
        cipher,
        b"chacha20-poly1305@openssh.com"
            | b"chacha20-poly1305"
            | b"aes128-gcm@openssh.com"
            | b"aes256-gcm@openssh.com"
            | b"aes128-gcm"
            | b"aes192-gcm"
            | b"aes256-gcm"
            | b"AEAD_AES_128_GCM"
            | b"AEAD_AES_256_GCM"
    )
}

/// Whether this key exchange withstands a quantum computer; `None`: it is not known.
pub(super) fn post_quantum(key_exchange: &[u8]) -> Option<bool> {
    const HYBRID: [&[u8]; 8] = [
        b"sntrup761x25519-",
        b"sntrup4591761x25519-",
        b"mlkem768x25519-",
        b"mlkem768nistp256-",
        b"mlkem1024nistp384-",
        b"x25519-kyber-",
        b"ecdh-nistp256-kyber-",
        b"ecdh-nistp384-kyber-",
    ];
    const CLASSIC: [&[u8]; 9] = [
        b"curve25519-",
        b"curve448-",
        b"ecdh-sha2-",
        b"ecmqv-sha2",
        b"diffie-hellman-group",
        b"rsa1024-sha1",
        b"rsa2048-sha256",
        b"gss-",
        b"kexAlgoCurve25519SHA256",
    ];
    let is = |known: &[&[u8]]| known.iter().any(|prefix| key_exchange.starts_with(prefix));
    match (is(&HYBRID), is(&CLASSIC)) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Names among the key exchanges that stand for something else (RFC 8308 section 2.1, OpenSSH's PROTOCOL
/// section 1.10, Dropbear).
fn is_marker(name: &[u8]) -> bool {
    name.starts_with(b"ext-info-") || name.starts_with(b"kex-strict-") || name.starts_with(b"kexguess2@")
}

/// All but GSSAPI (RFC 4462) and RSA key transport (RFC 4432) have the host key sign.
fn needs_signature(key_exchange: &[u8]) -> bool {
    !key_exchange.starts_with(b"gss-") && !key_exchange.starts_with(b"rsa")
}

fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',').take(MOST).filter(|name| !name.is_empty())
}

fn has(list: &[u8], wanted: &[u8]) -> bool {
    names(list).any(|name| name == wanted)
}

/// The client's first that the server has, too.
fn first_common<'a>(client: &'a [u8], server: &[u8]) -> Option<&'a [u8]> {
    names(client).find(|name| has(server, name))
}
