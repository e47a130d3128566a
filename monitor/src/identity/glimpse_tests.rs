#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::super::cgroup::Maker;
use super::super::look::ANOTHER_PROGRAM;
use super::super::process::ProcessDirectory;
use super::super::resolver::Resolver;
use super::super::resolver::tests::{Running, seen, until_named};
use super::*;

const UNREAD: &str = "process ended before its arguments could be read";
const ENDED: &str =
    "process ended before it could be looked at: its name is that of the thread that was seen";

fn sleeping() -> Running {
    let child = Running::start(Command::new("sleep").arg("60"));
    until_named(&mut Resolver::new(), child.0.id(), "sleep");
    child
}

#[test]
fn one_that_ended_before_its_turn_is_told_as_it_was_when_it_was_heard_of() {
    let glimpses = Glimpses::default();
    let mut resolver = Resolver::new().glimpses(glimpses.clone());
    let mut child = sleeping();
    let executable = std::fs::read_link(format!("/proc/{}/exe", child.0.id())).unwrap();
    let before = seen(child.0.id(), "sleep");
    Glimpser::new(glimpses).glimpse(&before);
    // As long as it is there it is looked at.
    assert_eq!(resolver.who(&before).missing, None);
    resolver.remembered.clear();
    child.end();
    let told = resolver.who(&before);
    assert_eq!((told.pid, told.missing.as_deref()), (Some(child.0.id()), Some(UNREAD)));
    assert_eq!((told.name.as_deref(), told.executable.as_deref()), (Some("sleep"), executable.to_str()));
    assert!(!told.executable_elsewhere && told.start_ticks.is_some() && told.command_line.is_none());
    assert_eq!(told.uid, Some(rustix::process::getuid().as_raw()));
    // Nor is it told of anybody who was not that: seen before, or when it may have been another one, or under another name.
    let later = ProcessSeen { seen_ns: monotonic_ns(), ..before };
    let earlier = ProcessSeen { seen_ns: before.seen_ns - 1, ..before };
    for other in [later, earlier, ProcessSeen { uid: 77, ..before }, seen(before.tgid, "curl")] {
        let told = resolver.who(&other);
        assert_eq!((told.missing.as_deref(), told.executable), (Some(ENDED), None));
    }
}

/// A client in a language with a runtime of its own connects by another thread than its first.
#[test]
fn a_thread_is_told_as_its_process_and_what_became_another_program_is_not() {
    let glimpses = Glimpses::default();
    let mut glimpser = Glimpser::new(glimpses.clone());
    let (end, ended) = crossbeam_channel::bounded::<()>(0);
    let (name_in, name) = crossbeam_channel::bounded(1);
    let waiting = move || {
        name_in.send(()).unwrap();
        let _ = ended.recv();
    };
    let thread = std::thread::Builder::new().name("event_engine".to_owned()).spawn(waiting).unwrap();
    name.recv().unwrap();
    // It began in this tick, or may have.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let of_thread = seen(std::process::id(), "event_engine");
    glimpser.glimpse(&of_thread);
    let own = glimpses.of(&of_thread).unwrap();
    assert_eq!(own.stat, ProcessDirectory::open(std::process::id()).unwrap().stat().unwrap());
    drop(end);
    thread.join().unwrap();
    // It has no thread of that name, nor any that was there when it was seen.
    let child = sleeping();
    let as_another = seen(child.0.id(), "sh");
    glimpser.glimpse(&as_another);
    assert!(glimpses.of(&as_another).is_none());
    let before_it_began = ProcessSeen { seen_ns: 1, ..seen(child.0.id(), "sleep") };
    glimpser.glimpse(&before_it_began);
    assert!(glimpses.of(&before_it_began).is_none());
}

/// Its threads are gone that say that it was no other program when it was seen.
#[test]
fn who_still_runs_what_it_was_glimpsed_with_goes_by_its_own_name() {
    let glimpses = Glimpses::default();
    let child = sleeping();
    let as_it_is = seen(child.0.id(), "sleep");
    Glimpser::new(glimpses.clone()).glimpse(&as_it_is);
    let glimpse = glimpses.of(&as_it_is).unwrap();
    let of_thread = seen(child.0.id(), "event_engine");
    let told = |glimpse: Option<Glimpse>| {
        let glimpses = Glimpses::default();
        glimpse.into_iter().for_each(|glimpse| glimpses.keep(glimpse));
        let told = Resolver::new().glimpses(glimpses).who(&of_thread);
        (told.name.unwrap(), told.command_line, told.missing)
    };
    let unknown = || ("event_engine".to_owned(), None, Some(ANOTHER_PROGRAM.to_owned()));
    assert_eq!(told(None), unknown());
    let alive_ns = monotonic_ns();
    let of_it = Glimpse { seen: of_thread, alive_ns, ..glimpse.clone() };
    assert_eq!(told(Some(of_it.clone())), ("sleep".to_owned(), Some("sleep 60".to_owned()), None));
    let another = Stat { start_ticks: 1, ..glimpse.stat.clone() };
    assert_eq!(told(Some(Glimpse { stat: another, ..of_it.clone() })), unknown());
    let own = ProcessDirectory::open(std::process::id()).unwrap();
    let executable = own.executable_at_once(None).unwrap();
    assert_eq!(told(Some(Glimpse { executable, ..of_it.clone() })), unknown());
    assert_eq!(told(Some(Glimpse { seen: as_it_is, ..of_it })), unknown());
}

