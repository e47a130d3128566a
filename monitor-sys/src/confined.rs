//! What a confined process tries, to show that it cannot.

use std::io;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory that can be written and run.
///
/// # Errors
/// The kernel refuses, as it should.
pub fn map_code() -> io::Result<()> {
    let length = rustix::param::page_size();
    let protection = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), length, protection, MapFlags::PRIVATE)? };
    // SAFETY: mapped right above, and used by nobody.
    unsafe { munmap(start, length)? };
    Ok(())
}

/// The version of Landlock that this kernel has; 0: none, or switched off at boot.
pub fn landlock_version() -> i32 {
    /// `LANDLOCK_CREATE_RULESET_VERSION` of include/uapi/linux/landlock.h.
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: it takes no structure and changes nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    i32::try_from(version).map_or(0, |version| version.max(0))
}

/// A user namespace of its own, where it would have every capability.
///
/// # Errors
/// The kernel refuses, as it should.
pub fn unshare_users() -> io::Result<()> {
    // SAFETY: it concerns only this thread, and who calls this ends right after.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)? };
    Ok(())
}
