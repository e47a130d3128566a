//! Who holds a socket: one look at the open files of every process, as far as it may cost.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{Dir, readlinkat_raw};

use super::census::{Among, Candidate, in_order};
use super::open_files::{Allowance, Paid};
use super::process::{ProcessDirectory, each_process, is_gone, living_thread, open_directory};

/// Processes that are kept for one socket.
const MOST_HOLDERS: usize = 1024;

/// Whose processes are not even known to be there. Nobody has that number: to set it means to set none.
const ANYBODY: u32 = u32::MAX;

/// How long a process takes at most, but for a host under great load, from `fork` to `exec`.
const PASSING_BY: Duration = Duration::from_millis(20);

/// A process that has the socket open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    // First, so that holders sort by age.
    pub start_ticks: u64,
    pub pid: u32,
    /// Its real user.
    pub uid: Option<u32>,
}

impl From<Candidate> for Holder {
    fn from(candidate: Candidate) -> Holder {
        Holder { start_ticks: candidate.start_ticks, pid: candidate.pid, uid: Some(candidate.uid) }
    }
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Looked {
    /// Youngest first.
    pub holders: HashMap<u32, Vec<Holder>>,
    /// Users with processes whose open files were not looked at, and when the youngest of these began.
    pub left_out: HashMap<u32, u64>,
    /// Some of these since to look at them failed.
    pub failed: bool,
}

impl Looked {
    fn leave_out(&mut self, uid: u32, start_ticks: u64) {
        let began = self.left_out.entry(uid).or_default();
        *began = start_ticks.max(*began);
    }

    /// Nobody knows whose are not among those that were looked at.
    pub fn leave_out_anybody(&mut self) {
        self.failed = true;
        self.leave_out(ANYBODY, u64::MAX);
    }

    /// One that failed to be looked at, unless it has ended.
    fn leave_out_failed(&mut self, candidate: &Candidate, error: &io::Error) {
        if !is_gone(error) {
            self.failed = true;
            self.leave_out(candidate.uid, candidate.start_ticks);
        }
    }

    /// Who holds a socket that was made by this user: the youngest is known for sure.
    pub fn users(&self, inode: u32, made_by: u32) -> Users<'_> {
        let held = self.holders.get(&inode).map_or(&[][..], Vec::as_slice);
        let Some(youngest) = held.first() else {
            return if self.left_out.is_empty() { Users::Nobody } else { Users::NotSure(held) };
        };
        let may_be_another =
            |uid: &u32| self.left_out.get(uid).is_some_and(|began| *began >= youngest.start_ticks);
        // That a socket is handed on from user to user is up to root. What another user made is not told as that of
        // root, or of anybody else, because that one's processes were not looked at.
        let is_of_its_maker = made_by == 0 || youngest.uid == Some(made_by);
        let is_its = is_of_its_maker && !may_be_another(&made_by) && !may_be_another(&ANYBODY);
        let is_sure = !self.left_out.keys().any(may_be_another) || is_its;
        if is_sure { Users::These(held) } else { Users::NotSure(held) }
    }

    /// The same of one that any of its holders may use.
    pub fn all_users(&self, inode: u32, made_by: u32) -> Users<'_> {
        match self.users(inode, made_by) {
            Users::These(held) if !self.left_out.is_empty() => Users::NotSure(held),
            users => users,
        }
    }
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users<'a> {
    Nobody,
    /// Youngest first.
    These(&'a [Holder]),
    /// These, and maybe others: not all could be looked at that might.
    NotSure(&'a [Holder]),
}

/// Pids of the processes that hold each of these sockets, youngest first. Sockets that nobody
/// holds, or whose holders may not be looked at, are absent.
pub fn holders(inodes: &HashSet<u32>) -> HashMap<u32, Vec<u32>> {
    let found = holders_by_age(inodes).into_iter();
    found.map(|(inode, holders)| (inode, holders.iter().map(|holder| holder.pid).collect())).collect()
}

/// As [`holders`], with what tells a process from a later one with its pid.
fn holders_by_age(inodes: &HashSet<u32>) -> HashMap<u32, Vec<Holder>> {
    let mut found = HashMap::new();
    if !inodes.is_empty() {
        each_process(|pid, directory| {
            let _ = note_holder(pid, directory, inodes, &mut found);
        });
        youngest_first(&mut found);
    }
    found
}

/// What is looked for, and among whom.
pub struct Wanted<'a> {
    pub among: Among,
    pub inodes: &'a HashSet<u32>,
    /// The processes that made these sockets, as far as they are known.
    pub makers: &'a HashSet<u32>,
    /// The users that made them.
    pub users: &'a HashSet<u32>,
    /// All holders, or the youngest one.
    pub all: bool,
}

