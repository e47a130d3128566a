//! The resolver: puts the parts together, and remembers what it saw for a moment.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use super::asked::Asked;
use super::cgroup::{Place, place_of_cgroup_path};
use super::cgroup_tree::CgroupTree;
use super::clock::{BootClock, monotonic_ns};
use super::executable::Hashes;
use super::holders::{Holder, holders_by_age, without_passing_by};
use super::namespaces::namespaces;
use super::process::{Details, ProcessDirectory, Stat, UserIds};
use super::sockets::{SocketLister, SocketSeen, TcpState};
use super::users::Users;
use super::workload::Workloads;
use super::{Existing, ProcessSeen, SocketKey};
use crate::model::{Container, Direction, Identity, Transport, Workload};
use crate::watch::Budget;

const ENDED: &str = "process ended before it could be looked at";
const ENDED_UNNAMED: &str = "process ended while it was looked at";
const NO_PROCESS: &str = "the kernel did not say which process";
const TOO_MANY: &str = "more processes were to be looked at than there is time for";
const ANOTHER_PROGRAM: &str = "the process has become another program since, or goes by another name";
const OTHER_RIGHTS: &str = "the process has another user's rights now: it may have become another program";
const REFUSED: &str = "no permission to look at the process";

/// Processes remembered.
const MOST_REMEMBERED: usize = 16_384;
/// How long: a process may execute another program, change its user or move to another cgroup.
const REMEMBER_NS: u64 = 2_000_000_000;
/// More wanted connections than this in one namespace, and one walk over all is cheaper.
const MOST_SINGLE_QUESTIONS: usize = 64;

/// Looks at a process that is executing another program.
const MOST_LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Processes that are looked at in a second; four times as many at once. Who asks says a number, and may be in
/// the hands of whoever wrote what it reads: one that asks for all there are is held up. A host where each of ten
/// thousand connections a second is a process of its own is not.
const LOOKS_PER_S: u32 = 10_000;

/// Finds out who is at an end. Blocks; keep it on a thread of its own.
pub struct Resolver {
    clock: BootClock,
    users: Users,
    cgroups: CgroupTree,
    remembered: HashMap<u32, Remembered>,
    asked: Asked,
    looks: Budget,
    hashes: Hashes,
    workloads: Workloads,
    /// Inodes of network namespaces, learnt from sockets that were found; only of living ones.
    namespaces_by_cookie: HashMap<u64, u64>,
}

struct Remembered {
    identity: Identity,
    start_ticks: u64,
    /// Name under which the kernel programs saw it: that of a thread, which may differ.
    seen_as: [u8; 16],
    seen_uid: u32,
    /// When it was first seen with the executable that it has.
    since_ns: u64,
    read_ns: u64,
    /// When it was last seen alive.
    alive_ns: u64,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new()
    }
}

impl Resolver {
    pub fn new() -> Resolver {
        Resolver {
            clock: BootClock::new(),
            users: Users::new("/etc/passwd".into()),
            cgroups: CgroupTree::new(),
            remembered: HashMap::new(),
            asked: Asked::default(),
            looks: Budget::new(LOOKS_PER_S),
            hashes: Hashes::default(),
            workloads: Workloads::new("/".into()),
            namespaces_by_cookie: HashMap::new(),
        }
    }

    /// Looks at more, as long as a policy asks for it.
    #[must_use]
    pub fn asked(self, asked: Asked) -> Resolver {
        Resolver { asked, ..self }
    }

