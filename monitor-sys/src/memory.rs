//! Memory that was needed once.

/// Gives back to the kernel what the allocator keeps of it, where that is glibc's (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes locks of the allocator's own, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