/// As far as `allowance` goes, in the order in which they are most likely found. `stays`: whether a holder is none that
/// only passes by.
pub fn look(wanted: Wanted<'_>, allowance: &mut Allowance<'_>, stays: impl Fn(&Holder) -> bool) -> Looked {
    let mut looked = Looked::default();
    if wanted.inodes.is_empty() {
        return looked;
    }
    if !wanted.among.is_whole {
        looked.leave_out_anybody();
    }
    // Whoever began before it is not the youngest holder of any.
    let mut since = None;
    for candidate in in_order(wanted.among.all, wanted.makers, wanted.users) {
        if since.is_some_and(|since| candidate.start_ticks < since) {
            continue;
        }
        let opened = ProcessDirectory::open(candidate.pid);
        let opened = opened.and_then(|process| Ok((candidate.now(process.as_fd())?, process)));
        let (candidate, process) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                looked.leave_out_failed(&candidate, &error);
                continue;
            }
        };
        let paid = allowance.pay(candidate.payer, candidate.files);
        if paid == Paid::No {
            looked.leave_out(candidate.uid, candidate.start_ticks);
            continue;
        }
        let holders = &mut looked.holders;
        let held = || note_holder(candidate.pid, process.as_fd(), wanted.inodes, holders);
        match allowance.timed(paid, held) {
            Ok(true) if !wanted.all => since = youngest_known(wanted.inodes, &looked.holders, &stays),
            Ok(_) => {}
            Err(error) => looked.leave_out_failed(&candidate, &error),
        }
    }
    youngest_first(&mut looked.holders);
    looked
}

/// When the oldest began of those that are, for each socket, the youngest holder known. `None`: one has none yet.
fn youngest_known(
    inodes: &HashSet<u32>,
    holders: &HashMap<u32, Vec<Holder>>,
    stays: &impl Fn(&Holder) -> bool,
) -> Option<u64> {
    let youngest = |inode: &u32| {
        let held = holders.get(inode)?.iter().filter(|holder| stays(holder));
        held.map(|holder| holder.start_ticks).max()
    };
    inodes.iter().map(youngest).try_fold(u64::MAX, |oldest, began| Some(oldest.min(began?)))
}

/// What who made sockets has open of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// These.
    Holds(Holder, HashSet<u32>),
    /// It has ended.
    Gone,
    /// It has more files open than are looked at, or to look at it failed.
    LeftOut,
}

/// Which of `inodes` the process that made them still has open.
pub fn held_by_maker(pid: u32, inodes: &HashSet<u32>, allowance: &mut Allowance<'_>) -> Made {
    let mut look = || {
        let process = ProcessDirectory::open(pid)?;
        let candidate = Candidate::read(pid, process.as_fd())?;
        let paid = allowance.pay(candidate.payer, candidate.files);
        if paid == Paid::No {
            return Ok(Made::LeftOut);
        }
        let held = allowance.timed(paid, || held_here(process.as_fd(), inodes))?;
        Ok(Made::Holds(Holder::from(candidate), held))
    };
    look().unwrap_or_else(|error| if is_gone(&error) { Made::Gone } else { Made::LeftOut })
}

