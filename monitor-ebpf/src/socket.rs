//! What each socket carries with it: its owner and how far it was captured. Made with the socket,
//! inherited by accepted ones, gone with it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_jiffies64, bpf_sk_storage_get,
};
use aya_ebpf::programs::SockContext;
use monitor_common::{Kind, Owner, flow_flag};

use crate::maps::{SOCKETS, settings, tick};
use crate::{counters, emit, owner, udp};

pub const TCP: u32 = 6;
pub const UDP: u32 = 17;

/// One direction of a TCP connection.
///
/// Two processors can work on one connection at a time: inbound packets pass before the socket is
/// locked. So nothing here is read, changed and written back by more than one of them: what both may
/// write is a field of its own, written whole.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Side {
    /// Sequence number of the first payload byte; known if the beginning of the connection was seen.
    pub start: Sequence,
    /// Sequence number of offset 0 of the captures: the start, until a sample begins elsewhere.
    pub base: Sequence,
    /// Sequence number after the FIN.
    pub fin_end: Sequence,
    /// When the first payload passed, CLOCK_MONOTONIC ns; 0: not yet.
    pub first_ns: u64,
    /// Offset after the last captured byte (sent), bytes captured (received).
    pub spent: u32,
    /// Not 0: nothing is to be captured, and the first payload has still to be timed.
    pub only_first: u32,
}

/// A sequence number, once it is known: one word, so that both are written at once.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Sequence(u64);

impl Sequence {
    const KNOWN: u64 = 1 << 32;
    pub const UNKNOWN: Sequence = Sequence(0);

    #[inline(always)]
    pub fn at(number: u32) -> Sequence {
        Sequence(Sequence::KNOWN | number as u64)
    }

    #[inline(always)]
    pub fn is_known(self) -> bool {
        self.0 & Sequence::KNOWN != 0
    }

    /// Known, and this number.
    #[inline(always)]
    pub fn is(self, number: u32) -> bool {
        self.0 == Sequence::KNOWN | number as u64
    }

    /// The number; meaningless while it is unknown.
    #[inline(always)]
    pub fn number(self) -> u32 {
        self.0 as u32
    }
}

impl Side {
    const ARMED: Side = Side {
        start: Sequence::UNKNOWN,
        base: Sequence::UNKNOWN,
        fin_end: Sequence::UNKNOWN,
        first_ns: 0,
        spent: 0,
        only_first: 0,
    };

    /// The first payload byte will have this sequence number.
    #[inline(always)]
    pub fn starts_at(&mut self, number: u32) {
        if !self.start.is_known() {
            self.start = Sequence::at(number);
        }
        if !self.base.is_known() {
            self.base = Sequence::at(number);
        }
    }

    /// Payload bytes up to `reached`, the next sequence number to be acknowledged or taken; `counted`
    /// are the bytes as the kernel counts them, SYN and FIN taken off where that could be told.
    ///
    /// The packet path reads the socket without its lock, and the kernel moves its counter and its
    /// sequence number one after the other: the sequence number alone decides, and the counter gives no
    /// more than what is beyond 32 bits.
    #[inline(always)]
    pub fn payload_up_to(&self, reached: u32, counted: u64) -> u64 {
        let fin = self.fin_end.is(reached) as u32;
        if !self.start.is_known() {
            return counted.saturating_sub(fin as u64);
        }
        let low = reached.wrapping_sub(self.start.number()).wrapping_sub(fin);
        let apart = low.wrapping_sub(counted as u32) as i32;
        // Below 0: our SYN is not acknowledged yet.
        (counted as i64 + apart as i64).max(0) as u64
    }
}

