//! Network namespaces of this host, and netlink sockets inside them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::fs::CWD;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::clock::{processor_time, used_for_this_thread};
use super::process::{each_process, read_capped};
use super::realm::Realm;

/// Longest mount table that is read.
const LARGEST_MOUNT_TABLE: usize = 16 << 20;

/// Longest count of sockets that is read.
const LONGEST_COUNTS: usize = 4096;

/// One network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    /// Inode number, as in `/proc/PID/ns/net`. The kernel gives it again once the namespace is gone.
    pub inode: u64,
    /// Where it can be opened.
    pub source: NetnsSource,
}

/// What keeps a namespace alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsSource {
    /// A process that is in it.
    Process(u32),
    /// A file that it is mounted on, as `ip netns` does.
    Path(PathBuf),
}

impl Netns {
    /// Namespace of the calling thread.
    pub fn own() -> io::Result<Netns> {
        let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
        Ok(Netns { inode, source: NetnsSource::Process(std::process::id()) })
    }

    /// Where a process is.
    pub(super) fn of_process(pid: u32) -> io::Result<Netns> {
        let inode = fs::metadata(format!("/proc/{pid}/ns/net"))?.ino();
        Ok(Netns { inode, source: NetnsSource::Process(pid) })
    }

    /// Whether there is surely no TCP socket in it, but what is left of closed ones. Costs a small part of a list.
    pub fn is_without_tcp(&self) -> bool {
        let NetnsSource::Process(pid) = self.source else { return false };
        let counts = [("sockstat", "TCP:"), ("sockstat6", "TCP6:")].map(|(file, line)| {
            let text = read_capped(CWD, format!("/proc/{pid}/net/{file}"), LONGEST_COUNTS);
            text.ok().and_then(|text| in_use(&String::from_utf8_lossy(&text), line))
        });
        // The process may have ended and its pid be another's by now.
        counts[0] == Some(0)
            && counts[1].is_none_or(|count| count == 0)
            && Netns::of_process(pid).is_ok_and(|netns| netns.inode == self.inode)
    }

    pub(super) fn open(&self) -> io::Result<File> {
        let file = match &self.source {
            NetnsSource::Process(pid) => File::open(format!("/proc/{pid}/ns/net"))?,
            NetnsSource::Path(path) => File::open(path)?,
        };
        // The process may have ended and its pid be another's by now.
        if file.metadata()?.ino() == self.inode {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "the namespace is gone"))
        }
    }
}

/// All network namespaces that a process is in or that are mounted somewhere in this mount
/// namespace; the caller's own first. One that only a socket or an open file keeps alive is not
/// found.
pub fn namespaces() -> Vec<Netns> {
    let own = Netns::own().ok();
    let mut found: HashMap<u64, NetnsSource> = HashMap::new();
    each_process(|pid, directory| {
        if let Ok(stat) = rustix::fs::statat(directory, "ns/net", rustix::fs::AtFlags::empty()) {
            found.entry(stat.st_ino).or_insert(NetnsSource::Process(pid));
        }
    });
    for mount in mounts() {
        // The root of such a mount reads `net:[4026532561]`.
        let inode = mount.root.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
        if mount.kind == "nsfs"
            && let Some(inode) = inode.and_then(|inode| inode.parse().ok())
        {
            // A mount outlives a process.
            found.insert(inode, NetnsSource::Path(mount.point));
        }
    }
    if let Some(own) = &own {
        found.remove(&own.inode);
    }
    let mut others: Vec<Netns> = found.into_iter().map(|(inode, source)| Netns { inode, source }).collect();
    others.sort_by_key(|namespace| namespace.inode);
    own.into_iter().chain(others).collect()
}

/// A sock_diag(7) socket inside a namespace. The namespace of the calling thread never changes: a
/// thread made for it enters and ends. Entering another one than the caller's takes CAP_SYS_ADMIN.
pub(super) fn sock_diag_socket(namespace: &Netns) -> io::Result<Socket> {
    netlink_socket(namespace, NETLINK_SOCK_DIAG)
}

/// The same for any protocol of netlink(7).
pub(super) fn netlink_socket(namespace: &Netns, protocol: isize) -> io::Result<Socket> {
    if Netns::own().is_ok_and(|own| own.inode == namespace.inode) {
        return Socket::new(protocol);
    }
    let file = namespace.open()?;
    inside(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Socket::new(protocol)
    })
}

/// What the kernel calls each of these namespaces, in their order, and whose it is; `None`: it is gone, can't be entered, or
/// the kernel does not say. One thread enters all of them.
pub(super) fn cookies_of(namespaces: &[Netns]) -> Vec<Option<(u64, Option<Realm>)>> {
    let all = namespaces.to_vec();
    let cookie = |namespace: &Netns| {
        let file = namespace.open().ok()?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
        let socket = Socket::new(NETLINK_SOCK_DIAG).ok()?;
        Some((monitor_sys::netns_cookie_of(&socket).ok()?, Realm::of(&file).ok()))
    };
    inside(move || Ok(all.iter().map(cookie).collect())).unwrap_or_else(|_| vec![None; namespaces.len()])
}

