//! What names a flow, wherever it is told of.

use std::net::SocketAddr;

use monitor_common::{FlowEvent, UdpKey};

use crate::event::to_bytes;
use crate::model::Transport;

/// The socket cookie, and for UDP the peer and the local port. TCP leaves those zero.
pub type FlowKey = UdpKey;

/// The key of the flow that an event is about.
pub fn key_of(event: &FlowEvent) -> FlowKey {
    if event.transport == 17 {
        FlowKey {
            cookie: event.cookie,
            remote: event.remote,
            remote_port: event.remote_port,
            local_port: event.local_port,
            reserved: 0,
        }
    } else {
        FlowKey { cookie: event.cookie, ..FlowKey::default() }
    }
}

/// The key of the flow that a capture is about.
pub fn key_of_capture(head: &monitor_common::CaptureHead) -> FlowKey {
    if head.transport == 17 {
        FlowKey {
            cookie: head.cookie,
            remote: head.remote,
            remote_port: head.remote_port,
            local_port: head.local_port,
            reserved: 0,
        }
    } else {
        FlowKey { cookie: head.cookie, ..FlowKey::default() }
    }
}

/// The key that a socket found at start-up has.
pub fn key_of_socket(transport: Transport, cookie: u64, local: SocketAddr, remote: SocketAddr) -> FlowKey {
    match transport {
        Transport::Tcp => FlowKey { cookie, ..FlowKey::default() },
        Transport::Udp => FlowKey {
            cookie,
            remote: to_bytes(remote.ip()),
            remote_port: remote.port(),
            local_port: local.port(),
            reserved: 0,
        },
    }
}
