//! Who is at the other end of a Unix socket, beyond what rustix asks.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Groups of a peer that are read; a user has at most `NGROUPS_MAX` (include/uapi/linux/limits.h).
const MOST: usize = 65_536;

/// Supplementary groups of the peer as they were when it connected (SO_PEERGROUPS of unix(7)).
///
/// # Errors
/// It is no connected Unix socket.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(&groups[..])).unwrap_or(0);
        // SAFETY: the kernel writes at most `length` bytes there, and then how many it wrote.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It says how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn our_own_groups_are_those_of_our_own_peer() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer_groups(&one).unwrap(), own);
        assert!(peer_groups(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
