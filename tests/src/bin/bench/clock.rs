//! What the statistics themselves cost: the empty program on real packets.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Lab, Process};

use crate::accounting::{Empty, Runs, Statistics};
use crate::programs;

const PORT: u16 = 7002;

/// Mean time that an empty program seems to take, ns: the clock's, mostly.
pub fn cost() -> Result<f64> {
    let lab = Lab::new("bench-clock")?;
    let empty = Empty::attach(lab.cgroup.path())?;
    let _statistics = Statistics::on()?;
    let before = empty.runs()?;
    let mut serve = programs::load(&lab.server());
    serve.args(["exchange-serve", "--listen", &format!("0.0.0.0:{PORT}")]);
    let mut server = Process::start("exchange", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
    let mut command = programs::load(&lab.client());
    command.args(["exchange", "--to", &format!("10.213.0.2:{PORT}"), "--count", "50000"]);
    lab.run(command, Duration::from_secs(60))?;
    let runs: Runs = empty.runs()?.since(before);
    ensure!(runs.count > 100_000, "the empty program saw only {} packets", runs.count);
    Ok(runs.mean())
}
