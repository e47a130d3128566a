//! Loading and attaching, with errors that name the hook and what to do.

use std::fs::File;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, ProgramError, SockOps,
};
use aya::{Ebpf, EbpfError, EbpfLoader};
use monitor_common::{Counters, Decision, FlowEvent, Plain, Settings, UdpFlow, UdpKey};

use super::{Control, OBJECT, Ring, clock};

/// Map sizes and budgets, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the event ring; a power of two, at least a page.
    pub ring_bytes: u32,
    pub overflow: u32,
    pub decisions: u32,
    pub udp_flows: u32,
    /// First bytes captured of each direction.
    pub tcp_budget: u32,
    /// The same, once a server began a handshake that shows its certificates.
    pub handshake_budget: u32,
    pub udp_budget: u32,
    pub listener_captures: u32,
    /// Milliseconds between two progress events of one flow.
    pub tick_ms: u32,
}

/// Why the programs do not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("this binary was built without its kernel programs: build it with 'cargo xtask build'")]
    NoObject,
    #[error("cannot open the cgroup {}: {}", .0.display(), .1)]
    Cgroup(PathBuf, std::io::Error),
    #[error("the kernel refused a map or the object: {}", chain(.0))]
    Object(#[from] EbpfError),
    #[error("the kernel refused the program '{name}': {}", reason(.error))]
    Program { name: &'static str, error: ProgramError },
    #[error("the kernel refused to attach '{name}': {}", reason(.error))]
    Attach { name: &'static str, error: ProgramError },
    #[error("a map is missing in the kernel object: {0}")]
    Map(String),
    #[error("a map cannot be opened: {0}")]
    Open(#[from] MapError),
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// The verifier's last words, not its whole log.
fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let tail: Vec<&str> = log.lines().rev().filter(|line| !line.is_empty()).take(4).collect();
            format!("{io_error}; verifier: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" | "))
        }
        other => chain(other),
    }
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub name: &'static str,
    /// The cgroup hook's name, as `bpftool cgroup tree` prints it.
    pub attach: &'static str,
}

const HOOKS: [Hook; 9] = [
    Hook { name: "sock_create", attach: "cgroup_inet_sock_create" },
    Hook { name: "sock_release", attach: "cgroup_inet_sock_release" },
    Hook { name: "connect4", attach: "cgroup_inet4_connect" },
    Hook { name: "connect6", attach: "cgroup_inet6_connect" },
    Hook { name: "sendmsg4", attach: "cgroup_udp4_sendmsg" },
    Hook { name: "sendmsg6", attach: "cgroup_udp6_sendmsg" },
    Hook { name: "lifecycle", attach: "cgroup_sock_ops" },
    Hook { name: "received", attach: "cgroup_inet_ingress" },
    Hook { name: "sent", attach: "cgroup_inet_egress" },
];

/// The loaded programs. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    hooks: Vec<Hook>,
}

impl Kernel {
    /// Loads everything and attaches it to a cgroup.
    ///
    /// # Errors
    /// Names what was refused, and by whom.
    pub fn load(sizes: &Sizes, cgroup: &Path) -> Result<Kernel, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        let directory = File::open(cgroup).map_err(|error| LoadError::Cgroup(cgroup.to_owned(), error))?;
        let settings = Settings {
            abi: monitor_common::ABI_VERSION,
            tcp_budget: sizes.tcp_budget,
            handshake_budget: sizes.handshake_budget,
            reserved: 0,
            udp_budget: sizes.udp_budget,
            listener_captures: sizes.listener_captures,
            tick: (u64::from(sizes.tick_ms) * clock::hz()).div_ceil(1000).max(1),
        };
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", settings.as_bytes(), true)
            .map_max_entries("EVENTS", sizes.ring_bytes)
            .map_max_entries("OVERFLOW", sizes.overflow)
            .map_max_entries("DECISIONS", sizes.decisions)
            .map_max_entries("UDP_FLOWS", sizes.udp_flows)
            .load(OBJECT)?;
        for hook in &HOOKS {
            attach(&mut ebpf, hook.name, &directory)?;
        }
        Ok(Kernel { ebpf, hooks: HOOKS.to_vec() })
    }

    /// What is attached.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The ring and the maps, to be used by threads of their own.
    ///
    /// # Errors
    /// When the object lacks a map, or it was taken before.
    pub fn split(&mut self) -> Result<(Ring, Control), LoadError> {
        let ring = Ring::new(self.take("EVENTS")?)?;
        let control = Control::new(
            self.take("DECISIONS")?,
            self.take("OVERFLOW")?,
            self.take("UDP_FLOWS")?,
            self.take("COUNTERS")?,
        )?;
        Ok((ring, control))
    }

    fn take(&mut self, name: &str) -> Result<aya::maps::Map, LoadError> {
        self.ebpf.take_map(name).ok_or_else(|| LoadError::Map(name.to_owned()))
    }
}

fn attach(ebpf: &mut Ebpf, name: &'static str, cgroup: &File) -> Result<(), LoadError> {
    let load = |error| LoadError::Program { name, error };
    let attach = |error| LoadError::Attach { name, error };
    let mode = CgroupAttachMode::Single;
    let program = ebpf.program_mut(name).ok_or_else(|| LoadError::Map(name.to_owned()))?;
    match name {
        "received" | "sent" => {
            let program: &mut CgroupSkb = program.try_into().map_err(load)?;
            let direction =
                if name == "sent" { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
            program.load().map_err(load)?;
            program.attach(cgroup, direction, mode).map_err(attach)?;
        }
        "lifecycle" => {
            let program: &mut SockOps = program.try_into().map_err(load)?;
            program.load().map_err(load)?;
            program.attach(cgroup, mode).map_err(attach)?;
        }
        "sock_create" | "sock_release" => {
            let program: &mut CgroupSock = program.try_into().map_err(load)?;
            program.load().map_err(load)?;
            program.attach(cgroup, mode).map_err(attach)?;
        }
        _ => {
            let program: &mut CgroupSockAddr = program.try_into().map_err(load)?;
            program.load().map_err(load)?;
            program.attach(cgroup, mode).map_err(attach)?;
        }
    }
    Ok(())
}

/// Kernel memory of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMemory {
    pub name: &'static str,
    pub entries: u64,
    pub bytes: u64,
}

/// What the maps of these sizes take, to a good approximation: hash maps are preallocated, with
/// about 48 bytes for an element's head and 16 for its bucket (kernel/bpf/hashtab.c).
pub fn map_memory(sizes: &Sizes, processors: u64) -> Vec<MapMemory> {
    let hash = |name, entries: u32, key: usize, value: usize| MapMemory {
        name,
        entries: u64::from(entries),
        bytes: u64::from(entries) * (48 + key + value) as u64 + u64::from(entries.next_power_of_two()) * 16,
    };
    vec![
        MapMemory { name: "ring", entries: 1, bytes: u64::from(sizes.ring_bytes) },
        hash("overflow", sizes.overflow, 8, size_of::<FlowEvent>()),
        hash("decisions", sizes.decisions, 8, size_of::<Decision>()),
        hash("udp_flows", sizes.udp_flows, size_of::<UdpKey>(), size_of::<UdpFlow>()),
        MapMemory { name: "counters", entries: processors, bytes: processors * size_of::<Counters>() as u64 },
    ]
}

/// Map data by value, for the types that own their map.
pub(super) type Owned = MapData;
