//! Who holds a socket: one look at the open files of every process, as far as it may cost.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{Dir, readlinkat_raw};

use super::census::{Candidate, in_order};
use super::open_files::{Allowance, Paid};
use super::process::{ProcessDirectory, each_process, open_directory};

/// Processes that are kept for one socket.
const MOST_HOLDERS: usize = 1024;

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
}

impl Looked {
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
        let is_sure =
            !self.left_out.keys().any(may_be_another) || is_of_its_maker && !may_be_another(&made_by);
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
            note_holder(pid, directory, inodes, &mut found);
        });
        youngest_first(&mut found);
    }
    found
}

/// What is looked for, and among whom.
pub struct Wanted<'a> {
    pub among: Vec<Candidate>,
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
    // Whoever began before it is not the youngest holder of any.
    let mut since = None;
    for candidate in in_order(wanted.among, wanted.makers, wanted.users) {
        if since.is_some_and(|since| candidate.start_ticks < since) {
            continue;
        }
        let Ok(process) = ProcessDirectory::open(candidate.pid) else { continue };
        let Some(candidate) = candidate.now(process.as_fd()) else { continue };
        let paid = allowance.pay(candidate.payer, candidate.files);
        if paid == Paid::No {
            let began = looked.left_out.entry(candidate.uid).or_default();
            *began = candidate.start_ticks.max(*began);
            continue;
        }
        let holders = &mut looked.holders;
        let held = || note_holder(candidate.pid, process.as_fd(), wanted.inodes, holders);
        if allowance.timed(paid, held) && !wanted.all {
            since = youngest_known(wanted.inodes, &looked.holders, &stays);
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
    /// It has more files open than are looked at.
    LeftOut,
}

/// Which of `inodes` the process that made them still has open.
pub fn held_by_maker(pid: u32, inodes: &HashSet<u32>, allowance: &mut Allowance<'_>) -> Made {
    let Ok(process) = ProcessDirectory::open(pid) else { return Made::Gone };
    let Some(candidate) = Candidate::read(pid, process.as_fd()) else { return Made::Gone };
    let paid = allowance.pay(candidate.payer, candidate.files);
    if paid == Paid::No {
        return Made::LeftOut;
    }
    let held = allowance.timed(paid, || held_here(process.as_fd(), inodes));
    Made::Holds(Holder::from(candidate), held)
}

/// Adds this process to the holders of those among `inodes` that it has open. Whether it has any.
fn note_holder(
    pid: u32,
    process: BorrowedFd<'_>,
    inodes: &HashSet<u32>,
    found: &mut HashMap<u32, Vec<Holder>>,
) -> bool {
    let held = held_here(process, inodes);
    if held.is_empty() {
        return false;
    }
    // Not what the census said: another process may have its pid by now.
    let Some(holder) = Candidate::read(pid, process).map(Holder::from) else { return false };
    for inode in held {
        let holders = found.entry(inode).or_default();
        if holders.len() < MOST_HOLDERS {
            holders.push(holder);
        }
    }
    true
}

fn youngest_first(found: &mut HashMap<u32, Vec<Holder>>) {
    for holders in found.values_mut() {
        holders.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// Drops holders that had a socket only between `fork` and `exec`. Costs nothing unless a socket
/// has several holders and the youngest of them has only just begun: then a short wait shows
/// whether it is one that stays.
pub fn without_passing_by(holders: &mut HashMap<u32, Vec<Holder>>, began_lately: impl Fn(Holder) -> bool) {
    let young: HashSet<u32> = holders
        .iter()
        .filter(|(_, holders)| holders.len() > 1 && began_lately(holders[0]))
        .map(|(inode, _)| *inode)
        .collect();
    if young.is_empty() {
        return;
    }
    thread::sleep(PASSING_BY);
    let mut again: HashMap<Holder, HashSet<u32>> = HashMap::new();
    for inode in &young {
        let Some(holders) = holders.get_mut(inode) else { continue };
        holders.retain(|holder| {
            !began_lately(*holder)
                || again.entry(*holder).or_insert_with(|| held_by(*holder, &young)).contains(inode)
        });
    }
}

/// Sockets among `inodes` that this process, and no later one with its pid, has open.
fn held_by(holder: Holder, inodes: &HashSet<u32>) -> HashSet<u32> {
    let Ok(process) = ProcessDirectory::open(holder.pid) else { return HashSet::new() };
    match process.stat() {
        Some(stat) if stat.start_ticks == holder.start_ticks => held_here(process.as_fd(), inodes),
        _ => HashSet::new(),
    }
}

/// Sockets among `inodes` that the process of this `/proc/PID` has open.
fn held_here(process: BorrowedFd<'_>, inodes: &HashSet<u32>) -> HashSet<u32> {
    let mut held = HashSet::new();
    let Ok(descriptors) = open_directory(process, "fd") else { return held };
    let Ok(entries) = Dir::read_from(&descriptors) else { return held };
    let mut buffer = [MaybeUninit::uninit(); 64];
    for entry in entries.filter_map(Result::ok) {
        let Ok((target, _)) = readlinkat_raw(descriptors.as_fd(), entry.file_name(), &mut buffer) else {
            continue;
        };
        if let Some(inode) = socket_inode(target).filter(|inode| inodes.contains(inode)) {
            held.insert(inode);
            if held.len() == inodes.len() {
                break;
            }
        }
    }
    held
}

/// `socket:[1234]`.
fn socket_inode(target: &[u8]) -> Option<u32> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::super::census::Census;
    use super::super::open_files::Purses;
    use super::*;

    #[test]
    fn an_own_socket_is_held_by_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket_inode(link.to_str().unwrap().as_bytes()).unwrap();
        let found = holders(&HashSet::from([inode, u32::MAX]));
        assert_eq!(found.get(&inode), Some(&vec![std::process::id()]));
        assert_eq!(found.get(&u32::MAX), None);
    }

    #[test]
    fn who_only_passed_by_is_dropped() {
        let own = Holder { start_ticks: own_start(), pid: std::process::id(), uid: None };
        let gone = Holder { start_ticks: u64::MAX, pid: std::process::id(), uid: None };
        let mut found = HashMap::from([(1, vec![gone, own]), (2, vec![own, own])]);
        without_passing_by(&mut found, |holder| holder == gone);
        assert_eq!(found, HashMap::from([(1, vec![own]), (2, vec![own, own])]));
    }

    fn own_start() -> u64 {
        ProcessDirectory::open(std::process::id()).unwrap().stat().unwrap().start_ticks
    }

    fn looked(holders: &[Holder], left_out: &[(u32, u64)]) -> Looked {
        let holders =
            if holders.is_empty() { HashMap::new() } else { HashMap::from([(1, holders.to_vec())]) };
        Looked { holders, left_out: left_out.iter().copied().collect() }
    }

    #[test]
    fn who_was_left_out_takes_no_name_from_others_and_gives_none() {
        let of = |uid: u32| Holder { start_ticks: 9, pid: 3, uid: Some(uid) };
        let these = |holder: Holder, left_out: &[(u32, u64)], made_by: u32| {
            looked(&[holder], left_out).users(1, made_by) == Users::These(&[holder])
        };
        assert!(these(of(5), &[], 9), "all were looked at");
        assert!(these(of(0), &[(7, 8)], 7), "it is younger than who was left out");
        // Another user's many files say nothing of what this one made, or root handed on.
        assert!(these(of(5), &[(7, 9)], 5) && these(of(0), &[(7, 9)], 0) && these(of(33), &[(7, 9)], 0));
        // What the other one made may be its own, whoever else holds it, and what a third one made, too.
        for (uid, made_by) in [(0, 7), (7, 7), (0, 8)] {
            assert!(!these(of(uid), &[(7, 9)], made_by), "{uid} {made_by}");
        }
        assert!(!these(Holder { uid: None, ..of(5) }, &[(7, 9)], 5));
        assert_eq!(looked(&[], &[]).users(1, 7), Users::Nobody);
        assert_eq!(looked(&[], &[(7, 1)]).users(1, 0), Users::NotSure(&[]));
        assert_eq!(looked(&[of(0)], &[(7, 1)]).all_users(1, 0), Users::NotSure(&[of(0)]));
    }

    #[test]
    fn who_began_before_the_youngest_known_is_not_looked_at() {
        let of = |start_ticks: u64| Holder { start_ticks, pid: 3, uid: None };
        let holders = HashMap::from([(1, vec![of(5), of(9)]), (2, vec![of(7)])]);
        let both = HashSet::from([1, 2]);
        assert_eq!(youngest_known(&both, &holders, &|_| true), Some(7));
        // One that may only pass by leaves it to those before it.
        assert_eq!(youngest_known(&both, &holders, &|holder| holder.start_ticks < 9), Some(5));
        assert_eq!(youngest_known(&HashSet::from([1, 3]), &holders, &|_| true), None);
    }

    #[test]
    fn who_made_a_socket_is_asked_first() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inodes = HashSet::from([socket_inode(link.to_str().unwrap().as_bytes()).unwrap()]);
        let uid = rustix::process::getuid().as_raw();
        let mut purses = Purses::default();
        let mut allowance = purses.look(1);
        let Made::Holds(holder, held) = held_by_maker(std::process::id(), &inodes, &mut allowance) else {
            panic!("it was not looked at")
        };
        assert_eq!((holder.pid, holder.uid, held), (std::process::id(), Some(uid), inodes.clone()));
        assert_eq!(held_by_maker(u32::MAX, &inodes, &mut allowance), Made::Gone);
        let (makers, users) = (HashSet::new(), HashSet::from([uid]));
        let among = Census::default().take(1, |_| false);
        let wanted = Wanted { among, inodes: &inodes, makers: &makers, users: &users, all: false };
        let looked = look(wanted, &mut allowance, |_| true);
        let inode = *inodes.iter().next().unwrap();
        assert!(matches!(looked.users(inode, uid), Users::These([it]) if *it == holder));
    }

    #[test]
    fn other_links_are_no_sockets() {
        for target in
            ["", "socket:[", "socket:[]", "socket:[x]", "socket:[99999999999]", "pipe:[1]", "/socket:[1]"]
        {
            assert_eq!(socket_inode(target.as_bytes()), None, "{target}");
        }
    }
}
