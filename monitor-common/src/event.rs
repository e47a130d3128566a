//! Events: what a program puts into the ring, and the maps that go with them.

use crate::Plain;

/// Data bytes that a capture record can carry: the kernel wants record sizes that are constants,
/// so each capture takes the smallest of these that fits.
/// The third holds a segment of Ethernet.
pub const CAPTURE_SIZES: [usize; 5] = [256, 1024, 1536, 4096, 65_536];

/// The process behind a socket, as the kernel saw it when it made, connected or used the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// When this was seen, CLOCK_MONOTONIC ns. A process that started later is another one.
    pub seen_ns: u64,
    /// Cgroup v2 id.
    pub cgroup: u64,
    /// Thread group id: the pid of user space. 0: unknown.
    pub tgid: u32,
    /// Effective user id at the time.
    pub uid: u32,
    /// `comm`, NUL-padded.
    pub comm: [u8; 16],
}

/// What a process was seen to execute last, under its thread group id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Executed {
    /// When, CLOCK_MONOTONIC ns.
    pub at_ns: u64,
    /// When its first thread ended, CLOCK_MONOTONIC ns; 0: not yet. What has the id later may be another process.
    pub ended_ns: u64,
    /// `comm` from then on, NUL-padded: the name of the file.
    pub comm: [u8; 16],
    /// Whose this is: the kernel may give the place to another while it is read.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Processes of which this is kept: who is looked up least makes room. So many places, too, has the table that says when
/// something was executed last: a power of two, in which processes that share one are taken for each other.
pub const EXECUTED: u32 = 16_384;

/// In place of the index of an interface: packets were seen on several.
pub const DEVICES: u32 = u32::MAX;

/// Every event but a capture. Each stands by itself: a lost one takes nothing with it but time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEvent {
    /// [`crate::Kind`]. In the overflow map, 0 until the entry is whole.
    pub kind: u8,
    /// IP protocol number: 6 or 17.
    pub transport: u8,
    /// [`flow_flag`].
    pub flags: u16,
    /// Close, failed: the TCP state that the connection left, as in `include/net/tcp_states.h`. Open of
    /// an accepted connection, established, progress (TCP): the sequence number of the first byte of who connected, the
    /// same at both ends; 0: unknown. The end of a UDP socket: 1 where it had one peer, which the event names.
    pub detail: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// Cookie of the network namespace; 0: unknown.
    pub netns: u64,
    /// Time of the event, CLOCK_MONOTONIC ns.
    pub at_ns: u64,
    /// When the flow began, CLOCK_MONOTONIC ns; 0: before the programs were there.
    pub opened_ns: u64,
    /// When the connection was established; 0: not.
    pub established_ns: u64,
    /// When the first payload was sent (TCP); 0: not yet, or not seen.
    pub first_sent_ns: u64,
    /// When the first payload arrived (TCP); 0: not yet, or not seen.
    pub first_received_ns: u64,
    /// Payload bytes sent: acknowledged by the peer (TCP), handed to IP (UDP).
    pub sent_bytes: u64,
    /// Payload bytes received: in order (TCP), arrived at the socket (UDP).
    pub received_bytes: u64,
    /// Segments or datagrams sent.
    pub sent_packets: u64,
    /// Segments or datagrams received.
    pub received_packets: u64,
    /// Smoothed round-trip time in µs; 0: unknown.
    pub rtt_us: u32,
    /// Segments retransmitted.
    pub retransmits: u32,
    /// Captures of this flow that found the ring full, or the listener's limit before it was accepted.
    pub lost_captures: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// Index of the interface that all packets of the flow left through which were seen, in its network namespace;
    /// 0: none was seen yet, or it is not known; [`DEVICES`].
    pub sent_device: u32,
    /// The same, of what arrived (UDP; else 0).
    pub received_device: u32,
    /// Local address; IPv4 as v4-mapped IPv6.
    pub local: [u8; 16],
    /// Remote address; IPv4 as v4-mapped IPv6.
    pub remote: [u8; 16],
    /// The process behind the socket.
    pub owner: Owner,
}

