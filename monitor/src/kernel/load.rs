//! Loading and attaching, with errors that name the hook and what to do.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use aya::maps::{Map, MapData, MapError};
use aya::programs::{CgroupSkb, CgroupSock, CgroupSockAddr, Program, ProgramError, SockOps};
use aya::{Ebpf, EbpfError, EbpfLoader};
use crossbeam_channel::{Receiver, RecvError, bounded, never};
use monitor_common::{
    Counters, Decision, EXECUTED, Executed, FlowEvent, JOURNAL_SLOTS, JournalSlot, Plain, Secret, Settings,
    UdpFlow, UdpKey,
};
use monitor_sys::bpf;
use rustix::rand::{GetRandomFlags, getrandom};

use super::executed::LastExecuted;
use super::hooks::{Hooks, SharedHooks, Watched};
use super::pins::{PinError, Pins};
use super::remains::{Left, What};
use super::{Control, LateTold, OBJECT, clock};
use crate::model::Tampered;

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
    #[error("the kernel refused to attach '{name}': {error}")]
    Attach { name: &'static str, error: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("the kernel gives no random numbers: {0}")]
    Random(io::Error),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error("a map of the kernel object is missing, or cannot be used: {0}")]
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
    /// `enum bpf_attach_type`.
    pub(super) number: u32,
}

pub(super) const HOOKS: [Hook; 9] = [
    Hook { name: "sock_create", attach: "cgroup_inet_sock_create", number: 2 },
    Hook { name: "sock_release", attach: "cgroup_inet_sock_release", number: 34 },
    Hook { name: "connect4", attach: "cgroup_inet4_connect", number: 10 },
    Hook { name: "connect6", attach: "cgroup_inet6_connect", number: 11 },
    Hook { name: "sendmsg4", attach: "cgroup_udp4_sendmsg", number: 14 },
    Hook { name: "sendmsg6", attach: "cgroup_udp6_sendmsg", number: 15 },
    Hook { name: "lifecycle", attach: "cgroup_sock_ops", number: 3 },
    Hook { name: "received", attach: "cgroup_inet_ingress", number: 0 },
    Hook { name: "sent", attach: "cgroup_inet_egress", number: 1 },
];

/// The maps that outlive a daemon with its hooks.
pub(super) const MAPS: [&str; 8] =
    ["EVENTS", "OVERFLOW", "DECISIONS", "UDP_FLOWS", "COUNTERS", "SOCKETS", JOURNAL, SETTLED];

/// The one of them that no program works on.
pub(super) const JOURNAL: &str = "JOURNAL";

/// The connections whose packets pass at once (monitor-ebpf/src/settled.rs): a section of the object, which is a map of
/// its name.
const SETTLED: &str = ".bss.settled";

/// The maps that this side works on.
const TAKEN: [&str; 7] = ["EVENTS", "OVERFLOW", "DECISIONS", "UDP_FLOWS", "COUNTERS", JOURNAL, "EXECUTED_AT"];

/// How a map is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// `enum bpf_map_type`.
    pub kind: u32,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
    pub flags: u32,
}

/// How each of [`MAPS`] is made (monitor-ebpf/src/maps.rs).
fn shapes(sizes: &Sizes) -> [Shape; MAPS.len()] {
    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    const PER_CPU_ARRAY: u32 = 6;
    const SK_STORAGE: u32 = 24;
    const RINGBUF: u32 = 27;
    const NO_PREALLOC: u32 = 1;
    const CLONE: u32 = 1 << 9;
    const MMAPABLE: u32 = 1 << 10;
    let shape = |kind, key: usize, value: usize, entries, flags| Shape {
        kind,
        key: key as u32,
        value: value as u32,
        entries,
        flags,
    };
    [
        shape(RINGBUF, 0, 0, sizes.ring_bytes, 0),
        shape(HASH, 8, size_of::<FlowEvent>(), sizes.overflow, 0),
        shape(HASH, 8, size_of::<Decision>(), sizes.decisions, 0),
        shape(HASH, size_of::<UdpKey>(), size_of::<UdpFlow>(), sizes.udp_flows, 0),
        shape(PER_CPU_ARRAY, 4, size_of::<Counters>(), 1, 0),
        shape(SK_STORAGE, 4, monitor_common::SOCKET_STATE, 0, NO_PREALLOC | CLONE),
        shape(ARRAY, 4, size_of::<JournalSlot>(), JOURNAL_SLOTS, MMAPABLE),
        shape(ARRAY, 4, monitor_common::SETTLED, 1, 0),
    ]
}

