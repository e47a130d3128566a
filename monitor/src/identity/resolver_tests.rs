#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use monitor_common::Executed;
use rustix::net::sockopt::socket_cookie;

use super::super::look::{ANOTHER_PROGRAM, OTHER_RIGHTS};
use super::super::socket_users::MOST_SINGLE_QUESTIONS;
use super::*;
use crate::identity::Netns;
use crate::identity::{Existing, SocketKey};
use crate::model::{Direction, Transport};

/// A program that ends with the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().unwrap())
    }

    pub fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Resolver {
    pub fn who(&mut self, seen: &ProcessSeen) -> Identity {
        self.process(seen).identity
    }
}

pub fn seen(tgid: u32, name: &str) -> ProcessSeen {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    ProcessSeen { tgid, uid: 0, comm, seen_ns: monotonic_ns(), cgroup: 0 }
}

/// A child has executed its program only some time after `spawn`.
pub fn until_named(resolver: &mut Resolver, pid: u32, name: &str) -> Identity {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let identity = resolver.who(&seen(pid, name));
        if identity.name.as_deref() == Some(name) || Instant::now() > end {
            return identity;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_who_asks_for_every_process_is_held_up() {
    let mut resolver = Resolver { looks: Budget::new(1), ..Resolver::new() };
    let here = std::process::id();
    let found = |identity: &Identity| identity.missing.is_none();
    // A budget holds for four seconds.
    let others: Vec<Running> = (0..5).map(|_| Running::start(Command::new("sleep").arg("60"))).collect();
    let first: Vec<Identity> =
        others.iter().take(3).map(|other| resolver.who(&seen(other.0.id(), "sleep"))).collect();
    assert!(resolver.who(&seen(here, "any")).executable.is_some());
    assert_eq!(first.iter().filter(|identity| identity.executable.is_some()).count(), 3);
    let late = resolver.who(&seen(others[4].0.id(), "what was seen"));
    assert_eq!(late.missing.as_deref(), Some(TOO_MANY));
    assert_eq!((late.name.as_deref(), late.executable), (Some("what was seen"), None));
    // What is remembered is answered all the same.
    assert!(found(&resolver.who(&seen(here, "any"))));
}

#[test]
fn this_process_is_found() {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let identity = Resolver::new().who(&seen(std::process::id(), name.trim()));
    assert_eq!(identity.missing, None);
    assert_eq!(identity.pid, Some(std::process::id()));
    assert_eq!(identity.uid, Some(rustix::process::geteuid().as_raw()));
    assert_eq!(identity.executable.as_deref(), std::env::current_exe().unwrap().to_str());
    assert!(identity.start_ticks.is_some() && identity.name.is_some() && identity.command_line.is_some());
}

#[test]
fn a_process_that_ended_has_its_name_and_the_reason() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let identity = Resolver::new().who(&seen(pid, "true"));
    assert_eq!(identity.name.as_deref(), Some("true"));
    assert_eq!((identity.pid, identity.uid, identity.user.as_deref()), (Some(pid), Some(0), Some("root")));
    assert_eq!(identity.missing.as_deref(), Some(ENDED_AS_THREAD));
    assert_eq!((identity.start_ticks, identity.executable), (None, None));
}

/// As the kernel programs tell of a process.
fn executed(pid: u32, name: &str, at_ns: u64, ended_ns: u64) -> Executions {
    let comm = seen(pid, name).comm;
    Executions::asked_of(move |tgid| {
        (tgid == pid).then_some(Executed { at_ns, ended_ns, comm, ..Executed::default() })
    })
}

#[test]
fn one_that_ended_is_named_by_what_it_executed_and_not_by_its_thread() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let of_thread = seen(pid, "isc-net-0000");
    let at = of_thread.seen_ns;
    let told = |executions: Executions| {
        let told = Resolver::new().executions(executions).who(&of_thread);
        (told.name.unwrap(), told.missing.unwrap())
    };
    let by_thread = ("isc-net-0000".to_owned(), ENDED_AS_THREAD.to_owned());
    assert_eq!(told(executed(pid, "dig", at - 1, at + 1)), ("dig".to_owned(), ENDED.to_owned()));
    // Another process with its number, after and before; and of whom nothing is known.
    assert_eq!(told(executed(pid, "curl", at + 1, 0)), by_thread);
    assert_eq!(told(executed(pid, "curl", at - 9, at - 1)), by_thread);
    assert_eq!(told(Executions::default()), by_thread);
}