    /// Who this process is. When it has ended, or its pid is another's by now, what the kernel
    /// programs saw of it, and why the rest is missing.
    pub fn process(&mut self, seen: &ProcessSeen) -> Identity {
        if seen.tgid == 0 {
            return Identity { missing: Some(NO_PROCESS.to_owned()), ..Identity::default() };
        }
        self.clock.sample();
        let now = monotonic_ns();
        // It had this pid from its start until it was last seen alive: a sighting in between can
        // only be of it, whatever has the pid now.
        if let Some(known) = self.remembered.get(&seen.tgid)
            && (known.seen_as, known.seen_uid) == (seen.comm, seen.uid)
            && now.saturating_sub(known.read_ns) < REMEMBER_NS
            && seen.seen_ns <= known.alive_ns
            && !self.clock.began_after(known.start_ticks, seen.seen_ns)
        {
            return known.identity.clone();
        }
        let Some((directory, stat)) = open_process(seen.tgid) else { return self.ended(seen, now) };
        if self.clock.began_after(stat.start_ticks, seen.seen_ns) {
            return self.ended(seen, now);
        }
        if let Some(known) = self.remembered.get_mut(&seen.tgid)
            && known.start_ticks == stat.start_ticks
            && (known.seen_as, known.seen_uid) == (seen.comm, seen.uid)
            && known.identity.name.as_deref() == Some(&stat.name)
            && now.saturating_sub(known.read_ns) < REMEMBER_NS
        {
            known.alive_ns = now;
            return known.identity.clone();
        }
        if !self.looks.allows(1, now) {
            return Identity { missing: Some(TOO_MANY.to_owned()), ..self.ended(seen, now) };
        }
        self.looks.spend(1, now);
        match self.look(seen.tgid, &directory, stat, Some(seen), now) {
            Some(identity) => {
                self.remember(seen, &identity, now);
                identity
            }
            None => self.ended(seen, now),
        }
    }

    /// The processes that use these sockets now, in the order of the keys; `None`: the socket is
    /// gone, is held by nobody, or can't be seen. One walk over `/proc` serves all keys.
    ///
    /// A socket may be held by several processes: handed over by systemd, or inherited through
    /// fork. The one that made it is named as long as it holds it: a server that leaves a connection
    /// to a child closes its own end of it. Otherwise the youngest, since a service forks to have
    /// the child do the work; not one that only passes by on its way from fork to exec.
    pub fn users_of(&mut self, keys: &[SocketKey]) -> Vec<Option<Identity>> {
        self.clock.sample();
        let all = namespaces();
        let alive: HashSet<u64> = all.iter().map(|namespace| namespace.inode).collect();
        self.namespaces_by_cookie.retain(|_, inode| alive.contains(inode));
        let mut inodes: Vec<Option<u32>> = vec![None; keys.len()];
        for namespace in all {
            let here = |index: &usize| {
                let hint = self.namespaces_by_cookie.get(&keys[*index].netns);
                inodes[*index].is_none() && hint.is_none_or(|inode| *inode == namespace.inode)
            };
            let wanted: Vec<usize> = (0..keys.len()).filter(here).collect();
            if wanted.is_empty() {
                continue;
            }
            let Ok(lister) = SocketLister::enter(&namespace) else { continue };
            for (index, socket) in find(&lister, keys, &wanted) {
                inodes[index] = Some(socket.inode);
                // Addresses may be the same in two namespaces; a cookie is in one.
                if keys[index].netns != 0 && keys[index].cookie != 0 {
                    self.namespaces_by_cookie.insert(keys[index].netns, namespace.inode);
                }
            }
        }
        let wanted: HashSet<u32> = inodes.iter().copied().flatten().filter(|inode| *inode != 0).collect();
        let holders = self.holders(&wanted);
        inodes
            .into_iter()
            .zip(keys)
            .map(|(inode, key)| {
                let holders = holders.get(&inode?)?;
                let maker = holders.iter().filter(|holder| holder.pid == key.maker);
                let mut candidates = maker.chain(holders.iter().filter(|holder| holder.pid != key.maker));
                candidates.find_map(|holder| self.holder(*holder))
            })
            .collect()
    }

