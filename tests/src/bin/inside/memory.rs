//! Memory of open flows: tables, indexes, streams, interned facts, all in.

use anyhow::{Context, Result, ensure};
use monitor::event::Event;
use monitor::policy::Policy;
use monitor_common::{Kind, SOCKET_STATE};
use monitor_sys::counted;
use procfs::process::Process;

use super::connections::{Maker, Spread};
use super::host::{Host, settings};
use super::report::sample;

pub fn run(count: usize) -> Result<()> {
    let mut host = Host::new(settings(count, 65_536), Policy::builtin());
    let mut maker = Maker::new(Spread::default());
    let before = resident()?;
    let mut result = Ok(());
    let allocated = counted::measure(|| {
        result = fill(&mut host, &mut maker, count);
    });
    result?;
    let after = resident()?;
    let per_flow = |bytes: f64| bytes / count as f64;
    sample("memory", "resident", per_flow(after as f64 - before as f64), "bytes/flow");
    sample("memory", "allocated", per_flow(allocated.bytes as f64), "bytes/flow");
    sample("memory", "allocated, peak", per_flow(allocated.most_bytes as f64), "bytes/flow");
    sample("memory", "kernel, value of the socket storage", SOCKET_STATE as f64, "bytes/flow");
    Ok(())
}

/// How long time passes then: what follows a handshake is waited for, 10 s.
const PASSES: u64 = 12_000_000_000;
const TICK: u64 = 50_000_000;

/// Opens `count` flows, and lets time pass until each is settled and told, and nothing more of it is waited for.
pub fn fill(host: &mut Host, maker: &mut Maker, count: usize) -> Result<()> {
    for n in 0..count as u64 {
        let connection = maker.next(host.now_ns);
        let mut result = Ok(());
        connection.begin(&mut |record| {
            if result.is_ok() {
                result = host.record(record);
            }
        });
        result.context("a record that cannot be decoded")?;
        host.event(Event::Flow(Kind::Progress, connection.progress(1 + n * 7919 % 997, host.now_ns)));
    }
    host.pass_on();
    for _ in 0..PASSES / TICK {
        host.pass(TICK);
    }
    ensure!(host.core.open_flows() == count, "{} of {count} flows are open", host.core.open_flows());
    Ok(())
}

/// Resident memory of this process, bytes.
pub fn resident() -> Result<u64> {
    let pages = Process::myself()?.statm()?.resident;
    Ok(pages * procfs::page_size())
}