/// Adds this process to the holders of those among `inodes` that it has open. Whether it has any.
fn note_holder(
    pid: u32,
    process: BorrowedFd<'_>,
    inodes: &HashSet<u32>,
    found: &mut HashMap<u32, Vec<Holder>>,
) -> io::Result<bool> {
    let held = held_here(process, inodes)?;
    if held.is_empty() {
        return Ok(false);
    }
    // Not what the census said: another process may have its pid by now.
    let holder = Candidate::read(pid, process).map(Holder::from)?;
    for inode in held {
        let holders = found.entry(inode).or_default();
        if holders.len() < MOST_HOLDERS {
            holders.push(holder);
        }
    }
    Ok(true)
}

fn youngest_first(found: &mut HashMap<u32, Vec<Holder>>) {
    for holders in found.values_mut() {
        holders.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// Drops holders that had a socket only between `fork` and `exec`. Costs nothing unless a socket
/// has several holders and the youngest of them has only just begun: then a short wait shows
/// whether it is one that stays. Whether all could be asked: who could not is not dropped.
pub fn without_passing_by(
    holders: &mut HashMap<u32, Vec<Holder>>,
    began_lately: impl Fn(Holder) -> bool,
) -> bool {
    let young: HashSet<u32> = holders
        .iter()
        .filter(|(_, holders)| holders.len() > 1 && began_lately(holders[0]))
        .map(|(inode, _)| *inode)
        .collect();
    if young.is_empty() {
        return true;
    }
    thread::sleep(PASSING_BY);
    let mut again: HashMap<Holder, io::Result<HashSet<u32>>> = HashMap::new();
    for inode in &young {
        let Some(holders) = holders.get_mut(inode) else { continue };
        holders.retain(|holder| {
            if !began_lately(*holder) {
                return true;
            }
            let held = again.entry(*holder).or_insert_with(|| held_by(*holder, &young));
            held.as_ref().map_or_else(|error| !is_gone(error), |held| held.contains(inode))
        });
    }
    again.values().all(|held| held.as_ref().err().is_none_or(is_gone))
}

/// Sockets among `inodes` that this process, and no later one with its pid, has open.
fn held_by(holder: Holder, inodes: &HashSet<u32>) -> io::Result<HashSet<u32>> {
    let process = ProcessDirectory::open(holder.pid)?;
    let is_it = process.stat()?.start_ticks == holder.start_ticks;
    if is_it { held_here(process.as_fd(), inodes) } else { Ok(HashSet::new()) }
}

/// Sockets among `inodes` that the process of this `/proc/PID` has open.
fn held_here(process: BorrowedFd<'_>, inodes: &HashSet<u32>) -> io::Result<HashSet<u32>> {
    match open_in(process, inodes)? {
        Some(held) => Ok(held),
        None => match living_thread(process) {
            Some(thread) => Ok(open_in(thread.as_fd(), inodes)?.unwrap_or_default()),
            None => Ok(HashSet::new()),
        },
    }
}

/// The same of a process or thread by its directory in `/proc`. `None`: it has nothing open at all.
fn open_in(directory: BorrowedFd<'_>, inodes: &HashSet<u32>) -> io::Result<Option<HashSet<u32>>> {
    let (mut held, mut has_any) = (HashSet::new(), false);
    let descriptors = open_directory(directory, "fd")?;
    let mut buffer = [MaybeUninit::uninit(); 64];
    for entry in Dir::read_from(&descriptors)? {
        let entry = entry?;
        let Ok((target, _)) = readlinkat_raw(descriptors.as_fd(), entry.file_name(), &mut buffer) else {
            continue;
        };
        has_any = true;
        if let Some(inode) = socket_inode(target).filter(|inode| inodes.contains(inode)) {
            held.insert(inode);
            if held.len() == inodes.len() {
                break;
            }
        }
    }
    Ok(has_any.then_some(held))
}

/// `socket:[1234]`.
fn socket_inode(target: &[u8]) -> Option<u32> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "holders_tests.rs"]
mod tests;