    /// Every TCP and UDP socket on the host, in all network namespaces, with who holds it: what
    /// was there before the monitor. What can't be listed comes back as
    /// an error beside the rest.
    pub fn existing(&mut self) -> (Vec<Existing>, Vec<super::SocketError>) {
        self.clock.sample();
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for namespace in namespaces() {
            let lister = match SocketLister::enter(&namespace) {
                Ok(lister) => lister,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            // One by one: a kernel without `udp_diag` still lists TCP.
            let mut sockets = Vec::new();
            for listed in [lister.list_counted(), lister.list(Transport::Udp)] {
                match listed {
                    Ok(listed) => sockets.extend(listed),
                    Err(error) => errors.push(error),
                }
            }
            let serving = Serving::new(&sockets);
            found.extend(sockets.into_iter().map(|socket| Existing {
                direction: serving.direction(&socket),
                socket,
                netns: namespace.inode,
                holders: Vec::new(),
            }));
        }
        let inodes = found.iter().map(|existing| existing.socket.inode).filter(|inode| *inode != 0).collect();
        let holders = self.holders(&inodes);
        let mut identities: HashMap<Holder, Option<Identity>> = HashMap::new();
        for existing in &mut found {
            let held = holders.get(&existing.socket.inode).map_or(&[][..], Vec::as_slice);
            let all = held.iter().filter_map(|holder| {
                identities.entry(*holder).or_insert_with(|| self.holder(*holder)).clone()
            });
            let most = if existing.socket.state == TcpState::Listen { usize::MAX } else { 1 };
            existing.holders = all.take(most).collect();
        }
        (found, errors)
    }

    fn holders(&self, inodes: &HashSet<u32>) -> HashMap<u32, Vec<Holder>> {
        let mut found = holders_by_age(inodes);
        without_passing_by(&mut found, |holder| self.clock.began_lately(holder.start_ticks));
        found
    }

    /// A holder that is still the process that it was when it was found.
    fn holder(&mut self, holder: Holder) -> Option<Identity> {
        let (directory, stat) = open_process(holder.pid)?;
        if stat.start_ticks != holder.start_ticks {
            return None;
        }
        self.look(holder.pid, &directory, stat, None, monotonic_ns())
    }

    /// Reads everything; `None` when it ended meanwhile. `seen`: what the kernel programs saw of it, if they did.
    fn look(
        &mut self,
        pid: u32,
        directory: &ProcessDirectory,
        mut before: Stat,
        seen: Option<&ProcessSeen>,
        now: u64,
    ) -> Option<Identity> {
        // Between two reads it may have executed another program: then the parts would not belong
        // together. In the midst of that it has a name and a binary and no arguments yet.
        for look in 1..=MOST_LOOKS {
            let details = directory.details(&|path| self.cgroups.maker(path));
            let after = directory.stat()?;
            let whole = details.executable.is_none() || details.command_line.is_some();
            if after.name == before.name && (whole || look == MOST_LOOKS) {
                let became = seen.and_then(|seen| self.became_another(seen, directory, &after, &details));
                let mut identity = self.identity(pid, after, details, seen, now);
                if let (Some(became), Some(seen)) = (became, seen) {
                    return Some(as_seen(identity, seen, became));
                }
                if self.asked.hashes() && identity.executable.is_some() {
                    identity.executable_sha256 = self.hashes.of(directory.as_fd(), now);
                }
                return Some(identity);
            }
            before = after;
            if look > 1 {
                thread::sleep(BETWEEN_LOOKS);
            }
        }
        let missing = Some("the process keeps executing other programs".to_owned());
        let Stat { name, start_ticks, .. } = before;
        Some(Identity {
            pid: Some(pid),
            start_ticks: Some(start_ticks),
            name: Some(name),
            missing,
            ..Identity::default()
        })
    }

    /// Why what it is now says nothing of what it was when it was seen. The kernel tells nobody when a process
    /// executed another program, but that gives it the name of its file, and ends all its other threads.
    fn became_another(
        &self,
        seen: &ProcessSeen,
        directory: &ProcessDirectory,
        stat: &Stat,
        details: &Details,
    ) -> Option<&'static str> {
        let name = name_of(seen);
        let rights = details.users.map_or(seen.uid, |ids| ids.effective);
        // Who was root may have become anybody without another program.
        let others = seen.uid != 0 && rights != seen.uid;
        let mut named = name == stat.name;
        if details.executable.is_none() || named && !others {
            return None;
        }
        let known = self.remembered.get(&seen.tgid);
        let had_it_before = known.is_some_and(|known| {
            known.start_ticks == stat.start_ticks
                && known.since_ns <= seen.seen_ns
                && known.identity.executable == details.executable
        });
        let is_the_same = had_it_before
            || directory.any_other_thread(seen.tgid, |thread| {
                named |= thread.name == name;
                // A tick later, since a start is rounded down.
                !self.clock.began_after(thread.start_ticks + 1, seen.seen_ns)
            });
        match (is_the_same, others, named) {
            (true, ..) | (_, false, true) => None,
            (_, true, _) => Some(OTHER_RIGHTS),
            (_, false, false) => Some(ANOTHER_PROGRAM),
        }
    }

