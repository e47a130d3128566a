//! Small messages: 100 bytes and 100 back, on 1, 100 and 10,000 kept connections.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Lab, Process};

use crate::pairs::{Effort, compare, whole};
use crate::programs;
use crate::report::{Findings, Must};

const PORT: u16 = 7000;
/// Timed requests of one run.
const REQUESTS: u32 = 20_000;

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("messages");
    let lab = Lab::new("bench")?;
    crate::churn::many_ports(&lab)?;
    for (connections, opaque) in [(1, false), (1, true), (100, false), (100, true), (10_000_u32, false)] {
        let found = compare(effort, &whole(lab.cgroup.path()), 0.01, || exchange(&lab, connections, opaque))?;
        let of = if opaque { ", that nobody can read" } else { "" };
        let name = format!("{connections} connection{}{of}", if connections == 1 { "" } else { "s" });
        let note = found.note(0, "µs");
        findings.ratio(format!("{name}: p50"), found.ratio(0), Some(Must::AtMost(1.02))).note = note;
        let note = found.note(1, "µs");
        findings.ratio(format!("{name}: p99"), found.ratio(1), Some(Must::AtMost(1.02))).note = note;
        let (all, kernel, process) = found.accounted();
        findings.stated(format!("{name}: accounted share"), all, "%").note =
            format!("programs {kernel:.2} %, process {process:.2} %");
        findings.raw(name, &found);
    }
    Ok(findings)
}

/// One run; p50 and p99 in µs.
fn exchange(lab: &Lab, connections: u32, opaque: bool) -> Result<Vec<f64>> {
    let mut serve = programs::load(&lab.server());
    serve.args(["exchange-serve", "--listen", &format!("0.0.0.0:{PORT}")]);
    let mut server = Process::start("exchange", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
    let mut command = programs::load(&lab.client());
    command.args(["exchange", "--to", &format!("10.213.0.2:{PORT}")]);
    command.args(["--connections", &connections.to_string(), "--count", &REQUESTS.to_string()]);
    // Every connection has been used before the first one is timed; few ones so often that they are settled.
    let each = if connections <= 100 { 100 } else { 1 };
    command.args(["--warm-up", &(each * connections).max(500).to_string()]);
    command.args(opaque.then_some("--opaque"));
    let said = lab.run(command, Duration::from_secs(60))?.stdout;
    let said: Value = serde_json::from_str(&said).context("the load said no JSON")?;
    let micro = |name: &str| said[name].as_f64().map(|ns| ns / 1e3).context("a figure is missing");
    Ok(vec![micro("p50_ns")?, micro("p99_ns")?])
}
