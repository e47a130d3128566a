//! Events in: recorded ones, through decode, tables, dissection, detection and encoding.

use anyhow::{Context, Result, ensure};
use monitor::policy::Policy;
use monitor_common::Plain;
use monitor_sys::counted;

use super::connections::{Connection, Maker, Spread};
use super::host::{Host, STEP_NS, settings};
use super::report::{rate, sample, timed};

/// Connections open at a time.
const OPEN: usize = 10_000;

/// Records of the ring, one after the other.
#[derive(Default)]
pub struct Recording {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Recording {
    pub fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let record = &self.bytes[start..*end];
            start = *end;
            record
        })
    }
}

/// `only`: a part of the names of those variants that are wanted.
pub fn run(count: usize, samples: usize, only: &str) -> Result<()> {
    for (variant, web, progress) in [
        ("churn", false, 0),
        ("churn, HTTP alone", true, 0),
        ("20 seconds a connection", false, 20),
        ("5 minutes a connection", false, 300),
    ] {
        if !variant.contains(only) {
            continue;
        }
        let recording = mixed(count, Spread { web, ..Spread::default() }, progress);
        for _ in 0..samples {
            let mut host = Host::new(settings(2 * OPEN, 65_536), Policy::builtin());
            let (result, time) = timed(|| recording.iter().try_for_each(|record| host.record(record)));
            result.context("a record that cannot be decoded")?;
            ensure!(host.records > 0, "nothing was told");
            sample("events", variant, rate(recording.len(), time), "events/s");
            if progress == 0 {
                let each = time.as_nanos() as f64 / (host.records / 3) as f64;
                sample("events", &format!("{variant}, a connection"), each, "ns");
            }
        }
    }
    for _ in 0..if "progress".contains(only) { samples } else { 0 } {
        progress_only(count)?;
    }
    Ok(())
}

/// Connections of the mix, each with so many progress events, [`OPEN`] of them open at a time: what
/// happens at the same time is told in turns.
fn mixed(count: usize, spread: Spread, progress: u64) -> Recording {
    let mut maker = Maker::new(spread);
    let mut recording = Recording::default();
    let mut at_ns = 2_000_000_000;
    let mut open: Vec<(Connection, u64)> = Vec::new();
    // Connections at every point of their lives, from the first event on.
    for n in 0..OPEN as u64 {
        open.push((maker.next(at_ns), (n * (progress + 2) / OPEN as u64).min(progress + 1)));
    }
    let mut turn = 0;
    while recording.len() < count {
        let slot = turn % OPEN;
        turn += 1;
        let (connection, step) = &mut open[slot];
        let before = recording.len();
        match *step {
            0 => connection.begin(&mut |record| recording.push(record)),
            step if step <= progress => recording.push(connection.progress(step, at_ns).as_bytes()),
            step => recording.push(connection.close(step, at_ns).as_bytes()),
        }
        *step += 1;
        if *step > progress + 1 {
            open[slot] = (maker.next(at_ns), 0);
        }
        at_ns += STEP_NS * (recording.len() - before) as u64;
    }
    recording
}

/// Nothing but progress of open, settled flows: the time, and what is allocated.
fn progress_only(count: usize) -> Result<()> {
    let mut host = Host::new(settings(2 * OPEN, 65_536), Policy::builtin());
    let mut maker = Maker::new(Spread::default());
    let connections: Vec<Connection> = (0..OPEN).map(|_| maker.next(host.now_ns)).collect();
    for connection in &connections {
        let mut result = Ok(());
        connection.begin(&mut |record| result = host.record(record));
        result.context("a record that cannot be decoded")?;
    }
    host.pass_on();
    for _ in 0..100 {
        host.pass(50_000_000);
    }
    let mut recording = Recording::default();
    for n in 0..count {
        let nth = 1 + (n / OPEN) as u64;
        let at_ns = host.now_ns + STEP_NS * n as u64;
        recording.push(connections[n % OPEN].progress(nth, at_ns).as_bytes());
    }
    let told = host.records;
    let (result, time) = timed(|| recording.iter().try_for_each(|record| host.record(record)));
    result.context("a record that cannot be decoded")?;
    // Once more, without what is done once in a while, whatever came.
    host.ticks = false;
    let mut result = Ok(());
    let allocated = counted::measure(|| {
        result = recording.iter().try_for_each(|record| host.record(record));
    });
    result.context("a record that cannot be decoded")?;
    ensure!(host.records == told, "progress was told");
    sample("events", "progress", rate(count, time), "events/s");
    sample("events", "progress, allocations", allocated.count as f64 / count as f64, "allocations/event");
    Ok(())
}
