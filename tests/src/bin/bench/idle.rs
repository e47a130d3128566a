//! Idle: what the monitor takes when nothing happens.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::Lab;

use crate::pairs::Effort;
use crate::report::{Findings, Must};
use crate::statistics::{median, spread};
use crate::watch::Watch;

const LOOKS: usize = 7;
const LOOK: Duration = Duration::from_secs(3);

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("idle");
    let lab = Lab::new("bench")?;
    let watch = Watch::start(lab.cgroup.path())?;
    let mut shares = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..LOOKS.max(effort.pairs) {
        let (begun, before) = (Instant::now(), watch.cpu_ns());
        thread::sleep(LOOK);
        shares.push(100.0 * (watch.cpu_ns() - before) as f64 / begun.elapsed().as_nanos() as f64);
        resident.push(watch.resident() as f64 / f64::from(1 << 20));
    }
    findings.judged("processor", median(&shares), "% of a core", Must::AtMost(0.2)).note =
        format!("{} looks of {} s, spread {:.0} %", shares.len(), LOOK.as_secs(), 100.0 * spread(&shares));
    findings.judged("resident memory", median(&resident), "MiB", Must::AtMost(40.0));
    findings.raw("processor, % of a core", &shares);
    findings.raw("resident, MiB", &resident);
    watch.stop()?;
    Ok(findings)
}
