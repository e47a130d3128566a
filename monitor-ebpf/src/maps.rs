//! Every map, and the settings. Sizes here are defaults: the loader sets what the configuration says.

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use monitor_common::{Counters, Decision, Executed, FlowEvent, Secret, Settings, UdpFlow, UdpKey};

use crate::socket::SocketState;

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    abi: monitor_common::ABI_VERSION,
    tcp_budget: 8192,
    handshake_budget: 8192,
    udp_budget: 2048,
    listener_captures: 1024,
    tick: 250,
    capture_room: 8388608,
};

/// See [`UdpKey::decision_key`].
#[unsafe(no_mangle)]
static SECRET: Secret = [1, 2, 3, 4, 5, 6, 7, 8];

/// The key under which a decision waits for a flow.
#[inline(always)]
pub fn decision_key(key: &UdpKey) -> u64 {
    // SAFETY: as in `settings`.
    key.decision_key(&unsafe { core::ptr::read_volatile(&raw const SECRET) })
}

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
pub static EVENTS: RingBuf<u8, 16777216> = RingBuf::new();

/// Close events that found the ring full.
#[btf_map]
pub static OVERFLOW: HashMap<u64, FlowEvent, 28672> = HashMap::new();

#[btf_map]
pub static DECISIONS: HashMap<u64, Decision, 16384> = HashMap::new();

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
#[btf_map]
pub static JOURNAL: Described<
    u32,
    monitor_common::JournalSlot,
    { aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY as usize },
    { monitor_common::JOURNAL_SLOTS as usize },
    { aya_ebpf::bindings::BPF_F_MMAPABLE as usize },
> = Described::new();

/// See [`crate::executed`]. Not pinned: nobody keeps it true while there is no daemon.
#[btf_map]
pub static EXECUTED: LruHashMap<u32, Executed, { monitor_common::EXECUTED as usize }> = LruHashMap::new();

/// When a process of each place executed something last, CLOCK_MONOTONIC ns: mapped by the worker, who reads it.
#[btf_map]
pub static EXECUTED_AT: Described<
    u32,
    u64,
    { aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY as usize },
    { monitor_common::EXECUTED as usize },
    { aya_ebpf::bindings::BPF_F_MMAPABLE as usize },
> = Described::new();

/// Socket storage that accepted sockets inherit.
#[btf_map]
pub static SOCKETS: Described<
    i32,
    SocketState,
    { aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize },
    0,
    { (aya_ebpf::bindings::BPF_F_NO_PREALLOC | aya_ebpf::bindings::BPF_F_CLONE) as usize },
> = Described::new();

/// A map as the loader reads it from the types, with flags, which aya's own types have not.
#[repr(C)]
pub struct Described<K, V, const TYPE: usize, const ENTRIES: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const K,
    value: *const V,
    max_entries: *const [i32; ENTRIES],
    map_flags: *const [i32; FLAGS],
}

impl<K, V, const TYPE: usize, const ENTRIES: usize, const FLAGS: usize>
    Described<K, V, TYPE, ENTRIES, FLAGS>
{
    const fn new() -> Self {
        Described {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }
}

// SAFETY: the pointers only describe the map to the loader; nothing reads through them.
unsafe impl<K, V, const TYPE: usize, const ENTRIES: usize, const FLAGS: usize> Sync
    for Described<K, V, TYPE, ENTRIES, FLAGS>
{
}