#[test]
fn a_program_of_the_same_name_is_another_one_where_the_kernel_tells_so() {
    let child = Running::start(Command::new("sleep").arg("60"));
    let pid = child.0.id();
    named(pid, "sleep");
    let before = seen(pid, "sleep");
    let after = ProcessSeen { seen_ns: before.seen_ns + 2, ..before };
    let mut resolver = Resolver::new().executions(executed(pid, "sleep", before.seen_ns + 1, 0));
    // Asked again, the answer may come from what is remembered: of what it ran later.
    for _ in 0..2 {
        assert_eq!(resolver.who(&before).missing.as_deref(), Some(ANOTHER_PROGRAM));
        let now = resolver.who(&after);
        assert!(now.missing.is_none() && now.executable.unwrap().ends_with("sleep"));
    }
    assert_eq!(Resolver::new().who(&before).missing, None);
}

#[test]
fn what_is_remembered_is_of_what_it_ran_and_of_where_it_was() {
    let child = Running::start(Command::new("sleep").arg("60"));
    let pid = child.0.id();
    named(pid, "sleep");
    let at = Arc::new(AtomicU64::new(1));
    let last = at.clone();
    let comm = seen(pid, "sleep").comm;
    let executions = Executions::asked_of(move |_| {
        Some(Executed { at_ns: last.load(Ordering::Relaxed), comm, ..Executed::default() })
    });
    let mut resolver = Resolver::new().executions(executions);
    let first = resolver.who(&seen(pid, "sleep"));
    assert_eq!(first.missing, None);
    let read_ns = |resolver: &Resolver| resolver.remembered[&pid].read_ns;
    let before = read_ns(&resolver);
    resolver.who(&seen(pid, "sleep"));
    assert_eq!(read_ns(&resolver), before, "it is remembered");
    at.store(monotonic_ns(), Ordering::Relaxed);
    resolver.who(&seen(pid, "sleep"));
    let after = read_ns(&resolver);
    assert!(after > before, "it was not looked at again, though it has executed something");
    resolver.who(&ProcessSeen { cgroup: 7, ..seen(pid, "sleep") });
    assert!(read_ns(&resolver) > after, "it was not looked at again, though it has moved");
}

#[test]
fn a_process_that_began_later_is_another_one() {
    let before = seen(0, "curl").seen_ns;
    // More than a tick, so that the start is later for certain.
    std::thread::sleep(Duration::from_millis(25));
    let child = Running::start(Command::new("sleep").arg("60"));
    let mut resolver = Resolver::new();
    assert_eq!(until_named(&mut resolver, child.0.id(), "sleep").missing, None);

    let earlier = ProcessSeen { seen_ns: before, ..seen(child.0.id(), "sleep") };
    let identity = resolver.who(&earlier);
    assert_eq!(identity.missing.as_deref(), Some(ENDED_AS_THREAD));
    assert_eq!(identity.executable, None);
}

#[test]
fn what_was_remembered_is_only_used_for_its_own_time() {
    let mut child = Running::start(Command::new("sleep").arg("60"));
    let pid = child.0.id();
    let mut resolver = Resolver::new();
    until_named(&mut resolver, pid, "sleep");
    let alive = seen(pid, "sleep");
    assert_eq!(resolver.who(&alive).missing, None);
    child.end();
    // Seen while it was certainly there: that was this process, though it is gone by now.
    assert_eq!(resolver.who(&alive).command_line.as_deref(), Some("sleep 60"));
    // Seen after: whoever that was.
    assert_eq!(resolver.who(&seen(pid, "sleep")).missing.as_deref(), Some(ENDED_AS_THREAD));
}

