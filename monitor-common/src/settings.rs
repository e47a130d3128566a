//! Settings that the daemon writes into the programs before they are loaded.

use crate::Plain;

/// Read-only to the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`crate::ABI_VERSION`] of the daemon.
    pub abi: u32,
    /// First bytes to capture of each direction of a TCP connection.
    pub tcp_budget: u32,
    /// The same, once a server began a TLS handshake that shows its certificates.
    pub handshake_budget: u32,
    /// First bytes to capture of each direction of a UDP flow.
    pub udp_budget: u32,
    /// Captures a listening socket may send in one tick.
    pub listener_captures: u32,
    /// Bytes of the ring that captures may fill, half of it: the rest is for what happens to flows.
    pub capture_room: u32,
    /// Jiffies between two progress events of one flow.
    pub tick: u64,
}

// SAFETY: repr(C), integers only, size checked below to hold no padding.
unsafe impl Plain for Settings {}
const _: () = assert!(size_of::<Settings>() == 32);
