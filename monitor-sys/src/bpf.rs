//! The calls of bpf(2) that aya does not make for links of cgroups: attach, replace in place, ask, pin,
//! open. Each is one system call on descriptors of this process (include/uapi/linux/bpf.h).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// enum bpf_cmd
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// What the kernel says of a link to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The program that runs.
    pub program: u32,
    /// The cgroup it is attached to; 0 once it was taken away (`bpf_cgroup_link_release`).
    pub cgroup: u64,
}

/// One call; `attr` has the layout that the command wants.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<i64> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attr`, and takes the rest of the union for zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(number: i64) -> OwnedFd {
    // SAFETY: the kernel has just made it for us; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(number as i32) }
}

#[repr(C)]
struct Link {
    /// A program, or the link to be changed.
    first: u32,
    /// A cgroup, or the program to run from now on.
    second: u32,
    third: u32,
    fourth: u32,
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    fd.as_raw_fd() as u32
}

/// Attaches a program to a cgroup.
pub fn link_create(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach: u32) -> io::Result<OwnedFd> {
    let attr = Link { first: number(program), second: number(cgroup), third: attach, fourth: 0 };
    bpf(LINK_CREATE, &attr).map(descriptor)
}

/// Puts another program in the place of the one that a link runs; no packet passes in between.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_UPDATE, &Link { first: number(link), second: number(program), third: 0, fourth: 0 }).map(drop)
}

/// Ends a link, whoever else holds it (Linux 5.9).
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_DETACH, &number(link)).map(drop)
}

/// What a link is now.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    /// `struct bpf_link_info`, as far as it is of use.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        reserved: u32,
        cgroup: u64,
        attach: u32,
        reserved2: u32,
    }
    #[repr(C)]
    struct Ask {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut info = Info::default();
    let ask = Ask {
        fd: number(link),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &ask)?;
    Ok(LinkInfo { program: info.program, cgroup: info.cgroup })
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Gives an object a name in a bpffs, which holds it from now on.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = text(path)?;
    bpf(OBJ_PIN, &Object { path: name.as_ptr() as u64, fd: number(object), flags: 0 }).map(drop)
}

/// Opens what has a name in a bpffs.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = text(path)?;
    bpf(OBJ_GET, &Object { path: name.as_ptr() as u64, fd: 0, flags: 0 }).map(descriptor)
}

/// Loads the least program there is, `r0 = 0; exit`, and lets go of it.
///
/// # Errors
/// This process may not load programs.
pub fn load_trivial() -> io::Result<()> {
    const PROG_LOAD: libc::c_long = 5;
    /// `BPF_PROG_TYPE_SOCKET_FILTER`: the one that most kernels let most processes load.
    const SOCKET_FILTER: u32 = 1;
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        licence: u64,
    }
    let code: [u64; 2] = [0xb7, 0x95];
    let attr = Load {
        kind: SOCKET_FILTER,
        instructions: 2,
        code: code.as_ptr() as u64,
        licence: c"GPL".as_ptr() as u64,
    };
    drop(descriptor(bpf(PROG_LOAD, &attr)?));
    Ok(())
}
