//! One load, with and without the monitor, in turn; and the same load with the programs' time taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::accounting::{self, Empty, Runs, Statistics};
use crate::statistics::{Ratio, median, spread};
use crate::watch::{Watch, cgroup_cpu_ns};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pairs at least.
    pub pairs: usize,
    /// Time for one comparison; when it is over, no pair begins beyond the least number. When it has been
    /// over for as long again, none at all beyond [`FEWEST`]: a run of all benchmarks comes to its end
    /// on a slow machine too.
    pub time: Duration,
    /// What reading the clock adds to one run of a program under statistics, ns.
    pub clock: f64,
}

/// Where the load runs, and what is watched of it.
pub struct Ground {
    pub watched: PathBuf,
    /// All cgroups whose processor time is the load's.
    pub load: Vec<PathBuf>,
}

impl Ground {
    fn cpu_ns(&self) -> u64 {
        self.load.iter().map(|cgroup| cgroup_cpu_ns(cgroup)).sum()
    }
}

/// One run of the load.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// What the load reports, in its own units.
    pub values: Vec<f64>,
    /// Processor time of the load, ns.
    pub load_ns: u64,
    /// Processor time of the monitor, ns.
    pub monitor_ns: u64,
    /// Flows that the monitor saw, and records of any stage that were lost.
    pub flows: u64,
    pub lost: u64,
    /// Under statistics: what each program did.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, Runs>,
    /// Under statistics: what an empty program did, attached before ours. That is the clock's.
    pub empty: Runs,
}

/// All runs.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub without: Vec<Sample>,
    pub with: Vec<Sample>,
    /// With the monitor and with statistics.
    pub accounted: Vec<Sample>,
}

const ACCOUNTED: usize = 3;

/// Pairs without which nothing can be said of a ratio.
pub const FEWEST: usize = 3;

impl Effort {
    /// Whether a comparison that has `pairs` and began at `begun` goes on; `wide`: it does not tell yet
    /// what it is to tell.
    pub fn goes_on(&self, pairs: usize, begun: Instant, wide: bool) -> bool {
        let taken = begun.elapsed();
        pairs < self.pairs.min(FEWEST)
            || (pairs < self.pairs && taken < 2 * self.time)
            || (wide && taken < self.time)
    }
}

/// Compares. `load` runs it once and gives its values; the first one is what the pairs must tell to
/// within `margin`.
pub fn compare(
    effort: &Effort,
    ground: &Ground,
    margin: f64,
    mut load: impl FnMut() -> Result<Vec<f64>>,
) -> Result<Comparison> {
    let mut found = Comparison { without: Vec::new(), with: Vec::new(), accounted: Vec::new() };
    let begun = Instant::now();
    // The first run of anything is not like the others.
    load()?;
    for _ in 0..ACCOUNTED {
        found.accounted.push(watched(ground, true, &mut load)?);
    }
    while effort.goes_on(found.with.len(), begun, found.with.len() < 2 || found.ratio(0).margin() > margin) {
        // What drifts hits both alike: each comes first in every second pair.
        if found.with.len().is_multiple_of(2) {
            found.without.push(alone(ground, &mut load)?);
            found.with.push(watched(ground, false, &mut load)?);
        } else {
            found.with.push(watched(ground, false, &mut load)?);
            found.without.push(alone(ground, &mut load)?);
        }
    }
    Ok(found)
}

/// The same of programs that do nothing, at the two hooks of packets, in the monitor's place: what the kernel takes to call
/// any program there, in the load's first value.
pub fn compare_empty(
    effort: &Effort,
    ground: &Ground,
    margin: f64,
    mut load: impl FnMut() -> Result<Vec<f64>>,
) -> Result<Ratio> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    load()?;
    while effort.goes_on(with.len(), begun, with.len() < 2 || Ratio::of(&without, &with).margin() > margin) {
        let is_empty_first = with.len() % 2 == 1;
        for is_empty in [is_empty_first, !is_empty_first] {
            let _programs = if is_empty { Some(Empty::attach(&ground.watched)?) } else { None };
            let values = if is_empty { &mut with } else { &mut without };
            values.push(load()?[0]);
        }
    }
    Ok(Ratio::of(&without, &with))
}

fn alone(ground: &Ground, load: &mut impl FnMut() -> Result<Vec<f64>>) -> Result<Sample> {
    let before = ground.cpu_ns();
    let values = load()?;
    let load_ns = ground.cpu_ns() - before;
    Ok(Sample {
        values,
        load_ns,
        monitor_ns: 0,
        flows: 0,
        lost: 0,
        programs: BTreeMap::new(),
        empty: Runs::default(),
    })
}