/// Slots of the journal: its head, and ends that were taken from the ring and given back before they were told.
pub const JOURNAL_SLOTS: u32 = 16_385;

/// One slot of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct JournalSlot {
    /// The ring's position after the record.
    pub position: u64,
    pub end: FlowEvent,
}

/// Flags of a [`FlowEvent`].
pub mod flow_flag {
    /// This host began the connection or sent the first datagram.
    pub const ACTIVE: u16 = 1;
    /// First seen in mid-stream: opened before the programs were attached.
    pub const MIDSTREAM: u16 = 2;
    /// The socket has no storage: owner and captures are missing.
    pub const NO_STORAGE: u16 = 4;
    /// Segments came in while a connect was pending (a refusal, not a silence).
    pub const ANSWERED: u16 = 8;
    /// The connect ended before a packet left: no route, or refused by the host itself.
    pub const NOT_SENT: u16 = 16;
    /// The application closed the socket while the connect was pending.
    pub const GAVE_UP: u16 = 32;
    /// The kernel gave up: nobody answered the last of its attempts.
    pub const TIMED_OUT: u16 = 64;
}

/// The front of a capture record; `len` data bytes follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CaptureHead {
    /// [`crate::Kind::Capture`].
    pub kind: u8,
    /// IP protocol number: 6 or 17.
    pub transport: u8,
    /// [`capture_flag`].
    pub flags: u16,
    /// Data bytes that follow.
    pub len: u32,
    /// Socket cookie; of the listening socket with [`capture_flag::LISTENER`].
    pub cookie: u64,
    /// Cookie of the network namespace; 0: unknown.
    pub netns: u64,
    /// CLOCK_MONOTONIC ns.
    pub at_ns: u64,
    /// TCP: offset of the first data byte in the stream of this direction (with `LISTENER`: the
    /// sequence number itself). UDP: number of the datagram in this direction, from 0.
    pub offset: u32,
    /// Payload bytes of the packet, of which `len` were captured.
    pub payload_len: u32,
    /// Generation of the decision that asked for this capture; 0: the first budget.
    pub generation: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// As in [`FlowEvent`], this packet among them (TCP; else 0); says nothing with [`capture_flag::LISTENER`].
    pub sent_device: u32,
    /// Zero.
    pub reserved: u32,
    /// Local address; IPv4 as v4-mapped IPv6.
    pub local: [u8; 16],
    /// Remote address; IPv4 as v4-mapped IPv6.
    pub remote: [u8; 16],
}

/// Flags of a [`CaptureHead`].
pub mod capture_flag {
    /// Sent by this host; without it, received.
    pub const SENT: u16 = 1;
    /// Came with or before the last packet of the handshake, so the kernel knew the listening
    /// socket only: the flow is found by its addresses.
    pub const LISTENER: u16 = 2;
    /// Offset 0 is not the start of the stream.
    pub const MIDSTREAM: u16 = 4;
    /// This host began the connection or sent the first datagram.
    pub const ACTIVE: u16 = 8;
}

/// What user space wants of a flow from now on; taken out of the map by the program that applies
/// it. The channel costs a settled flow nothing: it is read while capturing, and once a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// [`decision`].
    pub action: u32,
    /// Comes back in [`CaptureHead::generation`].
    pub generation: u32,
    /// Bytes to capture of what is sent: up to this stream offset (`EXTEND`), or this many from
    /// here (`SAMPLE`).
    pub sent_limit: u32,
    /// Bytes to capture of what is received.
    pub received_limit: u32,
}

/// Actions of a [`Decision`].
pub mod decision {
    /// The flow is settled: capture nothing more.
    pub const SETTLE: u32 = 1;
    /// Capture both directions up to other offsets.
    pub const EXTEND: u32 = 2;
    /// Capture from here on; offsets begin again at 0.
    pub const SAMPLE: u32 = 3;
}

