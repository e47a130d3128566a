//! Whether this process is in the namespaces of the host: the kernel programs tell numbers of processes and cgroups,
//! and times, as the host has them, and what reads `/proc` elsewhere takes the wrong process for the owner.
//!
//! In: `/proc/self`. Out: a check of each. Must never: call one the host's that cannot be told.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Check, Outcome};

/// Inodes of the first ones of a host (`PROC_PID_INIT_INO` and the like, include/linux/proc_ns.h).
const CGROUPS: u64 = 0xEFFF_FFFB;
const PROCESSES: u64 = 0xEFFF_FFFC;
const USERS: u64 = 0xEFFF_FFFD;

/// How far the clocks of this process are from the host's (time_namespaces(7)).
const OFFSETS: &str = "/proc/self/timens_offsets";

/// A namespace of this process.
#[derive(Debug, PartialEq, Eq)]
enum Where {
    Host,
    Elsewhere,
    Unknown(String),
}

/// What does not work elsewhere, most telling first.
pub(super) fn checks() -> Vec<Check> {
    vec![processes(), users(), cgroups(), clocks()]
}

/// All of them need a `/proc` that shows this process.
fn processes() -> Check {
    // In one, this process has another number in the host's /proc, which is no fault of that.
    let found = match (here("pid", PROCESSES), numbered(std::fs::read_link("/proc/self"), std::process::id()))
    {
        (Where::Elsewhere, _) => Where::Elsewhere,
        (_, Err(why)) => Where::Unknown(why),
        (found, Ok(())) => found,
    };
    check(
        "processes",
        found,
        "a PID namespace numbers them anew, so that others would be named: start it in the host's \
         (of a container: --pid=host; of a pod: hostPID: true)",
        "mount the host's: 'mount -t proc proc /proc'",
    )
}

/// `capable()` of the kernel, which bpf(2) asks, asks in the first one.
fn users() -> Check {
    check(
        "users",
        of_users(),
        "in a user namespace the capabilities that this process has do not count for the kernel programs: start it \
         as root of the host (of a container: --userns=host, not rootless; of a pod: hostUsers: true)",
        "it takes the host's /proc",
    )
}

fn of_users() -> Where {
    here("user", USERS)
}

/// Whether the capabilities of this process are ones of the host, as far as that can be told.
pub(super) fn capabilities_count() -> bool {
    of_users() == Where::Host
}

/// Its root is some cgroup of the host: paths from there name others, and what is above it is not watched.
fn cgroups() -> Check {
    check(
        "cgroups",
        here("cgroup", CGROUPS),
        "a cgroup namespace hides where they are, so that wrong units and containers would be named, and a part of \
         the host watched: start it in the host's (of a container: --cgroupns=host; else 'nsenter --cgroup --target 1 \
         streamwatch run')",
        "it takes the host's /proc",
    )
}

/// The kernel programs read the host's (`bpf_ktime_get_ns`): a process with others (time_namespaces(7)) would label
/// everything with a wrong time.
fn clocks() -> Check {
    let known = Path::new("/proc/self/ns").is_dir();
    check(
        "clocks",
        shifted(OFFSETS, std::fs::read_to_string(OFFSETS), known),
        "a time namespace shifts them, so times would be wrong: start it in the host's \
         ('nsenter --time --target 1 streamwatch run')",
        "it takes the host's /proc",
    )
}

fn check(name: &'static str, found: Where, wrong: &str, mend: &str) -> Check {
    let (outcome, detail) = match found {
        Where::Host => (Outcome::Ok, "the host's".to_owned()),
        Where::Elsewhere => (Outcome::Missing, wrong.to_owned()),
        Where::Unknown(why) => (Outcome::Missing, format!("{why}: {mend}")),
    };
    Check { name, outcome, detail }
}

fn here(kind: &str, first: u64) -> Where {
    let path = format!("/proc/self/ns/{kind}");
    let known = Path::new("/proc/self/ns").is_dir();
    place(&path, std::fs::metadata(&path).map(|found| found.ino()), first, known)
}

/// `known`: this `/proc` shows which namespaces there are.
fn place(path: &str, inode: io::Result<u64>, first: u64, known: bool) -> Where {
    match inode {
        Ok(inode) if inode == first => Where::Host,
        Ok(_) => Where::Elsewhere,
        Err(error) => unread(path, &error, known),
    }
}

fn unread(path: &str, error: &io::Error, known: bool) -> Where {
    // A kernel without them.
    if error.kind() == io::ErrorKind::NotFound && known {
        return Where::Host;
    }
    Where::Unknown(format!("{path} cannot be read ({error})"))
}

/// One that belongs to another PID namespace has another number for this process, or none.
fn numbered(link: io::Result<PathBuf>, own: u32) -> Result<(), String> {
    match link {
        Ok(target) if target == Path::new(&own.to_string()) => Ok(()),
        Ok(target) => Err(format!("/proc/self is {}, and this process {own}", target.display())),
        Err(error) => Err(format!("/proc does not show this process ({error})")),
    }
}

/// `monotonic 0 0`, `boottime 0 0`: seconds and nanoseconds.
fn shifted(path: &str, offsets: io::Result<String>, known: bool) -> Where {
    let offsets = match offsets {
        Ok(offsets) => offsets,
        Err(error) => return unread(path, &error, known),
    };
    let numbers: Vec<&str> = offsets.lines().flat_map(|line| line.split_whitespace().skip(1)).collect();
    match numbers[..] {
        [] => Where::Unknown(format!("{path} says nothing")),
        _ if numbers.iter().all(|number| *number == "0") => Where::Host,
        _ => Where::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_a_time_namespace_are_told() {
        let told = |text: &str| shifted("x", Ok(text.to_owned()), true);
        let host = "monotonic           0         0\nboottime            0         0\n";
        assert_eq!(told(host), Where::Host);
        for text in [
            "monotonic           0         0\nboottime      1000000         0\n",
            "monotonic      -10000         0\nboottime            0         5\n",
        ] {
            assert_eq!(told(text), Where::Elsewhere);
        }
        assert!(matches!(told(""), Where::Unknown(_)));
    }

    #[test]
    fn what_cannot_be_told_is_not_the_hosts() {
        let missing = || Err(io::Error::from(io::ErrorKind::NotFound));
        let denied = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(place("x", Ok(PROCESSES), PROCESSES, true), Where::Host);
        assert_eq!(place("x", Ok(4_026_532_501), PROCESSES, true), Where::Elsewhere);
        assert_eq!(place("x", missing(), PROCESSES, true), Where::Host);
        assert!(matches!(place("x", missing(), PROCESSES, false), Where::Unknown(_)));
        assert!(matches!(place("x", denied(), PROCESSES, true), Where::Unknown(_)));
        let error = |kind: io::ErrorKind| Err(io::Error::from(kind));
        assert_eq!(shifted("x", error(io::ErrorKind::NotFound), true), Where::Host);
        assert!(matches!(shifted("x", error(io::ErrorKind::NotFound), false), Where::Unknown(_)));
        assert!(matches!(shifted("x", error(io::ErrorKind::PermissionDenied), true), Where::Unknown(_)));
    }

    #[test]
    fn a_proc_of_others_is_told() {
        assert_eq!(numbered(Ok("7".into()), 7), Ok(()));
        assert_eq!(numbered(Ok("7".into()), 8), Err("/proc/self is 7, and this process 8".to_owned()));
        assert!(numbered(Err(io::ErrorKind::NotFound.into()), 7).is_err());
    }
}
