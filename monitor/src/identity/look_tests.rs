#![allow(clippy::unwrap_used)]

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use super::super::asked::Asked;
use super::super::cgroup::Maker;
use super::super::resolver::tests::{Running, seen, until_named};
use super::*;

/// What a look costs: on a thread of its own, and on that of who asks.
#[test]
#[ignore = "measures; prints medians"]
fn how_long_a_look_takes() {
    let child = Running::start(Command::new("sleep").arg("60"));
    std::thread::sleep(Duration::from_millis(50));
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    };
    let (mut all, mut here, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
    let mut resolver = Resolver::new();
    let others: Vec<Running> = (0..32).map(|_| Running::start(Command::new("sleep").arg("60"))).collect();
    for _ in 0..2000 {
        let (directory, stat) = open_process(child.0.id()).unwrap();
        let begun = Instant::now();
        assert!(resolver.look(child.0.id(), directory, stat, None, monotonic_ns()).is_some());
        all.push(begun.elapsed());
        let (directory, _) = open_process(child.0.id()).unwrap();
        let begun = Instant::now();
        let standing = directory.standing(&|path| resolver.cgroups.maker(path));
        std::hint::black_box(Sight::of(&directory, child.0.id(), &standing, None));
        here.push(begun.elapsed());
    }
    for _ in 0..100 {
        resolver.remembered.clear();
        let begun = Instant::now();
        let seen: Vec<ProcessSeen> = others.iter().map(|other| seen(other.0.id(), "sleep")).collect();
        resolver.look_ahead(&seen);
        assert!(seen.iter().all(|seen| resolver.process(seen).identity.executable.is_some()));
        ahead.push(begun.elapsed() / 32);
    }
    println!(
        "median and 99 %: a look {:?}; of 32 at once, with all around {:?}; without another thread {:?}",
        median(all),
        median(ahead),
        median(here)
    );
}

/// The look at one that hangs would keep those of all others open for as long.
#[test]
fn those_whose_turn_comes_are_not_kept_open() {
    let mut resolver = Resolver::new();
    let others: Vec<Running> = (0..3).map(|_| Running::start(Command::new("sleep").arg("60"))).collect();
    let all: Vec<ProcessSeen> = others.iter().map(|other| seen(other.0.id(), "sleep")).collect();
    let by_user = resolver.by_user(&all.iter().collect::<Vec<_>>(), monotonic_ns());
    assert_eq!(by_user.values().map(Vec::len).sum::<usize>(), 3);
    let directories: Vec<String> = all.iter().map(|seen| format!("/proc/{}", seen.tgid)).collect();
    let is_open = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links.filter_map(|link| link.into_os_string().into_string().ok()).any(|it| directories.contains(&it))
    };
    // Other tests look at all processes.
    let end = Instant::now() + Duration::from_secs(10);
    while is_open() {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(10));
    }
}

/// One that has ended since is told as it was seen before its turn, if that was it.
#[test]
fn those_whose_turn_comes_are_seen_in_one_go_and_each_is_told_as_itself() {
    let mut resolver = Resolver::new();
    let mut others: Vec<Running> = (0..6).map(|_| Running::start(Command::new("sleep").arg("60"))).collect();
    for other in &others {
        until_named(&mut Resolver::new(), other.0.id(), "sleep");
    }
    let all: Vec<ProcessSeen> = others.iter().map(|other| seen(other.0.id(), "sleep")).collect();
    resolver.look_ahead(&all);
    assert_eq!(resolver.ahead.len(), 6);
    others.iter_mut().take(3).for_each(Running::end);
    for seen in all.iter().skip(2) {
        let identity = resolver.who(seen);
        assert_eq!((identity.pid, identity.missing), (Some(seen.tgid), None));
        assert!(identity.executable.is_some() && identity.command_line.is_some());
    }
    let earlier = ProcessSeen { seen_ns: 1, ..all[0] };
    let under_another_name = seen(all[1].tgid, "curl");
    // Once told, it is not kept.
    for seen in [earlier, under_another_name, all[2]] {
        let identity = resolver.who(&seen);
        assert_eq!(
            identity.missing.as_deref(),
            Some("process ended before it could be looked at: its name is that of the thread that was seen")
        );
        assert_eq!((identity.executable, identity.start_ticks), (None, None));
    }
    resolver.forget_ahead();
    // Those that are remembered are not looked at.
    resolver.look_ahead(&all[3..]);
    assert!(resolver.ahead.is_empty());
}

/// Numbers that somebody else gave are no users of their own.
#[test]
#[ignore = "becomes other users and makes user namespaces: needs root and util-linux"]
fn who_is_in_a_namespace_that_a_user_made_is_that_user_however_deep() {
    let mut resolver = Resolver::new();
    let mut who = |command: &mut Command, is: &dyn Fn(&Who) -> bool| {
        let child = Running::start(command);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let (directory, _) = open_process(child.0.id()).unwrap();
            let standing = Standing { place: Default::default(), ..directory.standing(&|_| Maker::Host) };
            let who = resolver.who_may_have_made(&directory, &standing, None, monotonic_ns());
            if is(&who) {
                return;
            }
            assert!(Instant::now() < end, "{who:?}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    let user = |uid: u32| move |who: &Who| matches!(who, Who::User { uid: its, .. } if *its == uid);
    who(Command::new("sleep").arg("60"), &user(0));
    who(Command::new("sleep").arg("60").uid(54_321), &|who| {
        *who == Who::User { uid: 54_321, is_named: false }
    });
    // Ended as another number than the one that made it.
    let nested = "exec unshare -U --map-root-user unshare -U sleep 60";
    who(Command::new("sh").args(["-c", nested]).uid(54_321), &|who| {
        *who == Who::User { uid: 54_321, is_named: false }
    });
    who(Command::new("unshare").args(["-U", "sleep", "60"]), &|who| matches!(who, Who::Namespace(_)));
}

/// Also of one that is remembered. Its user is root.
#[test]
#[ignore = "makes a user namespace: needs root and util-linux"]
fn who_pays_for_a_hash_is_who_could_have_begun_the_process() {
    let asked = Asked::default();
    asked.set(true, false);
    let mut resolver = Resolver::new().asked(asked);
    let child = Running::start(Command::new("unshare").args(["-U", "sleep", "60"]));
    until_named(&mut Resolver::new(), child.0.id(), "sleep");
    for _ in 0..2 {
        let named = resolver.process(&seen(child.0.id(), "sleep"));
        let who = named.unhashed.map(|unhashed| unhashed.who);
        assert!(matches!(who, Some(Who::Namespace(_))), "{who:?}");
        assert_eq!(named.identity.uid, Some(0));
    }
}
