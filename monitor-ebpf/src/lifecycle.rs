//! TCP from the kernel's own callbacks: begun, established, failed, closed. No cost per packet.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTO_CB,
    BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_TCP_LISTEN_CB, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_jiffies64, bpf_ktime_get_ns, bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::programs::SockOpsContext;
use monitor_common::{FlowEvent, Kind, flow_flag, totals};

use crate::log::note;
use crate::maps::tick;
use crate::socket::{self, Sequence, SocketState, TCP};
use crate::{counters, decision, emit, settled};

// include/net/tcp_states.h
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u32 = 8;
const TCP_LISTEN: u32 = 10;
const TCP_CLOSING: u32 = 11;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// One callback; the kernel makes about 16 of them a connection, most of no interest.
#[inline(always)]
pub fn callback(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => begun(ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(ctx),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listening(ctx),
        BPF_SOCK_OPS_STATE_CB => state_changed(ctx),
        BPF_SOCK_OPS_RTO_CB => timer_expired(ctx),
        _ => {}
    }
}

/// The storage of the callback's socket, made where there is none.
#[inline(always)]
fn storage(ctx: &SockOpsContext) -> *mut SocketState {
    // SAFETY: context fields; the helper wants a socket that is not null.
    unsafe {
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return core::ptr::null_mut();
        }
        let state = socket::get_or_create(sk.cast());
        if !state.is_null() && (*state).transport == 0 {
            (*state).transport = TCP;
            socket::arm(state);
        }
        state
    }
}

/// Asks for a callback at every change of state, and what more; what other programs asked for stays.
#[inline(always)]
fn follow(ctx: &SockOpsContext, more: u32) {
    // SAFETY: a field and the context of this program type.
    unsafe {
        let asked = (*ctx.ops).bpf_sock_ops_cb_flags;
        bpf_sock_ops_cb_flags_set(ctx.ops, (asked | BPF_SOCK_OPS_STATE_CB_FLAG | more) as i32);
    }
}

/// A SYN is about to leave.
#[inline(always)]
fn begun(ctx: &SockOpsContext) {
    note!(ctx, "a connect begins");
    follow(ctx, BPF_SOCK_OPS_RTO_CB_FLAG);
    let state = storage(ctx);
    if !state.is_null() {
        // SAFETY: a storage value that is not null.
        unsafe {
            socket::arm(state);
            (*state).cookie = bpf_get_socket_cookie(ctx.as_ptr());
            // The socket may have had another connection: what was decided is not about this one.
            (*state).generation = 0;
            decision::forget((*state).cookie);
            (*state).opened_ns = bpf_ktime_get_ns();
            (*state).established_ns = 0;
            (*state).lost_captures = 0;
            (*state).flags = u32::from(flow_flag::ACTIVE) | SocketState::LIVE;
            (*state).asked = 0;
        }
    }
    send(ctx, state, Kind::Open, 0, flow_flag::ACTIVE);
}

/// Our connect was answered.
#[inline(always)]
fn established(ctx: &SockOpsContext) {
    note!(ctx, "a connect was answered");
    let state = storage(ctx);
    // SAFETY: a context field.
    let mut first = unsafe { (*ctx.ops).snd_una };
    if !state.is_null() {
        // SAFETY: a storage value that is not null; context fields.
        unsafe {
            (*state).established_ns = bpf_ktime_get_ns();
            (*state).flags |= SocketState::ESTABLISHED;
            set_bases(ctx, state);
            first = SocketState::first_of_client(state);
        }
    }
    send(ctx, state, Kind::Established, first, flow_flag::ACTIVE);
}

/// The retransmission timer of a connect went off. The third argument says whether the kernel gives up
/// (`tcp_write_timeout` in net/ipv4/tcp_timer.c); the end follows at once.
#[inline(always)]
fn timer_expired(ctx: &SockOpsContext) {
    if ctx.arg(2) == 0 {
        return;
    }
    note!(ctx, "a connect timed out");
    let state = storage(ctx);
    if !state.is_null() {
        // SAFETY: a storage value that is not null.
        unsafe { (*state).flags |= u32::from(flow_flag::TIMED_OUT) };
    }
}