#[test]
fn another_program_in_the_same_process_is_noticed() {
    let mut shell =
        Running::start(Command::new("sh").args(["-c", "read line; exec sleep 60"]).stdin(Stdio::piped()));
    let mut resolver = Resolver::new();
    assert_eq!(until_named(&mut resolver, shell.0.id(), "sh").name.as_deref(), Some("sh"));
    shell.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let identity = until_named(&mut resolver, shell.0.id(), "sleep");
    assert_eq!(identity.command_line.as_deref(), Some("sleep 60"));
    assert!(identity.executable.unwrap().ends_with("sleep"));
}

/// A shell that does these lines, one with each line that it is sent.
fn shell(lines: &str) -> Running {
    let lines = lines.replace('\n', "; read line; ");
    Running::start(Command::new("sh").args(["-c", &format!("read line; {lines}")]).stdin(Stdio::piped()))
}

fn go_on(shell: &mut Running) {
    shell.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

/// Waits until the process has this name.
fn named(pid: u32, name: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() != name {
        assert!(Instant::now() < end, "it is not {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_process_has_become_is_not_told_of_what_it_was() {
    let mut shell = shell("exec sleep 60");
    let pid = shell.0.id();
    named(pid, "sh");
    let before = seen(pid, "sh");
    go_on(&mut shell);
    named(pid, "sleep");
    let mut resolver = Resolver::new();
    // Asked twice, the second answer may come from what is remembered.
    for _ in 0..2 {
        let identity = resolver.who(&before);
        assert_eq!(identity.missing.as_deref(), Some(ANOTHER_PROGRAM));
        assert_eq!((identity.pid, identity.name.as_deref()), (Some(pid), Some("sh")));
        assert_eq!((identity.executable, identity.command_line), (None, None));
    }
    let now = resolver.who(&seen(pid, "sleep"));
    assert!(now.missing.is_none() && now.executable.unwrap().ends_with("sleep"));
}

#[test]
fn the_rights_that_a_process_has_got_since_are_not_told() {
    let child = Running::start(Command::new("sleep").arg("60"));
    let pid = child.0.id();
    named(pid, "sleep");
    // A user's, that runs a setuid program by now.
    let of_user = ProcessSeen { uid: 65_534, ..seen(pid, "sleep") };
    let mut resolver = Resolver::new();
    assert_eq!(resolver.who(&seen(pid, "sleep")).missing, None);
    for mut resolver in [Resolver::new(), resolver] {
        let identity = resolver.who(&ProcessSeen { seen_ns: 1 + of_user.seen_ns, ..of_user });
        assert_eq!(identity.uid, Some(65_534));
        assert_ne!(identity.user.as_deref(), Some("root"));
    }
    let identity = Resolver::new().who(&of_user);
    assert_eq!(identity.missing.as_deref(), Some(OTHER_RIGHTS));
    assert_eq!((identity.executable, identity.command_line), (None, None));
}

#[test]
fn root_that_gave_up_its_rights_is_told_as_who_it_is() {
    let (root, user) = (UserIds { real: 0, effective: 0 }, UserIds { real: 33, effective: 33 });
    let began_as = |uid| ProcessSeen { uid, ..ProcessSeen::default() };
    assert_eq!(user_of(Some(&began_as(0)), Some(user)), Some(33));
    assert_eq!(user_of(Some(&began_as(33)), Some(root)), Some(33));
    assert_eq!(user_of(Some(&began_as(33)), None), Some(33));
    // Of a holder the kernel programs saw nothing.
    assert_eq!(user_of(None, Some(UserIds { real: 33, effective: 0 })), Some(33));
    assert_eq!(user_of(None, Some(UserIds { real: 0, effective: 33 })), Some(33));
    assert_eq!(user_of(None, None), None);
}

#[test]
fn another_name_alone_does_not_hide_a_program_that_was_looked_at() {
    let mut shell = shell("printf other > /proc/$$/comm\n:");
    let pid = shell.0.id();
    named(pid, "sh");
    let before = seen(pid, "sh");
    let mut resolver = Resolver::new();
    let executable = resolver.who(&before).executable;
    assert!(executable.is_some());
    go_on(&mut shell);
    named(pid, "other");
    let later = ProcessSeen { seen_ns: monotonic_ns(), ..before };
    assert_eq!(resolver.who(&later).executable, executable);
    assert_eq!(Resolver::new().who(&later).missing.as_deref(), Some(ANOTHER_PROGRAM));
    // Nor one that was not, where the kernel says that it has executed nothing since.
    let told = Resolver::new().executions(executed(pid, "sh", later.seen_ns - 1, 0)).who(&later);
    assert_eq!((told.executable, told.missing), (executable, None));
}

#[test]
fn a_thread_that_was_there_before_proves_that_the_program_is_the_same() {
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    std::thread::sleep(Duration::from_millis(50));
    // As a thread that ended meanwhile.
    let identity = Resolver::new().who(&seen(std::process::id(), "no-thread-of-it"));
    assert_eq!(identity.executable.as_deref(), std::env::current_exe().unwrap().to_str());
    drop(end);
    thread.join().unwrap().unwrap_err();
}

#[test]
fn nobody_is_said_to_be_nobody() {
    let identity = Resolver::new().who(&ProcessSeen::default());
    assert_eq!(identity, Identity { missing: Some(NO_PROCESS.into()), ..Identity::default() });
}

fn key(socket: &TcpStream) -> SocketKey {
    SocketKey {
        transport: Transport::Tcp,
        netns: monitor_sys::netns_cookie().unwrap(),
        local: socket.local_addr().unwrap(),
        remote: socket.peer_addr().unwrap(),
        cookie: socket_cookie(socket).unwrap(),
        maker: 0,
    }
}

#[test]
fn a_socket_handed_over_belongs_to_the_youngest_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let waiting = SocketKey {
        local: client.peer_addr().unwrap(),
        remote: client.local_addr().unwrap(),
        cookie: 0,
        ..key(&client)
    };
    let mut resolver = Resolver::new();
    let users = resolver.users_of(&[key(&client), waiting]).users;
    assert_eq!(users[0].as_ref().and_then(|user| user.pid), Some(std::process::id()));
    assert_eq!(users[1], None, "nobody has accepted it yet");

    let (server, _) = listener.accept().unwrap();
    let server_key = key(&server);
    let mut helper =
        Running::start(Command::new("sleep").arg("60").stdin(OwnedFd::from(server.try_clone().unwrap())));
    until_named(&mut resolver, helper.0.id(), "sleep");
    let users = resolver.users_of(&[server_key, key(&client)]).users;
    assert_eq!(users[0].as_ref().and_then(|user| user.pid), Some(helper.0.id()));
    assert_eq!(users[1].as_ref().and_then(|user| user.pid), Some(std::process::id()));
    helper.end();
    let users = resolver.users_of(&[server_key]).users;
    assert_eq!(users[0].as_ref().and_then(|user| user.pid), Some(std::process::id()));
    // Another socket with the same addresses is not it.
    let other = SocketKey { cookie: u64::MAX - 1, ..server_key };
    assert_eq!(resolver.users_of(&[other]).users, [None]);
}

#[test]
fn many_sockets_are_found_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients: Vec<TcpStream> = (0..=MOST_SINGLE_QUESTIONS)
        .map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap())
        .collect();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut keys: Vec<SocketKey> = clients.iter().map(key).collect();
    keys.push(SocketKey {
        transport: Transport::Udp,
        local: udp.local_addr().unwrap(),
        remote: "0.0.0.0:0".parse().unwrap(),
        cookie: 0,
        netns: 0,
        maker: 0,
    });
    let users = Resolver::new().users_of(&keys).users;
    assert!(users.iter().flatten().all(|user| user.pid == Some(std::process::id())));
    assert_eq!(users.iter().flatten().count(), keys.len());
}

