//! What the kernel says of user namespaces (ioctl_nsfs(2)): rustix does not ask.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `NS_GET_USERNS`, `NS_GET_PARENT` and `NS_GET_OWNER_UID` (include/uapi/linux/nsfs.h).
const USER_NAMESPACE: libc::Ioctl = 0xb701;
const PARENT: libc::Ioctl = 0xb702;
const OWNER: libc::Ioctl = 0xb704;

/// The user that made a user namespace, as this process's own one calls it. Waits for nothing.
///
/// # Errors
/// It is no user namespace.
pub fn owner_of_user_namespace(namespace: impl AsFd) -> io::Result<u32> {
    let mut owner: libc::uid_t = 0;
    // SAFETY: the kernel writes one number there.
    let result = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), OWNER, &raw mut owner) };
    if result == 0 { Ok(owner) } else { Err(io::Error::last_os_error()) }
}

/// The user namespace that one was made in.
///
/// # Errors
/// It is none, or not below this process's own one.
pub fn parent_of_user_namespace(namespace: impl AsFd) -> io::Result<OwnedFd> {
    related(namespace, PARENT)
}

/// The user namespace that owns another one, of any kind: who has its privileges has those over that. Waits for nothing.
///
/// # Errors
/// It is no namespace, or the owner is not below this process's own one.
pub fn user_namespace_of(namespace: impl AsFd) -> io::Result<OwnedFd> {
    related(namespace, USER_NAMESPACE)
}

fn related(namespace: impl AsFd, which: libc::Ioctl) -> io::Result<OwnedFd> {
    // SAFETY: it takes no argument.
    let descriptor = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), which) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new one, which nobody else has; closed on execution, as the kernel makes them (`open_related_ns`).
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_no_user_namespace_has_no_owner() {
        let other = File::open("/proc/self/ns/net").unwrap();
        assert!(owner_of_user_namespace(&other).is_err());
        assert!(owner_of_user_namespace(File::open("/dev/null").unwrap()).is_err());
        assert!(parent_of_user_namespace(File::open("/dev/null").unwrap()).is_err());
        assert!(user_namespace_of(File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn the_one_that_a_process_made_is_its_own_and_below_ours() {
        let mut child = std::process::Command::new("unshare").args(["-Un", "sleep", "30"]).spawn().unwrap();
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let path = format!("/proc/{}/ns/user", child.id());
        let begun = std::time::Instant::now();
        while std::fs::read_link(&path).unwrap() == own && begun.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let made = File::open(&path).unwrap();
        let (owner, parent) = (owner_of_user_namespace(&made), parent_of_user_namespace(&made));
        let network = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
        let owns = [
            user_namespace_of(&network).unwrap(),
            user_namespace_of(File::open("/proc/self/ns/net").unwrap()).unwrap(),
        ];
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(owner.unwrap(), rustix::process::geteuid().as_raw());
        let parent = parent.unwrap();
        let named = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        assert_eq!(named(&parent), own);
        assert_eq!(owns.map(|it| named(&it)), [named(&made.into()), own]);
    }
}
