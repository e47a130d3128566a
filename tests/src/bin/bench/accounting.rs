//! Time spent in the kernel programs, from the kernel's own statistics.
//!
//! `kernel.bpf_stats_enabled` is switched on by a descriptor, so that the kernel switches it off
//! again when that is closed, however the benchmark ends. The kernel reads the clock before and after
//! each run: what an empty program then seems to take is the cost of that reading, and taken off.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};
use monitor_common::{Counters, KINDS, Plain};
use serde::Serialize;
use tests::fdinfo;

/// The kernel keeps statistics as long as this lives.
pub struct Statistics {
    _switch: OwnedFd,
}

impl Statistics {
    pub fn on() -> Result<Self> {
        Ok(Statistics { _switch: enable_stats(Stats::RunTime).context("bpf statistics")? })
    }
}

/// What a program has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Runs {
    pub count: u64,
    pub ns: u64,
}

impl Runs {
    pub fn since(self, before: Runs) -> Runs {
        Runs { count: self.count - before.count, ns: self.ns - before.ns }
    }

    /// Mean time of one run, ns.
    pub fn mean(self) -> f64 {
        self.ns as f64 / self.count as f64
    }

    /// Time without that of reading the clock, ns.
    pub fn net_ns(self, clock: f64) -> f64 {
        (self.ns as f64 - self.count as f64 * clock).max(0.0)
    }
}

/// The programs that a process holds, by name (of 15 bytes at most, as the kernel keeps them).
///
/// Names come from the id, the figures from `/proc/PID/fdinfo`: other monitors on the host have
/// programs of the same names.
pub fn of_process(pid: u32) -> Result<BTreeMap<String, Runs>> {
    let names: BTreeMap<u32, String> = aya::programs::loaded_programs()
        .flatten()
        .filter_map(|info| Some((info.id(), info.name_as_str()?.to_owned())))
        .collect();
    let mut programs = BTreeMap::new();
    for text in fdinfo::of(pid).with_context(|| format!("the monitor ({pid}) is gone"))? {
        let field = |name| fdinfo::field(&text, name);
        let (Some(id), Some(ns), Some(count)) = (field("prog_id:"), field("run_time_ns:"), field("run_cnt:"))
        else {
            continue;
        };
        if let Some(name) = names.get(&(id as u32)) {
            programs.insert(name.clone(), Runs { count, ns });
        }
    }
    Ok(programs)
}

/// The programs' own counters, added up over all processors: what they offered, and what they lost.
pub fn counters(pid: u32) -> Result<Counters> {
    let named: Vec<u32> = aya::maps::loaded_maps()
        .flatten()
        .filter(|info| info.name_as_str() == Some("COUNTERS"))
        .map(|info| info.id())
        .collect();
    let mut held = fdinfo::of(pid)
        .with_context(|| format!("the monitor ({pid}) is gone"))?
        .filter_map(|text| u32::try_from(fdinfo::field(&text, "map_id:")?).ok());
    let id = held.find(|id| named.contains(id)).context("the monitor holds no map COUNTERS")?;
    let map: PerCpuArray<MapData, [u8; size_of::<Counters>()]> =
        PerCpuArray::try_from(Map::PerCpuArray(MapData::from_id(id)?))?;
    let mut sum = Counters::default();
    for bytes in map.get(&0, 0)?.iter() {
        let one = Counters::read_from(bytes).context("the counters have another size")?;
        for kind in 0..KINDS {
            sum.offered[kind] += one.offered[kind];
            sum.lost[kind] += one.lost[kind];
        }
        sum.rescued += one.rescued;
    }
    Ok(sum)
}

/// What each program did between two readings.
pub fn difference(before: &BTreeMap<String, Runs>, after: &BTreeMap<String, Runs>) -> BTreeMap<String, Runs> {
    after
        .iter()
        .map(|(name, runs)| (name.clone(), runs.since(before.get(name).copied().unwrap_or_default())))
        .collect()
}

/// Our programs beside the monitor's, on small maps: nobody reads what they say.
pub fn object() -> Result<Ebpf> {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/streamwatch.bpf.o");
    EbpfLoader::new()
        .map_max_entries("EVENTS", 1 << 16)
        .map_max_entries("UDP_FLOWS", 64)
        .load_file(&object)
        .with_context(|| object.display().to_string())
}

/// The program of this name.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSkb> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program '{name}'"))?.try_into()?)
}

/// A program for comparison, attached to a cgroup as ours are, one of its own for each direction: the empty one, mostly.
pub struct Empty {
    directions: [Ebpf; 2],
    name: &'static str,
}

impl Empty {
    pub fn attach(cgroup: &Path) -> Result<Self> {
        Empty::attach_other(cgroup, "empty")
    }

    /// Another one that stands for itself: `look_up` does nothing but ask for the socket's storage.
    pub fn attach_other(cgroup: &Path, name: &'static str) -> Result<Self> {
        let directory = fs::File::open(cgroup)?;
        let attach = |direction| {
            let mut ebpf = object()?;
            let program = program(&mut ebpf, name)?;
            program.load()?;
            program.attach(&directory, direction, CgroupAttachMode::Single)?;
            anyhow::Ok(ebpf)
        };
        let directions = [attach(CgroupSkbAttachType::Ingress)?, attach(CgroupSkbAttachType::Egress)?];
        Ok(Empty { directions, name })
    }

    /// What it has done so far.
    pub fn runs(&self) -> Result<Runs> {
        let mut sum = Runs::default();
        for ebpf in &self.directions {
            let program: &CgroupSkb = ebpf.program(self.name).context("the program is gone")?.try_into()?;
            let info = program.info()?;
            sum.count += info.run_count();
            sum.ns += info.run_time().as_nanos() as u64;
        }
        Ok(sum)
    }
}