/// On a thread of its own, which may go where the caller's may not, and ends there. What it uses is the caller's.
fn inside<T: Send + 'static>(what: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new().name("netns".to_owned()).spawn(move || (what(), processor_time()))?;
    match thread.join() {
        Ok((done, used)) => {
            used_for_this_thread(used);
            done
        }
        Err(_) => Err(io::Error::other("the thread that entered the namespace failed")),
    }
}

/// `TCP: inuse 4 orphan 0 …` of `/proc/PID/net/sockstat` (proc_pid_net(5)).
fn in_use(text: &str, line: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|text| text.strip_prefix(line))?.split_ascii_whitespace();
    words.find(|word| *word == "inuse")?;
    words.next()?.parse().ok()
}

/// One line of `/proc/self/mountinfo`, proc_pid_mountinfo(5).
pub(super) struct Mount {
    pub root: String,
    pub point: PathBuf,
    pub kind: String,
}

/// The mount table; empty where it can't be read.
pub(super) fn mounts() -> Vec<Mount> {
    let text = read_capped(CWD, "/proc/self/mountinfo", LARGEST_MOUNT_TABLE);
    text.map(|text| String::from_utf8_lossy(&text).lines().filter_map(mount).collect()).unwrap_or_default()
}

pub(super) fn mount(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let mut fields = head.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let kind = tail.split(' ').next()?;
    Some(Mount { root: unescaped(root), point: unescaped(point).into(), kind: kind.to_owned() })
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescaped(text: &str) -> String {
    const ESCAPES: [(&str, &str); 4] = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let mut text = text.to_owned();
    for (escape, plain) in ESCAPES {
        text = text.replace(escape, plain);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_own_namespace_comes_first() {
        let all = namespaces();
        assert_eq!(all.first().map(|first| first.inode), Netns::own().ok().map(|own| own.inode));
        let mut inodes: Vec<u64> = all.iter().map(|namespace| namespace.inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), all.len());
    }

    #[test]
    fn who_has_a_connection_is_not_without_tcp() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!Netns::own().unwrap().is_without_tcp());
        let text = "sockets: used 9\nTCP: inuse 4 orphan 1 tw 0 alloc 5 mem 0\nUDP: inuse 0 mem 0\n";
        assert_eq!(
            (in_use(text, "TCP:"), in_use(text, "UDP:"), in_use(text, "TCP6:")),
            (Some(4), Some(0), None)
        );
        assert_eq!(in_use("TCP6: inuse", "TCP6:"), None);
    }

    #[test]
    #[ignore = "makes a network namespace: needs root and util-linux"]
    fn a_new_namespace_is_without_tcp_until_somebody_listens() {
        let listen = "import socket, sys; sys.stdin.readline(); l = socket.socket(socket.AF_INET6); l.bind(('::', 0)); \
                      l.listen(); print('on', flush=True); sys.stdin.readline()";
        let mut command = std::process::Command::new("unshare");
        command.args([
            "--net",
            "--",
            "sh",
            "-c",
            "echo in; exec \"$@\"",
            "sh",
            "/usr/bin/python3",
            "-c",
            listen,
        ]);
        let pipe = std::process::Stdio::piped;
        let mut child = command.stdin(pipe()).stdout(pipe()).spawn().unwrap();
        let mut said = [0; 3];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let netns = Netns::of_process(child.id()).unwrap();
        let before = netns.is_without_tcp();
        io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        let read = io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said);
        let after = netns.is_without_tcp();
        let _ = child.kill();
        let _ = child.wait();
        read.unwrap();
        assert_eq!((before, after), (true, false));
        assert!(!netns.is_without_tcp(), "it is gone: nobody can say");
    }

    #[test]
    fn a_mounted_namespace_is_read() {
        let line = "52 29 0:4 net:[4026532561] /run/netns/a\\040b rw shared:28 - nsfs nsfs rw";
        let mount = mount(line).expect("a line of the kernel's form");
        assert_eq!((mount.root.as_str(), mount.kind.as_str()), ("net:[4026532561]", "nsfs"));
        assert_eq!(mount.point, PathBuf::from("/run/netns/a b"));
    }

    #[test]
    fn a_namespace_that_became_another_is_refused() {
        let wrong = Netns { inode: 1, source: NetnsSource::Process(std::process::id()) };
        assert_eq!(
            sock_diag_socket(&wrong).map(|_| ()).map_err(|error| error.kind()),
            Err(io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn the_own_namespace_is_called_what_its_sockets_say() {
        let own = Netns::own().unwrap();
        assert_eq!(Netns::of_process(std::process::id()).unwrap(), own);
        let gone = Netns { inode: 1, ..own.clone() };
        let cookie = monitor_sys::netns_cookie().ok();
        // Each takes the right to enter.
        if rustix::process::geteuid().is_root() {
            let told =
                cookies_of(&[own.clone(), gone, own]).into_iter().map(|it| it.map(|(cookie, _)| cookie));
            assert_eq!(told.collect::<Vec<_>>(), [cookie, None, cookie]);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_skipped(line in ".{0,60}( - .{0,20})?") {
            let _ = mount(&line);
        }
    }
}