    fn identity(
        &mut self,
        pid: u32,
        stat: Stat,
        details: Details,
        seen: Option<&ProcessSeen>,
        now: u64,
    ) -> Identity {
        let Details { executable, executable_elsewhere, command_line, users, place, refused } = details;
        let uid = user_of(seen, users);
        let missing = match (refused, stat.state) {
            (true, _) => Some(REFUSED.to_owned()),
            (_, 'Z' | 'X') if executable.is_none() => Some(ENDED_UNNAMED.to_owned()),
            _ => None,
        };
        Identity {
            pid: Some(pid),
            start_ticks: Some(stat.start_ticks),
            name: Some(stat.name),
            executable,
            executable_elsewhere,
            executable_sha256: None,
            command_line,
            uid,
            user: uid.and_then(|uid| self.users.name(uid, now)),
            workload: self.workload(place.container.as_ref(), now),
            unit: place.unit,
            container: place.container,
            missing,
        }
    }

    /// What the kernel programs saw of a process that can't be looked at any more.
    fn ended(&mut self, seen: &ProcessSeen, now: u64) -> Identity {
        let path = self.cgroups.path(seen.cgroup, now).map(str::to_owned).unwrap_or_default();
        let Place { unit, container } = place_of_cgroup_path(&path, &|path| self.cgroups.maker(path));
        Identity {
            pid: Some(seen.tgid),
            name: Some(name_of(seen)).filter(|name| !name.is_empty()),
            uid: Some(seen.uid),
            user: self.users.name(seen.uid, now),
            workload: self.workload(container.as_ref(), now),
            unit,
            container,
            missing: Some(ENDED.to_owned()),
            ..Identity::default()
        }
    }

    fn workload(&mut self, container: Option<&Container>, now: u64) -> Option<Box<Workload>> {
        if !self.asked.workloads() {
            return None;
        }
        self.workloads.of(container?, now).map(Box::new)
    }

    fn remember(&mut self, seen: &ProcessSeen, identity: &Identity, now: u64) {
        let Some(start_ticks) = identity.start_ticks else { return };
        if self.remembered.len() >= MOST_REMEMBERED {
            self.remembered.retain(|_, known| now.saturating_sub(known.read_ns) < REMEMBER_NS);
        }
        if self.remembered.len() >= MOST_REMEMBERED {
            self.remembered.clear();
        }
        let since_ns = match self.remembered.get(&seen.tgid) {
            Some(known)
                if known.start_ticks == start_ticks && known.identity.executable == identity.executable =>
            {
                known.since_ns.min(seen.seen_ns)
            }
            _ => seen.seen_ns,
        };
        // `now` is from before the reading: it was certainly alive then.
        let known = Remembered {
            identity: identity.clone(),
            start_ticks,
            seen_as: seen.comm,
            seen_uid: seen.uid,
            since_ns,
            read_ns: now,
            alive_ns: now,
        };
        self.remembered.insert(seen.tgid, known);
    }
}