/// The value of the socket storage. Zeroed by the kernel when it is made.
///
/// What every packet of a settled flow reads comes first: the kernel's pointer to the map stands right
/// before the value (`struct bpf_local_storage_data`), and is read with it, so that all of it is one
/// line of the cache.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SocketState {
    /// Jiffies from which on the next progress event is due.
    pub due: u64,
    /// IP protocol number.
    pub transport: u32,
    /// Capture up to this offset; 0: nothing.
    pub sent_limit: u32,
    /// The same, of the other direction.
    pub received_limit: u32,
    /// As in [`monitor_common::FlowEvent`]. UDP has it with each peer.
    pub sent_device: u32,
    /// [`flow_flag`] and the constants. Once the connection has begun, written by the kernel's callbacks
    /// alone, which hold the socket's lock.
    pub flags: u32,
    /// What the process asked for: the constants below. Written where a process calls, without the lock.
    pub asked: u32,
    pub cookie: u64,
    pub generation: u32,
    /// Captures that found the ring full, or [`SocketState::listener_captures`] at its limit.
    pub lost_captures: u32,
    /// Captures for a listening socket in this tick.
    pub listener_captures: u32,
    /// The port that connect() was asked for.
    pub destination_port: u32,
    pub netns: u64,
    pub owner: Owner,
    pub opened_ns: u64,
    pub established_ns: u64,
    /// Where connect() was asked to go.
    pub destination: [u32; 4],
    pub sent: Side,
    pub received: Side,
    /// UDP: number of peers seen, and the first of them.
    pub udp_peers: u32,
    pub udp_ports: u32,
    pub udp_remote: [u32; 4],
}

const _: () = assert!(size_of::<SocketState>() == monitor_common::SOCKET_STATE);
const _: () = assert!(core::mem::offset_of!(SocketState, cookie) + 8 <= 56);

impl SocketState {
    /// The capture limit of a direction.
    ///
    /// # Safety
    /// `state` is a storage value.
    #[inline(always)]
    pub unsafe fn limit(state: *mut SocketState, sent: bool) -> *mut u32 {
        // SAFETY: the caller's promise.
        unsafe { if sent { &raw mut (*state).sent_limit } else { &raw mut (*state).received_limit } }
    }

    /// The sequence number of the client's first byte, which is the same at both ends of a connection; 0: it is not known.
    ///
    /// # Safety
    /// `state` is a storage value.
    #[inline(always)]
    pub unsafe fn first_of_client(state: *const SocketState) -> u32 {
        // SAFETY: the caller's promise.
        unsafe {
            let active = (*state).flags & u32::from(flow_flag::ACTIVE) != 0;
            if active { (*state).sent.start.number() } else { (*state).received.start.number() }
        }
    }

    /// Ends the capture of a direction; the first payload, if it has still to come, is timed.
    ///
    /// # Safety
    /// `state` is a storage value.
    #[inline(always)]
    pub unsafe fn settle(state: *mut SocketState, sent: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let side = if sent { &raw mut (*state).sent } else { &raw mut (*state).received };
            if (*side).first_ns == 0 {
                (*side).only_first = 1;
                *SocketState::limit(state, sent) = u32::MAX;
            } else {
                *SocketState::limit(state, sent) = 0;
            }
        }
    }

    /// A connection was begun or accepted, and its end has not been told.
    pub const LIVE: u32 = 1 << 16;
    /// The connection came up.
    pub const ESTABLISHED: u32 = 1 << 17;
    pub const LISTENING: u32 = 1 << 18;
    /// One side has said that it sends nothing more, or is about to.
    pub const ENDING: u32 = 1 << 19;

    /// Asked: connect(), and no SYN has left.
    pub const CONNECTING: u32 = 1;
    /// Asked: close(), on a connection that was not up yet.
    pub const GAVE_UP: u32 = 1 << 1;
    /// Asked: close(), on a socket from before the programs.
    pub const RELEASED: u32 = 1 << 2;
    /// Asked: a datagram to an address of its own, whatever the socket is connected to.
    pub const ADDRESSED: u32 = 1 << 3;
}

/// The storage of a socket; null where there is none, as for a socket that is not a full one
/// (net/core/bpf_sk_storage.c looks).
///
/// # Safety
/// `sk` is a socket in the sense of the verifier.
#[inline(always)]
pub unsafe fn get(sk: *mut core::ffi::c_void) -> *mut SocketState {
    // SAFETY: the caller's promise; the map is the one declared for it.
    unsafe { bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), sk, core::ptr::null_mut(), 0).cast() }
}

