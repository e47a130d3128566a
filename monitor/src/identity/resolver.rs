//! The resolver: puts the parts together, and remembers what it saw for a moment.

use std::collections::HashMap;
use std::io;

use super::asked::Asked;
use super::census::Census;
use super::cgroup::Place;
use super::cgroup_tree::CgroupTree;
use super::clock::{BootClock, monotonic_ns};
use super::executable::{Executable, Hashes, Unhashed, Version};
use super::executions::Executions;
use super::glimpse::{Glimpse, Glimpses};
use super::holders::Holder;
use super::look::{Ahead, Sight, own_user_namespace};
use super::lookers::{Lookers, StillOut, Who};
use super::namespace_cookies::NamespaceCookies;
use super::open_files::Purses;
use super::process::{Details, ProcessDirectory, Standing, Stat, UserIds};
use super::users::Users;
use super::workload::Workloads;
use super::{ProcessSeen, comm_text};
use crate::model::{Container, Identity, Workload};
use crate::watch::Budget;

const ENDED: &str = "process ended before it could be looked at";
const ENDED_AS_THREAD: &str =
    "process ended before it could be looked at: its name is that of the thread that was seen";
const ENDED_UNNAMED: &str = "process ended while it was looked at";
const ENDED_UNREAD: &str = "process ended before its arguments could be read";
/// As of the further subflows of MPTCP, which no process connects.
const OF_KERNEL: &str = "a thread of the kernel's used the socket: for whom is not known";
const NO_PROCESS: &str = "the kernel did not say which process";
const TOO_MANY: &str = "more processes were to be looked at than there is time for";
const PLACE_HIDDEN: &str = "the kernel did not say in which cgroup the process is";
const REFUSED: &str = "no permission to look at the process";

/// Processes remembered.
const MOST_REMEMBERED: usize = 16_384;
/// How long: a process may execute another program, change its user or move to another cgroup.
const REMEMBER_NS: u64 = 2_000_000_000;

/// Processes that are looked at in a second; four times as many at once. Who asks says a number, and may be in
/// the hands of whoever wrote what it reads: one that asks for all there are is held up. A host where each of ten
/// thousand connections a second is a process of its own is not.
const LOOKS_PER_S: u32 = 10_000;

/// Finds out who is at an end. Blocks; keep it on a thread of its own.
pub struct Resolver {
    pub(super) clock: BootClock,
    pub(super) users: Users,
    pub(super) cgroups: CgroupTree,
    pub(super) remembered: HashMap<u32, Remembered>,
    pub(super) asked: Asked,
    looks: Budget,
    /// What may hang of a look, they do.
    pub(super) lookers: Lookers<Vec<Option<Sight>>>,
    pub(super) ahead: HashMap<u32, Ahead>,
    pub(super) stalls: Vec<String>,
    /// Inode of the one that this process is in.
    pub(super) user_namespace: u64,
    pub(super) hashes: Hashes,
    pub(super) glimpses: Glimpses,
    pub(super) executions: Executions,
    workloads: Workloads,
    pub(super) namespaces: NamespaceCookies,
    /// Among whom holders of sockets are looked for.
    pub(super) census: Census,
    /// What that may cost.
    pub(super) purses: Purses,
}

/// Who somebody is.
#[derive(Debug)]
pub struct Named {
    pub identity: Identity,
    /// What is to be read before the hash of its executable is known, where a policy asks for it.
    pub unhashed: Option<Unhashed>,
    /// It could not be looked at, since looks stall.
    pub is_stalled: bool,
}

impl From<Identity> for Named {
    fn from(identity: Identity) -> Named {
        Named { identity, unhashed: None, is_stalled: false }
    }
}

pub(super) struct Remembered {
    pub(super) identity: Identity,
    /// What it runs, where a policy asks for the hash of it.
    executable: Option<(Version, Who)>,
    pub(super) start_ticks: u64,
    /// Name under which the kernel programs saw it: that of a thread, which may differ.
    seen_as: [u8; 16],
    seen_uid: u32,
    /// Cgroup that it was seen in: it can be moved.
    seen_in: u64,
    /// When it was first seen with the executable that it has.
    pub(super) since_ns: u64,
    read_ns: u64,
    /// When it was last seen alive.
    alive_ns: u64,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new()
    }
}

/// What a resolver that has ended left hanging.
#[derive(Clone, Debug, Default)]
pub struct Hung {
    processes: StillOut,
    cgroups: StillOut,
}

impl Resolver {
    pub fn new() -> Resolver {
        Resolver::after(Hung::default())
    }

