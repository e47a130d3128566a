//! A connection that begins with something else: what a client says to a proxy before its tunnel, or to a service
//! before both turn to TLS, is in the clear whatever follows.

use super::{Before, Fingerprint, Memory, Observer, Side, State, lines};
use crate::web::connect::{self, Connect};
use crate::web::socks::{self, Socks};
use crate::{End, Layer, LayerKind, Plain, Prefix, Protection, Protocol};

impl Observer {
    /// Of a connection whose `first` bytes (of client and server) begin with these layers, which are read. It is to be
    /// fed all from the first byte on, and passes them over; `midstream`: what follows may not begin like a message.
    /// `None`: nothing of it can be read.
    ///
    /// Of what goes through a tunnel, credentials and log-ins are told, and at whom those were: what is asked for is asked
    /// of somebody else. Where what follows is not in the clear, nothing is told of what was asked for before.
    pub fn behind(
        layers: &[Layer],
        first: (&[u8], &[u8]),
        protection: Protection,
        midstream: bool,
        fingerprint: &dyn Fingerprint,
    ) -> Option<Observer> {
        let no_operations = !matches!(protection, Protection::Plaintext(_));
        let mut memory = Memory { no_operations, ..Memory::default() };
        let mut reads = false;
        let mut at = (0, 0);
        // One that turned to HTTP/2 is read from its first request on.
        let is_http2 = matches!(protection, Protection::Plaintext(Plain::Protocol(Protocol::Http2)));
        let (layers, turned) = match layers {
            [outer @ .., Layer { kind: LayerKind::Upgrade(Protocol::Http), .. }] if is_http2 => (outer, true),
            _ => (layers, false),
        };
        let protection = match turned {
            true => Protection::Plaintext(Plain::Protocol(Protocol::Http)),
            false => protection,
        };
        for layer in layers {
            let spoken = layer.protocol().map(|protocol| Protection::Plaintext(Plain::Protocol(protocol)));
            if let Some(mut observer) = spoken.and_then(Observer::new) {
                reads = true;
                memory.before = match layer.kind {
                    LayerKind::Header => None,
                    LayerKind::Tunnel(_) => Some(Before::Tunnel),
                    LayerKind::Upgrade(_) => Some(Before::Upgrade),
                };
                observer.memory = memory;
                observer.feed(End::Client, part(first.0, at.0, layer.client_at), fingerprint);
                observer.feed(End::Server, part(first.1, at.1, layer.server_at), fingerprint);
                memory = observer.memory;
            }
            if let LayerKind::Tunnel(protocol) = layer.kind {
                let said = part(first.0, at.0, layer.client_at);
                memory.at = Some(far_end(protocol, said, part(first.1, at.1, layer.server_at)));
                memory.no_operations = true;
            }
            at = (layer.client_at, layer.server_at);
        }
        memory.before = turned.then_some(Before::Upgrade);
        memory.passed_over |= turned || !layers.is_empty();
        let Some(inner) = Observer::new(protection) else {
            let done = || Side { state: State::Done, ..Side::default() };
            let nothing = Observer {
                machine: Box::new(lines::Lines::default()),
                client: done(),
                server: done(),
                memory,
            };
            return reads.then_some(nothing);
        };
        let state = if midstream { State::Unsure } else { State::InStep };
        let side = |skip: usize| Side { skip: skip as u64, state, ..Side::default() };
        let mut observer = Observer { client: side(at.0), server: side(at.1), memory, ..inner };
        if midstream {
            observer.machine.gap(End::Client);
            observer.machine.gap(End::Server);
        }
        Some(observer)
    }
}

/// Whom the client asked a proxy for a tunnel to, in an exchange of this protocol.
fn far_end(protocol: Protocol, client: &[u8], server: &[u8]) -> String {
    let prefix = |bytes| Prefix { bytes, ..Prefix::default() };
    let to = match protocol {
        Protocol::Socks => match socks::look(prefix(client), prefix(server)) {
            Socks::Tunnel { through, .. } => through.map(|through| through.to),
            _ => None,
        },
        _ => match connect::look(prefix(client), prefix(server)) {
            Connect::Tunnel(tunnel) => Some(tunnel.to),
            _ => None,
        },
    };
    to.unwrap_or_else(|| "the end of its tunnel".to_owned())
}

/// As much of it as is there.
fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to.min(bytes.len())).unwrap_or(&[])
}