/// How the hooks came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing was there.
    Fresh,
    /// Those of the daemon before went on; the programs were replaced in place.
    TakenOver,
    /// Those of the daemon before could not be taken over, for this reason, and are gone.
    MovedOver(String),
}

/// What became of programs that were loaded beside everything else: for [`Kernel::came`].
pub struct Came(Result<Ebpf, LoadError>);

/// The programs and their maps. Dropping it detaches them, unless they are pinned.
pub struct Kernel {
    maps: HashMap<String, Map>,
    programs: Programs,
    hooks: SharedHooks,
    pins: Option<Arc<Pins>>,
    beginning: Beginning,
    secret: Secret,
    executed: Option<Arc<LastExecuted>>,
    /// What was found of those of the daemon before, until somebody is told.
    tampered: Vec<Tampered>,
}

/// Who holds the programs.
enum Programs {
    Here {
        _object: Ebpf,
    },
    /// Those of the daemon before go on until ours are in their places.
    Coming(Receiver<Came>),
    /// There are none of ours.
    Refused,
}

impl Kernel {
    /// Loads everything and attaches it to a cgroup; with `pins`, what the daemon before left there goes on, and our
    /// programs take its places while whoever called goes on, too: see [`Kernel::coming`].
    ///
    /// # Errors
    /// Names what was refused, and by whom.
    pub fn load(sizes: &Sizes, cgroup: &Path, pins: Option<Pins>) -> Result<Kernel, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        let watched = Watched::open(cgroup).map_err(|error| LoadError::Cgroup(cgroup.to_owned(), error))?;
        let Left { what, tampered } =
            pins.as_ref().map_or_else(Left::nothing, |pins| pins.left(&shapes(sizes), watched.id));
        let pins = pins.map(Arc::new);
        let links = match what {
            What::Nothing => return Kernel::fresh(sizes, watched, pins, tampered, Beginning::Fresh),
            What::Other(why) => {
                return Kernel::fresh(sizes, watched, pins, tampered, Beginning::MovedOver(why));
            }
            What::Same(links) => links,
        };
        // What the kernel refuses of what was left is no reason not to watch: if it refuses it without, too, that is told.
        match Kernel::begin(sizes, pins.clone(), Beginning::TakenOver) {
            Ok((kernel, object)) => kernel.take_over(object, links, watched, tampered),
            Err(error) => {
                Kernel::fresh(sizes, watched, pins, tampered, Beginning::MovedOver(error.to_string()))
            }
        }
    }

    /// The same without what the daemon before left, which goes once the new hooks are there.
    fn fresh(
        sizes: &Sizes,
        watched: Watched,
        pins: Option<Arc<Pins>>,
        tampered: Vec<Tampered>,
        beginning: Beginning,
    ) -> Result<Kernel, LoadError> {
        if let Some(pins) = &pins {
            pins.prepare()?;
        }
        let (mut kernel, mut object) = Kernel::begin(sizes, pins, beginning)?;
        load_all(&mut object)?;
        let pins = kernel.pins.as_deref();
        let links = attach_all(&object, watched.directory(), pins)?;
        // The old hooks go when the new ones see everything.
        forget_others(pins);
        let hooks = Hooks::new(links, watched, &object, pins, tampered)?;
        *lock(&kernel.hooks) = Some(hooks);
        kernel.programs = Programs::Here { _object: object };
        Ok(kernel)
    }

    /// The maps, and the object whose programs are still to be loaded.
    fn begin(
        sizes: &Sizes,
        pins: Option<Arc<Pins>>,
        beginning: Beginning,
    ) -> Result<(Kernel, Ebpf), LoadError> {
        // Decisions that wait in maps that are taken over wait for ever, as those of flows that are gone: what still
        // matters is decided again.
        let secret = secret().map_err(LoadError::Random)?;
        let mut object = object(sizes, &secret, pins.as_deref())?;
        let executed = LastExecuted::follow(&mut object).map_err(|error| {
            say!(
                "streamwatch: what processes execute is not followed ({error}): one that ends at once goes by the name of \
                 the thread that used a socket"
            );
        });
        // The programs name them by their descriptors, which stay open here.
        let maps = TAKEN.into_iter().filter_map(|name| Some((name.to_owned(), object.take_map(name)?)));
        let kernel = Kernel {
            maps: maps.collect(),
            programs: Programs::Refused,
            hooks: SharedHooks::default(),
            pins,
            beginning,
            secret,
            executed: executed.ok().map(Arc::new),
            tampered: Vec::new(),
        };
        Ok((kernel, object))
    }

    /// Puts our programs into the links that were left, on the maps that were left, on a thread of its own: the kernel
    /// takes long to verify them, and what passes meanwhile is to be read.
    fn take_over(
        mut self,
        mut object: Ebpf,
        links: Vec<OwnedFd>,
        watched: Watched,
        tampered: Vec<Tampered>,
    ) -> Result<Kernel, LoadError> {
        let (pins, place) = (self.pins.clone(), self.hooks.clone());
        self.tampered.clone_from(&tampered);
        let (done, coming) = bounded(1);
        let replace = move || {
            load_all(&mut object)?;
            for (hook, link) in HOOKS.iter().zip(&links) {
                let program = program(&object, hook.name)?;
                bpf::link_update(link.as_fd(), program)
                    .map_err(|error| LoadError::Attach { name: hook.name, error })?;
            }
            forget_others(pins.as_deref());
            *lock(&place) = Some(Hooks::new(links, watched, &object, pins.as_deref(), tampered)?);
            Ok(object)
        };
        thread::Builder::new()
            .name("programs".to_owned())
            // Whoever asked may have given up.
            .spawn(move || drop(done.send(Came(replace()))))
            .map_err(LoadError::Thread)?;
        self.programs = Programs::Coming(coming);
        Ok(self)
    }

    /// Where it is heard of programs that are to take the places of those before, once: for [`Kernel::came`]. Until
    /// then those before count and capture.
    pub fn coming(&self) -> Receiver<Came> {
        match &self.programs {
            Programs::Coming(coming) => coming.clone(),
            Programs::Here { .. } | Programs::Refused => never(),
        }
    }

    /// Whether the programs of the daemon before are still at work.
    pub fn is_coming(&self) -> bool {
        matches!(self.programs, Programs::Coming(_))
    }

    /// They came, or did not.
    ///
    /// # Errors
    /// They did not: [`Kernel::move_over`] does without.
    pub fn came(&mut self, came: Result<Came, RecvError>) -> Result<(), LoadError> {
        self.programs = Programs::Refused;
        // A thread that panicked has told why.
        let Came(object) = came.map_err(|_| LoadError::Thread(io::ErrorKind::BrokenPipe.into()))?;
        let object = object?;
        self.programs = Programs::Here { _object: object };
        Ok(())
    }

    /// Waits for them.
    ///
    /// # Errors
    /// As of [`Kernel::came`].
    pub fn settle(&mut self) -> Result<(), LoadError> {
        match &self.programs {
            Programs::Coming(coming) => {
                let came = coming.recv();
                self.came(came)
            }
            Programs::Here { .. } | Programs::Refused => Ok(()),
        }
    }

    /// New hooks and maps in the place of those that could not be taken over, for this reason.
    ///
    /// # Errors
    /// As of [`Kernel::load`].
    pub fn move_over(&mut self, sizes: &Sizes, cgroup: &Path, why: String) -> Result<(), LoadError> {
        let watched = Watched::open(cgroup).map_err(|error| LoadError::Cgroup(cgroup.to_owned(), error))?;
        let (pins, tampered) = (self.pins.clone(), std::mem::take(&mut self.tampered));
        *self = Kernel::fresh(sizes, watched, pins, tampered, Beginning::MovedOver(why))?;
        Ok(())
    }

    /// What is attached.
    pub fn hooks(&self) -> &'static [Hook] {
        &HOOKS
    }

    /// How the hooks came to be.
    pub fn beginning(&self) -> &Beginning {
        &self.beginning
    }

    /// What processes executed last, where this kernel tells.
    pub fn executed(&self) -> Option<Arc<LastExecuted>> {
        self.executed.clone()
    }

    /// The table of when, for a worker.
    ///
    /// # Errors
    /// The map is missing.
    pub fn executed_at(&self) -> Result<BorrowedFd<'_>, LoadError> {
        self.array("EXECUTED_AT")
    }

    /// Where hooks and maps are pinned.
    pub fn pinned_at(&self) -> Option<&Path> {
        self.pins.as_deref().map(Pins::root)
    }

    /// The hooks, once they are there, to be looked at by a thread of its own. Without pins they go with the value in
    /// it.
    pub fn shared_hooks(&self) -> SharedHooks {
        self.hooks.clone()
    }

    /// Which ring this is, among all that the kernel has had since it was started.
    ///
    /// # Errors
    /// The map is missing, or cannot be asked.
    pub fn ring_id(&self) -> Result<u32, LoadError> {
        Ok(self.ring_map()?.info()?.id())
    }

    /// The maps, to be used by a thread of its own.
    ///
    /// # Errors
    /// When the object lacks a map, or it was taken before.
    pub fn take_control(&mut self) -> Result<Control, LoadError> {
        Control::new(
            self.take("DECISIONS")?,
            self.take("OVERFLOW")?,
            self.take("UDP_FLOWS")?,
            self.take("COUNTERS")?,
            LateTold::new(self.journal()?).map_err(|error| LoadError::Map(format!("JOURNAL: {error}")))?,
            self.secret,
        )
    }

    /// Where the ring's reader keeps what it gives back untold.
    ///
    /// # Errors
    /// The map is missing.
    pub fn journal(&self) -> Result<BorrowedFd<'_>, LoadError> {
        self.array(JOURNAL)
    }

    fn array(&self, name: &str) -> Result<BorrowedFd<'_>, LoadError> {
        match self.maps.get(name) {
            Some(Map::Array(map)) => Ok(map.fd().as_fd()),
            _ => Err(LoadError::Map(name.to_owned())),
        }
    }

    /// The ring, and its size in bytes, for its reader.
    ///
    /// # Errors
    /// The map is missing, or cannot be asked.
    pub fn ring(&self) -> Result<(BorrowedFd<'_>, u32), LoadError> {
        let map = self.ring_map()?;
        Ok((map.fd().as_fd(), map.info()?.max_entries()))
    }

    fn ring_map(&self) -> Result<&MapData, LoadError> {
        match self.maps.get("EVENTS") {
            Some(Map::RingBuf(map)) => Ok(map),
            _ => Err(LoadError::Map("EVENTS".to_owned())),
        }
    }

    fn take(&mut self, name: &str) -> Result<Map, LoadError> {
        self.maps.remove(name).ok_or_else(|| LoadError::Map(name.to_owned()))
    }

    /// Detaches the hooks, pinned or not: what is in the ring by now is all there will be.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach(&mut self) -> Result<(), PinError> {
        *lock(&self.hooks) = None;
        self.pins.take().and_then(Arc::into_inner).map_or(Ok(()), Pins::remove)
    }
}

