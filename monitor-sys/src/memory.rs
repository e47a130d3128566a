//! The allocator: mimalloc, which takes about a tenth less of a connection's time than glibc's, and keeps less of what was needed
//! once (BENCHMARKS.md, "Events in" and "Memory").

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

pub use mimalloc::MiMalloc as Allocator;

// `mi_option_e` in mimalloc.h, of version 3.
const PURGE_DELAY: mi_option_t = 15;
const USE_NUMA_NODES: mi_option_t = 16;

/// How long memory that is free waits for a use before the kernel has it back, ms. What is usual is a second.
const DELAY: i64 = 10;

/// What was needed once goes back to the kernel soon. And nobody asks which memory is near which processor: that takes
/// files and a call that the worker may not have. To be called before there is a second thread.
pub fn keep_little() {
    // SAFETY: sets words that the allocator reads.
    unsafe {
        mi_option_set(PURGE_DELAY, DELAY);
        mi_option_set(USE_NUMA_NODES, 1);
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
    }
}
