//! The allocator: mimalloc, which takes less time than glibc's, and keeps less of what was needed once (BENCHMARKS.md,
//! "Before" and "Memory").

use std::os::unix::process::CommandExt;
use std::process::Command;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

pub use mimalloc::MiMalloc as Allocator;

// `mi_option_e` in mimalloc.h, of version 3.
const PURGE_DELAY: mi_option_t = 15;
const USE_NUMA_NODES: mi_option_t = 16;

/// How long memory that is free waits for a use before the kernel has it back, ms. What is usual is a second.
const DELAY: i64 = 10;

/// What was needed once goes back to the kernel soon. The kernel gives no huge pages, where it would give them to all that
/// do not ask: a process that is idle would take three times as much. And nobody asks which memory is near which processor:
/// that takes files and a call that the worker may not have. To be called before there is a second thread.
pub fn keep_little() {
    // Linux before 3.15 does not know it, and it is no failure where it is refused.
    let _ = huge_pages(false);
    // SAFETY: sets words that the allocator reads.
    unsafe {
        mi_option_set(PURGE_DELAY, DELAY);
        mi_option_set(USE_NUMA_NODES, 1);
    }
}

/// A program that this process starts has huge pages as any other: what [`keep_little`] says is inherited.
pub fn as_others(command: &mut Command) -> &mut Command {
    let ask = || {
        // Where this is refused it was before, too, and there is nothing to undo: the program is to run.
        let _ = huge_pages(true);
        Ok(())
    };
    // SAFETY: between fork and exec one call of the kernel is made, and nothing is allocated.
    unsafe { command.pre_exec(ask) }
}

fn huge_pages(allowed: bool) -> std::io::Result<()> {
    let is_disabled = libc::c_ulong::from(!allowed);
    let unused: libc::c_ulong = 0;
    // SAFETY: numbers only (prctl(2)).
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, is_disabled, unused, unused, unused) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Gives back to the kernel what this thread's part of the allocator keeps.
pub fn give_back() {
    // SAFETY: takes locks of the allocator's own, and touches nothing that is in use.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_option_get;

    #[test]
    fn the_options_are_those_that_are_meant() {
        // SAFETY: reads words of the allocator.
        let of = |option| unsafe { mi_option_get(option) };
        // As mimalloc has them in src/options.c; those before and after are others.
        assert_eq!((of(PURGE_DELAY), of(USE_NUMA_NODES)), (1000, 0));
        assert_eq!((of(PURGE_DELAY - 1), of(USE_NUMA_NODES + 2)), (1, 100));
        keep_little();
        assert_eq!((of(PURGE_DELAY), of(USE_NUMA_NODES)), (DELAY, 1));
        // It holds from now on, and for what is started as others are it does not.
        let mut others = Command::new("cat");
        let started = |command: &mut Command| {
            let said = command.arg("/proc/self/status").output().expect("cat runs").stdout;
            let said = String::from_utf8(said).expect("text");
            let line = said.lines().find(|line| line.starts_with("THP_enabled:")).expect("Linux 5.0 says it");
            line.ends_with('1')
        };
        assert!(!started(&mut Command::new("cat")));
        assert!(started(as_others(&mut others)));
    }
}
