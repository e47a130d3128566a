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
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// `BPF_LINK_TYPE_CGROUP` of enum bpf_link_type.
const LINK_TO_CGROUP: u32 = 3;

/// What the kernel says of a link to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its number.
    pub id: u32,
    /// The program that runs.
    pub program: u32,
    /// The cgroup it is attached to; 0 once it was taken away (`bpf_cgroup_link_release`).
    pub cgroup: u64,
    /// Where: `enum bpf_attach_type`.
    pub attach: u32,
}

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its first 15 bytes.
    pub name: Vec<u8>,
    /// The numbers of the maps that it works on.
    pub maps: Vec<u32>,
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

/// What `OBJ_GET_INFO_BY_FD` takes.
#[repr(C)]
struct Ask {
    fd: u32,
    length: u32,
    info: u64,
}

/// What a link is now.
///
/// # Errors
/// It is no link to a cgroup, or cannot be asked.
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
    let mut info = Info::default();
    let ask = Ask {
        fd: number(link),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &ask)?;
    if info.kind != LINK_TO_CGROUP {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(LinkInfo { id: info.id, program: info.program, cgroup: info.cgroup, attach: info.attach })
}

/// The number of a map, a program or a link, each among its kind.
pub fn id(object: BorrowedFd<'_>) -> io::Result<u32> {
    // How the information on each of them begins: a kind, and the number.
    let mut info = [0_u32; 2];
    let ask = Ask {
        fd: number(object),
        length: size_of_val(&info) as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &ask)?;
    Ok(info[1])
}

/// Opens a program by its number.
pub fn program(id: u32) -> io::Result<OwnedFd> {
    bpf(PROG_GET_FD_BY_ID, &id).map(descriptor)
}

/// What a program is.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    /// `MAX_USED_MAPS` of include/linux/bpf.h.
    const MOST: usize = 64;
    /// `struct bpf_prog_info`, as far as it is of use.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        code_lengths: [u32; 2],
        codes: [u64; 2],
        loaded_ns: u64,
        by: u32,
        maps: u32,
        map_ids: u64,
        name: [u8; 16],
    }
    let mut ids = [0_u32; MOST];
    let mut info = Info { maps: MOST as u32, map_ids: ids.as_mut_ptr() as u64, ..Info::default() };
    let ask = Ask {
        fd: number(program),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &ask)?;
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    Ok(ProgramInfo { name, maps: ids.iter().take(info.maps as usize).copied().collect() })
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