/// Key of the table of UDP flows: one peer of one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct UdpKey {
    /// Socket cookie.
    pub cookie: u64,
    /// Remote address; IPv4 as v4-mapped IPv6.
    pub remote: [u8; 16],
    /// Remote port.
    pub remote_port: u16,
    /// Local port.
    pub local_port: u16,
    /// Zero.
    pub reserved: u32,
}

impl UdpKey {
    /// Under which a decision waits for this flow: the cookie of a TCP connection; for a UDP peer a
    /// mixture of all that makes it one, with the highest bit set, which no cookie has. Who does not know the
    /// secret cannot choose two peers that are mixed to the same: of any two, one secret in two billion does (NH,
    /// the hash of UMAC; RFC 4418).
    #[inline(always)]
    pub fn decision_key(&self, secret: &Secret) -> u64 {
        if self.remote_port == 0 && self.local_port == 0 {
            return self.cookie;
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.remote;
        let words = [
            self.cookie as u32,
            (self.cookie >> 32) as u32,
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
            (self.remote_port as u32) << 16 | self.local_port as u32,
            0,
        ];
        let mut mixed = 0_u64;
        let mut index = 0;
        while index < words.len() {
            let one = words[index].wrapping_add(secret[index]);
            let other = words[index + 1].wrapping_add(secret[index + 1]);
            mixed = mixed.wrapping_add((one as u64).wrapping_mul(other as u64));
            index += 2;
        }
        mixed | 1 << 63
    }
}

/// What [`UdpKey::decision_key`] mixes in: drawn by the loader each time it loads the programs.
pub type Secret = [u32; 8];

/// Value of the table of UDP flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UdpFlow {
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Payload bytes sent.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_packets: u64,
    /// Payload bytes received.
    pub received_bytes: u64,
    /// First datagram, CLOCK_MONOTONIC ns.
    pub opened_ns: u64,
    /// Jiffies of the last progress event.
    pub last_tick: u64,
    /// Bytes still to capture of what is sent.
    pub sent_budget: u32,
    /// Bytes still to capture of what is received.
    pub received_budget: u32,
    /// Captures that found the ring full.
    pub lost_captures: u32,
    /// Generation of the decision in force.
    pub generation: u32,
    /// [`flow_flag`].
    pub flags: u32,
    /// As in [`FlowEvent`].
    pub sent_device: u32,
    /// As in [`FlowEvent`].
    pub received_device: u32,
    /// Zero.
    pub reserved: u32,
    /// Local address of the first datagram; IPv4 as v4-mapped IPv6.
    pub local: [u8; 16],
}

// SAFETY (all): repr(C), integers and byte arrays only, sizes checked below to hold no padding.
unsafe impl Plain for Owner {}
// SAFETY: as above.
unsafe impl Plain for FlowEvent {}
// SAFETY: as above.
unsafe impl Plain for JournalSlot {}
// SAFETY: as above.
unsafe impl Plain for CaptureHead {}
// SAFETY: as above.
unsafe impl Plain for Decision {}
// SAFETY: as above.
unsafe impl Plain for UdpKey {}
// SAFETY: as above.
unsafe impl Plain for UdpFlow {}
// SAFETY: as above.
unsafe impl Plain for Executed {}

const _: () = assert!(size_of::<Owner>() == 40);
const _: () = assert!(size_of::<FlowEvent>() == 8 + 11 * 8 + 4 * 3 + 4 + 8 + 32 + 40);
const _: () = assert!(size_of::<JournalSlot>() == 8 + size_of::<FlowEvent>());
const _: () = assert!(size_of::<CaptureHead>() == 8 + 3 * 8 + 3 * 4 + 4 + 8 + 32);
const _: () = assert!(size_of::<Decision>() == 16);
const _: () = assert!(size_of::<UdpKey>() == 32);
const _: () = assert!(size_of::<Executed>() == 40);
const _: () = assert!(size_of::<UdpFlow>() == 6 * 8 + 8 * 4 + 16);
