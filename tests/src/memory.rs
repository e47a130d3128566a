//! What a daemon takes of this host's memory: both of its processes, and what the kernel holds for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};

use crate::fdinfo::{self, field};
use crate::{Daemon, number};

/// Two processes, from the moment that they are ready.
pub struct Watch {
    loader: Watched,
    worker: Watched,
}

/// One of them, and what of files was resident in it by then, bytes: the program, libraries, and maps of the kernel's
/// that are mapped there.
struct Watched {
    pid: u32,
    files: u64,
}

/// Bytes, each counted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The most that was resident of each process since it was ready, without what was of files by then: the page cache
    /// has those pages once for everybody, and the maps are counted below.
    pub loader: u64,
    pub worker: u64,
    /// Maps and programs, by name.
    pub kernel: BTreeMap<String, u64>,
}

impl Watch {
    /// Of a daemon that is ready.
    ///
    /// # Errors
    /// One of the processes is not there, or the kernel does not say.
    pub fn new(daemon: &Daemon) -> Result<Watch> {
        let worker = number(&daemon.status()?, "worker.pid").context("the daemon names no worker")?;
        Ok(Watch { loader: Watched::new(daemon.pid())?, worker: Watched::new(u32::try_from(worker)?)? })
    }

    /// By now. What the kernel keeps with each socket is in nothing of it: it goes with the socket.
    ///
    /// # Errors
    /// One of the processes is not there, or the kernel does not say.
    pub fn taken(&self) -> Result<Memory> {
        let pids = [self.loader.pid, self.worker.pid];
        Ok(Memory { loader: self.loader.most()?, worker: self.worker.most()?, kernel: of_kernel(&pids)? })
    }
}

impl Watched {
    fn new(pid: u32) -> Result<Watched> {
        // From now on the most is counted anew (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        Ok(Watched { pid, files: of_status(pid, "RssFile:")? })
    }

    /// What has come of files since counts as its own.
    fn most(&self) -> Result<u64> {
        Ok(of_status(self.pid, "VmHWM:")?.saturating_sub(self.files))
    }
}

impl Memory {
    pub fn total(&self) -> u64 {
        self.loader + self.worker + self.kernel.values().sum::<u64>()
    }
}

/// Bytes; the file has them in kB.
fn of_status(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    Ok(field(&text, name).with_context(|| format!("no {name} {text}"))? * 1024)
}

/// The programs and maps that these processes hold, and the maps of these programs, by what the kernel says that
/// each takes.
fn of_kernel(pids: &[u32]) -> Result<BTreeMap<String, u64>> {
    let mut taken = BTreeMap::new();
    let (mut programs, mut maps) = (BTreeSet::new(), BTreeSet::new());
    for pid in pids {
        for text in fdinfo::of(*pid)? {
            // Of a link, too.
            programs.extend(field(&text, "prog_id:"));
            maps.extend(field(&text, "map_id:"));
        }
    }
    for program in aya::programs::loaded_programs().flatten() {
        if programs.contains(&program.id().into()) {
            maps.extend(program.map_ids()?.context("the kernel names no maps")?.into_iter().map(u64::from));
            let name = format!("{} {}", program.name_as_str().unwrap_or("program"), program.id());
            taken.insert(name, memlock(&program.fd()?)?);
        }
    }
    for map in aya::maps::loaded_maps().flatten().filter(|map| maps.contains(&map.id().into())) {
        let name = format!("{} {}", map.name_as_str().unwrap_or("map"), map.id());
        taken.insert(name, memlock(&map.fd()?)?);
    }
    Ok(taken)
}

/// What the kernel says that a program or a map takes, bytes.
fn memlock(object: &impl AsFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd());
    let text = fs::read_to_string(&path).context(path)?;
    field(&text, "memlock:").with_context(|| text.clone())
}