/// A connection was accepted: the storage is a copy of the listener's.
#[inline(always)]
fn accepted(ctx: &SockOpsContext) {
    note!(ctx, "a connection was accepted");
    follow(ctx, 0);
    let state = storage(ctx);
    let mut kind = Kind::Open;
    // SAFETY: a context field.
    let mut first = unsafe { (*ctx.ops).rcv_nxt };
    if !state.is_null() {
        // SAFETY: a storage value that is not null; context fields.
        unsafe {
            // Both ends connected at once: this is a connect of ours after all.
            if (*state).flags & u32::from(flow_flag::ACTIVE) != 0 {
                kind = Kind::Established;
            } else {
                socket::arm(state);
                (*state).cookie = bpf_get_socket_cookie(ctx.as_ptr());
                (*state).opened_ns = bpf_ktime_get_ns();
                // What its listener missed a moment ago may be of this one.
                (*state).lost_captures = u32::from((*state).lost_captures != 0);
                (*state).generation = 0;
                (*state).flags = SocketState::LIVE;
                (*state).asked = 0;
            }
            (*state).established_ns = bpf_ktime_get_ns();
            (*state).flags |= SocketState::ESTABLISHED;
            set_bases(ctx, state);
            first = SocketState::first_of_client(state);
        }
    }
    send(ctx, state, kind, first, 0);
}

/// Stream offset 0 of both directions, where no SYN told it already.
///
/// # Safety
/// `state` is a storage value.
#[inline(always)]
unsafe fn set_bases(ctx: &SockOpsContext, state: *mut SocketState) {
    // SAFETY: the caller's promise; context fields.
    unsafe {
        (*state).sent.starts_at((*ctx.ops).snd_una);
        (*state).received.starts_at((*ctx.ops).rcv_nxt);
        (*state).due = bpf_jiffies64() + tick();
    }
}

#[inline(always)]
fn listening(ctx: &SockOpsContext) {
    note!(ctx, "a socket listens");
    follow(ctx, 0);
    let state = storage(ctx);
    if !state.is_null() {
        // SAFETY: a storage value that is not null.
        unsafe {
            (*state).cookie = bpf_get_socket_cookie(ctx.as_ptr());
            (*state).flags = SocketState::LISTENING;
            (*state).opened_ns = bpf_ktime_get_ns();
        }
    }
    send(ctx, state, Kind::Listen, 0, 0);
}

#[inline(always)]
fn state_changed(ctx: &SockOpsContext) {
    let to = ctx.arg(1);
    if to == TCP_FIN_WAIT1 || to == TCP_CLOSE_WAIT || to == TCP_CLOSING {
        finishing(ctx, to != TCP_FIN_WAIT1);
    }
    if to != TCP_CLOSE {
        return;
    }
    let from = ctx.arg(0);
    let kind = match from {
        TCP_SYN_SENT | TCP_SYN_RECV => Kind::Failed,
        TCP_LISTEN => Kind::Unlisten,
        TCP_CLOSE => return,
        _ => Kind::Close,
    };
    note!(ctx, "a socket is closed");
    let state = storage(ctx);
    let mut flags = 0;
    // SAFETY: context fields.
    if unsafe { (*ctx.ops).segs_in } > 0 {
        flags |= flow_flag::ANSWERED;
    }
    if !state.is_null() {
        // SAFETY: a storage value that is not null.
        unsafe {
            (*state).flags &= !SocketState::LIVE;
            if from == TCP_ESTABLISHED || from == TCP_FIN_WAIT1 {
                // The peer's FIN would have led elsewhere: one that was on the wire was thrown away.
                (*state).received.fin_end = Sequence::UNKNOWN;
            }
            decision::forget((*state).cookie);
            settled::leave((*ctx.ops).__bindgen_anon_2.sk);
        }
    }
    if kind as u8 == Kind::Close as u8 {
        let (sent, received) = payload(ctx.ops, state);
        counters::total::<{ totals::TCP_SENT }>(sent);
        counters::total::<{ totals::TCP_RECEIVED }>(received);
        counters::total::<{ totals::TCP_CLOSED }>(1);
    }
    send(ctx, state, kind, from, flags);
}

