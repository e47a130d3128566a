//! Whose a network namespace is: of the user namespace that owns it, and of who made that (namespaces(7)).
//!
//! Who has privileges over a network namespace gives it any addresses, and has packets from any address come in there. So
//! addresses mean the same only in namespaces of one realm. Must never: take a namespace that a user made for one of root's.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;

use monitor_sys::{owner_of_user_namespace, user_namespace_of};
use rustix::fs::fstat;
use serde::{Deserialize, Serialize};

/// All network namespaces of one maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Realm(NonZeroU32);

impl Realm {
    /// The host's, and what else root made: containers, also where they have a user namespace that root made for them.
    pub const ROOT: Realm = Realm(NonZeroU32::MIN);

    /// Of a socket that has an address which its network namespace has not: whoever likes takes one (`IPV6_FREEBIND`,
    /// `IP_TRANSPARENT` of ipv6(7), ip(7)), and nothing that is sent there comes in there.
    pub const NOWHERE: Realm = Realm(NonZeroU32::MAX);

    /// What a user namespace owns that another user made, by its inode (32 bits: `struct ns_common`). The kernel gives an
    /// inode again once all that it owned is gone.
    pub fn of_user_namespace(inode: u64) -> Option<Realm> {
        let realm = u32::try_from(inode).ok().and_then(NonZeroU32::new).map(Realm);
        realm.filter(|realm| ![Realm::ROOT, Realm::NOWHERE].contains(realm))
    }

    /// Of the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn own() -> io::Result<Realm> {
        Realm::of(&File::open("/proc/thread-self/ns/net")?)
    }

    /// Of a network namespace that is held open.
    pub(super) fn of(network_namespace: &File) -> io::Result<Realm> {
        let owner = user_namespace_of(network_namespace)?;
        if owner_of_user_namespace(&owner)? == 0 {
            return Ok(Realm::ROOT);
        }
        Realm::of_user_namespace(fstat(&owner)?.st_ino).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
