//! Where addresses mean the same.

use crate::identity::Realm;

/// One network namespace, or all of one realm: the two ends of a connection are in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Space {
    /// Of loopback addresses, and where the realm is not known; 0: not known, or any of the realm.
    netns: u64,
    realm: Option<Realm>,
}

/// What a socket is called whose namespace is not known: no namespace has such a number.
const SOCKET: u64 = 1 << 63;

impl Space {
    /// Of a flow. One of which nothing is known is by itself.
    pub(super) fn new(realm: Option<Realm>, netns: u64, is_loopback: bool, cookie: u64) -> Space {
        let netns = match realm {
            Some(Realm::NOWHERE) => cookie | SOCKET,
            Some(_) if !is_loopback => 0,
            None if netns == 0 => cookie | SOCKET,
            _ => netns,
        };
        Space { netns, realm }
    }

    /// Where what is in no known namespace of it may be, too; `None`: it is not known whose it is.
    pub(super) fn in_realm(self, netns: u64) -> Option<Space> {
        self.realm.is_some().then_some(Space { netns, ..self })
    }

    /// The namespace that it is, where loopback addresses are used in it; 0: none, or not known.
    pub(super) fn netns(self) -> u64 {
        if self.netns & SOCKET == 0 { self.netns } else { 0 }
    }
}
