//! WireGuard in user space (wireguard-go, boringtun): its interface is a TUN device like any other, and
//! what tells it is the control socket that wg(8) talks to, held by a process in the same namespace.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::namespaces::Netns;

/// Where wg(8) looks for them.
const SOCKETS: &str = "/run/wireguard";

/// Whether the TUN device of this name in this namespace is WireGuard's.
pub(super) fn is_wireguard(namespace: &Netns, name: &str) -> io::Result<bool> {
    // An interface's name holds no slash; but it comes from elsewhere.
    if name.contains('/') {
        return Ok(false);
    }
    holds(namespace, &Path::new(SOCKETS).join(format!("{name}.sock")))
}

fn holds(namespace: &Netns, socket: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(socket)?;
    if !metadata.file_type().is_socket() || metadata.uid() != 0 {
        return Ok(false);
    }
    // Nothing is said or asked: who listens is all that is wanted.
    let stream = UnixStream::connect(socket)?;
    // Of one outside this PID namespace nothing can be said.
    let Some(holder) = monitor_sys::peer(&stream)?.process else { return Ok(false) };
    let netns = fs::metadata(format!("/proc/{holder}/ns/net"))?.ino();
    Ok(netns == namespace.inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_control_socket_is_not() {
        let own = Netns::own().expect("our own namespace");
        assert!(is_wireguard(&own, "no-such-device").is_err_and(|it| it.kind() == io::ErrorKind::NotFound));
        assert!(is_wireguard(&own, "../../etc/passwd").is_ok_and(|it| !it));
    }
}