    /// In place of one that left these, and all that will.
    pub fn after(Hung { processes, cgroups }: Hung) -> Resolver {
        Resolver {
            clock: BootClock::new(),
            users: Users::new("/etc/passwd".into()),
            cgroups: CgroupTree::new(cgroups),
            remembered: HashMap::new(),
            asked: Asked::default(),
            looks: Budget::new(LOOKS_PER_S),
            lookers: Lookers::after(processes),
            ahead: HashMap::new(),
            stalls: Vec::new(),
            user_namespace: own_user_namespace(),
            hashes: Hashes::default(),
            glimpses: Glimpses::default(),
            executions: Executions::default(),
            workloads: Workloads::new("/".into()),
            namespaces: NamespaceCookies::new(),
            census: Census::default(),
            purses: Purses::default(),
        }
    }

    /// Looks at more, as long as a policy asks for it.
    #[must_use]
    pub fn asked(self, asked: Asked) -> Resolver {
        Resolver { asked, ..self }
    }

    /// Knows the hashes that are known there.
    #[must_use]
    pub fn hashes(self, hashes: Hashes) -> Resolver {
        Resolver { hashes, ..self }
    }

    /// Knows what was glimpsed of processes that have ended since.
    #[must_use]
    pub fn glimpses(self, glimpses: Glimpses) -> Resolver {
        Resolver { glimpses, ..self }
    }

    /// Knows what the kernel says of what processes execute.
    #[must_use]
    pub fn executions(self, executions: Executions) -> Resolver {
        Resolver { executions, ..self }
    }

    /// Who this process is. When it has ended, or its pid is another's by now, what was glimpsed of it or what the kernel
    /// programs saw, and why the rest is missing.
    pub fn process(&mut self, seen: &ProcessSeen) -> Named {
        let named = self.process_now(seen);
        let ended = [ENDED, ENDED_AS_THREAD, ENDED_UNNAMED].map(Some);
        if !ended.contains(&named.identity.missing.as_deref()) {
            return named;
        }
        self.glimpsed(seen).map_or(named, Named::from)
    }

    /// One that has ended, as it was when it was heard of.
    fn glimpsed(&mut self, seen: &ProcessSeen) -> Option<Identity> {
        if self.executions.since(seen) {
            return None;
        }
        let Glimpse { stat, standing, executable, .. } = self.glimpses.of(seen)?;
        let (executable, executable_elsewhere) = executable.told(&standing)?;
        let details = Details { executable: Some(executable), executable_elsewhere, ..Details::default() };
        let identity = self.identity(seen.tgid, stat, standing, details, Some(seen), monotonic_ns());
        Some(Identity { missing: Some(ENDED_UNREAD.to_owned()), ..identity })
    }

    fn process_now(&mut self, seen: &ProcessSeen) -> Named {
        if seen.tgid == 0 {
            return Identity { missing: Some(NO_PROCESS.to_owned()), ..Identity::default() }.into();
        }
        self.clock.sample();
        let now = monotonic_ns();
        // It had this pid from its start until it was last seen alive: a sighting in between can
        // only be of it, whatever has the pid now.
        if let Some(known) = self.remembered.get(&seen.tgid)
            && Self::is_as_remembered(known, seen, now)
            && seen.seen_ns <= known.alive_ns
            && !self.clock.began_after(known.start_ticks, seen.seen_ns)
            && self.ran_it(known, seen)
        {
            return self.remembered_as(known);
        }
        let (directory, stat) = match open_process(seen.tgid) {
            Ok(opened) => opened,
            Err(error) => {
                let known = self.unseen(Some(seen), &error, now).or_else(|| self.seen_ahead(seen, now));
                return known.unwrap_or_else(|| self.ended(seen, now).into());
            }
        };
        if self.clock.began_after(stat.start_ticks, seen.seen_ns) {
            return self.ended(seen, now).into();
        }
        if let Some(known) = self.remembered.get(&seen.tgid)
            && known.start_ticks == stat.start_ticks
            && Self::is_as_remembered(known, seen, now)
            && known.identity.name.as_deref() == Some(&stat.name)
            && self.ran_it(known, seen)
        {
            let named = self.remembered_as(known);
            self.remembered.entry(seen.tgid).and_modify(|known| known.alive_ns = now);
            return named;
        }
        if !self.looks.allows(1, now) {
            return Identity { missing: Some(TOO_MANY.to_owned()), ..self.ended(seen, now) }.into();
        }
        self.looks.spend(1, now);
        match self.look(seen.tgid, directory, stat, Some(seen), now) {
            Some(named) if named.is_stalled => named,
            Some(named) => {
                // What it has become since goes by the same name, perhaps.
                if !self.executions.since(seen) {
                    self.remember(seen, &named, now);
                }
                self.cgroups.meet(seen.cgroup, seen.uid, &mut self.users, now);
                named
            }
            None => self.ended(seen, now).into(),
        }
    }

    /// What was remembered is of the same sort of sighting, and not too old.
    fn is_as_remembered(known: &Remembered, seen: &ProcessSeen, now: u64) -> bool {
        (known.seen_as, known.seen_uid, known.seen_in) == (seen.comm, seen.uid, seen.cgroup)
            && now.saturating_sub(known.read_ns) < REMEMBER_NS
    }