/// The storage of a socket, made where there is none. A refusal is counted, and gives null.
///
/// # Safety
/// As for [`get`].
#[inline(always)]
pub unsafe fn get_or_create(sk: *mut core::ffi::c_void) -> *mut SocketState {
    // SAFETY: as for `get`.
    let state: *mut SocketState = unsafe {
        bpf_sk_storage_get(
            (&raw const SOCKETS).cast_mut().cast(),
            sk,
            core::ptr::null_mut(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
        .cast()
    };
    if !state.is_null() {
        return state;
    }
    // SAFETY: as above. Another processor may have made it meanwhile: that is no refusal.
    let state = unsafe { get(sk) };
    if state.is_null() {
        counters::storage_refused();
    }
    state
}

/// Gives a socket its first capture budget.
///
/// # Safety
/// `state` points to a storage value.
#[inline(always)]
pub unsafe fn arm(state: *mut SocketState) {
    let budget = settings().tcp_budget;
    // SAFETY: the caller's promise.
    unsafe {
        (*state).sent = Side::ARMED;
        (*state).received = Side::ARMED;
        (*state).sent_limit = budget;
        (*state).received_limit = budget;
        (*state).sent_device = 0;
        (*state).due = bpf_jiffies64() + tick();
    }
}

/// Stream sockets of TCP and datagram sockets of UDP: a raw socket can bear the same protocol, and the
/// kernel's own, from which it refuses connections, is one.
#[inline(always)]
pub fn is_followed(kind: u32, transport: u32) -> bool {
    const SOCK_STREAM: u32 = 1;
    const SOCK_DGRAM: u32 = 2;
    (kind == SOCK_STREAM && transport == TCP) || (kind == SOCK_DGRAM && transport == UDP)
}

/// A process made a socket.
#[inline(always)]
pub fn created(ctx: &SockContext) {
    // SAFETY: the context is a full socket; fields that this program type may read.
    unsafe {
        let transport = (*ctx.sock).protocol;
        if !is_followed((*ctx.sock).type_, transport) {
            return;
        }
        let state = get_or_create(ctx.sock.cast());
        if state.is_null() {
            return;
        }
        (*state).transport = transport;
        (*state).cookie = bpf_get_socket_cookie(ctx.as_ptr());
        (*state).netns = bpf_get_netns_cookie(ctx.as_ptr());
        owner::note(&raw mut (*state).owner);
        arm(state);
    }
}

/// The last process that held a socket closed it. TCP tells its end by itself, but for a connect that
/// never sent.
#[inline(always)]
pub fn released(ctx: &SockContext) {
    // SAFETY: as in `created`.
    unsafe {
        let state = get(ctx.sock.cast());
        if state.is_null() {
            return;
        }
        if (*state).transport == UDP {
            udp::socket_closed(state);
            return;
        }
        // Handed over to it: a service manager or a parent made the socket, or accepts for it. Who connected stays
        // who did, whoever holds it last.
        let connected = (*state).flags & u32::from(flow_flag::ACTIVE) != 0
            || (*state).asked & SocketState::CONNECTING != 0;
        if (!connected || (*state).owner.tgid == 0)
            && (*state).owner.tgid != owner::current_tgid()
            && !owner::is_kernel_thread()
        {
            owner::note(&raw mut (*state).owner);
        }
        if (*state).asked & SocketState::CONNECTING != 0 {
            never_sent(state);
        } else if (*state).flags & (SocketState::LIVE | SocketState::ESTABLISHED) == SocketState::LIVE {
            (*state).asked = SocketState::GAVE_UP;
        } else if (*state).flags & u32::from(flow_flag::MIDSTREAM) != 0 {
            (*state).asked = SocketState::RELEASED;
            (*state).sent_limit = u32::MAX;
            (*state).received_limit = u32::MAX;
        }
    }
}

/// # Safety
/// `state` is a storage value.
#[inline(always)]
unsafe fn never_sent(state: *mut SocketState) {
    // SAFETY: the caller's promise.
    unsafe {
        (*state).asked = 0;
        (*state).opened_ns = (*state).owner.seen_ns;
        emit::from_storage(Kind::Failed, state, flow_flag::ACTIVE | flow_flag::NOT_SENT);
    }
}