#[test]
fn what_was_there_before_is_found_with_its_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let existing = Resolver::new().existing().sockets;
    let find = |cookie: u64| existing.iter().find(|existing| existing.socket.cookie == cookie).unwrap();
    let own =
        |existing: &Existing| existing.holder().and_then(|holder| holder.pid) == Some(std::process::id());

    let (listening, incoming, outgoing) = (
        find(socket_cookie(&listener).unwrap()),
        find(socket_cookie(&server).unwrap()),
        find(socket_cookie(&client).unwrap()),
    );
    assert!(own(listening) && own(incoming) && own(outgoing));
    assert_eq!(listening.direction, None);
    assert_eq!(incoming.direction, Some(Direction::Ingress));
    assert_eq!(outgoing.direction, Some(Direction::Egress));
    assert_eq!(incoming.netns, Netns::own().unwrap().inode);
}

/// A cgroup that goes away with the test.
struct TestCgroup(std::path::PathBuf);

impl TestCgroup {
    /// In the hierarchy whose mount `is`.
    fn new(is: impl Fn(&crate::identity::namespaces::Mount) -> bool, unit: &str) -> TestCgroup {
        let mount = crate::identity::namespaces::mounts().into_iter().find(is).expect("it is mounted");
        let path = mount.point.join("streamwatch_test.slice").join(unit);
        std::fs::create_dir_all(&path).expect("root may make a cgroup");
        TestCgroup(path)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

#[test]
#[ignore = "makes a cgroup: needs root and cgroup v2"]
fn the_unit_of_a_process_that_ended_is_known_by_its_cgroup() {
    use std::os::unix::fs::MetadataExt;

    let unit = format!("ended-{}.service", std::process::id());
    let cgroup = TestCgroup::new(|mount| mount.kind == "cgroup2", &unit);
    let id = std::fs::metadata(&cgroup.0).unwrap().ino();
    let mut resolver = Resolver::new();
    let gone = ProcessSeen { cgroup: id, ..seen(u32::MAX, "curl") };
    assert_eq!(resolver.who(&gone).unit, Some(unit.clone()));
    // The id is never given again, so that it still tells once the cgroup is gone as well.
    drop(cgroup);
    assert_eq!(resolver.who(&gone).unit, Some(unit));
}

#[test]
#[ignore = "makes a cgroup: needs root"]
fn the_unit_of_a_living_process_is_read_in_both_versions() {
    let is_systemd = |mount: &crate::identity::namespaces::Mount| {
        mount.kind == "cgroup2" || mount.point.ends_with("cgroup/systemd")
    };
    let unit = format!("living-{}.service", std::process::id());
    let cgroup = TestCgroup::new(is_systemd, &unit);
    let mut child = Running::start(Command::new("sleep").arg("60"));
    std::fs::write(cgroup.0.join("cgroup.procs"), child.0.id().to_string()).unwrap();
    let identity = until_named(&mut Resolver::new(), child.0.id(), "sleep");
    child.end();
    assert_eq!(identity.unit, Some(unit.clone()));
    assert_eq!(identity.label(), unit);
}

/// They run as root, whoever had them connect.
#[test]
fn what_the_kernel_connects_by_itself_is_not_said_to_be_roots() {
    let stat = Stat { name: "kworker/1:0".to_owned(), state: 'I', start_ticks: 1, is_kernel: true };
    let seen = ProcessSeen { tgid: 7, uid: 0, ..ProcessSeen::default() };
    let root = UserIds { real: 0, effective: 0 };
    let standing = Standing { users: Some(root), ..Standing::default() };
    let identity = Resolver::new().identity(7, stat, standing, Details::default(), Some(&seen), 1);
    assert_eq!((identity.uid, identity.user), (None, None));
    assert_eq!(identity.missing.as_deref(), Some(OF_KERNEL));
}

/// A rule that names its unit says "unknown" of it, and no "no".
#[test]
fn where_a_process_is_that_the_kernel_did_not_say_is_missing() {
    let stat = Stat { name: "a".to_owned(), state: 'S', start_ticks: 1, is_kernel: false };
    let missing = |place_hidden| {
        let standing = Standing { place_hidden, ..Standing::default() };
        Resolver::new().identity(7, stat.clone(), standing, Details::default(), None, 1).missing
    };
    assert_eq!(missing(true).as_deref(), Some(PLACE_HIDDEN));
    assert_eq!(missing(false), None);
}