fn lock(hooks: &SharedHooks) -> MutexGuard<'_, Option<Hooks>> {
    hooks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget_others(pins: Option<&Pins>) {
    if let Some(pins) = pins
        && let Err(error) = pins.forget_others()
    {
        say!("streamwatch: what the daemon before left is not gone: {error}");
    }
}

/// Eight numbers that nobody can know.
fn secret() -> io::Result<Secret> {
    let mut bytes = [0; size_of::<Secret>()];
    // So few come at one go, once there are any at all.
    if getrandom(&mut bytes[..], GetRandomFlags::empty())? != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (words, _) = bytes.as_chunks();
    let mut secret = Secret::default();
    secret.iter_mut().zip(words).for_each(|(number, word)| *number = u32::from_ne_bytes(*word));
    Ok(secret)
}

/// Our programs, not loaded yet; on maps that have a pin already, or else get one.
fn object(sizes: &Sizes, secret: &Secret, pins: Option<&Pins>) -> Result<Ebpf, LoadError> {
    let settings = Settings {
        abi: monitor_common::ABI_VERSION,
        tcp_budget: sizes.tcp_budget,
        handshake_budget: sizes.handshake_budget,
        capture_room: sizes.ring_bytes / 2,
        udp_budget: sizes.udp_budget,
        listener_captures: sizes.listener_captures,
        tick: (u64::from(sizes.tick_ms) * clock::hz()).div_ceil(1000).max(1),
    };
    let mut loader = EbpfLoader::new();
    loader
        .override_global("SETTINGS", settings.as_bytes(), true)
        .override_global("SECRET", secret, true)
        .map_max_entries("EVENTS", sizes.ring_bytes)
        .map_max_entries("OVERFLOW", sizes.overflow)
        .map_max_entries("DECISIONS", sizes.decisions)
        .map_max_entries("UDP_FLOWS", sizes.udp_flows);
    if let Some(pins) = pins {
        for name in MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    #[cfg_attr(not(feature = "kernel-log"), expect(unused_mut))]
    let mut object = loader.load(OBJECT)?;
    #[cfg(feature = "kernel-log")]
    super::log::follow(&mut object);
    Ok(object)
}

/// Loads the programs of all hooks, each on a thread of its own: the kernel takes longest to verify two of them.
fn load_all(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let mut programs: HashMap<String, &mut Program> =
        ebpf.programs_mut().map(|(name, program)| (name.to_owned(), program)).collect();
    thread::scope(|scope| {
        let loading = HOOKS.each_ref().map(|hook| {
            let program = programs.remove(hook.name).ok_or_else(|| LoadError::Map(hook.name.to_owned()))?;
            let load = move || load(program, hook.name);
            thread::Builder::new().spawn_scoped(scope, load).map_err(LoadError::Thread)
        });
        let loaded =
            |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        loading.into_iter().try_for_each(|thread| loaded(thread?))
    })
}

/// Attaches every program anew, and then pins each hook where there is a place: a start that is killed leaves all of
/// them or, but for a moment, none.
fn attach_all(ebpf: &Ebpf, cgroup: &File, pins: Option<&Pins>) -> Result<Vec<OwnedFd>, LoadError> {
    let mut links = Vec::new();
    for hook in &HOOKS {
        let link = bpf::link_create(program(ebpf, hook.name)?, cgroup.as_fd(), hook.number)
            .map_err(|error| LoadError::Attach { name: hook.name, error })?;
        links.push(link);
    }
    if let Some(pins) = pins {
        for (hook, link) in HOOKS.iter().zip(&links) {
            bpf::pin(link.as_fd(), &pins.link(hook))
                .map_err(|error| LoadError::Attach { name: hook.name, error })?;
        }
    }
    Ok(links)
}

fn load(program: &mut Program, name: &'static str) -> Result<(), LoadError> {
    let refused = |error| LoadError::Program { name, error };
    match name {
        "received" | "sent" => {
            let program: &mut CgroupSkb = program.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
        "lifecycle" => {
            let program: &mut SockOps = program.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
        "sock_create" | "sock_release" => {
            let program: &mut CgroupSock = program.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
        _ => {
            let program: &mut CgroupSockAddr = program.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
    }
}

/// A loaded program's descriptor.
pub(super) fn program<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, LoadError> {
    let program = ebpf.program(name).ok_or_else(|| LoadError::Map(name.to_owned()))?;
    Ok(program.fd().map_err(|error| LoadError::Program { name, error })?.as_fd())
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
        MapMemory {
            name: "journal",
            entries: u64::from(JOURNAL_SLOTS) - 1,
            bytes: u64::from(JOURNAL_SLOTS) * size_of::<JournalSlot>() as u64,
        },
        hash("overflow", sizes.overflow, 8, size_of::<FlowEvent>()),
        hash("decisions", sizes.decisions, 8, size_of::<Decision>()),
        hash("executed", EXECUTED, 4, size_of::<Executed>()),
        hash("udp_flows", sizes.udp_flows, size_of::<UdpKey>(), size_of::<UdpFlow>()),
        MapMemory { name: "counters", entries: processors, bytes: processors * size_of::<Counters>() as u64 },
    ]
}

/// Map data by value, for the types that own their map.
pub(super) type Owned = MapData;
