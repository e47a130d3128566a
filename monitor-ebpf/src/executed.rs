//! What each process executed last: who ends before user space can look at it is told by that name, and who has
//! executed another program since it used a socket is not taken for what it was.
//!
//! The hooks of sockets have nothing to do with it: they see the thread that runs, and that may call itself anything.

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_map_lookup_elem};
use monitor_common::Executed;

use crate::maps::{EXECUTED, EXECUTED_AT};
use crate::owner;

/// `sched_process_exec` (fs/exec.c): the running task is its process's only thread by now, and has its new name.
#[inline(always)]
pub fn began() {
    // SAFETY: the helper takes nothing and touches nothing.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let tgid = owner::current_tgid();
    let executed = Executed { at_ns, ended_ns: 0, comm: owner::current_comm(), tgid, reserved: 0 };
    // A table without room throws out another one's.
    let _ = EXECUTED.insert(tgid, &executed, 0);
    let place = tgid & (monitor_common::EXECUTED - 1);
    // SAFETY: the map's own type of key; null is checked; user space reads the word as one.
    unsafe {
        let map = (&raw const EXECUTED_AT).cast_mut().cast();
        let at: *mut u64 = bpf_map_lookup_elem(map, (&raw const place).cast()).cast();
        // Another process has the place, too: the later one counts.
        if !at.is_null() && at.read_volatile() < at_ns {
            at.write_volatile(at_ns);
        }
    }
}

/// `sched_process_exit` (kernel/exit.c), of each thread.
#[inline(always)]
pub fn ended() {
    let tgid = owner::current_tgid();
    if tgid != owner::current_thread() {
        return;
    }
    if let Some(executed) = EXECUTED.get_ptr_mut(tgid) {
        // SAFETY: a value of the map. The kernel may have given its place to another one by now, which says so.
        unsafe {
            if (*executed).tgid == tgid {
                (*executed).ended_ns = bpf_ktime_get_ns();
            }
        }
    }
}
