//! Who may ask. The socket's mode says it first; this says it again, so that a wrong mode or
//! directory opens nothing.

use rustix::net::UCred;

use super::SocketError;

/// The number of a group that is given by name or number. Only `/etc/group` is asked: a directory
/// service could block for as long as a network does.
pub(super) fn group_id(group: &str) -> Result<u32, SocketError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let path = std::path::Path::new("/etc/group");
    let text = std::fs::read_to_string(path).map_err(|source| SocketError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    number_of(&text, group).ok_or_else(|| SocketError::NoGroup(group.to_owned()))
}

/// `name:password:number:members`, see group(5).
fn number_of(text: &str, group: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| if fields.next()? == group { fields.nth(1)?.parse().ok() } else { None })
}

/// Whether this peer gets in: root, the daemon's own user, a member of `group`.
pub(super) fn may_enter(peer: UCred, group: Option<u32>) -> bool {
    let uid = peer.uid.as_raw();
    uid == 0 || uid == rustix::process::geteuid().as_raw() || group.is_some_and(|it| is_member(peer, it))
}

/// Primary group as the kernel took it at `connect`; supplementary ones as `/proc` has them, for a
/// process that still has the same user.
fn is_member(peer: UCred, group: u32) -> bool {
    if peer.gid.as_raw() == group {
        return true;
    }
    let Ok(process) = procfs::process::Process::new(peer.pid.as_raw_nonzero().get()) else { return false };
    process.status().is_ok_and(|status| status.euid == peer.uid.as_raw() && status.groups.contains(&group))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::process::{Gid, Pid, Uid};

    use super::*;

    #[test]
    fn groups_by_name_and_number() {
        let text = "root:x:0:\nbroken\nadm:x:4:ada,bob\n";
        assert_eq!(number_of(text, "adm"), Some(4));
        assert_eq!(number_of(text, "ad"), None);
        assert_eq!(group_id("1234").unwrap(), 1234);
        assert!(group_id("no such group").is_err());
    }

    #[test]
    fn strangers_stay_out() {
        let stranger = UCred { pid: Pid::INIT, uid: Uid::from_raw(54321), gid: Gid::from_raw(777) };
        assert!(!may_enter(stranger, None));
        assert!(!may_enter(stranger, Some(778)));
        assert!(may_enter(stranger, Some(777)));
        assert!(may_enter(UCred { uid: Uid::ROOT, ..stranger }, None));
    }
}
