//! What processes executed last, as the kernel tells it: no hook of a socket, and nothing hangs on it but names.
//!
//! It is not pinned: while there is no daemon nobody follows what processes execute, and what was followed before is not
//! known to hold.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Acquire;

use aya::Ebpf;
use aya::maps::HashMap;
use aya::programs::RawTracePoint;
use monitor_common::{EXECUTED, Executed, Plain};
use monitor_sys::Mapping;

use super::load::{LoadError, Owned};

const VALUE: usize = size_of::<Executed>();

/// Programs, and what calls them (include/trace/events/sched.h). Ends first: what is executed then also ends.
const FOLLOW: [(&str, &str); 2] = [("exited", "sched_process_exit"), ("executed", "sched_process_exec")];

/// The table of them; any number of threads ask it.
pub struct LastExecuted(HashMap<Owned, u32, [u8; VALUE]>);

impl LastExecuted {
    /// Loads and attaches what keeps it. The programs go with `ebpf`.
    pub(super) fn follow(ebpf: &mut Ebpf) -> Result<LastExecuted, LoadError> {
        let missing = |name: &str| LoadError::Map(name.to_owned());
        for (name, traced) in FOLLOW {
            let refused = |error| LoadError::Program { name, error };
            let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
            let program: &mut RawTracePoint = program.try_into().map_err(refused)?;
            program.load().map_err(refused)?;
            program.attach(traced).map_err(refused)?;
        }
        let table = ebpf.take_map("EXECUTED").ok_or_else(|| missing("EXECUTED"))?;
        Ok(LastExecuted(HashMap::try_from(table)?))
    }

    /// What a process executed last. `None`: before the programs were there, or too many have since.
    pub fn of(&self, tgid: u32) -> Option<Executed> {
        Executed::read_from(&self.0.get(&tgid, 0).ok()?).filter(|executed| executed.tgid == tgid)
    }
}

/// When something was executed last, by place: what a worker may know of it. It asks the kernel for nothing.
pub struct ExecutedAt(Mapping);

impl ExecutedAt {
    /// # Errors
    /// It cannot be mapped.
    pub fn new(map: impl AsFd) -> io::Result<ExecutedAt> {
        let length = (size_of::<u64>() * EXECUTED as usize).next_multiple_of(rustix::param::page_size());
        Mapping::new(map, 0, length, false).map(ExecutedAt)
    }

    /// When a process executed something last, or another one that has its place; CLOCK_MONOTONIC ns, 0: not since the
    /// programs are there.
    pub fn of(&self, tgid: u32) -> u64 {
        self.0.word(size_of::<u64>() * (tgid & (EXECUTED - 1)) as usize).load(Acquire)
    }
}
