//! First bytes into the ring.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_ringbuf_discard, bpf_ringbuf_reserve, bpf_ringbuf_submit, bpf_skb_load_bytes,
};
use monitor_common::{CAPTURE_SIZES, CaptureHead, Kind};

use crate::maps::EVENTS;
use crate::share::Wants;
use crate::socket::SocketState;
use crate::{counters, emit, share};

/// A part of a packet, to be captured.
pub struct Piece {
    pub transport: u32,
    pub flags: u16,
    pub offset: u32,
    /// Payload bytes of the packet from `at` on.
    pub payload: u32,
    /// Where the data begins in the packet.
    pub at: u32,
    /// Bytes to capture, at least 1.
    pub wanted: u32,
    pub local: [u32; 4],
    pub remote: [u32; 4],
    pub local_port: u16,
    pub remote_port: u16,
    pub generation: u32,
}

/// Sends a piece, in records of at most the largest size: full ones first, and the rest in the
/// smallest that holds it, if its cgroup has room for it (`share`): where nobody reads the ring, captures
/// leave a part of it to what happens to flows. Without first bytes a flow is unknown, without its end its
/// totals are.
///
/// The choice of a size stands behind the loop, not in it: Linux 6.1 walks every path through a loop
/// by itself, and with three sizes in each of four rounds it went through two thirds of the million
/// instructions that it allows.
///
/// # Safety
/// `state` is a storage value.
#[inline(always)]
pub unsafe fn send(skb: *mut __sk_buff, state: *mut SocketState, mut piece: Piece) {
    const LARGEST: u32 = CAPTURE_SIZES[3] as u32;
    // SAFETY: the caller's promise.
    unsafe {
        if !share::has_room((*state).owner.cgroup, piece.wanted, Wants::Capture) {
            miss(state, piece.wanted);
            return;
        }
    }
    // More than four records of that size hold: a chain of certificates in one packet, as they are
    // before they are cut into segments.
    if piece.wanted > 4 * LARGEST {
        let wanted = piece.wanted.min(CAPTURE_SIZES[4] as u32);
        // SAFETY: the caller's promise.
        unsafe { record::<{ CAPTURE_SIZES[4] }>(skb, state, &piece, wanted) };
        return;
    }
    let mut rounds = 0;
    // The kernel wants a bound: 4 records of 4 KiB are 16 KiB, more than any budget allows.
    while rounds < 3 && piece.wanted > LARGEST {
        // SAFETY: the caller's promise.
        unsafe { record::<{ CAPTURE_SIZES[3] }>(skb, state, &piece, LARGEST) };
        piece.wanted -= LARGEST;
        piece.at += LARGEST;
        piece.payload -= LARGEST;
        // UDP counts datagrams, not bytes: its budget is one record.
        piece.offset = piece.offset.wrapping_add(LARGEST);
        rounds += 1;
    }
    let rest = piece.wanted.min(LARGEST);
    // SAFETY: the caller's promise.
    unsafe {
        if rest == 0 {
        } else if rest <= CAPTURE_SIZES[0] as u32 {
            record::<{ CAPTURE_SIZES[0] }>(skb, state, &piece, rest);
        } else if rest <= CAPTURE_SIZES[1] as u32 {
            record::<{ CAPTURE_SIZES[1] }>(skb, state, &piece, rest);
        } else if rest <= CAPTURE_SIZES[2] as u32 {
            record::<{ CAPTURE_SIZES[2] }>(skb, state, &piece, rest);
        } else {
            record::<{ CAPTURE_SIZES[3] }>(skb, state, &piece, rest);
        }
    }
}

/// So many bytes should have been captured, and nothing of them is tried.
///
/// # Safety
/// `state` is a storage value.
#[inline(always)]
pub unsafe fn miss(state: *mut SocketState, bytes: u32) {
    counters::offered(Kind::Capture);
    // SAFETY: the caller's promise.
    unsafe { lose(state, bytes) };
}

/// So many bytes of a flow are not captured.
#[inline(always)]
unsafe fn lose(state: *mut SocketState, bytes: u32) {
    counters::lost(Kind::Capture, u64::from(bytes));
    // SAFETY: the caller's storage.
    unsafe { (*state).lost_captures += 1 };
}

#[repr(C)]
struct Record<const SIZE: usize> {
    head: CaptureHead,
    data: [u8; SIZE],
}

#[inline(always)]
unsafe fn record<const SIZE: usize>(skb: *mut __sk_buff, state: *mut SocketState, piece: &Piece, len: u32) {
    counters::offered(Kind::Capture);
    // SAFETY: reserved memory is ours until submitted or discarded; the storage is the caller's.
    unsafe {
        let ring = (&raw const EVENTS).cast_mut().cast();
        let slot: *mut Record<SIZE> = bpf_ringbuf_reserve(ring, size_of::<Record<SIZE>>() as u64, 0).cast();
        if slot.is_null() {
            lose(state, len);
            return;
        }
        // Bounded in a way that every verifier follows: by a mask, and where SIZE is no power of two by a
        // comparison besides. The value passes through the record, so that the compiler cannot undo either, and
        // so that the verifier (6.1) forgets where it came from: else it traces the exact range of every length
        // back to the packet's headers, and no two ways through the parser are alike to it.
        let head = &raw mut (*slot).head;
        (&raw mut (*head).len).write_volatile(len);
        let mask = const { SIZE.next_power_of_two() as u32 - 1 };
        let mut bounded = ((&raw const (*head).len).read_volatile().wrapping_sub(1) & mask) + 1;
        if bounded > SIZE as u32 {
            bounded = SIZE as u32;
        }
        let data = (&raw mut (*slot).data).cast();
        if bpf_skb_load_bytes(skb.cast(), piece.at, data, bounded) != 0 {
            bpf_ringbuf_discard(slot.cast(), 0);
            lose(state, len);
            return;
        }
        (*head).kind = Kind::Capture as u8;
        (*head).transport = piece.transport as u8;
        (*head).flags = piece.flags;
        (*head).len = bounded;
        (*head).cookie = (*state).cookie;
        (*head).netns = (*state).netns;
        (*head).at_ns = bpf_ktime_get_ns();
        (*head).offset = piece.offset;
        (*head).payload_len = piece.payload;
        (*head).generation = piece.generation;
        (*head).local_port = piece.local_port;
        (*head).remote_port = piece.remote_port;
        (*head).sent_device = (*state).sent_device;
        (*head).reserved = 0;
        emit::write_address(&raw mut (*head).local, piece.local);
        emit::write_address(&raw mut (*head).remote, piece.remote);
        bpf_ringbuf_submit(slot.cast(), 0);
    }
}