fn watched(ground: &Ground, account: bool, load: &mut impl FnMut() -> Result<Vec<f64>>) -> Result<Sample> {
    let empty = if account { Some(Empty::attach(&ground.watched)?) } else { None };
    let mut watch = Watch::start(&ground.watched)?;
    let statistics = if account { Some(Statistics::on()?) } else { None };
    let programs = if account { accounting::of_process(watch.pid())? } else { BTreeMap::new() };
    let (load_before, monitor_before) = (ground.cpu_ns(), watch.cpu_ns());
    let values = load()?;
    let load_ns = ground.cpu_ns() - load_before;
    watch.settled();
    watch.alive()?;
    let monitor_ns = watch.cpu_ns() - monitor_before;
    let programs = if account {
        accounting::difference(&programs, &accounting::of_process(watch.pid())?)
    } else {
        programs
    };
    drop(statistics);
    // Statistics are off now, and were off before.
    let empty = empty.map_or(Ok(Runs::default()), |empty| empty.runs())?;
    let (flows, lost) = watch.seen_and_lost()?;
    watch.stop()?;
    Ok(Sample { values, load_ns, monitor_ns, flows, lost, programs, empty })
}

impl Comparison {
    fn values(samples: &[Sample], index: usize) -> Vec<f64> {
        samples.iter().map(|sample| sample.values[index]).collect()
    }

    /// With to without, of one of the load's values.
    pub fn ratio(&self, index: usize) -> Ratio {
        Ratio::of(&Self::values(&self.without, index), &Self::values(&self.with, index))
    }

    /// Medians without and with, and the spread without.
    pub fn medians(&self, index: usize) -> (f64, f64, f64) {
        let without = Self::values(&self.without, index);
        (median(&without), median(&Self::values(&self.with, index)), spread(&without))
    }

    /// All processor time that the work took with the monitor, to that without.
    pub fn processor_ratio(&self) -> Ratio {
        let all = |samples: &[Sample]| -> Vec<f64> {
            samples.iter().map(|sample| (sample.load_ns + sample.monitor_ns) as f64).collect()
        };
        Ratio::of(&all(&self.without), &all(&self.with))
    }

    /// Time in our programs and our process as a share of all processor time that the same work took
    /// with the monitor and without statistics: the median, in percent; and its two parts.
    pub fn accounted(&self) -> (f64, f64, f64) {
        let all: Vec<f64> =
            self.with.iter().map(|sample| (sample.load_ns + sample.monitor_ns) as f64).collect();
        let all = median(&all);
        let programs = |sample: &Sample| -> f64 {
            let clock = sample.empty.mean();
            sample.programs.values().map(|runs| runs.net_ns(clock)).sum()
        };
        let kernel: Vec<f64> = self.accounted.iter().map(programs).collect();
        let process: Vec<f64> = self.with.iter().map(|sample| sample.monitor_ns as f64).collect();
        let (kernel, process) = (100.0 * median(&kernel) / all, 100.0 * median(&process) / all);
        (kernel + process, kernel, process)
    }

    /// Processor time of the monitor, median, ns.
    pub fn monitor_ns(&self) -> f64 {
        median(&self.with.iter().map(|sample| sample.monitor_ns as f64).collect::<Vec<_>>())
    }

    /// Everything lost in any run.
    pub fn lost(&self) -> u64 {
        self.with.iter().chain(&self.accounted).map(|sample| sample.lost).sum()
    }

    /// The fewest flows that the monitor saw in a run.
    pub fn fewest_flows(&self) -> u64 {
        self.with.iter().chain(&self.accounted).map(|sample| sample.flows).min().unwrap_or(0)
    }

    /// What the note of a row says about the runs.
    pub fn note(&self, index: usize, unit: &str) -> String {
        let (without, with, spread) = self.medians(index);
        format!(
            "{} pairs; medians {} and {} {unit}, spread {:.1} %",
            self.with.len(),
            crate::report::number(without),
            crate::report::number(with),
            100.0 * spread
        )
    }
}

/// The ground of a lab that is watched whole.
pub fn whole(cgroup: &Path) -> Ground {
    Ground { watched: cgroup.to_owned(), load: vec![cgroup.to_owned()] }
}

/// The same, with a part of the load outside of what is watched.
pub fn beside(watched: &Path, outside: &Path) -> Ground {
    Ground { watched: watched.to_owned(), load: vec![watched.to_owned(), outside.to_owned()] }
}
