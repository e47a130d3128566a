//! An address and a port as a flow keeps them: 18 bytes instead of the 32 of a `SocketAddr`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::event::{address, to_bytes};

/// IPv4 as v4-mapped IPv6, as in the events.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    ip: [u8; 16],
    port: u16,
}

impl Endpoint {
    pub fn new(ip: [u8; 16], port: u16) -> Self {
        Endpoint { ip, port }
    }

    pub fn socket(&self) -> SocketAddr {
        address(self.ip, self.port)
    }

    pub fn ip(&self) -> IpAddr {
        self.socket().ip()
    }

    /// As the kernel's tables have it.
    pub fn bytes(&self) -> [u8; 16] {
        self.ip
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Endpoint { ip: to_bytes(socket.ip()), port: socket.port() }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}
