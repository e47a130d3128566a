//! Whose the network namespaces of sockets are.
//!
//! In: sockets, with what the kernel programs call their namespace and the process that made them. Out: the realm of each,
//! or that its namespace has not its address.
//! A process is only where to look: the kernel itself says what the namespace is called that it is in. Where the programs
//! saw no name, or the kernel gives none to user space (before 5.14), the namespace is the one that has the socket.

use std::collections::{HashMap, HashSet};

use super::clock::monotonic_ns;
use super::namespace_cookies::NamespaceCookies;
use super::realm::Realm;
use super::socket_users::find;
use super::tunnels_routes::Routes;
use super::{SocketKey, SocketLister};
use crate::watch::Budget;

/// Addresses that are looked for in a second; four times as many at once.
const CHECKS_PER_S: u32 = 2000;

/// A socket whose namespace is asked for.
#[derive(Clone, Copy, Debug)]
pub struct InNamespace {
    pub socket: SocketKey,
    /// Whether that has its address, too: [`Realm::NOWHERE`] where it has not.
    pub checks_address: bool,
}

/// Finds out whose namespaces are. Blocks; keep it on a thread of its own.
pub struct Realms {
    near: NamespaceCookies,
    /// Has a rate of its own: who has many namespaces takes nothing from the others.
    anywhere: NamespaceCookies,
    checks: Budget,
}

impl Default for Realms {
    fn default() -> Self {
        Realms {
            near: NamespaceCookies::new(),
            anywhere: NamespaceCookies::new(),
            checks: Budget::new(CHECKS_PER_S),
        }
    }
}

impl Realms {
    /// Looks where the makers of these sockets are, which is quick; `None`: it is to be looked for elsewhere.
    pub fn near(&mut self, asked: &[InNamespace]) -> Vec<Option<Realm>> {
        let now_ns = monotonic_ns();
        let mut wanted: HashMap<u64, HashSet<u32>> = HashMap::new();
        for InNamespace { socket, .. } in asked.iter().filter(|asked| self.is_named(asked)) {
            wanted.entry(socket.netns).or_default().extend(Some(socket.maker).filter(|maker| *maker != 0));
        }
        let found = self.near.realms_near(&wanted, now_ns);
        let mut checks = Checks::new(&mut self.checks, now_ns);
        let of = |asked: &InNamespace| {
            let realm = *found.get(&asked.socket.netns)?;
            checks.realm(asked, realm, &self.near)
        };
        asked.iter().map(of).collect()
    }

    /// Looks everywhere, as far as the rate allows; `None`: it is gone, or only an open file keeps it. With that, whether
    /// everything was looked into.
    pub fn anywhere(&mut self, asked: &[InNamespace]) -> (Vec<Option<Realm>>, bool) {
        let now_ns = monotonic_ns();
        let (named, others): (Vec<usize>, Vec<usize>) =
            (0..asked.len()).partition(|index| self.is_named(&asked[*index]));
        let missing: HashSet<u64> = named.iter().map(|index| asked[*index].socket.netns).collect();
        let mut realms = vec![None; asked.len()];
        let mut is_all = true;
        if !missing.is_empty() {
            let (found, all) = self.anywhere.realms_anywhere(&missing, now_ns);
            is_all &= all;
            let mut checks = Checks::new(&mut self.checks, now_ns);
            for index in named {
                let realm = found.get(&asked[index].socket.netns);
                realms[index] = realm.and_then(|realm| checks.realm(&asked[index], *realm, &self.anywhere));
            }
        }
        if !others.is_empty() {
            is_all &= self.by_socket(asked, others, &mut realms, now_ns);
        }
        (realms, is_all)
    }

    fn is_named(&self, asked: &InNamespace) -> bool {
        asked.socket.netns != 0 && self.anywhere.are_told()
    }

    fn by_socket(
        &mut self,
        asked: &[InNamespace],
        mut wanted: Vec<usize>,
        realms: &mut [Option<Realm>],
        now_ns: u64,
    ) -> bool {
        let sockets: Vec<SocketKey> = asked.iter().map(|asked| asked.socket).collect();
        let (namespaces, is_all) = self.anywhere.in_turn(now_ns);
        for namespace in namespaces {
            if wanted.is_empty() {
                return true;
            }
            // Held open, so that it is the one that has the socket.
            let Ok(held) = namespace.open() else { continue };
            let Ok(lister) = SocketLister::enter(&namespace) else { continue };
            let mut routes = None;
            for (index, _) in find(&lister, &sockets, &wanted) {
                let realm = Realm::of(&held).ok();
                realms[index] = match asked[index].checks_address {
                    false => realm,
                    true => {
                        let routes = routes.get_or_insert_with(|| Routes::enter(&namespace));
                        let routes = routes.as_ref().ok().filter(|_| self.checks.take(1, now_ns));
                        routes.zip(realm).and_then(|(routes, realm)| has_it(routes, &asked[index], realm))
                    }
                };
                wanted.retain(|it| *it != index);
            }
        }
        is_all
    }
}

/// Whether namespaces have the addresses of sockets: each is entered once.
struct Checks<'a> {
    rate: &'a mut Budget,
    now_ns: u64,
    routes: HashMap<u64, Option<Routes>>,
}

impl Checks<'_> {
    fn new(rate: &mut Budget, now_ns: u64) -> Checks<'_> {
        Checks { rate, now_ns, routes: HashMap::new() }
    }

    fn realm(&mut self, asked: &InNamespace, realm: Realm, namespaces: &NamespaceCookies) -> Option<Realm> {
        if !asked.checks_address {
            return Some(realm);
        }
        if !self.rate.take(1, self.now_ns) {
            return None;
        }
        let cookie = asked.socket.netns;
        let routes = self.routes.entry(cookie).or_insert_with(|| namespaces.routes(cookie));
        has_it(routes.as_ref()?, asked, realm)
    }
}

fn has_it(routes: &Routes, asked: &InNamespace, realm: Realm) -> Option<Realm> {
    let has = routes.has(asked.socket.local.ip().to_canonical()).ok()?;
    Some(if has { realm } else { Realm::NOWHERE })
}

#[cfg(test)]
#[path = "realms_tests.rs"]
mod tests;
