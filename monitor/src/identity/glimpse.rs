//! What a process is, seen the moment that it is heard of: one that ends soon is mostly gone when it is its turn to be
//! looked at.
//!
//! In: a process that the kernel programs saw. Out: what the kernel says of it without waiting for anybody: its name, whose
//! it is, where, and which file it runs. Its arguments are not among that, since they are read under a lock that it can
//! hold; nor is a file whose place on this host cannot be told from what the kernel has in mind of its paths. A glimpse counts
//! only for a sighting that it came after: it is told where the process could not be looked at any more, and else shows that it
//! still runs what it ran, where the thread that was seen has ended.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ProcessSeen;
use super::cgroup_tree::CgroupTree;
use super::clock::{BootClock, monotonic_ns, processor_time};
use super::look::became_another;
use super::lookers::StillOut;
use super::process::{ExecutableAtOnce, Standing, Stat, root_of_the_host};
use super::resolver::open_process;
use crate::watch::Shares;

/// Glimpses that are kept. Who has many processes takes others' places: what is not there any more is told as it is
/// without.
const MOST: usize = 1024;
/// Microseconds of a processor in a second, of all users' processes and of one's; four times as many at once.
const OF_ALL_PER_S: u32 = 200_000;
const OF_USER_PER_S: u32 = 100_000;
/// Users that are remembered.
const MOST_USERS: usize = 1024;
/// Threads of one process that are asked.
const MOST_THREADS: usize = 16;

/// What was seen of a process.
#[derive(Clone, Debug)]
pub(super) struct Glimpse {
    seen: ProcessSeen,
    /// When it was certainly alive.
    alive_ns: u64,
    pub stat: Stat,
    pub standing: Standing,
    pub executable: ExecutableAtOnce,
}

impl Glimpse {
    /// It had its pid from its start until it was glimpsed, and what it was then it was when it was first seen: a sighting
    /// in between is of it.
    fn is_of(&self, seen: &ProcessSeen) -> bool {
        let Glimpse { seen: its, alive_ns, .. } = self;
        (its.tgid, its.uid, its.comm, its.cgroup) == (seen.tgid, seen.uid, seen.comm, seen.cgroup)
            && (its.seen_ns..=*alive_ns).contains(&seen.seen_ns)
    }
}

/// The latest, for whoever looks.
#[derive(Clone, Debug, Default)]
pub struct Glimpses(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    by_pid: HashMap<u32, Glimpse>,
    /// In the order in which they came; of one that was replaced, its first place stays.
    order: VecDeque<u32>,
}

impl Glimpses {
    pub(super) fn of(&self, seen: &ProcessSeen) -> Option<Glimpse> {
        self.kept().by_pid.get(&seen.tgid).filter(|glimpse| glimpse.is_of(seen)).cloned()
    }

    fn keep(&self, glimpse: Glimpse) {
        let mut kept = self.kept();
        let pid = glimpse.seen.tgid;
        if kept.by_pid.insert(pid, glimpse).is_none() {
            kept.order.push_back(pid);
        }
        if kept.order.len() > MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_pid.remove(&oldest);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Glimpses at processes, on a thread of its own.
pub struct Glimpser {
    glimpses: Glimpses,
    clock: BootClock,
    cgroups: CgroupTree,
    host: Option<OwnedFd>,
    time: Shares,
}

/// What there is to be spent, in microseconds.
fn time() -> Shares {
    Shares::new(OF_ALL_PER_S, OF_USER_PER_S, MOST_USERS)
}

/// What takes no time is something all the same.
fn micros(spent: Duration) -> u32 {
    u32::try_from(spent.as_micros()).unwrap_or(u32::MAX).max(1)
}

impl Glimpser {
    pub fn new(glimpses: Glimpses) -> Glimpser {
        Glimpser {
            glimpses,
            clock: BootClock::new(),
            cgroups: CgroupTree::new(StillOut::default()),
            host: root_of_the_host(),
            time: time(),
        }
    }

    /// Keeps what there is to be seen of it now.
    pub fn glimpse(&mut self, seen: &ProcessSeen) {
        let now = monotonic_ns();
        if seen.tgid == 0 || !self.time.is_left(seen.uid, now) {
            return;
        }
        let before = processor_time();
        self.clock.sample();
        if let Some(glimpse) = self.look(seen, now) {
            self.glimpses.keep(glimpse);
        }
        self.time.spend(seen.uid, micros(processor_time().saturating_sub(before)), now);
    }

    /// `None`: it has ended, or may not be what it was when it was seen.
    fn look(&self, seen: &ProcessSeen, now: u64) -> Option<Glimpse> {
        let (directory, before) = open_process(seen.tgid).ok()?;
        // First of all, since that is what it takes along when it ends.
        let executable = directory.executable_at_once(self.host.as_ref())?;
        if self.clock.began_after(before.start_ticks, seen.seen_ns) {
            return None;
        }
        let standing = directory.standing(&|path| self.cgroups.maker(path));
        let rights = standing.users.map(|ids| ids.effective);
        let had_it_before = || false;
        let another =
            became_another(&self.clock, seen, &directory, &before, rights, MOST_THREADS, had_it_before);
        let stat = directory.stat().ok()?;
        // In the midst of executing another program it has the one's name and the other's file.
        let is_whole =
            another.is_none() && stat.name == before.name && directory.runs(&executable) == Some(true);
        is_whole.then_some(Glimpse { seen: *seen, alive_ns: now, stat, standing, executable })
    }
}

#[cfg(test)]
#[path = "glimpse_tests.rs"]
mod tests;
