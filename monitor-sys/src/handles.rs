//! Opening a cgroup by its id (open_by_handle_at(2)), which no library makes safe.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `FILEID_KERNFS` of enum fid_type (include/linux/exportfs.h), since Linux 5.5: a handle is the id itself.
const KERNFS: libc::c_int = 0xfe;

/// A `struct file_handle` (include/linux/fs.h) with room for such an id.
#[repr(C)]
struct Handle {
    /// Bytes of what follows the kind.
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: [u8; 8],
}

/// The directory of the cgroup that the kernel programs call `id`, to ask about and not to read. `mount`: a directory of
/// the hierarchy of version 2.
///
/// # Errors
/// `ESTALE`: it is gone. `EPERM`: `CAP_DAC_READ_SEARCH` of the host's is missing.
pub fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the kernel reads the head of the handle, and then as many bytes behind it as that says there are.
    let result =
        unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, flags) };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made it for us; nobody else knows it.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    /// Without the capability the kernel refuses all alike, before it looks.
    #[test]
    #[ignore = "needs root (CAP_DAC_READ_SEARCH)"]
    fn what_has_no_such_handles_is_refused() {
        let refused = |path: &str, id| {
            let file = File::open(path).unwrap();
            open_cgroup(file.as_fd(), id).unwrap_err().raw_os_error()
        };
        // Files of no hierarchy of cgroups have none, or others.
        for path in ["/proc/self", "/dev/null"] {
            let why = refused(path, 1);
            assert!(why == Some(libc::ESTALE) || why == Some(libc::EOPNOTSUPP), "{path}: {why:?}");
        }
    }
}
