//! Events into the ring; what does not fit is counted, and ends go to the overflow map.

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_reserve, bpf_ringbuf_submit};
use monitor_common::{FlowEvent, Kind, flow_flag};

use crate::maps::{EVENTS, OVERFLOW};
use crate::share::Wants;
use crate::socket::SocketState;
use crate::{counters, share};

static NOTHING: FlowEvent = EMPTY;

const EMPTY: FlowEvent = FlowEvent {
    kind: 0,
    transport: 0,
    flags: 0,
    detail: 0,
    cookie: 0,
    netns: 0,
    at_ns: 0,
    opened_ns: 0,
    established_ns: 0,
    first_sent_ns: 0,
    first_received_ns: 0,
    sent_bytes: 0,
    received_bytes: 0,
    sent_packets: 0,
    received_packets: 0,
    rtt_us: 0,
    retransmits: 0,
    lost_captures: 0,
    local_port: 0,
    remote_port: 0,
    sent_device: 0,
    received_device: 0,
    local: [0; 16],
    remote: [0; 16],
    owner: monitor_common::Owner { seen_ns: 0, cgroup: 0, tgid: 0, uid: 0, comm: [0; 16] },
};

/// Sends one event of a flow of a cgroup. `fill` writes every field but `kind` and `at_ns` into zeroed memory. With
/// `rescue`, an event that finds the ring, or its cgroup's share of it, full goes to the overflow map under
/// `rescue`'s key.
#[inline(always)]
pub fn flow(kind: Kind, cgroup: u64, rescue: Option<u64>, fill: impl Fn(*mut FlowEvent)) {
    counters::offered(kind);
    let wants = if rescue.is_some() { Wants::End } else { Wants::Event };
    // SAFETY: reserved memory is ours until it is submitted, and is zeroed before it is read.
    unsafe {
        let slot: *mut FlowEvent = if share::has_room(cgroup, size_of::<FlowEvent>() as u32, wants) {
            bpf_ringbuf_reserve((&raw const EVENTS).cast_mut().cast(), size_of::<FlowEvent>() as u64, 0)
                .cast()
        } else {
            core::ptr::null_mut()
        };
        if !slot.is_null() {
            zero(slot);
            fill(slot);
            (*slot).at_ns = bpf_ktime_get_ns();
            (*slot).kind = kind as u8;
            bpf_ringbuf_submit(slot.cast(), 0);
            return;
        }
    }
    counters::lost(kind, 0);
    if let Some(key) = rescue {
        counters::rescued(overflow(kind, key, fill));
    }
}

/// The place of an end in the overflow map: a socket can have one connection after the other.
#[inline(always)]
pub fn rescue_key(cookie: u64, opened_ns: u64) -> u64 {
    cookie ^ opened_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline(always)]
unsafe fn zero(slot: *mut FlowEvent) {
    let words: *mut u64 = slot.cast();
    let mut index = 0;
    while index < size_of::<FlowEvent>() / 8 {
        // SAFETY: within the event, whose size is a multiple of 8 (checked where it is defined).
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}

#[inline(always)]
fn overflow(kind: Kind, key: u64, fill: impl Fn(*mut FlowEvent)) -> bool {
    if OVERFLOW.insert(key, NOTHING, 0).is_err() {
        return false;
    }
    let Some(slot) = OVERFLOW.get_ptr_mut(key) else {
        return false;
    };
    fill(slot);
    // SAFETY: the entry that was just made. `kind` comes last: until then the reader leaves it.
    unsafe {
        (*slot).at_ns = bpf_ktime_get_ns();
        core::ptr::write_volatile(&raw mut (*slot).kind, kind as u8);
    }
    true
}

/// Copies what the storage knows.
///
/// # Safety
/// `event` is writable, `state` a storage value.
#[inline(always)]
pub unsafe fn copy_state(event: *mut FlowEvent, state: *const SocketState) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).transport = (*state).transport as u8;
        (*event).cookie = (*state).cookie;
        (*event).netns = (*state).netns;
        (*event).opened_ns = (*state).opened_ns;
        (*event).established_ns = (*state).established_ns;
        (*event).first_sent_ns = (*state).sent.first_ns;
        (*event).first_received_ns = (*state).received.first_ns;
        (*event).lost_captures = (*state).lost_captures;
        (*event).sent_device = (*state).sent_device;
        (*event).owner = (*state).owner;
        (*event).flags = (*state).flags as u16;
        if (*state).asked & SocketState::GAVE_UP != 0 {
            (*event).flags |= flow_flag::GAVE_UP;
        }
    }
}

/// An address in the form of the events: IPv4 as v4-mapped.
///
/// # Safety
/// `to` is a writable, aligned address field.
#[inline(always)]
pub unsafe fn write_address(to: *mut [u8; 16], words: [u32; 4]) {
    let to: *mut u32 = to.cast();
    // SAFETY: the caller's promise; address fields of the events are aligned to 4.
    unsafe {
        to.write(words[0]);
        to.add(1).write(words[1]);
        to.add(2).write(words[2]);
        to.add(3).write(words[3]);
    }
}

/// The words of an IPv4 address as v4-mapped IPv6.
#[inline(always)]
pub fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), v4]
}

/// An event from process context, where only the storage can be read.
///
/// # Safety
/// `state` is a storage value.
#[inline(always)]
pub unsafe fn from_storage(kind: Kind, state: *mut SocketState, flags: u16) {
    // SAFETY: the caller's promise.
    unsafe {
        let rescue = if kind as u8 == Kind::Close as u8 {
            Some(rescue_key((*state).cookie, (*state).opened_ns))
        } else {
            None
        };
        flow(kind, (*state).owner.cgroup, rescue, |event| {
            copy_state(event, state);
            (*event).flags |= flags;
            (*event).remote_port = (*state).destination_port as u16;
            write_address(&raw mut (*event).remote, (*state).destination);
        });
    }
}
