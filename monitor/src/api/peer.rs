//! Who may ask, and for what. The socket's mode says it first; this says it again, so that a wrong mode or
//! directory opens nothing.
//!
//! In: what the kernel says of the other end of the socket. Out: its role, if it has one. Must never: take
//! a word of the client for who it is.

use monitor_sys::Peer;
use serde::{Deserialize, Serialize};

use super::SocketError;
use crate::regular;

/// What somebody may do. Ordered: who may more may all that the ones before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Change something, too: acknowledge, silence, begin anew.
    Operator,
}

/// The groups whose members have a role. Root and the daemon's own user are operators.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Access {
    pub(super) viewers: Option<u32>,
    pub(super) operators: Option<u32>,
    /// The user who started the daemon.
    pub(super) owner: u32,
}

impl Access {
    /// `viewers` and `operators` by name or number.
    pub(super) fn of(viewers: Option<&str>, operators: Option<&str>) -> Result<Self, SocketError> {
        let number = |key, group: Option<&str>| group.map(|group| group_id(key, group)).transpose();
        Ok(Access {
            viewers: number("api.viewers", viewers)?,
            operators: number("api.operators", operators)?,
            owner: rustix::process::geteuid().as_raw(),
        })
    }

    /// Both, one if they are the same.
    pub(super) fn groups(&self) -> impl Iterator<Item = u32> {
        let second = self.operators.filter(|operators| self.viewers != Some(*operators));
        self.viewers.into_iter().chain(second)
    }

    /// The role of this peer, who has these supplementary groups; `None`: it is nobody's business.
    pub fn role(&self, peer: Peer, groups: &[u32]) -> Option<Role> {
        let is_in = |group: Option<u32>| group.is_some_and(|it| peer.group == it || groups.contains(&it));
        if peer.user == 0 || peer.user == self.owner || is_in(self.operators) {
            return Some(Role::Operator);
        }
        is_in(self.viewers).then_some(Role::Viewer)
    }
}

/// Whether there are such groups, by name or number.
///
/// # Errors
/// One is not there, or nobody can say.
pub fn check_groups(viewers: Option<&str>, operators: Option<&str>) -> Result<(), SocketError> {
    Access::of(viewers, operators).map(|_| ())
}

/// The number of a group that is given by name or number. Only `/etc/group` is asked: a directory
/// service could block for as long as a network does.
fn group_id(key: &'static str, group: &str) -> Result<u32, SocketError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let path = std::path::Path::new("/etc/group");
    let text = regular::read(path, regular::LARGEST).map_err(|source| SocketError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    number_of(&String::from_utf8_lossy(&text), group)
        .ok_or_else(|| SocketError::NoGroup { key, group: group.to_owned() })
}

/// `name:password:number:members`, see group(5).
fn number_of(text: &str, group: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| if fields.next()? == group { fields.nth(1)?.parse().ok() } else { None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_by_name_and_number() {
        let text = "root:x:0:\nbroken\nadm:x:4:ada,bob\n";
        assert_eq!(number_of(text, "adm"), Some(4));
        assert_eq!(number_of(text, "ad"), None);
        assert_eq!(group_id("api.viewers", "1234").unwrap(), 1234);
        let refused = Access::of(None, Some("no such group")).unwrap_err().to_string();
        assert!(refused.starts_with("api.operators: there is no group"), "{refused}");
    }

    #[test]
    fn strangers_stay_out() {
        let stranger = Peer { process: None, user: 54321, group: 777 };
        let role = |viewers, operators, peer| Access { viewers, operators, owner: 0 }.role(peer, &[888]);
        assert_eq!(role(None, None, stranger), None);
        assert_eq!(role(Some(778), Some(779), stranger), None);
        assert_eq!(role(Some(777), Some(779), stranger), Some(Role::Viewer));
        assert_eq!(role(Some(778), Some(777), stranger), Some(Role::Operator));
        assert_eq!(role(Some(777), Some(777), stranger), Some(Role::Operator), "the more of both");
        assert_eq!(role(Some(888), None, stranger), Some(Role::Viewer), "by a supplementary group");
        assert_eq!(role(None, None, Peer { user: 0, ..stranger }), Some(Role::Operator));
    }
}