/// One side finishes: our FIN is about to leave, or the peer's was taken. That can have come with the last packet of
/// the handshake, which only the listener saw, or on a settled connection, so the packet path does not always know.
#[inline(always)]
fn finishing(ctx: &SockOpsContext, peer: bool) {
    let state = storage(ctx);
    if !state.is_null() {
        // SAFETY: a storage value that is not null; context fields.
        unsafe {
            if peer {
                (*state).received.fin_end = Sequence::at((*ctx.ops).rcv_nxt);
            }
            (*state).flags |= SocketState::ENDING;
            settled::leave((*ctx.ops).__bindgen_anon_2.sk);
        }
    }
}

/// Payload bytes acknowledged and received. The kernel's `bytes_acked` counts our SYN and our FIN,
/// `bytes_received` the peer's FIN, once each when they were acknowledged or taken
/// (`tcp_snd_una_update`, `tcp_rcv_nxt_update` in net/ipv4/tcp_input.c).
#[inline(always)]
fn payload(ops: *mut bpf_sock_ops, state: *const SocketState) -> (u64, u64) {
    // SAFETY: context fields; the storage is checked for null.
    unsafe {
        if state.is_null() {
            return ((*ops).bytes_acked, (*ops).bytes_received);
        }
        let active = (*state).flags & u32::from(flow_flag::ACTIVE) != 0;
        let acked = (*ops).bytes_acked.saturating_sub(u64::from(active));
        let sent = (*state).sent.payload_up_to((*ops).snd_una, acked);
        let received = (*state).received.payload_up_to((*ops).rcv_nxt, (*ops).bytes_received);
        (sent, received)
    }
}

/// An event with everything that the callback knows.
#[inline(always)]
fn send(ctx: &SockOpsContext, state: *mut SocketState, kind: Kind, detail: u32, flags: u16) {
    let ops = ctx.ops;
    // SAFETY: the context of this program type.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the storage is checked.
    let (cgroup, opened_ns) =
        if state.is_null() { (0, 0) } else { unsafe { ((*state).owner.cgroup, (*state).opened_ns) } };
    let rescue =
        if kind as u8 == Kind::Close as u8 { Some(emit::rescue_key(cookie, opened_ns)) } else { None };
    emit::flow(kind, cgroup, rescue, |event: *mut FlowEvent| {
        // SAFETY: `emit` hands over writable memory; context fields; the storage is checked.
        unsafe {
            (*event).transport = TCP as u8;
            if state.is_null() {
                (*event).flags = flow_flag::NO_STORAGE;
            } else {
                emit::copy_state(event, state);
            }
            (*event).cookie = cookie;
            (*event).flags |= flags;
            (*event).detail = detail;
            (*event).local_port = (*ops).local_port as u16;
            (*event).remote_port = u32::from_be((*ops).remote_port) as u16;
            let family = (*ops).family;
            if family == AF_INET {
                emit::write_address(&raw mut (*event).local, emit::mapped((*ops).local_ip4));
                emit::write_address(&raw mut (*event).remote, emit::mapped((*ops).remote_ip4));
            } else if family == AF_INET6 {
                emit::write_address(&raw mut (*event).local, words(&raw const (*ops).local_ip6));
                emit::write_address(&raw mut (*event).remote, words(&raw const (*ops).remote_ip6));
            }
            let (sent, received) = payload(ops, state);
            (*event).sent_bytes = sent;
            (*event).received_bytes = received;
            (*event).sent_packets = u64::from((*ops).segs_out);
            (*event).received_packets = u64::from((*ops).segs_in);
            (*event).rtt_us = (*ops).srtt_us >> 3;
            (*event).retransmits = (*ops).total_retrans;
        }
    });
}

/// Context words, each read by itself as the verifier wants it.
#[inline(always)]
unsafe fn words(from: *const [u32; 4]) -> [u32; 4] {
    let from: *const u32 = from.cast();
    // SAFETY: the caller names an address field of the context.
    unsafe {
        [
            from.read_volatile(),
            from.add(1).read_volatile(),
            from.add(2).read_volatile(),
            from.add(3).read_volatile(),
        ]
    }
}
