//! What this host offers and what is missing, before anything is loaded.

mod namespaces;

use crate::config::Config;
use crate::identity::{HOST, sees_the_host};
use crate::kernel::{self, Sizes, cgroup_root, map_memory};

/// Outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// Works, with less.
    Limited,
    /// The daemon cannot run.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    /// What was found, and what to do where something is missing.
    pub detail: String,
}

/// Capabilities without which nothing loads, as bits of `/proc/PID/status` (capability.h).
const NEEDED: [(u32, &str, &str); 3] = [
    (39, "CAP_BPF", "load the kernel programs"),
    (12, "CAP_NET_ADMIN", "attach them to the network"),
    (38, "CAP_PERFMON", "let them read packets directly"),
];

/// The same where it is started as root: the worker must not be.
const NEEDED_OF_ROOT: [(u32, &str, &str); 2] =
    [(7, "CAP_SETUID", "make the worker another user"), (6, "CAP_SETGID", "leave it no group")];

/// Capabilities without which the worker is held less well.
const HOLDING: [(u32, &str, &str); 2] =
    [(5, "CAP_KILL", "end it where it is caught"), (8, "CAP_SETPCAP", "empty its bounding set")];

/// Capabilities without which something is not seen.
const WANTED: [(u32, &str, &str); 3] = [
    (
        21,
        "CAP_SYS_ADMIN",
        "look into other network namespaces, and ask which programs pinned hooks ran that are not as noted",
    ),
    (19, "CAP_SYS_PTRACE", "see the descriptors of other users' processes"),
    (
        2,
        "CAP_DAC_READ_SEARCH",
        "read what belongs to other users, and tell the units of processes that have ended",
    ),
];

const SYS_ADMIN: u32 = 21;

const NOT_THE_HOSTS: &str = "none is known to be of the host: see 'users'";

/// Refuses with one line what cannot work.
///
/// # Errors
/// The line.
pub fn can_run() -> Result<(), String> {
    // In a wrong namespace other things look missing, too.
    if let Some(wrong) = missing(namespaces::checks()).next() {
        return Err(wrong);
    }
    let missing: Vec<String> = missing(checks()).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

fn missing(checks: Vec<Check>) -> impl Iterator<Item = String> {
    let missing = checks.into_iter().filter(|check| check.outcome == Outcome::Missing);
    missing.map(|check| format!("{}: {}", check.name, check.detail))
}

/// Everything about this host.
pub fn checks() -> Vec<Check> {
    let mut checks = vec![object(), kernel_version()];
    checks.extend(namespaces::checks());
    checks.extend([
        capabilities(),
        more_capabilities(),
        holding(),
        cgroup(),
        lockdown(),
        bpf_jit(),
        closed_ports(),
    ]);
    checks
}

/// The kernel memory that the configured maps take.
pub fn memory(config: &Config, sizes: &Sizes) -> Vec<Check> {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let rows = map_memory(sizes, processors);
    let total: u64 = rows.iter().map(|row| row.bytes).sum();
    let mut checks: Vec<Check> = rows
        .into_iter()
        .map(|row| Check {
            name: row.name,
            outcome: Outcome::Ok,
            detail: format!("{} entries, {} KiB of kernel memory", row.entries, row.bytes / 1024),
        })
        .collect();
    checks.push(Check {
        name: "maps, all",
        outcome: Outcome::Ok,
        detail: format!(
            "{} KiB; first bytes kept: {} a direction (TCP), {} (UDP)",
            total / 1024,
            config.kernel.tcp_budget,
            config.kernel.udp_budget
        ),
    });
    checks
}

fn object() -> Check {
    let embedded = kernel::object_embedded();
    Check {
        name: "kernel programs",
        outcome: if embedded { Outcome::Ok } else { Outcome::Missing },
        detail: if embedded {
            format!("in this binary, ABI {}", monitor_common::ABI_VERSION)
        } else {
            "not in this binary: build it with 'cargo xtask build'".to_owned()
        },
    }
}

fn kernel_version() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let enough = version >= (5, 10);
    Check {
        name: "kernel",
        outcome: if enough { Outcome::Ok } else { Outcome::Missing },
        detail: if enough { release } else { format!("{release} is too old: 5.10 or later is needed") },
    }
}

fn effective() -> Option<u64> {
    let status = procfs::process::Process::myself().and_then(|process| process.status()).ok()?;
    Some(status.capeff)
}

fn lacking(wanted: &[(u32, &str, &str)]) -> Vec<String> {
    lacking_of(effective().unwrap_or(0), wanted)
}

fn lacking_of(have: u64, wanted: &[(u32, &str, &str)]) -> Vec<String> {
    wanted
        .iter()
        // CAP_SYS_ADMIN still stands for the capabilities that were split off it.
        .filter(|(bit, ..)| have >> bit & 1 == 0 && !(*bit >= 38 && have >> SYS_ADMIN & 1 == 1))
        .map(|(_, name, what)| format!("{name} (to {what})"))
        .collect()
}

