//! In which network namespace a socket is: that is entered, and no other.
//!
//! In: what the kernel programs call namespaces (`SO_NETNS_COOKIE`, never given twice), and processes that are likely in
//! them. Out: who lists the sockets there, and whose they are. Whoever may make namespaces makes thousands of them: new ones are looked into
//! at a rate, those of root first, then those of who has the fewest. Must never: take a namespace for another one that had
//! its inode before.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::time::Duration;

use super::SocketLister;
use super::clock::processor_time;
use super::namespaces::{Netns, NetnsSource, cookies_of, namespaces};
use super::process::{ProcessDirectory, read_status, user_ids};
use super::realm::Realm;
use super::tunnels_routes::Routes;
use crate::watch::Budget;

/// Namespaces that are looked into in a second to learn what they are called; four times as many at once.
const LOOKS_PER_S: u32 = 500;
/// As many are looked into before it is asked whether all are known that are wanted.
const AT_ONCE: usize = 64;
/// What was learnt is learnt again after this time, where a namespace is wanted that nobody knows: the kernel gives an
/// inode again.
const AGAIN_NS: u64 = 5_000_000_000;
/// Namespaces that are entered in one look, beside the own one.
const MOST_ENTERED: usize = 256;
/// Names that are remembered.
const MOST: usize = 16_384;
const ROOT: u32 = 0;

/// What is known of the namespaces of this host.
pub struct NamespaceCookies {
    own: Option<(u64, Netns)>,
    own_realm: Option<Realm>,
    /// By cookie.
    places: HashMap<u64, Place>,
    /// By inode.
    seen: HashMap<u64, Seen>,
    looks: Budget,
}

struct Place {
    /// Where it was last.
    netns: Netns,
    /// Whose it is, where that was asked.
    realm: Option<Realm>,
}

struct Seen {
    /// Where it was seen. Another one with its inode is seen elsewhere.
    source: NetnsSource,
    /// The real user of a process in it; root's, where it is mounted.
    uid: u32,
    /// When it was learnt what it is called; 0: never.
    read_ns: u64,
}

/// What was found of those that are wanted.
#[derive(Default)]
pub struct Entered {
    /// By cookie.
    pub listers: HashMap<u64, SocketLister>,
    /// There are more than there was time for. All others are gone, as far as anybody can tell.
    pub left: HashSet<u64>,
    /// How much of the processor's time was within the rate, which bounds it by itself.
    pub within_rate: Duration,
}

impl NamespaceCookies {
    pub fn new() -> NamespaceCookies {
        let own = monitor_sys::netns_cookie().ok().zip(Netns::own().ok());
        let own_realm = Realm::own().ok();
        NamespaceCookies {
            own,
            own_realm,
            places: HashMap::new(),
            seen: HashMap::new(),
            looks: Budget::new(LOOKS_PER_S),
        }
    }

    /// Whether the kernel says what namespaces are called (since 5.14).
    pub fn are_told(&self) -> bool {
        self.own.is_some()
    }

    /// Where those are that are wanted. With each, the processes that may be in it.
    pub fn enter(&mut self, wanted: &HashMap<u64, HashSet<u32>>, now_ns: u64) -> Entered {
        let mut entered = Entered::default();
        if let Some((cookie, own)) = &self.own
            && wanted.contains_key(cookie)
            && let Ok(lister) = SocketLister::enter(own)
        {
            entered.listers.insert(*cookie, lister);
        }
        let others = |entered: &Entered| -> HashSet<u64> {
            wanted.keys().copied().filter(|cookie| !entered.listers.contains_key(cookie)).collect()
        };
        self.enter_known(others(&entered), &mut entered);
        let mut missing = others(&entered);
        missing.retain(|cookie| !self.places.contains_key(cookie));
        if !missing.is_empty() {
            let likely = missing.iter().flat_map(|cookie| &wanted[cookie]).copied().collect();
            let before = processor_time();
            let is_all = self.discover(&missing, likely, now_ns);
            entered.within_rate = processor_time().saturating_sub(before);
            self.enter_known(missing.clone(), &mut entered);
            if !is_all {
                missing.retain(|cookie| !self.places.contains_key(cookie));
                entered.left.extend(missing);
            }
        }
        entered.left.retain(|cookie| !entered.listers.contains_key(cookie));
        entered
    }