/// A file may be mounted over another one, and two programs may have one name.
#[test]
fn another_file_is_another_program_whatever_its_path_and_its_name() {
    const NAME: &str = "streamwatch-sam";
    let directory = crate::temporary::directory();
    let program = directory.path().join("streamwatch-same");
    let run = || {
        let _ = std::fs::remove_file(&program);
        assert!(Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap().success());
        let child = Running::start(Command::new(&program).arg("60").stdin(Stdio::null()));
        until_named(&mut Resolver::new(), child.0.id(), NAME);
        child
    };
    let at_once =
        |child: &Running| ProcessDirectory::open(child.0.id()).unwrap().executable_at_once(None).unwrap();
    // One that still runs, so that its inode is nobody else's.
    let before = run();
    let executable = at_once(&before);
    let child = run();
    let own = at_once(&child);
    assert!(executable.is_at(program.to_str().unwrap()) && own.is_at(program.to_str().unwrap()));
    for seen_as in [NAME, "event_engine"] {
        let sighting = seen(child.0.id(), seen_as);
        let told = |executable: &ExecutableAtOnce| {
            let directory = ProcessDirectory::open(child.0.id()).unwrap();
            let (stat, standing) = (directory.stat().unwrap(), directory.standing(&|_| Maker::Host));
            let glimpses = Glimpses::default();
            let (alive_ns, executable) = (monotonic_ns(), executable.clone());
            glimpses.keep(Glimpse { seen: sighting, alive_ns, stat, standing, executable });
            Resolver::new().glimpses(glimpses).who(&sighting)
        };
        assert_eq!((told(&own).missing, told(&own).name.as_deref()), (None, Some(NAME)));
        let another = told(&executable);
        assert_eq!((another.missing.as_deref(), another.executable), (Some(ANOTHER_PROGRAM), None));
    }
}

/// Where a file is on this host is told without asking a file system, or not at all.
#[test]
fn a_program_that_is_not_at_its_path_any_more_is_not_told() {
    let directory = crate::temporary::directory();
    let program = directory.path().join("glimpsed");
    let copied = Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap();
    assert!(copied.success());
    let child = Running::start(Command::new(&program).arg("60").stdin(Stdio::null()));
    let directory = ProcessDirectory::open(child.0.id()).unwrap();
    // Of another user than root, which is taken at its word.
    let standing = Standing::default();
    let host = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let told = || directory.executable_at_once(Some(&host)).unwrap().told(&standing);
    let path = program.to_str().unwrap().to_owned();
    // A host that has another file there.
    let another = crate::temporary::directory();
    let its = another.path().join(path.trim_start_matches('/'));
    std::fs::create_dir_all(its.parent().unwrap()).unwrap();
    std::fs::write(&its, "").unwrap();
    let another = openat(CWD, another.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let elsewhere = directory.executable_at_once(Some(&another)).unwrap().told(&standing);
    assert_eq!((told(), elsewhere), (Some((path.clone(), false)), Some((path, true))));
    std::fs::remove_file(&program).unwrap();
    assert_eq!(told(), None);
}

#[test]
fn so_many_are_kept_and_the_latest_of_each() {
    let glimpses = Glimpses::default();
    let mut glimpser = Glimpser::new(glimpses.clone());
    let own = seen(std::process::id(), &comm());
    glimpser.glimpse(&own);
    let glimpse = glimpses.of(&own).unwrap();
    let of = |tgid: u32| {
        let seen = ProcessSeen { tgid, ..own };
        Glimpse { seen, ..glimpse.clone() }
    };
    for tgid in 0..3 * MOST as u32 {
        glimpses.keep(of(1_000_000 + tgid));
        glimpses.keep(of(1_000_000 + tgid));
    }
    let kept = glimpses.kept();
    assert_eq!((kept.by_pid.len(), kept.order.len()), (MOST, MOST));
    assert!(kept.by_pid.keys().all(|pid| *pid >= 1_000_000 + 2 * MOST as u32));
}

#[test]
fn one_user_leaves_others_time_and_all_together_have_so_much() {
    const SECOND: u64 = 1_000_000_000;
    let spent = |uids: std::ops::Range<u32>| {
        let mut time = time();
        let mut spent = HashMap::<u32, u32>::new();
        // A hundred microseconds a glimpse, of each of them, ten thousand times a second.
        for now_ns in (SECOND..11 * SECOND).step_by(100_000) {
            for uid in uids.clone() {
                if time.is_left(uid, now_ns) {
                    time.spend(uid, micros(Duration::from_micros(100)), now_ns);
                    *spent.entry(uid).or_default() += 100;
                }
            }
        }
        assert!(time.of_users.len() <= MOST_USERS);
        spent
    };
    // Ten seconds, and what may be spent at once.
    let one = spent(7..8)[&7];
    assert!(one <= 14 * OF_USER_PER_S + 100 && one > 13 * OF_USER_PER_S, "{one}");
    let all: u32 = spent(7..50).values().sum();
    assert!(all <= 14 * OF_ALL_PER_S + 100, "{all}");
    let mut time = time();
    time.spend(7, micros(Duration::from_millis(500)), SECOND);
    assert!(!time.is_left(7, SECOND) && time.is_left(8, SECOND));
    // What takes no time is something all the same.
    let before = time.of_all;
    time.spend(8, micros(Duration::ZERO), SECOND);
    assert_ne!(format!("{before:?}"), format!("{:?}", time.of_all));
}

/// Of the first thread.
fn comm() -> String {
    ProcessDirectory::open(std::process::id()).unwrap().stat().unwrap().name
}