    /// As far as the kernel has told, it has executed nothing else, neither between the sighting and the look that is
    /// remembered nor after that.
    fn ran_it(&self, known: &Remembered, seen: &ProcessSeen) -> bool {
        self.executions.nothing_after(seen, seen.seen_ns.min(known.read_ns))
    }

    /// Whether it was looked at lately.
    pub(super) fn remembers(&self, seen: &ProcessSeen, now: u64) -> bool {
        self.remembered.get(&seen.tgid).is_some_and(|known| Self::is_as_remembered(known, seen, now))
    }

    pub(super) fn may_look(&mut self, times: u32, now: u64) -> bool {
        self.looks.allows(times, now)
    }

    /// With the hash that is known by now.
    fn remembered_as(&self, known: &Remembered) -> Named {
        let pid = known.identity.pid.unwrap_or(0);
        let unhashed = known.executable.clone().filter(|_| self.asked.hashes());
        let unhashed =
            unhashed.map(|(version, who)| Unhashed { executable: Executable::of(pid, version), who });
        self.hashed(known.identity.clone(), unhashed)
    }

    /// With the hash of what it runs, where that is known.
    pub(super) fn hashed(&self, mut identity: Identity, unhashed: Option<Unhashed>) -> Named {
        let Some(unhashed) = unhashed else { return identity.into() };
        identity.executable_sha256 = self.hashes.get(&unhashed.executable.version());
        let unhashed = identity.executable_sha256.is_none().then_some(unhashed);
        Named { unhashed, ..identity.into() }
    }

    /// A holder that is still the process that it was when it was found. `None`: it has ended.
    pub(super) fn holder(&mut self, holder: Holder) -> Option<Named> {
        let now = monotonic_ns();
        let (directory, stat) = match open_process(holder.pid) {
            Ok(opened) => opened,
            Err(error) => return self.unseen(None, &error, now),
        };
        if stat.start_ticks != holder.start_ticks {
            return None;
        }
        self.look(holder.pid, directory, stat, None, now)
    }

    pub(super) fn identity(
        &mut self,
        pid: u32,
        stat: Stat,
        Standing { users, place, place_hidden }: Standing,
        details: Details,
        seen: Option<&ProcessSeen>,
        now: u64,
    ) -> Identity {
        let Details { executable, executable_elsewhere, command_line, refused } = details;
        let uid = user_of(seen, users).filter(|_| !stat.is_kernel);
        let missing = match (refused, stat.state) {
            _ if stat.is_kernel => Some(OF_KERNEL.to_owned()),
            (true, _) => Some(REFUSED.to_owned()),
            (_, 'Z' | 'X') if executable.is_none() => Some(ENDED_UNNAMED.to_owned()),
            _ if place_hidden => Some(PLACE_HIDDEN.to_owned()),
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
    pub(super) fn ended(&mut self, seen: &ProcessSeen, now: u64) -> Identity {
        let Place { unit, container } = self.cgroups.place(seen.cgroup, seen.uid, &mut self.users, now);
        let (name, missing) = match self.executions.comm(seen) {
            _ if seen.is_of_kernel() => (seen.name(), OF_KERNEL),
            Some(comm) => (comm_text(&comm), ENDED),
            None => (seen.name(), ENDED_AS_THREAD),
        };
        let uid = seen.known_uid();
        Identity {
            pid: Some(seen.tgid),
            name: Some(name).filter(|name| !name.is_empty()),
            uid,
            user: uid.and_then(|uid| self.users.name(uid, now)),
            workload: self.workload(container.as_ref(), now),
            unit,
            container,
            missing: Some(missing.to_owned()),
            ..Identity::default()
        }
    }

    fn workload(&mut self, container: Option<&Container>, now: u64) -> Option<Box<Workload>> {
        if !self.asked.workloads() {
            return None;
        }
        self.workloads.of(container?, now).map(Box::new)
    }

    fn remember(&mut self, seen: &ProcessSeen, named: &Named, now: u64) {
        let Named { identity, unhashed, .. } = named;
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
            executable: unhashed.as_ref().map(|it| (it.executable.version(), it.who.clone())),
            start_ticks,
            seen_as: seen.comm,
            seen_uid: seen.uid,
            seen_in: seen.cgroup,
            since_ns,
            read_ns: now,
            alive_ns: now,
        };
        self.remembered.insert(seen.tgid, known);
    }
}

/// Whose it is. The rights that root has given up count; those that another has got from a setuid program do not.
fn user_of(seen: Option<&ProcessSeen>, now: Option<UserIds>) -> Option<u32> {
    let began = seen.map(|seen| seen.uid).or(now.map(|ids| ids.real))?;
    if began == 0 { now.map(|ids| ids.effective) } else { Some(began) }
}

pub(super) fn open_process(pid: u32) -> io::Result<(ProcessDirectory, Stat)> {
    let directory = ProcessDirectory::open(pid)?;
    let stat = directory.stat()?;
    Ok((directory, stat))
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
pub(super) mod tests;
