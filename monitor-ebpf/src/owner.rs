//! The process that is running now, as the owner of a socket.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_ns,
};
use monitor_common::Owner;

/// Thread group id of the running process.
#[inline(always)]
pub fn current_tgid() -> u32 {
    // SAFETY: the helper takes nothing and touches nothing.
    unsafe { (bpf_get_current_pid_tgid() >> 32) as u32 }
}

/// The running thread's own id.
#[inline(always)]
pub fn current_thread() -> u32 {
    // SAFETY: the helper takes nothing and touches nothing.
    unsafe { bpf_get_current_pid_tgid() as u32 }
}

/// The running thread's name, NUL-padded.
#[inline(always)]
pub fn current_comm() -> [u8; 16] {
    let mut comm = [0_u8; 16];
    // SAFETY: the helper writes the size that it is given.
    unsafe { bpf_get_current_comm((&raw mut comm).cast(), 16) };
    comm
}

#[inline(always)]
fn current_uid() -> u32 {
    // SAFETY: the helper takes nothing and touches nothing.
    unsafe { bpf_get_current_uid_gid() as u32 }
}

/// Whether what runs is a worker of the kernel's, which closes what nobody else could. It is root's: any program can
/// call itself so.
#[inline(always)]
pub fn is_kernel_thread() -> bool {
    current_comm()[..8] == *b"kworker/" && current_uid() == 0
}

/// Writes who is running into a socket's storage.
///
/// # Safety
/// `owner` points into a map value.
#[inline(always)]
pub unsafe fn note(owner: *mut Owner) {
    // SAFETY: the caller's promise, and helpers that only read the running task.
    unsafe {
        (*owner).seen_ns = bpf_ktime_get_ns();
        (*owner).cgroup = bpf_get_current_cgroup_id();
        (*owner).tgid = current_tgid();
        (*owner).uid = current_uid();
        bpf_get_current_comm((&raw mut (*owner).comm).cast(), 16);
    }
}
