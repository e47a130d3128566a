//! What goes before the part of a connection that is judged, on the same connection.
//!
//! A header of the PROXY protocol, an exchange with a proxy that grants a tunnel, a request that turns the
//! connection into TLS: the answer is about what follows. What was said before is in the clear all the same, and
//! [`crate::activity::Observer::behind`] reads it.

use crate::inspect::Wants;
use crate::{Inspection, Protocol};

/// One of them, outermost first in [`Inspection::layers`]: what it is, and where it ends in the bytes of each
/// direction. That may be behind the last byte that is there; all of it ([`usize::MAX`]), where what follows is not
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub kind: LayerKind,
    pub client_at: usize,
    pub server_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A header of the PROXY protocol, which holds no secret.
    Header,
    /// An exchange in this protocol (HTTP CONNECT, SOCKS), in which a proxy granted a tunnel to somebody else.
    Tunnel(Protocol),
    /// An exchange in this protocol, by which both ends agreed to go on in another (TLS, HTTP/2, WebSocket).
    Upgrade(Protocol),
}

impl Layer {
    /// What is spoken in it.
    pub fn protocol(self) -> Option<Protocol> {
        match self.kind {
            LayerKind::Header => None,
            LayerKind::Tunnel(protocol) | LayerKind::Upgrade(protocol) => Some(protocol),
        }
    }
}

impl Inspection {
    /// The same, where what was looked at stands behind such a layer.
    pub(crate) fn behind(mut self, kind: LayerKind, client_at: usize, server_at: usize) -> Inspection {
        self.wants = self.wants.behind(client_at, server_at);
        for layer in &mut self.layers {
            layer.client_at = layer.client_at.saturating_add(client_at);
            layer.server_at = layer.server_at.saturating_add(server_at);
        }
        self.layers.insert(0, Layer { kind, client_at, server_at });
        self
    }
}

impl Wants {
    /// The same, where what was looked at begins at these offsets.
    fn behind(self, client_at: usize, server_at: usize) -> Wants {
        let behind = |wanted: u32, at: usize| match wanted {
            0 => 0,
            wanted => wanted.saturating_add(u32::try_from(at).unwrap_or(u32::MAX)),
        };
        Wants { client: behind(self.client, client_at), server: behind(self.server, server_at) }
    }
}
