//! Memory that was needed once.

/// What was needed once goes back to the kernel by itself: buffers of 256 KiB or more are mapped by themselves and unmapped
/// when they are let go, and of the rest no more than 1 MiB an arena is kept in reserve; and threads share the arenas
/// (mallopt(3)). Without this glibc raises both bounds by itself, up to 32 and 64 MiB, and has eight arenas a processor. To be
/// called before there is a second thread. With another allocator nothing happens.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets parameters of the allocator's own, under its lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives back to the kernel what the allocator keeps of it, where that is glibc's (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes locks of the allocator's own, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
