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
    assert!(without_passing_by(&mut found, |holder| holder == gone));
    assert_eq!(found, HashMap::from([(1, vec![own]), (2, vec![own, own])]));
}

fn own_start() -> u64 {
    ProcessDirectory::open(std::process::id()).unwrap().stat().unwrap().start_ticks
}

fn looked(holders: &[Holder], left_out: &[(u32, u64)]) -> Looked {
    let holders = if holders.is_empty() { HashMap::new() } else { HashMap::from([(1, holders.to_vec())]) };
    Looked { holders, left_out: left_out.iter().copied().collect(), failed: false }
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
    // It is not known whose was not seen.
    assert!(!these(of(5), &[(ANYBODY, u64::MAX)], 5) && !these(of(0), &[(ANYBODY, u64::MAX)], 0));
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
