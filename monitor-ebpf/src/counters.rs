//! Counters that lose nothing: atomic additions, because a program can be interrupted by another
//! one on the same processor between a load and a store.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use monitor_common::{Counters, Kind};

use crate::maps::COUNTERS;

/// Adds without fetching: the only atomic that every supported kernel has (`BPF_XADD`).
///
/// # Safety
/// `slot` points into a map value, aligned to 8.
#[inline(always)]
pub unsafe fn add(slot: *mut u64, value: u64) {
    // SAFETY: the caller's promise; the instruction touches nothing else.
    unsafe { asm!("lock *(u64 *)({slot} + 0) += {value}", slot = in(reg) slot, value = in(reg) value) };
}

#[inline(always)]
fn each(update: impl FnOnce(*mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        update(counters);
    }
}

#[inline(always)]
pub fn offered(kind: Kind) {
    // SAFETY: a slot of this processor's value; `kind` is below KINDS.
    each(|c| unsafe { add(&raw mut (*c).offered[kind as usize], 1) });
}

#[inline(always)]
pub fn lost(kind: Kind, bytes: u64) {
    // SAFETY: as above.
    each(|c| unsafe {
        add(&raw mut (*c).lost[kind as usize], 1);
        if bytes > 0 {
            add(&raw mut (*c).lost_bytes, bytes);
        }
    });
}

#[inline(always)]
pub fn rescued(ok: bool) {
    // SAFETY: as above.
    each(|c| unsafe {
        if ok {
            add(&raw mut (*c).rescued, 1);
        } else {
            add(&raw mut (*c).overflow_full, 1);
        }
    });
}

#[inline(always)]
pub fn storage_refused() {
    // SAFETY: as above.
    each(|c| unsafe { add(&raw mut (*c).storage_refused, 1) });
}

#[inline(always)]
pub fn udp_untracked(bytes: u64) {
    // SAFETY: as above.
    each(|c| unsafe {
        add(&raw mut (*c).udp_untracked_packets, 1);
        add(&raw mut (*c).udp_untracked_bytes, bytes);
    });
}

/// Adds to one of [`monitor_common::totals`].
#[inline(always)]
pub fn total<const INDEX: usize>(value: u64) {
    // SAFETY: as above; INDEX is a constant below the array's length.
    each(|c| unsafe { add(&raw mut (*c).totals[INDEX], value) });
}

/// The packet's length from the network header on.
#[inline(always)]
pub fn packet_len(skb: *mut __sk_buff) -> u32 {
    // SAFETY: a context field that every program of this type may read.
    unsafe { (*skb).len }
}
