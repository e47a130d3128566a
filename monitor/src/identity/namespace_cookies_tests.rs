#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A process in a network namespace of its own; ends with the test.
struct Inside(Child, Netns);

impl Inside {
    fn new() -> Inside {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", "echo in; read line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let netns = Netns::of_process(child.id()).unwrap();
        Inside(child, netns)
    }

    fn cookie(&self) -> u64 {
        cookies_of(std::slice::from_ref(&self.1))[0].unwrap().0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wanted(cookie: u64, makers: &[u32]) -> HashMap<u64, HashSet<u32>> {
    HashMap::from([(cookie, makers.iter().copied().collect())])
}

/// What is left of the rate.
fn left(cookies: &mut NamespaceCookies, now_ns: u64) -> u32 {
    (0..=4 * LOOKS_PER_S).rev().find(|count| cookies.looks.allows(*count, now_ns)).unwrap_or(0)
}

#[test]
fn the_own_namespace_is_entered_and_no_other() {
    let own = monitor_sys::netns_cookie().unwrap();
    let mut cookies = NamespaceCookies::new();
    let entered = cookies.enter(&wanted(own, &[]), SECOND);
    assert_eq!(entered.listers.keys().copied().collect::<Vec<_>>(), [own]);
    assert!(entered.left.is_empty() && cookies.seen.is_empty() && cookies.places.is_empty());
    assert_eq!(left(&mut cookies, SECOND), 4 * LOOKS_PER_S);
}

#[test]
#[ignore = "makes network namespaces: needs root and util-linux"]
fn where_who_made_a_socket_is_is_looked_at_first() {
    let (one, another) = (Inside::new(), Inside::new());
    let mut cookies = NamespaceCookies::new();
    let cookie = one.cookie();
    let entered = cookies.enter(&wanted(cookie, &[one.0.id()]), SECOND);
    assert!(entered.listers.contains_key(&cookie) && entered.left.is_empty());
    assert_eq!(cookies.seen.len(), 1, "no other was looked into");
    // Known now, at no further cost.
    let before = left(&mut cookies, SECOND);
    assert!(cookies.enter(&wanted(cookie, &[]), SECOND).listers.contains_key(&cookie));
    assert_eq!(left(&mut cookies, SECOND), before);
    // Nobody says where: all are looked into.
    let cookie = another.cookie();
    assert!(cookies.enter(&wanted(cookie, &[]), SECOND).listers.contains_key(&cookie));
}

#[test]
#[ignore = "makes network namespaces: needs root and util-linux"]
fn without_the_rate_it_is_left_and_found_later() {
    let inside = Inside::new();
    let mut cookies = NamespaceCookies::new();
    let cookie = inside.cookie();
    cookies.looks.spend(4 * LOOKS_PER_S, SECOND);
    let entered = cookies.enter(&wanted(cookie, &[inside.0.id()]), SECOND);
    assert!(entered.listers.is_empty());
    assert_eq!(entered.left, HashSet::from([cookie]));
    let entered = cookies.enter(&wanted(cookie, &[]), 3 * SECOND);
    assert!(entered.listers.contains_key(&cookie) && entered.left.is_empty());
}

#[test]
#[ignore = "makes network namespaces: needs root and util-linux"]
fn one_that_is_gone_is_forgotten_and_is_no_other() {
    let inside = Inside::new();
    let another = Inside::new();
    let (gone, cookie) = (inside.cookie(), another.cookie());
    let mut cookies = NamespaceCookies::new();
    assert!(cookies.enter(&wanted(gone, &[inside.0.id()]), SECOND).listers.contains_key(&gone));
    drop(inside);
    // As if the kernel had given its inode again.
    cookies.note(gone, another.1.clone());
    let entered = cookies.enter(&wanted(gone, &[]), 2 * SECOND);
    assert!(entered.listers.is_empty() && entered.left.is_empty());
    assert!(!cookies.places.contains_key(&gone));
    assert!(cookies.enter(&wanted(cookie, &[]), 3 * SECOND).listers.contains_key(&cookie));
}

#[test]
fn roots_come_first_and_then_those_of_who_has_the_fewest() {
    let mut all: Vec<(u32, u32)> = (0..3000).map(|it| (65_534, it)).collect();
    all.extend([(1000, 5000), (0, 6000), (1000, 5001), (7, 4000), (0, 6001)]);
    let ordered = fewest_first(all);
    assert_eq!(ordered[..5], [6000, 6001, 4000, 5000, 5001]);
    assert_eq!(ordered.len(), 3005);
}