fn name_of(seen: &ProcessSeen) -> String {
    let length = seen.comm.iter().position(|byte| *byte == 0).unwrap_or(seen.comm.len());
    String::from_utf8_lossy(&seen.comm[..length]).into_owned()
}

/// Whose it is. The rights that root has given up count; those that another has got from a setuid program do not.
fn user_of(seen: Option<&ProcessSeen>, now: Option<UserIds>) -> Option<u32> {
    let began = seen.map(|seen| seen.uid).or(now.map(|ids| ids.real))?;
    if began == 0 { now.map(|ids| ids.effective) } else { Some(began) }
}

/// Of a process that has become another program, only what the kernel programs saw.
fn as_seen(identity: Identity, seen: &ProcessSeen, became: &str) -> Identity {
    Identity {
        name: Some(name_of(seen)).filter(|name| !name.is_empty()),
        executable: None,
        executable_elsewhere: false,
        command_line: None,
        missing: Some(became.to_owned()),
        ..identity
    }
}

fn open_process(pid: u32) -> Option<(ProcessDirectory, Stat)> {
    let directory: io::Result<ProcessDirectory> = ProcessDirectory::open(pid);
    let directory = directory.ok()?;
    let stat = directory.stat()?;
    Some((directory, stat))
}

/// The sockets of one namespace that these keys mean.
fn find(lister: &SocketLister, keys: &[SocketKey], wanted: &[usize]) -> Vec<(usize, SocketSeen)> {
    let mut found = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        let wanted: Vec<usize> =
            wanted.iter().copied().filter(|index| keys[*index].transport == transport).collect();
        let single = transport == Transport::Tcp
            && wanted.len() <= MOST_SINGLE_QUESTIONS
            && wanted.iter().all(|index| keys[*index].remote.port() != 0);
        if single {
            found.extend(wanted.iter().filter_map(|index| {
                let SocketKey { local, remote, cookie, .. } = keys[*index];
                lister.connection(local, remote, cookie).map(|socket| (*index, socket))
            }));
        } else if !wanted.is_empty() {
            let sockets = lister.list(transport).unwrap_or_default();
            let by_cookie: HashMap<u64, &SocketSeen> =
                sockets.iter().map(|socket| (socket.cookie, socket)).collect();
            found.extend(wanted.iter().filter_map(|index| {
                let key = &keys[*index];
                let socket = match key.cookie {
                    0 => {
                        sockets.iter().find(|socket| (socket.local, socket.remote) == (key.local, key.remote))
                    }
                    cookie => by_cookie.get(&cookie).copied(),
                };
                socket.map(|socket| (*index, socket.clone()))
            }));
        }
    }
    found
}

/// Where a namespace is served: tells which end of an old connection began it.
struct Serving {
    listening: HashSet<(std::net::IpAddr, u16)>,
}

impl Serving {
    fn new(sockets: &[SocketSeen]) -> Serving {
        let listening = sockets.iter().filter(|socket| socket.state == TcpState::Listen);
        Serving { listening: listening.map(|socket| (socket.local.ip(), socket.local.port())).collect() }
    }

    /// A connection at a port that is listened on came in; any other went out. `None`: no
    /// connection, or UDP, where nobody can tell afterwards.
    fn direction(&self, socket: &SocketSeen) -> Option<Direction> {
        if socket.transport == Transport::Udp || socket.remote.port() == 0 {
            return None;
        }
        let port = socket.local.port();
        let unspecified: [std::net::IpAddr; 2] =
            [std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv6Addr::UNSPECIFIED.into()];
        let served = self.listening.contains(&(socket.local.ip(), port))
            || unspecified.iter().any(|any| self.listening.contains(&(*any, port)));
        Some(if served { Direction::Ingress } else { Direction::Egress })
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
