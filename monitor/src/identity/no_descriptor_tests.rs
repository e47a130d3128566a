//! With no descriptor left, or too few. That is so of a whole process: the test runs once more, in one of its own.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, id};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::census::{Among, Census};
use super::holders::{Holder, Made, Users, Wanted, held_by_maker, look};
use super::open_files::Purses;
use super::resolver::Resolver;
use super::resolver::tests::{Running, seen, until_named};

const ALONE: &str = "STREAMWATCH_TEST_ALONE";

#[test]
fn who_cannot_be_looked_at_has_not_ended_and_may_hold_any_socket() {
    if std::env::var_os(ALONE).is_some() {
        return alone();
    }
    let name = "identity::no_descriptor_tests::who_cannot_be_looked_at_has_not_ended_and_may_hold_any_socket";
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{why}");
}

fn alone() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), ..limit }).unwrap();
    let other = Running::start(Command::new("sleep").arg("60"));
    let other_start = until_named(&mut Resolver::new(), other.0.id(), "sleep").start_ticks.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener)));
    let inode = u32::try_from(link.unwrap().ino()).unwrap();
    let all = Census::default().take(1, |_| false).all;
    let own = *all.iter().find(|it| it.pid == id()).unwrap();
    let (inodes, nobody) = (HashSet::from([inode]), HashSet::new());
    for left in 0..3 {
        let mut resolver = Resolver::new();
        let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        files.truncate(files.len() - left);
        // To go through all takes two, and one for each of them.
        assert!(!Census::default().take(1, |_| false).is_whole, "{left}");
        if left == 2 {
            break;
        }
        let identity = resolver.who(&seen(other.0.id(), "sleep"));
        let missing = identity.missing.unwrap_or_default();
        assert!(missing.starts_with("it could not be looked at: Too many open files"), "{left}: {missing}");
        assert_eq!((identity.name.as_deref(), identity.uid), (Some("sleep"), Some(0)));
        // An older one is not named instead.
        let holder = Holder { start_ticks: other_start, pid: other.0.id(), uid: None };
        let identity = resolver.holder(holder).unwrap().identity;
        assert!(identity.pid.is_none() && identity.missing.is_some(), "{left}");

        let mut purses = Purses::default();
        let among = Among { all: vec![own], is_whole: true };
        let wanted = Wanted { among, inodes: &inodes, makers: &nobody, users: &nobody, all: false };
        let looked = look(wanted, &mut purses.look(1), |_| true);
        assert_eq!(looked.left_out, HashMap::from([(own.uid, own.start_ticks)]), "{left}");
        assert!(looked.failed);
        assert_eq!(looked.users(inode, own.uid), Users::NotSure(&[]));
        assert_eq!(held_by_maker(id(), &inodes, &mut purses.look(1)), Made::LeftOut, "{left}");
    }
    // One that could not be read may be anybody's.
    let mut purses = Purses::default();
    let among = Among { all: vec![own], is_whole: false };
    let wanted = Wanted { among, inodes: &inodes, makers: &nobody, users: &nobody, all: false };
    let looked = look(wanted, &mut purses.look(1), |_| true);
    assert!(matches!(looked.users(inode, own.uid), Users::NotSure([it]) if it.pid == id()));
}
