//! Who holds a socket: one look at the open files of every process.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{Dir, readlinkat_raw};

use super::process::{ProcessDirectory, each_process, open_directory, read_capped, stat};

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
}

/// Pids of the processes that hold each of these sockets, youngest first. Sockets that nobody
/// holds, or whose holders may not be looked at, are absent.
pub fn holders(inodes: &HashSet<u32>) -> HashMap<u32, Vec<u32>> {
    let found = holders_by_age(inodes).into_iter();
    found.map(|(inode, holders)| (inode, holders.iter().map(|holder| holder.pid).collect())).collect()
}

/// As [`holders`], with what tells a process from a later one with its pid.
pub fn holders_by_age(inodes: &HashSet<u32>) -> HashMap<u32, Vec<Holder>> {
    let mut found: HashMap<u32, Vec<Holder>> = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    each_process(|pid, directory| {
        let held = held_here(directory, inodes);
        if held.is_empty() {
            return;
        }
        let Some(stat) = read_capped(directory, "stat", 4096).ok().and_then(|bytes| stat(&bytes)) else {
            return;
        };
        for inode in held {
            let holders = found.entry(inode).or_default();
            if holders.len() < MOST_HOLDERS {
                holders.push(Holder { start_ticks: stat.start_ticks, pid });
            }
        }
    });
    for holders in found.values_mut() {
        holders.sort_unstable_by(|a, b| b.cmp(a));
    }
    found
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
        let own = Holder { start_ticks: own_start(), pid: std::process::id() };
        let gone = Holder { start_ticks: u64::MAX, pid: std::process::id() };
        let mut found = HashMap::from([(1, vec![gone, own]), (2, vec![own, own])]);
        without_passing_by(&mut found, |holder| holder == gone);
        assert_eq!(found, HashMap::from([(1, vec![own]), (2, vec![own, own])]));
    }

    fn own_start() -> u64 {
        ProcessDirectory::open(std::process::id()).unwrap().stat().unwrap().start_ticks
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
