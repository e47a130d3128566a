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

/// A user namespace of its own, where it would have every capability.
///
/// # Errors
/// The kernel refuses, as it should.
pub fn unshare_users() -> io::Result<()> {
    // SAFETY: it concerns only this thread, and who calls this ends right after.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)? };
    Ok(())
}