    /// Whose those are that are wanted, each with the processes that may be in it: as far as it is one that such a process
    /// is in.
    pub fn realms_near(&mut self, wanted: &HashMap<u64, HashSet<u32>>, now_ns: u64) -> HashMap<u64, Realm> {
        let mut found = self.realms_of(wanted.keys());
        let missing: HashSet<u64> =
            wanted.keys().copied().filter(|cookie| !found.contains_key(cookie)).collect();
        let likely: HashSet<u32> = missing.iter().flat_map(|cookie| &wanted[cookie]).copied().collect();
        if !likely.is_empty() {
            self.read_likely(&missing, likely, now_ns);
            found.extend(self.realms_of(&missing));
        }
        found
    }

    /// The same, wherever they are; and whether all were looked into.
    pub fn realms_anywhere(&mut self, missing: &HashSet<u64>, now_ns: u64) -> (HashMap<u64, Realm>, bool) {
        let is_all = self.read_others(missing, now_ns);
        (self.realms_of(missing), is_all)
    }

    /// Its addresses and routes, where it was last, if it is still there.
    pub fn routes(&self, cookie: u64) -> Option<Routes> {
        let own = self.own.as_ref().filter(|(own, _)| *own == cookie).map(|(_, netns)| netns);
        let netns = own.or(self.places.get(&cookie).map(|place| &place.netns))?;
        Routes::enter(netns).ok().filter(|routes| routes.netns_cookie() == Some(cookie))
    }

