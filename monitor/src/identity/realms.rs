//! Whose the network namespaces of sockets are.
//!
//! In: sockets, with what the kernel programs call their namespace and the process that made them. Out: the realm of each.
//! A process is only where to look: the kernel itself says what the namespace is called that it is in. Where the programs
//! saw no name, or the kernel gives none to user space (before 5.14), the namespace is the one that has the socket.

use std::collections::{HashMap, HashSet};

use super::clock::monotonic_ns;
use super::namespace_cookies::NamespaceCookies;
use super::realm::Realm;
use super::socket_users::find;
use super::{SocketKey, SocketLister};

/// Finds out whose namespaces are. Blocks; keep it on a thread of its own.
pub struct Realms {
    near: NamespaceCookies,
    /// Has a rate of its own: who has many namespaces takes nothing from the others.
    anywhere: NamespaceCookies,
}

impl Default for Realms {
    fn default() -> Self {
        Realms { near: NamespaceCookies::new(), anywhere: NamespaceCookies::new() }
    }
}

impl Realms {
    /// Looks where the makers of these sockets are, which is quick; `None`: it is to be looked for elsewhere.
    pub fn near(&mut self, sockets: &[SocketKey]) -> Vec<Option<Realm>> {
        let mut wanted: HashMap<u64, HashSet<u32>> = HashMap::new();
        for socket in sockets.iter().filter(|socket| self.is_named(socket)) {
            wanted.entry(socket.netns).or_default().extend(Some(socket.maker).filter(|maker| *maker != 0));
        }
        let found = self.near.realms_near(&wanted, monotonic_ns());
        sockets.iter().map(|socket| found.get(&socket.netns).copied()).collect()
    }

    /// Looks everywhere, as far as the rate allows; `None`: it is gone, or only an open file keeps it. With that, whether
    /// everything was looked into.
    pub fn anywhere(&mut self, sockets: &[SocketKey]) -> (Vec<Option<Realm>>, bool) {
        let now_ns = monotonic_ns();
        let (named, others): (Vec<usize>, Vec<usize>) =
            (0..sockets.len()).partition(|index| self.is_named(&sockets[*index]));
        let missing: HashSet<u64> = named.iter().map(|index| sockets[*index].netns).collect();
        let mut realms = vec![None; sockets.len()];
        let mut is_all = true;
        if !missing.is_empty() {
            let (found, all) = self.anywhere.realms_anywhere(&missing, now_ns);
            is_all &= all;
            named.iter().for_each(|index| realms[*index] = found.get(&sockets[*index].netns).copied());
        }
        if !others.is_empty() {
            is_all &= self.by_socket(sockets, others, &mut realms, now_ns);
        }
        (realms, is_all)
    }

    fn is_named(&self, socket: &SocketKey) -> bool {
        socket.netns != 0 && self.anywhere.are_told()
    }

    fn by_socket(
        &mut self,
        sockets: &[SocketKey],
        mut wanted: Vec<usize>,
        realms: &mut [Option<Realm>],
        now_ns: u64,
    ) -> bool {
        let (namespaces, is_all) = self.anywhere.in_turn(now_ns);
        for namespace in namespaces {
            if wanted.is_empty() {
                return true;
            }
            // Held open, so that it is the one that has the socket.
            let Ok(held) = namespace.open() else { continue };
            let Ok(lister) = SocketLister::enter(&namespace) else { continue };
            for (index, _) in find(&lister, sockets, &wanted) {
                realms[index] = Realm::of(&held).ok();
                wanted.retain(|it| *it != index);
            }
        }
        is_all
    }
}

#[cfg(test)]
#[path = "realms_tests.rs"]
mod tests;
