//! Every map, and the settings. Sizes here are defaults: the loader sets what the configuration says.

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use monitor_common::{Counters, Decision, FlowEvent, Settings, UdpFlow, UdpKey};

use crate::socket::SocketState;

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    abi: monitor_common::ABI_VERSION,
    tcp_budget: 8192,
    handshake_budget: 8192,
    udp_budget: 2048,
    listener_captures: 64,
    tick: 250,
    capture_room: 4194304,
};

/// What the loader wrote.
#[inline(always)]
pub fn settings() -> Settings {
    // SAFETY: a static of a plain type; volatile, because the loader writes it after compilation.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS) }
}

/// Jiffies between two progress events of a flow: that word alone.
#[inline(always)]
pub fn tick() -> u64 {
    // SAFETY: as in `settings`.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.tick) }
}

#[btf_map]
pub static EVENTS: RingBuf<u8, 8388608> = RingBuf::new();

/// Close events that found the ring full.
#[btf_map]
pub static OVERFLOW: HashMap<u64, FlowEvent, 16384> = HashMap::new();

#[btf_map]
pub static DECISIONS: HashMap<u64, Decision, 65536> = HashMap::new();

#[btf_map]
pub static UDP_FLOWS: HashMap<UdpKey, UdpFlow, 65536> = HashMap::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// See [`crate::refused`].
#[btf_map]
pub static REFUSALS: PerCpuArray<crate::refused::Told, 1> = PerCpuArray::new();

/// See [`crate::share`].
#[btf_map]
pub static SHARES: Array<crate::share::Share, { crate::share::SLOTS }> = Array::new();

/// Ends that user space has taken from the ring and not told: pinned with it, mapped, and no program's business.
#[repr(C)]
pub struct Journal {
    r#type: *const [i32; aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY as usize],
    key: *const u32,
    value: *const monitor_common::JournalSlot,
    max_entries: *const [i32; monitor_common::JOURNAL_SLOTS as usize],
    map_flags: *const [i32; aya_ebpf::bindings::BPF_F_MMAPABLE as usize],
}

// SAFETY: the pointers only describe the map to the loader; nothing reads through them.
unsafe impl Sync for Journal {}

#[btf_map]
pub static JOURNAL: Journal = Journal {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Jiffies and CLOCK_MONOTONIC ns, read together.
#[btf_map]
pub static CLOCK: Array<[u64; 2], 1> = Array::new();

pub fn note_clock() {
    if let Some(slot) = CLOCK.get_ptr_mut(0) {
        // SAFETY: the array map's only slot, checked to be there.
        unsafe { *slot = [bpf_jiffies64(), bpf_ktime_get_ns()] };
    }
}

/// Socket storage that accepted sockets inherit. aya's type has neither the flag nor the contexts.
#[repr(C)]
pub struct SocketStorage {
    r#type: *const [i32; aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketState,
    max_entries: *const [i32; 0],
    map_flags:
        *const [i32; (aya_ebpf::bindings::BPF_F_NO_PREALLOC | aya_ebpf::bindings::BPF_F_CLONE) as usize],
}

// SAFETY: the pointers only describe the map to the loader; nothing reads through them.
unsafe impl Sync for SocketStorage {}

#[btf_map]
pub static SOCKETS: SocketStorage = SocketStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};
