//! Loss accounting: for every kind of event, offered = delivered + lost.

use crate::Plain;

/// What an event tells. The discriminants are the `kind` bytes of [`crate::FlowEvent`] and
/// [`crate::CaptureHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A flow begins: a connect was begun, a connection accepted, or a first datagram seen.
    Open = 1,
    /// A TCP connection that this host began is established.
    Established = 2,
    /// Totals of a flow that lives, at most one a tick.
    Progress = 3,
    /// Final totals.
    Close = 4,
    /// A connection that never came up.
    Failed = 5,
    /// A socket began to listen.
    Listen = 6,
    /// A listening socket closed.
    Unlisten = 7,
    /// A UDP socket with several peers closed; its totals over all peers.
    SocketClosed = 8,
    /// First bytes of one direction.
    Capture = 9,
    /// This host refused a connection that was begun elsewhere: nobody listens there. So many a tick and
    /// processor are told at most.
    Refused = 10,
}

/// Number of counter slots; slot 0 is unused.
pub const KINDS: usize = 11;

impl Kind {
    /// All kinds, in order of their discriminants.
    pub const ALL: [Kind; KINDS - 1] = [
        Kind::Open,
        Kind::Established,
        Kind::Progress,
        Kind::Close,
        Kind::Failed,
        Kind::Listen,
        Kind::Unlisten,
        Kind::SocketClosed,
        Kind::Capture,
        Kind::Refused,
    ];

    /// The kind of a `kind` byte.
    pub const fn from_byte(byte: u8) -> Option<Kind> {
        let index = byte as usize;
        if index == 0 || index >= KINDS {
            return None;
        }
        Some(Self::ALL[index - 1])
    }

    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Established => "established",
            Kind::Progress => "progress",
            Kind::Close => "close",
            Kind::Failed => "failed",
            Kind::Listen => "listen",
            Kind::Unlisten => "unlisten",
            Kind::SocketClosed => "socket_closed",
            Kind::Capture => "capture",
            Kind::Refused => "refused",
        }
    }
}

/// Cumulative counters, one set a processor, summed by the daemon. Never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Events that a program wanted to send, by kind.
    pub offered: [u64; KINDS],
    /// Events that found the ring full, by kind. A close that went to the overflow map instead
    /// counts here and in `rescued`.
    pub lost: [u64; KINDS],
    /// Payload bytes that lost captures carried; for other kinds zero.
    pub lost_bytes: u64,
    /// Close events that went to the overflow map.
    pub rescued: u64,
    /// Close events that found the overflow map full too: their totals live on in `totals` only.
    pub overflow_full: u64,
    /// Sockets whose storage the kernel refused.
    pub storage_refused: u64,
    /// UDP packets and bytes of peers that did not fit into the table of UDP flows.
    pub udp_untracked_packets: u64,
    /// See `udp_untracked_packets`.
    pub udp_untracked_bytes: u64,
    /// Payload bytes of everything that has closed or was counted by datagram, see [`totals`].
    pub totals: [u64; 8],
}

/// Indices into [`Counters::totals`].
pub mod totals {
    /// Payload bytes sent and acknowledged on closed TCP connections.
    pub const TCP_SENT: usize = 0;
    /// Payload bytes received on closed TCP connections.
    pub const TCP_RECEIVED: usize = 1;
    /// Closed TCP connections that were established.
    pub const TCP_CLOSED: usize = 2;
    /// Payload bytes sent in datagrams.
    pub const UDP_SENT: usize = 3;
    /// Payload bytes that arrived at sockets in datagrams.
    pub const UDP_RECEIVED: usize = 4;
    /// Payload bytes of datagrams on sockets without storage (in neither direction's flow).
    pub const UDP_NO_STORAGE: usize = 5;
}

// SAFETY: repr(C), u64 only.
unsafe impl Plain for Counters {}
const _: () = assert!(size_of::<Counters>() == 8 * (2 * KINDS + 6 + 8));