    fn realms_of<'a>(&self, cookies: impl IntoIterator<Item = &'a u64>) -> HashMap<u64, Realm> {
        let own = self.own.as_ref().map(|(cookie, _)| *cookie);
        let of = |cookie: u64| match own == Some(cookie) {
            true => self.own_realm,
            false => self.places.get(&cookie).and_then(|place| place.realm),
        };
        cookies.into_iter().filter_map(|cookie| Some((*cookie, of(*cookie)?))).collect()
    }

    /// Those whose place is known, and is still theirs.
    fn enter_known(&mut self, wanted: HashSet<u64>, entered: &mut Entered) {
        let of = |netns: &Netns| self.seen.get(&netns.inode).map_or(ROOT, |seen| seen.uid);
        let known = wanted
            .into_iter()
            .filter_map(|cookie| self.places.get(&cookie).map(|place| (cookie, &place.netns)))
            .map(|(cookie, netns)| (of(netns), (cookie, netns.clone())));
        for (cookie, netns) in fewest_first(known.collect()) {
            if entered.listers.len() > MOST_ENTERED {
                entered.left.insert(cookie);
                continue;
            }
            match SocketLister::enter(&netns) {
                Ok(lister) if lister.netns_cookie().is_none_or(|it| it == cookie) => {
                    entered.listers.insert(cookie, lister);
                }
                _ => {
                    self.places.remove(&cookie);
                    self.seen.remove(&netns.inode);
                }
            }
        }
    }

    /// Learns what namespaces are called until all that are missing are known; whether none is left that could be one.
    fn discover(&mut self, missing: &HashSet<u64>, likely: HashSet<u32>, now_ns: u64) -> bool {
        self.read_likely(missing, likely, now_ns) == Read::Found || self.read_others(missing, now_ns)
    }

    /// Looks where these processes are.
    fn read_likely(&mut self, missing: &HashSet<u64>, likely: HashSet<u32>, now_ns: u64) -> Read {
        let mut inodes = HashSet::new();
        let likely = likely.into_iter().filter_map(|pid| Netns::of_process(pid).ok());
        let likely = likely.filter(|netns| inodes.insert(netns.inode)).map(|netns| self.with_user(netns));
        let likely: Vec<(u32, Netns)> = likely.collect();
        self.read_until(missing, fewest_first(likely), now_ns)
    }

    /// Looks in all that are not known; whether none is left that could be one.
    fn read_others(&mut self, missing: &HashSet<u64>, now_ns: u64) -> bool {
        let all = namespaces();
        self.forget_others(&all);
        let own = self.own.as_ref().map(|(_, own)| own.inode);
        let others = all.into_iter().filter(|netns| Some(netns.inode) != own);
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for (uid, netns) in others.map(|netns| self.with_user(netns)).collect::<Vec<_>>() {
            match self.seen.get(&netns.inode).map_or(0, |seen| seen.read_ns) {
                0 => new.push((uid, netns)),
                read_ns if now_ns.saturating_sub(read_ns) > AGAIN_NS => old.push((read_ns, netns)),
                _ => {}
            }
        }
        old.sort_by_key(|(read_ns, _)| *read_ns);
        let mut candidates = fewest_first(new);
        candidates.extend(old.into_iter().map(|(_, netns)| netns));
        self.read_until(missing, candidates, now_ns) != Read::Cut
    }

    /// Reads what they are called, as far as the rate allows.
    fn read_until(&mut self, missing: &HashSet<u64>, candidates: Vec<Netns>, now_ns: u64) -> Read {
        for some in candidates.chunks(AT_ONCE) {
            if !self.looks.allows(some.len() as u32, now_ns) {
                return Read::Cut;
            }
            self.looks.spend(some.len() as u32, now_ns);
            for (netns, cookie) in some.iter().zip(cookies_of(some)) {
                let Some((cookie, realm)) = cookie else {
                    self.seen.remove(&netns.inode);
                    continue;
                };
                self.put(cookie, Place { netns: netns.clone(), realm });
                if let Some(seen) = self.seen.get_mut(&netns.inode) {
                    seen.read_ns = now_ns.max(1);
                }
            }
            if missing.iter().all(|cookie| self.places.contains_key(cookie)) {
                return Read::Found;
            }
        }
        Read::All
    }

    /// It is there.
    pub fn note(&mut self, cookie: u64, netns: Netns) {
        self.put(cookie, Place { netns, realm: None });
    }

    fn put(&mut self, cookie: u64, place: Place) {
        if self.places.len() >= MOST {
            self.places.clear();
            self.seen.clear();
        }
        self.places.insert(cookie, place);
    }

    /// Namespaces in the order in which they are gone through where the kernel does not say which is which, as far as
    /// the rate allows: first the own one and where `cookie` led before; and whether that is all of them.
    pub fn in_turn(&mut self, now_ns: u64) -> (Vec<Netns>, bool) {
        let mut all = namespaces();
        let known: HashSet<u64> = self.places.values().map(|place| place.netns.inode).collect();
        if !all.is_empty() {
            let own = all.remove(0);
            let (mut first, others): (Vec<Netns>, Vec<Netns>) =
                all.into_iter().partition(|netns| known.contains(&netns.inode));
            let others: Vec<(u32, Netns)> = others.into_iter().map(|netns| self.with_user(netns)).collect();
            first.insert(0, own);
            first.extend(fewest_first(others));
            all = first;
        }
        self.forget_others(&all);
        let count = all.len();
        all.retain(|_| {
            let allows = self.looks.allows(1, now_ns);
            if allows {
                self.looks.spend(1, now_ns);
            }
            allows
        });
        let is_all = all.len() == count;
        (all, is_all)
    }

    /// Those that are not among `all` are gone.
    fn forget_others(&mut self, all: &[Netns]) {
        let alive: HashSet<u64> = all.iter().map(|netns| netns.inode).collect();
        self.seen.retain(|inode, _| alive.contains(inode));
        self.places.retain(|_, place| alive.contains(&place.netns.inode));
    }

    /// With the user whose it is.
    fn with_user(&mut self, netns: Netns) -> (u32, Netns) {
        if let Some(seen) = self.seen.get(&netns.inode).filter(|seen| seen.source == netns.source) {
            return (seen.uid, netns);
        }
        let uid = user_of(&netns);
        self.seen.insert(netns.inode, Seen { source: netns.source.clone(), uid, read_ns: 0 });
        (uid, netns)
    }
}

#[derive(PartialEq, Eq)]
enum Read {
    /// All that were missing are known.
    Found,
    /// All candidates were read.
    All,
    /// There are more candidates than the rate allows.
    Cut,
}

/// Its processes' real user, which nobody becomes without privileges. One that cannot be told has many.
fn user_of(netns: &Netns) -> u32 {
    let NetnsSource::Process(pid) = netns.source else { return ROOT };
    let status = ProcessDirectory::open(pid).and_then(|process| read_status(process.as_fd()));
    status.ok().and_then(|status| user_ids(&status)).map_or(u32::MAX, |ids| ids.real)
}

/// Root's first, and then those of whoever has the fewest.
fn fewest_first<T>(mut of_users: Vec<(u32, T)>) -> Vec<T> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for (uid, _) in &of_users {
        *counts.entry(*uid).or_default() += 1;
    }
    of_users.sort_by_key(|(uid, _)| (*uid != ROOT, counts.get(uid).copied(), *uid));
    of_users.into_iter().map(|(_, it)| it).collect()
}

#[cfg(test)]
#[path = "namespace_cookies_tests.rs"]
mod tests;