fn capabilities() -> Check {
    let mut lacking = lacking(&NEEDED);
    if is_root() {
        lacking.extend(self::lacking(&NEEDED_OF_ROOT));
    }
    let without = (Outcome::Missing, "run it as root, or give them to it");
    of_capabilities("capabilities", &lacking, "all that is needed", without)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Of one that was not started as root the worker is a process of the same user: neither is wanted.
fn holding() -> Check {
    let lacking = if is_root() { lacking(&HOLDING) } else { Vec::new() };
    let without = (Outcome::Limited, "what else holds it is shown by 'streamwatch doctor --self'");
    of_capabilities("worker", &lacking, "can be held and ended", without)
}

fn more_capabilities() -> Check {
    let without = (Outcome::Limited, "what is said there is not done, and some owners stay unknown");
    let check = of_capabilities("sight", &lacking(&WANTED), "all processes and namespaces", without);
    of_files(check, sees_the_host())
}

/// With all capabilities, the files of the host may be kept from it all the same (by AppArmor, as in a container).
fn of_files(check: Check, are_seen: bool) -> Check {
    if are_seen || check.outcome != Outcome::Ok {
        return check;
    }
    let detail = format!(
        "{HOST} can't be opened: whether what a process of a user runs is a file of the host is known only where it has the \
         mounts of streamwatch, and a rule with 'executable' does not count for others; start it where nothing keeps \
         that from it (of a container: --security-opt apparmor=unconfined)"
    );
    Check { outcome: Outcome::Limited, detail, ..check }
}

/// `with`: what is told where none is lacking; `without`: what it is and what is told where some are.
fn of_capabilities(name: &'static str, lacking: &[String], with: &str, without: (Outcome, &str)) -> Check {
    let (outcome, detail) = match lacking {
        // Those of a user namespace reach nothing outside of it.
        [] if !namespaces::capabilities_count() => (without.0, NOT_THE_HOSTS.to_owned()),
        [] => (Outcome::Ok, with.to_owned()),
        lacking => (without.0, format!("{} missing: {}", lacking.join(", "), without.1)),
    };
    Check { name, outcome, detail }
}

fn cgroup() -> Check {
    match cgroup_root() {
        Ok(path) => Check { name: "cgroup v2", outcome: Outcome::Ok, detail: path.display().to_string() },
        Err(error) => Check { name: "cgroup v2", outcome: Outcome::Missing, detail: error.to_string() },
    }
}

fn lockdown() -> Check {
    let mode = std::fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| {
        text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']').map(str::to_owned))
    });
    Check {
        name: "lockdown",
        outcome: Outcome::Ok,
        detail: match mode {
            Some(mode) => format!("{mode}: nothing here needs what it forbids"),
            None => "not told by this kernel: nothing here needs what it forbids".to_owned(),
        },
    }
}

fn bpf_jit() -> Check {
    let on = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").map(|text| text.trim() != "0");
    match on {
        Ok(false) => Check {
            name: "BPF JIT",
            outcome: Outcome::Limited,
            detail: "off: every packet costs several times as much; set net.core.bpf_jit_enable=1".to_owned(),
        },
        _ => Check { name: "BPF JIT", outcome: Outcome::Ok, detail: "on".to_owned() },
    }
}

/// The kernel answers for a port where nobody listens on a socket of its own, which is in the root cgroup.
fn closed_ports() -> Check {
    let table = std::fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let resets = resets_sent(&table).map(|count| format!("; {count} resets were sent (OutRsts)"));
    Check {
        name: "closed ports",
        outcome: Outcome::Ok,
        detail: format!(
            "who tries them over IPv4 is seen, unless only a part of the host is watched (--cgroup); over IPv6 nobody is{}",
            resets.unwrap_or_default()
        ),
    }
}

/// `OutRsts` of `/proc/net/snmp`: the names of a protocol's counters stand in a line above them.
fn resets_sent(table: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let place = lines.next()?.split(' ').position(|name| name == "OutRsts")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all = |wanted: &[(u32, &str, &str)]| wanted.iter().fold(0, |all, (bit, ..)| all | 1 << bit);
        for wanted in [&NEEDED[..], &NEEDED_OF_ROOT, &HOLDING, &WANTED] {
            assert!(lacking_of(all(wanted), wanted).is_empty());
            assert_eq!(lacking_of(0, wanted).len(), wanted.len());
        }
        let others = all(&NEEDED) & !(1 << 39);
        assert_eq!(lacking_of(others, &NEEDED), ["CAP_BPF (to load the kernel programs)"]);
        assert!(lacking_of(others | 1 << SYS_ADMIN, &NEEDED).is_empty());
    }

    #[test]
    fn sight_is_limited_where_the_files_of_the_host_cannot_be_seen() {
        let of = |outcome, are_seen| {
            of_files(Check { name: "sight", outcome, detail: "as it was".to_owned() }, are_seen)
        };
        let kept = of(Outcome::Ok, false);
        assert_eq!((kept.name, kept.outcome), ("sight", Outcome::Limited));
        assert!(kept.detail.contains("/proc/1/root") && kept.detail.contains("apparmor=unconfined"));
        assert_eq!(of(Outcome::Ok, true).outcome, Outcome::Ok);
        // What is missing first is told first.
        assert_eq!(of(Outcome::Limited, false).detail, "as it was");
    }

    #[test]
    fn the_count_of_resets_is_found_by_its_name() {
        let table =
            "Ip: Forwarding\nIp: 1\nTcp: RtoMin InErrs OutRsts InCsumErrors\nTcp: 200 0 2516 0\nUdp: X\n";
        assert_eq!(resets_sent(table), Some(2516));
        assert_eq!(resets_sent("Tcp: RtoMin\nTcp: 200\n"), None);
        assert_eq!(resets_sent(""), None);
    }
}
