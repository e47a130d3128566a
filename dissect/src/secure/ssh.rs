//! SSH (RFC 4253): identification strings, KEXINIT, NEWKEYS, and what the lengths of the packets behind
//! them tell.
//!
//! In: both directions. Out: both versions, what was negotiated, whether the client logged in; encrypted
//! once both sides exchanged keys and chose a cipher that encrypts. Must never: take two identification
//! strings for an encrypted session.

mod algorithms;
mod exchange;
mod identification;
mod segments;
mod session;

use self::algorithms::{Direction, Negotiated, post_quantum};
use self::exchange::Exchange;
use self::identification::{Identification, software};
use self::session::{Encrypted, authentication};
use super::Secure;
use crate::bytes::{capped, printable};
use crate::{
    Cipher, Facts, Inspection, Plain, Prefix, Protection, Protocol, SshFacts, UnknownReason, readable,
};

/// Behind NEWKEYS, so much is looked at: can any of it be read?
const SEALED: usize = 512;
/// In pieces of this size.
const WINDOW: usize = 64;

pub(crate) fn look(client: Prefix<'_>, server: Prefix<'_>) -> Secure {
    let from_client = Identification::find(client, false);
    if matches!(from_client, Identification::No) {
        return Secure::No;
    }
    let from_server = Identification::find(server, true);
    let ssh = SshFacts {
        client_version: from_client.text(),
        server_version: from_server.text(),
        ..SshFacts::default()
    };
    use Identification::{Begun, Line, Maybe, No};
    let (client_at, server_at) = match (from_client, from_server) {
        (No, _) | (_, No) => return Secure::No,
        (Line { next: client_at, .. }, Line { next: server_at, .. }) => (client_at, server_at),
        (Maybe, Maybe) => return Secure::Maybe,
        (Begun | Line { .. }, _) | (_, Begun | Line { .. }) => {
            return handshake(ssh, "SSH identification, not answered so far");
        }
    };
    let client = Side::read(client.after(client_at));
    let server = Side::read(server.after(server_at));
    match (client.broken(), server.broken()) {
        (None, None) => conclude(ssh, &client, &server),
        (at, server) => Secure::Broken {
            at: (at.map_or(usize::MAX, |at| client_at + at), server.map_or(usize::MAX, |at| server_at + at)),
            detail: "began like SSH, went on without",
        },
    }
}

/// What one end sent behind its identification string.
struct Side<'a> {
    prefix: Prefix<'a>,
    exchange: Exchange<'a>,
}

impl<'a> Side<'a> {
    fn read(prefix: Prefix<'a>) -> Self {
        Side { prefix, exchange: Exchange::read(prefix.bytes) }
    }

    /// Behind NEWKEYS.
    fn sealed(&self) -> &'a [u8] {
        self.behind_keys().bytes
    }

    fn behind_keys(&self) -> Prefix<'a> {
        self.exchange.keys_at.map(|at| self.prefix.after(at)).unwrap_or_default()
    }

    fn encrypted(&self, direction: &Direction<'a>, software: &'a str) -> Encrypted<'a> {
        let Prefix { bytes, segments, .. } = self.behind_keys();
        Encrypted {
            bytes,
            segments,
            framing: direction.framing(),
            shape: direction.shape(),
            software,
            pads_more: self.exchange.pads_more,
            ended: self.prefix.ended,
        }
    }

    /// Whether what stands behind NEWKEYS was looked at for good: more bytes cannot make it readable.
    fn judged(&self) -> bool {
        self.prefix.ended || self.sealed().len() >= SEALED
    }

    /// Where it went on without SSH.
    fn broken(&self) -> Option<usize> {
        let sealed = self.sealed();
        let mut windows = sealed[..sealed.len().min(SEALED)].chunks(WINDOW);
        let in_the_clear = windows
            .any(|window| (window.len() == WINDOW || self.prefix.ended) && readable::is_no_chance(window));
        self.exchange.broken.or(self.exchange.keys_at.filter(|_| in_the_clear))
    }
}

fn conclude(mut ssh: SshFacts, client: &Side<'_>, server: &Side<'_>) -> Secure {
    if client.exchange.disconnected || server.exchange.disconnected {
        return handshake(ssh, "SSH key exchange ended with a disconnect");
    }
    let (Some(offered), Some(accepted)) = (&client.exchange.offer, &server.exchange.offer) else {
        return handshake(ssh, "SSH key exchange under way");
    };
    let Some(negotiated) = Negotiated::from(offered, accepted) else {
        return handshake(ssh, "SSH key exchange failed: nothing in common");
    };
    describe(&negotiated, &mut ssh);
    let new_keys = client.exchange.keys_at.is_some() && server.exchange.keys_at.is_some();
    let judged = client.judged() && server.judged();
    let versions =
        format!("{} to {}", software(ssh.client_version.as_deref()), software(ssh.server_version.as_deref()));
    if negotiated.to_server.cipher == b"none" || negotiated.to_client.cipher == b"none" {
        let detail = format!("{versions}, cipher none: not encrypted");
        return inspection(
            Protection::Plaintext(Plain::Protocol(Protocol::Ssh)),
            ssh,
            detail,
            new_keys && judged,
        );
    }
    // The exchange that follows proves nothing yet: only NEWKEYS starts the encryption.
    if !new_keys {
        return handshake(ssh, "SSH key exchange under way");
    }
    // And without an exchange there are no keys.
    if !client.exchange.exchanged || !server.exchange.exchanged {
        return handshake(ssh, "SSH keys taken into use that were never exchanged");
    }
    let from_client = client.encrypted(&negotiated.to_server, software(ssh.client_version.as_deref()));
    let from_server = server.encrypted(&negotiated.to_client, software(ssh.server_version.as_deref()));
    let (authentication, settled) = authentication(&from_client, &from_server);
    ssh.authentication = authentication;
    let by_tokens = negotiated.key_exchange.starts_with(b"gss-");
    let is_odd = |side: &Side<'_>| side.exchange.is_odd || side.exchange.exchanges_words && !by_tokens;
    if is_odd(client) || is_odd(server) {
        let detail = format!("{versions}, with more in front of the keys than an exchange of keys");
        return inspection(Protection::Unknown(UnknownReason::Opaque), ssh, detail, settled && judged);
    }
    inspection(Protection::Encrypted(Cipher::Ssh), ssh, versions, settled && judged)
}

fn describe(negotiated: &Negotiated<'_>, ssh: &mut SshFacts) {
    let name = |bytes: &[u8]| Some(printable(bytes));
    ssh.key_exchange = name(negotiated.key_exchange);
    ssh.post_quantum = post_quantum(negotiated.key_exchange);
    ssh.host_key = negotiated.host_key.and_then(name);
    ssh.client_cipher = name(negotiated.to_server.cipher);
    ssh.server_cipher = name(negotiated.to_client.cipher);
    ssh.client_mac = negotiated.to_server.mac.and_then(name);
    ssh.server_mac = negotiated.to_client.mac.and_then(name);
}

fn handshake(ssh: SshFacts, detail: &str) -> Secure {
    inspection(Protection::Unknown(UnknownReason::Handshake), ssh, detail.into(), false)
}

fn inspection(protection: Protection, ssh: SshFacts, detail: String, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Ssh),
        protection,
        tls: None,
        ssh: Some(ssh),
        upgrade: None,
        detail: Some(capped(detail)),
    };
    Secure::Is(Inspection::new(facts, settled))
}
