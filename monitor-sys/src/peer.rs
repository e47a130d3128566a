//! What the kernel says of sockets beyond what rustix asks: who is at the other end of a Unix socket, and in which network
//! namespace one is.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Groups of a peer that are read; a user has at most `NGROUPS_MAX` (include/uapi/linux/limits.h).
const MOST: usize = 65_536;

/// The process that connected, or listens: of `SO_PEERCRED` (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None`: it has no number in this PID namespace.
    pub process: Option<u32>,
    pub user: u32,
    pub group: u32,
}

/// Who is at the other end, as the kernel took it. Not asked with rustix, where a process always has a number.
///
/// # Errors
/// It is no connected Unix socket.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut credentials = [libc::ucred { pid: 0, uid: 0, gid: 0 }];
    // SAFETY: each field is an integer.
    unsafe { option(&socket, libc::SO_PEERCRED, &mut credentials) }.1?;
    let [credentials] = credentials;
    // What the kernel says of a socket without a peer.
    if credentials.uid == u32::MAX {
        return Err(io::ErrorKind::NotConnected.into());
    }
    let process = u32::try_from(credentials.pid).ok().filter(|process| *process != 0);
    Ok(Peer { process, user: credentials.uid, group: credentials.gid })
}

/// What the kernel calls this process's network namespace, as programs in the kernel hear it (SO_NETNS_COOKIE of
/// socket(7), Linux 5.14).
///
/// # Errors
/// The kernel does not say, or gives no socket.
pub fn netns_cookie() -> io::Result<u64> {
    netns_cookie_of(std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?)
}

/// The same of the network namespace that a socket was made in.
///
/// # Errors
/// The kernel does not say, or it is no socket.
pub fn netns_cookie_of(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = [0_u64];
    // SAFETY: an integer.
    unsafe { option(&socket, libc::SO_NETNS_COOKIE, &mut cookie) }.1?;
    Ok(cookie[0])
}

/// Supplementary groups of the peer as they were when it connected (SO_PEERGROUPS of unix(7)).
///
/// # Errors
/// It is no connected Unix socket.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        // SAFETY: integers.
        let (bytes, result) = unsafe { option(&socket, libc::SO_PEERGROUPS, &mut groups) };
        let count = bytes / size_of::<u32>();
        let Err(error) = result else {
            groups.truncate(count);
            return Ok(groups);
        };
        // It says how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// An option of a socket (getsockopt(2)), into as many values as there is room for; gives how many bytes that was, or
/// would have been.
///
/// # Safety
/// Any bytes are a `T`.
unsafe fn option<T>(socket: impl AsFd, which: libc::c_int, values: &mut [T]) -> (usize, io::Result<()>) {
    let mut length = libc::socklen_t::try_from(size_of_val(values)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes there, and then how many; the caller's promise.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            which,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let result = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    (length as usize, result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn our_own_peer_is_this_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let own = Peer {
            process: Some(std::process::id()),
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        };
        assert_eq!(peer(&one).unwrap(), own);
        let place = std::env::temp_dir().join(format!("streamwatch-peer-{}", std::process::id()));
        let listener = std::os::unix::net::UnixDatagram::bind(&place).unwrap();
        std::fs::remove_file(&place).unwrap();
        assert!(peer(&listener).is_err());
        assert!(peer(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn our_own_groups_are_those_of_our_own_peer() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer_groups(&one).unwrap(), own);
        assert!(peer_groups(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
